/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reassembly of the guest's fragments, seen by a server on loopback. links: shard tap
 */
#include "dgram_world.h"

#define GUEST_PORT 40124
#define DATA_LEN   4000
#define L4_LEN	   (8 + DATA_LEN)

static uint8_t l4[L4_LEN];
static uint8_t proto;
static uint16_t port;
static int server;

static const bool is_v4[] = { false, true };

static int setup_shards(void **state, unsigned int n_shards)
{
	bool v4 = *(const bool *)*state;
	int ret = world_setup_shards(n_shards);

	server = world_server(v4, &port);
	for (size_t i = 0; i < DATA_LEN; i++)
		l4[8 + i] = (uint8_t)(i * 13);
	memset(l4, 0, 8);
	proto = IPPROTO_UDP;
	store_be16(l4, GUEST_PORT);
	store_be16(l4 + 2, port);
	store_be16(l4 + 4, L4_LEN);
	return ret;
}

static int setup(void **state)
{
	return setup_shards(state, 1);
}

static int setup_two(void **state)
{
	return setup_shards(state, 2);
}

static int teardown(void **state)
{
	close(server);
	return world_teardown(state);
}

/* Sends bytes off to off + len of the datagram. */
static void part(bool v4, uint32_t id, size_t off, size_t len, bool more)
{
	uint8_t bytes[L3_HEADER_MAX + 8 + L4_LEN];
	struct ip_addr gateway = world_gateway(v4);
	struct l3 l3 = { .src = v4 ? ip4_addr_of(guest4) : ip6_addr_of(guest6),
			 .dst = gateway,
			 .ttl = 64,
			 .proto = v4 ? proto : IPPROTO_FRAGMENT,
			 .id = (uint16_t)id,
			 .frag = (uint16_t)(off / 8 | (more ? 0x2000 : 0)) };
	size_t extra = v4 ? 0 : 8, at = l3_write(bytes, &l3, extra + len);

	memcpy(bytes + 6, mac_guest, 6);
	if (!v4) {
		bytes[at] = proto;
		bytes[at + 1] = 0;
		store_be16(bytes + at + 2, (uint16_t)(off | more));
		store_be32(bytes + at + 4, id);
	}
	memcpy(bytes + at + extra, l4 + off, len);
	world_run(bytes, at + extra + len);
}

static void assert_arrived(unsigned int n)
{
	uint8_t got[DATA_LEN + 1];

	for (unsigned int i = 0; i < n; i++) {
		assert_int_equal(recv(server, got, sizeof(got), MSG_DONTWAIT), DATA_LEN);
		assert_memory_equal(got, l4 + 8, DATA_LEN);
	}
	assert_int_equal(recv(server, got, sizeof(got), MSG_DONTWAIT), -1);
}

static void parts_in_order_make_a_datagram(void **state)
{
	bool v4 = *(const bool *)*state;

	part(v4, 1, 0, 1400, true);
	part(v4, 1, 1400, 1400, true);
	assert_arrived(0);
	part(v4, 1, 2800, L4_LEN - 2800, false);
	assert_arrived(1);
}

static void parts_in_reverse_make_a_datagram(void **state)
{
	bool v4 = *(const bool *)*state;

	part(v4, 1, 2800, L4_LEN - 2800, false);
	part(v4, 1, 1400, 1400, true);
	part(v4, 1, 0, 1400, true);
	assert_arrived(1);
}

static void two_datagrams_are_kept_apart(void **state)
{
	bool v4 = *(const bool *)*state;

	part(v4, 1, 0, 2000, true);
	part(v4, 2, 0, 2000, true);
	part(v4, 2, 2000, L4_LEN - 2000, false);
	assert_arrived(1);
	part(v4, 1, 2000, L4_LEN - 2000, false);
	assert_arrived(1);
}

static void an_exact_duplicate_is_ignored(void **state)
{
	bool v4 = *(const bool *)*state;

	part(v4, 1, 0, 2000, true);
	part(v4, 1, 0, 2000, true);
	part(v4, 1, 2000, L4_LEN - 2000, false);
	assert_arrived(1);
	assert_int_equal(world_drops(DROP_FRAGMENT), 1);
}

static void an_overlap_spoils_the_datagram(void **state)
{
	bool v4 = *(const bool *)*state;

	part(v4, 1, 0, 2000, true);
	part(v4, 1, 1600, 800, true);
	part(v4, 1, 2000, L4_LEN - 2000, false);
	assert_arrived(0);
}

