/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The window offered to the guest, with a socket that says what the test wants.
 */
#include "tcp_internal.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static struct shard shard;
static struct flow flow;
static struct tcp *const tcp = &flow.tcp;
static uint32_t room;
static struct config config = {
	.mode = MODE_NAMESPACE
}; /* whose guest has no queue to be spared */
static struct runtime rt = { .config = &config, .n_shards = 1 };

uint32_t hostsock_room(int fd)
{
	(void)fd;
	return room;
}

void hostsock_info(int fd, struct hostsock_info *info)
{
	(void)fd;
	*info = (struct hostsock_info){ 0 };
}

static void look_again(void)
{
	tcp->bits |= TCPB_WND_UPDATE;
	tcp_window_update(&shard, &flow);
}

static int make(void **state)
{
	(void)state;
	memset(&flow, 0, sizeof(flow));
	memset(&shard.pool, 0, sizeof(shard.pool));
	shard.pool.n_chunks = 16 * 100;
	shard.rt = &rt;
	tcp->mss = 1460;
	tcp->rcv_shift = TCP_WSCALE;
	tcp->rcv_nxt = tcp->host_nxt = tcp->last_ack = 0xffffff00u;
	room = 100000;
	tcp_window_init(&shard, &flow);
	look_again();
	return 0;
}

#define SHARE		 TCP_SHARE_LEAST /* the pool is large enough */
#define IN_CHUNKS(bytes) (((bytes) + POOL_DATA - 1) / POOL_DATA * POOL_DATA)

static void at_first_it_is_what_a_syn_can_say(void **state)
{
	(void)state;
	tcp_window_release(&shard, &flow);
	tcp->bits = 0;
	tcp_window_init(&shard, &flow);
	assert_int_equal(tcp->rcv_adv - tcp->rcv_nxt, 65535);
	assert_int_equal(tcp->reserved, 0); /* the socket has as much */
	tcp->rcv_nxt += 10000;
	tcp->given = 10000;
	assert_false(tcp_window_update(&shard, &flow));
	assert_int_equal(tcp->rcv_adv - tcp->rcv_nxt, 55535);
	tcp->rcv_nxt += 10000;
	tcp->host_nxt = tcp->rcv_nxt;
	tcp->given = 20000;
	assert_true(tcp_window_update(&shard, &flow));
	assert_int_equal(tcp->rcv_adv - tcp->rcv_nxt, 100000 + SHARE);
}

static void flows_that_never_sent_leave_the_pool_to_others(void **state)
{
	static struct flow idle[3000];

	(void)state;
	tcp_window_release(&shard, &flow);
	shard.pool.n_chunks = 65536; /* of 4 KiB */
	room = 40000;
	for (unsigned int i = 0; i < 3000; i++) {
		idle[i] = (struct flow){ .tcp = { .mss = 1460, .rcv_shift = TCP_WSCALE } };
		tcp_window_init(&shard, &idle[i]);
	}
	look_again();
	assert_int_equal(tcp->rcv_adv - tcp->rcv_nxt,
			 100000 + SHARE); /* as it was: none goes back */
	tcp->rcv_nxt = tcp->host_nxt = tcp->rcv_adv;
	look_again();
	assert_int_equal(tcp->rcv_adv - tcp->rcv_nxt, 40000 + SHARE);
}

/* A socket that never refused a byte tells nobody that it has room again. */
static void a_window_that_closes_without_a_refusal_is_looked_at_again(void **state)
{
	(void)state;
	tcp_window_release(&shard, &flow);
	shard.pool.n_chunks = shard.pool.n_used = 1;
	room = 0;
	tcp->rcv_nxt = tcp->host_nxt = tcp->rcv_adv;
	look_again();
	assert_int_equal(tcp->rcv_adv, tcp->rcv_nxt);
	assert_true(tcp->poll_us > shard.now_us);
	room = 50000;
	look_again();
	assert_int_equal(tcp->rcv_adv - tcp->rcv_nxt, 50000);
	assert_int_equal(tcp->poll_us, 0);
}

static void behind_the_guests_end_nothing_is_reserved(void **state)
{
	(void)state;
	assert_true(tcp->reserved > 0);
	tcp->bits |= TCPB_GUEST_FIN;
	tcp_window_reserve(&shard, &flow);
	assert_int_equal(tcp->reserved, 0);
	assert_int_equal(shard.pool.reserved, 0);
}

