/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which flows a shard offers to which other, with shards that only count, and moves that succeed at
 * once.
 */
#include "shard_internal.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#define SHARDS	  4
#define FLOWS	  64
#define PERIOD_US (2u << SPREAD_HALF_SHIFT)
#define MUCH	  (10 * SPREAD_BUSY)

struct world {
	struct config config;
	struct runtime rt;
	struct shard *shards[SHARDS];
	struct flow flows[FLOWS];
	uint32_t carried[FLOWS];
	unsigned int n_flows;
	uint64_t now_us;
	unsigned int offers;
	bool refuses;	 /* no flow may move */
	bool never_ends; /* what was begun stays under way */
	bool sleeps[SHARDS];
};

static struct world *w;

bool move_offer(struct shard *shard, struct flow *flow, unsigned int to)
{
	if (w->refuses)
		return false;
	w->offers++;
	if (w->never_ends)
		return true;
	spread_leave(&shard->spread, &flow->spread);
	atomic_store(&flow->owner, (uint16_t)to);
	spread_join(&w->shards[to]->spread, &flow->spread);
	spread_done(shard);
	return true;
}

static int setup(void **state)
{
	(void)state;
	w = calloc(1, sizeof(*w));
	w->rt = (struct runtime){ .config = &w->config, .n_shards = SHARDS };
	w->now_us = 1000ull * PERIOD_US;
	for (unsigned int i = 0; i < SHARDS; i++) {
		w->shards[i] = calloc(1, sizeof(struct shard));
		w->shards[i]->rt = &w->rt;
		w->shards[i]->id = i;
		spread_init(&w->shards[i]->spread);
		w->rt.shards[i] = w->shards[i];
	}
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	for (unsigned int i = 0; i < SHARDS; i++)
		free(w->shards[i]);
	free(w);
	return 0;
}

static void add_flows(unsigned int shard, unsigned int n)
{
	for (unsigned int i = 0; i < n; i++) {
		struct flow *flow = &w->flows[w->n_flows++];

		spread_init_flow(&flow->spread);
		atomic_store(&flow->owner, (uint16_t)shard);
	}
}

static void turn_all(void)
{
	for (unsigned int i = 0; i < SHARDS; i++) {
		w->shards[i]->now_us = w->now_us;
		if (!w->sleeps[i])
			spread_turn(w->shards[i]);
	}
}

static void run_flow(unsigned int i, uint32_t bytes)
{
	struct flow *flow = &w->flows[i];

	w->carried[i] += bytes;
	spread_note(&w->shards[flow->owner]->spread, &flow->spread, w->carried[i]);
}

/* A period in which flows from..to each carry so much. */
static void pass(unsigned int from, unsigned int to, uint32_t bytes)
{
	for (unsigned int half = 0; half < 2; half++) {
		w->now_us += PERIOD_US / 2;
		turn_all();
		for (unsigned int i = from; i < to; i++) {
			run_flow(i, 0);
			run_flow(i, bytes / 2);
		}
	}
}

static void pass_all(unsigned int periods, uint32_t bytes)
{
	while (periods--)
		pass(0, w->n_flows, bytes);
}

static unsigned int flows_of(unsigned int shard)
{
	unsigned int n = 0;

	for (unsigned int i = 0; i < w->n_flows; i++)
		n += w->flows[i].owner == shard;
	return n;
}

static void flows_of_one_shard_spread_over_all(void **state)
{
	(void)state;
	add_flows(2, 16);
	pass_all(40, MUCH);
	for (unsigned int i = 0; i < SHARDS; i++)
		assert_int_equal(flows_of(i), 4);
	assert_int_equal(w->offers, 12);
}

static void two_flows_of_one_shard_part(void **state)
{
	(void)state;
	add_flows(1, 2);
	pass_all(10, MUCH);
	assert_int_equal(flows_of(1), 1);
}

static void flows_that_are_spread_evenly_never_move(void **state)
{
	(void)state;
	for (unsigned int i = 0; i < SHARDS; i++)
		add_flows(i, 4);
	pass_all(1000, MUCH);
	assert_int_equal(w->offers, 0);
}

static void a_difference_of_one_moves_nothing(void **state)
{
	(void)state;
	add_flows(0, 2);
	for (unsigned int i = 1; i < SHARDS; i++)
		add_flows(i, 1);
	pass_all(100, MUCH);
	assert_int_equal(w->offers, 0);
}

static void a_difference_of_an_eighth_moves_nothing(void **state)
{
	(void)state;
	add_flows(0, 16);
	for (unsigned int i = 1; i < SHARDS; i++)
		add_flows(i, 14);
	pass_all(100, MUCH);
	assert_int_equal(w->offers, 0);
}

static void flows_that_carry_little_never_move(void **state)
{
	(void)state;
	add_flows(0, 16);
	pass_all(100, SPREAD_BUSY / 2);
	assert_int_equal(w->offers, 0);
}