static void two_ends_spoil_the_datagram(void **state)
{
	bool v4 = *(const bool *)*state;

	part(v4, 1, 2000, L4_LEN - 2000, false);
	part(v4, 1, 1000, 500, false);
	part(v4, 1, 0, 1000, true);
	part(v4, 1, 1000, 1000, true);
	assert_arrived(0);
}

static void a_part_behind_the_end_spoils_the_datagram(void **state)
{
	bool v4 = *(const bool *)*state;

	part(v4, 1, 1000, 500, false);
	part(v4, 1, 2000, 800, true);
	part(v4, 1, 0, 1000, true);
	assert_arrived(0);
}

static void an_unfinished_datagram_is_dropped_in_time(void **state)
{
	bool v4 = *(const bool *)*state;
	uint64_t due;

	part(v4, 1, 0, 2000, true);
	due = fragment_next_us(world.shard);
	assert_true(due != UINT64_MAX && due > world.shard->now_us);
	world.shard->now_us = due - 1;
	fragment_expire(world.shard);
	assert_int_equal(world_drops(DROP_FRAGMENT), 0);
	world.shard->now_us = due;
	fragment_expire(world.shard);
	assert_true(fragment_next_us(world.shard) == UINT64_MAX);
	assert_int_equal(world_drops(DROP_FRAGMENT), 1);
	part(v4, 1, 2000, L4_LEN - 2000, false);
	assert_arrived(0);
}

static void expire_all(void)
{
	world.shard->now_us = fragment_next_us(world.shard);
	fragment_expire(world.shard);
}

static void the_sender_of_a_first_part_is_told_that_others_are_late(void **state)
{
	bool v4 = *(const bool *)*state;
	size_t header = v4 ? 20 : 48, off;
	const uint8_t *quoted;

	part(v4, 0x1234, 0, 64, true);
	expire_all();
	assert_int_equal(world.n, 1);
	off = world_check(&world.frames[0], v4 ? IPPROTO_ICMP : IPPROTO_ICMPV6);
	assert_int_equal(world.frames[0].bytes[off], v4 ? 11 : 3);
	assert_int_equal(world.frames[0].bytes[off + 1], 1);
	quoted = world.frames[0].bytes + off + 8;
	assert_int_equal(world.frames[0].len, off + 8 + header + 64);
	assert_memory_equal(quoted + header, l4, 64);
	if (v4) {
		assert_int_equal(load_be16(quoted + 4), 0x1234);
		assert_int_equal(load_be16(quoted + 6), 0x2000);
	} else {
		assert_int_equal(load_be16(quoted + 4), 8 + 64);
		assert_int_equal(load_be32(quoted + 44), 0x1234);
	}
}

static void a_long_first_part_is_quoted_as_far_as_an_error_goes(void **state)
{
	bool v4 = *(const bool *)*state;

	part(v4, 1, 0, 2000, true);
	expire_all();
	assert_int_equal(world.frames[0].len, 14 + (v4 ? 576 : 1280));
}

static void nobody_is_told_of_late_parts_without_the_first_or_that_overlapped(void **state)
{
	bool v4 = *(const bool *)*state;

	part(v4, 1, 2000, 2000, true);
	part(v4, 2, 0, 2000, true);
	part(v4, 2, 1000, 2000, true);
	expire_all();
	assert_true(fragment_next_us(world.shard) == UINT64_MAX);
	assert_int_equal(world.n, 0);
}

static void a_full_table_drops_the_oldest(void **state)
{
	bool v4 = *(const bool *)*state;

	for (uint32_t id = 1; id <= 65; id++)
		part(v4, id, 0, 2000, true);
	assert_int_equal(world_drops(DROP_FRAGMENT_FULL), 1);
	part(v4, 1, 2000, L4_LEN - 2000, false);
	assert_arrived(0);
	part(v4, 65, 2000, L4_LEN - 2000, false);
	assert_arrived(1);
}

