/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ICMP errors to the guest. links: shard tap
 */
#include "dgram_world.h"

static const bool is_v4[] = { false, true };

static size_t quoted_of(bool v4, uint8_t *bytes, const struct ip_addr *dst, size_t len)
{
	static const uint8_t zeroes[4000];
	size_t n = world_udp(bytes, dst, 1000, 2000, zeroes, len);

	(void)v4;
	return n - 14;
}

static int setup(void **state)
{
	void *kept = *state;
	int ret = world_setup(state);

	*state = kept;
	return ret;
}

static void an_error_quotes_the_packet(void **state)
{
	bool v4 = *(const bool *)*state;
	struct ip_addr from = world_gateway(v4);
	uint8_t bytes[4200];
	size_t len = quoted_of(v4, bytes, &from, 100), off;

	icmp_send_error(world.shard, bytes + 14, len, v4 ? 3 : 1, 1, 7, &from);
	assert_int_equal(world.n, 1);
	off = world_check(&world.frames[0], v4 ? IPPROTO_ICMP : IPPROTO_ICMPV6);
	assert_int_equal(world.frames[0].bytes[off], v4 ? 3 : 1);
	assert_int_equal(load_be32(world.frames[0].bytes + off + 4), 7);
	assert_int_equal(world.frames[0].len, off + 8 + len);
	assert_memory_equal(world.frames[0].bytes + off + 8, bytes + 14, len);
}

static void a_long_packet_is_quoted_in_part(void **state)
{
	bool v4 = *(const bool *)*state;
	struct ip_addr from = world_gateway(v4);
	uint8_t bytes[4200];
	size_t len = quoted_of(v4, bytes, &from, 4000);

	icmp_send_error(world.shard, bytes + 14, len, v4 ? 3 : 1, 1, 0, &from);
	assert_int_equal(world.frames[0].len, 14 + (v4 ? 576 : 1280));
}

static void no_error_is_sent_about_a_group(void **state)
{
	bool v4 = *(const bool *)*state;
	static const uint8_t group4[4] = { 224, 0, 0, 251 }, group6[16] = { 0xff, 2, [15] = 0xfb };
	struct ip_addr from = world_gateway(v4),
		       group = v4 ? ip4_addr_of(group4) : ip6_addr_of(group6);
	uint8_t bytes[4200];
	size_t len = quoted_of(v4, bytes, &group, 100);

	icmp_send_error(world.shard, bytes + 14, len, v4 ? 3 : 1, 1, 0, &from);
	assert_int_equal(world.n, 0);
}

static void nothing_is_quoted_of_a_short_packet(void **state)
{
	bool v4 = *(const bool *)*state;
	struct ip_addr from = world_gateway(v4);
	uint8_t bytes[4200];

	quoted_of(v4, bytes, &from, 100);
	icmp_send_error(world.shard, bytes + 14, v4 ? 19 : 39, v4 ? 3 : 1, 1, 0, &from);
	assert_int_equal(world.n, 0);
}

static void an_error_of_the_guest_about_udp_is_counted(void **state)
{
	bool v4 = *(const bool *)*state;
	struct ip_addr gateway = world_gateway(v4);
	uint8_t inner[200], bytes[400], icmp[8] = { v4 ? 3 : 1, v4 ? 3 : 4 };
	struct l3 l3 = { .src = gateway,
			 .dst = v4 ? ip4_addr_of(guest4) : ip6_addr_of(guest6),
			 .proto = IPPROTO_UDP,
			 .ttl = 64 };
	size_t off = l3_write(inner, &l3, 8);

	memset(inner + off, 0, 8);
	world_run(bytes, world_frame(bytes, &gateway, v4 ? IPPROTO_ICMP : IPPROTO_ICMPV6, icmp,
				     inner + 14, off - 14 + 8));
	assert_int_equal(world_drops(DROP_ICMP_TYPE), 1);
}

#define BOTH(f)                                                                                    \
	{ #f " (IPv4)", f, setup, world_teardown, (void *)(uintptr_t)&is_v4[1] },                  \
	{                                                                                          \
#f " (IPv6)", f, setup, world_teardown, (void *)(uintptr_t)&is_v4[0]               \
	}

int main(void)
{
	const struct CMUnitTest tests[] = {
		BOTH(an_error_quotes_the_packet),
		BOTH(a_long_packet_is_quoted_in_part),
		BOTH(no_error_is_sent_about_a_group),
		BOTH(nothing_is_quoted_of_a_short_packet),
		BOTH(an_error_of_the_guest_about_udp_is_counted),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
