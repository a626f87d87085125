/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A shard's loop. One turn takes what is there (events, rings, timers), lets it mark flows, runs
 * each marked flow once, and flushes the transmit batch. Whoever runs a turn holds the shard's
 * mutex: its own thread, or a reader that found it free.
 */
#include "shard_internal.h"

#include "dgram.h"

#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
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

static void run_touched(struct shard *shard)
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
	run_touched(shard);
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
	run_touched(shard);
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

/* Sets the descriptor that ends the sleep, if the next deadline is nearer than the one it is set
 * for. */
static void arm_timer(struct shard *shard)
{
	uint64_t next = wheel_next_us(&shard->wheel), fragments = fragment_next_us(shard);
	struct itimerspec its = { 0 };

	next = fragments < next ? fragments : next;
	if (next >= shard->timer_armed_us)
		return;
	next = next ? next : 1;
	its.it_value.tv_sec = (time_t)(next / 1000000);
	its.it_value.tv_nsec = (long)(next % 1000000 * 1000);
	if (timerfd_settime(shard->timer_fd, TFD_TIMER_ABSTIME, &its, NULL) == 0)
		shard->timer_armed_us = next;
}

static void run_timers(struct shard *shard)
{
	struct list due, *node;

	fragment_expire(shard);
	list_init(&due);
	wheel_advance(&shard->wheel, shard->now_us, &due);
	while ((node = list_take(&due))) {
		struct flow *flow = LIST_ENTRY(node, struct flow, timer.link);

		if (!list_is_empty(&flow->held))
			order_begin(shard, flow);
		else if (flow->key.proto == FLOW_TCP)
			tcp_timer(shard, flow);
		else if (flow->key.proto == FLOW_SPLICE)
			splice_timer(shard, flow);
		else if (flow->key.proto == FLOW_SPLICE_UDP)
			splice_udp_timer(shard, flow);
		else
			dgram_timer(shard, flow);
	}
}

static void run_event(struct shard *shard, const struct epoll_event *ev)
{
	struct pollee *pollee = ev->data.ptr;
	struct flow *flow;
	struct source_slot *slot;

	switch (pollee->kind) {
	case POLL_WAKE:
		break;
	case POLL_TIMER:
		shard->timer_armed_us = UINT64_MAX;
		break;
	case POLL_SOURCE:
		slot = (struct source_slot *)(void *)pollee;
		if (slot->source && slot->source->read(slot->source, shard))
			shard->more_sources = true;
		break;
	case POLL_LISTENER:
		listener_accept(shard, (struct listener *)(void *)pollee);
		break;
	case POLL_UDP_LISTENER:
		udp_listener_event(shard, (struct udp_listener *)(void *)pollee);
		break;
	case POLL_SPLICE:
		splice_event(shard, (struct splice_side *)(void *)pollee, ev->events);
		break;
	case POLL_FLOW:
		flow = (struct flow *)(void *)pollee;
		if (flow->closed || flow_owner(flow) != shard->id || flow->fd < 0)
			break;
		flow->events |= ev->events;
		shard_touch(shard, flow);
		break;
	}
}

static bool rings_are_empty(const struct shard *shard)
{
	for (unsigned int i = 0; i < shard->n_rings; i++) {
		if (!ring_is_empty(&shard->rings[i]))
			return false;
	}
	return true;
}

/*
 * Ends a turn. Flows that found no room are run again once there is some: at once if the batch went
 * out after all, else when the transport says so with shard_wake_tx().
 */
static void flush(struct shard *shard)
{
	if (!tx_flush(shard->tx))
		return;
	if (shard->retry)
		list_splice(&shard->again, &shard->waiting);
	shard->retry = false;
	if (dgram_resume(shard))
		tx_flush(shard->tx);
}

/* One turn, inside. */
static void turn(struct shard *shard, const struct epoll_event *events, int n_events) ON_SHARD
{
	shard->now_us = shard_clock_us();
	shard->more_sources = false;
	count_add(&shard->counters, COUNT_LOOPS, 1);
	if (atomic_load_explicit(&shard->tx_ready, memory_order_relaxed)) {
		atomic_store_explicit(&shard->tx_ready, false, memory_order_seq_cst);
		shard->retry = true;
		flush(shard);
	}
	list_splice(&shard->touched, &shard->again);
	pool_collect(&shard->pool);
	for (int i = 0; i < n_events; i++)
		run_event(shard, &events[i]);
	/* No event names an entry of before any more: it may be used again. */
	flow_reclaim(shard);
	splice_turn(shard);
	for (unsigned int i = 0; i < shard->n_rings; i++)
		shard_drain_ring(shard, i);
	move_settle(shard);
	if (shard->spreads)
		spread_turn(shard);
	run_timers(shard);
	run_touched(shard);
	flush(shard);
}

