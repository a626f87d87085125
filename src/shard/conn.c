/* SPDX-License-Identifier: Apache-2.0 */
/*
 * TCP segments find their flow here, and SYNs of the guest a socket.
 */
#include "map.h"
#include "shard_internal.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

static void set_int(int fd, int level, int name, int value)
{
	setsockopt(fd, level, name, &value, sizeof(value));
}

void conn_socket_options(int fd, bool peek_off)
{
	/* Without it a peek offset repeats bytes behind an urgent one. */
	set_int(fd, SOL_SOCKET, SO_OOBINLINE, 1);
	/* The guest's stack has already decided when to send. */
	set_int(fd, IPPROTO_TCP, TCP_NODELAY, 1);
	/* What the buffer has room for it takes: a window is offered by that, whatever
	 * net.ipv4.tcp_notsent_lowat says. */
	set_int(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, -1);
	if (peek_off)
		set_int(fd, SOL_SOCKET, SO_PEEK_OFF, 0);
}

/* Binds to the address and device that the user named for what leaves. 0 or -errno. */
static int bind_outbound(int fd, const struct netconf_version *v, const struct endpoint *dst)
{
	struct endpoint src = { .addr = v->outbound_addr };
	struct sockaddr_storage sa;

	if (ip_is_loopback(&dst->addr))
		return 0;
	if (v->outbound_if[0] && setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, v->outbound_if,
					    (socklen_t)strlen(v->outbound_if) + 1))
		return -errno;
	if (ip_is_unset(&src.addr))
		return 0;
	/* connect() chooses the port, which connections to other destinations may have too. */
	set_int(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1);
	return bind(fd, (struct sockaddr *)&sa, sockaddr_of(&src, v->ifindex, &sa)) ? -errno : 0;
}

static int new_socket(enum ip_version version)
{
	return socket(version == IP4 ? AF_INET : AF_INET6,
		      SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
}

/* A socket that has begun to connect. Returns 0, or a positive errno. */
static int connect_socket(struct shard *shard, struct flow *flow, const struct endpoint *dst)
{
	enum ip_version version = ip_version_of(&dst->addr);
	const struct netconf_version *v = &netconf_get(shard->rt)->v[version];
	struct sockaddr_storage sa;
	socklen_t len = sockaddr_of(dst, v->ifindex, &sa);
	int error;

	flow->fd = new_socket(version);
	if (flow->fd < 0 && errno == EMFILE && tcp_drop_connecting(shard))
		flow->fd = new_socket(version);
	if (flow->fd < 0) {
		error = errno;
		if (error == EMFILE || error == ENFILE)
			shard_out_of_fds(shard);
		else
			count_drop(&shard->counters, DROP_SOCKET);
		return error;
	}
	conn_socket_options(flow->fd, shard->peek_off);
	error = -bind_outbound(flow->fd, v, dst);
	if (error)
		return error;
	if (connect(flow->fd, (struct sockaddr *)&sa, len) && errno != EINPROGRESS)
		return errno;
	return -shard_watch(shard, flow);
}

/* There is no entry left. Attempts to connect make way soon: in their crowd a SYN is worth another.
 */
static void refuse_flow(struct shard *shard, struct frame *frame)
{
	if (tcp_is_crowded(shard))
		count_drop(&shard->counters, DROP_CONNECT_CROWDED);
	else
		tcp_refuse(shard, frame);
}

static void open_flow(struct shard *shard, struct frame *frame)
{
	struct endpoint peer = { frame->key.peer, frame->key.peer_port }, dst;
	enum drop drop = map_to_host(netconf_get(shard->rt), &peer, IPPROTO_TCP, &dst);
	struct flow *flow, *there;
	int error;

	if (shard->rt->config->no_tcp)
		drop = DROP_PROTO_OFF;
	if (drop) {
		count_drop(&shard->counters, drop);
		return;
	}
	if (!tcp_may_connect(shard, &frame->key)) {
		count_drop(&shard->counters, DROP_CONNECT_CROWDED);
		return;
	}
	tcp_recycle(shard);
	flow = flow_take(shard, &frame->key, frame->hash);
	if (!flow) {
		refuse_flow(shard, frame);
		return;
	}
	tcp_open_guest(shard, flow, frame);
	there = flow_publish(shard, flow);
	if (there != flow) { /* the same SYN came on two queues: the other shard was first */
		unsigned int owner = flow_owner(there);

		flow_give(shard, flow);
		if (owner != shard->id)
			shard_forward(shard, frame, owner);
		return;
	}
	shard_own(shard, flow);
	tcp_connecting(shard, flow);
	error = connect_socket(shard, flow, &dst);
	if (error)
		tcp_connected(shard, flow, error);
}

static uint8_t flags_of(const struct frame *frame)
{
	return frame->data[frame->l4_off + 13] & (TCP_SYN | TCP_ACK | TCP_RST | TCP_FIN);
}

static bool is_syn(const struct frame *frame)
{
	return flags_of(frame) == TCP_SYN;
}

/* RFC 9293 MUST-57, RFC 1122 3.2.1.3: no connection has a group for one of its ends, and nobody is
 * answered there. */
static enum drop check_ends(const struct shard *shard, const struct flow_key *key)
{
	const struct netconf_version *v = &netconf_get(shard->rt)->v[ip_version_of(&key->guest)];

	if (map_is_group(v, &key->guest))
		return DROP_IP_SOURCE;
	return map_is_group(v, &key->peer) ? DROP_IP_DEST : DROP_NONE;
}

/* A segment of no connection. */
static void run_stranger(struct shard *shard, struct frame *frame)
{
	enum drop drop = check_ends(shard, &frame->key);

	if (!drop && is_syn(frame)) {
		open_flow(shard, frame);
		return;
	}
	/* SYN and FIN mean nothing; what sends them probes for a weakness. */
	if (!drop && flags_of(frame) == (TCP_SYN | TCP_FIN))
		drop = DROP_TCP_FLAGS;
	count_drop(&shard->counters, drop ? drop : DROP_NO_FLOW);
	if (!drop)
		tcp_refuse(shard, frame);
}

void conn_frame(struct shard *shard, struct frame *frame)
{
	struct flow *flow = shard->last_flow;
	unsigned int owner;

	if (move_keeps(shard, frame))
		return;
	if (!flow || !flow_key_eq(&flow->key, &frame->key))
		flow = flow_find(shard->rt, &frame->key, frame->hash);
	if (flow) {
		owner = flow_owner(flow);
		if (owner != shard->id) {
			move_hand_on(shard, flow, frame, owner);
			return;
		}
		if (!flow->adopted) { /* it was accepted, and no SYN of ours is out yet */
			count_drop(&shard->counters, DROP_NO_FLOW);
			return;
		}
		shard->last_flow = flow;
		if (!is_syn(frame) || !tcp_may_reuse(&flow->tcp, frame)) {
			tcp_segment(shard, flow, frame);
			return;
		}
		tcp_abort(shard, flow, false);
	}
	run_stranger(shard, frame);
}
