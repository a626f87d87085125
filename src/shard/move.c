/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Flows that change their shard. Frames of a flow of shard A come to shard B, as the guest's thread
 * has changed its queue or the reader has moved a bucket. B hands them on, and after some in a row
 * asks A for the flow. In the ring the question is behind the frames that went before it, and from
 * then on B keeps the flow's frames. A has run what came first when it meets the question, and
 * answers in any case: with the flow, whose frames B then runs itself, or with a refusal, and they
 * go to A after all. So nobody waits, and no frame overtakes another.
 *
 * Where a device's queue follows the owner, by whose writes it goes, a shard may also offer a busy
 * flow (spread.c). B asks for it as above. When it is there, B writes on its own queue, and what
 * the guest sends from then on comes there, while older frames may still wait on A's: B keeps the
 * new ones, has A read its queue to the end (BATCH_DRAIN), and runs what A hands on meanwhile
 * first.
 *
 * A flow brings what it has in the pool of A: the chunks go back there when they are empty.
 */
#include "shard_internal.h"

#include <assert.h>
#include <sys/epoll.h>

#define ASK_AFTER_FRAMES 8	  /* in a row that came to another shard than the owner */
#define MOVE_INTERVAL_US 1000000u /* at most one move per flow and second */
#define ASK_INTERVAL_US	 100000u  /* at most one question, as each delays a few frames */
#define DRAIN_FRAMES	 16384u /* twice what a queue of the device holds: see docs/namespace.md */
#define DRAIN_US	 1000u	/* the kernel may have chosen a queue, and not have filled it yet */

static void push(struct shard *shard, unsigned int to, const struct batch *batch)
{
	struct shard *other = shard->rt->shards[to];
	bool fits = ring_push(shard_ring(other, shard->rt->n_readers + shard->id), batch);

	assert(fits); /* see ring.h */
	(void)fits;
	shard_wake(other, &shard->counters);
}

/* Whether there is room for what may wait, and for one entry before it: frames that were forwarded,
 * or a connection that is let go. */
static bool ring_has_time(const struct shard *shard, unsigned int to)
{
	return ring_used(shard_ring(shard->rt->shards[to], shard->rt->n_readers + shard->id)) + 1 <
	       RING_SIZE / 2;
}

bool shard_give_flow(struct shard *shard, struct flow *flow, unsigned int owner)
{
	struct batch batch = { .kind = BATCH_GIVE, .flow = flow };

	if (!ring_has_time(shard, owner))
		return false;
	if (flow->in_epoll)
		epoll_ctl(shard->epoll_fd, EPOLL_CTL_DEL, flow->fd, NULL);
	flow->in_epoll = false;
	flow->adopted = false;
	list_remove(&flow->touched);
	list_remove(&flow->owned);
	spread_leave(&shard->spread, &flow->spread);
	wheel_disarm(&shard->wheel, &flow->timer);
	if (shard->last_flow == flow)
		shard->last_flow = NULL;
	flow->moved_us = shard->now_us;
	/* Acquired by flow_owner(). */
	atomic_store_explicit(&flow->owner, (uint16_t)owner, memory_order_release);
	push(shard, owner, &batch);
	return true;
}

void move_let_go(struct shard *shard, const struct flow *flow, uint32_t number, unsigned int to)
{
	struct batch batch = { .kind = BATCH_GO, .hash = number, .flow = (struct flow *)flow };

	/* Else its wait ends by time. */
	if (ring_has_time(shard, to))
		push(shard, to, &batch);
}

/* The place of a flow that was asked for, or NULL. */
static struct wanted *find_wanted(struct shard *shard, const struct flow *flow)
{
	for (unsigned int i = 0; i < WANTED; i++) {
		if (shard->wanted[i].flow == flow)
			return &shard->wanted[i];
	}
	return NULL;
}

bool move_keeps(struct shard *shard, struct frame *frame)
{
	struct wanted *wanted = shard->wanted;

	if (!shard->n_wanted)
		return false;
	while (wanted < shard->wanted + WANTED &&
	       (!wanted->flow || !flow_key_eq(&wanted->key, &frame->key)))
		wanted++;
	if (wanted == shard->wanted + WANTED || (wanted->here && shard->foreign))
		return false;
	frame->slab = shard->slab;
	slab_get(frame->slab);
	frame->next = NULL;
	if (wanted->last)
		wanted->last->next = frame;
	else
		wanted->first = frame;
	wanted->last = frame;
	count_add(&shard->counters, COUNT_FRAMES_HELD, 1);
	return true;
}

