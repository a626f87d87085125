/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Forwarded UDP ports: one socket a port, in the epoll of the shard to which the guest's port is
 * steered. All flows of that guest port are in the same shard, and answer through the socket. Never
 * SO_REUSEADDR or SO_REUSEPORT: a second daemon on the port must fail with EADDRINUSE.
 */
#include "dgram_internal.h"
#include "hostsock.h"

#include <errno.h>
#include <net/if.h>
#include <netinet/udp.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <unistd.h>

#ifndef UDP_GRO
#define UDP_GRO 104
#endif

#define RECV_BUFFER (1 << 20)

#define LOOPBACK_IFINDEX 1 /* in each network namespace */

int udp_ports_init(struct runtime *rt)
{
	void *p;

	if (rt->udp_ports)
		return 0;
	/* Zeroes mean "not forwarded": only the pages of ports that are looked up are ever there.
	 */
	p = mmap(NULL, sizeof(struct udp_ports), PROT_READ | PROT_WRITE,
		 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (p == MAP_FAILED)
		return -ENOMEM;
	rt->udp_ports = p;
	return 0;
}

void udp_ports_free(struct runtime *rt)
{
	struct udp_listener *next;

	if (!rt->udp_ports)
		return;
	for (struct udp_listener *l = rt->udp_ports->all; l; l = next) {
		next = l->next_all;
		if (l->fd >= 0)
			close(l->fd);
		free(l);
	}
	munmap(rt->udp_ports, sizeof(struct udp_ports));
	rt->udp_ports = NULL;
}

void shards_own_udp(const struct runtime *rt, uint64_t *ports)
{
	for (unsigned int port = 0; port < 65536; port++) {
		if (atomic_load_explicit(&rt->udp_ports->own[port], memory_order_relaxed))
			ports[port / 64] |= UINT64_C(1) << port % 64;
	}
}

struct udp_port *udp_port_find(const struct runtime *rt, uint16_t port)
{
	struct udp_port *entry = &rt->udp_ports->port[port];

	return atomic_load_explicit(&entry->shard, memory_order_acquire) ? entry : NULL;
}

/* Whether what leaves by its socket goes where it should: the socket is bound to an address or a
 * device. */
static bool serves(const struct udp_listener *listener, const struct ip_addr *dst,
		   const struct udp_way_out *out)
{
	bool to_loopback = ip_is_loopback(dst);

	if (!listener->versions[ip_version_of(dst)])
		return false;
	if (ip_is_loopback(&listener->addr) || listener->ifindex == LOOPBACK_IFINDEX)
		return to_loopback;
	if (listener->ifindex && (to_loopback || listener->ifindex != out->ifindex))
		return false;
	return ip_is_unset(&listener->addr) || ip_eq(&listener->addr, &out->own);
}

struct udp_listener *udp_port_listener(struct udp_port *port, const struct ip_addr *dst,
				       const struct udp_way_out *out)
{
	for (struct list *l = port->listeners.next; l != &port->listeners; l = l->next) {
		struct udp_listener *listener = LIST_ENTRY(l, struct udp_listener, port_link);

		if (serves(listener, dst, out))
			return listener;
	}
	return NULL;
}

/* Making the socket. */

static void set_int(int fd, int level, int name, int value)
{
	setsockopt(fd, level, name, &value, sizeof(value));
}

static int bind_to(int fd, const struct port_map *map, uint16_t port, int family)
{
	static const uint8_t any4[4];
	struct endpoint e = { .addr = map->addr, .port = port };
	unsigned int scope = map->ifname[0] ? if_nametoindex(map->ifname) : 0;
	struct sockaddr_storage sa;
	socklen_t len;

	if (ip_is_unset(&e.addr) && family == AF_INET)
		e.addr = ip4_addr_of(any4);
	len = sockaddr_of(&e, scope, &sa);
	if (map->ifname[0] && setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, map->ifname,
					 (socklen_t)strlen(map->ifname) + 1))
		return -errno;
	return bind(fd, (struct sockaddr *)&sa, len) ? -errno : 0;
}

