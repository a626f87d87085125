/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Datagrams of the guest to sockets. Within a batch they are gathered by socket, so that a socket
 * gets them with one system call; datagrams of one size for one destination are one message, which
 * the kernel cuts (UDP_SEGMENT). Order within a socket is kept.
 *
 * A socket's error may be an earlier datagram's: the kernel keeps what ICMP said and gives it to
 * the next call, which sends nothing. So a refusal counts when it is said twice.
 */
#include "dgram_internal.h"

#include <errno.h>
#include <netinet/udp.h>
#include <sys/mman.h>
#include <unistd.h>

#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103
#endif

#define OUTBOXES	8 /* sockets gathered for at a time */
#define BOX_MESSAGES	64
#define BOX_IOV		512
#define SEGMENTS_MAX	128u /* more than any kernel's UDP_MAX_SEGMENTS */
#define SEGMENTS_OLD	64u
#define RUN_BYTES_MAX	65507u
#define CONTROL_SIZE	192
#define IP6_MIN_PAYLOAD 1232 /* always fits a link of IPv6 (RFC 8200 5) */

struct message {
	struct dgram_route route;
	struct frame *frame; /* the first */
	uint32_t len;	     /* payload bytes in sum */
	uint32_t n;	     /* datagrams */
	uint16_t segment;    /* size of each but the last, where n > 1 */
	bool whole;	     /* nothing may follow: the last is shorter, or it is not of one size */
	uint16_t iov;	     /* its first piece */
};

struct outbox {
	struct flow *flow; /* NULL: empty */
	int fd;
	int8_t *df;
	bool dont_fragment; /* of all messages, for IPv4 */
	unsigned int n, n_iov;
	struct message messages[BOX_MESSAGES];
	struct mmsghdr headers[BOX_MESSAGES];
	struct sockaddr_storage names[BOX_MESSAGES];
	_Alignas(struct cmsghdr) uint8_t control[BOX_MESSAGES][CONTROL_SIZE];
	struct iovec iov[BOX_IOV];
};

struct outboxes {
	unsigned int used;	   /* boxes that are not empty */
	unsigned int next;	   /* to be emptied when another is needed */
	unsigned int segments_max; /* of a message; 1: the kernel does not cut */
	struct outbox box[OUTBOXES];
};

/* How many datagrams the kernel cuts a message into: 128 since 6.9, 64 before, none on old ones. */
static unsigned int probe_segments(void)
{
	struct sockaddr_in sa = { .sin_family = AF_INET,
				  .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), one = 1;
	static const uint8_t bytes[SEGMENTS_OLD + 1];
	socklen_t len = sizeof(sa);
	unsigned int max = SEGMENTS_OLD;

	if (fd < 0)
		return 1;
	if (setsockopt(fd, IPPROTO_UDP, UDP_SEGMENT, &one, sizeof(one)))
		max = 1;
	else if (!bind(fd, (struct sockaddr *)&sa, len) &&
		 !getsockname(fd, (struct sockaddr *)&sa, &len) &&
		 sendto(fd, bytes, sizeof(bytes), 0, (struct sockaddr *)&sa, len) ==
			 (ssize_t)sizeof(bytes))
		max = SEGMENTS_MAX;
	close(fd);
	return max;
}

