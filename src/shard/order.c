/* SPDX-License-Identifier: Apache-2.0 */
#include "order.h"

#include "shard_internal.h"

#include <stdlib.h>

struct order *orders_new(void)
{
	struct order *orders = calloc(ORDERS, sizeof(*orders));

	for (unsigned int i = 0; orders && i < ORDERS; i++)
		pthread_mutex_init(&orders[i].lock, NULL);
	return orders;
}

void orders_free(struct order *orders)
{
	for (unsigned int i = 0; orders && i < ORDERS; i++)
		pthread_mutex_destroy(&orders[i].lock);
	free(orders);
}

static bool is_pending(const struct order_place *place, uint64_t now_us)
{
	return place->number && place->until_us > now_us;
}

void order_take(struct order *order, const struct listener *listener, const struct ip_addr *client,
		uint64_t now_us, struct ticket *ticket)
{
	struct order_place *free_one = NULL;
	uint32_t behind = 0;

	if (order_is_crowded(order, now_us))
		return;
	for (unsigned int i = 0; i < ORDER_PLACES; i++) {
		struct order_place *place = &order->places[i];

		if (!is_pending(place, now_us))
			free_one = place;
		else if (place->listener == listener && ip_eq(&place->client, client) &&
			 (!behind || (int32_t)(place->number - behind) > 0))
			behind = place->number;
	}
	if (!free_one) {
		atomic_store_explicit(&order->crowded_until_us, now_us + ORDER_CROWDED_US,
				      memory_order_relaxed);
		return;
	}
	if (++order->last == 0)
		order->last = 1;
	*free_one = (struct order_place){ .listener = listener,
					  .client = *client,
					  .number = order->last,
					  .until_us = now_us + ORDER_WAIT_US };
	*ticket = (struct ticket){ order, order->last, behind };
}

/* The place of a number, or NULL. */
static struct order_place *find(struct order *order, uint32_t number)
{
	for (unsigned int i = 0; i < ORDER_PLACES; i++) {
		if (order->places[i].number == number)
			return &order->places[i];
	}
	return NULL;
}

static bool has_to_wait(struct shard *shard, const struct flow *flow)
{
	const struct ticket *ticket = &flow->ticket;
	struct order_place *before;
	bool wait;

	if (!ticket->number || !ticket->behind)
		return false;
	pthread_mutex_lock(&ticket->order->lock);
	before = find(ticket->order, ticket->behind);
	wait = before && is_pending(before, shard->now_us);
	if (wait)
		before->waiter = (struct order_waiter){ flow, ticket->number, shard->id };
	pthread_mutex_unlock(&ticket->order->lock);
	return wait;
}

void order_begin(struct shard *shard, struct flow *flow)
{
	list_remove(&flow->held);
	wheel_disarm(&shard->wheel, &flow->timer);
	if (flow->key.proto == FLOW_SPLICE)
		splice_begin(shard, flow);
	else
		tcp_begin_host(shard, flow);
}

void order_enter(struct shard *shard, struct flow *flow)
{
	if (!has_to_wait(shard, flow)) {
		order_begin(shard, flow);
		return;
	}
	list_append(&shard->held, &flow->held);
	wheel_arm(&shard->wheel, &flow->timer, shard->now_us + ORDER_WAIT_US);
}

void order_done(struct shard *shard, struct flow *flow)
{
	struct order *order = flow->ticket.order;
	struct order_waiter waiter = { 0 };
	struct order_place *own;

	if (!flow->ticket.number)
		return;
	pthread_mutex_lock(&order->lock);
	own = find(order, flow->ticket.number);
	if (own) {
		waiter = own->waiter;
		*own = (struct order_place){ 0 };
	}
	pthread_mutex_unlock(&order->lock);
	flow->ticket.number = 0;
	list_remove(&flow->held);
	if (!waiter.flow)
		return;
	if (waiter.shard == shard->id) {
		order_go(shard, waiter.flow, waiter.number);
		return;
	}
	/* The guest is to have our ACK before the other shard's SYN can be answered. */
	if (!flow->closed)
		tx_flush(shard->tx);
	move_let_go(shard, waiter.flow, waiter.number, waiter.shard);
}

void order_go(struct shard *shard, const struct flow *flow, uint32_t number)
{
	for (struct list *node = shard->held.next; node != &shard->held; node = node->next) {
		struct flow *held = LIST_ENTRY(node, struct flow, held);

		if (held == flow && held->ticket.number == number) {
			order_begin(shard, held);
			return;
		}
	}
}
