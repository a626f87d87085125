/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The threads: how many shards, on which CPUs, and their start and end. Main thread.
 */
#pragma once

#include "taploom/runtime.h"
#include "taploom/tap.h"

#include <pthread.h>

struct threads {
	struct runtime *rt;
	struct transport *transport;
	pthread_t shards[MAX_SHARDS];
	unsigned int n_started;
	bool transport_started;
};

/*
 * The number of shards by the options, else the smallest of the CPU affinity, the control group's
 * CPU limit rounded up, and 8.
 */
unsigned int threads_count(const struct config *config);

/* Makes the shards and their pools; the transport has been made. 0 or -errno, logged. */
int threads_make(struct runtime *rt, struct transport *transport);

/* Starts the shards, then the transport; names and pins the calling thread as control. 0 or -errno,
 * logged. */
int threads_start(struct threads *threads, struct runtime *rt, struct transport *transport);

/* Ends the transport, then the shards. */
void threads_stop(struct threads *threads);

/* Frees the shards, which are at their end, and which no other thread will wake any more. */
void threads_free(struct threads *threads);
