/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The life of UDP and echo flows. A flow begins with the guest's first datagram from a port, or
 * with the first that comes to a forwarded port; it ends when it was silent for a while. What
 * belongs to a forwarded port is always in the shard of that port's listener.
 */
#include "dgram_internal.h"
#include "tcp.h"

#include "taploom/frame_fields.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <unistd.h>

int dgrams_init(struct shard *shard)
{
	struct dgrams *d = calloc(1, sizeof(*d));
	int ret;

	if (!d)
		return -ENOMEM;
	shard->dgrams = d;
	list_init(&d->stalled);
	ret = udp_ports_init(shard->rt);
	ret = ret ? ret : peers_init(shard, d);
	ret = ret ? ret : outboxes_init(d);
	ret = ret ? ret : dgram_inbox_init(d);
	return ret ? ret : fragments_init(shard);
}

void dgrams_free(struct shard *shard)
{
	struct dgrams *d = dgrams_of(shard);

	fragments_free(shard);
	if (shard->id == 0)
		udp_ports_free(shard->rt);
	if (!d)
		return;
	dgram_inbox_free(d);
	outboxes_free(d);
	peers_free(d);
	free(d);
	shard->dgrams = NULL;
}

static uint64_t time_out_of(const struct flow *flow)
{
	if (flow->key.proto == FLOW_ECHO)
		return DGRAM_ECHO_US;
	return flow->dgram.answered ? DGRAM_ANSWERED_US : DGRAM_ONE_WAY_US;
}

void dgram_used(struct shard *shard, struct flow *flow)
{
	flow->dgram.last_us = shard->now_us;
	if (!timer_is_armed(&flow->timer))
		wheel_arm(&shard->wheel, &flow->timer, shard->now_us + time_out_of(flow));
}

/* The timer is not moved with each datagram: it fires, finds a younger one, and is armed for that.
 */
void dgram_timer(struct shard *shard, struct flow *flow)
{
	uint64_t due = flow->dgram.last_us + time_out_of(flow);

	if (due <= shard->now_us) {
		dgram_close(shard, flow);
		return;
	}
	if (shard->now_us > DGRAM_ANSWERED_US)
		peers_expire(shard, flow, shard->now_us - DGRAM_ANSWERED_US);
	wheel_arm(&shard->wheel, &flow->timer, due);
}

/* Of our own sockets -U auto must not think that they are services, and what they send to a group
 * comes back to us. */
static void note_port(struct shard *shard, struct flow *flow)
{
	struct sockaddr_storage sa;
	socklen_t len = sizeof(sa);
	struct endpoint e;

	if (flow->key.proto != FLOW_UDP || getsockname(flow->fd, (struct sockaddr *)&sa, &len) ||
	    !endpoint_of(&sa, &e))
		return;
	flow->dgram.own_port = e.port;
	atomic_fetch_add_explicit(&shard->rt->udp_ports->own[e.port], 1, memory_order_relaxed);
}

static void close_socket(struct shard *shard, struct flow *flow)
{
	_Atomic uint16_t *own = &shard->rt->udp_ports->own[flow->dgram.own_port];

	if (flow->fd >= 0)
		close(flow->fd);
	if (flow->dgram.own_port)
		atomic_fetch_sub_explicit(own, 1, memory_order_relaxed);
	flow->dgram.own_port = 0;
	flow->fd = -1;
}

void dgram_close(struct shard *shard, struct flow *flow)
{
	if (flow->closed)
		return;
	dgram_batch_end(shard); /* what was gathered for it names its socket */
	dgram_inbox_forget(shard, flow);
	peers_drop(shard, flow);
	list_remove(&flow->dgram.port_link);
	close_socket(shard, flow);
	flow_close(shard, flow);
}

static void note_refusal(struct shard *shard, int error)
{
	if (error == -EMFILE || error == -ENFILE)
		shard_out_of_fds(shard);
	else if (error != -EACCES &&
		 error != -EPERM) /* counted already: ping sockets are not permitted */
		count_drop(&shard->counters, DROP_SOCKET);
	count_add(&shard->counters, COUNT_FLOWS_REFUSED, 1);
}

static int make_socket(struct shard *shard, struct flow *flow)
{
	flow->fd = flow->key.proto == FLOW_ECHO ? echo_socket(shard, &flow->key)
						: udp_socket(shard, &flow->key);
	if (flow->fd < 0)
		note_refusal(shard, flow->fd);
	else
		note_port(shard, flow);
	return flow->fd < 0 ? -1 : 0;
}

