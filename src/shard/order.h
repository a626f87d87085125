/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The order of accepted connections. Shards accept side by side, and each tells the guest of its
 * own connections in its own time. Programs tell the connections of one client apart by the order
 * in which accept() gives them, so that order is kept: a connection waits for the one that the same
 * client made before it, while that is being made known to the guest; but never for long, and not
 * where many are under way.
 */
#pragma once

#include "taploom/addr.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct flow;
struct listener;
struct shard;

#define ORDERS	      64     /* listeners share them, as there may be very many */
#define ORDER_PLACES  8	     /* connections under way; further ones go at once */
#define ORDER_WAIT_US 10000u /* the longest that one waits for another */

/* And all of so long: where as many are made side by side there is no order. */
#define ORDER_CROWDED_US 1000000u

/* What waits for a connection. */
struct order_waiter {
	const struct flow *flow; /* NULL: nothing does. Compared, never followed */
	uint32_t number;
	unsigned int shard; /* its owner */
};

/* A connection under way. */
struct order_place {
	const struct listener *listener; /* compared */
	struct ip_addr client;
	uint32_t number;   /* 0: the place is free */
	uint64_t until_us; /* from then on it is free, too */
	struct order_waiter waiter;
};

/* Of some listeners. It stays as long as flows may name it. */
struct order {
	pthread_mutex_t lock; /* held while a connection is accepted that may take a place */
	_Atomic uint64_t crowded_until_us; /* written under the lock; relaxed, a hint */
	uint32_t last;			   /* number given; under the lock, as the places */
	struct order_place places[ORDER_PLACES];
};

/* What a flow knows of its place. */
struct ticket {
	struct order *order;
	uint32_t number; /* 0: it has no place (any more), and waits for nobody */
	uint32_t behind; /* the number of the one before it; 0: none */
};

/* Whether no places are given now; then the lock is not needed. */
static inline bool order_is_crowded(const struct order *order, uint64_t now_us)
{
	return atomic_load_explicit(&order->crowded_until_us, memory_order_relaxed) > now_us;
}

/* ORDERS of them; NULL without memory. */
struct order *orders_new(void);
void orders_free(struct order *orders);

/* Gives a connection of a client a place, unless there is a crowd; the lock is held. */
void order_take(struct order *order, const struct listener *listener, const struct ip_addr *client,
		uint64_t now_us, struct ticket *ticket);

/* Begins a flow of this shard towards the guest, now or, if it has to wait for another, with
 * order_go() or its timer. */
void order_enter(struct shard *shard, struct flow *flow);

/* Begins it now: it was held, and its time is over. */
void order_begin(struct shard *shard, struct flow *flow);

/* The guest knows of the connection, or never will: what waits for it goes on. */
void order_done(struct shard *shard, struct flow *flow);

/* Begins a flow that may be held by this shard. */
void order_go(struct shard *shard, const struct flow *flow, uint32_t number);
