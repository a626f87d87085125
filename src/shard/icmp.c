/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ICMP errors: those that we send to the guest, and those that the guest sends.
 */
#include "dgram_internal.h"
#include "tcp_internal.h"

#include "taploom/checksum.h"

#define ICMP_HEADER	  8
#define QUOTE4_MAX	  (576 - 20 - ICMP_HEADER) /* RFC 1812 4.3.2.3: as much as fits in 576 bytes */
#define QUOTE6_MAX	  (1280 - 40 - ICMP_HEADER) /* RFC 4443 2.4 (c): in the minimum MTU */
#define ERROR_TTL	  255
#define TYPE4_UNREACHABLE 3
#define TYPE6_UNREACHABLE 1
#define TYPE6_TOO_BIG	  2
#define CODE4_TOO_BIG	  4
#define MTU4_UNKNOWN                                                                               \
	576	      /* of routers older than RFC 1191, which do not say theirs (its section 5) */
#define MTU4_LEAST 68 /* RFC 791 3.2 */
#define MTU6_LEAST 1280 /* RFC 8201 4: no word of less is believed */

/* Whom an error would go to. False: no error may be sent (RFC 1122 3.2.2, RFC
 * 4443 2.4 (e)). */
static bool ends_of(const struct shard *shard, const uint8_t *quoted, size_t len, uint8_t type,
		    struct ip_addr *src)
{
	bool v4 = len >= 20 && quoted[0] >> 4 == 4;
	const struct netconf_version *v = &netconf_get(shard->rt)->v[v4 ? IP4 : IP6];
	struct ip_addr dst;

	if (!v4 && (len < 40 || quoted[0] >> 4 != 6))
		return false;
	*src = v4 ? ip4_addr_of(quoted + 12) : ip6_addr_of(quoted + 8);
	dst = v4 ? ip4_addr_of(quoted + 16) : ip6_addr_of(quoted + 24);
	if (ip_is_any(src) || map_is_group(v, src))
		return false;
	if (v4 && load_be16(quoted + 6) & 0x1fff)
		return false; /* a later fragment */
	return !map_is_group(v, &dst) || (!v4 && type == TYPE6_TOO_BIG);
}

static size_t quote4_max(const struct shard *shard)
{
	size_t room = guest_mtu(shard, true) - 20 - ICMP_HEADER;

	return room < QUOTE4_MAX ? room : QUOTE4_MAX;
}

void icmp_send_error(struct shard *shard, const uint8_t *quoted, size_t len, uint8_t type,
		     uint8_t code, uint32_t info, const struct ip_addr *from)
{
	struct l3 l3 = { .dst_mac = guest_mac_get(shard->rt),
			 .src_mac = netconf_get(shard->rt)->our_mac,
			 .src = *from,
			 .ttl = ERROR_TTL };
	size_t off, max;
	uint8_t *frame, *icmp;
	uint64_t sum = 0;
	uint16_t field;

	if (!ends_of(shard, quoted, len, type, &l3.dst) || ip_is_v4(&l3.dst) != ip_is_v4(from))
		return;
	max = ip_is_v4(&l3.dst) ? quote4_max(shard) : QUOTE6_MAX;
	len = len < max ? len : max;
	l3.proto = ip_is_v4(&l3.dst) ? IPPROTO_ICMP : IPPROTO_ICMPV6;
	off = l3_len(&l3.dst);
	frame = tx_frame_begin(shard->tx, 0, off + ICMP_HEADER + len);
	if (!frame)
		return; /* errors may be lost, and the guest's side is full */
	l3_write(frame, &l3, ICMP_HEADER + len);
	icmp = frame + off;
	icmp[0] = type;
	icmp[1] = code;
	memset(icmp + 2, 0, 2);
	store_be32(icmp + 4, info);
	memcpy(icmp + ICMP_HEADER, quoted, len);
	if (l3.proto == IPPROTO_ICMPV6)
		sum = checksum_pseudo(&l3.src, &l3.dst, l3.proto, (uint32_t)(ICMP_HEADER + len));
	field = checksum_finish(checksum_add(sum, icmp, ICMP_HEADER + len));
	memcpy(icmp + 2, &field, sizeof(field));
	tx_frame_commit(shard->tx, off + ICMP_HEADER + len, &(struct tx_offload){ 0 });
	count_add(&shard->counters, COUNT_ICMP_ERRORS, 1);
}

