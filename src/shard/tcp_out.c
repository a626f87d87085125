/* SPDX-License-Identifier: Apache-2.0 */
/*
 * To the guest: headers for what is in the socket's receive buffer, acknowledgements, and segments
 * of no flow. Data is received straight into the transmit batch, or into the guest's own buffers.
 */
#include "l3.h"
#include "tcp_internal.h"

#include "taploom/bytes.h"
#include "taploom/checksum.h"

#include <errno.h>

#define GUEST_FULL (-EXFULL)   /* no room in the transmit batch; no socket call says so */
#define RUN_LEAST  (16u << 10) /* bytes that a run asks for at least */
#define RUN_MAX                                                                                    \
	(512u << 10) /* bytes per flow and turn, so that no flow keeps the others waiting          \
		      */

static const uint8_t router_ttl = 255;

static void l3_of(const struct shard *shard, const struct flow_key *key, uint8_t tos, struct l3 *l3)
{
	*l3 = (struct l3){
		.dst_mac = guest_mac_get(shard->rt),
		.src_mac = netconf_get(shard->rt)->our_mac,
		.src = key->peer,
		.dst = key->guest,
		.proto = IPPROTO_TCP,
		.tos = tos,
		.ttl = router_ttl,
		.dont_fragment = true,
	};
}

/* The checksum of a segment whose header is at tcp, or with the guest's side doing it, what that
 * starts from. */
static void finish_checksum(uint8_t *tcp, size_t hdr_len, const struct l3 *l3,
			    const struct iovec *payload, size_t payload_len, bool partial)
{
	uint64_t sum =
		checksum_pseudo(&l3->src, &l3->dst, IPPROTO_TCP, (uint32_t)(hdr_len + payload_len));
	uint16_t field;

	if (partial) {
		field = checksum_fold(sum);
	} else {
		sum = checksum_add(sum, tcp, hdr_len);
		if (payload_len)
			sum = checksum_add(sum, payload->iov_base, payload_len);
		field = checksum_finish(sum);
	}
	memcpy(tcp + 16, &field, sizeof(field));
}

static bool hides_fin(const struct tcp *tcp)
{
	return tcp_is(tcp, TCPB_FIN_HELD) && !tcp_is(tcp, TCPB_FIN_TOLD);
}

/* The acknowledgement that may be given now: a FIN of the guest is kept back until the peer has
 * taken it. */
static uint32_t ack_now(const struct tcp *tcp)
{
	return tcp->rcv_nxt - (hides_fin(tcp) ? 1 : 0);
}

/* The window field of a segment that acknowledges ack; rounds up, so that the right edge does not
 * go back. */
static uint16_t window_field(struct tcp *tcp, uint32_t ack, bool syn)
{
	uint32_t window = SEQ_GT(tcp->rcv_adv, ack) ? tcp->rcv_adv - ack : 0;
	uint32_t shift = syn ? 0 : tcp->rcv_shift;
	uint32_t field = (window + (1u << shift) - 1) >> shift;

	/* Rounded up again and again, a window that is used byte by byte would never end; this is
	 * more in order than any lets come, though the socket takes none of what it has room for.
	 */
	if (tcp->rcv_nxt - tcp->host_nxt - tcp->gathered > TCP_WINDOW_MAX + tcp->share)
		field = window >> shift;
	field = field > 65535 ? 65535 : field;
	if (SEQ_GT(ack + (field << shift), tcp->rcv_adv))
		tcp->rcv_adv = ack + (field << shift);
	return (uint16_t)field;
}

/* A segment goes out: the guest learns what it says. */
static void note_told(struct tcp *tcp, const struct tcp_header *h)
{
	if (!(h->flags & TCP_ACK))
		return;
	tcp->last_ack = h->ack;
	tcp->last_wnd = (uint32_t)h->window << (h->flags & TCP_SYN ? 0 : tcp->rcv_shift);
}

