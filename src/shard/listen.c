/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Forwarded TCP ports: one listening socket a port, in the epoll of every shard, or of one shard
 * where there are many ports. Never SO_REUSEPORT: a second daemon on the port must fail with
 * EADDRINUSE.
 */
#include "dgram.h"
#include "hostsock.h"
#include "map.h"
#include "shard_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define BACKLOG	   1024
#define ACCEPT_MAX 32 /* per event, so that other work has its turn */

/*
 * Its memory is only ever used for listeners again: an event that a shard fetched before the
 * listener was closed finds a closed one, or another one that has nothing to accept.
 */
struct listener {
	struct pollee pollee;
	_Atomic int fd;		 /* written by control; -1: closed, or UDP */
	_Atomic uint16_t target; /* the guest's port; written by control before fd */
	_Atomic bool outward; /* it is in the namespace, for ports of the host; written by control
				 before fd */
	struct udp_listener *udp; /* the whole of it, for UDP */
	struct listener *next;	  /* among the open or the spare ones */
	struct order *order;	  /* constant; shared with other listeners */
};

static void set_int(int fd, int level, int name, int value)
{
	setsockopt(fd, level, name, &value, sizeof(value));
}

/* The address to bind to for a family: the map's own, or any. */
static socklen_t bind_address(const struct port_map *map, uint16_t port, int family,
			      struct sockaddr_storage *sa)
{
	static const uint8_t any4[4];
	struct endpoint e = { .addr = map->addr, .port = port };
	unsigned int scope = map->ifname[0] ? if_nametoindex(map->ifname) : 0;

	if (ip_is_unset(&e.addr) && family == AF_INET)
		e.addr = ip4_addr_of(any4);
	return sockaddr_of(&e, scope, sa);
}

/* Makes one bound and listening socket. The descriptor or -errno. */
static int make_socket(const struct runtime *rt, const struct port_map *map, uint16_t port,
		       int family)
{
	int fd = socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	struct sockaddr_storage sa;
	socklen_t len = bind_address(map, port, family, &sa);
	int error;

	if (fd < 0)
		return -errno;
	/* Over its own connections in TIME_WAIT a restarted daemon must bind; over another's
	 * listener it cannot. */
	set_int(fd, SOL_SOCKET, SO_REUSEADDR, 1);
	if (family == AF_INET6)
		set_int(fd, IPPROTO_IPV6, IPV6_V6ONLY,
			!ip_is_unset(&map->addr) || map->v6_only || rt->config->family_off[IP4]);
	if (rt->config->freebind)
		set_int(fd, IPPROTO_IP, IP_FREEBIND, 1);
	conn_socket_options(fd, rt->shards[0]->peek_off); /* inherited by what is accepted */
	if ((map->ifname[0] && setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, map->ifname,
					  (socklen_t)strlen(map->ifname) + 1)) ||
	    bind(fd, (struct sockaddr *)&sa, len) || listen(fd, BACKLOG)) {
		error = errno;
		close(fd);
		return -error;
	}
	return fd;
}

/* One dual-stack socket where that is possible, else one of the version that is there. */
static int make_any(const struct runtime *rt, const struct port_map *map, uint16_t port)
{
	int fd;

	if (!ip_is_unset(&map->addr))
		return make_socket(rt, map, port, ip_is_v4(&map->addr) ? AF_INET : AF_INET6);
	if (rt->config->family_off[IP6])
		return make_socket(rt, map, port, AF_INET);
	fd = make_socket(rt, map, port, AF_INET6);
	if ((fd == -EAFNOSUPPORT || fd == -EADDRNOTAVAIL) && !map->v6_only)
		fd = make_socket(rt, map, port, AF_INET);
	return fd;
}

static int watch(struct runtime *rt, struct listener *listener, bool everywhere, uint16_t port)
{
	struct epoll_event ev = { .events = EPOLLIN | (everywhere ? EPOLLEXCLUSIVE : 0),
				  .data.ptr = &listener->pollee };

	for (unsigned int i = 0; i < rt->n_shards; i++) {
		if (!everywhere && i != port % rt->n_shards)
			continue;
		if (epoll_ctl(rt->shards[i]->epoll_fd, EPOLL_CTL_ADD, listener->fd, &ev))
			return -errno;
	}
	return 0;
}

