/* SPDX-License-Identifier: Apache-2.0 */
#include "pattern.h"
#include "vuload.h"

#include "taploom/bytes.h"

#define VNET_LEN  sizeof(struct virtio_net_hdr_v1)
#define ETH_IPV4  0x0800u
#define ETH_ARP	  0x0806u
#define ARP_LEN	  28u
#define DONT_FRAG 0x4000u
#define CHECKED	  16u /* bytes at either end of a piece */

static const uint8_t mac[6] = { 0x52, 0x54, 0x00, 0x12, 0x34, 0x56 };

/* Checksums (RFC 1071). */

static uint64_t sum(const void *bytes, size_t len, uint64_t so_far)
{
	const uint8_t *p = bytes;

	for (; len >= 4; len -= 4, p += 4) {
		uint32_t v;

		memcpy(&v, p, 4);
		so_far += v;
	}
	if (len >= 2) {
		uint16_t v;

		memcpy(&v, p, 2);
		so_far += v;
		p += 2;
	}
	return so_far + (len & 1 ? *p : 0);
}

/* In the byte order of what was summed up: to be stored as it is. */
static uint16_t fold(uint64_t s)
{
	s = (s & 0xffffffff) + (s >> 32);
	s = (s & 0xffff) + (s >> 16 & 0xffff) + (s >> 32);
	s = (s & 0xffff) + (s >> 16);
	return (uint16_t)((s & 0xffff) + (s >> 16));
}

static uint64_t pseudo(const uint8_t *ip, uint8_t proto, size_t len)
{
	uint8_t rest[4] = { 0, proto };

	store_be16(rest + 2, (uint16_t)len);
	return sum(rest, 4, sum(ip + 12, 8, 0));
}

static void store_sum(uint8_t *at, uint16_t v)
{
	memcpy(at, &v, 2);
}

/* Building. */

static void build_eth(const struct vl *vl, uint8_t *eth, uint16_t type)
{
	memcpy(eth, vl->gateway_mac, 6);
	memcpy(eth + 6, mac, 6);
	store_be16(eth + 12, type);
}

void vl_build_arp(struct vl *vl, uint8_t *slot)
{
	uint8_t *eth = slot + VNET_LEN, *arp = eth + VL_ETH;
	static const uint8_t head[8] = { 0, 1, 8, 0, 6, 4, 0, 1 }; /* who has */

	memset(slot, 0, VNET_LEN + VL_ETH + ARP_LEN);
	build_eth(vl, eth, ETH_ARP);
	memset(eth, 0xff, 6);
	memcpy(arp, head, sizeof(head));
	memcpy(arp + 8, mac, 6);
	store_be32(arp + 14, vl->options->addr);
	store_be32(arp + 24, vl->options->gateway);
}

uint8_t *vl_build_ip(struct vl *vl, uint8_t *slot, uint8_t proto, size_t len)
{
	uint8_t *eth = slot + VNET_LEN, *ip = eth + VL_ETH;

	memset(slot, 0, VNET_LEN);
	build_eth(vl, eth, ETH_IPV4);
	ip[0] = 0x45;
	ip[1] = 0;
	store_be16(ip + 2, (uint16_t)(VL_IP + len));
	store_be16(ip + 4, vl->ip_id++);
	store_be16(ip + 6, DONT_FRAG);
	ip[8] = 64;
	ip[9] = proto;
	store_be16(ip + 10, 0);
	store_be32(ip + 12, vl->options->addr);
	store_be32(ip + 16, vl->options->peer);
	store_sum(ip + 10, (uint16_t)~fold(sum(ip, VL_IP, 0)));
	return ip + VL_IP;
}

void vl_seal(struct vl *vl, uint8_t *slot, size_t csum_off, size_t head_len, const void *body,
	     size_t body_len)
{
	struct virtio_net_hdr_v1 hdr;
	uint8_t *ip = slot + VNET_LEN + VL_ETH, *l4 = ip + VL_IP;
	uint64_t s = pseudo(ip, ip[9], head_len + body_len);

	store_be16(l4 + csum_off, 0);
	if (!vl_has(vl, VIRTIO_NET_F_CSUM)) {
		uint16_t folded = (uint16_t)~fold(sum(body, body_len, sum(l4, head_len, s)));

		store_sum(l4 + csum_off, folded ? folded : 0xffff);
		return;
	}
	store_sum(l4 + csum_off, fold(s));
	memcpy(&hdr, slot, sizeof(hdr));
	hdr.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM;
	hdr.csum_start = VL_ETH + VL_IP;
	hdr.csum_offset = (uint16_t)csum_off;
	memcpy(slot, &hdr, sizeof(hdr));
}

/* Taking apart. */

static void learn_gateway(struct vl *vl, const struct vl_frame *frame)
{
	const uint8_t *arp = (const uint8_t *)frame->iov[0].iov_base + VL_ETH;

	if (frame->iov[0].iov_len < VL_ETH + ARP_LEN || load_be16(arp + 6) != 2 ||
	    load_be32(arp + 14) != vl->options->gateway)
		return;
	memcpy(vl->gateway_mac, arp + 8, 6);
	vl->gateway_known = true;
}

