/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The stream's receive side, turn by turn: the test is the reader's thread.
 */
#include "stream_fixture.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static uint8_t wire[1 << 20];

static void guest_sends(const void *bytes, size_t len)
{
	assert_int_equal(send(guest_fd, bytes, len, 0), (ssize_t)len);
}

static void guest_sends_frames(uint16_t first, unsigned int n, size_t payload)
{
	size_t len = 0;

	for (unsigned int i = 0; i < n; i++)
		len += make_wire(wire + len, (uint16_t)(first + i), payload);
	guest_sends(wire, len);
}

/* One turn of the reader's thread, which the test is. */
static enum stream_read read_once(void)
{
	role_is_reader();
	return stream_rx_turn(stream);
}

static void turn(void)
{
	assert_int_equal(read_once(), STREAM_READ_OK);
}

/* The frames that shard 0 has run are those of ports first to first + n - 1. */
static void assert_ran(uint16_t first, unsigned int n)
{
	const struct shard *shard = rt.shards[0];

	assert_int_equal(shard->n_records, n);
	for (unsigned int i = 0; i < n; i++)
		assert_int_equal(shard->records[i].port, first + i);
}

static void drain(unsigned int id)
{
	role_is_shard();
	shard_drain_ring(rt.shards[id], 0);
}

static void a_frame_reaches_its_shard(void **state)
{
	(void)state;
	guest_sends_frames(100, 1, 5);
	turn();
	assert_ran(100, 1);
	assert_int_equal(rt.shards[0]->records[0].payload_len, 5);
	assert_int_equal(rt.shards[0]->records[0].first_byte, 100);
}

static void a_frame_that_comes_byte_by_byte_is_whole(void **state)
{
	size_t len = make_wire(wire, 7, 10);

	(void)state;
	for (size_t i = 0; i < len; i++) {
		guest_sends(wire + i, 1);
		turn();
	}
	assert_ran(7, 1);
}

static void the_longest_frame_is_taken(void **state)
{
	(void)state;
	guest_sends_frames(1, 1, 65535 - WIRE_HEADERS);
	turn();
	drain(0);
	assert_int_equal(rt.shards[0]->n_records, 1);
	assert_int_equal(rt.shards[0]->records[0].payload_len, 65535 - WIRE_HEADERS);
}

static void a_cut_frame_moves_to_another_slab_if_its_own_is_held(void **state)
{
	size_t len = make_wire(wire, 1, 100);

	(void)state;
	config.inline_off = true; /* the first batch waits in the ring, and holds the slab */
	len += make_wire(wire + len, 2, 100);
	guest_sends(wire, len - 50);
	turn();
	guest_sends(wire + len - 50, 50);
	turn();
	assert_int_equal(atomic_load(&stream->free_slabs), (1u << STREAM_SLABS) - 1 - 3);
	drain(0);
	assert_ran(1, 2);
}

static void a_slab_that_nobody_holds_is_used_again(void **state)
{
	(void)state;
	for (uint16_t i = 0; i < 20; i++) {
		guest_sends_frames(i, 1, 10);
		turn();
	}
	assert_ran(0, 20);
	assert_int_equal(atomic_load(&stream->free_slabs), (1u << STREAM_SLABS) - 1 - 1);
}

static void more_frames_than_a_slab_has_room_for_all_arrive(void **state)
{
	(void)state;
	for (unsigned int i = 0; i < STREAM_SLABS; i++)
		stream->slabs[i].max_frames = 4;
	guest_sends_frames(1, 30, 10);
	do
		turn();
	while (stream->more);
	drain(0);
	assert_ran(1, 30);
}

static void a_batch_for_an_idle_shard_runs_in_place(void **state)
{
	(void)state;
	guest_sends_frames(1, 2, 10);
	turn();
	assert_true(rt.shards[0]->records[0].in_place);
	assert_int_equal(rt.shards[0]->wakes, 0);
	assert_int_equal(counter_get(&stream->counters, COUNT_BATCHES_INLINE), 1);
	assert_int_equal(counter_get(&stream->counters, COUNT_FRAMES_INLINE), 2);
}