static void init(struct shard *shard, struct flow *flow, struct udp_port *port)
{
	const struct netconf_version *v =
		&netconf_get(shard->rt)->v[ip_version_of(&flow->key.guest)];

	flow->dgram =
		(struct dgram){ .df = -1, .segment_max = UINT16_MAX, .last_us = shard->now_us };
	list_init(&flow->dgram.peers);
	list_init(&flow->dgram.port_link);
	if (v->outbound_if[0])
		flow->dgram.oif = if_nametoindex(v->outbound_if);
	flow->dgram.port = port;
	if (port)
		list_append(&port->flows, &flow->dgram.port_link);
}

static void give_back(struct shard *shard, struct flow *flow)
{
	close_socket(shard, flow);
	list_remove(&flow->dgram.port_link);
	flow_give(shard, flow);
}

struct flow *dgram_open(struct shard *shard, const struct flow_key *key, uint32_t hash,
			struct udp_port *port, struct flow **there)
{
	struct flow *flow;

	*there = NULL;
	tcp_recycle_ended(shard);
	flow = flow_take(shard, key, hash);
	if (!flow)
		return NULL;
	init(shard, flow, port);
	if (!port && make_socket(shard, flow)) {
		flow->fd = -1;
		give_back(shard, flow);
		return NULL;
	}
	*there = flow_publish(shard, flow);
	if (*there != flow) { /* the guest used the port on two queues: the other shard was first */
		give_back(shard, flow);
		return NULL;
	}
	*there = NULL;
	list_append(&shard->owned, &flow->owned);
	if (flow->fd >= 0 && shard_watch(shard, flow)) {
		count_drop(&shard->counters, DROP_SOCKET);
		dgram_close(shard, flow);
		return NULL;
	}
	dgram_used(shard, flow);
	return flow;
}

/* The shard that must open a flow of a guest's port: that of the port's listener, or this one. */
static struct flow *open_for(struct shard *shard, struct frame *frame, struct udp_port *port)
{
	const struct netconf_version *v = &netconf_get(shard->rt)->v[frame->version];
	struct flow *flow, *there;

	if (map_is_group(v, &frame->key.guest)) { /* RFC 1122 3.2.1.3 */
		count_drop(&shard->counters, DROP_IP_SOURCE);
		return NULL;
	}
	if (port && atomic_load_explicit(&port->shard, memory_order_acquire) != shard) {
		struct shard *to = atomic_load_explicit(&port->shard, memory_order_acquire);

		if (to) {
			shard_forward(shard, frame, to->id);
			return NULL;
		}
		port = NULL; /* it has just ended */
	}
	flow = dgram_open(shard, &frame->key, frame->hash, port, &there);
	if (there && flow_owner(there) != shard->id)
		shard_forward(shard, frame, flow_owner(there));
	return flow;
}

/* The flow of a frame, if it is this shard's; else the frame is handed on, or counted. */
static struct flow *flow_of(struct shard *shard, struct frame *frame)
{
	struct udp_port *port =
		frame->kind == FRAME_UDP ? udp_port_find(shard->rt, frame->key.guest_port) : NULL;
	struct flow *flow = shard->last_flow;
	unsigned int owner;

	if (!flow || !flow_key_eq(&flow->key, &frame->key))
		flow = flow_find(shard->rt, &frame->key, frame->hash);
	if (!flow)
		return open_for(shard, frame, port);
	owner = flow_owner(flow);
	if (owner != shard->id) {
		shard_forward(shard, frame, owner);
		return NULL;
	}
	/* The port is forwarded since: its answers must come from there. */
	if (port && !flow->dgram.port) {
		dgram_close(shard, flow);
		return open_for(shard, frame, port);
	}
	shard->last_flow = flow;
	return flow;
}

/* Finds the peer that the guest writes to, or makes one. NULL: the guest may not write there;
 * counted. */
static struct dgram_peer *peer_of(struct shard *shard, struct flow *flow, const struct frame *frame)
{
	struct endpoint view = { .addr = frame_dst(frame) }, host;
	struct dgram_peer *peer;
	enum drop drop;

