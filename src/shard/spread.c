/* SPDX-License-Identifier: Apache-2.0 */
#include "shard_internal.h"

/* runtime.spreading: a period, and whether a flow is on its way. */
#define UNDER_WAY 1u

void spread_init(struct spread *spread)
{
	*spread = (struct spread){ 0 };
	list_init(&spread->busy);
}

void spread_init_flow(struct spread_flow *flow)
{
	*flow = (struct spread_flow){ 0 };
	list_init(&flow->link);
}

static uint32_t period_of(const struct spread *spread)
{
	return spread->half >> 1;
}

static void add(struct spread *spread, struct spread_flow *flow)
{
	list_append(&spread->busy, &flow->link);
	spread->n_busy++;
}

void spread_leave(struct spread *spread, struct spread_flow *flow)
{
	if (list_is_empty(&flow->link))
		return;
	list_remove(&flow->link);
	spread->n_busy--;
}

void spread_join(struct spread *spread, struct spread_flow *flow)
{
	if (flow->busy_period)
		add(spread, flow);
}

void spread_note(struct spread *spread, struct spread_flow *flow, uint32_t carried)
{
	uint32_t period = period_of(spread);

	if (flow->period != period) {
		flow->period = period;
		flow->begun = carried;
		return;
	}
	if (flow->busy_period == period || carried - flow->begun < SPREAD_BUSY)
		return;
	flow->busy_period = period;
	spread_leave(spread, flow);
	add(spread, flow);
}

unsigned int spread_target(const uint32_t *counts, unsigned int n, unsigned int own)
{
	unsigned int least = own;
	uint32_t more;

	for (unsigned int i = 0; i < n; i++)
		least = counts[i] < counts[least] ? i : least;
	more = counts[own] - counts[least];
	/* A difference of one only changes places, and of an eighth is hardly seen. */
	return more >= 2 && more * 8 > counts[own] ? least : own;
}

/* The count that a shard has shown; one that has not for long sleeps. */
static uint32_t shown_by(const struct shard *shard, uint32_t period)
{
	uint64_t shown = atomic_load_explicit(&shard->busy_shown, memory_order_relaxed);

	return period - (uint32_t)(shown >> 32) <= SPREAD_KEEPS ? (uint32_t)shown : 0;
}

/* Drops what has not been busy for long, and shows how many are. */
static void begin_period(struct shard *shard)
{
	struct spread *spread = &shard->spread;
	uint32_t period = period_of(spread);

	while (!list_is_empty(&spread->busy)) {
		struct spread_flow *flow = LIST_ENTRY(spread->busy.next, struct spread_flow, link);

		if (period - flow->busy_period <= SPREAD_KEEPS)
			break;
		flow->busy_period = 0;
		spread_leave(spread, flow);
	}
	atomic_store_explicit(&shard->busy_shown, (uint64_t)period << 32 | spread->n_busy,
			      memory_order_relaxed);
}

/* The shard that has clearly fewer than this one, and has had look after look; or this one. */
static unsigned int look(struct shard *shard)
{
	struct spread *spread = &shard->spread;
	const struct runtime *rt = shard->rt;
	unsigned int to = shard->id;
	uint32_t counts[MAX_SHARDS];

	if (spread->n_busy >= 2) {
		for (unsigned int i = 0; i < rt->n_shards; i++)
			counts[i] = shown_by(rt->shards[i], period_of(spread));
		counts[shard->id] = spread->n_busy;
		to = spread_target(counts, rt->n_shards, shard->id);
	}
	spread->looks = to == shard->id ? 0 : spread->looks + 1;
	return spread->looks < SPREAD_LOOKS ? shard->id : to;
}

/* Whether no other shard has a flow on its way, or had one in this period. */
static bool begin(struct shard *shard)
{
	uint64_t now = (uint64_t)period_of(&shard->spread) << 32;
	uint64_t last = atomic_load_explicit(&shard->rt->spreading, memory_order_relaxed);

	if (last & UNDER_WAY || last == now)
		return false;
	return atomic_compare_exchange_strong_explicit(&shard->rt->spreading, &last,
						       now | UNDER_WAY, memory_order_relaxed,
						       memory_order_relaxed);
}

void spread_done(struct shard *shard)
{
	atomic_store_explicit(&shard->rt->spreading, (uint64_t)period_of(&shard->spread) << 32,
			      memory_order_relaxed);
}

/* Offers the busy flow that may move and was found busy last. False: none may. */
static bool offer_one(struct shard *shard, unsigned int to)
{
	struct list *head = &shard->spread.busy;

	for (struct list *node = head->prev; node != head; node = node->prev) {
		struct flow *flow = LIST_ENTRY(node, struct flow, spread.link);

		if (shard->now_us < flow->spread.rests_until_us)
			continue;
		flow->spread.rests_until_us = shard->now_us + SPREAD_REST_US;
		return move_offer(shard, flow, to);
	}
	return false;
}

void spread_turn(struct shard *shard)
{
	struct spread *spread = &shard->spread;
	uint32_t half = (uint32_t)(shard->now_us >> SPREAD_HALF_SHIFT);
	bool is_new = half >> 1 != period_of(spread);
	unsigned int to;

	if (half == spread->half)
		return;
	spread->half = half;
	if (is_new)
		begin_period(shard);
	if (!(half & 1))
		return;
	to = look(shard);
	if (to != shard->id && begin(shard) && !offer_one(shard, to))
		spread_done(shard);
}
