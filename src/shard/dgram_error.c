/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the network, or our own kernel, says of the guest's datagrams: errors of the socket's queue
 * (IP_RECVERR) and of send calls become ICMP errors that quote the datagram as the guest sent it.
 */
#include "dgram_internal.h"

#include "taploom/checksum.h"
#include "taploom/frame_fields.h"

#include <errno.h>
#include <linux/errqueue.h>
#include <netinet/icmp6.h>
#include <netinet/ip_icmp.h>

#define ERRORS_PER_RUN 32
#define QUOTE_MAX      1232
#define CONTROL_SIZE   512

static bool is_relayed4(uint8_t type)
{
	return type == ICMP_DEST_UNREACH || type == ICMP_TIME_EXCEEDED ||
	       type == ICMP_PARAMETERPROB;
}

static bool is_relayed6(uint8_t type)
{
	return type >= ICMP6_DST_UNREACH && type <= ICMP6_PARAM_PROB;
}

/* The flow and peer that a datagram to a host-side address belongs to. */
static struct dgram_peer *find_peer(struct shard *shard, struct flow *flow,
				    const struct endpoint *dst)
{
	struct dgram_peer *peer = peer_by_host(shard, flow, dst);

	if (peer || !flow->dgram.port)
		return peer;
	for (struct list *l = flow->dgram.port->flows.next; l != &flow->dgram.port->flows && !peer;
	     l = l->next)
		peer = peer_by_host(shard, LIST_ENTRY(l, struct flow, dgram.port_link), dst);
	return peer;
}

/* The identifier of an echo that is quoted: the guest's, and the checksum moved by the difference
 * (RFC 1624). */
static void restore_echo(uint8_t *icmp, uint16_t id)
{
	uint16_t old, sum, wire = htons(id), inverse;
	uint64_t acc = 0;

	memcpy(&old, icmp + 4, 2);
	memcpy(&sum, icmp + 2, 2);
	inverse = (uint16_t)~sum;
	acc = checksum_add(acc, &inverse, 2);
	inverse = (uint16_t)~old;
	acc = checksum_add(acc, &inverse, 2);
	acc = checksum_add(acc, &wire, 2);
	sum = checksum_finish(acc);
	memcpy(icmp + 2, &sum, 2);
	memcpy(icmp + 4, &wire, 2);
}

/* Writes the datagram's headers as the guest sent them, in front of what was quoted of its payload;
 * bytes has room for the L3 and UDP headers at its beginning. Returns the start of the IP header.
 */
static uint8_t *quote(const struct dgram_peer *peer, uint8_t *bytes, size_t len, size_t *quoted_len)
{
	const struct flow_key *key = &peer->flow->key;
	struct l3 l3 = {
		.src = key->guest, .dst = peer->view.addr, .proto = IPPROTO_UDP, .ttl = DGRAM_TTL
	};
	uint8_t *l4 = bytes + L3_HEADER_MAX, *start;
	size_t l4_len = DGRAM_L4_HEADER + len;

	if (key->proto == FLOW_ECHO) {
		l3.proto = ip_is_v4(&key->guest) ? IPPROTO_ICMP : IPPROTO_ICMPV6;
		l4 += DGRAM_L4_HEADER;
		l4_len = len;
		if (len >= DGRAM_L4_HEADER)
			restore_echo(l4, key->guest_port);
	} else {
		store_be16(l4, key->guest_port);
		store_be16(l4 + 2, peer->view.port);
		store_be16(l4 + 4, (uint16_t)l4_len);
		store_be16(l4 + 6, 0);
	}
	start = l4 - l3_len(&l3.dst);
	l3_write(start, &l3, l4_len);
	*quoted_len = l3_len(&l3.dst) - ETH_HEADER_LEN + l4_len;
	return start + ETH_HEADER_LEN;
}

/* Who speaks: the router or host that the error came from, as the guest may see it; else the peer.
 */
static struct ip_addr offender(struct shard *shard, const struct dgram_meta *meta,
			       const struct dgram_peer *peer)
{
	struct sockaddr_storage sa = { 0 };
	struct endpoint e;
	struct ip_addr seen;
	size_t len = meta->error_len - sizeof(struct sock_extended_err);

	if (ip_eq(&peer->host.addr, &peer->view.addr) || ip_is_loopback(&peer->host.addr)) {
		memcpy(&sa, (const uint8_t *)meta->error + sizeof(struct sock_extended_err),
		       len < sizeof(sa) ? len : sizeof(sa));
		if (endpoint_of(&sa, &e) && !ip_is_any(&e.addr) &&
		    !ip_eq(&e.addr, &peer->host.addr) &&
		    ip_is_v4(&e.addr) == ip_is_v4(&peer->view.addr) &&
		    map_to_guest(netconf_get(shard->rt), &e.addr, NULL, &seen))
			return seen;
	}
	return peer->view.addr;
}