static void syn_options(const struct shard *shard, const struct flow *flow, uint8_t flags,
			struct tcp_options *o)
{
	const struct tcp *tcp = &flow->tcp;
	bool answer = flags & TCP_ACK; /* only what the guest offered; a SYN of ours offers all */
	bool v4 = ip_is_v4(&flow->key.guest);

	o->has_mss = true;
	o->mss = (uint16_t)(guest_mtu(shard, v4) - (v4 ? 40 : 60));
	o->has_wscale = !answer || tcp->rcv_shift;
	o->wscale = TCP_WSCALE;
	o->sack_permitted = !answer || tcp_is(tcp, TCPB_SACK);
	o->has_ts = !answer || tcp_is(tcp, TCPB_TS);
	o->ts_val = tcp_ts_now(shard, tcp);
	o->ts_ecr = answer ? tcp->ts_recent : 0;
}

static void header_of(struct shard *shard, struct flow *flow, uint32_t seq, uint8_t flags,
		      struct tcp_header *h)
{
	struct tcp *tcp = &flow->tcp;

	*h = (struct tcp_header){
		.src_port = flow->key.peer_port,
		.dst_port = flow->key.guest_port,
		.seq = seq,
		.flags = flags,
	};
	if (flags & TCP_ACK) {
		h->ack = ack_now(tcp);
		h->window = window_field(tcp, h->ack, flags & TCP_SYN);
	} else if (flags & TCP_SYN) {
		h->window = 65535;
	}
	if ((flags & (TCP_SYN | TCP_ACK)) == (TCP_SYN | TCP_ACK) && tcp_is(tcp, TCPB_ECN))
		h->flags |= TCP_ECE;
	if (flags & TCP_SYN) {
		syn_options(shard, flow, flags, &h->options);
	} else if (tcp_is(tcp, TCPB_TS)) {
		h->options.has_ts = true;
		h->options.ts_val = tcp_ts_now(shard, tcp);
		h->options.ts_ecr = tcp->ts_recent;
	}
	if (tcp_is(tcp, TCPB_ECE) && !(flags & TCP_SYN))
		h->flags |= TCP_ECE;
}

/* SACK blocks for an acknowledgement, a D-SACK first (RFC 2883 4). */
static void sack_options(struct tcp *tcp, struct tcp_options *o)
{
	unsigned int max = o->has_ts ? 3 : 4;

	if (!tcp_is(tcp, TCPB_SACK))
		return;
	if (tcp_is(tcp, TCPB_DSACK))
		o->sack[o->n_sack++] = tcp->dsack;
	tcp->bits &= ~(uint32_t)TCPB_DSACK;
	if (tcp->queued)
		o->n_sack = (uint8_t)(o->n_sack +
				      tcp_queue_sack(tcp, o->sack + o->n_sack, max - o->n_sack));
}

/* Writes one segment without payload. False: no room. */
static bool emit(struct shard *shard, uint16_t queue, const struct l3 *l3,
		 const struct tcp_header *h)
{
	size_t hdr_len = tcp_header_len(&h->options), l2l3 = l3_len(&l3->dst);
	uint8_t *p = tx_frame_begin(shard->tx, queue, l2l3 + hdr_len);

	if (!p)
		return false;
	l3_write(p, l3, hdr_len);
	tcp_header_encode(p + l2l3, h);
	finish_checksum(p + l2l3, hdr_len, l3, NULL, 0, false);
	tx_frame_commit(shard->tx, l2l3 + hdr_len, NULL);
	return true;
}

/* A segment went out that says how far the guest's data has come. */
static void acknowledged(struct tcp *tcp)
{
	tcp->bits &= ~(uint32_t)TCPB_ACK_NOW;
	tcp->ack_due_us = 0;
}

