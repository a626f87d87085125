/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Datagrams to the guest: headers, checksums, and fragments of what is longer than its MTU (RFC
 * 791 3.2, RFC 8200 4.5).
 */
#include "dgram_internal.h"

#include "taploom/checksum.h"

#define UDP_CHECKSUM_OFF  6
#define ICMP_CHECKSUM_OFF 2
#define FRAGMENT_HEADER	  8
#define IP4_MORE	  0x2000

static void l3_of(const struct shard *shard, const struct dgram_packet *packet, struct l3 *l3)
{
	*l3 = (struct l3){
		.dst_mac = guest_mac_get(shard->rt),
		.src_mac = netconf_get(shard->rt)->our_mac,
		.src = packet->src,
		.dst = packet->dst,
		.proto = packet->proto,
		.tos = packet->tos,
		.ttl = packet->ttl ? packet->ttl : DGRAM_TTL,
		.dont_fragment = true,
	};
}

static size_t checksum_off(const struct dgram_packet *packet)
{
	return packet->proto == IPPROTO_UDP ? UDP_CHECKSUM_OFF : ICMP_CHECKSUM_OFF;
}

/* Fills in the checksum; of the pseudo-header alone if the guest's side does the rest. */
static void put_checksum(struct dgram_packet *packet, bool partial)
{
	uint32_t len = (uint32_t)(DGRAM_L4_HEADER + packet->len);
	uint64_t sum = 0;
	uint16_t field = 0;
	size_t off = checksum_off(packet);

	memcpy(packet->l4 + off, &field, sizeof(field));
	if (packet->proto != IPPROTO_ICMP)
		sum = checksum_pseudo(&packet->src, &packet->dst, packet->proto, len);
	if (partial) {
		field = checksum_fold(sum);
	} else {
		sum = checksum_add(sum, packet->l4, DGRAM_L4_HEADER);
		field = checksum_finish(checksum_add(sum, packet->payload, packet->len));
		if (packet->proto == IPPROTO_UDP && !field)
			field = 0xffff; /* RFC 768: zero would mean that there is none */
	}
	memcpy(packet->l4 + off, &field, sizeof(field));
}

/* Whether to wait for room; without a guest there is nobody to wait for. */
static bool no_room(struct shard *shard)
{
	if (shard->tx->blocked)
		return true;
	count_drop(&shard->counters, DROP_TX_NO_GUEST);
	return false;
}

/* Copies from the datagram, its L4 header included. */
static void copy_part(uint8_t *to, const struct dgram_packet *packet, size_t off, size_t len)
{
	if (off < DGRAM_L4_HEADER) {
		size_t part = DGRAM_L4_HEADER - off < len ? DGRAM_L4_HEADER - off : len;

		memcpy(to, packet->l4 + off, part);
		to += part;
		off += part;
		len -= part;
	}
	if (len)
		memcpy(to, packet->payload + (off - DGRAM_L4_HEADER), len);
}

/* Copies all of the datagram, or of a run. */
static void copy_whole(uint8_t *to, const struct dgram_packet *packet)
{
	size_t len = DGRAM_L4_HEADER + packet->len;

	for (unsigned int i = 0; i < packet->n_joined; i++)
		len -= packet->joined[i].iov_len;
	copy_part(to, packet, 0, len);
	to += len;
	for (unsigned int i = 0; i < packet->n_joined; i++) {
		memcpy(to, packet->joined[i].iov_base, packet->joined[i].iov_len);
		to += packet->joined[i].iov_len;
	}
}

static bool write_whole(struct shard *shard, struct dgram_packet *packet, const struct l3 *l3)
{
	bool partial = packet->proto == IPPROTO_UDP &&
		       (packet->segment || tx_caps(shard->tx, packet->queue) & TX_CSUM);
	size_t off = l3_len(&l3->dst), l4_len = DGRAM_L4_HEADER + packet->len;
	struct tx_offload offload = { 0 };
	uint8_t *frame = tx_frame_begin(shard->tx, packet->queue, off + l4_len);

	if (!frame)
		return !no_room(shard);
	put_checksum(packet, partial);
	l3_write(frame, l3, l4_len);
	copy_whole(frame + off, packet);
	offload.hdr_len = (uint16_t)(off + DGRAM_L4_HEADER);
	if (partial) {
		offload.csum_start = (uint16_t)off;
		offload.csum_offset = UDP_CHECKSUM_OFF;
	}
	if (packet->segment) {
		offload.gso_type = VIRTIO_NET_HDR_GSO_UDP_L4;
		offload.gso_size = packet->segment;
	}
	tx_frame_commit(shard->tx, off + l4_len, &offload);
	return true;
}

/* A fragment header (RFC 8200 4.5) behind the IPv6 header. */
static void put_fragment_header(uint8_t *p, const struct dgram_packet *packet, size_t off,
				bool more)
{
	p[0] = packet->proto;
	p[1] = 0;
	store_be16(p + 2, (uint16_t)(off | more));
	store_be32(p + 4, packet->id);
}

/* Writes the fragment from packet->sent on, of len bytes. False: no room. */
static bool write_fragment(struct shard *shard, struct dgram_packet *packet, struct l3 l3,
			   size_t len, bool more)
{
	bool v4 = ip_is_v4(&l3.dst);
	size_t extra = v4 ? 0 : FRAGMENT_HEADER, off = l3_len(&l3.dst);
	const struct tx_offload offload = { .hdr_len = (uint16_t)(off + extra) };
	uint8_t *frame = tx_frame_begin(shard->tx, packet->queue, off + extra + len);

	if (!frame)
		return false;
	l3.dont_fragment = false;
	l3.id = (uint16_t)packet->id;
	l3.frag = (uint16_t)(packet->sent / 8 | (more ? IP4_MORE : 0));
	l3.proto = v4 ? packet->proto : IPPROTO_FRAGMENT;
	l3_write(frame, &l3, extra + len);
	if (!v4)
		put_fragment_header(frame + off, packet, packet->sent, more);
	copy_part(frame + off + extra, packet, packet->sent, len);
	tx_frame_commit(shard->tx, off + extra + len, &offload);
	return true;
}

static bool write_fragments(struct shard *shard, struct dgram_packet *packet, const struct l3 *l3)
{
	bool v4 = ip_is_v4(&l3->dst);
	uint32_t headers = v4 ? 20 : 40 + FRAGMENT_HEADER;
	size_t room = (packet->mtu - headers) & ~7u, l4_len = DGRAM_L4_HEADER + packet->len;

	if (!packet->sent) {
		put_checksum(packet, false);
		/* Shards share no counter, and no number while theirs have not wrapped. */
		packet->id = ++dgrams_of(shard)->fragment_id * shard->rt->n_shards + shard->id;
	}
	while (packet->sent < l4_len) {
		bool more = l4_len - packet->sent > room;
		size_t len = more ? room : l4_len - packet->sent;

		if (!write_fragment(shard, packet, *l3, len, more)) {
			if (no_room(shard))
				return false;
			break;
		}
		packet->sent += (uint32_t)len;
	}
	packet->sent = 0;
	return true;
}

bool dgram_write(struct shard *shard, struct dgram_packet *packet)
{
	size_t piece = packet->segment ? packet->segment : packet->len;
	struct l3 l3;

	l3_of(shard, packet, &l3);
	if (l3_len(&l3.dst) - ETH_HEADER_LEN + DGRAM_L4_HEADER + piece > packet->mtu)
		return write_fragments(shard, packet, &l3);
	return write_whole(shard, packet, &l3);
}
