/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A shard's loop. One turn takes what is there (events, rings, timers), lets it mark flows, runs
 * each marked flow once, and flushes the transmit batch. Whoever runs a turn holds the shard's
 * mutex: its own thread, or a reader that found it free.
 */
#include "shard_internal.h"

#include "dgram.h"

#include <sched.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <unistd.h>

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

static void flow_event(struct shard *shard, struct flow *flow, uint32_t events)
{
	if (flow->closed || flow_owner(flow) != shard->id || flow->fd < 0)
		return;
	flow->events |= events;
	if (flow->key.proto == FLOW_TCP)
		tcp_touch(shard, flow);
	else
		shard_touch(shard, flow);
}

static void run_event(struct shard *shard, const struct epoll_event *ev)
{
	struct pollee *pollee = ev->data.ptr;
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
		flow_event(shard, (struct flow *)(void *)pollee, ev->events);
		break;
	}
}

bool shard_rings_are_empty(const struct shard *shard)
{
	for (unsigned int i = 0; i < shard->n_rings; i++) {
		if (!ring_is_empty(&shard->rings[i]))
			return false;
	}
	return true;
}

/*
 * Ends a turn. Flows that found no room are run again once there is some: at once if the batch went
 * out after all, else when the transport says so with shard_wake_tx(): ready. That one queue was
 * found full since says nothing of the others.
 */
static void flush(struct shard *shard, bool ready)
{
	if (!tx_flush(shard->tx) && !(ready && shard->tx->by_queue))
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
		flush(shard, true);
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
	shard_run_touched(shard);
	flush(shard, false);
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

	shard_run_touched(shard);
	flush(shard, false);
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
	       !list_is_empty(&shard->again) || !shard_rings_are_empty(shard) ||
	       atomic_load_explicit(&shard->tx_ready, memory_order_relaxed);
}

/*
 * --busy-poll: looks at the rings and at all descriptors for a while before it sleeps. It stays in
 * the shard: a reader's batch comes by the ring and is seen as fast; who knocks is let in, and no
 * grace period waits. Returns the number of events.
 */
static int poll_before_sleep(struct shard *shard, struct epoll_event *events)
{
	uint64_t end = shard->rt->config->busy_poll_us;
	int n = 0;

	if (!end)
		return 0;
	arm_timer(shard);
	end += shard_clock_us();
	while (n <= 0 && !has_work(shard) && shard_clock_us() < end &&
	       !atomic_load_explicit(&shard->knocking, memory_order_relaxed)) {
		n = epoll_wait(shard->epoll_fd, events, SHARD_EVENTS, 0);
		rcu_quiescent_state();
	}
	return n > 0 ? n : 0;
}

/* Leaves the shard, waits for events, and enters again. Returns the number of events. */
static int sleep_outside(struct shard *shard, struct epoll_event *events)
{
	int n = has_work(shard) ? 0 : poll_before_sleep(shard, events);
	bool work = n || has_work(shard);

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
	if (!n)
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
