/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Busy flows, spread over the shards. Where shards read queues themselves, the guest's kernel takes
 * a new connection to a queue by a hash, and by chance one shard gets many of those that carry much
 * and another few. So each shard counts its busy flows by periods, shows the count to the others,
 * and one that has clearly more than another, look after look, offers it a flow (move_offer()).
 *
 * A flow that carries much in one period is busy for some more, as a thread that gets no processor
 * for a while has flows that carry nothing. A look is in the second half of a period, when all that
 * are awake have shown their count at its beginning. One flow moves at a time in all of the
 * program, and at most one in a period: the next look is at counts that have the last move in them.
 * A flow that was offered then rests.
 */
#pragma once

#include "list.h"

#include <stdbool.h>
#include <stdint.h>

struct flow;
struct shard;

#define SPREAD_HALF_SHIFT 16		  /* 65.5 ms of microseconds: half a period */
#define SPREAD_BUSY	  (256u << 10)	  /* bytes, both ways, in a period: 16 Mbit/s */
#define SPREAD_KEEPS	  8u		  /* periods for which a flow stays busy */
#define SPREAD_REST_US	  (5u * 1000000u) /* of a flow that has moved, or was to */
#define SPREAD_LOOKS	  3u		  /* in a row that have found a shard with fewer */

/* A flow's part; its owner's alone. */
struct spread_flow {
	struct list link;     /* in spread->busy */
	uint32_t period;      /* in which it was last seen ... */
	uint32_t begun;	      /* ... and what it had carried then at first */
	uint32_t busy_period; /* in which it last carried much; 0: in none */
	uint64_t rests_until_us;
};

/* A shard's part; of whoever is inside. */
struct spread {
	uint32_t half;	  /* the present half period, by number */
	uint32_t looks;	  /* in a row that have found a shard with fewer */
	struct list busy; /* struct spread_flow; the last that was found busy is the last */
	uint32_t n_busy;
};

void spread_init(struct spread *spread);
void spread_init_flow(struct spread_flow *flow);

/*
 * Counts a flow as busy if it has carried much.
 *
 * carried: bytes in all, of both directions; modulo 2^32.
 */
void spread_note(struct spread *spread, struct spread_flow *flow, uint32_t carried);

/* A flow leaves the shard, or ends; and has come from another. */
void spread_leave(struct spread *spread, struct spread_flow *flow);
void spread_join(struct spread *spread, struct spread_flow *flow);

/*
 * Where a shard should send one of its busy flows: to that which has fewest, if that are clearly
 * fewer.
 *
 * counts: of busy flows, by shard; n of them.
 * Returns the shard's number; own if it should keep what it has.
 */
unsigned int spread_target(const uint32_t *counts, unsigned int n, unsigned int own);

/* Once a turn: shows the count when a period begins, and offers a flow if it is time. */
void spread_turn(struct shard *shard);

/* What move_offer() has begun is at its end, however that was: others may begin. */
void spread_done(struct shard *shard);
