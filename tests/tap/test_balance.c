/* SPDX-License-Identifier: Apache-2.0 */
#include "balance.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#define SHARDS 4
#define BUSY   (4u << 20) /* bytes of a bucket per period */

static struct balance balance;
static uint8_t table[STEERING_BUCKETS];
static uint64_t now_us;

static int setup(void **state)
{
	(void)state;
	balance = (struct balance){ 0 };
	now_us = 1000000000;
	balance.looked_us = now_us;
	for (unsigned int b = 0; b < STEERING_BUCKETS; b++)
		table[b] = (uint8_t)(b % SHARDS);
	return 0;
}

static void load(unsigned int bucket, uint32_t bytes)
{
	balance_note(&balance, bucket, table[bucket], false, bytes);
}

/* Lets a period pass and looks. Returns the number of buckets that have moved. */
static unsigned int look(void)
{
	uint8_t before[STEERING_BUCKETS];
	unsigned int n;

	memcpy(before, table, sizeof(before));
	now_us += BALANCE_PERIOD_US;
	assert_true(balance_is_due(&balance, now_us));
	n = balance_look(&balance, table, SHARDS, now_us);
	balance_moved(&balance, before, table, now_us);
	return n;
}

/* How many shards have one of the buckets 0, 4, 8 and 12, which begin at shard 0. */
static unsigned int spread(void)
{
	unsigned int seen = 0;

	for (unsigned int b = 0; b < 16; b += SHARDS)
		seen |= 1u << table[b];
	return (unsigned int)__builtin_popcount(seen);
}

static void four_busy_buckets_of_one_shard_spread_over_all(void **state)
{
	(void)state;
	for (unsigned int i = 0; i < 4; i++) {
		for (unsigned int b = 0; b < 16; b += SHARDS)
			load(b, BUSY);
		look();
	}
	assert_int_equal(spread(), SHARDS);
}

static void a_single_busy_bucket_stays_where_it_is(void **state)
{
	(void)state;
	for (unsigned int i = 0; i < 40; i++) {
		load(4, BUSY);
		assert_int_equal(look(), 0);
	}
}

static void equal_loads_stay_where_they_are(void **state)
{
	(void)state;
	for (unsigned int i = 0; i < 40; i++) {
		for (unsigned int b = 0; b < STEERING_BUCKETS; b++)
			load(b, BUSY / 16 + (b * 7919 + i * 104729) % (BUSY / 64));
		assert_int_equal(look(), 0);
	}
}

static void little_to_do_moves_nothing(void **state)
{
	(void)state;
	for (unsigned int i = 0; i < 40; i++) {
		for (unsigned int b = 0; b < 16; b += SHARDS)
			load(b, BALANCE_LEAST / 8);
		assert_int_equal(look(), 0);
	}
}

static void a_shard_that_is_busy_with_what_cannot_move_sheds_the_rest(void **state)
{
	(void)state;
	for (unsigned int i = 0; i < 4; i++) {
		balance_note(&balance, 0, 0, true, 4 * BUSY);
		load(4, BUSY);
		look();
	}
	assert_int_not_equal(table[4], 0);
}

static void many_small_buckets_and_a_busy_one_part(void **state)
{
	unsigned int left = 0;

	(void)state;
	for (unsigned int i = 0; i < 8; i++) {
		load(0, BUSY);
		for (unsigned int b = SHARDS; b < STEERING_BUCKETS; b += SHARDS)
			load(b, BUSY / 64);
		look();
	}
	for (unsigned int b = SHARDS; b < STEERING_BUCKETS; b += SHARDS)
		left += table[b] == table[0];
	assert_in_range(left, 0, 8);
}

static void loads_that_change_about_move_each_bucket_rarely(void **state)
{
	unsigned int n = 0;

	(void)state;
	/* Two minutes in which two of three buckets are busy, never the same for long. */
	for (unsigned int i = 0; i < 480; i++) {
		for (unsigned int b = 0; b < 3; b++)
			load(b * SHARDS, i / 8 % 3 == b ? BUSY / 64 : BUSY);
		n += look();
	}
	assert_in_range(n, 1, 3 * (BALANCE_RESTS_MAX + 2));
}

static void what_was_long_ago_does_not_count(void **state)
{
	(void)state;
	for (unsigned int b = 0; b < 16; b += SHARDS)
		load(b, BUSY);
	now_us += 600ull * 1000000; /* the same bytes, in ten minutes */
	assert_int_equal(look(), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(four_busy_buckets_of_one_shard_spread_over_all, setup),
		cmocka_unit_test_setup(a_single_busy_bucket_stays_where_it_is, setup),
		cmocka_unit_test_setup(equal_loads_stay_where_they_are, setup),
		cmocka_unit_test_setup(little_to_do_moves_nothing, setup),
		cmocka_unit_test_setup(a_shard_that_is_busy_with_what_cannot_move_sheds_the_rest,
				       setup),
		cmocka_unit_test_setup(many_small_buckets_and_a_busy_one_part, setup),
		cmocka_unit_test_setup(loads_that_change_about_move_each_bucket_rarely, setup),
		cmocka_unit_test_setup(what_was_long_ago_does_not_count, setup),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