bool tcp_send_control(struct shard *shard, struct flow *flow, uint32_t seq, uint8_t flags)
{
	struct tcp_header h;
	struct l3 l3;

	if (shard->tx->blocked && !shard->tx->by_queue)
		return false;
	header_of(shard, flow, seq, flags, &h);
	if (!(flags & (TCP_SYN | TCP_RST)))
		sack_options(&flow->tcp, &h.options);
	if (flags & TCP_RST)
		h.options = (struct tcp_options){ 0 };
	l3_of(shard, &flow->key, 0, &l3);
	if (!emit(shard, flow->queue, &l3, &h))
		return false;
	note_told(&flow->tcp, &h);
	if (flags & TCP_ACK)
		acknowledged(&flow->tcp);
	if (flags & TCP_RST)
		count_add(&shard->counters, COUNT_TCP_RESETS, 1);
	return true;
}

bool tcp_send_stray(struct shard *shard, const struct frame *frame, uint32_t seq, uint32_t ack,
		    uint8_t flags)
{
	struct tcp_header h = {
		.src_port = frame->key.peer_port,
		.dst_port = frame->key.guest_port,
		.seq = seq,
		.ack = ack,
		.flags = flags,
	};
	struct l3 l3;

	l3_of(shard, &frame->key, 0, &l3);
	return emit(shard, frame->queue, &l3, &h);
}

/* Where the flow's data segments get what they have in common. */
struct data_run {
	struct tcp_header h;
	struct l3 l3;
	size_t l2l3;
	size_t tcp_len;
	uint8_t gso_type;
	bool urgent;
	uint32_t urgent_seq;
	struct tx_offload offload;
	unsigned int caps;
};

#define ECN_ECT0 2

static void data_run_init(struct shard *shard, struct flow *flow, uint32_t seq,
			  struct data_run *run)
{
	bool fresh =
		seq ==
		flow->tcp.snd_nxt; /* RFC 3168 6.1.5: what is sent again is not marked as capable */
	bool v4 = ip_is_v4(&flow->key.guest);

	header_of(shard, flow, seq, TCP_ACK, &run->h);
	l3_of(shard, &flow->key, fresh && tcp_is(&flow->tcp, TCPB_ECN) ? ECN_ECT0 : 0, &run->l3);
	run->l2l3 = l3_len(&run->l3.dst);
	run->tcp_len = tcp_header_len(&run->h.options);
	run->caps = tx_caps(shard->tx, flow->queue);
	run->gso_type = v4 ? VIRTIO_NET_HDR_GSO_TCPV4 : VIRTIO_NET_HDR_GSO_TCPV6;
	run->urgent = tcp_is(&flow->tcp, TCPB_TX_URGENT);
	run->urgent_seq = flow->tcp.tx_urgent;
	run->offload = (struct tx_offload){ 0 };
	if (run->caps & TX_CSUM) {
		run->offload.csum_start = (uint16_t)run->l2l3;
		run->offload.csum_offset = 16;
	}
}

/* Writes the header of one segment of len payload bytes, which stand at payload if they must be
 * summed. */
static void put_segment(struct data_run *run, uint8_t *p, uint32_t seq, size_t len,
			const struct iovec *payload, bool last)
{
	run->h.seq = seq;
	run->h.flags = (uint8_t)((run->h.flags & ~(TCP_PSH | TCP_URG)) | (last ? TCP_PSH : 0));
	run->h.urgent = 0;
	if (run->urgent && SEQ_LT(seq, run->urgent_seq) && run->urgent_seq - seq <= UINT16_MAX) {
		run->h.flags |= TCP_URG;
		run->h.urgent = (uint16_t)(run->urgent_seq - seq);
	}
	l3_write(p, &run->l3, run->tcp_len + len);
	tcp_header_encode(p + run->l2l3, &run->h);
	finish_checksum(p + run->l2l3, run->tcp_len, &run->l3, payload, len, run->caps & TX_CSUM);
}

