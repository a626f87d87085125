/* SPDX-License-Identifier: Apache-2.0 */
#include "balance.h"

#define MOVES_MAX 64u		      /* in one look */
#define FORGET_US (128u * 1000000ull) /* after which a bucket's moves don't count any more */
#define LONG_AGO  16u		      /* periods: older means say nothing */

/* Mean of what was and what is, per period. */
static void take_in(uint64_t *mean, uint64_t *noted, uint64_t periods_256)
{
	uint64_t now = *noted * 256 / periods_256;

	*mean = periods_256 > LONG_AGO * 256 ? now : (*mean + now) / 2;
	*noted = 0;
}

static void take_all_in(struct balance *balance, uint64_t now_us)
{
	uint64_t periods_256 = (now_us - balance->looked_us) * 256 / BALANCE_PERIOD_US;

	for (unsigned int b = 0; b < STEERING_BUCKETS; b++)
		take_in(&balance->mean[b], &balance->noted[b], periods_256);
	for (unsigned int i = 0; i < MAX_SHARDS; i++)
		take_in(&balance->mean_fixed[i], &balance->noted_fixed[i], periods_256);
	balance->looked_us = now_us;
}

/* A bucket that was moved stays, each time for longer: loads that change must not send it to and
 * fro. */
static bool rests(const struct balance *balance, unsigned int bucket, uint64_t now_us)
{
	unsigned int moves = balance->moves[bucket];

	return moves && now_us - balance->moved_us[bucket] < (uint64_t)BALANCE_REST_US
								     << (moves - 1);
}

/* What the busier of the two would have to do if a bucket went from one to the other. */
static uint64_t busier_after(uint64_t from, uint64_t to, uint64_t load)
{
	return from - load > to + load ? from - load : to + load;
}

/* The bucket of the busier shard whose move helps most; STEERING_BUCKETS: none does. */
static unsigned int best_bucket(const struct balance *balance, const uint8_t *table,
				const uint64_t *loads, unsigned int from, unsigned int to,
				uint64_t now_us)
{
	uint64_t least = loads[from];
	unsigned int best = STEERING_BUCKETS;

	for (unsigned int b = 0; b < STEERING_BUCKETS; b++) {
		uint64_t after;

		if (table[b] != from || !balance->mean[b] || rests(balance, b, now_us))
			continue;
		after = busier_after(loads[from], loads[to], balance->mean[b]);
		if (after < least) {
			least = after;
			best = b;
		}
	}
	return best;
}

static void add_up(const struct balance *balance, const uint8_t *table, uint64_t *loads,
		   unsigned int n_shards)
{
	for (unsigned int i = 0; i < n_shards; i++)
		loads[i] = balance->mean_fixed[i];
	for (unsigned int b = 0; b < STEERING_BUCKETS; b++)
		loads[table[b]] += balance->mean[b];
}

static unsigned int busiest(const uint64_t *loads, unsigned int n_shards)
{
	unsigned int at = 0;

	for (unsigned int i = 1; i < n_shards; i++)
		at = loads[i] > loads[at] ? i : at;
	return at;
}

static unsigned int least_busy(const uint64_t *loads, unsigned int n_shards)
{
	unsigned int at = 0;

	for (unsigned int i = 1; i < n_shards; i++)
		at = loads[i] < loads[at] ? i : at;
	return at;
}

/* Moves one bucket. False: nothing helps. */
static bool move_one(const struct balance *balance, uint8_t *table, uint64_t *loads,
		     unsigned int n_shards, uint64_t now_us)
{
	unsigned int from = busiest(loads, n_shards), to = least_busy(loads, n_shards);
	unsigned int bucket = best_bucket(balance, table, loads, from, to, now_us);

	if (bucket == STEERING_BUCKETS)
		return false;
	loads[from] -= balance->mean[bucket];
	loads[to] += balance->mean[bucket];
	table[bucket] = (uint8_t)to;
	return true;
}

unsigned int balance_look(struct balance *balance, uint8_t *table, unsigned int n_shards,
			  uint64_t now_us)
{
	uint64_t loads[MAX_SHARDS], most;
	uint8_t better[STEERING_BUCKETS];
	unsigned int n = 0;

	take_all_in(balance, now_us);
	add_up(balance, table, loads, n_shards);
	most = loads[busiest(loads, n_shards)];
	if (most < BALANCE_LEAST)
		return 0;
	memcpy(better, table, sizeof(better));
	while (n < MOVES_MAX && move_one(balance, better, loads, n_shards, now_us))
		n++;
	/* Less is not worth a move: it may be chance. */
	if (loads[busiest(loads, n_shards)] > most - most / 8)
		return 0;
	memcpy(table, better, sizeof(better));
	return n;
}

void balance_moved(struct balance *balance, const uint8_t *before, const uint8_t *table,
		   uint64_t now_us)
{
	for (unsigned int b = 0; b < STEERING_BUCKETS; b++) {
		if (before[b] == table[b])
			continue;
		if (now_us - balance->moved_us[b] > FORGET_US)
			balance->moves[b] = 0;
		balance->moved_us[b] = now_us;
		if (balance->moves[b] < BALANCE_RESTS_MAX)
			balance->moves[b]++;
	}
}
