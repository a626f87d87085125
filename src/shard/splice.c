/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The life of a spliced connection. The one that was accepted waits until the other is connected;
 * FINs are passed on as they come, each behind the bytes before it, and an error of one socket
 * becomes a reset of the other. Connections that are busy for long spread over the shards: one
 * that begins to be moves once to a shard that has fewer of them.
 */
#include "splice_internal.h"

#include "hostsock.h"
#include "map.h"

#include "taploom/ns_sockets.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define LAST_RUNS  64	  /* when all ends, of each way */
#define HEAVY_RUNS 128	  /* from which on a connection counts as busy */
#define RETRY_US   10000u /* after which a buffer is asked for again */

static const uint8_t loopback4[4] = { 127, 0, 0, 1 };

int splicer_init(struct shard *shard)
{
	struct splicer *splicer = calloc(1, sizeof(*splicer));

	if (!splicer)
		return -ENOMEM;
	if (splice_udp_init(&splicer->udp)) {
		free(splicer);
		return -ENOMEM;
	}
	list_init(&splicer->starved);
	list_init(&splicer->ended);
	shard->splicer = splicer;
	return 0;
}

void splicer_free(struct shard *shard)
{
	if (!shard->splicer)
		return;
	splice_pipes_free(shard->splicer);
	splice_udp_free(shard->splicer->udp);
	free(shard->splicer);
	shard->splicer = NULL;
}

/* Where to. */

static struct ip_addr loopback_of(enum ip_version version)
{
	return version == IP4 ? ip4_addr_of(loopback4) : ip6_addr_of(&in6addr_loopback);
}

/* With a tap device the namespace's side is reached at its interface's address, unless it is asked
 * for otherwise: what a service binds to loopback only is then not shown to the host. */
static bool namespace_addr(const struct runtime *rt, enum ip_version version, struct ip_addr *addr)
{
	*addr = loopback_of(version);
	if (rt->config->host_lo_to_ns_lo || rt->config->splice_only)
		return true;
	return map_guest_addr(netconf_get(rt), version, false, addr);
}

bool splice_wanted(const struct shard *shard, const struct ip_addr *src, uint16_t target,
		   bool outward, struct endpoint *dst)
{
	const struct runtime *rt = shard->rt;

	dst->port = target;
	dst->addr = loopback_of(ip_version_of(src));
	if (outward)
		return true;
	if (!rt->ns_sockets || rt->config->no_splice || !ip_is_loopback(src))
		return false;
	return namespace_addr(rt, ip_version_of(src), &dst->addr);
}

/* The end. */

static void set_heavy(struct shard *shard, struct flow *flow, bool heavy)
{
	uint32_t n = atomic_load_explicit(&shard->splicer->heavy, memory_order_relaxed);

	if (flow->splice.heavy == heavy)
		return;
	flow->splice.heavy = heavy;
	atomic_store_explicit(&shard->splicer->heavy, heavy ? n + 1 : n - 1, memory_order_relaxed);
}

/* The entry, whose descriptors are closed; it is used again when no event can name it. */
static void end_entry(struct shard *shard, struct flow *flow)
{
	for (unsigned int i = 0; i < SPLICE_ENDS; i++) {
		splice_way_drop(shard, &flow->splice.way[i]);
		flow->splice.side[i].fd = -1;
	}
	set_heavy(shard, flow, false);
	flow->closed = true;
	order_done(shard, flow);
	wheel_disarm(&shard->wheel, &flow->timer);
	list_remove(&flow->owned);
	list_remove(&flow->touched);
	list_append(&shard->splicer->ended, &flow->touched);
	count_add(&shard->counters, COUNT_FLOWS_CLOSED, 1);
}

void splice_abort(struct shard *shard, struct flow *flow)
{
	if (flow->closed)
		return;
	for (unsigned int i = 0; i < SPLICE_ENDS; i++) {
		if (flow->splice.side[i].fd >= 0)
			hostsock_abort(flow->splice.side[i].fd);
	}
	end_entry(shard, flow);
}

