/* SPDX-License-Identifier: Apache-2.0 */
#include "dgram_internal.h"
#include "splice_internal.h"

#include "taploom/ns_sockets.h"

#include <errno.h>
#include <netinet/udp.h>
#include <sys/mman.h>
#include <unistd.h>

#ifndef UDP_GRO
#define UDP_GRO 104
#endif

#define SLOTS	     16
#define SLOT_SIZE    (65536u + 512u) /* more than any datagram; apart in the cache's sets */
#define CONTROL_SIZE 320
#define ROUNDS	     4 /* receiving calls of a run, so that no flow keeps the others waiting */
#define RECV_BUFFER  (1 << 20)

struct splice_udp_area {
	struct mmsghdr in[SLOTS];
	struct iovec in_iov[SLOTS];
	struct sockaddr_storage names[SLOTS];
	_Alignas(struct cmsghdr) uint8_t in_control[SLOTS][CONTROL_SIZE];
	struct mmsghdr out[SLOTS];
	struct iovec out_iov[SLOTS];
	uint32_t segments[SLOTS]; /* of out: size of each datagram of a run; 0: a single one */
	_Alignas(struct cmsghdr) uint8_t out_control[SLOTS][CONTROL_SIZE];
	uint8_t slots[SLOTS][SLOT_SIZE];
};

