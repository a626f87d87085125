/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a shard keeps for its spliced connections.
 */
#pragma once

#include "shard_internal.h"

#define PIPES_MAX  256 /* of a shard, those that flows hold included */
#define PIPES_KEPT 16  /* empty ones, for the next to need one */

#define STAGE_SPLICE 3 /* the stage of a way that reads through a pipe; below it through chunks */

struct splicer {
	/* Shared. */
	_Atomic bool refilled;	/* set by shard_ns_refilled(), taken by the shard */
	_Atomic uint32_t heavy; /* busy connections; written by the shard, read by others */

	/* The shard's. */
	struct splice_udp_area *udp; /* owned */
	struct list starved; /* flows that wait for a socket of the namespace, through touched */
	struct list ended;   /* entries that events of this turn may still name, through touched */
	int pipes[PIPES_KEPT][2];
	unsigned int n_pipes; /* empty ones */
	unsigned int n_pipes_made;
	uint64_t next_pipe_us; /* not before this is another one made */
};

void splice_pipes_free(struct splicer *splicer);