/* Runs frames that were kept, one batch for each slab. */
static void run_kept(struct shard *shard, struct frame *frame)
{
	while (frame) {
		struct batch batch = { .slab = frame->slab };
		struct frame *next;

		for (; frame && frame->slab == batch.slab; frame = next) {
			next = frame->next;
			batch_add(&batch, frame);
		}
		shard_run_frames(shard, &batch);
		for (uint32_t i = 0; i < batch.n_frames; i++)
			slab_put(batch.slab);
	}
}

/* The answer is here: what was kept goes its way. */
static void end_waiting(struct shard *shard, const struct flow *flow)
{
	struct wanted *wanted = find_wanted(shard, flow);
	struct frame *kept;

	if (!wanted)
		return;
	kept = wanted->first;
	*wanted = (struct wanted){ 0 };
	shard->n_wanted--;
	/* A refusal must not lead to a question at once. */
	run_kept(shard, kept);
	atomic_fetch_sub_explicit(&shard->rt->moving, 1, memory_order_release);
}

/* Whether there is a place, and room for what the flow was promised where it is. */
static bool can_ask(struct shard *shard, const struct flow *flow, unsigned int owner)
{
	return shard->n_wanted < WANTED && !find_wanted(shard, flow) &&
	       pool_unpromised(&shard->pool) >= (uint64_t)shard->pool.n_chunks * POOL_DATA / 2 &&
	       ring_has_time(shard, owner);
}

static void ask(struct shard *shard, const struct flow *flow, unsigned int owner)
{
	struct wanted *wanted = find_wanted(shard, NULL);
	struct batch batch = { .kind = BATCH_ASK,
			       .flow = (struct flow *)flow,
			       .hash = flow->hash,
			       .from = (uint16_t)shard->id };

	*wanted = (struct wanted){ .flow = flow, .key = flow->key, .from = (uint16_t)owner };
	shard->n_wanted++;
	/* Before the reader can find that no frame is under way: see handover_settle(). */
	atomic_fetch_add_explicit(&shard->rt->moving, 1, memory_order_relaxed);
	shard_push_forwarded(shard); /* what came before goes before */
	push(shard, owner, &batch);
}

void move_hand_on(struct shard *shard, struct flow *flow, struct frame *frame, unsigned int owner)
{
	/* Flows of one bucket must not meet in one place. */
	struct stranger *stranger = &shard->strangers[flow->hash / STEERING_BUCKETS % STRANGERS];

	shard_forward(shard, frame, owner);
	/* What another shard has handed to us is that one's to count; and what we have offered is
	 * not wanted back. */
	if (shard->foreign || flow == shard->leaving.flow)
		return;
	if (stranger->flow != flow)
		*stranger = (struct stranger){ .flow = flow };
	if (++stranger->frames < ASK_AFTER_FRAMES ||
	    shard->now_us - stranger->asked_us < ASK_INTERVAL_US || !can_ask(shard, flow, owner))
		return;
	stranger->frames = 0;
	stranger->asked_us = shard->now_us;
	ask(shard, flow, owner);
}

static void adopt(struct shard *shard, struct flow *flow)
{
	shard_own(shard, flow);
	count_add(&shard->counters, COUNT_FLOWS_MOVED, 1);
	spread_join(&shard->spread, &flow->spread);
	tcp_join(shard, flow);
	if (shard_watch(shard, flow)) {
		count_drop(&shard->counters, DROP_SOCKET);
		tcp_abort(shard, flow, true);
		return;
	}
	shard_touch(shard, flow);
}

/* A flow that was offered has come: its queue follows, and what waits on the old one is asked for.
 */
static void draw(struct shard *shard, struct flow *flow, struct wanted *wanted)
{
	struct batch drain = { .kind = BATCH_DRAIN, .flow = flow };

	wanted->here = true;
	count_add(&shard->counters, COUNT_FLOWS_SPREAD, 1);
	if (!flow->closed) {
		flow->tcp.bits |= TCPB_ACK_NOW;
		shard_run_flow(shard, flow);
	}
	push(shard, wanted->from, &drain);
}

void move_take(struct shard *shard, struct flow *flow)
{
	struct wanted *wanted = find_wanted(shard, flow);

	/* Turns begin apart: no time that the flow brings may lie ahead. */
	if (shard->now_us < flow->moved_us)
		shard->now_us = flow->moved_us;
	if (flow->key.proto == FLOW_SPLICE)
		splice_adopt(shard, flow);
	else if (flow->fresh)
		listener_begin(shard, flow);
	else
		adopt(shard, flow);
	if (wanted && wanted->here)
		return; /* what was drawn has ended, and this is another in its entry */
	if (wanted && wanted->offered)
		draw(shard, flow, wanted);
	else
		end_waiting(shard, flow);
}