static void the_window_is_room_and_share(void **state)
{
	(void)state;
	assert_int_equal(tcp->rcv_adv - tcp->rcv_nxt, 100000 + SHARE);
}

static void what_goes_beyond_the_socket_is_reserved(void **state)
{
	(void)state;
	assert_int_equal(tcp->reserved, IN_CHUNKS(SHARE));
	assert_int_equal(shard.pool.reserved, IN_CHUNKS(SHARE));
	tcp_window_release(&shard, &flow);
	assert_int_equal(shard.pool.reserved, 0);
}

/* Many flows with little each would else be promised more than there is. */
static void the_least_promise_is_a_chunk(void **state)
{
	(void)state;
	tcp_window_release(&shard, &flow);
	shard.pool.n_chunks = 2;
	room = 0;
	tcp_window_init(&shard, &flow);
	assert_in_range(tcp->rcv_adv - tcp->rcv_nxt, 1, POOL_DATA / 2);
	assert_int_equal(shard.pool.reserved, POOL_DATA);
}

static void without_a_chunk_nothing_is_promised(void **state)
{
	(void)state;
	tcp_window_release(&shard, &flow);
	shard.pool.n_chunks = 1;
	shard.pool.n_used = 1;
	room = 1000;
	tcp_window_init(&shard, &flow);
	assert_int_equal(tcp->rcv_adv - tcp->rcv_nxt, 1000);
}

static void without_scaling_it_fits_the_field(void **state)
{
	(void)state;
	tcp_window_release(&shard, &flow);
	tcp->rcv_shift = 0;
	tcp_window_init(&shard, &flow);
	assert_int_equal(tcp->rcv_adv - tcp->rcv_nxt, 65535);
}

static void it_never_shrinks(void **state)
{
	uint32_t edge = tcp->rcv_adv;

	(void)state;
	room = 0;
	tcp->bits |= TCPB_WND_UPDATE;
	tcp_window_update(&shard, &flow);
	assert_int_equal(tcp->rcv_adv, edge);
	assert_int_equal(tcp->reserved, IN_CHUNKS(100000 + SHARE));
}

static void it_moves_by_a_segment_at_least(void **state)
{
	uint32_t edge = tcp->rcv_adv;

	(void)state;
	room = 100000 + 1459;
	tcp->bits |= TCPB_WND_UPDATE;
	tcp_window_update(&shard, &flow);
	assert_int_equal(tcp->rcv_adv, edge);
	room = 100000 + 1460;
	tcp->bits |= TCPB_WND_UPDATE;
	tcp_window_update(&shard, &flow);
	assert_int_equal(tcp->rcv_adv, edge + 1460);
}

static void what_waits_counts_against_it(void **state)
{
	(void)state;
	tcp->rcv_nxt += 50000; /* taken, and not given to the socket */
	room = 0;
	tcp->bits |= TCPB_WND_UPDATE;
	tcp_window_update(&shard, &flow);
	assert_int_equal(tcp->rcv_adv - tcp->rcv_nxt, 100000 + SHARE - 50000);
}

/* What a tap's queue of 1,000 frames takes, whichever shards the flows are in. */
static void a_guests_queue_is_shared_by_the_flows_of_all_shards(void **state)
{
	struct config stream = { .mode = MODE_STREAM };
	struct runtime two = { .config = &stream, .n_shards = 2 };
	static struct shard other;
	struct flow flows[3];

	(void)state;
	two.shards[0] = &shard;
	two.shards[1] = &other;
	shard.rt = other.rt = &two;
	other.pool.n_chunks = shard.pool.n_chunks;
	shard.now_us = other.now_us = 10 << 20;
	room = 4 << 20;
	for (int i = 0; i < 3; i++) {
		flows[i] = flow;
		flows[i].tcp.bits |= TCPB_WND_UPDATE;
		tcp_window_update(&other, &flows[i]);
	}
	tcp_window_release(&shard, &flow);
	tcp->rcv_adv = tcp->last_ack = tcp->rcv_nxt;
	tcp->bits |= TCPB_WND_UPDATE;
	tcp_window_update(&shard, &flow);
	assert_int_equal(tcp->rcv_adv - tcp->rcv_nxt, 700 / 4 * 1460);
	/* The others have been silent for a while: all of it is this one's. */
	shard.now_us += 1 << 20;
	tcp->bits |= TCPB_WND_UPDATE;
	tcp_window_update(&shard, &flow);
	assert_int_equal(tcp->rcv_adv - tcp->rcv_nxt, 700 * 1460);
	shard.rt = &rt;
}