/* RFC 4963: parts of two datagrams may meet, which only the checksum shows. */
static void a_wrong_sum_of_the_whole_is_found_where_sums_are_verified(void **state)
{
	bool v4 = *(const bool *)*state;
	struct ip_addr guest = v4 ? ip4_addr_of(guest4) : ip6_addr_of(guest6);
	struct ip_addr gateway = world_gateway(v4);
	uint64_t sum = checksum_pseudo(&guest, &gateway, IPPROTO_UDP, L4_LEN);
	uint16_t field;

	world.checked = true;
	memset(l4 + 6, 0, 2);
	field = checksum_finish(checksum_add(sum, l4, L4_LEN));
	memcpy(l4 + 6, &field, sizeof(field));
	part(v4, 1, 0, 2000, true);
	part(v4, 1, 2000, L4_LEN - 2000, false);
	assert_arrived(1);
	part(v4, 2, 0, 2000, true);
	l4[3000] ^= 1;
	part(v4, 2, 2000, L4_LEN - 2000, false);
	assert_arrived(0);
	assert_int_equal(world_drops(DROP_L4_CHECKSUM), 1);
	world.checked = false;
	part(v4, 3, 0, 2000, true);
	part(v4, 3, 2000, L4_LEN - 2000, false);
	assert_arrived(1);
}

static void the_next_guest_has_nothing_of_the_one_before(void **state)
{
	bool v4 = *(const bool *)*state;

	part(v4, 1, 0, 2000, true);
	fragments_forget(world.shard);
	assert_true(fragment_next_us(world.shard) == UINT64_MAX);
	part(v4, 1, 2000, L4_LEN - 2000, false);
	assert_arrived(0);
	expire_all();
	assert_int_equal(world.n, 0);
}

/* Where each shard reads a queue, the parts may come by several. */
static void parts_meet_whichever_shards_read_them(void **state)
{
	bool v4 = *(const bool *)*state;

	part(v4, 1, 0, 2000, true);
	world.shard = world.rt.shards[1];
	part(v4, 1, 2000, L4_LEN - 2000, false);
	assert_arrived(1);
}

/* RFC 1122 3.2.2, RFC 4443 2.4 (e): no error about an error, but about an echo. */
static void errors_in_parts_are_not_answered(void **state)
{
	bool v4 = *(const bool *)*state;
	static const struct {
		uint8_t type[2]; /* of IPv6, of IPv4 */
		unsigned int answers;
	} cases[] = { { { 1, 3 }, 0 }, { { 3, 11 }, 0 }, { { 135, 0 }, 0 }, { { 128, 8 }, 1 } };

	proto = v4 ? IPPROTO_ICMP : IPPROTO_ICMPV6;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		unsigned int before = world.n;

		l4[0] = cases[i].type[v4];
		part(v4, 10 + (uint32_t)i, 0, 64, true);
		expire_all();
		assert_int_equal(world.n - before, cases[i].answers);
	}
}

#define BOTH(f)                                                                                    \
	{ #f " (IPv4)", f, setup, teardown, (void *)(uintptr_t)&is_v4[1] },                        \
	{                                                                                          \
#f " (IPv6)", f, setup, teardown, (void *)(uintptr_t)&is_v4[0]                     \
	}

int main(void)
{
	const struct CMUnitTest tests[] = {
		BOTH(parts_in_order_make_a_datagram),
		BOTH(parts_in_reverse_make_a_datagram),
		BOTH(two_datagrams_are_kept_apart),
		BOTH(an_exact_duplicate_is_ignored),
		BOTH(an_overlap_spoils_the_datagram),
		BOTH(two_ends_spoil_the_datagram),
		BOTH(a_part_behind_the_end_spoils_the_datagram),
		BOTH(an_unfinished_datagram_is_dropped_in_time),
		BOTH(the_sender_of_a_first_part_is_told_that_others_are_late),
		BOTH(a_long_first_part_is_quoted_as_far_as_an_error_goes),
		BOTH(nobody_is_told_of_late_parts_without_the_first_or_that_overlapped),
		BOTH(a_full_table_drops_the_oldest),
		BOTH(a_wrong_sum_of_the_whole_is_found_where_sums_are_verified),
		BOTH(the_next_guest_has_nothing_of_the_one_before),
		BOTH(errors_in_parts_are_not_answered),
		{ "parts_meet_whichever_shards_read_them (IPv4)",
		  parts_meet_whichever_shards_read_them, setup_two, teardown,
		  (void *)(uintptr_t)&is_v4[1] },
		{ "parts_meet_whichever_shards_read_them (IPv6)",
		  parts_meet_whichever_shards_read_them, setup_two, teardown,
		  (void *)(uintptr_t)&is_v4[0] },
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
