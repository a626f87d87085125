/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Batch ring: carries batches from one producer (a tap reader or a shard) to one shard without a
 * lock. The producer owns the head, the consumer the tail; each word has its cache line. A ring has
 * more entries than there are slabs that can be under way, so that a batch of frames always fits,
 * and so does an answer; a flow, a question for one, and the end of a wait are refused when less
 * than half of the ring is free.
 */
#pragma once

#include "taploom/frame.h"

#define RING_SIZE  2048u /* entries; a power of two */
#define CACHE_LINE 64

struct ring {
	_Alignas(CACHE_LINE) _Atomic uint32_t
		head; /* release in ring_push(), acquire in ring_pop() */
	_Alignas(CACHE_LINE) _Atomic uint32_t
		tail; /* release in ring_pop(), acquire in ring_push() */
	_Alignas(CACHE_LINE) struct batch entries[RING_SIZE];
};

static inline uint32_t ring_used(const struct ring *ring)
{
	return atomic_load_explicit(&ring->head, memory_order_acquire) -
	       atomic_load_explicit(&ring->tail, memory_order_acquire);
}

static inline bool ring_is_empty(const struct ring *ring)
{
	return ring_used(ring) == 0;
}

/* Appends a batch; its slab reference goes with it. The producer only. False if there is no room.
 */
static inline bool ring_push(struct ring *ring, const struct batch *batch)
{
	uint32_t head = atomic_load_explicit(&ring->head, memory_order_relaxed);
	uint32_t used = head - atomic_load_explicit(&ring->tail, memory_order_acquire);

	bool may_wait = batch->kind == BATCH_GIVE || batch->kind == BATCH_ASK ||
			batch->kind == BATCH_OFFER || batch->kind == BATCH_GO;

	if (used >= (may_wait ? RING_SIZE / 2 : RING_SIZE))
		return false;
	ring->entries[head & (RING_SIZE - 1)] = *batch;
	atomic_store_explicit(&ring->head, head + 1, memory_order_release);
	return true;
}

/* Takes the oldest batch, and its slab reference. The consumer only. False if the ring is empty. */
static inline bool ring_pop(struct ring *ring, struct batch *batch)
{
	uint32_t tail = atomic_load_explicit(&ring->tail, memory_order_relaxed);

	if (atomic_load_explicit(&ring->head, memory_order_acquire) == tail)
		return false;
	*batch = ring->entries[tail & (RING_SIZE - 1)];
	atomic_store_explicit(&ring->tail, tail + 1, memory_order_release);
	return true;
}
