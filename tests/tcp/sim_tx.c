/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The guest's side of the transmit batch: lends room, checks every byte of what is committed, and
 * puts it on the wire to the guest. With segmentation offload it cuts large segments as a device
 * does.
 */
#include "sim.h"

#include "taploom/checksum.h"

#include <stdio.h>

#define TX_OF(t)       ((struct sim_tx *)(void *)(t))
#define LARGE_SEGMENTS 3 /* of one burst */

void sim_tx_block(struct world *w, uint64_t until_us)
{
	w->tx.unblock_us = until_us;
	w->tx.tx.blocked = true;
	world_note(w, "guest's side is full");
}

static bool find_room(struct sim_tx *tx)
{
	struct world *w = sim_world;

	if (!tx->tx.blocked && tx->block && rng_chance(&w->rng, tx->block))
		sim_tx_block(w, w->shard->now_us + 1 + rng_below(&w->rng, tx->block_us));
	return !tx->tx.blocked;
}

static uint8_t *frame_begin(struct tx *t, uint16_t queue, size_t size)
{
	struct sim_tx *tx = TX_OF(t);

	(void)queue;
	if (!find_room(tx))
		return NULL;
	tx->frame_size = size;
	tx->begun = true;
	memset(tx->buf, 0xa5, size);
	return tx->buf;
}

/* Each check of a header gives a reason, or NULL. */
static const char *check_ip(const uint8_t *p, size_t len, bool v6)
{
	if (load_be16(p + 12) != (v6 ? 0x86dd : 0x0800))
		return "EtherType";
	if (v6) {
		if (p[14] >> 4 != 6 || load_be16(p + 18) != len - 54 || p[20] != IPPROTO_TCP ||
		    !p[21])
			return "IPv6 header";
		return NULL;
	}
	if (p[14] != 0x45 || load_be16(p + 16) != len - 14 || p[23] != IPPROTO_TCP || !p[22])
		return "IPv4 header";
	if (checksum_fold(checksum_add(0, p + 14, 20)) != 0xffff)
		return "IPv4 checksum";
	return NULL;
}

static const char *check_key(const struct world *w, const uint8_t *p, const uint8_t *tcp)
{
	struct ip_addr src = w->v6 ? ip6_addr_of(p + 22) : ip4_addr_of(p + 26);
	struct ip_addr dst = w->v6 ? ip6_addr_of(p + 38) : ip4_addr_of(p + 30);

	if (!ip_eq(&src, &w->key.peer) || !ip_eq(&dst, &w->key.guest))
		return "addresses";
	if (load_be16(tcp) != w->key.peer_port || load_be16(tcp + 2) != w->key.guest_port)
		return "ports";
	return NULL;
}

static bool option_body(struct segment *s, const uint8_t *o, uint8_t kind, uint8_t len)
{
	if (kind == 2 && len == 4) {
		s->has_mss = true;
		s->mss = load_be16(o + 2);
	} else if (kind == 3 && len == 3) {
		s->has_wscale = true;
		s->wscale = o[2];
	} else if (kind == 4 && len == 2) {
		s->sack_ok = true;
	} else if (kind == 8 && len == 10) {
		s->has_ts = true;
		s->ts_val = load_be32(o + 2);
		s->ts_ecr = load_be32(o + 6);
	} else if (kind == 5 && len > 2 && (len - 2) % 8 == 0 && len <= 34) {
		s->n_sack = (uint8_t)((len - 2) / 8);
		for (unsigned int i = 0; i < s->n_sack; i++)
			s->sack[i] = (struct sack_block){ load_be32(o + 2 + 8 * i),
							  load_be32(o + 6 + 8 * i) };
	} else {
		return false;
	}
	return true;
}

