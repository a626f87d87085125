/* SPDX-License-Identifier: Apache-2.0 */
/* links: shard tap */
/*
 * The scoreboard and the timers of what is in flight to the guest.
 */
#include "tcp_internal.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#define MSS 1000u

static struct shard shard;
static struct flow flow;
static struct tcp *const tcp = &flow.tcp;

/* The timers fire, in time. */
static void time_out(void)
{
	tcp->rto_due_us = shard.now_us;
	tcp_recovery_rto(&shard, &flow);
}

static void probe(void)
{
	tcp->tlp_due_us = shard.now_us;
	tcp_recovery_tlp(&shard, &flow);
}

static int make(void **state)
{
	(void)state;
	memset(&shard, 0, sizeof(shard));
	memset(&flow, 0, sizeof(flow));
	shard.now_us = 1000000;
	tcp->state = TCPS_OPEN;
	tcp->bits = TCPB_SACK;
	tcp->mss = MSS;
	tcp->cwnd = 2u << 20;
	tcp->rto_us = TCP_RTO_FIRST_US;
	tcp->snd_una = tcp->snd_nxt = 0xfffff000u;
	tcp->snd_wnd = tcp->snd_wnd_max = 1 << 20;
	return 0;
}

/* Sends n segments now. */
static void send_segments(uint32_t n)
{
	runs_sent(tcp, tcp->snd_nxt, tcp->snd_nxt + n * MSS, (uint32_t)shard.now_us);
	tcp->snd_nxt += n * MSS;
}

/* An ACK that takes so many segments, and one SACK block, in segments from the left edge. */
static void ack(uint32_t n, uint32_t sack_from, uint32_t sack_to)
{
	struct tcp_header h = { .flags = TCP_ACK, .ack = tcp->snd_una + n * MSS };

	if (sack_to) {
		h.options.n_sack = 1;
		h.options.sack[0].start = tcp->snd_una + sack_from * MSS;
		h.options.sack[0].end = tcp->snd_una + sack_to * MSS;
	}
	tcp->snd_una += n * MSS;
	tcp_recovery_ack(&shard, &flow, &h, n * MSS);
}

/* Runs cover all that is in flight, in order, without gaps. */
static void check_runs(void)
{
	uint32_t at = tcp->snd_una;

	assert_true(tcp->n_runs <= TCP_RUNS);
	for (unsigned int i = 0; i < tcp->n_runs; i++) {
		assert_int_equal(tcp->runs[i].start, at);
		assert_true(SEQ_LT(at, tcp->runs[i].end));
		at = tcp->runs[i].end;
	}
	assert_int_equal(at, tcp->snd_nxt);
}

static void all_that_was_sent_is_in_flight(void **state)
{
	(void)state;
	send_segments(5);
	send_segments(3);
	check_runs();
	assert_int_equal(tcp->n_runs, 1);
	assert_int_equal(runs_in_flight(tcp), 8 * MSS);
}

static void an_ack_takes_from_the_front(void **state)
{
	(void)state;
	send_segments(5);
	shard.now_us += 5000;
	ack(2, 0, 0);
	check_runs();
	assert_int_equal(runs_in_flight(tcp), 3 * MSS);
	ack(3, 0, 0);
	assert_int_equal(tcp->n_runs, 0);
}

static void a_round_trip_is_measured(void **state)
{
	(void)state;
	send_segments(1);
	shard.now_us += 5000;
	ack(1, 0, 0);
	assert_int_equal(tcp->srtt_us, 5000);
	assert_int_equal(tcp->rttvar_us, 2500);
	assert_int_equal(tcp->min_rtt_us, 5000);
}

static void the_time_out_follows_rfc_6298(void **state)
{
	(void)state;
	tcp_rtt_sample(tcp, 100000);
	assert_int_equal(tcp->rto_us, 100000 + 4 * 50000);
	tcp_rtt_sample(tcp, 100000);
	assert_int_equal(tcp->srtt_us, 100000);
	assert_int_equal(tcp->rttvar_us, 37500);
	assert_int_equal(tcp->rto_us, 100000 + TCP_RTO_MIN_US);
}