static int make_socket(const struct runtime *rt, const struct port_map *map, uint16_t port,
		       int family)
{
	bool dual = family == AF_INET6 && ip_is_unset(&map->addr) && !map->v6_only &&
		    !rt->config->family_off[IP4];
	int fd = socket(family, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	int error;

	if (fd < 0)
		return -errno;
	if (family == AF_INET6)
		set_int(fd, IPPROTO_IPV6, IPV6_V6ONLY, !dual);
	if (rt->config->freebind)
		set_int(fd, IPPROTO_IP, IP_FREEBIND, 1);
	udp_socket_options(fd, family, dual, true);
	error = bind_to(fd, map, port, family);
	if (error) {
		close(fd);
		return error;
	}
	return fd;
}

/* One dual-stack socket where that is possible, else one of the version that is there. */
static int make_any(const struct runtime *rt, const struct port_map *map, uint16_t port,
		    struct udp_listener *listener)
{
	bool any = ip_is_unset(&map->addr) && !map->v6_only;
	int fd = -EAFNOSUPPORT;

	if (any ? !rt->config->family_off[IP6] : !ip_is_v4(&map->addr)) {
		listener->versions[IP6] = true;
		listener->versions[IP4] = any && !rt->config->family_off[IP4];
		fd = make_socket(rt, map, port, AF_INET6);
	}
	if ((fd == -EAFNOSUPPORT || fd == -EADDRNOTAVAIL) && (any || ip_is_v4(&map->addr))) {
		listener->versions[IP6] = false;
		listener->versions[IP4] = true;
		fd = make_socket(rt, map, port, AF_INET);
	}
	return fd;
}

/* Flows that were there before the port was forwarded: they hold the host's port, or are in another
 * shard. */

static void close_flow(struct runtime *rt, const struct ip_addr *guest, uint16_t port)
{
	struct flow_key key = { .guest = *guest, .guest_port = port, .proto = FLOW_UDP };
	uint32_t hash = flow_steer_hash(&key, &rt->secret);
	struct flow *flow = ip_is_unset(guest) ? NULL : flow_find(rt, &key, hash);
	struct shard *shard;

	if (!flow)
		return;
	shard = rt->shards[flow_owner(flow)];
	role_is_reader();
	shard_enter(shard);
	flow = flow_find(rt, &key, hash); /* the wait may have ended it */
	if (flow && flow_owner(flow) == shard->id && !flow->dgram.port)
		dgram_close(shard, flow);
	shard_leave(shard);
}

static void close_flows(struct runtime *rt, uint16_t port)
{
	for (unsigned int version = 0; version < IP_VERSIONS; version++) {
		const struct netconf_version v = netconf_get(rt)->v[version];

		close_flow(rt, &v.seen, port);
		close_flow(rt, &v.seen_local, port);
		close_flow(rt, &v.addr, port);
	}
}

static struct shard *shard_of(struct runtime *rt, uint16_t target)
{
	struct flow_key key = { .guest_port = target, .proto = FLOW_UDP };
	uint32_t hash = flow_steer_hash(&key, &rt->secret);

	return rt->shards[steer(rt, FLOW_UDP, hash)];
}

static struct udp_listener *new_listener(struct udp_ports *ports)
{
	struct udp_listener *listener = calloc(1, sizeof(*listener));

	if (!listener)
		return NULL;
	listener->next_all = ports->all;
	ports->all = listener;
	return listener;
}

static struct udp_listener *take_listener(struct runtime *rt)
{
	struct udp_ports *ports = rt->udp_ports;
	struct udp_listener *listener = ports->spare;

	if (listener)
		ports->spare = listener->next;
	else
		listener = new_listener(ports);
	if (!listener)
		return NULL;
	listener->pollee.kind = POLL_UDP_LISTENER;
	listener->outward = false;
	listener->port = 0;
	listener->serial = ++ports->serial;
	list_init(&listener->splices);
	atomic_store(&listener->fd, -1);
	list_init(&listener->port_link);
	list_init(&listener->stalled);
	return listener;
}

static void give_listener(struct runtime *rt, struct udp_listener *listener)
{
	listener->next = rt->udp_ports->spare;
	rt->udp_ports->spare = listener;
}

/* Inside the shard. */
static int publish(struct udp_port *port, struct shard *shard, struct udp_listener *listener,
		   int fd)
{
	struct epoll_event ev = { .events = EPOLLIN, .data.ptr = &listener->pollee };

	if (epoll_ctl(shard->epoll_fd, EPOLL_CTL_ADD, fd, &ev))
		return -errno;
	atomic_store(&listener->shard, shard);
	atomic_store(&listener->fd, fd);
	if (listener->outward)
		return 0;
	if (!atomic_load_explicit(&port->shard, memory_order_relaxed)) {
		list_init(&port->listeners);
		list_init(&port->flows);
	}
	list_append(&port->listeners, &listener->port_link);
	atomic_store_explicit(&port->shard, shard, memory_order_release);
	return 0;
}

static int add(struct runtime *rt, struct udp_listener *listener, int fd)
{
	struct udp_port *port = &rt->udp_ports->port[listener->target];
	struct shard *shard = atomic_load_explicit(&port->shard, memory_order_relaxed);
	int ret;

	if (!shard || listener->outward)
		shard = shard_of(rt, listener->target);
	role_is_reader();
	shard_enter(shard);
	ret = publish(port, shard, listener, fd);
	shard_leave(shard);
	return ret;
}

int udp_listen(struct runtime *rt, const struct port_map *map, uint16_t port,
	       struct udp_listener **out)
{
	struct udp_listener *listener = take_listener(rt);
	int fd, ret;

	if (!listener)
		return -ENOMEM;
	listener->target = (uint16_t)(map->target + (port - map->first));
	listener->addr = map->addr;
	listener->df = -1;
	listener->ifindex = map->ifname[0] ? if_nametoindex(map->ifname) : 0;
	fd = make_any(rt, map, port, listener);
	if (fd == -EADDRINUSE) {
		close_flows(rt, port);
		fd = make_any(rt, map, port, listener);
	}
	ret = fd < 0 ? fd : add(rt, listener, fd);
	if (ret < 0) {
		if (fd >= 0)
			close(fd);
		give_listener(rt, listener);
		return ret;
	}
	listener->port = port;
	atomic_fetch_add_explicit(&rt->udp_ports->own[port], 1, memory_order_relaxed);
	close_flows(rt, listener->target);
	*out = listener;
	return 0;
}

int udp_listen_ns(struct runtime *rt, int fd, uint16_t target, struct udp_listener **out)
{
	static const int one = 1, size = RECV_BUFFER;
	struct udp_listener *listener = take_listener(rt);
	int ret = -ENOMEM;

	if (listener) {
		listener->target = target;
		listener->outward = true;
		setsockopt(fd, IPPROTO_UDP, UDP_GRO, &one, sizeof(one));
		setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof(size));
		ret = add(rt, listener, fd);
		if (ret < 0)
			give_listener(rt, listener);
	}
	if (ret < 0)
		close(fd);
	else
		*out = listener;
	return ret;
}

