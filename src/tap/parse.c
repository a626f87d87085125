/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The frame parser: Ethernet, IPv4 and IPv6. A header is read only after it was found to lie both
 * inside the linear bytes and inside the IP packet; frame->len is the end of the latter.
 */
#include "parse.h"

#include "taploom/bytes.h"
#include "taploom/checksum.h"
#include "taploom/frame_fields.h"

#include <net/ethernet.h>
#include <netinet/ip6.h>

#define IP4_HEADER_MIN 20
#define IP4_FLAG_DF    0x4000
#define IP4_FLAG_MF    0x2000
#define IP4_OFFSET     0x1fff /* in units of 8 bytes */
#define IP6_HEADER_LEN 40
#define IP6_EXT_UNIT   8
#define IP6_EXT_MAX    8 /* headers in a row; no packet of use has more, and each costs time */
#define FRAGMENT_LEN   8
#define DATAGRAM_MAX   65535

static bool source_is_allowed(const struct frame *frame, const struct ip_addr *src)
{
	if (frame->version == IP6 && ip_is_v4(src))
		return false; /* a mapped address on the wire would pass for an IPv4 one */
	if (src->w[3] == htonl(INADDR_BROADCAST) && ip_is_v4(src))
		return false;
	return !ip_is_loopback(src) && !ip_is_multicast(src);
}

static enum drop check_addresses(const struct frame *frame)
{
	const struct ip_addr src = frame_src(frame), dst = frame_dst(frame);

	if (!source_is_allowed(frame, &src))
		return DROP_IP_SOURCE;
	if (ip_is_any(&dst) || ip_is_loopback(&dst) || (frame->version == IP6 && ip_is_v4(&dst)))
		return DROP_IP_DEST;
	return DROP_NONE;
}

/* The end of the IP packet is known: nothing behind it (padding of short frames) counts. */
static void set_len(struct frame *frame, uint32_t len)
{
	frame->len = len;
	if (frame->linear_len > len)
		frame->linear_len = len;
}

/* A part of a cut packet, from l4_off on: offset is in bytes. */
static enum drop take_fragment(struct frame *frame, uint32_t offset, bool more)
{
	uint32_t len = frame->len - frame->l4_off;

	if (len == 0 || (more && len % 8) || offset + len > DATAGRAM_MAX)
		return DROP_FRAGMENT;
	frame->kind = FRAME_FRAGMENT;
	frame->payload_off = frame->l4_off;
	frame->payload_len = len;
	frame->key.guest = frame_src(frame);
	frame->key.peer = frame_dst(frame);
	frame->key.proto = FLOW_FRAGMENT;
	return DROP_NONE;
}

static enum drop parse_ip4(struct frame *frame)
{
	const uint8_t *ip = frame->data + frame->l3_off;
	uint32_t room = frame->linear_len - frame->l3_off, header, total;
	enum drop reason;
	uint16_t frag;

	if (room < IP4_HEADER_MIN)
		return DROP_SHORT;
	if (ip[0] >> 4 != 4)
		return DROP_IP_VERSION;
	header = (ip[0] & 15u) * 4;
	total = load_be16(ip + 2);
	if (header < IP4_HEADER_MIN || total < header || total > frame->len - frame->l3_off)
		return DROP_IP_LENGTH;
	if (room < header)
		return DROP_SHORT;
	if (checksum_finish(checksum_add(0, ip, header)))
		return DROP_IP_CHECKSUM;
	set_len(frame, frame->l3_off + total);
	frag = load_be16(ip + 6);
	frame->version = IP4;
	frame->tos = ip[1];
	frame->ttl = ip[8];
	frame->l4_proto = ip[9];
	frame->l4_off = (uint16_t)(frame->l3_off + header);
	frame->dont_fragment = frag & IP4_FLAG_DF;
	reason = check_addresses(frame);
	if (reason)
		return reason;
	if (frag & (IP4_FLAG_MF | IP4_OFFSET))
		return take_fragment(frame, (frag & IP4_OFFSET) * 8u, frag & IP4_FLAG_MF);
	return l4_parse(frame);
}

/* Steps over an extension header of the common form; *done ends the walk. */
typedef enum drop (*ip6_step)(const uint8_t *header, uint32_t left, struct ip6_chain *chain,
			      bool *done);

static enum drop step_header(const uint8_t *header, uint32_t left, struct ip6_chain *chain)
{
	uint32_t len = (header[1] + 1u) * IP6_EXT_UNIT;

	if (len > left)
		return DROP_SHORT;
	chain->proto = header[0];
	chain->l4_off += len;
	return DROP_NONE;
}

