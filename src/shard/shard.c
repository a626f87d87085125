/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a shard does with what comes to it: batches of frames by their kind, and flows that were
 * marked, each of which runs once.
 */
#include "shard_internal.h"

#include "dgram.h"

#include <errno.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

uint64_t shard_clock_us(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000 + (uint64_t)ts.tv_nsec / 1000;
}

unsigned int shard_id(const struct shard *shard)
{
	return shard->id;
}

struct counters *shard_counters(struct shard *shard)
{
	return &shard->counters;
}

struct tx *shard_tx(struct shard *shard)
{
	return shard->tx;
}

struct ring *shard_ring(struct shard *shard, unsigned int producer)
{
	return &shard->rings[producer];
}

void shard_wake(struct shard *shard, struct counters *waker)
{
	uint64_t one = 1;

	/* Pairs with the shard, which sets asleep and then looks at its rings once more. */
	atomic_thread_fence(memory_order_seq_cst);
	if (!atomic_load_explicit(&shard->asleep, memory_order_relaxed) ||
	    !atomic_exchange_explicit(&shard->asleep, false, memory_order_seq_cst))
		return;
	if (waker)
		count_add(waker, COUNT_WAKEUPS, 1);
	if (write(shard->wake_fd, &one, sizeof(one)) < 0)
		log_error("shard %u: cannot be woken: %m", shard->id);
}

void shard_wake_tx(struct shard *shard)
{
	atomic_store_explicit(&shard->tx_ready, true, memory_order_seq_cst);
	shard_wake(shard, NULL);
}

int shard_watch(struct shard *shard, struct flow *flow)
{
	struct epoll_event ev = { .events = EPOLLIN | EPOLLET, .data.ptr = &flow->pollee };

	/* Datagrams wait for no room, and each that leaves the machine or is read there would tell
	 * of some: a wake-up for nothing. */
	if (flow->key.proto == FLOW_TCP)
		ev.events |= EPOLLPRI | EPOLLOUT | EPOLLRDHUP;
	if (epoll_ctl(shard->epoll_fd, EPOLL_CTL_ADD, flow->fd, &ev))
		return -errno;
	flow->in_epoll = true;
	return 0;
}

void shard_out_of_fds(struct shard *shard)
{
	count_drop(&shard->counters, DROP_FD_LIMIT);
	log_limited(&shard->fd_limit, LOG_LEVEL_WARNING,
		    "shard %u: the limit on open files is reached, new flows are refused; raise it "
		    "(ulimit -n)",
		    shard->id);
}

void shard_forward(struct shard *shard, struct frame *frame, unsigned int owner)
{
	batch_add(&shard->forward[owner], frame);
}

void shard_push_forwarded(struct shard *shard)
{
	struct slab *slab = shard->slab;

	for (unsigned int i = 0; i < shard->rt->n_shards; i++) {
		struct batch *batch = &shard->forward[i];
		struct shard *to = shard->rt->shards[i];

		if (!batch->n_frames)
			continue;
		batch->slab = slab;
		slab_get(slab);
		count_add(&shard->counters, COUNT_FRAMES_FORWARDED, batch->n_frames);
		if (!ring_push(shard_ring(to, shard->rt->n_readers + shard->id), batch)) {
			count_drop_n(&shard->counters, DROP_RING_FULL, batch->n_frames);
			batch_done(batch);
		}
		shard_wake(to, &shard->counters);
		*batch = (struct batch){ 0 };
	}
}

static bool run_tcp(struct shard *shard, struct flow *flow)
{
	bool room = tcp_run(shard, flow);

	if (shard->spreads && !flow->closed && flow->tcp.state == TCPS_OPEN)
		spread_note(&shard->spread, &flow->spread, flow->tcp.snd_una + flow->tcp.rcv_nxt);
	/* Our ACK of the guest's answer is written. */
	if (room && flow->ticket.number && flow->tcp.state == TCPS_OPEN)
		order_done(shard, flow);
	return room;
}

bool shard_run_flow(struct shard *shard, struct flow *flow)
{
	bool room = true;

	if (flow->key.proto == FLOW_SPLICE)
		splice_run(shard, flow);
	else if (flow->key.proto == FLOW_SPLICE_UDP)
		splice_udp_run(shard, flow);
	else
		room = flow->key.proto == FLOW_TCP ? run_tcp(shard, flow) : dgram_run(shard, flow);
	if (room || flow->closed || !list_is_empty(&flow->touched))
		return room;
	/* Without a guest there is no room and nothing here makes some: then only the transport's
	 * word helps. */
	shard->retry |= shard->tx->blocked;
	list_append(&shard->waiting, &flow->touched);
	return false;
}