static void put_headers(struct data_run *run, struct tx_burst *burst, uint32_t seq, size_t len,
			uint16_t mss)
{
	size_t most = burst->gso ? burst->gso_len : burst->seg_len;

	if (burst->gso && len > mss) {
		run->offload.gso_type = run->gso_type;
		run->offload.gso_size = mss;
		run->offload.hdr_len = (uint16_t)(run->l2l3 + run->tcp_len);
	}
	for (unsigned int i = 0; len; i++) {
		size_t part = len < most ? len : most;

		put_segment(run, burst->hdr[i], seq, part, &burst->iov[i], part == len);
		seq += (uint32_t)part;
		len -= part;
	}
}

/* Points the kernel's peek offset at seq. Returns what must be skipped by hand instead. */
static uint32_t seek(struct shard *shard, struct flow *flow, uint32_t seq)
{
	struct tcp *tcp = &flow->tcp;
	uint32_t offset = seq - tcp->sock_seq;

	if (!shard->peek_off)
		return offset;
	if (tcp->peek_seq != seq && hostsock_set_peek(flow->fd, offset) == 0)
		tcp->peek_seq = seq;
	return 0;
}

/*
 * Sends up to want bytes from seq on, as many as the socket has and the batch takes. Returns the
 * bytes, GUEST_FULL if the guest's side is full, 0 at the end of the stream, or -errno of the
 * socket.
 */
static ssize_t send_range(struct shard *shard, struct flow *flow, uint32_t seq, uint32_t want,
			  size_t *asked)
{
	struct tcp *tcp = &flow->tcp;
	struct tx_burst burst;
	struct data_run run;
	uint32_t skip;
	ssize_t n;

	data_run_init(shard, flow, seq, &run);
	if (tcp_is(tcp, TCPB_CWR) &&
	    seq == tcp->snd_nxt) { /* a segment by itself, as one of many cannot say it */
		run.h.flags |= TCP_CWR;
		want = want < tcp->mss ? want : tcp->mss;
	}
	/* The same for a mark: those that a large segment is cut to would all have its distance. */
	if (run.urgent && SEQ_LT(seq, run.urgent_seq) && want > tcp->mss)
		want = tcp->mss;
	if (want > tcp->mss)
		want -= want % tcp->mss;
	if (!tx_burst_begin(shard->tx, &burst, flow->queue, run.l2l3 + run.tcp_len, tcp->mss, want,
			    run.gso_type))
		return GUEST_FULL;
	*asked = burst.room;
	skip = seek(shard, flow, seq);
	n = hostsock_peek(flow->fd, burst.iov, burst.n_iov, skip, shard->discard);
	if (n <= 0) {
		tx_burst_commit(shard->tx, &burst, 0, NULL);
		return n;
	}
	if (!skip)
		tcp->peek_seq = seq + (uint32_t)n;
	put_headers(&run, &burst, seq, (size_t)n, tcp->mss);
	tx_burst_commit(shard->tx, &burst, (size_t)n, &run.offload);
	note_told(tcp, &run.h);
	tcp->bits |= TCPB_PROMPT;
	/* Data carries no SACK blocks: what is held, or came twice, is told by an ACK of its own.
	 */
	if (!tcp_is(tcp, TCPB_DSACK) && !tcp_queue_first_island(tcp))
		acknowledged(tcp);
	if (seq == tcp->snd_nxt)
		tcp->bits &= ~(uint32_t)TCPB_CWR;
	count_add(&shard->counters, COUNT_TCP_TX_BYTES, (uint64_t)n);
	return n;
}

static void note_error(struct tcp *tcp, ssize_t error)
{
	if (error != -EAGAIN && error != -ENOBUFS && error != -ENOMEM)
		tcp->bits |= TCPB_ABORT;
}

/* A peek failed: the socket is empty until an event says otherwise, or broken. */
static void nothing_more(struct tcp *tcp, ssize_t error)
{
	tcp->bits |= TCPB_DRAINED;
	note_error(tcp, error);
}

