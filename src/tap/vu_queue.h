/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One virtqueue of a vhost-user device: its ring, its descriptors and the lock of whoever works on
 * it.
 *
 * Even indices carry frames to the guest (its receive queues), odd ones frames from it. The lock of
 * a queue to the guest is held by a transmit batch from its first frame to its flush; that of a
 * queue from the guest only while chains are taken or given back, so that it may be taken with one
 * of the others held, never the other way round.
 *
 * Before the control-socket thread changes anything that a ring depends on it holds the queue
 * still: nobody takes a chain any more, and it waits until all that were taken are back. No lock is
 * kept meanwhile.
 */
#pragma once

#include "vring.h"

#include "taploom/config.h"
#include "taploom/counters.h"

#include <pthread.h>

struct vu_slab;

#define VU_RINGS (2 * MAX_QUEUES)

struct vu_queue {
	pthread_mutex_t lock;
	pthread_cond_t idle; /* slabs_out came to 0 while somebody holds the queue still */

	/* Under the lock; changed by the control-socket thread alone, but ring. */
	struct vring ring;
	bool running;	   /* the ring is set up and started */
	bool enabled;	   /* SET_VRING_ENABLE */
	bool held;	   /* held still */
	uint64_t features; /* as negotiated when the ring started */
	int call_fd;	   /* owned, -1: none; so are the others */
	int err_fd;

	/* Under the lock; written by whoever works on the ring. */
	unsigned int slabs_out;
	struct vu_slab *free_slabs;
	struct vu_slab *oldest; /* of those that are out, in the order in which they were taken */
	struct vu_slab *newest;
	bool starved;	    /* the reader found no free slab and waits for one */
	uint64_t waiters;   /* shards whose batch found the ring empty: bit i is shard i */
	bool control_waits; /* likewise, the control thread */

	/* The control-socket thread's alone. */
	uint16_t index;
	int kick_fd;
	uint32_t num;
	uint32_t base;
	struct vu_vring_addr addr;
	bool addr_set;
};

/* 0 or -errno. */
int vu_queue_init(struct vu_queue *queue, uint16_t index);
void vu_queue_destroy(struct vu_queue *queue);

static inline bool vu_queue_from_guest(const struct vu_queue *queue)
{
	return queue->index & 1;
}

/* Whether chains may be taken. With the lock held. */
static inline bool vu_queue_usable(const struct vu_queue *queue)
{
	return !queue->held && queue->running && !queue->ring.broken;
}

/* Holds the queue still and waits until nothing of it is out. The control-socket thread only. */
void vu_queue_hold(struct vu_queue *queue);
void vu_queue_resume(struct vu_queue *queue);

/* A slab of this queue is back; with the lock held. */
void vu_queue_slab_back(struct vu_queue *queue);

/* Signals the guest, if it wants that, for what was published. With the lock held. Returns whether
 * a call was made. */
bool vu_queue_call(struct vu_queue *queue);

/* Tells the front-end that the ring lies, by the ring's error descriptor. With the lock held. */
void vu_queue_signal_error(struct vu_queue *queue);

/* Adds to an eventfd; a full one is as good. */
void vu_eventfd_add(int fd);

/* Closes a descriptor, if there is one, and notes that there is none. */
void vu_close_fd(int *fd);