/* RFC 8200 4.2: the highest bits of an option's type say whether one that is not known may be
 * passed over. None of those that may not is known here. */
static bool options_may_pass(const uint8_t *at, const uint8_t *end)
{
	while (at < end) {
		if (*at & 0xc0)
			return false;
		if (*at == IP6OPT_PAD1) {
			at++;
			continue;
		}
		if (end - at < 2 || end - at < 2 + at[1])
			return false;
		at += 2 + at[1];
	}
	return true;
}

static enum drop step_options(const uint8_t *header, uint32_t left, struct ip6_chain *chain,
			      bool *done)
{
	uint32_t len = (header[1] + 1u) * IP6_EXT_UNIT;

	(void)done;
	if (len <= left && !options_may_pass(header + 2, header + len))
		return DROP_IP_OPTION;
	return step_header(header, left, chain);
}

/* RFC 8200 4.4: one with segments left is for a router on the way, which this is not. */
static enum drop step_routing(const uint8_t *header, uint32_t left, struct ip6_chain *chain,
			      bool *done)
{
	if (header[3])
		return DROP_IP_OPTION;
	(void)done;
	return step_header(header, left, chain);
}

static enum drop step_fragment(const uint8_t *header, uint32_t left, struct ip6_chain *chain,
			       bool *done)
{
	uint16_t frag = load_be16(header + 2);

	(void)left;
	chain->proto = header[0];
	chain->l4_off += FRAGMENT_LEN;
	chain->fragment_off = frag & 0xfff8;
	chain->more = frag & 1;
	chain->fragment = chain->fragment_off || chain->more;
	chain->fragment_header = true;
	*done = chain->fragment;
	return DROP_NONE;
}

static const ip6_step ip6_steps[256] = {
	[IPPROTO_HOPOPTS] = step_options,
	[IPPROTO_DSTOPTS] = step_options,
	[IPPROTO_ROUTING] = step_routing,
	[IPPROTO_FRAGMENT] = step_fragment,
};

enum drop ip6_walk(const uint8_t *bytes, uint32_t end, struct ip6_chain *chain)
{
	bool done = false;

	for (unsigned int n = 0; !done && ip6_steps[chain->proto]; n++) {
		enum drop reason;

		/* RFC 8200 4.1: hop-by-hop options are first or nowhere. */
		if (n == IP6_EXT_MAX || (n && chain->proto == IPPROTO_HOPOPTS))
			return DROP_IP_OPTION;
		if (chain->l4_off > end || end - chain->l4_off < IP6_EXT_UNIT)
			return DROP_SHORT;
		reason = ip6_steps[chain->proto](bytes + chain->l4_off, end - chain->l4_off, chain,
						 &done);
		if (reason)
			return reason;
	}
	return DROP_NONE;
}

static enum drop parse_ip6(struct frame *frame)
{
	const uint8_t *ip = frame->data + frame->l3_off;
	struct ip6_chain chain = { .l4_off = frame->l3_off + IP6_HEADER_LEN };
	uint32_t payload;
	enum drop reason;

	if (frame->linear_len < chain.l4_off)
		return DROP_SHORT;
	if (ip[0] >> 4 != 6)
		return DROP_IP_VERSION;
	payload = load_be16(ip + 4);
	if (payload == 0 || payload > frame->len - chain.l4_off) /* 0: a jumbogram (RFC 2675) */
		return DROP_IP_LENGTH;
	set_len(frame, chain.l4_off + payload);
	frame->version = IP6;
	frame->tos = (uint8_t)(load_be16(ip) >> 4);
	frame->ttl = ip[7];
	frame->dont_fragment = true;
	reason = check_addresses(frame);
	if (reason)
		return reason;
	chain.proto = ip[6];
	reason = ip6_walk(frame->data, frame->linear_len, &chain);
	if (reason)
		return reason;
	frame->l4_proto = chain.proto;
	frame->l4_off = (uint16_t)chain.l4_off;
	if (chain.fragment)
		return take_fragment(frame, chain.fragment_off, chain.more);
	reason = l4_parse(frame);
	/* RFC 6980 5: neighbour discovery never comes in fragments. */
	if (!reason && frame->kind == FRAME_CONTROL && chain.fragment_header &&
	    frame->l4_proto == IPPROTO_ICMPV6)
		return DROP_FRAGMENT;
	return reason;
}

static enum drop parse_arp(struct frame *frame)
{
	frame->kind = FRAME_CONTROL;
	frame->l4_off = frame->payload_off = frame->l3_off;
	frame->payload_len = frame->len - frame->l3_off;
	return DROP_NONE;
}

