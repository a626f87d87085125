/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The reader of a guest with fewer queue pairs than shards: it takes a turn of chains, steers each
 * frame by its flow's hash, and hands one batch per shard over, in place where that is allowed.
 */
#include "vhost.h"

#include <time.h>

bool vhost_reader_is_idle(const void *transport)
{
	const struct vhost *vhost = transport;

	for (unsigned int pair = 0; pair < MAX_QUEUES; pair++) {
		const struct vu_slab *slabs = &vhost->slabs[pair * VU_SLABS];

		/* What was taken from a ring that does not run is back. */
		for (unsigned int i = 0; vhost->ports[2 * pair + 1].queue->running && i < VU_SLABS;
		     i++)
			if (atomic_load_explicit(&slabs[i].slab.refs, memory_order_acquire))
				return false;
	}
	return true;
}

void vhost_reader_turn(struct vhost *vhost, struct vu_port *port, bool last)
{
	struct vu_turn turn;

	if (!vu_queue_from_guest(port->queue)) {
		vu_tx_kicked(port);
		return;
	}
	handover_balance(&vhost->handover);
	vu_rx_turn(port, &turn);
	if (!turn.slab)
		return;
	for (unsigned int i = 0; i < turn.n_frames; i++)
		handover_add(&vhost->handover, &turn.slab->frames[i]);
	handover_run(&vhost->handover, &turn.slab->slab, last && !turn.more);
	slab_put(&turn.slab->slab);
}

static uint64_t now_us(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

static bool port_has_more(const struct vu_port *port)
{
	struct vu_queue *queue = port->queue;
	bool more;

	pthread_mutex_lock(&queue->lock);
	more = queue->enabled && vu_queue_usable(queue) && !queue->starved &&
	       vring_has_more(&queue->ring);
	pthread_mutex_unlock(&queue->lock);
	return more;
}

bool vhost_reader_poll(struct vhost *vhost)
{
	uint64_t end = now_us() + vhost->rt->config->busy_poll_us;
	bool any = false;

	do {
		for (unsigned int i = 1; i < VU_RINGS && !any; i += 2) {
			struct vu_port *port = &vhost->ports[i];

			any = port->by_reader && port_has_more(port);
			if (any) {
				/* Read as if kicked: who returns with more to do relies on the
				 * epoll. */
				vu_eventfd_add(port->source.fd);
			}
		}
	} while (!any && now_us() < end);
	return any;
}
