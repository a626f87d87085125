/* SPDX-License-Identifier: Apache-2.0 */
#include "vuload_tcp.h"

#include "pattern.h"

#include "taploom/bytes.h"

#define FIN 0x01u
#define SYN 0x02u
#define RST 0x04u
#define PSH 0x08u
#define ACK 0x10u

#define OPTIONS_LEN  8u /* MSS and window scale, in a SYN */
#define SCALE	     7u
#define WINDOW	     0xffffu /* 8 MiB */
#define IP_MAX	     65535u
#define ACK_BYTES    (128u << 10)
#define RESEND_NS    (50 * 1000 * 1000LL)
#define CHECKSUM_OFF 16u
#define DUPLICATES   3u

static uint64_t resent, timeouts;

uint64_t vl_tcp_resent(void)
{
	return resent;
}

uint64_t vl_tcp_timeouts(void)
{
	return timeouts;
}

static uint32_t seq_of(const struct vl_tcp *tcp, uint64_t offset)
{
	return tcp->iss + 1 + (uint32_t)offset;
}

static size_t largest(const struct vl *vl, const struct vl_tcp *tcp)
{
	size_t max = IP_MAX - VL_IP - VL_TCP;

	if (!vl_has(vl, VIRTIO_NET_F_HOST_TSO4) || tcp->segment_len > max)
		return tcp->segment_len;
	return max / tcp->segment_len * tcp->segment_len;
}

/* Marks a frame for segmentation by the back-end. */
static void want_segments(const struct vl_tcp *tcp, uint8_t *slot)
{
	struct virtio_net_hdr_v1 hdr;

	memcpy(&hdr, slot, sizeof(hdr));
	hdr.gso_type = VIRTIO_NET_HDR_GSO_TCPV4;
	hdr.gso_size = (uint16_t)tcp->segment_len;
	hdr.hdr_len = VL_ETH + VL_IP + VL_TCP;
	memcpy(slot, &hdr, sizeof(hdr));
}

static void put_options(const struct vl *vl, uint8_t *at)
{
	at[0] = 2; /* MSS, RFC 9293 3.7.1 */
	at[1] = 4;
	store_be16(at + 2, (uint16_t)(vl->options->mtu - VL_IP - VL_TCP));
	at[4] = 1;
	at[5] = 3; /* window scale, RFC 7323 2.2 */
	at[6] = 3;
	at[7] = SCALE;
}

/* Sends a segment with len bytes of the stream at offset. False: the ring is full. */
static bool emit(struct vl *vl, struct vl_tcp *tcp, uint8_t flags, uint32_t seq, uint64_t offset,
		 size_t len)
{
	size_t head = VL_TCP + (flags & SYN ? OPTIONS_LEN : 0);
	const uint8_t *body = vl->pattern + offset % PATTERN_PERIOD;
	uint8_t *slot = vl_tx_begin(vl, tcp->pair), *l4;

	if (!slot)
		return false;
	l4 = vl_build_ip(vl, slot, IPPROTO_TCP, head + len);
	store_be16(l4, tcp->port);
	store_be16(l4 + 2, tcp->peer_port);
	store_be32(l4 + 4, seq);
	store_be32(l4 + 8, flags & ACK ? tcp->irs + 1 + (uint32_t)tcp->rcv + tcp->fin_received : 0);
	l4[12] = (uint8_t)(head / 4 << 4);
	l4[13] = flags;
	store_be16(l4 + 14, WINDOW);
	store_be16(l4 + 18, 0);
	if (flags & SYN)
		put_options(vl, l4 + VL_TCP);
	if (len > tcp->segment_len)
		want_segments(tcp, slot);
	vl_seal(vl, slot, CHECKSUM_OFF, head, body, len);
	vl_tx_commit(vl, tcp->pair, VL_ETH + VL_IP + head, body, len);
	tcp->sent_number = vl->pairs[tcp->pair].tx_frames;
	if (flags & ACK) {
		tcp->ack_due = false;
		tcp->acked = tcp->rcv;
	}
	return true;
}