/* What was lost goes first. False: the guest's side is full. */
static bool send_lost(struct shard *shard, struct flow *flow)
{
	struct tcp *tcp = &flow->tcp;
	struct tcp_run *run;
	uint32_t flight;

	tcp->no_room = false;
	while ((run = runs_next_lost(tcp)) && (flight = runs_in_flight(tcp)) < tcp->cwnd) {
		uint32_t start = run->start, want = run->end - run->start;
		uint32_t room = tcp->cwnd - flight > tcp->mss ? tcp->cwnd - flight : tcp->mss;
		size_t asked;
		ssize_t n = send_range(shard, flow, start, want < room ? want : room, &asked);

		if (n == GUEST_FULL) {
			tcp->no_room = true;
			return false;
		}
		if (n <= 0) {
			note_error(tcp, n ? n : -EIO);
			return true;
		}
		if (!tcp->retrans_ts)
			tcp->retrans_ts = tcp_ts_now(shard, tcp);
		runs_resent(tcp, start, start + (uint32_t)n, (uint32_t)shard->now_us);
		count_add(&shard->counters, COUNT_TCP_RETRANS,
			  ((uint64_t)n + tcp->mss - 1) / tcp->mss);
	}
	return true;
}

/* Bytes that the guest's window and our own let go now, and a peek reaches. */
static uint32_t may_send(const struct tcp *tcp, bool begun)
{
	uint32_t edge = tcp->snd_una + tcp->snd_wnd, under_way = tcp->snd_nxt - tcp->snd_una;
	uint32_t room = SEQ_GT(edge, tcp->snd_nxt) ? edge - tcp->snd_nxt : 0;

	if (under_way + room > HOSTSOCK_SKIP_MAX)
		room = under_way < HOSTSOCK_SKIP_MAX ? HOSTSOCK_SKIP_MAX - under_way : 0;

	if (under_way + room > tcp->cwnd) {
		/* Only in recovery much of it may not be in flight. */
		uint32_t flight = tcp_is(tcp, TCPB_RECOVERY) ? runs_in_flight(tcp) : under_way;
		uint32_t left = tcp->cwnd > flight ? tcp->cwnd - flight : 0;

		room = left < room ? left : room;
	}
	/* RFC 9293 3.8.6.2.1: no silly segments for a window that opened by little. */
	if (!begun && room < tcp->mss && tcp->n_runs && room < tcp->snd_wnd_max / 2)
		return 0;
	return room;
}

/* Notes that the byte at seq is urgent. */
static void mark_urgent(struct tcp *tcp, uint32_t seq)
{
	tcp->bits |= TCPB_TX_URGENT;
	tcp->bits &= ~(uint32_t)TCPB_HOST_PRI;
	tcp->tx_urgent = seq + 1; /* behind the byte, as Linux has it (RFC 6093 2) */
}

/*
 * A peek ended short: the buffer is empty, or the peer's FIN is next (no event will tell of it
 * again), or the kernel stopped at an urgent byte, for which look_for_urgent() looks.
 */
static void note_short_peek(struct tcp *tcp)
{
	if (!tcp_is(tcp, TCPB_HOST_PRI | TCPB_HOST_RDHUP))
		tcp->bits |= TCPB_DRAINED;
}

/*
 * Whether the next byte to be sent is the urgent one: a peek that begins there does not stop. One
 * that begins a byte earlier does; with nothing before it in the buffer the kernel can be asked.
 * False: the socket does not tell now, and what it says instead is noted.
 */
static bool look_for_urgent(struct shard *shard, struct flow *flow)
{
	struct tcp *tcp = &flow->tcp;
	uint32_t offset = tcp->snd_nxt - tcp->sock_seq, skip;
	uint8_t two[2];
	struct iovec iov = { two, sizeof(two) };
	ssize_t n;

	if (hostsock_pending(flow->fd) <= offset)
		return true;
	if (!offset) {
		if (hostsock_at_mark(flow->fd))
			mark_urgent(tcp, tcp->snd_nxt);
		return true;
	}
	skip = seek(shard, flow, tcp->snd_nxt - 1);
	n = hostsock_peek(flow->fd, &iov, 1, skip, shard->discard);
	if (n > 0 && !skip)
		tcp->peek_seq = tcp->snd_nxt - 1 + (uint32_t)n;
	if (n == 1)
		mark_urgent(tcp, tcp->snd_nxt);
	if (n < 0)
		nothing_more(tcp, n);
	return n >= 0;
}

