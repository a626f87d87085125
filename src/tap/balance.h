/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which buckets of the steering table should go to another shard. A reader notes what it steers;
 * now and then the means of the last looks are compared, and the busiest shard's buckets are given
 * to the least busy one, if that makes the busiest clearly less so. Only TCP moves: what else there
 * is counts as its shard's fixed load. Pure but for its own struct.
 */
#pragma once

#include "taploom/runtime.h"

#define BALANCE_PERIOD_US 250000u	  /* from one look to the next */
#define BALANCE_REST_US	  (2u * 1000000u) /* of a bucket after its first move; doubles with each */
#define BALANCE_RESTS_MAX 5u
#define BALANCE_FRAME_COST                                                                         \
	1024u /* of a frame, as so many bytes: acknowledgements are work as well */
/* Of a shard, per period: one with less to do is not busy. */
#define BALANCE_LEAST (1u << 20)

struct balance {
	uint64_t looked_us;
	uint64_t noted[STEERING_BUCKETS]; /* since the last look */
	uint64_t noted_fixed[MAX_SHARDS];
	uint64_t mean[STEERING_BUCKETS]; /* per period */
	uint64_t mean_fixed[MAX_SHARDS];
	uint64_t moved_us[STEERING_BUCKETS]; /* 0: never */
	uint8_t moves[STEERING_BUCKETS];
};

/* Notes a frame of len bytes that was steered to a shard; fixed: it does not go by the table. */
static inline void balance_note(struct balance *balance, uint32_t hash, unsigned int shard,
				bool fixed, uint32_t len)
{
	uint64_t *to =
		fixed ? &balance->noted_fixed[shard] : &balance->noted[hash % STEERING_BUCKETS];

	*to += len + BALANCE_FRAME_COST;
}

/* Whether it is time to look. */
static inline bool balance_is_due(const struct balance *balance, uint64_t now_us)
{
	return now_us >= balance->looked_us + BALANCE_PERIOD_US;
}

/*
 * Takes in what was noted since the last look, and changes table where that helps.
 *
 * table: a copy of the one in use, STEERING_BUCKETS numbers of shards.
 * Returns the number of buckets that go elsewhere; balance_moved() must follow if they do.
 */
unsigned int balance_look(struct balance *balance, uint8_t *table, unsigned int n_shards,
			  uint64_t now_us);

/* The table that balance_look() made is in use in the place of before. */
void balance_moved(struct balance *balance, const uint8_t *before, const uint8_t *table,
		   uint64_t now_us);
