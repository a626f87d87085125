/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What other threads ask of a shard: to watch a source of frames or to let go of it, and to end all
 * flows as the guest has gone.
 */
#include "shard_internal.h"

#include "dgram.h"

#include <errno.h>
#include <sys/epoll.h>

/* A shard that is busy lets go of its lock for a moment only, unless somebody knocks. */
static void lock_inside(struct shard *shard)
{
	atomic_fetch_add_explicit(&shard->knocking, 1, memory_order_relaxed);
	pthread_mutex_lock(&shard->inside);
	atomic_fetch_sub_explicit(&shard->knocking, 1, memory_order_relaxed);
}

int shard_add_source(struct shard *shard, struct shard_source *source)
{
	struct epoll_event ev = { .events = EPOLLIN };
	int ret = -ENOSPC;

	lock_inside(shard);
	for (unsigned int i = 0; i < 2 * MAX_QUEUES; i++) {
		struct source_slot *slot = &shard->sources[i];

		if (slot->source)
			continue;
		ev.data.ptr = &slot->pollee;
		ret = epoll_ctl(shard->epoll_fd, EPOLL_CTL_ADD, source->fd, &ev) ? -errno : 0;
		slot->source = ret ? NULL : source;
		break;
	}
	pthread_mutex_unlock(&shard->inside);
	return ret;
}

void shard_remove_source(struct shard *shard, struct shard_source *source)
{
	lock_inside(shard);
	for (unsigned int i = 0; i < 2 * MAX_QUEUES; i++) {
		struct source_slot *slot = &shard->sources[i];

		if (slot->source != source)
			continue;
		epoll_ctl(shard->epoll_fd, EPOLL_CTL_DEL, source->fd, NULL);
		slot->source = NULL;
	}
	pthread_mutex_unlock(&shard->inside);
}

void shard_finish_source(struct shard *shard, struct shard_source *source)
{
	role_is_reader();
	role_is_shard();
	shard_enter(shard);
	source->read(source, shard);
	shard_leave(shard);
	shard_remove_source(shard, source);
}

static void reset_flows(struct shard *shard)
{
	struct list *node;

	list_splice(&shard->owned, &shard->connecting);
	while ((node = list_take(&shard->owned))) {
		struct flow *flow = LIST_ENTRY(node, struct flow, owned);

		if (flow->key.proto == FLOW_TCP)
			tcp_guest_gone(shard, flow);
		else if (flow->key.proto == FLOW_SPLICE)
			splice_guest_gone(shard, flow);
		else if (flow->key.proto == FLOW_SPLICE_UDP)
			splice_udp_close(shard, flow);
		else
			dgram_close(shard, flow);
	}
}

/* Whether something is between shards. */
static bool is_under_way(const struct runtime *rt)
{
	for (unsigned int i = 0; i < rt->n_shards; i++) {
		if (!shard_rings_are_empty(rt->shards[i]))
			return true;
	}
	return atomic_load_explicit(&rt->moving, memory_order_acquire) != 0;
}

static void reset_all(struct runtime *rt)
{
	for (unsigned int i = 0; i < rt->n_shards; i++) {
		struct shard *shard = rt->shards[i];

		role_is_reader();
		role_is_shard();
		shard_enter(shard);
		for (unsigned int p = 0; p < shard->n_rings; p++)
			shard_drain_ring(shard, p);
		move_settle(shard);
		reset_flows(shard);
		fragments_forget(shard);
		shard_leave(shard);
	}
}

void shards_reset_flows(struct runtime *rt)
{
	/* A flow may be on its way from a shard that comes later to one that was before: a question
	 * for it, the answer, and frames that were kept for the answer take a round each. */
	for (unsigned int round = 0; round == 0 || (round < 4 && is_under_way(rt)); round++)
		reset_all(rt);
}
