/* SPDX-License-Identifier: Apache-2.0 */
/* links: shard tap */
/*
 * What is kept of the guest's data: islands, holes, SACK blocks, and accounts of the pool. The
 * socket is taken for full, so that everything is kept.
 */
#include "tcp_internal.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static struct shard shard;
static struct flow flow;
static struct tcp *const tcp = &flow.tcp;
static uint8_t stream[65536];

static int make(void **state)
{
	(void)state;
	memset(&flow, 0, sizeof(flow));
	list_init(&tcp->queue);
	tcp->bits = TCPB_HOST_FULL;
	tcp->rcv_nxt = tcp->host_nxt = 1000;
	for (size_t i = 0; i < sizeof(stream); i++)
		stream[i] = (uint8_t)(i * 7 + i / 256);
	return pool_init(&shard.pool, 64 * POOL_CHUNK);
}

static int unmake(void **state)
{
	(void)state;
	tcp_queue_drop(&shard, &flow);
	assert_int_equal(shard.pool.n_used, 0);
	pool_free(&shard.pool);
	return 0;
}

/* A frame with the stream's bytes [seq, seq + len) in one piece. */
static struct frame *frame_of(uint32_t seq, uint32_t len)
{
	static struct frame frame;

	frame = (struct frame){ .payload_len = len, .n_payload = 1 };
	frame.payload_one = (struct iovec){ stream + seq, len };
	frame.payload = &frame.payload_one;
	return &frame;
}

static bool island(uint32_t seq, uint32_t len)
{
	return tcp_queue_island(&shard, &flow, frame_of(seq, len), seq, seq);
}

/* All chunks are sorted, do not overlap, and hold the stream's bytes. Returns the bytes. */
static uint32_t check_chunks(void)
{
	uint32_t sum = 0, end = 0;

	for (struct list *node = tcp->queue.next; node != &tcp->queue; node = node->next) {
		const struct chunk *c = LIST_ENTRY(node, struct chunk, link);

		assert_true(c->len > 0 && c->seq >= end);
		assert_memory_equal(c->data + c->off, stream + c->seq, c->len);
		end = c->seq + c->len;
		sum += c->len;
	}
	assert_int_equal(sum, tcp->queued);
	return sum;
}

static struct island_case {
	const char *name;
	struct {
		uint32_t seq, len;
	} add[5];
	uint32_t kept;
	unsigned int n_sack;
	struct sack_block first;
} islands[] = {
	{ "one island is kept", { { 2000, 100 } }, 100, 1, { 2000, 2100 } },
	{ "two islands are kept", { { 2000, 100 }, { 3000, 100 } }, 200, 2, { 3000, 3100 } },
	{ "an island in front is kept", { { 3000, 100 }, { 2000, 100 } }, 200, 2, { 2000, 2100 } },
	{ "neighbours are one block", { { 2000, 100 }, { 2100, 100 } }, 200, 1, { 2000, 2200 } },
	{ "the same twice is kept once", { { 2000, 100 }, { 2000, 100 } }, 100, 1, { 2000, 2100 } },
	{ "an overlap at the end grows it",
	  { { 2000, 100 }, { 2050, 100 } },
	  150,
	  1,
	  { 2000, 2150 } },
	{ "an overlap at the front grows it",
	  { { 2050, 100 }, { 2000, 100 } },
	  150,
	  1,
	  { 2000, 2150 } },
	{ "what covers it is kept whole", { { 2050, 10 }, { 2000, 100 } }, 100, 1, { 2000, 2100 } },
	{ "what fills two holes joins three",
	  { { 2000, 10 }, { 2100, 10 }, { 2200, 10 }, { 2000, 210 } },
	  210,
	  1,
	  { 2000, 2210 } },
	{ "more than a chunk is kept", { { 2000, 20000 } }, 20000, 1, { 2000, 22000 } },
	{ "an overlap over several chunks is kept",
	  { { 5000, 9000 }, { 2000, 15000 } },
	  15000,
	  1,
	  { 2000, 17000 } },
};

static void islands_are_kept(void **state)
{
	const struct island_case *c = *state;
	struct sack_block blocks[4];

	for (int i = 0; i < 5 && c->add[i].len; i++)
		assert_true(island(c->add[i].seq, c->add[i].len));
	assert_int_equal(check_chunks(), c->kept);
	assert_int_equal(tcp_queue_sack(tcp, blocks, 4), c->n_sack);
	assert_int_equal(blocks[0].start, c->first.start);
	assert_int_equal(blocks[0].end, c->first.end);
}

static void blocks_are_no_more_than_asked_for(void **state)
{
	struct sack_block blocks[3];

	(void)state;
	for (uint32_t i = 0; i < 6; i++)
		assert_true(island(2000 + 100 * i, 10));
	assert_int_equal(tcp_queue_sack(tcp, blocks, 3), 3);
	assert_int_equal(blocks[0].start, 2500);
}