static void finish(struct shard *shard, struct flow *flow)
{
	hostsock_close(flow->splice.side[SPLICE_ACCEPTED].fd);
	hostsock_close(flow->splice.side[SPLICE_OPENED].fd);
	end_entry(shard, flow);
}

/* The beginning. */

static int watch_side(struct shard *shard, struct splice_side *side)
{
	struct epoll_event ev = { .events = EPOLLIN | EPOLLPRI | EPOLLOUT | EPOLLRDHUP | EPOLLET,
				  .data.ptr = &side->pollee };

	return epoll_ctl(shard->epoll_fd, EPOLL_CTL_ADD, side->fd, &ev) ? -errno : 0;
}

static int watch(struct shard *shard, struct flow *flow)
{
	int ret = watch_side(shard, &flow->splice.side[SPLICE_ACCEPTED]);

	return ret ? ret : watch_side(shard, &flow->splice.side[SPLICE_OPENED]);
}

static int take_socket(struct shard *shard, const struct splice *splice)
{
	const struct ns_sockets *ns = shard->rt->ns_sockets;
	bool v4 = ip_is_v4(&splice->dst.addr);
	int fd;

	if (!splice->outward)
		return ns->take(ns->arg, shard->id, v4 ? NS_TCP4 : NS_TCP6);
	fd = socket(v4 ? AF_INET : AF_INET6, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	return fd < 0 ? -errno : fd;
}

/* 0, or -errno: -EAGAIN if a socket of the namespace is to be waited for. */
static int open_other(struct shard *shard, struct flow *flow)
{
	struct splice *splice = &flow->splice;
	struct sockaddr_storage sa;
	socklen_t len = sockaddr_of(&splice->dst, 0, &sa);
	int fd = take_socket(shard, splice);

	if (fd < 0)
		return fd;
	splice->side[SPLICE_OPENED].fd = fd;
	conn_socket_options(fd, false);
	if (connect(fd, (struct sockaddr *)&sa, len) && errno != EINPROGRESS)
		return -ECONNREFUSED;
	return watch(shard, flow);
}

void splice_begin(struct shard *shard, struct flow *flow)
{
	int ret = open_other(shard, flow);

	if (ret == 0)
		return;
	if (ret == -EAGAIN) {
		list_append(&shard->splicer->starved, &flow->touched);
		return;
	}
	if (ret == -EMFILE || ret == -ENFILE)
		shard_out_of_fds(shard);
	count_add(&shard->counters, COUNT_FLOWS_REFUSED, 1);
	splice_abort(shard, flow);
}

static void init(struct splice *splice, int fd, const struct endpoint *dst, bool outward)
{
	*splice = (struct splice){ .dst = *dst, .outward = outward };
	for (unsigned int i = 0; i < SPLICE_ENDS; i++) {
		splice->side[i].pollee.kind = POLL_SPLICE;
		splice->side[i].end = (uint8_t)i;
		splice->side[i].fd = -1;
		splice_way_init(&splice->way[i]);
	}
	splice->side[SPLICE_ACCEPTED].fd = fd;
	splice->side[SPLICE_ACCEPTED].opened = true;
}

void splice_accept(struct shard *shard, int fd, const struct endpoint *dst, bool outward,
		   const struct ticket *ticket)
{
	static const struct flow_key key = { .proto = FLOW_SPLICE };
	struct flow *flow = flow_take(shard, &key, 0);

	if (!flow) {
		hostsock_abort(fd);
		return;
	}
	/* The listener's is inherited; here a peek is to begin at the first byte. */
	hostsock_set_peek(fd, UINT32_MAX);
	init(&flow->splice, fd, dst, outward);
	shard_own(shard, flow);
	count_add(&shard->counters, COUNT_FLOWS_OPENED, 1);
	flow->ticket = *ticket;
	order_enter(shard, flow);
}

/* The work. */

static struct flow *flow_of(struct splice_side *side)
{
	return LIST_ENTRY(side - side->end, struct flow, splice.side);
}

/*
 * Whether an error ends all at once. What was sent before a reset is still to be read, and the read
 * behind it gives the error; where the end of the stream was read already, only the rest of it is
 * to be passed on.
 */
static bool take_error(struct flow *flow, struct splice_side *side)
{
	const struct splice_way *way = &flow->splice.way[side->end];

	if (side->opened && !way->ended) {
		side->readable = side->hangup = true;
		return false;
	}
	side->broken |= hostsock_error(side->fd) != 0;
	return side->broken && (!side->opened || way->done);
}

void splice_event(struct shard *shard, struct splice_side *side, uint32_t events)
{
	struct flow *flow = flow_of(side);

	if (flow_owner(flow) != shard->id || flow->closed)
		return;
	if ((events & EPOLLERR) && take_error(flow, side)) {
		splice_abort(shard, flow);
		return;
	}
	if (events & EPOLLOUT)
		side->writable = side->opened = true;
	if (side->end == SPLICE_OPENED && side->opened)
		order_done(shard, flow);
	if (events & (EPOLLIN | EPOLLPRI | EPOLLRDHUP | EPOLLHUP))
		side->readable = true;
	if (events & (EPOLLRDHUP | EPOLLHUP))
		side->hangup = true;
	if (events & EPOLLPRI)
		side->urgent = true;
	shard_touch(shard, flow);
}

/* Passes the FIN of a way on that has ended, once all before it is gone. */
static void pass_end(struct splice *splice, enum splice_end from)
{
	struct splice_way *way = &splice->way[from];

	if (!way->ended || way->done || !splice_way_is_empty(way))
		return;
	way->done = true;
	/* The close of both will do if it is the last. */
	if (!splice->way[!from].done)
		hostsock_shutdown_send(splice->side[!from].fd);
}

/* The shard with the fewest busy connections, if that is fewer than this one's. */
static unsigned int least_busy(const struct shard *shard)
{
	uint32_t least = atomic_load_explicit(&shard->splicer->heavy, memory_order_relaxed);
	unsigned int at = shard->id;

	for (unsigned int i = 0; i < shard->rt->n_shards; i++) {
		const struct splicer *other = shard->rt->shards[i]->splicer;
		uint32_t n = atomic_load_explicit(&other->heavy, memory_order_relaxed);

		if (n < least) {
			least = n;
			at = i;
		}
	}
	return at;
}

/* False: it stays. */
static bool move(struct shard *shard, struct flow *flow, unsigned int to)
{
	struct splice *splice = &flow->splice;

	for (unsigned int i = 0; i < SPLICE_ENDS; i++)
		epoll_ctl(shard->epoll_fd, EPOLL_CTL_DEL, splice->side[i].fd, NULL);
	if (shard_give_flow(shard, flow, to)) {
		count_add(&shard->counters, COUNT_FLOWS_MOVED, 1);
		return true;
	}
	if (watch(shard, flow))
		splice_abort(shard, flow);
	return false;
}

/* Whether the flow has gone to another shard, as this one has busier ones. Held chunks are this
 * shard's: not with them. */
static bool balance(struct shard *shard, struct flow *flow)
{
	struct splice *splice = &flow->splice;
	unsigned int to;

	if (splice->runs > HEAVY_RUNS || splice->runs++ < HEAVY_RUNS)
		return false;
	if (!splice_way_is_empty(&splice->way[0]) || !splice_way_is_empty(&splice->way[1])) {
		splice->runs--; /* at the next run */
		return false;
	}
	to = least_busy(shard);
	if (to != shard->id && move(shard, flow, to))
		return true;
	if (!flow->closed)
		set_heavy(shard, flow, true);
	return false;
}

void splice_run(struct shard *shard, struct flow *flow)
{
	struct splice *splice = &flow->splice;
	bool more = false, wait = false;

	for (unsigned int i = 0; i < SPLICE_ENDS; i++) {
		int ret =
			splice_way_run(shard, &splice->way[i], &splice->side[i], &splice->side[!i]);

		pass_end(splice, i); /* a FIN goes before the reset that followed it */
		/* Nothing more comes from a broken one, or its receiver doesn't read. */
		if ((ret < 0 && ret != -ENOBUFS) || (ret == 0 && splice->side[i].broken)) {
			splice_abort(shard, flow);
			return;
		}
		more |= ret > 0;
		wait |= ret < 0;
	}
	if (splice->way[0].done && splice->way[1].done) {
		if (splice->side[0].broken || splice->side[1].broken)
			splice_abort(shard, flow);
		else
			finish(shard, flow);
		return;
	}
	if (balance(shard, flow) || flow->closed)
		return;
	if (more)
		shard_touch_again(shard, flow);
	else if (wait)
		wheel_arm(&shard->wheel, &flow->timer, shard->now_us + RETRY_US);
}

/* What has come by now still goes, with the ends that follow it. No event is waited for: of some
 * nobody has been told. */
static void pass_last(struct shard *shard, struct splice *splice)
{
	for (unsigned int i = 0; i < SPLICE_ENDS; i++) {
		struct splice_side *side = &splice->side[i];

		side->readable = side->hangup = side->writable = true;
	}
	for (unsigned int i = 0; i < SPLICE_ENDS; i++) {
		int more = 1;

		for (unsigned int runs = 0; runs < LAST_RUNS && more > 0; runs++)
			more = splice_way_run(shard, &splice->way[i], &splice->side[i],
					      &splice->side[!i]);
		pass_end(splice, i);
	}
}

void splice_guest_gone(struct shard *shard, struct flow *flow)
{
	struct splice *splice = &flow->splice;

	if (flow->closed)
		return;
	if (splice->side[SPLICE_ACCEPTED].opened && splice->side[SPLICE_OPENED].opened)
		pass_last(shard, splice);
	for (unsigned int i = 0; i < SPLICE_ENDS; i++) {
		int fd = splice->side[i].fd;

		if (fd < 0)
			continue;
		if (!splice->way[!i].done) {
			hostsock_abort(fd);
			continue;
		}
		hostsock_drain(fd);
		hostsock_close(fd);
	}
	end_entry(shard, flow);
}

void splice_timer(struct shard *shard, struct flow *flow)
{
	shard_touch(shard, flow);
}

void splice_adopt(struct shard *shard, struct flow *flow)
{
	shard_own(shard, flow);
	set_heavy(shard, flow, true);
	if (watch(shard, flow)) {
		count_drop(&shard->counters, DROP_SOCKET);
		splice_abort(shard, flow);
	} else {
		shard_touch(shard, flow);
	}
}

void shard_ns_refilled(struct shard *shard)
{
	atomic_store_explicit(&shard->splicer->refilled, true, memory_order_seq_cst);
	shard_wake(shard, NULL);
}

bool splice_has_work(const struct shard *shard)
{
	return atomic_load_explicit(&shard->splicer->refilled, memory_order_relaxed);
}

void splice_turn(struct shard *shard)
{
	struct splicer *splicer = shard->splicer;
	struct list starved, *node;

	while ((node = list_take(&splicer->ended)))
		flow_give_home(shard, LIST_ENTRY(node, struct flow, touched));
	if (!atomic_load_explicit(&splicer->refilled, memory_order_relaxed))
		return;
	atomic_store_explicit(&splicer->refilled, false, memory_order_seq_cst);
	list_init(&starved);
	list_splice(&starved, &splicer->starved);
	while ((node = list_take(&starved))) {
		struct flow *flow = LIST_ENTRY(node, struct flow, touched);

		(flow->key.proto == FLOW_SPLICE ? splice_begin : splice_udp_resume)(shard, flow);
	}
}