static void a_batch_for_a_busy_shard_is_pushed_and_wakes_it_once(void **state)
{
	(void)state;
	rt.shards[0]->busy = true;
	guest_sends_frames(1, 3, 10);
	turn();
	assert_int_equal(rt.shards[0]->n_records, 0);
	assert_int_equal(rt.shards[0]->wakes, 1);
	assert_int_equal(counter_get(&stream->counters, COUNT_FRAMES_RING), 3);
	drain(0);
	assert_ran(1, 3);
}

static void nothing_runs_in_place_if_that_is_off(void **state)
{
	(void)state;
	config.inline_off = true;
	guest_sends_frames(1, 1, 10);
	turn();
	assert_int_equal(rt.shards[0]->n_records, 0);
	assert_int_equal(counter_get(&stream->counters, COUNT_BATCHES_RING), 1);
}

static void more_than_32_frames_are_pushed(void **state)
{
	(void)state;
	guest_sends_frames(1, 33, 10);
	turn();
	assert_int_equal(counter_get(&stream->counters, COUNT_BATCHES_RING), 1);
}

static void more_than_64_kib_are_pushed(void **state)
{
	(void)state;
	guest_sends_frames(1, 3, 30000);
	turn();
	assert_int_equal(counter_get(&stream->counters, COUNT_BATCHES_RING), 1);
}

static void batches_for_two_shards_are_pushed(void **state)
{
	(void)state;
	for (unsigned int i = 0; i < STEERING_BUCKETS; i++)
		steering.shard[i] = i % 2;
	guest_sends_frames(1, 20, 10);
	turn();
	assert_int_equal(counter_get(&stream->counters, COUNT_BATCHES_RING), 2);
	drain(0);
	drain(1);
	assert_true(rt.shards[0]->n_records > 0);
	assert_int_equal(rt.shards[0]->n_records + rt.shards[1]->n_records, 20);
}

static void a_batch_in_place_never_overtakes_one_in_the_ring(void **state)
{
	(void)state;
	rt.shards[0]->busy = true;
	guest_sends_frames(1, 2, 10);
	turn();
	rt.shards[0]->busy = false;
	guest_sends_frames(3, 2, 10);
	turn();
	assert_ran(1, 4);
	assert_false(rt.shards[0]->records[1].in_place);
	assert_true(rt.shards[0]->records[2].in_place);
}

/* Leaves one batch a turn in the ring until every slab is under way. */
static unsigned int starve(void)
{
	unsigned int n = 0;

	config.inline_off = true;
	do
		guest_sends_frames((uint16_t)n++, 1, 10);
	while (read_once() == STREAM_READ_OK);
	return n;
}

static void without_a_free_slab_nothing_is_read(void **state)
{
	char byte;

	(void)state;
	assert_int_equal(starve(), STREAM_SLABS + 1);
	assert_int_equal(recv(stream->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT), 1);
}

static void a_slab_given_back_wakes_the_reader_and_nothing_is_lost(void **state)
{
	eventfd_t value = 0;

	(void)state;
	starve();
	drain(0);
	assert_int_equal(eventfd_read(stream->event_fd, &value), 0);
	turn();
	drain(0);
	assert_ran(0, STREAM_SLABS + 1);
}

static void a_control_frame_goes_to_the_control_thread(void **state)
{
	size_t len = make_udp(wire + STREAM_PREFIX, 68, 67, 240, 0);

	(void)state;
	store_be32(wire, (uint32_t)len);
	guest_sends(wire, STREAM_PREFIX + len);
	turn();
	assert_int_equal(control.n_frames, 1);
	assert_int_equal(rt.shards[0]->n_records, 0);
}

static void a_control_frame_that_finds_no_room_is_counted(void **state)
{
	size_t len = make_udp(wire + STREAM_PREFIX, 68, 67, 240, 0);

	(void)state;
	control.full = true;
	store_be32(wire, (uint32_t)len);
	guest_sends(wire, STREAM_PREFIX + len);
	turn();
	assert_int_equal(atomic_load(&stream->counters.drop[DROP_CONTROL_FULL]), 1);
}

static void a_new_source_address_is_told_once(void **state)
{
	struct ip_addr want = ip4_addr_of("\x0a\x00\x02\x0f");

	(void)state;
	guest_sends_frames(1, 5, 10);
	turn();
	assert_int_equal(control.n_addrs, 1);
	assert_true(ip_eq(&control.last_addr, &want));
}