bool shard_try_enter(struct shard *shard)
{
	if (pthread_mutex_trylock(&shard->inside))
		return false;
	shard->now_us = shard_clock_us();
	return true;
}

void shard_enter(struct shard *shard)
{
	atomic_fetch_add_explicit(&shard->knocking, 1, memory_order_relaxed);
	rcu_thread_offline();
	pthread_mutex_lock(&shard->inside);
	rcu_thread_online();
	atomic_fetch_sub_explicit(&shard->knocking, 1, memory_order_relaxed);
	shard->now_us = shard_clock_us();
}

void shard_leave(struct shard *shard)
{
	bool more;

	run_touched(shard);
	flush(shard);
	arm_timer(shard);
	more = !list_is_empty(&shard->again);
	pthread_mutex_unlock(&shard->inside);
	if (more)
		shard_wake(shard, NULL);
}

/* Whether there is work that no descriptor will tell of. */
static bool has_work(struct shard *shard)
{
	return shard->more_sources || splice_has_work(shard) || flow_waits_for_reclaim(shard) ||
	       !list_is_empty(&shard->again) || !rings_are_empty(shard) ||
	       atomic_load_explicit(&shard->tx_ready, memory_order_relaxed);
}

/* --busy-poll: looks at the rings for a while before it sleeps; a reader may enter meanwhile. */
static bool poll_rings(struct shard *shard)
{
	uint64_t end = shard->rt->config->busy_poll_us;

	if (!end)
		return false;
	end += shard_clock_us();
	do {
		if (has_work(shard))
			return true;
		caa_cpu_relax();
	} while (shard_clock_us() < end);
	return false;
}

/* Leaves the shard, waits for events, and enters again. Returns the number of events. */
static int sleep_outside(struct shard *shard, struct epoll_event *events)
{
	bool work = has_work(shard) || poll_rings(shard);
	int n;

	if (!work) {
		arm_timer(shard);
		/* Pairs with shard_wake(): a producer that does not see this has pushed before the
		 * look at the rings. */
		atomic_store_explicit(&shard->asleep, true, memory_order_seq_cst);
		atomic_thread_fence(memory_order_seq_cst);
		work = has_work(shard);
	}
	rcu_thread_offline();
	pthread_mutex_unlock(&shard->inside);
	while (atomic_load_explicit(&shard->knocking, memory_order_relaxed))
		sched_yield();
	n = epoll_wait(shard->epoll_fd, events, SHARD_EVENTS, work ? 0 : -1);
	atomic_store_explicit(&shard->asleep, false, memory_order_relaxed);
	pthread_mutex_lock(&shard->inside);
	rcu_thread_online();
	return n;
}

/* The CPU for a shard's thread: the list gives the reader's, control's, then the shards'; too few
 * are shared in order. */
static void pin(const struct shard *shard)
{
	const struct config *config = shard->rt->config;
	cpu_set_t set;
	int error;

	if (!config->n_cpus)
		return;
	CPU_ZERO(&set);
	CPU_SET((size_t)config->cpus[(shard->id + 2) % config->n_cpus], &set);
	error = pthread_setaffinity_np(pthread_self(), sizeof(set), &set);
	if (error)
		log_warning("shard %u: cannot be pinned: %s", shard->id, strerror(error));
}

void *shard_main(void *arg)
{
	struct shard *shard = arg;
	struct epoll_event events[SHARD_EVENTS];
	char name[16];
	int n = 0;

	role_is_shard();
	snprintf(name, sizeof(name), "shard-%u", shard->id);
	pthread_setname_np(pthread_self(), name);
	pin(shard);
	rcu_register_thread();
	rcu_thread_offline();
	pthread_mutex_lock(&shard->inside);
	rcu_thread_online();
	while (!atomic_load_explicit(&shard->stopping, memory_order_relaxed)) {
		turn(shard, events, n);
		rcu_quiescent_state();
		n = sleep_outside(shard, events);
	}
	pthread_mutex_unlock(&shard->inside);
	rcu_unregister_thread();
	return NULL;
}

void shard_stop(struct shard *shard)
{
	uint64_t one = 1;

	atomic_store_explicit(&shard->stopping, true, memory_order_relaxed);
	if (write(shard->wake_fd, &one, sizeof(one)) < 0)
		log_error("shard %u: cannot be stopped: %m", shard->id);
}

int shard_add_source(struct shard *shard, struct shard_source *source)
{
	struct epoll_event ev = { .events = EPOLLIN };
	int ret = -ENOSPC;

	pthread_mutex_lock(&shard->inside);
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
	atomic_fetch_add_explicit(&shard->knocking, 1, memory_order_relaxed);
	pthread_mutex_lock(&shard->inside);
	atomic_fetch_sub_explicit(&shard->knocking, 1, memory_order_relaxed);
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
			splice_abort(shard, flow);
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
		if (!rings_are_empty(rt->shards[i]))
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
