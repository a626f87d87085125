/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The peers of datagram flows: entries mapped at start and touched as used, found by either of
 * their addresses. The shard's peers, and those of each flow, stand in the order in which they were
 * last heard of, by the second; where there are too many the oldest makes room.
 */
#include "dgram_internal.h"

#include <errno.h>
#include <sys/mman.h>

#define TOUCH_AFTER_US 1000000 /* how exact the order of age is */

struct peers {
	uint32_t n;	    /* entries in memory */
	uint32_t n_fresh;   /* entries from here on were never used */
	uint32_t n_buckets; /* a power of two */
	uint32_t *by_view;  /* index + 1 of the first in the chain; 0: none */
	uint32_t *by_host;
	struct list free; /* through age */
	struct list age;  /* the oldest first */
	size_t size;	  /* of the mapping */
	struct dgram_peer peer[];
};

int peers_init(struct shard *shard, struct dgrams *d)
{
	uint32_t n = PEERS_MIN + shard->n_flows, buckets = 1024;
	size_t entries = sizeof(struct peers) + n * sizeof(struct dgram_peer), size;
	struct peers *peers;

	while (buckets < n)
		buckets *= 2;
	size = entries + 2 * (size_t)buckets * sizeof(uint32_t);
	peers = mmap(NULL, size, PROT_READ | PROT_WRITE,
		     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (peers == MAP_FAILED)
		return -ENOMEM;
	peers->n = n;
	peers->n_buckets = buckets;
	peers->by_view = (uint32_t *)(void *)((uint8_t *)peers + entries);
	peers->by_host = peers->by_view + buckets;
	peers->size = size;
	list_init(&peers->free);
	list_init(&peers->age);
	d->peers = peers;
	return 0;
}

void peers_free(struct dgrams *d)
{
	if (d->peers)
		munmap(d->peers, d->peers->size);
	d->peers = NULL;
}

/* Of an endpoint and a flow, under the secret: a remote side chooses the endpoints. */
static uint32_t bucket_of(const struct shard *shard, const struct peers *peers,
			  const struct flow *flow, const struct endpoint *e)
{
	struct flow_key key = { .guest = e->addr, .guest_port = e->port };

	key.peer.q[0] = (uint64_t)(uintptr_t)flow;
	return flow_key_hash(&key, &shard->rt->secret) & (peers->n_buckets - 1);
}

static bool same(const struct endpoint *a, const struct endpoint *b)
{
	return a->port == b->port && ip_eq(&a->addr, &b->addr);
}

static uint32_t number_of(const struct peers *peers, const struct dgram_peer *peer)
{
	return (uint32_t)(peer - peers->peer) + 1;
}

struct dgram_peer *peer_by_view(struct shard *shard, struct flow *flow, const struct endpoint *view)
{
	struct peers *peers = dgrams_of(shard)->peers;
	struct dgram_peer *recent = flow->dgram.recent;

	if (recent && same(&recent->view, view))
		return recent;
	for (uint32_t i = peers->by_view[bucket_of(shard, peers, flow, view)]; i;
	     i = peers->peer[i - 1].next_by_view) {
		struct dgram_peer *peer = &peers->peer[i - 1];

		if (peer->flow == flow && same(&peer->view, view))
			return peer;
	}
	return NULL;
}

struct dgram_peer *peer_by_host(struct shard *shard, struct flow *flow, const struct endpoint *host)
{
	struct peers *peers = dgrams_of(shard)->peers;
	struct dgram_peer *recent = flow->dgram.recent;

	if (recent && same(&recent->host, host))
		return recent;
	for (uint32_t i = peers->by_host[bucket_of(shard, peers, flow, host)]; i;
	     i = peers->peer[i - 1].next_by_host) {
		struct dgram_peer *peer = &peers->peer[i - 1];

		if (peer->flow == flow && same(&peer->host, host))
			return peer;
	}
	return NULL;
}

static void link_view(struct shard *shard, struct peers *peers, struct dgram_peer *peer)
{
	uint32_t *head = &peers->by_view[bucket_of(shard, peers, peer->flow, &peer->view)];

	peer->next_by_view = *head;
	*head = number_of(peers, peer);
}

static void link_host(struct shard *shard, struct peers *peers, struct dgram_peer *peer)
{
	uint32_t *head = &peers->by_host[bucket_of(shard, peers, peer->flow, &peer->host)];

	peer->next_by_host = *head;
	*head = number_of(peers, peer);
}

static void unlink_view(struct shard *shard, struct peers *peers, struct dgram_peer *peer)
{
	uint32_t *at = &peers->by_view[bucket_of(shard, peers, peer->flow, &peer->view)];

	while (*at != number_of(peers, peer))
		at = &peers->peer[*at - 1].next_by_view;
	*at = peer->next_by_view;
}

static void unlink_host(struct shard *shard, struct peers *peers, struct dgram_peer *peer)
{
	uint32_t *at = &peers->by_host[bucket_of(shard, peers, peer->flow, &peer->host)];

	while (*at != number_of(peers, peer))
		at = &peers->peer[*at - 1].next_by_host;
	*at = peer->next_by_host;
}

static void drop_peer(struct shard *shard, struct peers *peers, struct dgram_peer *peer)
{
	struct dgram *dgram = &peer->flow->dgram;

	unlink_view(shard, peers, peer);
	unlink_host(shard, peers, peer);
	if (dgram->recent == peer)
		dgram->recent = NULL;
	dgram->n_peers--;
	list_remove(&peer->of_flow);
	list_remove(&peer->age);
	list_append(&peers->free, &peer->age);
}

/* An entry that is in no list: a free one, or the oldest's. */
static struct dgram_peer *take_entry(struct shard *shard, struct peers *peers, struct flow *flow)
{
	struct list *node;

	if (flow->dgram.n_peers >= PEERS_PER_FLOW)
		drop_peer(shard, peers,
			  LIST_ENTRY(flow->dgram.peers.next, struct dgram_peer, of_flow));
	node = list_take(&peers->free);
	if (!node && peers->n_fresh < peers->n)
		return &peers->peer[peers->n_fresh++];
	if (!node) {
		drop_peer(shard, peers, LIST_ENTRY(peers->age.next, struct dgram_peer, age));
		node = list_take(&peers->free);
	}
	return LIST_ENTRY(node, struct dgram_peer, age);
}

struct dgram_peer *peer_add(struct shard *shard, struct flow *flow, const struct endpoint *view,
			    const struct endpoint *host)
{
	struct peers *peers = dgrams_of(shard)->peers;
	struct dgram_peer *peer = take_entry(shard, peers, flow);

	*peer = (struct dgram_peer){
		.flow = flow, .view = *view, .host = *host, .last_us = shard->now_us
	};
	link_view(shard, peers, peer);
	link_host(shard, peers, peer);
	list_append(&flow->dgram.peers, &peer->of_flow);
	list_append(&peers->age, &peer->age);
	flow->dgram.n_peers++;
	flow->dgram.recent = peer;
	return peer;
}

void peer_set_host(struct shard *shard, struct dgram_peer *peer, const struct endpoint *host)
{
	struct peers *peers = dgrams_of(shard)->peers;

	if (same(&peer->host, host))
		return;
	unlink_host(shard, peers, peer);
	peer->host = *host;
	link_host(shard, peers, peer);
}

void peer_touch(struct shard *shard, struct dgram_peer *peer)
{
	peer->flow->dgram.recent = peer;
	if (shard->now_us - peer->last_us < TOUCH_AFTER_US)
		return;
	peer->last_us = shard->now_us;
	list_remove(&peer->of_flow);
	list_append(&peer->flow->dgram.peers, &peer->of_flow);
	list_remove(&peer->age);
	list_append(&dgrams_of(shard)->peers->age, &peer->age);
}

void peers_drop(struct shard *shard, struct flow *flow)
{
	peers_expire(shard, flow, UINT64_MAX);
}

void peers_expire(struct shard *shard, struct flow *flow, uint64_t since_us)
{
	struct peers *peers = dgrams_of(shard)->peers;

	while (!list_is_empty(&flow->dgram.peers)) {
		struct dgram_peer *peer =
			LIST_ENTRY(flow->dgram.peers.next, struct dgram_peer, of_flow);

		if (peer->last_us >= since_us)
			break;
		drop_peer(shard, peers, peer);
	}
}