int splice_udp_init(struct splice_udp_area **area)
{
	void *p = mmap(NULL, sizeof(**area), PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (p == MAP_FAILED)
		return -ENOMEM;
	*area = p;
	return 0;
}

void splice_udp_free(struct splice_udp_area *area)
{
	if (area)
		munmap(area, sizeof(*area));
}

/* Sending. */

static bool is_cut_error(int error)
{
	return error == EINVAL || error == EMSGSIZE || error == EIO || error == EOPNOTSUPP;
}

/* A run that the kernel does not cut. Without its control data, of which the segment's size is the
 * last: what stands before it is the route. */
static int send_apart(int fd, const struct msghdr *run, uint32_t segment)
{
	struct iovec iov = *run->msg_iov;
	struct msghdr msg = *run;
	size_t left = iov.iov_len;
	int error = 0;

	msg.msg_iov = &iov;
	msg.msg_controllen -= CMSG_SPACE(sizeof(uint16_t));
	if (!msg.msg_controllen)
		msg.msg_control = NULL;
	while (left && !error) {
		iov.iov_len = left < segment ? left : segment;
		error = sendmsg(fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL) < 0 ? errno : 0;
		left -= iov.iov_len;
		iov.iov_base = (uint8_t *)iov.iov_base + iov.iov_len;
	}
	return error;
}

/* The kernel says an earlier datagram's error (nobody listened) instead of sending: so again. */
static void send_again(struct shard *shard, int fd, const struct msghdr *msg, uint32_t segment)
{
	int error = sendmsg(fd, msg, MSG_DONTWAIT | MSG_NOSIGNAL) < 0 ? errno : 0;

	if (error && segment && is_cut_error(error))
		error = send_apart(fd, msg, segment);
	if (error)
		count_drop(&shard->counters, DROP_UDP_SEND);
}

static void send_out(struct shard *shard, struct splice_udp_area *area, int fd, unsigned int n)
{
	uint64_t bytes = 0;

	for (unsigned int at = 0; at < n;) {
		int sent = sendmmsg(fd, area->out + at, n - at, MSG_DONTWAIT | MSG_NOSIGNAL);

		if (sent > 0) {
			at += (unsigned int)sent;
			continue;
		}
		send_again(shard, fd, &area->out[at].msg_hdr, area->segments[at]);
		at++;
	}
	for (unsigned int i = 0; i < n; i++)
		bytes += area->out_iov[i].iov_len;
	count_add(&shard->counters, COUNT_SPLICED_BYTES, bytes);
}

/* Makes out[i] of payload; to a connected socket there is no route. */
static void put_out(struct splice_udp_area *area, unsigned int i, void *payload, size_t len,
		    uint32_t segment, const struct dgram_route *route,
		    struct sockaddr_storage *name, socklen_t name_len)
{
	struct msghdr *msg = &area->out[i].msg_hdr;

	area->out_iov[i] = (struct iovec){ payload, len };
	area->segments[i] = len > segment ? segment : 0;
	*msg = (struct msghdr){ .msg_name = name,
				.msg_namelen = name_len,
				.msg_iov = &area->out_iov[i],
				.msg_iovlen = 1,
				.msg_control = area->out_control[i] };
	if (route)
		dgram_put_route(msg, route, len);
	if (area->segments[i])
		dgram_put_segment(msg, (uint16_t)segment);
	if (!msg->msg_controllen)
		msg->msg_control = NULL;
}

/* The life of a flow. */

static uint64_t time_out_of(const struct splice_udp *splice)
{
	return splice->answered ? DGRAM_ANSWERED_US : DGRAM_ONE_WAY_US;
}

static void used(struct shard *shard, struct flow *flow)
{
	flow->splice_udp.last_us = shard->now_us;
	if (!timer_is_armed(&flow->timer))
		wheel_arm(&shard->wheel, &flow->timer,
			  shard->now_us + time_out_of(&flow->splice_udp));
}

void splice_udp_timer(struct shard *shard, struct flow *flow)
{
	uint64_t due = flow->splice_udp.last_us + time_out_of(&flow->splice_udp);

	if (due <= shard->now_us)
		splice_udp_close(shard, flow);
	else
		wheel_arm(&shard->wheel, &flow->timer, due);
}

static void drop_held(struct shard *shard, struct splice_udp *splice)
{
	struct list *node;

	while ((node = list_take(&splice->held)))
		pool_give(&shard->pool, LIST_ENTRY(node, struct chunk, link));
}

void splice_udp_close(struct shard *shard, struct flow *flow)
{
	if (flow->closed)
		return;
	drop_held(shard, &flow->splice_udp);
	list_remove(&flow->splice_udp.link);
	if (flow->fd >= 0)
		close(flow->fd);
	flow->fd = -1;
	flow_close(shard, flow);
}

static int take_socket(struct shard *shard, const struct splice_udp *splice)
{
	const struct ns_sockets *ns = shard->rt->ns_sockets;
	bool v4 = ip_is_v4(&splice->dst.addr);
	int fd;

	if (!splice->listener->outward)
		return ns->take(ns->arg, shard->id, v4 ? NS_UDP4 : NS_UDP6);
	fd = socket(v4 ? AF_INET : AF_INET6, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	return fd < 0 ? -errno : fd;
}

/* 0, or -errno: -EAGAIN if a socket of the namespace is to be waited for. */
static int open_socket(struct shard *shard, struct flow *flow)
{
	static const int one = 1, size = RECV_BUFFER;
	struct sockaddr_storage sa;
	socklen_t len = sockaddr_of(&flow->splice_udp.dst, 0, &sa);
	int fd = take_socket(shard, &flow->splice_udp);

	if (fd < 0)
		return fd;
	flow->fd = fd;
	setsockopt(fd, IPPROTO_UDP, UDP_GRO, &one, sizeof(one));
	setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof(size));
	if (connect(fd, (struct sockaddr *)&sa, len)) /* EAGAIN: no port of its own is free */
		return errno == EAGAIN ? -EADDRNOTAVAIL : -errno;
	return shard_watch(shard, flow);
}

/* False: it has ended. */
static bool begin(struct shard *shard, struct flow *flow)
{
	int error = open_socket(shard, flow);

	if (!error)
		return true;
	if (error == -EAGAIN) {
		list_append(&shard->splicer->starved, &flow->touched);
		return true;
	}
	if (error == -EMFILE || error == -ENFILE)
		shard_out_of_fds(shard);
	else
		count_drop(&shard->counters, DROP_SOCKET);
	count_add(&shard->counters, COUNT_FLOWS_REFUSED, 1);
	splice_udp_close(shard, flow);
	return false;
}

static struct flow *open_flow(struct shard *shard, struct udp_listener *listener,
			      const struct endpoint *client, const struct flow_key *key,
			      uint32_t hash)
{
	struct endpoint dst;
	struct flow *flow;

	if (!splice_wanted(shard, &client->addr, listener->target, listener->outward, &dst))
		return NULL;
	flow = flow_take(shard, key, hash);
	if (!flow)
		return NULL;
	flow->splice_udp =
		(struct splice_udp){ .listener = listener, .client = *client, .dst = dst };
	list_init(&flow->splice_udp.held);
	list_append(&listener->splices, &flow->splice_udp.link);
	flow_publish(shard, flow); /* nobody else has this listener's serial number */
	shard_own(shard, flow);
	used(shard, flow);
	return begin(shard, flow) ? flow : NULL;
}

static struct flow *flow_of(struct shard *shard, struct udp_listener *listener,
			    const struct endpoint *client)
{
	struct flow_key key = { .guest = client->addr,
				.guest_port = client->port,
				.proto = FLOW_SPLICE_UDP };
	struct flow *flow;
	uint32_t hash;

	key.peer.q[0] = listener->serial;
	hash = flow_steer_hash(&key, &shard->rt->secret);
	flow = flow_find(shard->rt, &key, hash);
	return flow ? flow : open_flow(shard, listener, client, &key, hash);
}

/* From the client. */

static void hold(struct shard *shard, struct splice_udp *splice, const struct iovec *payload,
		 size_t len, uint32_t segment)
{
	const uint8_t *at = payload->iov_base;
	size_t left = len;

	if (!list_is_empty(&splice->held)) {
		count_drop(&shard->counters, DROP_SOCKET);
		return;
	}
	if (pool_unpromised(&shard->pool) / 16 < len + POOL_DATA) { /* as splice_way.c does */
		count_drop(&shard->counters, DROP_POOL_EMPTY);
		return;
	}
	splice->held_segment = segment;
	do { /* at least one: an empty datagram is one as well */
		struct chunk *chunk = pool_take(&shard->pool);

		if (!chunk) {
			drop_held(shard, splice);
			count_drop(&shard->counters, DROP_POOL_EMPTY);
			return;
		}
		chunk->len = (uint16_t)(left < POOL_DATA ? left : POOL_DATA);
		memcpy(chunk->data, at, chunk->len);
		at += chunk->len;
		left -= chunk->len;
		list_append(&splice->held, &chunk->link);
	} while (left);
}

/* The segment's size stands in the area until its slot is used again. */
void splice_udp_resume(struct shard *shard, struct flow *flow)
{
	struct splice_udp *splice = &flow->splice_udp;
	struct splice_udp_area *area = shard->splicer->udp;
	size_t len = 0;

	if (!begin(shard, flow) || flow->fd < 0 || list_is_empty(&splice->held))
		return;
	for (struct list *l = splice->held.next; l != &splice->held; l = l->next) {
		const struct chunk *chunk = LIST_ENTRY(l, struct chunk, link);

		memcpy(area->slots[0] + len, chunk->data, chunk->len);
		len += chunk->len;
	}
	put_out(area, 0, area->slots[0], len, splice->held_segment, NULL, NULL, 0);
	drop_held(shard, splice);
	send_out(shard, area, flow->fd, 1);
}

static bool same_client(const struct mmsghdr *a, const struct mmsghdr *b)
{
	return a->msg_hdr.msg_namelen == b->msg_hdr.msg_namelen &&
	       memcmp(a->msg_hdr.msg_name, b->msg_hdr.msg_name, a->msg_hdr.msg_namelen) == 0;
}

/* Messages of one client. */
static void pass_on(struct shard *shard, struct flow *flow, struct mmsghdr *headers, unsigned int n)
{
	struct splice_udp *splice = &flow->splice_udp;
	struct splice_udp_area *area = shard->splicer->udp;
	struct dgram_meta meta;

	used(shard, flow);
	for (unsigned int i = 0; i < n; i++) {
		const struct iovec *payload = headers[i].msg_hdr.msg_iov;

		dgram_meta_of(&headers[i].msg_hdr, &meta);
		splice->local = meta.local;
		splice->ifindex = meta.ifindex;
		if (flow->fd < 0)
			hold(shard, splice, payload, headers[i].msg_len, meta.segment);
		else
			put_out(area, i, payload->iov_base, headers[i].msg_len, meta.segment, NULL,
				NULL, 0);
	}
	if (flow->fd >= 0)
		send_out(shard, area, flow->fd, n);
}

/* Whether a message's source is one whose datagrams go socket to socket. */
static bool is_wanted(const struct shard *shard, const struct udp_listener *listener,
		      const struct mmsghdr *header, struct endpoint *client)
{
	struct endpoint dst;

	return endpoint_of(header->msg_hdr.msg_name, client) &&
	       splice_wanted(shard, &client->addr, listener->target, listener->outward, &dst);
}

unsigned int splice_udp_take(struct shard *shard, struct udp_listener *listener,
			     struct mmsghdr *headers, unsigned int n)
{
	struct endpoint client;
	unsigned int at = 0;

	if (!listener->outward && !shard->rt->ns_sockets)
		return 0;
	while (at < n && is_wanted(shard, listener, &headers[at], &client)) {
		struct flow *flow = flow_of(shard, listener, &client);
		unsigned int same = 1;

		while (at + same < n && same < SLOTS &&
		       same_client(&headers[at], &headers[at + same]))
			same++;
		if (flow)
			pass_on(shard, flow, headers + at, same);
		at += same;
	}
	return at;
}

static int receive(struct splice_udp_area *area, int fd)
{
	for (unsigned int i = 0; i < SLOTS; i++) {
		area->in_iov[i] = (struct iovec){ area->slots[i], 65536 };
		area->in[i].msg_hdr = (struct msghdr){
			.msg_name = &area->names[i],
			.msg_namelen = sizeof(area->names[i]),
			.msg_iov = &area->in_iov[i],
			.msg_iovlen = 1,
			.msg_control = area->in_control[i],
			.msg_controllen = CONTROL_SIZE,
		};
	}
	return recvmmsg(fd, area->in, SLOTS, MSG_DONTWAIT, NULL);
}

void splice_udp_event(struct shard *shard, struct udp_listener *listener)
{
	struct splice_udp_area *area = shard->splicer->udp;

	for (unsigned int i = 0; i < ROUNDS; i++) {
		int n = receive(area, listener->fd);

		if (n < 0 && errno == EAGAIN)
			return;
		if (n > 0)
			splice_udp_take(shard, listener, area->in, (unsigned int)n);
	}
}

/* To the client. */

static void answer(struct shard *shard, struct flow *flow, unsigned int n)
{
	struct splice_udp *splice = &flow->splice_udp;
	struct splice_udp_area *area = shard->splicer->udp;
	struct dgram_route route = { .dst = splice->client,
				     .local = splice->local,
				     .ttl = DGRAM_TTL };
	struct sockaddr_storage name;
	socklen_t name_len = sockaddr_of(&splice->client, splice->ifindex, &name);

	splice->answered = true;
	used(shard, flow);
	for (unsigned int i = 0; i < n; i++) {
		struct dgram_meta meta;

		dgram_meta_of(&area->in[i].msg_hdr, &meta);
		put_out(area, i, area->slots[i], area->in[i].msg_len, meta.segment, &route, &name,
			name_len);
	}
	send_out(shard, area, splice->listener->fd, n);
}

void splice_udp_run(struct shard *shard, struct flow *flow)
{
	flow->events = 0;
	for (unsigned int i = 0; i < ROUNDS; i++) {
		int n = receive(shard->splicer->udp, flow->fd);

		if (n < 0 && errno == EAGAIN)
			return;
		if (n > 0) /* else the error of an earlier datagram, which nobody took */
			answer(shard, flow, (unsigned int)n);
	}
	shard_touch_again(shard, flow);
}