static void an_overlap_is_found(void **state)
{
	struct sack_block dup;

	(void)state;
	assert_true(island(2000, 100));
	assert_false(tcp_queue_overlap(tcp, 1900, 2000, &dup));
	assert_false(tcp_queue_overlap(tcp, 2100, 2200, &dup));
	assert_true(tcp_queue_overlap(tcp, 1950, 2050, &dup));
	assert_int_equal(dup.start, 2000);
	assert_int_equal(dup.end, 2050);
}

static void an_empty_pool_refuses_an_island(void **state)
{
	(void)state;
	shard.pool.reserved = 64ull * POOL_DATA;
	assert_false(island(2000, 100));
	assert_int_equal(tcp->queued, 0);
	shard.pool.reserved = 0;
}

static void data_in_order_is_kept_while_the_socket_is_full(void **state)
{
	(void)state;
	assert_true(tcp_queue_in_order(&shard, &flow, frame_of(1000, 5000)));
	assert_int_equal(tcp->rcv_nxt, 6000);
	assert_int_equal(check_chunks(), 5000);
}

static void data_in_order_goes_in_front_of_islands(void **state)
{
	struct sack_block block;

	(void)state;
	assert_true(island(2000, 100));
	assert_true(tcp_queue_in_order(&shard, &flow, frame_of(1000, 500)));
	assert_int_equal(check_chunks(), 600);
	assert_int_equal(tcp_queue_sack(tcp, &block, 1), 1);
	assert_int_equal(block.start, 2000);
}

static struct trim_case {
	const char *name;
	uint32_t front, keep;
	uint32_t off, len;
} trims[] = {
	{ "nothing is cut off", 0, UINT32_MAX, 0, 30 },
	{ "the front is cut off", 5, UINT32_MAX, 5, 25 },
	{ "a whole piece is cut off the front", 10, UINT32_MAX, 10, 20 },
	{ "the front is cut off across pieces", 15, UINT32_MAX, 15, 15 },
	{ "the end is cut off", 0, 12, 0, 12 },
	{ "both ends are cut off", 3, 20, 3, 20 },
	{ "all is cut off", 30, UINT32_MAX, 30, 0 },
	{ "more than there is cuts all", 99, UINT32_MAX, 30, 0 },
	{ "nothing is kept", 0, 0, 0, 0 },
};

static void frames_are_trimmed(void **state)
{
	const struct trim_case *c = *state;
	struct iovec iov[3] = { { stream, 10 }, { stream + 10, 10 }, { stream + 20, 10 } };
	struct frame frame = { .payload = iov, .n_payload = 3, .payload_len = 30 };
	uint32_t at = c->off;

	tcp_trim(&frame, c->front, c->keep);
	assert_int_equal(frame.payload_len, c->len);
	for (uint32_t i = 0; i < frame.n_payload; i++) {
		assert_ptr_equal(frame.payload[i].iov_base, stream + at);
		at += (uint32_t)frame.payload[i].iov_len;
	}
	assert_int_equal(at, c->off + c->len);
}

#define N_ISLANDS (sizeof(islands) / sizeof(islands[0]))
#define N_TRIMS	  (sizeof(trims) / sizeof(trims[0]))

int main(void)
{
	const struct CMUnitTest plain[] = {
		cmocka_unit_test_setup_teardown(blocks_are_no_more_than_asked_for, make, unmake),
		cmocka_unit_test_setup_teardown(an_overlap_is_found, make, unmake),
		cmocka_unit_test_setup_teardown(an_empty_pool_refuses_an_island, make, unmake),
		cmocka_unit_test_setup_teardown(data_in_order_is_kept_while_the_socket_is_full,
						make, unmake),
		cmocka_unit_test_setup_teardown(data_in_order_goes_in_front_of_islands, make,
						unmake),
	};
	struct CMUnitTest rows[N_ISLANDS + N_TRIMS];
	int failed = 0;

	for (size_t i = 0; i < N_TRIMS; i++)
		rows[i] = (struct CMUnitTest){ trims[i].name, frames_are_trimmed, NULL, NULL,
					       &trims[i] };
	/* cmocka gives a row either its state or what its set-up made: each island has a group of
	 * its own. */
	failed += _cmocka_run_group_tests("trim", rows, N_TRIMS, NULL, NULL);
	for (size_t i = 0; i < N_ISLANDS; i++) {
		struct CMUnitTest row = { islands[i].name, islands_are_kept, NULL, NULL,
					  &islands[i] };

		failed += _cmocka_run_group_tests("island", &row, 1, make, unmake);
	}
	return failed + cmocka_run_group_tests(plain, NULL, NULL);
}