int outboxes_init(struct dgrams *d)
{
	void *p = mmap(NULL, sizeof(*d->out), PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (p == MAP_FAILED)
		return -ENOMEM;
	d->out = p;
	d->out->segments_max = probe_segments();
	return 0;
}

void outboxes_free(struct dgrams *d)
{
	if (d->out)
		munmap(d->out, sizeof(*d->out));
	d->out = NULL;
}

/* Control data. */

static void put_control(struct msghdr *msg, int level, int type, const void *data, size_t len)
{
	struct cmsghdr *cmsg =
		(struct cmsghdr *)(void *)((uint8_t *)msg->msg_control + msg->msg_controllen);

	cmsg->cmsg_level = level;
	cmsg->cmsg_type = type;
	cmsg->cmsg_len = CMSG_LEN(len);
	memcpy(CMSG_DATA(cmsg), data, len);
	msg->msg_controllen += CMSG_SPACE(len);
}

static void put_control_int(struct msghdr *msg, int level, int type, int value)
{
	put_control(msg, level, type, &value, sizeof(value));
}

static void put_route4(struct msghdr *msg, const struct dgram_route *route)
{
	struct in_pktinfo info = { .ipi_ifindex = (int)route->oif };

	if (!ip_is_unset(&route->local))
		memcpy(&info.ipi_spec_dst, route->local.b + 12, 4);
	if (route->oif || info.ipi_spec_dst.s_addr)
		put_control(msg, IPPROTO_IP, IP_PKTINFO, &info, sizeof(info));
	if (route->tos)
		put_control_int(msg, IPPROTO_IP, IP_TOS, route->tos);
	if (route->ttl != DGRAM_TTL || ip_is_multicast(&route->dst.addr))
		put_control_int(msg, IPPROTO_IP, IP_TTL, route->ttl);
}

static void put_route6(struct msghdr *msg, const struct dgram_route *route, size_t len)
{
	struct in6_pktinfo info = { .ipi6_ifindex = route->oif };

	if (!ip_is_unset(&route->local))
		memcpy(&info.ipi6_addr, route->local.b, 16);
	if (route->oif || !ip_is_unset(&route->local))
		put_control(msg, IPPROTO_IPV6, IPV6_PKTINFO, &info, sizeof(info));
	if (route->tos)
		put_control_int(msg, IPPROTO_IPV6, IPV6_TCLASS, route->tos);
	if (route->ttl != DGRAM_TTL || ip_is_multicast(&route->dst.addr))
		put_control_int(msg, IPPROTO_IPV6, IPV6_HOPLIMIT, route->ttl);
	if (route->dont_fragment && len > IP6_MIN_PAYLOAD)
		put_control_int(msg, IPPROTO_IPV6, IPV6_DONTFRAG, 1);
}

void dgram_put_route(struct msghdr *msg, const struct dgram_route *route, size_t len)
{
	if (ip_is_v4(&route->dst.addr))
		put_route4(msg, route);
	else
		put_route6(msg, route, len);
}

void dgram_put_segment(struct msghdr *msg, uint16_t segment)
{
	put_control(msg, IPPROTO_UDP, UDP_SEGMENT, &segment, sizeof(segment));
}

/* What a socket does not take. */

static void refused(struct shard *shard, struct outbox *box, const struct message *m, uint32_t n,
		    int error)
{
	uint32_t mtu = 0;

	if (error == EMSGSIZE)
		mtu = dgram_relay_errors(shard, box->fd, box->flow);
	if (mtu && m->frame->dont_fragment)
		dgram_too_big(shard, m->frame, mtu);
	else if (!dgram_refused(shard, m->frame, error))
		count_drop_n(&shard->counters, DROP_UDP_SEND, n);
}

/* Sends a message again, alone. 0 or a positive errno. */
static int send_again(const struct outbox *box, struct msghdr *msg)
{
	return sendmsg(box->fd, msg, MSG_DONTWAIT | MSG_NOSIGNAL) < 0 ? errno : 0;
}

/* Takes up to len bytes off the front of a run of pieces. Returns the number of pieces in out. */
static unsigned int cut(struct iovec **at, unsigned int *left, struct iovec *out, size_t len)
{
	unsigned int n = 0;

	while (len && *left) {
		size_t part = (*at)->iov_len < len ? (*at)->iov_len : len;

		out[n++] = (struct iovec){ (*at)->iov_base, part };
		(*at)->iov_base = (uint8_t *)(*at)->iov_base + part;
		(*at)->iov_len -= part;
		len -= part;
		if (!(*at)->iov_len) {
			(*at)++;
			(*left)--;
		}
	}
	return n;
}

/* A run that the kernel did not cut goes out one by one; the flow's runs of this size do so from
 * now on. */
static void send_apart(struct shard *shard, struct outbox *box, unsigned int i)
{
	struct message *m = &box->messages[i];
	struct msghdr msg = box->headers[i].msg_hdr;
	struct iovec *at = msg.msg_iov, iov[BOX_IOV];
	unsigned int left = (unsigned int)msg.msg_iovlen;
	int error;

	if (m->n <= dgrams_of(shard)->out->segments_max)
		box->flow->dgram.segment_max = (uint16_t)(m->segment - 1);
	msg.msg_iov = iov;
	msg.msg_controllen = 0;
	dgram_put_route(&msg, &m->route, m->segment);
	msg.msg_control = msg.msg_controllen ? msg.msg_control : NULL;
	for (uint32_t sent = 0; sent < m->n; sent++) {
		msg.msg_iovlen = cut(&at, &left, iov, m->segment);
		error = send_again(box, &msg);
		if (error)
			error = send_again(box, &msg);
		if (error) { /* all that remain would be refused likewise */
			refused(shard, box, m, m->n - sent, error);
			return;
		}
	}
}

static bool is_cut_error(int error)
{
	return error == EINVAL || error == EMSGSIZE || error == EIO || error == EOPNOTSUPP;
}

static void message_failed(struct shard *shard, struct outbox *box, unsigned int i, int error)
{
	struct message *m = &box->messages[i];

	if (error == EAGAIN || error == ENOBUFS) {
		count_drop_n(&shard->counters, DROP_UDP_SEND, m->n);
		return;
	}
	error = send_again(box, &box->headers[i].msg_hdr);
	if (!error)
		return;
	if (m->n > 1 && is_cut_error(error))
		send_apart(shard, box, i);
	else
		refused(shard, box, m, m->n, error);
}

/* Emptying. */

static void finish_headers(struct outbox *box)
{
	for (unsigned int i = 0; i < box->n; i++) {
		struct message *m = &box->messages[i];
		struct msghdr *msg = &box->headers[i].msg_hdr;
		unsigned int end = i + 1 < box->n ? box->messages[i + 1].iov : box->n_iov;

		*msg = (struct msghdr){ .msg_name = &box->names[i],
					.msg_control = box->control[i] };
		msg->msg_namelen = sockaddr_of(&m->route.dst, m->route.scope, &box->names[i]);
		msg->msg_iov = box->iov + m->iov;
		msg->msg_iovlen = end - m->iov;
		dgram_put_route(msg, &m->route, m->n > 1 ? m->segment : m->len);
		if (m->n > 1)
			dgram_put_segment(msg, m->segment);
		if (!msg->msg_controllen)
			msg->msg_control = NULL;
	}
}

/* DF can't be said per message for IPv4. */
static void set_df(struct outbox *box)
{
	int value = box->dont_fragment ? IP_PMTUDISC_DO : IP_PMTUDISC_DONT;

	if (*box->df == box->dont_fragment)
		return;
	setsockopt(box->fd, IPPROTO_IP, IP_MTU_DISCOVER, &value, sizeof(value));
	*box->df = box->dont_fragment;
}

static void empty(struct shard *shard, struct outbox *box)
{
	unsigned int at = 0;

	if (!box->flow)
		return;
	if (ip_is_v4(&box->messages[0].route.dst.addr))
		set_df(box);
	finish_headers(box);
	while (at < box->n) {
		int sent = sendmmsg(box->fd, box->headers + at, box->n - at,
				    MSG_DONTWAIT | MSG_NOSIGNAL);

		if (sent > 0) {
			at += (unsigned int)sent;
			continue;
		}
		message_failed(shard, box, at, errno);
		at++;
	}
	box->flow = NULL;
	box->n = box->n_iov = 0;
}

void dgram_batch_end(struct shard *shard)
{
	struct outboxes *out = dgrams_of(shard)->out;

	for (unsigned int i = 0; i < out->used; i++)
		empty(shard, &out->box[i]);
	out->used = out->next = 0;
}

/* Filling. */

/* The box of a socket: one in use, or a fresh one. */
static struct outbox *box_of(struct shard *shard, struct outboxes *out, struct flow *flow, int fd)
{
	struct outbox *box;

	for (unsigned int i = 0; i < out->used; i++) {
		if (out->box[i].fd == fd && out->box[i].flow == flow)
			return &out->box[i];
	}
	if (out->used < OUTBOXES) {
		box = &out->box[out->used++];
	} else {
		box = &out->box[out->next++ % OUTBOXES];
		empty(shard, box);
	}
	box->fd = fd;
	return box;
}

static bool joins(const struct outboxes *out, const struct outbox *box, const struct frame *frame,
		  const struct dgram_route *route)
{
	const struct message *m;

	if (!box->n)
		return false;
	m = &box->messages[box->n - 1];
	return !m->whole && frame->payload_len && frame->payload_len <= m->segment &&
	       m->n < out->segments_max && m->len + frame->payload_len <= RUN_BYTES_MAX &&
	       memcmp(&m->route, route, sizeof(*route)) == 0;
}

/* How many datagrams a guest's own run is; 0: a run that no guest may make. */
static uint32_t datagrams_in(const struct frame *frame)
{
	uint32_t segment = frame->offload.gso_size, n;

	if (frame->offload.gso_type != VIRTIO_NET_HDR_GSO_UDP_L4 || !segment ||
	    frame->payload_len <= segment)
		return 1;
	n = (frame->payload_len + segment - 1) / segment;
	return n <= SEGMENTS_MAX ? n : 0;
}

static void begin_message(const struct outboxes *out, struct outbox *box, struct frame *frame,
			  const struct dgram_route *route, uint32_t n)
{
	struct message *m = &box->messages[box->n++];
	uint32_t segment = n > 1 ? frame->offload.gso_size : frame->payload_len;

	m->route = *route;
	m->frame = frame;
	m->len = 0;
	m->n = 0;
	m->segment = (uint16_t)segment;
	m->iov = (uint16_t)box->n_iov;
	m->whole = n > 1 || !segment || segment > box->flow->dgram.segment_max ||
		   out->segments_max <= 1 || frame->kind != FRAME_UDP;
}

static void add_pieces(struct outbox *box, const struct frame *frame)
{
	if (frame->kind == FRAME_ECHO) /* a ping socket takes the message with its header */
		box->iov[box->n_iov++] =
			(struct iovec){ (void *)(uintptr_t)(frame->data + frame->l4_off),
					DGRAM_L4_HEADER };
	memcpy(box->iov + box->n_iov, frame->payload, frame->n_payload * sizeof(struct iovec));
	box->n_iov += frame->n_payload;
}

void outbox_add(struct shard *shard, struct flow *flow, int fd, int8_t *df, struct frame *frame,
		const struct dgram_route *route)
{
	struct outboxes *out = dgrams_of(shard)->out;
	struct outbox *box = box_of(shard, out, flow, fd);
	uint32_t n = datagrams_in(frame);
	struct message *m;

	if (!n || frame->n_payload >= BOX_IOV) {
		count_drop(&shard->counters, DROP_L4_LENGTH);
		return;
	}
	if (box->n == BOX_MESSAGES || box->n_iov + frame->n_payload + 1 > BOX_IOV ||
	    (box->n && box->dont_fragment != route->dont_fragment))
		empty(shard, box);
	box->flow = flow;
	box->df = df;
	box->dont_fragment = route->dont_fragment;
	if (n > 1 || !joins(out, box, frame, route))
		begin_message(out, box, frame, route, n);
	m = &box->messages[box->n - 1];
	add_pieces(box, frame);
	m->n += n;
	m->len += frame->payload_len;
	if (m->n > 1 && frame->payload_len < m->segment)
		m->whole = true;
	count_add(&shard->counters, frame->kind == FRAME_ECHO ? COUNT_ICMP_RX : COUNT_UDP_RX, n);
}