static void no_round_trip_is_taken_from_what_was_resent(void **state)
{
	(void)state;
	send_segments(2);
	shard.now_us += 300000;
	time_out();
	runs_resent(tcp, tcp->snd_una, tcp->snd_una + MSS, (uint32_t)shard.now_us);
	shard.now_us += 1000;
	ack(2, 0, 0);
	assert_int_equal(tcp->srtt_us, 0);
}

static void a_sacked_run_is_not_in_flight(void **state)
{
	(void)state;
	send_segments(5);
	shard.now_us += 100;
	ack(0, 2, 3);
	check_runs();
	assert_int_equal(runs_in_flight(tcp), 4 * MSS);
}

static void what_is_below_a_sack_is_lost_after_a_while(void **state)
{
	(void)state;
	send_segments(5);
	shard.now_us += 10000;
	ack(0, 1, 5);
	assert_null(runs_next_lost(tcp));
	assert_true(tcp->reo_due_us > shard.now_us);
	shard.now_us = tcp->reo_due_us + 1;
	tcp_recovery_reorder(&shard, &flow);
	assert_non_null(runs_next_lost(tcp));
	assert_int_equal(runs_next_lost(tcp)->start, tcp->snd_una);
	assert_int_equal(runs_next_lost(tcp)->end, tcp->snd_una + MSS);
	assert_true(tcp_is(tcp, TCPB_RECOVERY));
}

static void a_time_out_marks_all_but_what_was_sacked(void **state)
{
	uint32_t rto;

	(void)state;
	send_segments(5);
	shard.now_us += 10;
	ack(0, 4, 5);
	rto = tcp->rto_us;
	time_out();
	check_runs();
	assert_int_equal(runs_next_lost(tcp)->end - runs_next_lost(tcp)->start, 4 * MSS);
	assert_int_equal(runs_in_flight(tcp), 0);
	assert_int_equal(tcp->rto_us, 2 * rto);
}

static void a_probe_takes_the_last_segment(void **state)
{
	(void)state;
	send_segments(5);
	probe();
	check_runs();
	assert_int_equal(runs_next_lost(tcp)->start, tcp->snd_nxt - MSS);
}

static void blocks_outside_the_flight_are_ignored(void **state)
{
	(void)state;
	send_segments(5);
	ack(0, 4, 9);
	check_runs();
	assert_int_equal(runs_in_flight(tcp), 5 * MSS);
}

static void many_holes_keep_the_board_in_order(void **state)
{
	(void)state;
	for (uint32_t i = 0; i < 100; i++) {
		send_segments(1);
		shard.now_us += 7;
	}
	for (uint32_t i = 1; i < 99; i += 2) {
		ack(0, i, i + 1);
		check_runs();
	}
	ack(50, 0, 0);
	check_runs();
	ack(50, 0, 0);
	assert_int_equal(tcp->n_runs, 0);
}

static void timers_rest_when_nothing_is_in_flight(void **state)
{
	(void)state;
	send_segments(1);
	tcp_recovery_timers(&shard, &flow);
	assert_true(tcp->rto_due_us > shard.now_us);
	ack(1, 0, 0);
	tcp_recovery_timers(&shard, &flow);
	assert_true(!tcp->rto_due_us && !tcp->tlp_due_us && !tcp->reo_due_us);
}

static void too_many_time_outs_give_up(void **state)
{
	(void)state;
	send_segments(1);
	for (int i = 0; i < TCP_RETRIES; i++)
		time_out();
	assert_false(tcp_is(tcp, TCPB_ABORT));
	assert_true(tcp->rto_us <= TCP_RTO_MAX_US);
	time_out();
	assert_true(tcp_is(tcp, TCPB_ABORT));
}