static const char *read_options(struct segment *s, const uint8_t *o, size_t len)
{
	for (size_t at = 0; at < len;) {
		if (o[at] == 0)
			break;
		if (o[at] == 1) {
			at++;
			continue;
		}
		if (at + 1 >= len || o[at + 1] < 2 || at + o[at + 1] > len ||
		    !option_body(s, o + at, o[at], o[at + 1]))
			return "options";
		at += o[at + 1];
	}
	return NULL;
}

static void read_header(struct segment *s, const uint8_t *tcp)
{
	s->seq = load_be32(tcp + 4);
	s->ack = load_be32(tcp + 8);
	s->flags = tcp[13];
	s->window = load_be16(tcp + 14);
	s->urgent = load_be16(tcp + 18);
}

/* The window that an acknowledgement offers. */
static void check_edge(struct world *w, const struct segment *s)
{
	bool scaled =
		w->wscale_offered_by_us && w->wscale_offered_by_guest && !(s->flags & TCP_SYN);
	uint32_t edge = s->ack + ((uint32_t)s->window << (scaled ? w->our_shift : 0));

	/* The window of a SYN is never scaled, and is little beside what a challenge ACK before its
	 * repetition may have said. */
	if (w->our_edge_known && SEQ_LT(edge, w->our_edge) && !(s->flags & TCP_SYN))
		world_fail(w, "the offered window's right edge goes back by %u",
			   w->our_edge - edge);
	w->our_edge = edge;
	w->our_edge_known = true;
}

/* What a segment of ours must hold at any time, whatever the guest does. */
static void check_sequence(struct world *w, struct segment *s)
{
	uint32_t end = s->seq + s->len + (s->flags & TCP_FIN ? 1 : 0);

	if (s->flags & TCP_SYN && !w->our_iss_known) {
		w->our_iss = s->seq;
		w->our_iss_known = true;
	}
	if (s->flags & TCP_SYN && s->has_wscale) {
		w->our_shift = s->wscale;
		w->wscale_offered_by_us = true;
	}
	s->off = s->seq - w->our_iss - 1;
	if (s->len && !w->our_iss_known)
		world_fail(w, "data before the handshake");
	if (s->len && w->guest_edge_max &&
	    SEQ_GT(end - (s->flags & TCP_FIN ? 1 : 0), w->guest_edge_max))
		world_fail(w, "payload to %u beyond the guest's window, which ends at %u",
			   end - w->our_iss, w->guest_edge_max - w->our_iss);
	if (s->flags & TCP_ACK && !(s->flags & TCP_RST) && w->our_iss_known)
		check_edge(w, s);
}

static void emit(struct world *w, struct segment *s)
{
	char text[200];

	check_sequence(w, s);
	w->n_emitted++;
	if (s->flags & TCP_RST)
		w->we_reset = true;
	if (w->trace) {
		segment_text(s, w->our_iss, w->guest_iss, text, sizeof(text));
		world_note(w, "     <-- %s", text);
	}
	if (w->on_emit)
		w->on_emit(w, s);
	if (!w->no_guest)
		wire_send(w, &w->to_guest, s);
}

/* One TCP segment as it comes to the guest. piece: its payload. */
static void take_segment(struct world *w, const uint8_t *hdr, const struct segment *head,
			 const uint8_t *piece, size_t len, size_t off, bool last)
{
	struct segment s = *head;

	(void)hdr;
	s.seq += (uint32_t)off;
	s.len = (uint32_t)len;
	if (!last)
		s.flags &= (uint8_t) ~(TCP_FIN | TCP_PSH);
	if (len && w->our_iss_known &&
	    !pattern_matches(FROM_HOST, s.seq - w->our_iss - 1, piece, len))
		world_fail(w, "wrong bytes to the guest at offset %u, %zu of them",
			   s.seq - w->our_iss - 1, len);
	emit(w, &s);
}