/* Inside the shard. The other listeners of the port, if there are any, find their flows anew. */
static void withdraw(struct udp_port *port, struct shard *shard, struct udp_listener *listener)
{
	while (!list_is_empty(&listener->splices))
		splice_udp_close(shard,
				 LIST_ENTRY(listener->splices.next, struct flow, splice_udp.link));
	if (listener->outward) {
		close(atomic_exchange(&listener->fd, -1));
		return;
	}
	while (!list_is_empty(&port->flows))
		dgram_close(shard, LIST_ENTRY(port->flows.next, struct flow, dgram.port_link));
	list_remove(&listener->port_link);
	list_remove(&listener->stalled);
	dgram_inbox_forget_listener(shard, listener);
	if (list_is_empty(&port->listeners))
		atomic_store_explicit(&port->shard, NULL, memory_order_release);
	close(atomic_exchange(&listener->fd, -1)); /* which takes it out of the epoll */
}

void udp_unlisten(struct runtime *rt, struct udp_listener *listener)
{
	struct shard *shard = atomic_load(&listener->shard);

	if (listener->fd < 0)
		return;
	if (listener->port)
		atomic_fetch_sub_explicit(&rt->udp_ports->own[listener->port], 1,
					  memory_order_relaxed);
	role_is_reader();
	shard_enter(shard);
	withdraw(&rt->udp_ports->port[listener->target], shard, listener);
	shard_leave(shard);
	give_listener(rt, listener);
}

/* Receiving. */

/* The guest's address for a peer; a link-local peer may write to any, if the guest has not shown a
 * link-local one. */
static bool guest_of(const struct netconf *net, const struct ip_addr *peer, struct ip_addr *guest)
{
	enum ip_version version = ip_version_of(peer);

	return map_guest_addr(net, version, ip_is_link_local(peer), guest) ||
	       map_guest_addr(net, version, false, guest);
}