/* A thread that gets no processor for a while has flows that carry nothing. */
static void a_flow_stays_busy_for_some_periods(void **state)
{
	(void)state;
	add_flows(0, 1);
	pass_all(1, MUCH);
	pass_all(SPREAD_KEEPS, 0);
	assert_int_equal(w->shards[0]->spread.n_busy, 1);
	pass_all(1, 0);
	assert_int_equal(w->shards[0]->spread.n_busy, 0);
	pass_all(1, MUCH);
	assert_int_equal(w->shards[0]->spread.n_busy, 1);
}

static void flows_that_end_soon_move_nothing(void **state)
{
	(void)state;
	for (unsigned int i = 0; i < 8; i++) {
		unsigned int first = w->n_flows;

		add_flows(0, 8);
		for (unsigned int k = 1; k < SPREAD_LOOKS; k++)
			pass(first, first + 8, MUCH);
		for (unsigned int k = first; k < first + 8; k++)
			spread_leave(&w->shards[0]->spread, &w->flows[k].spread);
		pass_all(1, 0);
	}
	assert_int_equal(w->offers, 0);
}

/* What a shard has shown stands while its thread gets no processor. */
static void a_shard_that_is_late_is_not_taken_for_idle(void **state)
{
	(void)state;
	w->rt.n_shards = 2;
	add_flows(0, 4);
	add_flows(1, 4);
	pass_all(3, MUCH);
	w->sleeps[1] = true;
	for (unsigned int i = 0; i < SPREAD_KEEPS; i++)
		pass(0, 4, MUCH);
	assert_int_equal(w->offers, 0);
	for (unsigned int i = 0; i <= SPREAD_LOOKS; i++)
		pass(0, 4, MUCH);
	assert_int_equal(w->offers, 1);
}

static void one_flow_moves_in_a_period_in_all_of_the_program(void **state)
{
	unsigned int before;

	(void)state;
	for (unsigned int i = 0; i < 3; i++)
		add_flows(i, 8);
	for (unsigned int i = 0; i < 50; i++) {
		before = w->offers;
		pass_all(1, MUCH);
		assert_in_range(w->offers - before, 0, 1);
	}
	for (unsigned int i = 0; i < SHARDS; i++)
		assert_int_equal(flows_of(i), 6);
}

static void nothing_is_offered_while_a_flow_is_under_way(void **state)
{
	(void)state;
	add_flows(0, 16);
	w->never_ends = true;
	pass_all(100, MUCH);
	assert_int_equal(w->offers, 1);
}

static void what_cannot_move_is_tried_anew_only_after_a_rest(void **state)
{
	(void)state;
	add_flows(0, 4);
	w->refuses = true;
	pass_all(10, MUCH);
	w->refuses = false;
	pass_all(10, MUCH);
	assert_int_equal(w->offers, 0);
	pass_all(SPREAD_REST_US / PERIOD_US, MUCH);
	assert_int_equal(flows_of(0), 1);
}

/* The load changes its side: flows that have moved are not sent back at once. */
static void a_flow_that_has_moved_stays(void **state)
{
	(void)state;
	w->rt.n_shards = 2;
	add_flows(0, 4);
	pass_all(10, MUCH);
	assert_int_equal(flows_of(1), 2);
	assert_int_equal(w->flows[2].owner, 1);
	assert_int_equal(w->flows[3].owner, 1);
	for (unsigned int i = 0; i < 20; i++) /* 2.6 s, in which the others are silent */
		pass(2, 4, MUCH);
	assert_int_equal(w->offers, 2);
	for (unsigned int i = 0; i < SPREAD_REST_US / PERIOD_US; i++)
		pass(2, 4, MUCH);
	assert_int_equal(w->offers, 3);
}

static void a_shard_that_sleeps_has_no_busy_flow(void **state)
{
	(void)state;
	w->rt.n_shards = 2;
	add_flows(0, 2);
	w->sleeps[1] = true;
	pass_all(10, MUCH);
	assert_int_equal(flows_of(1), 1);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(flows_of_one_shard_spread_over_all),
		TEST(two_flows_of_one_shard_part),
		TEST(flows_that_are_spread_evenly_never_move),
		TEST(a_difference_of_one_moves_nothing),
		TEST(a_difference_of_an_eighth_moves_nothing),
		TEST(flows_that_carry_little_never_move),
		TEST(a_flow_stays_busy_for_some_periods),
		TEST(flows_that_end_soon_move_nothing),
		TEST(a_shard_that_is_late_is_not_taken_for_idle),
		TEST(one_flow_moves_in_a_period_in_all_of_the_program),
		TEST(nothing_is_offered_while_a_flow_is_under_way),
		TEST(what_cannot_move_is_tried_anew_only_after_a_rest),
		TEST(a_flow_that_has_moved_stays),
		TEST(a_shard_that_sleeps_has_no_busy_flow),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