/* Headers and checksums of a frame; false if it was refused. */
static bool check_frame(struct world *w, const uint8_t *p, const uint8_t *payload,
			size_t payload_len, const struct tx_offload *offload, struct segment *s)
{
	size_t l3 = w->v6 ? 54 : 34;
	const uint8_t *tcp = p + l3;
	size_t hdr = (size_t)(tcp[12] >> 4) * 4, l4 = hdr + payload_len;
	const char *wrong = check_ip(p, l3 + l4, w->v6);
	uint64_t sum = checksum_pseudo(&w->key.peer, &w->key.guest, IPPROTO_TCP, (uint32_t)l4);
	uint16_t field;

	*s = (struct segment){ 0 };
	wrong = wrong ? wrong : check_key(w, p, tcp);
	if (hdr < 20)
		wrong = "data offset";
	wrong = wrong ? wrong : read_options(s, tcp + 20, hdr - 20);
	memcpy(&field, tcp + 16, 2);
	if (offload && offload->csum_start) {
		if (offload->csum_start != l3 || offload->csum_offset != 16 ||
		    field != checksum_fold(sum))
			wrong = "partial checksum";
	} else {
		sum = checksum_add(sum, tcp, hdr);
		sum = checksum_add(sum, payload, payload_len);
		if (checksum_fold(sum) != 0xffff)
			wrong = "TCP checksum";
	}
	if (wrong) {
		world_fail(w, "a frame to the guest has a wrong %s", wrong);
		return false;
	}
	read_header(s, tcp);
	s->len = (uint32_t)payload_len;
	s->tos = w->v6 ? (uint8_t)(load_be16(p + 14) >> 4) : p[15];
	return true;
}

static void frame_commit(struct tx *t, size_t len, const struct tx_offload *offload)
{
	struct sim_tx *tx = TX_OF(t);
	struct world *w = sim_world;
	size_t l3 = w->v6 ? 54 : 34;
	size_t hdr = (size_t)(tx->buf[l3 + 12] >> 4) * 4;
	struct segment s;

	if (!tx->begun || len > tx->frame_size || len < l3 + 20) {
		world_fail(w, "a frame of %zu bytes was committed in room for %zu", len,
			   tx->frame_size);
		return;
	}
	tx->begun = false;
	if (check_frame(w, tx->buf, tx->buf + l3 + hdr, len - l3 - hdr, offload, &s))
		take_segment(w, tx->buf, &s, tx->buf + l3 + hdr, s.len, 0, true);
}

/* One to three large segments whose payload comes in pieces of odd sizes. */
static void begin_large(struct sim_tx *tx, struct tx_burst *burst, size_t want)
{
	size_t most = 65535 - (burst->hdr_len - 14), left;
	uint8_t *at = tx->buf + LARGE_SEGMENTS * 128;
	uint32_t n_most = 1 + rng_below(&sim_world->rng, LARGE_SEGMENTS);

	burst->gso_len = most < burst->seg_len ? most : most / burst->seg_len * burst->seg_len;
	burst->room = want < n_most * burst->gso_len ? want : n_most * burst->gso_len;
	burst->n_segments = (unsigned int)((burst->room + burst->gso_len - 1) / burst->gso_len);
	burst->gso = true;
	burst->n_iov = 0;
	for (unsigned int i = 0; i < burst->n_segments; i++)
		burst->hdr[i] = tx->buf + (size_t)i * 128;
	for (left = burst->room; left;) {
		size_t n = 1 + rng_below(&sim_world->rng, 40000);

		n = n < left && burst->n_iov < TX_BURST_IOV - 1 ? n : left;
		burst->iov[burst->n_iov++] = (struct iovec){ at, n };
		at += n;
		left -= n;
	}
}