/* Whether an address is the host's: what is sent to such a one has it as source. */
static bool is_hosts(const struct endpoint *e, unsigned int scope)
{
	int fd = socket(ip_is_v4(&e->addr) ? AF_INET : AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	struct sockaddr_storage sa;
	socklen_t len = sockaddr_of(e, scope, &sa);
	struct endpoint source;
	bool same;

	if (fd < 0)
		return false;
	same = !connect(fd, (struct sockaddr *)&sa, len);
	len = sizeof(sa);
	same = same && !getsockname(fd, (struct sockaddr *)&sa, &len) &&
	       endpoint_of(&sa, &source) && ip_eq(&source.addr, &e->addr);
	close(fd);
	return same;
}

bool udp_is_guests_own(const struct shard *shard, const struct endpoint *src, unsigned int scope)
{
	const _Atomic uint16_t *own = &shard->rt->udp_ports->own[src->port];

	if (!atomic_load_explicit(own, memory_order_relaxed))
		return false;
	if (!scope)
		scope = netconf_get(shard->rt)->v[ip_version_of(&src->addr)].ifindex;
	return is_hosts(src, scope);
}

struct flow *udp_listener_flow(struct shard *shard, struct udp_listener *listener,
			       const struct endpoint *src, const struct dgram_meta *meta,
			       struct dgram_peer **peer)
{
	const struct netconf *net = netconf_get(shard->rt);
	struct flow_key key = { .guest_port = listener->target, .proto = FLOW_UDP };
	struct endpoint view = { .port = src->port };
	struct flow *flow, *there;
	uint32_t hash;

	if (shard->rt->config->splice_only ||
	    !map_to_guest(net, &src->addr, &meta->local, &view.addr) ||
	    !guest_of(net, &view.addr, &key.guest)) {
		count_drop(&shard->counters, DROP_FAMILY_OFF);
		return NULL;
	}
	if (meta->group && udp_is_guests_own(shard, src, meta->ifindex)) {
		count_drop(&shard->counters, DROP_UDP_LOOP);
		return NULL;
	}
	hash = flow_steer_hash(&key, &shard->rt->secret);
	flow = flow_find(shard->rt, &key, hash);
	if (!flow)
		flow = dgram_open(shard, &key, hash, &shard->rt->udp_ports->port[listener->target],
				  &there);
	if (!flow)
		return NULL;
	if (flow_owner(flow) != shard->id ||
	    !flow->dgram.port) { /* of before; its next frame ends it */
		count_drop(&shard->counters, DROP_SOCKET);
		return NULL;
	}
	*peer = peer_by_view(shard, flow, &view);
	if (!*peer)
		*peer = peer_add(shard, flow, &view, src);
	peer_set_host(shard, *peer, src);
	(*peer)->via = listener;
	(*peer)->local = meta->local;
	(*peer)->scope = meta->ifindex;
	return flow;
}

/* The guest's side is full: no event is wanted until it has room. */
static void stall(struct shard *shard, struct udp_listener *listener)
{
	struct epoll_event ev = { .data.ptr = &listener->pollee };

	epoll_ctl(shard->epoll_fd, EPOLL_CTL_MOD, listener->fd, &ev);
	if (list_is_empty(&listener->stalled))
		list_append(&dgrams_of(shard)->stalled, &listener->stalled);
}

void udp_listener_event(struct shard *shard, struct udp_listener *listener)
{
	int fd = listener->fd;
	struct udp_port *port;

	if (fd < 0 || atomic_load(&listener->shard) != shard)
		return; /* an event of before it was closed */
	if (listener->outward) {
		splice_udp_event(shard, listener);
		return;
	}
	port = &shard->rt->udp_ports->port[listener->target];
	dgram_relay_errors(shard, fd,
			   list_is_empty(&port->flows)
				   ? NULL
				   : LIST_ENTRY(port->flows.next, struct flow, dgram.port_link));
	if (dgram_inbox_receive(shard, fd, NULL, listener) == INBOX_NO_ROOM) {
		hostsock_error(fd); /* no mask of events keeps one from being reported */
		stall(shard, listener);
	}
}

bool dgram_resume(struct shard *shard)
{
	struct dgrams *d = dgrams_of(shard);
	bool waited = dgram_inbox_waits(shard);
	struct list *node;

	if (!dgram_inbox_deliver(shard))
		return waited;
	while ((node = list_take(&d->stalled))) {
		struct udp_listener *listener = LIST_ENTRY(node, struct udp_listener, stalled);
		struct epoll_event ev = { .events = EPOLLIN, .data.ptr = &listener->pollee };

		epoll_ctl(shard->epoll_fd, EPOLL_CTL_MOD, listener->fd, &ev);
	}
	return waited;
}
