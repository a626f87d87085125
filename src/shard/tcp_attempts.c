/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Attempts of the guest to connect, until the host's connect() is done: how many there may be, how
 * many to one place, and which makes way for others. docs/tcp.md has the rules.
 */
#include "tcp_internal.h"

/* A filtered port is a black hole as a dead host is, and what else that host has may answer. */
static uint16_t *attempts_to(struct shard *shard, const struct flow_key *to)
{
	struct flow_key key = { .peer = to->peer, .peer_port = to->peer_port };

	return &shard->connecting_to[flow_key_hash(&key, &shard->rt->secret) % CONNECTING_SLOTS];
}

static void count_attempt(struct shard *shard, const struct flow *flow, int change)
{
	shard->n_connecting += (uint32_t)change;
	*attempts_to(shard, &flow->key) += (uint16_t)change;
}

void tcp_attempt_over(struct shard *shard, const struct flow *flow)
{
	count_attempt(shard, flow, -1);
}

void tcp_connecting(struct shard *shard, struct flow *flow)
{
	list_remove(&flow->owned);
	list_append(&shard->connecting, &flow->owned);
	count_attempt(shard, flow, 1);
}

static uint32_t connecting_max(const struct shard *shard)
{
	return TCP_CONNECTING_MAX / shard->rt->n_shards;
}

bool tcp_is_crowded(const struct shard *shard)
{
	return shard->n_connecting >= connecting_max(shard);
}

/* A peer that is there has answered by then; and an entry is not free at once. */
static bool end_attempt(struct shard *shard, struct flow *flow)
{
	if (flow->tcp.state_due_us - TCP_CONNECT_US + TCP_CONNECT_LEAST_US > shard->now_us)
		return false;
	tcp_abort(shard, flow, false);
	count_drop(&shard->counters, DROP_CONNECT_CROWDED);
	return true;
}

/* Ends the oldest attempt to connect to where most go: it is not far from the front. */
static bool end_attempt_to(struct shard *shard, const struct flow_key *to)
{
	struct list *node = shard->connecting.next;

	for (unsigned int i = 0; i < CONNECTING_SEARCH && node != &shard->connecting; i++) {
		struct flow *flow = LIST_ENTRY(node, struct flow, owned);

		if (ip_eq(&flow->key.peer, &to->peer) && flow->key.peer_port == to->peer_port)
			return end_attempt(shard, flow);
		node = node->next;
	}
	return false;
}

bool tcp_may_connect(struct shard *shard, const struct flow_key *to)
{
	/* What does not answer takes no place of what does. */
	if (*attempts_to(shard, to) >= connecting_max(shard) / 2)
		return end_attempt_to(shard, to);
	return !tcp_is_crowded(shard) || tcp_drop_connecting(shard) ||
	       shard->n_connecting < 2 * connecting_max(shard);
}

bool tcp_drop_connecting(struct shard *shard)
{
	struct list *node = shard->connecting.next;
	struct flow *most = NULL;

	/* Of the oldest it is one that goes to where most do, so that what lasts long elsewhere
	 * lives on. */
	for (unsigned int i = 0; i < CONNECTING_LOOK && node != &shard->connecting; i++) {
		struct flow *flow = LIST_ENTRY(node, struct flow, owned);

		if (!most || *attempts_to(shard, &flow->key) > *attempts_to(shard, &most->key))
			most = flow;
		node = node->next;
	}
	return most && end_attempt(shard, most);
}