void vl_tcp_open(struct vl *vl, struct vl_tcp *tcp, uint16_t port, uint16_t peer_port,
		 unsigned int pair, int64_t now)
{
	*tcp = (struct vl_tcp){
		.state = VL_TCP_SYN,
		.port = port,
		.peer_port = peer_port,
		.pair = pair,
		.iss = (uint32_t)now,
		.segment_len = vl->options->mtu - VL_IP - VL_TCP,
		.progress_ns = now,
	};
	emit(vl, tcp, SYN, tcp->iss, 0, 0); /* if the ring is full, the timer sends it */
}

static bool push_fin(struct vl *vl, struct vl_tcp *tcp, int64_t now)
{
	if (!tcp->fin_wanted || tcp->fin_sent || tcp->nxt != tcp->written ||
	    !emit(vl, tcp, FIN | ACK, seq_of(tcp, tcp->nxt), tcp->nxt, 0))
		return false;
	tcp->fin_sent = true;
	tcp->progress_ns = now;
	return true;
}

bool vl_tcp_push(struct vl *vl, struct vl_tcp *tcp, int64_t now)
{
	size_t max = largest(vl, tcp);
	uint64_t end = tcp->written < tcp->limit ? tcp->written : tcp->limit, len;

	if (tcp->state != VL_TCP_OPEN)
		return false;
	if (end <= tcp->nxt)
		return push_fin(vl, tcp, now);
	len = end - tcp->nxt < max ? end - tcp->nxt : max;
	/* What the window cuts to a small rest waits for more, if an answer is under way. */
	if (len < max / 4 && end < tcp->written && tcp->nxt > tcp->una)
		return false;
	if (!emit(vl, tcp, ACK | PSH, seq_of(tcp, tcp->nxt), tcp->nxt, (size_t)len))
		return false;
	if (tcp->nxt == tcp->una)
		tcp->progress_ns = now;
	if (tcp->nxt < tcp->max)
		resent++;
	tcp->nxt += len;
	tcp->max = tcp->nxt > tcp->max ? tcp->nxt : tcp->max;
	return true;
}

void vl_tcp_ack(struct vl *vl, struct vl_tcp *tcp)
{
	if (tcp->ack_due)
		emit(vl, tcp, ACK, seq_of(tcp, tcp->nxt) + tcp->fin_sent, 0, 0);
}

void vl_tcp_abort(struct vl *vl, struct vl_tcp *tcp)
{
	emit(vl, tcp, RST | ACK, seq_of(tcp, tcp->nxt) + tcp->fin_sent, 0, 0);
	tcp->state = VL_TCP_CLOSED;
}

/* Receiving. */

static void take_options(struct vl_tcp *tcp, const uint8_t *l4)
{
	const uint8_t *at = l4 + VL_TCP, *end = l4 + (size_t)(l4[12] >> 4) * 4;

	while (at + 1 < end && *at) {
		if (*at == 1) {
			at++;
			continue;
		}
		if (at[1] < 2 || at + at[1] > end)
			return;
		if (*at == 2 && at[1] == 4 && load_be16(at + 2) < tcp->segment_len)
			tcp->segment_len = load_be16(at + 2);
		if (*at == 3 && at[1] == 3)
			tcp->peer_scale = at[2];
		at += at[1];
	}
}

static void take_syn_ack(struct vl_tcp *tcp, const uint8_t *l4, int64_t now)
{
	if ((l4[13] & (SYN | ACK)) != (SYN | ACK) || load_be32(l4 + 8) != tcp->iss + 1)
		return;
	tcp->irs = load_be32(l4 + 4);
	take_options(tcp, l4);
	tcp->limit = load_be16(l4 + 14);
	tcp->state = VL_TCP_OPEN;
	tcp->ack_due = true;
	tcp->progress_ns = now;
}

static void go_back(struct vl_tcp *tcp)
{
	tcp->recover = tcp->max;
	tcp->nxt = tcp->una;
	tcp->fin_sent = tcp->fin_acked;
	tcp->duplicates = 0;
}

