/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The reader of a guest with fewer queue pairs than shards: it takes a turn of chains, steers each
 * frame by its flow's hash, and hands one batch per shard over, in place where that is allowed.
 */
#include "vhost.h"

#include <time.h>

#define INLINE_FRAMES 32
#define INLINE_BYTES  (64u << 10)
#define READER_RING   0 /* the only reader's number */

static void run_in_place(struct vhost *vhost, struct shard *shard, struct batch *batch) ON_READER
{
	role_is_shard(); /* by shard_try_enter() */
	count_add(&vhost->counters, COUNT_BATCHES_INLINE, 1);
	count_add(&vhost->counters, COUNT_FRAMES_INLINE, batch->n_frames);
	shard_drain_ring(shard, READER_RING); /* what was pushed before goes first */
	shard_run_batch(shard, batch);
	shard_leave(shard);
}

static void push(struct vhost *vhost, struct shard *shard, struct batch *batch)
{
	uint32_t n_frames = batch->n_frames;

	if (!ring_push(shard_ring(shard, READER_RING), batch)) {
		count_drop_n(&vhost->counters, DROP_POOL_EMPTY, n_frames);
		batch_done(batch);
		return;
	}
	count_add(&vhost->counters, COUNT_BATCHES_RING, 1);
	count_add(&vhost->counters, COUNT_FRAMES_RING, n_frames);
	shard_wake(shard, &vhost->counters);
}

static void hand_over(struct vhost *vhost, unsigned int id, bool in_place) ON_READER
{
	struct shard *shard = vhost->rt->shards[id];
	struct batch *batch = &vhost->batches[id];

	in_place = in_place && batch->n_frames <= INLINE_FRAMES && batch->bytes <= INLINE_BYTES;
	if (in_place && shard_try_enter(shard))
		run_in_place(vhost, shard, batch);
	else
		push(vhost, shard, batch);
	*batch = (struct batch){ 0 };
}

/* Sorts a turn's frames by shard. Returns the number of shards that got some. */
static unsigned int sort(struct vhost *vhost, const struct vu_turn *turn)
{
	unsigned int n = 0;

	for (unsigned int i = 0; i < turn->n_frames; i++) {
		struct frame *frame = &turn->slab->frames[i];
		struct batch *batch = &vhost->batches[steer(vhost->rt, frame->hash)];

		if (!batch->n_frames) {
			batch->slab = &turn->slab->slab;
			slab_get(batch->slab);
			n++;
		}
		batch_add(batch, frame);
	}
	return n;
}

void vhost_reader_turn(struct vhost *vhost, struct vu_port *port, bool last)
{
	const struct runtime *rt = vhost->rt;
	unsigned int n_targets;
	struct vu_turn turn;
	bool in_place;

	if (!vu_queue_from_guest(port->queue)) {
		vu_tx_kicked(port);
		return;
	}
	vu_rx_turn(port, &turn);
	if (!turn.slab)
		return;
	n_targets = sort(vhost, &turn);
	in_place = last && !turn.more && n_targets == 1 && !rt->config->inline_off;
	for (unsigned int id = 0; n_targets && id < rt->n_shards; id++) {
		if (!vhost->batches[id].n_frames)
			continue;
		hand_over(vhost, id, in_place);
		n_targets--;
	}
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
	more = vu_queue_usable(queue) && !queue->starved && vring_has_more(&queue->ring);
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