static bool burst_begin(struct tx *t, struct tx_burst *burst, uint16_t queue, size_t hdr_len,
			size_t seg_len, size_t want, uint8_t gso_type)
{
	struct sim_tx *tx = TX_OF(t);
	struct world *w = sim_world;
	size_t n, most;

	if (!find_room(tx))
		return false;
	if (hdr_len > 128 || !seg_len || !want) {
		world_fail(w, "a burst with header %zu, segments of %zu, %zu bytes", hdr_len,
			   seg_len, want);
		return false;
	}
	*burst = (struct tx_burst){ .hdr_len = hdr_len, .seg_len = seg_len, .queue = queue };
	if (tx->gso && gso_type) {
		begin_large(tx, burst, want);
		return true;
	}
	most = TX_BYTES / (128 + seg_len);
	most = most < TX_BURST_SEGMENTS ? most : TX_BURST_SEGMENTS;
	n = (want + seg_len - 1) / seg_len;
	if (n > most)
		n = most;
	if (tx->block)
		n = 1 + rng_below(&w->rng, (uint32_t)n);
	for (size_t i = 0; i < n; i++) {
		burst->hdr[i] = tx->buf + i * (128 + seg_len);
		burst->iov[i] = (struct iovec){ burst->hdr[i] + 128, seg_len };
	}
	burst->room = n * seg_len;
	if (burst->room > want) {
		burst->iov[n - 1].iov_len -= burst->room - want;
		burst->room = want;
	}
	burst->n_segments = burst->n_iov = (unsigned int)n;
	return true;
}

static void commit_large(struct world *w, const struct tx_burst *burst, unsigned int i,
			 const uint8_t *payload, size_t len, const struct tx_offload *offload)
{
	size_t size = len;
	struct segment s;

	if (!check_frame(w, burst->hdr[i], payload, len, offload, &s))
		return;
	if (offload->gso_type != VIRTIO_NET_HDR_GSO_NONE) {
		size = offload->gso_size;
		if (!size || offload->hdr_len != burst->hdr_len ||
		    offload->gso_type !=
			    (w->v6 ? VIRTIO_NET_HDR_GSO_TCPV6 : VIRTIO_NET_HDR_GSO_TCPV4)) {
			world_fail(w, "wrong segmentation offload");
			return;
		}
	} else if (len > burst->seg_len) {
		world_fail(w, "%zu bytes in one segment of at most %zu", len, burst->seg_len);
	}
	for (size_t off = 0; off < len; off += size) {
		size_t part = len - off < size ? len - off : size;

		take_segment(w, burst->hdr[i], &s, payload + off, part, off, off + part == len);
	}
}

static void burst_commit(struct tx *t, struct tx_burst *burst, size_t len,
			 const struct tx_offload *offload)
{
	struct world *w = sim_world;

	(void)t;
	if (len > burst->room)
		world_fail(w, "more was committed than there was room");
	if (!len)
		return;
	for (unsigned int i = 0; burst->gso && len; i++) {
		size_t part = len < burst->gso_len ? len : burst->gso_len;
		const uint8_t *payload = burst->iov[0].iov_base;

		commit_large(w, burst, i, payload + i * burst->gso_len, part, offload);
		len -= part;
	}
	for (unsigned int i = 0; len; i++) {
		size_t part = len < burst->seg_len ? len : burst->seg_len;
		struct segment s;

		if (check_frame(w, burst->hdr[i], burst->iov[i].iov_base, part, offload, &s))
			take_segment(w, burst->hdr[i], &s, burst->iov[i].iov_base, part, 0, true);
		len -= part;
	}
}

static bool flush(struct tx *t)
{
	return !t->blocked;
}

static unsigned int caps(const struct tx *t, uint16_t queue)
{
	(void)queue;
	return ((const struct sim_tx *)(const void *)t)->gso ? TX_CSUM | TX_TSO4 | TX_TSO6 : 0;
}

static const struct tx_ops ops = {
	frame_begin, frame_commit, burst_begin, burst_commit, flush, caps
};

void sim_tx_init(struct world *w)
{
	w->tx.tx = (struct tx){ .ops = &ops, .counters = &w->shard->counters };
	w->tx.gso = false;
	w->tx.block = 0;
	w->tx.begun = false;
	w->tx.unblock_us = NEVER;
}
