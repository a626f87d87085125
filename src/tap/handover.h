/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How a reader gets frames to the shards: sorted by the steering table into one batch per shard,
 * run in place where that is allowed, else pushed into the shard's ring. It also moves buckets of
 * the table by load (balance.h).
 *
 * Order: whatever the reader does, the frames of a flow are run in the order in which they were
 * read. Rings keep it, who runs a batch in place drains the ring first, and the table only changes
 * while nothing that was steered by it is under way: no slab is held, and no flow was asked for.
 */
#pragma once

#include "balance.h"

#include "taploom/shard.h"

struct handover {
	struct runtime *rt;
	struct counters *counters; /* the reader's */
	unsigned int ring;	   /* the reader's number */
	/* Whether no batch of what was read is under way. */
	bool (*is_idle)(const void *transport);
	const void *transport;
	struct batch batches[MAX_SHARDS];
	unsigned int touched[MAX_SHARDS]; /* shards whose batch is not empty */
	unsigned int n_touched;
	struct balance balance;
};

void handover_init(struct handover *handover, struct runtime *rt, struct counters *counters,
		   bool (*is_idle)(const void *transport), const void *transport);

/* Puts a frame into its shard's batch. */
void handover_add(struct handover *handover, struct frame *frame) ON_READER;

/*
 * Hands the batches over, each with a reference of its own to the slab that their frames are in.
 * in_place: the read left nothing waiting, so that the reader may do some of the work itself.
 */
void handover_run(struct handover *handover, struct slab *slab, bool in_place) ON_READER;

/* Between two turns: moves buckets if it is time to and if that helps. Nothing that RCU protects
 * may be held. */
void handover_balance(struct handover *handover) ON_READER;

/* Puts another table in the place of the present one, in order behind all that was read. False:
 * what is under way did not come to its end in time, or the tables before are still read. */
bool handover_steer(struct handover *handover, const uint8_t shard[STEERING_BUCKETS]) ON_READER;

/* Waits, for a bounded time, until nothing that was handed over is under way. Offline meanwhile.
 * Whether it came to that. */
bool handover_settle(struct handover *handover) ON_READER;
