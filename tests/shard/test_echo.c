/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Echo through ping sockets of a network namespace of the test's own, where they are permitted or
 * not; without the right to make one the tests are skipped. links: shard tap
 */
#include "dgram_world.h"

#include <fcntl.h>
#include <net/if.h>
#include <sched.h>
#include <sys/ioctl.h>

static const bool is_v4[] = { false, true };

static void write_file(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);

	if (fd < 0 || write(fd, text, strlen(text)) < 0)
		skip();
	close(fd);
}

static void make_namespace(const char *range)
{
	struct ifreq lo = { .ifr_name = "lo", .ifr_flags = IFF_UP | IFF_RUNNING };
	int fd;

	if (unshare(CLONE_NEWNET))
		skip();
	fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	assert_int_equal(ioctl(fd, SIOCSIFFLAGS, &lo), 0);
	close(fd);
	write_file("/proc/sys/net/ipv4/ping_group_range", range);
}

static int setup(void **state)
{
	void *kept = *state;
	int ret = world_setup(state);

	*state = kept;
	return ret;
}

static void ask(bool v4, uint16_t id, uint16_t seq, const void *data, size_t len)
{
	uint8_t bytes[FRAME_MAX], icmp[8] = { v4 ? 8 : 128 };
	struct ip_addr gateway = world_gateway(v4);

	store_be16(icmp + 4, id);
	store_be16(icmp + 6, seq);
	world_run(bytes, world_frame(bytes, &gateway, v4 ? IPPROTO_ICMP : IPPROTO_ICMPV6, icmp,
				     data, len));
}

static void assert_reply(const struct sent_frame *f, bool v4, uint16_t id, uint16_t seq,
			 const char *data)
{
	size_t off = world_check(f, v4 ? IPPROTO_ICMP : IPPROTO_ICMPV6);

	assert_int_equal(f->bytes[off], v4 ? 0 : 129);
	assert_int_equal(load_be16(f->bytes + off + 4), id);
	assert_int_equal(load_be16(f->bytes + off + 6), seq);
	assert_memory_equal(f->bytes + off + 8, data, strlen(data));
}

static void an_echo_keeps_identifier_sequence_and_payload(void **state)
{
	bool v4 = *(const bool *)*state;

	make_namespace("0 65535");
	ask(v4, 77, 3, "payload", 7);
	world_expect(1);
	assert_reply(&world.frames[0], v4, 77, 3, "payload");
}

static void a_taken_identifier_is_kept_towards_the_guest(void **state)
{
	bool v4 = *(const bool *)*state;
	struct endpoint e = { .port = 77 };
	struct sockaddr_storage sa;
	int other;

	make_namespace("0 65535");
	if (v4)
		e.addr = ip4_addr_of("\0\0\0\0");
	other = socket(v4 ? AF_INET : AF_INET6, SOCK_DGRAM, v4 ? IPPROTO_ICMP : IPPROTO_ICMPV6);
	assert_int_equal(bind(other, (struct sockaddr *)&sa, sockaddr_of(&e, 0, &sa)), 0);
	ask(v4, 77, 3, "payload", 7);
	world_expect(1);
	assert_reply(&world.frames[0], v4, 77, 3, "payload");
	close(other);
}

static void a_forbidden_ping_socket_is_counted(void **state)
{
	bool v4 = *(const bool *)*state;

	make_namespace("1 0");
	ask(v4, 77, 3, "payload", 7);
	assert_int_equal(world.n, 0);
	assert_int_equal(world_drops(DROP_ICMP_DENIED), 1);
	assert_true(list_is_empty(&world.shard->owned));
}

#define BOTH(f)                                                                                    \
	{ #f " (IPv4)", f, setup, world_teardown, (void *)(uintptr_t)&is_v4[1] },                  \
	{                                                                                          \
#f " (IPv6)", f, setup, world_teardown, (void *)(uintptr_t)&is_v4[0]               \
	}

int main(void)
{
	const struct CMUnitTest tests[] = {
		BOTH(an_echo_keeps_identifier_sequence_and_payload),
		BOTH(a_taken_identifier_is_kept_towards_the_guest),
		BOTH(a_forbidden_ping_socket_is_counted),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