static void take_ack(struct vl_tcp *tcp, const struct vl_frame *frame, int64_t now)
{
	uint32_t ack = load_be32(frame->l4 + 8);
	int64_t moved = (int32_t)(ack - seq_of(tcp, tcp->una));
	uint64_t at = tcp->una + (uint64_t)moved, limit;
	bool of_fin = tcp->fin_sent && moved >= 0 && at == tcp->written + 1;

	at -= of_fin;
	if (moved < 0 || at > tcp->max)
		return;
	limit = at + ((uint64_t)load_be16(frame->l4 + 14) << tcp->peer_scale);
	if (at == tcp->una && limit == tcp->limit && tcp->max > tcp->una && !frame->payload_len) {
		if (++tcp->duplicates == DUPLICATES && tcp->una >= tcp->recover)
			go_back(tcp);
		return;
	}
	tcp->fin_acked |= of_fin;
	tcp->limit = limit > tcp->limit ? limit : tcp->limit;
	if (at > tcp->una)
		tcp->progress_ns = now;
	tcp->una = at;
	tcp->nxt = tcp->nxt > at ? tcp->nxt : at;
	tcp->duplicates = 0;
}

/* Payload and FIN. Returns how much is new. */
static size_t take_data(struct vl *vl, struct vl_tcp *tcp, const struct vl_frame *frame)
{
	uint32_t seq = load_be32(frame->l4 + 4);
	int32_t old = (int32_t)(tcp->irs + 1 + (uint32_t)tcp->rcv - seq);
	bool fin = frame->l4[13] & FIN;
	size_t len = frame->payload_len, fresh;

	if (!len && !fin)
		return 0;
	tcp->ack_due = true;
	if (old < 0 || tcp->fin_received) {
		vl->errors.order += !tcp->fin_received;
		vl_tcp_ack(vl, tcp); /* a duplicate, at once */
		return 0;
	}
	if ((size_t)old > len)
		return 0;
	fresh = len - (size_t)old;
	tcp->rcv += fresh;
	tcp->fin_received = fin;
	if (tcp->rcv - tcp->acked >= ACK_BYTES)
		vl_tcp_ack(vl, tcp);
	return fresh;
}

size_t vl_tcp_take(struct vl *vl, struct vl_tcp *tcp, const struct vl_frame *frame, int64_t now)
{
	const uint8_t *l4 = frame->l4;
	size_t fresh;

	if (tcp->state == VL_TCP_CLOSED)
		return 0;
	if (l4[13] & RST) {
		vl->errors.reset++;
		tcp->state = VL_TCP_CLOSED;
		return 0;
	}
	if (tcp->state == VL_TCP_SYN) {
		take_syn_ack(tcp, l4, now);
		vl_tcp_ack(vl, tcp); /* alone, as Linux does */
		return 0;
	}
	if (l4[13] & SYN) {
		tcp->ack_due = true; /* our acknowledgement of it was lost */
		return 0;
	}
	if (l4[13] & ACK)
		take_ack(tcp, frame, now);
	fresh = take_data(vl, tcp, frame);
	if (tcp->fin_received && tcp->fin_acked) {
		vl_tcp_ack(vl, tcp);
		tcp->state = VL_TCP_CLOSED;
	}
	return fresh;
}

void vl_tcp_timer(struct vl *vl, struct vl_tcp *tcp, int64_t now)
{
	bool waits = tcp->max > tcp->una || (tcp->fin_sent && !tcp->fin_acked);

	if (tcp->state == VL_TCP_CLOSED || now - tcp->progress_ns < RESEND_NS)
		return;
	tcp->progress_ns = now;
	/* As long as the device has not even taken it, it is not lost. */
	if (vl_tx_done(vl, tcp->pair) < tcp->sent_number)
		return;
	if (tcp->state == VL_TCP_SYN) {
		resent += emit(vl, tcp, SYN, tcp->iss, 0, 0);
		return;
	}
	if (tcp->written > tcp->una && tcp->limit <= tcp->una) {
		/* A probe of the closed window. It counts as sent: if the window is open by now,
		 * the byte is taken. */
		emit(vl, tcp, ACK, seq_of(tcp, tcp->una), tcp->una, 1);
		tcp->max = tcp->max > tcp->una ? tcp->max : tcp->una + 1;
		return;
	}
	timeouts += waits;
	if (waits)
		go_back(tcp);
}