static struct listener *make_listener(struct runtime *rt)
{
	struct listener *listener;

	if (!rt->orders)
		rt->orders = orders_new();
	listener = rt->orders ? calloc(1, sizeof(*listener)) : NULL;
	if (listener)
		listener->order = &rt->orders[rt->n_listeners++ % ORDERS];
	return listener;
}

static struct listener *take_listener(struct runtime *rt)
{
	struct listener *listener = rt->spare_listeners;

	if (listener)
		rt->spare_listeners = listener->next;
	else
		listener = make_listener(rt);
	if (!listener)
		return NULL;
	listener->pollee.kind = POLL_LISTENER;
	listener->fd = -1;
	listener->outward = false;
	return listener;
}

static void open_listener(struct runtime *rt, struct listener *listener, struct listener **out)
{
	listener->next = rt->listeners;
	rt->listeners = listener;
	*out = listener;
}

int shards_listen(struct runtime *rt, uint8_t proto, const struct port_map *map, uint16_t port,
		  struct listener **out)
{
	struct listener *listener = take_listener(rt);
	int ret;

	if (!listener)
		return -ENOMEM;
	atomic_store(&listener->target, (uint16_t)(map->target + (port - map->first)));
	if (proto == IPPROTO_UDP) {
		ret = udp_listen(rt, map, port, &listener->udp);
	} else {
		listener->fd = ret = make_any(rt, map, port);
		if (ret >= 0)
			ret = watch(rt, listener, map->last - map->first < 256, port);
	}
	if (ret < 0) {
		shards_unlisten(rt, listener);
		return ret;
	}
	open_listener(rt, listener, out);
	return 0;
}

int shards_listen_ns(struct runtime *rt, uint8_t proto, int fd, uint16_t target,
		     struct listener **out)
{
	struct listener *listener = take_listener(rt);
	int ret;

	if (!listener) {
		close(fd);
		return -ENOMEM;
	}
	atomic_store(&listener->target, target);
	atomic_store(&listener->outward, true);
	if (proto == IPPROTO_UDP) {
		ret = udp_listen_ns(rt, fd, target, &listener->udp);
	} else {
		listener->fd = fd;
		ret = watch(rt, listener, true, target);
	}
	if (ret) {
		shards_unlisten(rt, listener);
		return ret;
	}
	open_listener(rt, listener, out);
	return 0;
}