/*
 * How much room a run begins with. Room costs: buffers of the guest's are looked up, and taken back
 * if nothing came to fill them. What then fills all of it is followed by as much as the run may
 * have.
 */
static uint32_t first_ask(const struct tcp *tcp)
{
	uint32_t least = tcp->mss > RUN_LEAST ? tcp->mss : RUN_LEAST;
	uint32_t ask = tcp->run_len + tcp->run_len / 4;

	ask = ask > least ? ask : least;
	return ask < RUN_MAX ? ask : RUN_MAX;
}

/* As send_new(), which notes how much that was. */
static bool send_run(struct shard *shard, struct flow *flow, uint32_t *sent)
{
	struct tcp *tcp = &flow->tcp;
	uint32_t room, most;

	while (!tcp_is(tcp, TCPB_DRAINED | TCPB_HOST_EOF) && (room = may_send(tcp, *sent))) {
		size_t asked = 0;
		ssize_t n;

		if (*sent && *sent + tcp->mss > RUN_MAX) {
			shard_touch_again(shard, flow);
			return true;
		}
		if (tcp_is(tcp, TCPB_HOST_PRI) && !look_for_urgent(shard, flow))
			break;
		most = *sent ? RUN_MAX - *sent : first_ask(tcp);
		n = send_range(shard, flow, tcp->snd_nxt, room < most ? room : most, &asked);
		if (n == GUEST_FULL)
			return false;
		if (n == 0) {
			tcp->bits |= TCPB_HOST_EOF;
			tcp->fin_seq = tcp->snd_nxt;
			break;
		}
		if (n < 0) {
			nothing_more(tcp, n);
			break;
		}
		if ((size_t)n < asked)
			note_short_peek(tcp);
		runs_sent(tcp, tcp->snd_nxt, tcp->snd_nxt + (uint32_t)n, (uint32_t)shard->now_us);
		tcp->snd_nxt += (uint32_t)n;
		*sent += (uint32_t)n;
	}
	return true;
}

/* What was never sent before. False: the guest's side is full. */
static bool send_new(struct shard *shard, struct flow *flow)
{
	uint32_t sent = 0;
	bool room = send_run(shard, flow, &sent);

	flow->tcp.run_len = sent ? sent : flow->tcp.run_len;
	return room;
}

bool tcp_send_rest(struct shard *shard, struct flow *flow)
{
	flow->tcp.bits &= ~(uint32_t)TCPB_DRAINED;
	return send_new(shard, flow) && list_is_empty(&flow->touched);
}

bool tcp_send_data(struct shard *shard, struct flow *flow)
{
	struct tcp *tcp = &flow->tcp;

	if (!send_lost(shard, flow) || !send_new(shard, flow))
		return false;
	if (tcp_is(tcp, TCPB_HOST_EOF) && !tcp_is(tcp, TCPB_FIN_SENT) &&
	    SEQ_GE(tcp->snd_nxt, tcp->fin_seq) && !runs_next_lost(tcp)) {
		if (!tcp_send_control(shard, flow, tcp->fin_seq, TCP_FIN | TCP_ACK))
			return false;
		tcp->bits |= TCPB_FIN_SENT;
		if (hides_fin(tcp)) /* it did not acknowledge the guest's: as if both
						   had closed at once */
			tcp->bits |= TCPB_TIME_WAIT;
		tcp->snd_nxt = tcp->fin_seq + 1;
	}
	return true;
}