	if (frame->kind == FRAME_UDP)
		view.port = frame_dst_port(frame);
	peer = peer_by_view(shard, flow, &view);
	if (peer && (peer->via || shard->now_us < peer->answering_until_us))
		return peer; /* it wrote first: its own address is where the answer goes */
	drop = map_to_host(netconf_get(shard->rt), &view, frame->l4_proto, &host);
	if (drop) {
		count_drop(&shard->counters, drop);
		return NULL;
	}
	if (!peer)
		return peer_add(shard, flow, &view, &host);
	peer_set_host(shard, peer, &host);
	return peer;
}

static void route_to(struct shard *shard, struct flow *flow, const struct frame *frame,
		     const struct dgram_peer *peer, struct dgram_route *route)
{
	const struct netconf_version *v = &netconf_get(shard->rt)->v[frame->version];

	memset(route, 0, sizeof(*route)); /* compared as bytes */
	route->dst.addr = peer->host.addr;
	route->dst.port = peer->host.port;
	route->tos = frame->tos;
	route->ttl = frame->ttl ? frame->ttl : 1;
	/* IPv6 has no DF: an echo longer than the path's MTU is cut by the host, as on it, and not
	 * refused. */
	route->dont_fragment =
		frame->dont_fragment && (frame->version == IP4 || frame->kind == FRAME_UDP);
	route->local = peer->local;
	route->scope = peer->scope ? peer->scope : v->ifindex;
	if (ip_is_loopback(&peer->host.addr) || peer->via)
		return;
	route->oif = flow->dgram.oif;
	route->local = v->outbound_addr;
	if (map_is_group(v, &peer->host.addr)) {
		flow->dgram.group = true;
		route->oif = route->oif ? route->oif : v->ifindex;
	}
}

/* A flow of a forwarded port needs a socket of its own only for what the listener's cannot reach.
 */
static bool own_socket(struct shard *shard, struct flow *flow)
{
	if (flow->fd >= 0)
		return true;
	if (make_socket(shard, flow)) {
		flow->fd = -1;
		return false;
	}
	if (!shard_watch(shard, flow))
		return true;
	count_drop(&shard->counters, DROP_SOCKET);
	close_socket(shard, flow);
	return false;
}

static struct udp_listener *listener_for(const struct shard *shard, const struct flow *flow,
					 const struct dgram_peer *peer)
{
	const struct ip_addr *dst = &peer->host.addr;
	const struct netconf_version *net = &netconf_get(shard->rt)->v[ip_version_of(dst)];
	const struct udp_way_out out = { net->host_addr,
					 flow->dgram.oif ? flow->dgram.oif : net->ifindex };

	if (peer->via || !flow->dgram.port)
		return peer->via;
	return udp_port_listener(flow->dgram.port, dst, &out);
}

static void send_frame(struct shard *shard, struct flow *flow, struct frame *frame)
{
	struct dgram_peer *peer = peer_of(shard, flow, frame);
	struct udp_listener *listener;
	struct dgram_route route;

	if (!peer)
		return;
	peer_touch(shard, peer);
	dgram_used(shard, flow);
	flow->queue = frame->queue;
	route_to(shard, flow, frame, peer, &route);
	listener = listener_for(shard, flow, peer);
	if (listener)
		outbox_add(shard, flow, listener->fd, &listener->df, frame, &route);
	else if (own_socket(shard, flow))
		outbox_add(shard, flow, flow->fd, &flow->dgram.df, frame, &route);
}

void dgram_frame(struct shard *shard, struct frame *frame)
{
	const struct config *config = shard->rt->config;
	struct flow *flow;

	if (frame->kind == FRAME_UDP ? config->no_udp : config->no_icmp) {
		count_drop(&shard->counters, DROP_PROTO_OFF);
		return;
	}
	flow = flow_of(shard, frame);
	if (flow)
		send_frame(shard, flow, frame);
}

bool dgram_run(struct shard *shard, struct flow *flow)
{
	uint32_t events = flow->events;

	flow->events = 0;
	if (flow->fd < 0)
		return true;
	if (events & EPOLLERR)
		dgram_relay_errors(shard, flow->fd, flow);
	switch (dgram_inbox_receive(shard, flow->fd, flow, NULL)) {
	case INBOX_EMPTY:
		return true;
	case INBOX_MORE:
		shard_touch_again(shard, flow);
		return true;
	case INBOX_NO_ROOM:
		break;
	}
	return false;
}
