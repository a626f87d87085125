/* SPDX-License-Identifier: Apache-2.0 */
#include "flow.h"

#include "shard_internal.h"

#include <errno.h>
#include <unistd.h>

/* About this many flows share a bucket when all entries are in use: it keeps the idle table small.
 */
#define FLOWS_PER_BUCKET 4

int flow_table_init(struct flow_table *table, uint32_t n)
{
	unsigned long buckets = 64;

	while (buckets * FLOWS_PER_BUCKET < n)
		buckets *= 2;
	/* Fixed in size: nothing is allocated later, and no thread ever resizes. */
	table->lfht = cds_lfht_new(buckets, buckets, buckets, 0, NULL);
	return table->lfht ? 0 : -ENOMEM;
}

void flow_table_free(struct flow_table *table)
{
	struct cds_lfht_iter iter;
	struct cds_lfht_node *node;

	if (!table->lfht)
		return;
	cds_lfht_for_each(table->lfht, &iter, node) cds_lfht_del(table->lfht, node);
	cds_lfht_destroy(table->lfht, NULL);
	table->lfht = NULL;
}

static int match(struct cds_lfht_node *node, const void *key)
{
	struct flow *flow = LIST_ENTRY(node, struct flow, node);

	RCU_NOTE_LOOKUP(flow);
	return flow_key_eq(&flow->key, key);
}

static struct cds_lfht *home(const struct runtime *rt, uint32_t hash)
{
	return rt->shards[hash % rt->n_shards]->table.lfht;
}

struct flow *flow_find(const struct runtime *rt, const struct flow_key *key, uint32_t hash)
{
	struct cds_lfht_iter iter;
	struct cds_lfht_node *node;

	cds_lfht_lookup(home(rt, hash), hash, match, key, &iter);
	node = cds_lfht_iter_get_node(&iter);
	return node ? LIST_ENTRY(node, struct flow, node) : NULL;
}

static int match_entry(struct cds_lfht_node *node, const void *flow)
{
	return LIST_ENTRY(node, struct flow, node) == flow;
}

bool flow_is_published(const struct runtime *rt, const struct flow *flow, uint32_t hash)
{
	struct cds_lfht_iter iter;

	cds_lfht_lookup(home(rt, hash), hash, match_entry, flow, &iter);
	if (!cds_lfht_iter_get_node(&iter))
		return false;
	RCU_NOTE_LOOKUP(flow);
	return true;
}

bool flow_waits_for_reclaim(struct shard *shard)
{
	return atomic_load_explicit(&shard->flows_short, memory_order_relaxed) &&
	       !cds_wfcq_empty(&shard->reclaim_head, &shard->reclaim_tail);
}

static void note_shortage(struct shard *shard)
{
	bool is_short = shard->flows_in_use > shard->n_flows - shard->n_flows / 8;

	if (is_short != atomic_load_explicit(&shard->flows_short, memory_order_relaxed))
		atomic_store_explicit(&shard->flows_short, is_short, memory_order_relaxed);
}

static struct flow *fresh_entry(struct shard *shard)
{
	struct list *node = list_take(&shard->flows_free);

	if (node)
		return LIST_ENTRY(node, struct flow, touched);
	if (shard->flows_fresh < shard->n_flows)
		return &shard->flows[shard->flows_fresh++];
	return NULL;
}

struct flow *flow_take(struct shard *shard, const struct flow_key *key, uint32_t hash)
{
	struct flow *flow = fresh_entry(shard);