static void relay(struct shard *shard, struct flow *flow, const struct msghdr *msg, uint8_t *bytes,
		  size_t len, const struct dgram_meta *meta, const struct sock_extended_err *err)
{
	uint32_t info = err->ee_info;
	struct dgram_peer *peer;
	struct endpoint dst;
	struct ip_addr from;
	size_t quoted_len;
	uint8_t *quoted;

	if (!endpoint_of(msg->msg_name, &dst))
		return;
	peer = find_peer(shard, flow, &dst);
	if (!peer || !(ip_is_v4(&peer->view.addr) ? is_relayed4 : is_relayed6)(err->ee_type))
		return;
	/* The kernel tells the pointer of RFC 792's parameter problem by itself: it is the first
	 * byte. */
	if (ip_is_v4(&peer->view.addr) && err->ee_type == ICMP_PARAMETERPROB)
		info <<= 24;
	quoted = quote(peer, bytes, len, &quoted_len);
	from = offender(shard, meta, peer);
	icmp_send_error(shard, quoted, quoted_len, err->ee_type, err->ee_code, info, &from);
}

uint32_t dgram_relay_errors(struct shard *shard, int fd, struct flow *flow)
{
	uint8_t bytes[L3_HEADER_MAX + DGRAM_L4_HEADER + QUOTE_MAX];
	_Alignas(struct cmsghdr) uint8_t control[CONTROL_SIZE];
	struct sockaddr_storage name = { 0 };
	uint32_t mtu = 0;

	for (unsigned int i = 0; i < ERRORS_PER_RUN; i++) {
		struct iovec iov = { bytes + L3_HEADER_MAX + DGRAM_L4_HEADER, QUOTE_MAX };
		struct msghdr msg = { .msg_name = &name,
				      .msg_namelen = sizeof(name),
				      .msg_iov = &iov,
				      .msg_iovlen = 1,
				      .msg_control = control,
				      .msg_controllen = sizeof(control) };
		ssize_t n = recvmsg(fd, &msg, MSG_ERRQUEUE | MSG_DONTWAIT);
		struct sock_extended_err err;
		struct dgram_meta meta;

		if (n < 0)
			break;
		dgram_meta_of(&msg, &meta);
		if (!meta.error || meta.error_len < sizeof(err))
			continue;
		memcpy(&err, meta.error, sizeof(err));
		if (err.ee_origin == SO_EE_ORIGIN_LOCAL && err.ee_errno == EMSGSIZE)
			mtu = err.ee_info;
		else if (flow && (err.ee_origin == SO_EE_ORIGIN_ICMP ||
				  err.ee_origin == SO_EE_ORIGIN_ICMP6))
			relay(shard, flow, &msg, bytes, (size_t)n, &meta, &err);
	}
	return mtu;
}

/* How a refusal of the host's kernel is told to the guest: as a router would. */
static const struct send_error {
	int error;
	uint8_t code4; /* of destination unreachable: RFC 792, RFC 1812 5.2.7.1 */
	uint8_t code6; /* RFC 4443 3.1 */
} send_errors[] = {
	{ ENETUNREACH, ICMP_NET_UNREACH, ICMP6_DST_UNREACH_NOROUTE },
	{ EHOSTUNREACH, ICMP_HOST_UNREACH, ICMP6_DST_UNREACH_ADDR },
	{ EHOSTDOWN, ICMP_HOST_UNKNOWN, ICMP6_DST_UNREACH_ADDR },
	{ ENETDOWN, ICMP_NET_UNREACH, ICMP6_DST_UNREACH_NOROUTE },
	{ EACCES, ICMP_PKT_FILTERED, ICMP6_DST_UNREACH_ADMIN },
	{ EPERM, ICMP_PKT_FILTERED, ICMP6_DST_UNREACH_ADMIN },
	{ ECONNREFUSED, ICMP_PORT_UNREACH, ICMP6_DST_UNREACH_NOPORT },
	{ EADDRNOTAVAIL, ICMP_NET_UNREACH, ICMP6_DST_UNREACH_NOROUTE },
};

static void tell(struct shard *shard, const struct frame *frame, uint8_t type, uint8_t code,
		 uint32_t info)
{
	struct ip_addr dst = frame_dst(frame), from = router_towards(shard, &dst);

	icmp_send_error(shard, frame->data + frame->l3_off, frame->linear_len - frame->l3_off, type,
			code, info, &from);
}

bool dgram_refused(struct shard *shard, const struct frame *frame, int error)
{
	bool v4 = frame->version == IP4;

	for (size_t i = 0; i < sizeof(send_errors) / sizeof(send_errors[0]); i++) {
		const struct send_error *e = &send_errors[i];

		if (e->error != error)
			continue;
		tell(shard, frame, v4 ? ICMP_DEST_UNREACH : ICMP6_DST_UNREACH,
		     v4 ? e->code4 : e->code6, 0);
		return true;
	}
	return false;
}

void dgram_too_big(struct shard *shard, const struct frame *frame, uint32_t mtu)
{
	if (frame->version == IP4)
		tell(shard, frame, ICMP_DEST_UNREACH, ICMP_FRAG_NEEDED, mtu & 0xffff);
	else
		tell(shard, frame, ICMP6_PACKET_TOO_BIG, 0, mtu);
}