/* The sequence number of the quoted segment. False if it is not there. */
static bool quoted_seq(const struct frame *frame, uint32_t *seq)
{
	const uint8_t *ip = frame->data + frame->payload_off;
	uint32_t have = frame->linear_len - frame->payload_off;
	uint32_t off = frame->version == IP4 ? (ip[0] & 15u) * 4 : 40;

	if (have < off + 8)
		return false;
	*seq = load_be32(ip + off + 4);
	return true;
}

/*
 * The guest has no route for our SYN, say: the connection ends. Only in that state, and with the
 * number that the SYN had (RFC 5927 4.1). Once there is a connection, such errors are soft (RFC
 * 1122 4.2.3.9).
 */
static bool ends_connecting(const struct frame *frame, const struct flow *flow)
{
	uint8_t type = frame->data[frame->l4_off];
	uint32_t seq;

	return type == (frame->version == IP4 ? TYPE4_UNREACHABLE : TYPE6_UNREACHABLE) &&
	       flow->tcp.state == TCPS_SYN_SENT && quoted_seq(frame, &seq) && seq == flow->tcp.iss;
}

static bool is_too_big(const struct frame *frame)
{
	const uint8_t *icmp = frame->data + frame->l4_off;

	return frame->version == IP4 ? icmp[0] == TYPE4_UNREACHABLE && icmp[1] == CODE4_TOO_BIG
				     : icmp[0] == TYPE6_TOO_BIG;
}

/* What the hop takes. */
static uint32_t told_mtu(const struct frame *frame)
{
	const uint8_t *icmp = frame->data + frame->l4_off;
	uint32_t mtu;

	if (frame->version == IP6) {
		mtu = load_be32(icmp + 4);
		return mtu > MTU6_LEAST ? mtu : MTU6_LEAST;
	}
	mtu = load_be16(icmp + 6);
	if (!mtu)
		return MTU4_UNKNOWN;
	return mtu > MTU4_LEAST ? mtu : MTU4_LEAST;
}

/*
 * A hop behind the guest, which may be a router, takes no packet as long (RFC 1191, RFC 8201): TCP
 * gets shorter, and only what is in flight can have met the hop (RFC 5927 7.2); datagrams are sent
 * in fragments from then on.
 */
static void lower_mtu(struct shard *shard, const struct frame *frame, struct flow *flow)
{
	uint32_t mtu = told_mtu(frame), known, seq;

	if (frame->key.proto == FLOW_TCP) {
		if (quoted_seq(frame, &seq) && SEQ_GE(seq, flow->tcp.snd_una) &&
		    SEQ_LT(seq, flow->tcp.snd_nxt))
			tcp_recovery_shorter(shard, flow, mtu);
		return;
	}
	known = flow->dgram.mtu ? flow->dgram.mtu : guest_mtu(shard, frame->version == IP4);
	if (mtu < known)
		flow->dgram.mtu = (uint16_t)mtu;
}

void icmp_error_frame(struct shard *shard, struct frame *frame)
{
	struct flow *flow = NULL;

	if (frame->key.proto == FLOW_TCP || is_too_big(frame))
		flow = flow_find(shard->rt, &frame->key, frame->hash);
	if (flow && flow_owner(flow) != shard->id) {
		shard_forward(shard, frame, flow_owner(flow));
		return;
	}
	if (flow && is_too_big(frame))
		lower_mtu(shard, frame, flow);
	else if (flow && ends_connecting(frame, flow))
		tcp_abort(shard, flow, false);
	else
		/* An unconnected socket has no means to tell its peer. */
		count_drop(&shard->counters, DROP_ICMP_TYPE);
}