int shards_ns_socket(uint8_t proto, enum ip_version version, uint16_t port)
{
	static const uint8_t loopback4[4] = { 127, 0, 0, 1 };
	struct endpoint e = { .port = port };
	int type = proto == IPPROTO_TCP ? SOCK_STREAM : SOCK_DGRAM, error;
	int fd =
		socket(version == IP4 ? AF_INET : AF_INET6, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	struct sockaddr_storage sa;

	if (fd < 0)
		return -errno;
	e.addr = version == IP4 ? ip4_addr_of(loopback4) : ip6_addr_of(&in6addr_loopback);
	if (proto == IPPROTO_TCP) {
		set_int(fd, SOL_SOCKET, SO_REUSEADDR, 1);
		conn_socket_options(fd, false);
	}
	if (bind(fd, (struct sockaddr *)&sa, sockaddr_of(&e, 0, &sa)) ||
	    (proto == IPPROTO_TCP && listen(fd, BACKLOG))) {
		error = errno;
		close(fd);
		return -error;
	}
	return fd;
}

void shards_unlisten(struct runtime *rt, struct listener *listener)
{
	int fd = atomic_exchange(&listener->fd, -1);

	if (listener->udp)
		udp_unlisten(rt, listener->udp);
	listener->udp = NULL;
	if (fd >= 0)
		close(fd); /* which takes it out of the epolls */
	for (struct listener **at = &rt->listeners; *at; at = &(*at)->next) {
		if (*at == listener) {
			*at = listener->next;
			break;
		}
	}
	listener->next = rt->spare_listeners;
	rt->spare_listeners = listener;
}

void shards_unlisten_all(struct runtime *rt)
{
	while (rt->listeners)
		shards_unlisten(rt, rt->listeners);
}

void shards_free_listeners(struct runtime *rt)
{
	struct listener *next;

	for (struct listener *l = rt->spare_listeners; l; l = next) {
		next = l->next;
		free(l);
	}
	rt->spare_listeners = NULL;
	orders_free(rt->orders);
	rt->orders = NULL;
}

/* The key of a connection from the host, as the guest will see it. False if the guest could not
 * answer. */
static bool key_of(struct shard *shard, const struct sockaddr_storage *sa, uint16_t target,
		   struct flow_key *key)
{
	const struct netconf *net = netconf_get(shard->rt);
	struct endpoint peer;
	struct ip_addr guest;

	*key = (struct flow_key){ .proto = FLOW_TCP, .guest_port = target };
	if (!endpoint_of(sa, &peer) || !map_to_guest(net, &peer.addr, NULL, &key->peer))
		return false;
	key->peer_port = peer.port;
	/* A link-local peer may write to any, if the guest has not shown a link-local one. */
	if (!map_guest_addr(net, ip_version_of(&key->peer), ip_is_link_local(&key->peer), &guest) &&
	    !map_guest_addr(net, ip_version_of(&key->peer), false, &guest))
		return false;
	key->guest = guest;
	return true;
}

/* Who will own a connection that was accepted: as the guest's frames for it will be steered. */
static unsigned int owner_of(const struct shard *shard, uint32_t hash)
{
	return shard->rt->n_readers ? steer(shard->rt, FLOW_TCP, hash) : hash % shard->rt->n_shards;
}

static void refuse(struct shard *shard, int fd)
{
	count_add(&shard->counters, COUNT_FLOWS_REFUSED, 1);
	hostsock_abort(fd);
}

/* Whether it goes socket to socket; then it has begun. */
static bool accepted_splice(struct shard *shard, int fd, const struct sockaddr_storage *sa,
			    const struct listener *listener, const struct ticket *ticket)
{
	struct endpoint peer, dst;

	if (!endpoint_of(sa, &peer) ||
	    !splice_wanted(shard, &peer.addr, listener->target, listener->outward, &dst))
		return false;
	splice_accept(shard, fd, &dst, listener->outward, ticket);
	return true;
}

/*
 * Publishes a flow; returns what is there under its key. The peer may use its port again before we
 * are done with it: a flow that only waits for the guest to repeat its FIN is not in the way, as
 * the peer's SYN has a number above all that it had (RFC 6191). One whose peer has reset it meets
 * that now; the event may be behind this one.
 */
static struct flow *publish(struct shard *shard, struct flow *flow)
{
	struct flow *there = flow_publish(shard, flow);
	struct hostsock_info info = { 0 };

	if (there == flow || flow_owner(there) != shard->id)
		return there;
	if (there->tcp.state == TCPS_TIME_WAIT) {
		tcp_abort(shard, there, false);
		return flow_publish(shard, flow);
	}
	if (there->adopted && there->fd >= 0)
		hostsock_info(there->fd, &info);
	if (!info.ended)
		return there; /* another of our ports may lead to the same */
	there->events |= EPOLLERR | EPOLLHUP | EPOLLRDHUP;
	list_remove(&there->touched); /* run as those that are taken from there */
	shard_run_flow(shard, there);
	return there->closed ? flow_publish(shard, flow) : there;
}

/* What is in the way belongs to another shard, and only that knows whether it waits for its end.
 * Once, as it may change its owner again. */
static bool pass_on(struct shard *shard, struct flow *flow, const struct flow *there)
{
	unsigned int owner = flow_owner(there);

	if (owner == shard->id || flow->passed_on)
		return false;
	flow->passed_on = true;
	return shard_give_flow(shard, flow, owner);
}

void listener_begin(struct shard *shard, struct flow *flow)
{
	struct flow *there = publish(shard, flow);

	if (there != flow) {
		if (pass_on(shard, flow, there))
			return;
		refuse(shard, flow->fd);
		flow->fd = -1;
		order_done(shard, flow);
		flow_give_home(shard, flow);
		return;
	}
	flow->fresh = false;
	shard_own(shard, flow);
	if (shard_watch(shard, flow)) {
		count_drop(&shard->counters, DROP_SOCKET);
		hostsock_abort(flow->fd);
		flow->fd = -1;
		flow_close(shard, flow);
		return;
	}
	tcp_open_host(shard, flow);
	order_enter(shard, flow);
}

static void accepted(struct shard *shard, int fd, const struct sockaddr_storage *sa,
		     uint16_t target, const struct ticket *ticket)
{
	struct flow_key key;
	struct flow *flow;
	unsigned int owner;

	if (shard->rt->config->no_tcp || shard->rt->config->splice_only ||
	    !key_of(shard, sa, target, &key)) {
		refuse(shard, fd);
		return;
	}
	tcp_recycle(shard);
	flow = flow_take(shard, &key, flow_steer_hash(&key, &shard->rt->secret));
	if (!flow) {
		refuse(shard, fd);
		return;
	}
	flow->fd = fd;
	flow->fresh = true;
	flow->ticket = *ticket;
	owner = owner_of(shard, flow->hash);
	if (owner == shard->id || !shard_give_flow(shard, flow, owner))
		listener_begin(shard, flow);
}

/*
 * Descriptors are the process's. While there are none left, whoever accepts must not take the one
 * that another shard has let go to refuse a connection: it would not get it back, and what waits
 * then would be reported without end.
 */
static pthread_mutex_t scarce_lock = PTHREAD_MUTEX_INITIALIZER;
static _Atomic uint64_t scarce_until_us; /* relaxed: who is late meets the limit, and then looks */

#define SCARCE_US 1000000u

static int accept_fd(const struct shard *shard, int listen_fd, struct sockaddr_storage *sa)
{
	bool scarce = shard->now_us < atomic_load_explicit(&scarce_until_us, memory_order_relaxed);
	socklen_t len = sizeof(*sa);
	int fd, error;

	if (scarce)
		pthread_mutex_lock(&scarce_lock);
	fd = accept4(listen_fd, (struct sockaddr *)sa, &len, SOCK_NONBLOCK | SOCK_CLOEXEC);
	error = errno;
	if (scarce)
		pthread_mutex_unlock(&scarce_lock);
	errno = error;
	return fd;
}

/* Under the lock, so that places are in the order in which the kernel gives connections. */
static int accept_one(struct shard *shard, const struct listener *listener, int listen_fd,
		      struct sockaddr_storage *sa, struct ticket *ticket)
{
	struct order *order = listener->order;
	struct endpoint client;
	int fd;

	if (shard->rt->n_shards == 1 || order_is_crowded(order, shard->now_us))
		return accept_fd(shard, listen_fd, sa);
	pthread_mutex_lock(&order->lock);
	fd = accept_fd(shard, listen_fd, sa);
	if (fd >= 0 && endpoint_of(sa, &client))
		order_take(order, listener, &client.addr, shard->now_us, ticket);
	pthread_mutex_unlock(&order->lock);
	return fd;
}

/* No descriptor is left: a connection that waits would be reported without end. */
static void refuse_one(struct shard *shard, int listen_fd)
{
	int fd;

	shard_out_of_fds(shard);
	pthread_mutex_lock(&scarce_lock);
	atomic_store_explicit(&scarce_until_us, shard->now_us + SCARCE_US, memory_order_relaxed);
	if (shard->spare_fd >= 0)
		close(shard->spare_fd);
	fd = accept4(listen_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	if (fd >= 0)
		hostsock_abort(fd);
	shard->spare_fd = fcntl(shard->wake_fd, F_DUPFD_CLOEXEC, 0);
	pthread_mutex_unlock(&scarce_lock);
	if (shard->spare_fd < 0) /* a socket of another kind took it: no reason to spin */
		poll(NULL, 0, 1);
}

void listener_accept(struct shard *shard, struct listener *listener)
{
	for (unsigned int i = 0; i < ACCEPT_MAX; i++) {
		struct sockaddr_storage sa = { 0 };
		struct ticket ticket = { 0 };
		int listen_fd = listener->fd, fd;

		if (listen_fd < 0)
			return;
		fd = accept_one(shard, listener, listen_fd, &sa, &ticket);
		/* Closed meanwhile, and the number may be another listener's by now. */
		if (fd >= 0 && listener->fd != listen_fd) {
			refuse(shard, fd);
			return;
		}
		if (fd < 0) {
			if (errno == EMFILE || errno == ENFILE)
				refuse_one(shard, listen_fd);
			return;
		}
		count_add(&shard->counters, COUNT_ACCEPTED, 1);
		if (!accepted_splice(shard, fd, &sa, listener, &ticket))
			accepted(shard, fd, &sa, listener->target, &ticket);
	}
}
