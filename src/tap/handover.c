/* SPDX-License-Identifier: Apache-2.0 */
#include "handover.h"

#include <time.h>

/* What a reader may run itself: a wake-up costs about 10 us, and so does this much work. */
#define INLINE_FRAMES 32
#define INLINE_BYTES  (64u << 10)

/* For shards to do what was handed over: some milliseconds if all slabs are full. */
#define SETTLE_NAP_NS  50000
#define SETTLE_US      20000u
#define STEER_AGAIN_US 2000000u /* after shards that took longer */

void handover_init(struct handover *handover, struct runtime *rt, struct counters *counters,
		   bool (*is_idle)(const void *transport), const void *transport)
{
	*handover = (struct handover){
		.rt = rt, .counters = counters, .is_idle = is_idle, .transport = transport
	};
}

void handover_add(struct handover *handover, struct frame *frame)
{
	bool fixed = !steering_applies(frame->key.proto);
	unsigned int id = steer(handover->rt, frame->key.proto, frame->hash);
	struct batch *batch = &handover->batches[id];

	balance_note(&handover->balance, frame->hash, id, fixed, frame->len);
	if (!batch->n_frames)
		handover->touched[handover->n_touched++] = id;
	batch_add(batch, frame);
}

/* Runs a batch on the reader's own thread. False: the shard is at work. */
static bool run_in_place(struct handover *handover, struct shard *shard,
			 struct batch *batch) ON_READER
{
	uint32_t n_frames = batch->n_frames;

	if (!shard_try_enter(shard)) {
		count_add(handover->counters, COUNT_INLINE_BUSY, 1);
		return false;
	}
	role_is_shard();
	shard_drain_ring(shard, handover->ring); /* what was pushed before goes first */
	shard_run_batch(shard, batch);
	shard_leave(shard);
	count_add(handover->counters, COUNT_BATCHES_INLINE, 1);
	count_add(handover->counters, COUNT_FRAMES_INLINE, n_frames);
	return true;
}

static void push(struct handover *handover, struct shard *shard, struct batch *batch)
{
	uint32_t n_frames = batch->n_frames;

	/* A ring is longer than all slabs together can fill; but a frame must not get lost unseen.
	 */
	if (!ring_push(shard_ring(shard, handover->ring), batch)) {
		count_drop_n(handover->counters, DROP_RING_FULL, n_frames);
		batch_done(batch);
		return;
	}
	count_add(handover->counters, COUNT_BATCHES_RING, 1);
	count_add(handover->counters, COUNT_FRAMES_RING, n_frames);
	shard_wake(shard, handover->counters);
}

void handover_run(struct handover *handover, struct slab *slab, bool in_place)
{
	in_place = in_place && handover->n_touched == 1 && !handover->rt->config->inline_off;
	for (unsigned int i = 0; i < handover->n_touched; i++) {
		unsigned int id = handover->touched[i];
		struct shard *shard = handover->rt->shards[id];
		struct batch *batch = &handover->batches[id];

		slab_get(slab);
		batch->slab = slab;
		if (!in_place || batch->n_frames > INLINE_FRAMES || batch->bytes > INLINE_BYTES ||
		    !run_in_place(handover, shard, batch))
			push(handover, shard, batch);
		*batch = (struct batch){ 0 };
	}
	handover->n_touched = 0;
}

static uint64_t now_us(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

/* In this order: without frames nobody begins to ask for a flow. */
static bool is_settled(const struct handover *handover)
{
	return handover->is_idle(handover->transport) &&
	       atomic_load_explicit(&handover->rt->moving, memory_order_acquire) == 0;
}

bool handover_settle(struct handover *handover)
{
	const struct timespec nap = { .tv_nsec = SETTLE_NAP_NS };
	uint64_t end = now_us() + SETTLE_US;
	bool settled;

	rcu_thread_offline();
	while (!(settled = is_settled(handover)) && now_us() < end)
		nanosleep(&nap, NULL);
	rcu_thread_online();
	return settled;
}

/* On call_rcu's thread. */
static void give_back(struct rcu_head *head)
{
	struct steering *table =
		(struct steering *)(void *)((char *)head - offsetof(struct steering, reclaim));

	RCU_NOTE_RECLAIM(table);
	atomic_store_explicit(&table->in_use, false, memory_order_release);
	RCU_NOTE_DONE();
}

/* A table that nobody reads; NULL: the grace periods of all that were in use are not over. */
static struct steering *take_table(struct runtime *rt)
{
	for (unsigned int i = 0; i < STEERING_TABLES; i++) {
		if (!atomic_load_explicit(&rt->tables[i].in_use, memory_order_acquire))
			return &rt->tables[i];
	}
	return NULL;
}

bool handover_steer(struct handover *handover, const uint8_t shard[STEERING_BUCKETS])
{
	struct runtime *rt = handover->rt;
	struct steering *before = rt->steering_rcu, *table = take_table(rt);

	if (!table || !handover_settle(handover))
		return false;
	memcpy(table->shard, shard, sizeof(table->shard));
	atomic_store_explicit(&table->in_use, true, memory_order_relaxed);
	RCU_NOTE_PUBLISH(table);
	rcu_assign_pointer(rt->steering_rcu, table);
	call_rcu(&before->reclaim, give_back);
	return true;
}

void handover_balance(struct handover *handover)
{
	const struct steering *before = handover->rt->steering_rcu;
	struct balance *balance = &handover->balance;
	uint8_t shard[STEERING_BUCKETS];
	uint64_t now = now_us();
	unsigned int n;

	if (handover->rt->n_shards == 1 || !balance_is_due(balance, now))
		return;
	memcpy(shard, before->shard, sizeof(shard));
	n = balance_look(balance, shard, handover->rt->n_shards, now);
	if (!n)
		return;
	if (!handover_steer(handover, shard)) {
		balance->looked_us = now + STEER_AGAIN_US;
		return;
	}
	balance_moved(balance, before->shard, shard, now);
	count_add(handover->counters, COUNT_BUCKETS_MOVED, n);
}
