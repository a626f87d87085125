/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The frame parser's upper half: TCP, UDP, ICMP and ICMPv6. Classes a frame, finds its payload and
 * makes the key of its flow. Checksums are left to those who use the data: the host's kernel makes
 * new ones, and guests on some transports leave theirs partial.
 */
#include "parse.h"

#include "taploom/bytes.h"
#include "taploom/frame_fields.h"

#define TCP_HEADER_MIN	20
#define UDP_HEADER_LEN	8
#define ICMP_HEADER_LEN 8
#define DHCP_PORT	67
#define DHCP6_PORT	547
#define PORTS_LEN	4 /* source and destination, at the start of TCP and UDP headers */

#define ICMP4_ECHO_REPLY 0
#define ICMP6_ECHO_REPLY 129

/* The L4 header's first len bytes, or NULL if they are not there. */
static const uint8_t *l4_header(const struct frame *frame, uint32_t len)
{
	if (frame->linear_len < frame->l4_off || frame->linear_len - frame->l4_off < len)
		return NULL;
	return frame->data + frame->l4_off;
}

static void set_payload(struct frame *frame, uint32_t header_len, uint32_t payload_len)
{
	frame->payload_off = (uint16_t)(frame->l4_off + header_len);
	frame->payload_len = payload_len;
}

static enum drop set_control(struct frame *frame)
{
	frame->kind = FRAME_CONTROL;
	set_payload(frame, 0, frame->len - frame->l4_off);
	return DROP_NONE;
}

static enum drop parse_tcp(struct frame *frame)
{
	const uint8_t *tcp = l4_header(frame, TCP_HEADER_MIN);
	uint32_t header;

	if (!tcp)
		return DROP_SHORT;
	header = (uint32_t)(tcp[12] >> 4) * 4;
	if (header < TCP_HEADER_MIN || header > frame->len - frame->l4_off)
		return DROP_L4_LENGTH;
	if (!l4_header(frame, header))
		return DROP_SHORT;
	frame->kind = FRAME_TCP;
	set_payload(frame, header, frame->len - frame->l4_off - header);
	frame->key.guest = frame_src(frame);
	frame->key.peer = frame_dst(frame);
	frame->key.guest_port = load_be16(tcp);
	frame->key.peer_port = load_be16(tcp + 2);
	frame->key.proto = FLOW_TCP;
	return DROP_NONE;
}

static enum drop parse_udp(struct frame *frame)
{
	static const uint16_t control_ports[IP_VERSIONS] = { DHCP_PORT, DHCP6_PORT };
	const uint8_t *udp = l4_header(frame, UDP_HEADER_LEN);
	uint32_t len;

	if (!udp)
		return DROP_SHORT;
	len = load_be16(udp + 4);
	if (len < UDP_HEADER_LEN || len > frame->len - frame->l4_off)
		return DROP_L4_LENGTH;
	if (load_be16(udp + 2) == control_ports[frame->version])
		return set_control(frame);
	frame->kind = FRAME_UDP;
	set_payload(frame, UDP_HEADER_LEN, len - UDP_HEADER_LEN);
	frame->key.guest = frame_src(frame);
	frame->key.guest_port = load_be16(udp);
	frame->key.proto = FLOW_UDP;
	return DROP_NONE;
}

/* The packet inside an ICMP error: one that was sent to the guest. */
struct embedded {
	const uint8_t *l4;
	uint32_t l4_len; /* bytes present */
	uint8_t proto;
	struct ip_addr src; /* the peer */
	struct ip_addr dst; /* the guest */
};

static enum drop embedded_ip4(struct embedded *e, const uint8_t *ip, uint32_t len)
{
	uint32_t header;

	if (len < 20)
		return DROP_SHORT;
	header = (ip[0] & 15u) * 4;
	if (ip[0] >> 4 != 4 || header < 20 || header > len)
		return DROP_L4_LENGTH;
	if (load_be16(ip + 6) & 0x1fff) /* a later fragment has no ports */
		return DROP_ICMP_TYPE;
	*e = (struct embedded){ ip + header, len - header, ip[9], ip4_addr_of(ip + IP4_SRC_OFF),
				ip4_addr_of(ip + IP4_DST_OFF) };
	return DROP_NONE;
}

static enum drop embedded_ip6(struct embedded *e, const uint8_t *ip, uint32_t len)
{
	struct ip6_chain chain = { .l4_off = 40 };
	enum drop reason;

	if (len < chain.l4_off)
		return DROP_SHORT;
	if (ip[0] >> 4 != 6)
		return DROP_L4_LENGTH;
	chain.proto = ip[6];
	reason = ip6_walk(ip, len, &chain);
	if (reason)
		return reason;
	if (chain.fragment_off)
		return DROP_ICMP_TYPE;
	*e = (struct embedded){ ip + chain.l4_off, len - chain.l4_off, chain.proto,
				ip6_addr_of(ip + IP6_SRC_OFF), ip6_addr_of(ip + IP6_DST_OFF) };
	return DROP_NONE;
}

/* What each embedded protocol needs for a key, and how it gives it. */
static void key_of_tcp(struct flow_key *key, const struct embedded *e)
{
	key->peer = e->src;
	key->peer_port = load_be16(e->l4);
	key->guest_port = load_be16(e->l4 + 2);
	key->proto = FLOW_TCP;
}

static void key_of_udp(struct flow_key *key, const struct embedded *e)
{
	key->guest_port = load_be16(e->l4 + 2);
	key->proto = FLOW_UDP;
}

