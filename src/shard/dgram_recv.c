/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From sockets to the guest. A shard receives into one area, several datagrams a call, runs of them
 * where the kernel has joined them (UDP_GRO). What is in the area goes to the guest before anything
 * else is received: when the guest's side is full it stays there, and the sockets keep the rest.
 */
#include "dgram_internal.h"

#include <errno.h>
#include <linux/errqueue.h>
#include <netinet/udp.h>
#include <sys/mman.h>

#ifndef UDP_GRO
#define UDP_GRO 104
#endif

#define SLOTS	     32
#define SLOT_SIZE    (65536u + 512u) /* more than any datagram; apart in the cache's sets */
#define CONTROL_SIZE 320
#define ROUNDS	     4	 /* calls per run, so that no socket keeps the others waiting */
#define USO_SEGMENTS 64u /* what every guest's kernel cuts */
#define USO_BYTES    65000u

static const uint8_t echo_reply[IP_VERSIONS] = { [IP4] = 0, [IP6] = 129 };

struct dgram_inbox {
	struct flow *flow;	       /* whose socket it came from ... */
	struct udp_listener *listener; /* ... or whose port */
	unsigned int n, at; /* datagrams or runs in the area, and the first that is not done */
	size_t done;	    /* its payload bytes that are on their way */
	bool begun;	    /* to and packet are those of the present one */
	struct flow *to;    /* whom it is for */
	uint32_t segment;   /* of a run; 0: a single one */
	struct dgram_packet packet;
	struct iovec joined[SLOTS]; /* the datagrams behind the first, of those that go as one */
	struct mmsghdr headers[SLOTS];
	struct iovec iov[SLOTS];
	struct sockaddr_storage names[SLOTS];
	_Alignas(struct cmsghdr) uint8_t control[SLOTS][CONTROL_SIZE];
	uint8_t slots[SLOTS][SLOT_SIZE];
};