static void the_guests_ethernet_address_is_noted(void **state)
{
	(void)state;
	guest_sends_frames(1, 1, 10);
	turn();
	assert_true(atomic_load(&rt.guest_mac) == 0x020000000009);
}

static void a_frame_that_does_not_parse_is_counted_and_the_next_is_taken(void **state)
{
	uint8_t bad[STREAM_PREFIX + 14] = { 0, 0, 0, 14 };

	(void)state;
	guest_sends(bad, sizeof(bad));
	guest_sends_frames(5, 1, 10);
	turn();
	assert_ran(5, 1);
	assert_int_equal(atomic_load(&stream->counters.drop[DROP_ETHERTYPE]), 1);
	assert_int_equal(counter_get(&stream->counters, COUNT_RX_FRAMES), 2);
}

static void an_end_of_file_ends_the_connection(void **state)
{
	(void)state;
	shutdown(guest_fd, SHUT_WR);
	assert_int_equal(read_once(), STREAM_READ_END);
}

static const struct length_case {
	const char *name;
	uint32_t len;
	enum stream_read result;
} lengths[] = {
	{ "a length of 0 ends the connection", 0, STREAM_READ_END },
	{ "a length of 13 ends the connection", 13, STREAM_READ_END },
	{ "a length of 14 is accepted", 14, STREAM_READ_OK },
	{ "a length of 65549 is accepted", FRAME_MAX, STREAM_READ_OK },
	{ "a length of 65550 ends the connection", FRAME_MAX + 1, STREAM_READ_END },
	{ "a length of 2^31 ends the connection", 1u << 31, STREAM_READ_END },
	{ "a length of 2^32 - 1 ends the connection", UINT32_MAX, STREAM_READ_END },
};

#define N_LENGTHS (sizeof(lengths) / sizeof(lengths[0]))

static void check_length(void **state)
{
	const struct length_case *c = *state;
	uint8_t prefix[STREAM_PREFIX];

	set_up_turns(NULL);
	store_be32(prefix, c->len);
	guest_sends(prefix, sizeof(prefix));
	assert_int_equal(read_once(), c->result);
	assert_int_equal(atomic_load(&stream->counters.drop[DROP_STREAM_LENGTH]),
			 c->result == STREAM_READ_END);
}

#define TURN_TEST(f) cmocka_unit_test_setup_teardown(f, set_up_turns, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TURN_TEST(a_frame_reaches_its_shard),
		TURN_TEST(a_frame_that_comes_byte_by_byte_is_whole),
		TURN_TEST(the_longest_frame_is_taken),
		TURN_TEST(a_cut_frame_moves_to_another_slab_if_its_own_is_held),
		TURN_TEST(a_slab_that_nobody_holds_is_used_again),
		TURN_TEST(more_frames_than_a_slab_has_room_for_all_arrive),
		TURN_TEST(a_batch_for_an_idle_shard_runs_in_place),
		TURN_TEST(a_batch_for_a_busy_shard_is_pushed_and_wakes_it_once),
		TURN_TEST(nothing_runs_in_place_if_that_is_off),
		TURN_TEST(more_than_32_frames_are_pushed),
		TURN_TEST(more_than_64_kib_are_pushed),
		TURN_TEST(batches_for_two_shards_are_pushed),
		TURN_TEST(a_batch_in_place_never_overtakes_one_in_the_ring),
		TURN_TEST(without_a_free_slab_nothing_is_read),
		TURN_TEST(a_slab_given_back_wakes_the_reader_and_nothing_is_lost),
		TURN_TEST(a_control_frame_goes_to_the_control_thread),
		TURN_TEST(a_control_frame_that_finds_no_room_is_counted),
		TURN_TEST(a_new_source_address_is_told_once),
		TURN_TEST(the_guests_ethernet_address_is_noted),
		TURN_TEST(a_frame_that_does_not_parse_is_counted_and_the_next_is_taken),
		TURN_TEST(an_end_of_file_ends_the_connection),
	};
	struct CMUnitTest rows[N_LENGTHS];
	int failed;

	for (size_t i = 0; i < N_LENGTHS; i++)
		rows[i] = (struct CMUnitTest){ lengths[i].name, check_length, NULL, tear_down,
					       (void *)&lengths[i] };
	failed = cmocka_run_group_tests(tests, NULL, NULL);
	return failed + cmocka_run_group_tests_name("lengths", rows, NULL, NULL);
}