/* The guest only gets replies; its own requests never come back to it. */
static void key_of_echo(struct flow_key *key, const struct embedded *e)
{
	if (e->l4[0] != (e->proto == IPPROTO_ICMP ? ICMP4_ECHO_REPLY : ICMP6_ECHO_REPLY))
		return;
	key->guest_port = load_be16(e->l4 + 4);
	key->proto = FLOW_ECHO;
}

static const struct embedded_rule {
	uint8_t proto;
	uint8_t need; /* bytes of its header */
	void (*take)(struct flow_key *key, const struct embedded *e);
} embedded_rules[IP_VERSIONS][3] = {
	[IP4] = { { IPPROTO_TCP, PORTS_LEN, key_of_tcp },
		  { IPPROTO_UDP, PORTS_LEN, key_of_udp },
		  { IPPROTO_ICMP, ICMP_HEADER_LEN, key_of_echo } },
	[IP6] = { { IPPROTO_TCP, PORTS_LEN, key_of_tcp },
		  { IPPROTO_UDP, PORTS_LEN, key_of_udp },
		  { IPPROTO_ICMPV6, ICMP_HEADER_LEN, key_of_echo } },
};

/* A mapped IPv4 address in an embedded IPv6 header would give the key of an IPv4 flow. */
static bool embedded_is_valid(enum ip_version version, const struct embedded *e)
{
	return ip_version_of(&e->src) == version && ip_version_of(&e->dst) == version &&
	       !ip_is_any(&e->dst);
}

/* Makes the key of the flow that an embedded packet belongs to; proto stays 0 if it is of none. */
static enum drop key_of_embedded(struct flow_key *key, enum ip_version version,
				 const struct embedded *e)
{
	if (!embedded_is_valid(version, e))
		return DROP_ICMP_TYPE;
	for (int i = 0; i < 3; i++) {
		const struct embedded_rule *rule = &embedded_rules[version][i];

		if (rule->proto != e->proto)
			continue;
		if (e->l4_len < rule->need)
			return DROP_SHORT;
		key->guest = e->dst;
		rule->take(key, e);
	}
	return key->proto ? DROP_NONE : DROP_ICMP_TYPE;
}

static enum drop icmp_error(struct frame *frame)
{
	const uint8_t *ip = frame->data + frame->l4_off + ICMP_HEADER_LEN;
	uint32_t len = frame->linear_len - frame->l4_off - ICMP_HEADER_LEN;
	struct embedded e;
	enum drop reason =
		frame->version == IP4 ? embedded_ip4(&e, ip, len) : embedded_ip6(&e, ip, len);

	if (reason)
		return reason;
	frame->kind = FRAME_ICMP_ERROR;
	set_payload(frame, ICMP_HEADER_LEN, frame->len - frame->l4_off - ICMP_HEADER_LEN);
	return key_of_embedded(&frame->key, frame->version, &e);
}

static enum drop icmp_echo(struct frame *frame)
{
	frame->kind = FRAME_ECHO;
	set_payload(frame, ICMP_HEADER_LEN, frame->len - frame->l4_off - ICMP_HEADER_LEN);
	frame->key.guest = frame_src(frame);
	frame->key.guest_port = load_be16(frame->data + frame->l4_off + 4);
	frame->key.proto = FLOW_ECHO;
	return DROP_NONE;
}

/* RFC 792; RFC 4443, 2710, 3810, 4861. What is not here is not translated. */
static enum drop (*const icmp_types[IP_VERSIONS][256])(struct frame *) = {
	[IP4] = {
		[3] = icmp_error,   /* destination unreachable */
		[8] = icmp_echo,
		[11] = icmp_error,  /* time exceeded */
		[12] = icmp_error,  /* parameter problem */
	},
	[IP6] = {
		[1] = icmp_error,   /* destination unreachable */
		[2] = icmp_error,   /* packet too big */
		[3] = icmp_error,   /* time exceeded */
		[4] = icmp_error,   /* parameter problem */
		[128] = icmp_echo,
		[130] = set_control, /* MLD query, report, done */
		[131] = set_control,
		[132] = set_control,
		[133] = set_control, /* RS, RA, NS, NA, redirect */
		[134] = set_control,
		[135] = set_control,
		[136] = set_control,
		[137] = set_control,
		[143] = set_control, /* MLDv2 report */
	},
};

static enum drop parse_icmp(struct frame *frame)
{
	const uint8_t *icmp = l4_header(frame, ICMP_HEADER_LEN);

	if (!icmp)
		return DROP_SHORT;
	if (!icmp_types[frame->version][icmp[0]])
		return DROP_ICMP_TYPE;
	return icmp_types[frame->version][icmp[0]](frame);
}

static enum drop (*const protocols[IP_VERSIONS][256])(struct frame *) = {
	[IP4] = {
		[IPPROTO_TCP] = parse_tcp,
		[IPPROTO_UDP] = parse_udp,
		[IPPROTO_ICMP] = parse_icmp,
		[IPPROTO_IGMP] = set_control,
	},
	[IP6] = {
		[IPPROTO_TCP] = parse_tcp,
		[IPPROTO_UDP] = parse_udp,
		[IPPROTO_ICMPV6] = parse_icmp,
	},
};

enum drop l4_parse(struct frame *frame)
{
	if (!protocols[frame->version][frame->l4_proto])
		return DROP_IP_PROTOCOL;
	return protocols[frame->version][frame->l4_proto](frame);
}