	if (!flow) {
		count_drop(&shard->counters, DROP_FLOWS_FULL);
		count_add(&shard->counters, COUNT_FLOWS_REFUSED, 1);
		log_limited(
			&shard->flows_limit, LOG_LEVEL_WARNING,
			"shard %u: all %u flow entries in use, new flows are refused; see --flows",
			shard->id, shard->n_flows);
		return NULL;
	}
	memset(flow, 0, sizeof(*flow));
	flow->pollee.kind = POLL_FLOW;
	flow->key = *key;
	flow->hash = hash;
	flow->memory = shard;
	flow->fd = -1;
	atomic_store_explicit(&flow->owner, (uint16_t)shard->id, memory_order_relaxed);
	list_init(&flow->touched);
	list_init(&flow->owned);
	list_init(&flow->held);
	timer_init(&flow->timer);
	spread_init_flow(&flow->spread);
	shard->flows_in_use++;
	note_shortage(shard);
	return flow;
}

void flow_give(struct shard *shard, struct flow *flow)
{
	list_remove(&flow->touched);
	list_remove(&flow->owned);
	wheel_disarm(&shard->wheel, &flow->timer);
	/* Never published: nobody else can hold it. The newest entry is used first, as its lines
	 * are warm. */
	flow->touched.next = shard->flows_free.next;
	flow->touched.prev = &shard->flows_free;
	shard->flows_free.next->prev = &flow->touched;
	shard->flows_free.next = &flow->touched;
	shard->flows_in_use--;
	note_shortage(shard);
}

struct flow *flow_publish(struct shard *shard, struct flow *flow)
{
	struct cds_lfht_node *node;

	cds_lfht_node_init(&flow->node);
	RCU_NOTE_PUBLISH(flow);
	node = cds_lfht_add_unique(home(shard->rt, flow->hash), flow->hash, match, &flow->key,
				   &flow->node);
	if (node == &flow->node)
		count_add(&shard->counters, COUNT_FLOWS_OPENED, 1);
	return LIST_ENTRY(node, struct flow, node);
}

/* On call_rcu's thread: no reader can hold the entry any more, so it goes back to where its memory
 * is. */
static void reclaimed(struct rcu_head *head)
{
	struct flow *flow = LIST_ENTRY(head, struct flow, reclaim);
	struct shard *memory;

	RCU_NOTE_RECLAIM(flow);
	memory = flow->memory;
	cds_wfcq_node_init(&flow->reclaim_node);
	RCU_NOTE_PUBLISH(flow);
	cds_wfcq_enqueue(&memory->reclaim_head, &memory->reclaim_tail, &flow->reclaim_node);
	/* Readers that run batches in place can't take it up, and would find none. */
	if (atomic_load_explicit(&memory->flows_short, memory_order_relaxed))
		shard_wake(memory, NULL);
	RCU_NOTE_DONE();
}

void flow_give_home(struct shard *shard, struct flow *flow)
{
	struct shard *memory = flow->memory;

	if (memory == shard) {
		flow_give(shard, flow);
		return;
	}
	cds_wfcq_node_init(&flow->reclaim_node);
	RCU_NOTE_PUBLISH(flow);
	cds_wfcq_enqueue(&memory->reclaim_head, &memory->reclaim_tail, &flow->reclaim_node);
}

void flow_close(struct shard *shard, struct flow *flow)
{
	if (flow->closed)
		return;
	flow->closed = true;
	order_done(shard, flow);
	if (shard->last_flow == flow)
		shard->last_flow = NULL;
	list_remove(&flow->touched);
	list_remove(&flow->owned);
	spread_leave(&shard->spread, &flow->spread);
	wheel_disarm(&shard->wheel, &flow->timer);
	cds_lfht_del(home(shard->rt, flow->hash), &flow->node);
	count_add(&shard->counters, COUNT_FLOWS_CLOSED, 1);
	call_rcu(&flow->reclaim, reclaimed);
}

void flow_reclaim(struct shard *shard)
{
	struct cds_wfcq_node *node;

	while ((node = __cds_wfcq_dequeue_nonblocking(&shard->reclaim_head,
						      &shard->reclaim_tail))) {
		struct flow *flow;

		if (node == CDS_WFCQ_WOULDBLOCK)
			break;
		flow = LIST_ENTRY(node, struct flow, reclaim_node);
		RCU_NOTE_RECLAIM(flow);
		flow_give(shard, flow);
	}
}