void shard_run_touched(struct shard *shard)
{
	struct list *node;

	while ((node = list_take(&shard->touched)))
		shard_run_flow(shard, LIST_ENTRY(node, struct flow, touched));
}

void shard_own(struct shard *shard, struct flow *flow)
{
	list_append(&shard->owned, &flow->owned);
	flow->adopted = true;
}

static void frame_for_control(struct shard *shard, struct frame *frame)
{
	enum drop drop = control_post_frame(shard->rt->control, frame);

	if (drop)
		count_drop(&shard->counters, drop);
}

static void (*const frame_handlers[])(struct shard *shard, struct frame *frame) = {
	[FRAME_CONTROL] = frame_for_control,
	[FRAME_TCP] = conn_frame,
	[FRAME_UDP] = dgram_frame,
	[FRAME_ECHO] = dgram_frame,
	[FRAME_ICMP_ERROR] = icmp_error_frame,
	[FRAME_FRAGMENT] = fragment_frame,
};

void shard_run_frames(struct shard *shard, const struct batch *batch)
{
	struct frame *next;

	shard->slab = batch->slab;
	for (struct frame *frame = batch->first; frame; frame = next) {
		next = frame->next;
		frame_handlers[frame->kind](shard, frame);
	}
	dgram_batch_end(shard);
	shard_run_touched(shard);
	shard->last_flow = NULL;
	shard_push_forwarded(shard);
	shard->slab = NULL;
}

/* Where a frame that was made belongs: a connection may be anywhere. */
static unsigned int inject_to(const struct shard *shard, const struct frame *frame)
{
	const struct runtime *rt = shard->rt;

	if (frame->kind == FRAME_CONTROL || !rt->n_readers ||
	    (frame->kind == FRAME_TCP && flow_find(rt, &frame->key, frame->hash)))
		return shard->id;
	return steer(rt, frame->key.proto, frame->hash);
}

void shard_inject(struct shard *shard, struct frame *frame, struct slab *slab)
{
	const struct runtime *rt = shard->rt;
	unsigned int owner = inject_to(shard, frame);
	struct slab *outer = shard->slab;
	bool foreign = shard->foreign;
	struct batch kept[MAX_SHARDS];

	/* What the batch under way has for others is of another slab. */
	memcpy(kept, shard->forward, rt->n_shards * sizeof(kept[0]));
	memset(shard->forward, 0, rt->n_shards * sizeof(kept[0]));
	shard->slab = slab;
	shard->foreign = true;
	if (owner == shard->id)
		frame_handlers[frame->kind](shard, frame);
	else
		shard_forward(shard, frame, owner);
	dgram_batch_end(shard);
	shard_run_touched(shard);
	shard_push_forwarded(shard);
	shard->slab = outer;
	shard->foreign = foreign;
	memcpy(shard->forward, kept, rt->n_shards * sizeof(kept[0]));
	slab_put(slab);
}

void shard_run_batch(struct shard *shard, struct batch *batch)
{
	switch (batch->kind) {
	case BATCH_FRAMES:
		shard_run_frames(shard, batch);
		break;
	case BATCH_GIVE:
		move_take(shard, batch->flow);
		break;
	case BATCH_ASK:
		move_answer(shard, batch->flow, batch->hash, batch->from);
		break;
	case BATCH_DENY:
		move_denied(shard, batch->flow);
		break;
	case BATCH_OFFER:
		move_offered(shard, batch->flow, batch->hash, batch->from);
		break;
	case BATCH_DECLINE:
		move_declined(shard, batch->flow);
		break;
	case BATCH_DRAIN:
		move_drain(shard, batch->flow);
		break;
	case BATCH_DRAINED:
		move_drained(shard, batch->flow);
		break;
	case BATCH_GO:
		order_go(shard, batch->flow, batch->hash);
		break;
	}
	batch_done(batch);
}

void shard_drain_ring(struct shard *shard, unsigned int producer)
{
	struct ring *ring = &shard->rings[producer];
	struct batch batch;

	shard->foreign = producer >= shard->rt->n_readers;
	/* What is pushed meanwhile waits: a busy reader would keep this shard from its other flows
	 * and its timers for as long as it is faster. */
	for (uint32_t left = ring_used(ring); left && ring_pop(ring, &batch); left--) {
		shard->now_us = shard_clock_us();
		shard_run_batch(shard, &batch);
	}
	shard->foreign = false;
}