static bool offload_ok(const struct vl *vl, const struct vl_frame *frame)
{
	static const unsigned int needs[] = {
		[VIRTIO_NET_HDR_GSO_TCPV4] = VIRTIO_NET_F_GUEST_TSO4,
		[VIRTIO_NET_HDR_GSO_UDP_L4] = VIRTIO_NET_F_GUEST_USO4,
	};
	uint8_t type = frame->hdr.gso_type & (uint8_t)~VIRTIO_NET_HDR_GSO_ECN;
	uint8_t known = VIRTIO_NET_HDR_F_NEEDS_CSUM | VIRTIO_NET_HDR_F_DATA_VALID;

	if (frame->hdr.flags & ~known || (frame->hdr.flags && !vl_has(vl, VIRTIO_NET_F_GUEST_CSUM)))
		return false;
	if (type == VIRTIO_NET_HDR_GSO_NONE)
		return frame->len <= VL_ETH + vl->options->mtu;
	return type < sizeof(needs) / sizeof(needs[0]) && needs[type] && vl_has(vl, needs[type]) &&
	       frame->hdr.gso_size && frame->hdr.gso_size + VL_IP + VL_UDP <= vl->options->mtu;
}

static uint64_t sum_payload(const struct vl_frame *frame)
{
	uint8_t bytes[65536];

	vl_payload_copy(frame, 0, bytes, frame->payload_len);
	return sum(bytes, frame->payload_len, 0);
}

/* The transport's checksum: right, or said to be no matter. */
static bool checksum_ok(const struct vl_frame *frame, const uint8_t *ip)
{
	size_t l4_len = frame->payload_off - VL_ETH - VL_IP;
	uint64_t s;

	if (frame->hdr.flags)
		return true;
	if (frame->proto == IPPROTO_UDP && !load_be16(frame->l4 + 6))
		return true; /* none was made (RFC 768) */
	s = pseudo(ip, frame->proto, l4_len + frame->payload_len);
	return fold(sum(frame->l4, l4_len, s) + sum_payload(frame)) == 0xffff;
}

/* Finds the payload behind a header of TCP or UDP that is whole in the first piece. */
static bool take_l4(struct vl_frame *frame, size_t end)
{
	size_t have = frame->iov[0].iov_len - VL_ETH - VL_IP, len;

	if (have < (frame->proto == IPPROTO_TCP ? VL_TCP : VL_UDP))
		return false;
	len = frame->proto == IPPROTO_TCP ? (size_t)(frame->l4[12] >> 4) * 4 : VL_UDP;
	if (len < VL_UDP || len > have || VL_ETH + VL_IP + len > end)
		return false;
	frame->src_port = load_be16(frame->l4);
	frame->dst_port = load_be16(frame->l4 + 2);
	frame->payload_off = VL_ETH + VL_IP + len;
	frame->payload_len = end - frame->payload_off;
	return true;
}

static bool is_ours(uint8_t proto)
{
	return proto == IPPROTO_TCP || proto == IPPROTO_UDP;
}

static bool take_ip(const struct vl *vl, struct vl_frame *frame)
{
	const uint8_t *ip = (const uint8_t *)frame->iov[0].iov_base + VL_ETH;
	size_t end = VL_ETH + load_be16(ip + 2);

	if (ip[0] != 0x45 || load_be16(ip + 6) & 0x3fff || end > frame->len ||
	    fold(sum(ip, VL_IP, 0)) != 0xffff)
		return false;
	frame->l4 = ip + VL_IP;
	frame->proto = ip[9];
	return load_be32(ip + 16) == vl->options->addr && take_l4(frame, end);
}

bool vl_parse(struct vl *vl, struct vl_frame *frame)
{
	const uint8_t *eth = frame->iov[0].iov_base;

	if (frame->iov[0].iov_len < VL_ETH + VL_IP) {
		vl->errors.header++;
		return false;
	}
	if (load_be16(eth + 12) == ETH_ARP)
		learn_gateway(vl, frame);
	if (load_be16(eth + 12) != ETH_IPV4 || eth[0] & 1 || !is_ours(eth[VL_ETH + 9]))
		return false; /* announcements, errors of ICMP and the like */
	if (!take_ip(vl, frame) || memcmp(eth, mac, 6) != 0) {
		vl->errors.header++;
		return false;
	}
	if (!offload_ok(vl, frame))
		vl->errors.offload++;
	if (!checksum_ok(frame, eth + VL_ETH))
		vl->errors.checksum++;
	return true;
}

/* Payload. */

/* The part of piece i that lies in [from, end) of the frame; *len 0 for none. */
static const uint8_t *part_of(const struct vl_frame *frame, unsigned int i, size_t at, size_t from,
			      size_t end, size_t *len)
{
	size_t piece = frame->iov[i].iov_len, skip = from > at ? from - at : 0;
	size_t stop = end < at + piece ? end - at : piece;

	*len = end > at && stop > skip ? stop - skip : 0;
	return (const uint8_t *)frame->iov[i].iov_base + skip;
}

void vl_payload_copy(const struct vl_frame *frame, size_t offset, void *to, size_t len)
{
	size_t at = 0, from = frame->payload_off + offset;
	uint8_t *out = to;

	for (unsigned int i = 0; i < frame->n_iov; at += frame->iov[i++].iov_len) {
		size_t n;
		const uint8_t *part = part_of(frame, i, at, from, from + len, &n);

		memcpy(out, part, n);
		out += n;
	}
}

bool vl_payload_ok(const struct vl *vl, const struct vl_frame *frame, size_t skip, size_t len,
		   uint64_t offset)
{
	size_t at = 0, from = frame->payload_off + skip;
	size_t end = from + len;

	for (unsigned int i = 0; i < frame->n_iov; at += frame->iov[i++].iov_len) {
		size_t n, some;
		const uint8_t *part = part_of(frame, i, at, from, end, &n);

		some = n > CHECKED && !vl->options->traffic.verify ? CHECKED : n;
		if (!pattern_matches(vl->pattern, part, some, offset) ||
		    !pattern_matches(vl->pattern, part + n - some, some, offset + n - some))
			return false;
		offset += n;
	}
	return true;
}