int dgram_inbox_init(struct dgrams *d)
{
	void *p = mmap(NULL, sizeof(*d->in), PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (p == MAP_FAILED)
		return -ENOMEM;
	d->in = p;
	return 0;
}

void dgram_inbox_free(struct dgrams *d)
{
	if (d->in)
		munmap(d->in, sizeof(*d->in));
	d->in = NULL;
}

/* Control data. */

static int int_of(const struct cmsghdr *cmsg)
{
	int value = 0;

	if (cmsg->cmsg_len >= CMSG_LEN(sizeof(value)))
		memcpy(&value, CMSG_DATA(cmsg), sizeof(value));
	return value;
}

static void take_tos4(const struct cmsghdr *cmsg, struct dgram_meta *meta)
{
	meta->tos = *CMSG_DATA(cmsg); /* one byte, in the received form */
}

static void take_tos(const struct cmsghdr *cmsg, struct dgram_meta *meta)
{
	meta->tos = (uint8_t)int_of(cmsg);
}

static void take_ttl(const struct cmsghdr *cmsg, struct dgram_meta *meta)
{
	meta->ttl = (uint8_t)int_of(cmsg);
}

static void take_segment(const struct cmsghdr *cmsg, struct dgram_meta *meta)
{
	int value = int_of(cmsg);

	meta->segment = value > 0 ? (uint32_t)value : 0;
}

static void take_local4(const struct cmsghdr *cmsg, struct dgram_meta *meta)
{
	struct in_pktinfo info;

	memcpy(&info, CMSG_DATA(cmsg), sizeof(info));
	meta->ifindex = (unsigned int)info.ipi_ifindex;
	meta->local = ip4_addr_of(&info.ipi_spec_dst);
	meta->group = info.ipi_addr.s_addr != info.ipi_spec_dst.s_addr;
}

static void take_local6(const struct cmsghdr *cmsg, struct dgram_meta *meta)
{
	struct in6_pktinfo info;
	struct ip_addr dst;

	memcpy(&info, CMSG_DATA(cmsg), sizeof(info));
	dst = ip6_addr_of(&info.ipi6_addr);
	meta->ifindex = info.ipi6_ifindex;
	if (ip_is_v4(&dst))
		return; /* take_local4() has it */
	meta->group = ip_is_multicast(&dst);
	if (!meta->group) /* which is nobody's address */
		meta->local = dst;
}

static void take_error(const struct cmsghdr *cmsg, struct dgram_meta *meta)
{
	meta->error = CMSG_DATA(cmsg);
	meta->error_len = cmsg->cmsg_len - CMSG_LEN(0);
}

static const struct control_rule {
	int level;
	int type;
	void (*take)(const struct cmsghdr *cmsg, struct dgram_meta *meta);
} control_rules[] = {
	{ IPPROTO_UDP, UDP_GRO, take_segment },	    { IPPROTO_IP, IP_TOS, take_tos4 },
	{ IPPROTO_IP, IP_TTL, take_ttl },	    { IPPROTO_IP, IP_PKTINFO, take_local4 },
	{ IPPROTO_IP, IP_RECVERR, take_error },	    { IPPROTO_IPV6, IPV6_TCLASS, take_tos },
	{ IPPROTO_IPV6, IPV6_HOPLIMIT, take_ttl },  { IPPROTO_IPV6, IPV6_PKTINFO, take_local6 },
	{ IPPROTO_IPV6, IPV6_RECVERR, take_error },
};

void dgram_meta_of(struct msghdr *msg, struct dgram_meta *meta)
{
	*meta = (struct dgram_meta){ 0 };
	for (struct cmsghdr *cmsg = CMSG_FIRSTHDR(msg); cmsg; cmsg = CMSG_NXTHDR(msg, cmsg)) {
		for (size_t i = 0; i < sizeof(control_rules) / sizeof(control_rules[0]); i++) {
			if (control_rules[i].level == cmsg->cmsg_level &&
			    control_rules[i].type == cmsg->cmsg_type)
				control_rules[i].take(cmsg, meta);
		}
	}
}

/* Whom it is for, and from whom. */

/* A stranger answers what the guest sent to a group: the guest will know it by the mapped address.
 * NULL: it may not; counted. */
static struct dgram_peer *answerer(struct shard *shard, struct flow *flow,
				   const struct endpoint *src)
{
	struct endpoint view = *src;
	enum drop drop = DROP_NONE;

	if (!flow->dgram.group ||
	    !map_to_guest(netconf_get(shard->rt), &src->addr, NULL, &view.addr))
		drop = DROP_UDP_FILTER;
	else if (flow->key.proto == FLOW_UDP && udp_is_guests_own(shard, src, 0))
		drop = DROP_UDP_LOOP;
	if (!drop)
		return peer_add(shard, flow, &view, src);
	count_drop(&shard->counters, drop);
	return NULL;
}

static struct dgram_peer *sender(struct shard *shard, struct dgram_inbox *in,
				 const struct sockaddr_storage *name, const struct dgram_meta *meta)
{
	struct dgram_peer *peer;
	struct endpoint src;

	if (!endpoint_of(name, &src))
		return NULL;
	if (in->listener) {
		in->to = udp_listener_flow(shard, in->listener, &src, meta, &peer);
		return in->to ? peer : NULL;
	}
	in->to = in->flow;
	if (in->flow->key.proto == FLOW_ECHO)
		src.port = 0;
	peer = peer_by_host(shard, in->flow, &src);
	if (!peer)
		peer = answerer(shard, in->flow, &src);
	if (peer && in->flow->dgram.group)
		peer->answering_until_us = shard->now_us + DGRAM_ANSWERED_US;
	return peer;
}

/* Makes the present entry of the area into a packet. False: it is not for the guest, and counted.
 */
static bool begin(struct shard *shard, struct dgram_inbox *in)
{
	struct mmsghdr *header = &in->headers[in->at];
	struct dgram_packet *packet = &in->packet;
	struct dgram_peer *peer;
	struct dgram_meta meta;

	dgram_meta_of(&header->msg_hdr, &meta);
	peer = sender(shard, in, &in->names[in->at], &meta);
	if (!peer)
		return false;
	peer_touch(shard, peer);
	in->to->dgram.answered = true;
	dgram_used(shard, in->to);
	in->done = 0;
	in->begun = true;
	in->segment = meta.segment;
	*packet = (struct dgram_packet){
		.src = peer->view.addr,
		.dst = in->to->key.guest,
		.proto = IPPROTO_UDP,
		.tos = meta.tos,
		.ttl = meta.ttl,
		.queue = in->to->queue,
		.mtu = in->to->dgram.mtu ? in->to->dgram.mtu
					 : guest_mtu(shard, ip_is_v4(&in->to->key.guest)),
	};
	store_be16(packet->l4, peer->view.port);
	store_be16(packet->l4 + 2, in->to->key.guest_port);
	return true;
}

/* To the guest. */

static bool write_udp(struct shard *shard, struct dgram_inbox *in, size_t len, uint32_t segment)
{
	struct dgram_packet *packet = &in->packet;

	packet->payload = in->slots[in->at] + in->done;
	packet->len = len;
	packet->segment = (uint16_t)(len > segment ? segment : 0);
	store_be16(packet->l4 + 4, (uint16_t)(DGRAM_L4_HEADER + len));
	if (!dgram_write(shard, packet))
		return false;
	in->done += len;
	count_add(&shard->counters, COUNT_UDP_TX,
		  packet->segment ? (len + segment - 1) / segment : 1);
	return true;
}

/* How much of a run may go as one frame. */
static size_t run_len(const struct shard *shard, const struct dgram_inbox *in, size_t left)
{
	bool v4 = ip_is_v4(&in->packet.dst);
	size_t headers = (v4 ? 20 : 40) + DGRAM_L4_HEADER, n;

	if (!(tx_caps(shard->tx, in->packet.queue) & TX_USO) ||
	    headers + in->segment > in->packet.mtu)
		return in->segment;
	n = USO_BYTES / in->segment;
	n = n < USO_SEGMENTS ? n : USO_SEGMENTS;
	n = n ? n * in->segment : in->segment;
	return n < left ? n : left;
}

/* Whether two entries differ in nothing but their payload: source, and all control data. */
static bool alike(const struct dgram_inbox *in, unsigned int a, unsigned int b)
{
	const struct msghdr *x = &in->headers[a].msg_hdr, *y = &in->headers[b].msg_hdr;

	return x->msg_namelen == y->msg_namelen && x->msg_controllen == y->msg_controllen &&
	       !memcmp(&in->names[a], &in->names[b], x->msg_namelen) &&
	       !memcmp(in->control[a], in->control[b], x->msg_controllen);
}

/*
 * Joins the present datagram with those behind it that are like it, as the kernel's GRO would have
 * done: of one size, the last perhaps shorter. Returns the bytes of those behind it.
 */
static size_t join(const struct shard *shard, struct dgram_inbox *in, size_t len)
{
	struct dgram_packet *packet = &in->packet;
	bool v4 = ip_is_v4(&packet->dst);
	size_t headers = (v4 ? 20 : 40) + DGRAM_L4_HEADER, more = 0;

	packet->n_joined = 0;
	if (!len || !(tx_caps(shard->tx, packet->queue) & TX_USO) || headers + len > packet->mtu)
		return 0;
	for (unsigned int i = in->at + 1; i < in->n && packet->n_joined < USO_SEGMENTS - 1; i++) {
		size_t next = in->headers[i].msg_len;

		if (!next || next > len || len + more + next > USO_BYTES || !alike(in, in->at, i))
			break;
		in->joined[packet->n_joined++] = (struct iovec){ in->slots[i], next };
		more += next;
		if (next < len)
			break;
	}
	packet->joined = in->joined;
	return more;
}

static bool deliver_udp(struct shard *shard, struct dgram_inbox *in, size_t len)
{
	if (!in->segment) {
		size_t more = join(shard, in, len);

		if (!write_udp(shard, in, len + more, more ? (uint32_t)len : UINT16_MAX))
			return false;
		in->at += in->packet.n_joined;
		return true;
	}
	do {
		size_t left = len - in->done, part = left;

		if (left > in->segment)
			part = run_len(shard, in, left);
		if (!write_udp(shard, in, part, in->segment))
			return false;
	} while (in->done < len);
	return true;
}

/* An echo reply, with the guest's own identifier. */
static bool deliver_echo(struct shard *shard, struct dgram_inbox *in, size_t len)
{
	const uint8_t *icmp = in->slots[in->at];
	struct dgram_packet *packet = &in->packet;
	enum ip_version version = ip_version_of(&packet->dst);

	if (len < DGRAM_L4_HEADER || icmp[0] != echo_reply[version]) {
		count_drop(&shard->counters, DROP_ICMP_TYPE);
		return true;
	}
	packet->proto = version == IP4 ? IPPROTO_ICMP : IPPROTO_ICMPV6;
	memcpy(packet->l4, icmp, DGRAM_L4_HEADER);
	store_be16(packet->l4 + 4, in->to->key.guest_port);
	packet->payload = icmp + DGRAM_L4_HEADER;
	packet->len = len - DGRAM_L4_HEADER;
	if (!dgram_write(shard, packet))
		return false;
	count_add(&shard->counters, COUNT_ICMP_TX, 1);
	return true;
}

bool dgram_inbox_waits(const struct shard *shard)
{
	return dgrams_of(shard)->in->n > 0;
}

bool dgram_inbox_deliver(struct shard *shard)
{
	struct dgram_inbox *in = dgrams_of(shard)->in;

	for (; in->at < in->n; in->at++, in->begun = false) {
		size_t len;

		if (!in->begun && in->listener)
			in->at += splice_udp_take(shard, in->listener, in->headers + in->at,
						  in->n - in->at);
		if (in->at == in->n)
			break;
		len = in->headers[in->at].msg_len;
		if (!in->begun && !begin(shard, in))
			continue;
		if (!in->to)
			continue; /* it ended while this waited */
		if (!(in->to->key.proto == FLOW_ECHO ? deliver_echo : deliver_udp)(shard, in, len))
			return false;
	}
	in->n = in->at = 0;
	in->flow = NULL;
	in->listener = NULL;
	return true;
}

void dgram_inbox_forget(struct shard *shard, const struct flow *flow)
{
	struct dgram_inbox *in = dgrams_of(shard)->in;

	if (in->flow == flow) {
		in->n = in->at = 0;
		in->begun = false;
		in->flow = NULL;
	}
	if (in->to == flow)
		in->to = NULL;
}

void dgram_inbox_forget_listener(struct shard *shard, const struct udp_listener *listener)
{
	struct dgram_inbox *in = dgrams_of(shard)->in;

	if (in->listener != listener)
		return;
	in->n = in->at = 0;
	in->begun = false;
	in->listener = NULL;
}

/* Receiving. */

static int receive(struct dgram_inbox *in, int fd)
{
	for (unsigned int i = 0; i < SLOTS; i++) {
		in->iov[i] = (struct iovec){ in->slots[i], 65536 };
		in->headers[i].msg_hdr = (struct msghdr){
			.msg_name = &in->names[i],
			.msg_namelen = sizeof(in->names[i]),
			.msg_iov = &in->iov[i],
			.msg_iovlen = 1,
			.msg_control = in->control[i],
			.msg_controllen = CONTROL_SIZE,
		};
	}
	return recvmmsg(fd, in->headers, SLOTS, MSG_DONTWAIT, NULL);
}

enum dgram_inbox_end dgram_inbox_receive(struct shard *shard, int fd, struct flow *flow,
					 struct udp_listener *listener)
{
	struct dgram_inbox *in = dgrams_of(shard)->in;

	if (!dgram_inbox_deliver(shard))
		return INBOX_NO_ROOM;
	for (unsigned int i = 0; i < ROUNDS; i++) {
		int n = receive(in, fd);

		if (n < 0 && (errno == EAGAIN || errno == EBADF))
			return INBOX_EMPTY;
		if (n < 0)
			continue; /* an error of an earlier datagram, that the error queue tells of
				     too */
		in->flow = flow;
		in->listener = listener;
		in->n = (unsigned int)n;
		if (!dgram_inbox_deliver(shard))
			return INBOX_NO_ROOM;
		if (listener ? listener->fd != fd : flow->closed)
			return INBOX_EMPTY;
	}
	return INBOX_MORE;
}