static const struct ether_type {
	uint16_t type;
	enum drop (*parse)(struct frame *frame);
} ether_types[] = {
	{ ETHERTYPE_IP, parse_ip4 },
	{ ETHERTYPE_IPV6, parse_ip6 },
	{ ETHERTYPE_ARP, parse_arp },
};

static enum drop parse_ethernet(struct frame *frame)
{
	uint16_t type;

	if (frame->linear_len < ETH_HEADER_LEN)
		return DROP_SHORT;
	if (frame->data[ETH_ADDR_LEN] & 1) /* the group bit of the source */
		return DROP_ETH_ADDR;
	type = load_be16(frame->data + 2 * ETH_ADDR_LEN);
	for (size_t i = 0; i < sizeof(ether_types) / sizeof(ether_types[0]); i++) {
		if (ether_types[i].type == type)
			return ether_types[i].parse(frame);
	}
	return DROP_ETHERTYPE;
}

/* What a frame must be once all of it is known. */
static enum drop check_whole(const struct frame *frame)
{
	struct ip_addr src;

	if (frame->kind == FRAME_CONTROL)
		return frame->linear_len < frame->len ? DROP_SHORT : DROP_NONE;
	/* Who has no address yet may only ask for one; by DHCP in parts if its link is narrow: what
	 * they make is judged again. */
	src = frame_src(frame);
	if (ip_is_any(&src) && !(frame->kind == FRAME_FRAGMENT && ip_is_v4(&src)))
		return DROP_IP_SOURCE;
	return DROP_NONE;
}

/* len: of the whole frame; linear_len of it are at data. */
static enum drop parse(struct frame *frame, const uint8_t *data, size_t linear_len, size_t len,
		       struct frame_offload offload, const struct hash_secret *secret)
{
	enum drop reason;

	frame->data = data;
	frame->linear_len = (uint32_t)(linear_len > FRAME_WHOLE_MAX ? FRAME_WHOLE_MAX : linear_len);
	frame->len = (uint32_t)(len > FRAME_WHOLE_MAX ? FRAME_WHOLE_MAX : len);
	frame->l3_off = ETH_HEADER_LEN;
	frame->version = IP4;
	frame->tos = frame->ttl = frame->l4_proto = 0;
	frame->dont_fragment = false;
	frame->offload = offload;
	frame->hash = 0;
	frame->key = (struct flow_key){ 0 };
	reason = parse_ethernet(frame);
	if (!reason)
		reason = check_whole(frame);
	if (!reason && frame->kind != FRAME_CONTROL)
		frame->hash = flow_steer_hash(&frame->key, secret);
	return reason;
}

enum drop frame_parse(struct frame *frame, const uint8_t *data, size_t len,
		      struct frame_offload offload, const struct hash_secret *secret)
{
	enum drop reason = parse(frame, data, len, len, offload, secret);

	if (reason)
		return reason;
	frame->payload_one =
		(struct iovec){ (uint8_t *)data + frame->payload_off, frame->payload_len };
	frame->payload = &frame->payload_one;
	frame->n_payload = frame->payload_len ? 1 : 0;
	return DROP_NONE;
}

/* Adds the part of a piece that belongs to the payload; skip and left are in bytes. */
static void add_piece(struct frame *frame, struct iovec *scratch, const struct iovec *piece,
		      size_t *skip, size_t *left)
{
	size_t len = piece->iov_len;
	size_t off = *skip < len ? *skip : len;

	*skip -= off;
	len -= off;
	if (len > *left)
		len = *left;
	*left -= len;
	if (len)
		scratch[frame->n_payload++] =
			(struct iovec){ (uint8_t *)piece->iov_base + off, len };
}

enum drop frame_parse_iov(struct frame *frame, const uint8_t *data, size_t linear_len,
			  const struct iovec *iov, unsigned int n_iov, struct iovec *scratch,
			  struct frame_offload offload, const struct hash_secret *secret)
{
	const struct iovec linear = { (uint8_t *)data, linear_len };
	size_t len = linear_len, skip, left;
	enum drop reason;

	for (unsigned int i = 0; i < n_iov && len < FRAME_MAX; i++)
		len += iov[i].iov_len < FRAME_MAX ? iov[i].iov_len : FRAME_MAX;
	reason = parse(frame, data, linear_len, len, offload, secret);
	if (reason)
		return reason;
	frame->payload = scratch;
	frame->n_payload = 0;
	skip = frame->payload_off;
	left = frame->payload_len;
	add_piece(frame, scratch, &linear, &skip, &left);
	for (unsigned int i = 0; i < n_iov && left; i++)
		add_piece(frame, scratch, &iov[i], &skip, &left);
	return DROP_NONE;
}