/* A round trip of the guest's passes, in which so much came and went on to the socket. */
static void one_round(uint32_t rtt_us, uint32_t bytes)
{
	shard.now_us += rtt_us;
	tcp->rcv_nxt += bytes;
	tcp->host_nxt = tcp->rcv_nxt;
	tcp->bits |= TCPB_WND_UPDATE;
	tcp_window_update(&shard, &flow);
}

static void a_far_guest_is_offered_twice_what_comes_in_a_round_trip(void **state)
{
	(void)state;
	shard.pool.n_chunks = 1 << 16;
	tcp->min_rtt_us = 20000;
	one_round(20000, 300000);
	assert_int_equal(tcp->rcv_adv - tcp->rcv_nxt, 100000 + 600000);
	/* Half of it in as long again is the same pace. */
	one_round(60000, 600000);
	assert_int_equal(tcp->share, 600000);
	one_round(20000, 700000);
	one_round(20000, 1500000);
	one_round(20000, 3000000);
	assert_int_equal(tcp->share, TCP_SHARE_MAX);
	assert_int_equal(tcp->rcv_adv - tcp->rcv_nxt, 100000 + TCP_SHARE_MAX);
	assert_int_equal(shard.pool.reserved, IN_CHUNKS(TCP_SHARE_MAX));
}

static void a_guest_that_is_near_gets_no_more_by_its_pace(void **state)
{
	(void)state;
	tcp->min_rtt_us = TCP_FAR_US - 1;
	one_round(TCP_FAR_US, 300000);
	one_round(TCP_FAR_US, 300000);
	assert_int_equal(tcp->share, TCP_SHARE_LEAST);
	assert_int_equal(tcp->rcv_adv - tcp->rcv_nxt, 100000 + SHARE);
}

/* What comes goes to the pool until the socket says that it has room, so that all is reserved. */
static void the_room_of_a_socket_that_was_full_is_not_offered(void **state)
{
	(void)state;
	tcp->rcv_nxt += 100000 + SHARE;
	tcp->host_nxt += 100000;
	tcp->bits |= TCPB_HOST_FULL | TCPB_WND_UPDATE;
	tcp_window_update(&shard, &flow);
	assert_int_equal(tcp->rcv_adv - tcp->rcv_nxt, 0);
	tcp->bits &= ~(uint32_t)TCPB_HOST_FULL;
	tcp->bits |= TCPB_WND_UPDATE;
	tcp_window_update(&shard, &flow);
	assert_int_equal(tcp->rcv_adv - tcp->rcv_nxt, 100000);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(at_first_it_is_what_a_syn_can_say, make),
		cmocka_unit_test_setup(flows_that_never_sent_leave_the_pool_to_others, make),
		cmocka_unit_test_setup(a_window_that_closes_without_a_refusal_is_looked_at_again,
				       make),
		cmocka_unit_test_setup(behind_the_guests_end_nothing_is_reserved, make),
		cmocka_unit_test_setup(the_window_is_room_and_share, make),
		cmocka_unit_test_setup(what_goes_beyond_the_socket_is_reserved, make),
		cmocka_unit_test_setup(the_least_promise_is_a_chunk, make),
		cmocka_unit_test_setup(without_a_chunk_nothing_is_promised, make),
		cmocka_unit_test_setup(without_scaling_it_fits_the_field, make),
		cmocka_unit_test_setup(it_never_shrinks, make),
		cmocka_unit_test_setup(it_moves_by_a_segment_at_least, make),
		cmocka_unit_test_setup(what_waits_counts_against_it, make),
		cmocka_unit_test_setup(the_room_of_a_socket_that_was_full_is_not_offered, make),
		cmocka_unit_test_setup(a_guests_queue_is_shared_by_the_flows_of_all_shards, make),
		cmocka_unit_test_setup(a_far_guest_is_offered_twice_what_comes_in_a_round_trip,
				       make),
		cmocka_unit_test_setup(a_guest_that_is_near_gets_no_more_by_its_pace, make),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