/* A round trip of so many microseconds in which all that the window lets go is acknowledged. */
static void full_round(uint32_t rtt_us)
{
	uint32_t n = tcp->cwnd / MSS;

	send_segments(n);
	shard.now_us += rtt_us;
	ack(n, 0, 0);
}

static void the_window_doubles_up_to_twice_the_guests(void **state)
{
	(void)state;
	tcp->cwnd = tcp_initial_window(tcp);
	full_round(100);
	assert_int_equal(tcp->cwnd, 20 * MSS);
	for (int i = 0; i < 10; i++)
		full_round(100);
	assert_int_equal(tcp->cwnd, 2 * tcp->snd_wnd_max);
}

static void a_window_that_is_not_used_does_not_grow(void **state)
{
	(void)state;
	tcp->cwnd = 20 * MSS;
	send_segments(5);
	ack(5, 0, 0);
	assert_int_equal(tcp->cwnd, 20 * MSS);
}

/* Loses the first of 100 segments, and repeats it. */
static void lose_one(uint32_t rtt_us)
{
	tcp->cwnd = 100 * MSS;
	send_segments(100);
	shard.now_us += rtt_us;
	ack(0, 1, 100);
	shard.now_us += 2 * rtt_us + 2000;
	tcp_recovery_reorder(&shard, &flow);
	assert_true(tcp_is(tcp, TCPB_RECOVERY));
	runs_resent(tcp, tcp->snd_una, tcp->snd_una + MSS, (uint32_t)shard.now_us);
	shard.now_us += rtt_us;
	ack(100, 0, 0);
	assert_false(tcp_is(tcp, TCPB_RECOVERY));
	tcp->cwnd = tcp->ssthresh = 70 * MSS;
}

static void after_a_loss_by_chance_the_window_doubles(void **state)
{
	(void)state;
	tcp_rtt_sample(tcp, 100);
	lose_one(200);
	full_round(200);
	assert_int_equal(tcp->cwnd, 140 * MSS);
}

static void after_a_long_queue_was_full_the_window_grows_slowly(void **state)
{
	uint32_t before;

	(void)state;
	tcp_rtt_sample(tcp, 500);
	for (int i = 0; i < 40; i++)
		tcp_rtt_sample(tcp, 50000);
	lose_one(50000);
	before = tcp->cwnd;
	full_round(50000);
	assert_in_range(tcp->cwnd, before + MSS / 2, before + 2 * MSS);
	tcp->cwnd = 10 * MSS; /* below what did fit: as after a time-out */
	full_round(50000);
	assert_int_equal(tcp->cwnd, 20 * MSS);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(all_that_was_sent_is_in_flight, make),
		cmocka_unit_test_setup(an_ack_takes_from_the_front, make),
		cmocka_unit_test_setup(a_round_trip_is_measured, make),
		cmocka_unit_test_setup(the_time_out_follows_rfc_6298, make),
		cmocka_unit_test_setup(no_round_trip_is_taken_from_what_was_resent, make),
		cmocka_unit_test_setup(a_sacked_run_is_not_in_flight, make),
		cmocka_unit_test_setup(what_is_below_a_sack_is_lost_after_a_while, make),
		cmocka_unit_test_setup(a_time_out_marks_all_but_what_was_sacked, make),
		cmocka_unit_test_setup(a_probe_takes_the_last_segment, make),
		cmocka_unit_test_setup(blocks_outside_the_flight_are_ignored, make),
		cmocka_unit_test_setup(many_holes_keep_the_board_in_order, make),
		cmocka_unit_test_setup(timers_rest_when_nothing_is_in_flight, make),
		cmocka_unit_test_setup(too_many_time_outs_give_up, make),
		cmocka_unit_test_setup(the_window_doubles_up_to_twice_the_guests, make),
		cmocka_unit_test_setup(a_window_that_is_not_used_does_not_grow, make),
		cmocka_unit_test_setup(after_a_loss_by_chance_the_window_doubles, make),
		cmocka_unit_test_setup(after_a_long_queue_was_full_the_window_grows_slowly, make),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