/* Whether the flow can be given as it stands: open, all of it said, not moved a moment ago. */
static bool may_part(struct shard *shard, struct flow *flow, unsigned int to)
{
	if (flow_owner(flow) != shard->id || flow->closed || !flow->adopted ||
	    flow->key.proto != FLOW_TCP || !ring_has_time(shard, to) || find_wanted(shard, flow))
		return false;
	if (shard->now_us - flow->moved_us < MOVE_INTERVAL_US || !tcp_may_move(&flow->tcp))
		return false;
	return shard_run_flow(shard, flow) && !flow->closed && tcp_may_move(&flow->tcp) &&
	       tx_flush(shard->tx);
}

static void end_leaving(struct shard *shard, const struct flow *flow)
{
	if (shard->leaving.flow != flow)
		return;
	shard->leaving = (struct leaving){ 0 };
	spread_done(shard);
}

/* Whether it went. */
static bool part(struct shard *shard, struct flow *flow, unsigned int to)
{
	if (!may_part(shard, flow, to))
		return false;
	tcp_leave(shard, flow); /* before: then it is another's */
	if (shard_give_flow(shard, flow, to))
		return true;
	tcp_join(shard, flow);
	return false;
}

void move_answer(struct shard *shard, struct flow *flow, uint32_t hash, unsigned int to)
{
	struct batch deny = { .kind = BATCH_DENY, .flow = flow };

	/* The entry may have been freed since, or be another flow. */
	if (flow_is_published(shard->rt, flow, hash) && part(shard, flow, to))
		return;
	push(shard, to, &deny);
	if (shard->leaving.to == to)
		end_leaving(shard, flow);
}

void move_denied(struct shard *shard, const struct flow *flow)
{
	end_waiting(shard, flow);
}

bool move_offer(struct shard *shard, struct flow *flow, unsigned int to)
{
	struct batch offer = {
		.kind = BATCH_OFFER, .flow = flow, .hash = flow->hash, .from = (uint16_t)shard->id
	};

	if (shard->leaving.flow || !may_part(shard, flow, to))
		return false;
	shard->leaving = (struct leaving){ .flow = flow, .to = to };
	push(shard, to, &offer);
	return true;
}

void move_offered(struct shard *shard, const struct flow *flow, uint32_t hash, unsigned int from)
{
	struct batch decline = { .kind = BATCH_DECLINE, .flow = (struct flow *)flow };

	if (!flow_is_published(shard->rt, flow, hash) || flow_owner(flow) != from ||
	    !can_ask(shard, flow, from)) {
		push(shard, from, &decline);
		return;
	}
	ask(shard, flow, from);
	find_wanted(shard, flow)->offered = true;
}

void move_declined(struct shard *shard, const struct flow *flow)
{
	end_leaving(shard, flow);
}

void move_drain(struct shard *shard, const struct flow *flow)
{
	assert(shard->leaving.flow == flow);
	(void)flow;
	shard->leaving.drain_until_us = shard->now_us + DRAIN_US;
	shard->leaving.frames_read = counter_get(&shard->counters, COUNT_RX_FRAMES);
}

void move_drained(struct shard *shard, const struct flow *flow)
{
	end_waiting(shard, flow);
}

/* Reads each of the shard's queues once. Whether more may be waiting. */
static bool read_sources(struct shard *shard)
{
	bool more = false;

	for (unsigned int i = 0; i < 2 * MAX_QUEUES; i++) {
		struct shard_source *source = shard->sources[i].source;

		if (source && source->read(source, shard))
			more = true;
	}
	return more;
}

void move_settle(struct shard *shard)
{
	const struct leaving *leaving = &shard->leaving;
	struct batch drained = { .kind = BATCH_DRAINED, .flow = (struct flow *)leaving->flow };
	uint64_t frames;
	bool more;

	if (!leaving->drain_until_us)
		return;
	more = read_sources(shard);
	/* A queue that others fill as fast as it is read has no end, but what waited has. */
	frames = counter_get(&shard->counters, COUNT_RX_FRAMES) - leaving->frames_read;
	if ((more && frames < DRAIN_FRAMES) || shard->now_us < leaving->drain_until_us) {
		shard->more_sources = true;
		return;
	}
	push(shard, leaving->to, &drained);
	end_leaving(shard, leaving->flow);
}
