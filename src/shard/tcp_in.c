/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Segments that arrive from the guest, after RFC 9293 3.10.7 with RFC 7323 (timestamps, PAWS) and
 * RFC 5961 (blind attacks). Each state has its handler; payload of an open flow goes to
 * tcp_queue.c.
 */
#include "tcp_internal.h"

#define PAWS_IDLE_US	      (24ull * 24 * 3600 * 1000000) /* RFC 7323 5.5 */
#define KEEPALIVE_LEAST_S     10 /* of one with a byte of data: sooner that is the last one again */
#define CHALLENGES_PER_SECOND 100 /* RFC 5961 7 */

typedef void segment_handler(struct shard *shard, struct flow *flow, struct frame *frame,
			     const struct tcp_header *h);

/* An ACK that tells a mistaken or hostile sender where we are; never more than a trickle. */
static void challenge(struct shard *shard, struct tcp *tcp)
{
	uint64_t second = shard->now_us / 1000000;

	if (shard->challenge_second != second) {
		shard->challenge_second = second;
		shard->challenges = 0;
	}
	if (shard->challenges++ >= CHALLENGES_PER_SECOND)
		return;
	count_add(&shard->counters, COUNT_TCP_CHALLENGE, 1);
	tcp_want_ack(tcp);
}

static void note_timestamp(struct shard *shard, struct tcp *tcp, const struct tcp_options *o)
{
	tcp->ts_recent = o->ts_val;
	tcp->ts_recent_us = shard->now_us;
}

static void take_window(struct tcp *tcp, const struct tcp_header *h, uint8_t shift)
{
	tcp->snd_wnd = (uint32_t)h->window << shift;
	tcp->snd_wl1 = h->seq;
	tcp->snd_wl2 = h->ack;
	if (tcp->snd_wnd > tcp->snd_wnd_max)
		tcp->snd_wnd_max = tcp->snd_wnd;
	if (tcp->snd_wnd)
		tcp->persist_due_us = 0;
}

/* What the guest's SYN or SYN-ACK says of itself. */
static void take_syn(struct shard *shard, struct flow *flow, const struct tcp_header *h)
{
	struct tcp *tcp = &flow->tcp;
	bool v4 = ip_is_v4(&flow->key.guest);
	uint32_t ours = guest_mtu(shard, v4) - (v4 ? 40 : 60);
	uint32_t mss = h->options.has_mss ? h->options.mss
		       : v4		  ? TCP_DEFAULT_MSS
					  : TCP_DEFAULT_MSS6;

	tcp->irs = h->seq;
	tcp->rcv_nxt = tcp->host_nxt = h->seq + 1;
	tcp->rcv_adv = tcp->rcv_nxt;
	tcp->last_ack = tcp->rcv_nxt;
	if (h->options.has_wscale) {
		tcp->snd_shift = h->options.wscale;
		tcp->rcv_shift = TCP_WSCALE;
	}
	if (h->options.sack_permitted)
		tcp->bits |= TCPB_SACK;
	if ((h->flags & (TCP_SYN | TCP_ACK | TCP_ECE | TCP_CWR)) == (TCP_SYN | TCP_ECE | TCP_CWR))
		tcp->bits |= TCPB_ECN; /* RFC 3168 6.1.1; a SYN of ours does not ask for it */
	if (h->options.has_ts) {
		tcp->bits |= TCPB_TS;
		note_timestamp(shard, tcp, &h->options);
	}
	mss = mss < TCP_MSS_LEAST ? TCP_MSS_LEAST : mss;
	mss = mss < ours ? mss : ours;
	tcp->mss = (uint16_t)(mss - (h->options.has_ts ? TCP_TS_LEN : 0));
	tcp->cwnd = tcp_initial_window(tcp);
	take_window(tcp, h, 0); /* RFC 7323 2.2: the window of a SYN is never scaled */
}

static void in_connecting(struct shard *shard, struct flow *flow, struct frame *frame,
			  const struct tcp_header *h)
{
	struct tcp *tcp = &flow->tcp;

	(void)frame;
	if (h->flags & TCP_RST && h->seq - tcp->irs <= 1)
		tcp_abort(shard, flow, false);
	else if (h->flags & TCP_SYN && h->seq != tcp->irs)
		tcp_abort(
			shard, flow,
			false); /* a new attempt under the same ports: its next SYN begins afresh */
}

/* The handshake is complete: both sides may send. */
static void open_flow(struct shard *shard, struct flow *flow)
{
	struct tcp *tcp = &flow->tcp;

	tcp->state = TCPS_OPEN;
	tcp->state_due_us = 0;
	tcp->rto_due_us = 0;
	tcp->retries = 0;
	if (!tcp->srtt_us)
		tcp->rto_us = TCP_RTO_FIRST_US; /* the back-off was the SYN's */
	tcp->snd_una = tcp->snd_nxt = tcp->sock_seq = tcp->peek_seq = tcp->iss + 1;
	tcp->bits &= ~(uint32_t)TCPB_DRAINED;
	tcp->bits |= TCPB_PROMPT;
	tcp->idle_due_us = shard->now_us + TCP_IDLE_US;
}

static void in_syn_sent(struct shard *shard, struct flow *flow, struct frame *frame,
			const struct tcp_header *h)
{
	struct tcp *tcp = &flow->tcp;
	uint32_t rtt = (uint32_t)(shard->now_us - tcp->ts_recent_us +
				  1); /* since the SYN; the answer sets it anew */

	(void)frame;
	if (h->flags & TCP_ACK && h->ack != tcp->iss + 1) {
		if (!(h->flags & TCP_RST))
			tcp_send_control(shard, flow, h->ack, TCP_RST);
		return;
	}
	if (h->flags & TCP_RST) {
		if (h->flags & TCP_ACK)
			tcp_abort(shard, flow,
				  false); /* the guest refuses: a reset for the host's peer */
		return;
	}
	if (!(h->flags & TCP_SYN))
		return;
	take_syn(shard, flow, h);
	tcp_window_init(shard, flow);
	if (h->flags & TCP_ACK) {
		if (tcp->retries == 0)
			tcp_rtt_sample(tcp, rtt);
		open_flow(shard, flow);
		tcp_want_ack(tcp);
	} else {
		tcp->state = TCPS_SYN_RCVD; /* simultaneous open, RFC 9293 3.5 */
		tcp_send_control(shard, flow, tcp->iss, TCP_SYN | TCP_ACK);
	}
}

/* RFC 7323 3.2: true if the segment lacks what was negotiated, and is to be dropped in silence. */
static bool lacks_timestamp(struct shard *shard, const struct tcp *tcp, const struct tcp_header *h)
{
	if (!tcp_is(tcp, TCPB_TS) || h->options.has_ts || h->flags & TCP_RST)
		return false;
	count_drop(&shard->counters, DROP_TCP_PAWS);
	return true;
}

/* RFC 7323 5.3 R1: true if the segment is an old duplicate. */
static bool fails_paws(struct shard *shard, struct tcp *tcp, const struct tcp_header *h)
{
	if (!tcp_is(tcp, TCPB_TS) || h->flags & TCP_RST)
		return false;
	return SEQ_LT(h->options.ts_val, tcp->ts_recent) &&
	       shard->now_us - tcp->ts_recent_us < PAWS_IDLE_US;
}

/* RFC 9293 3.10.7.4, first step. */
static bool is_acceptable(const struct tcp *tcp, uint32_t seq, uint32_t len)
{
	uint32_t window = SEQ_GT(tcp->rcv_adv, tcp->rcv_nxt) ? tcp->rcv_adv - tcp->rcv_nxt : 0;

	if (!len)
		return window ? seq - tcp->rcv_nxt <= window : seq == tcp->rcv_nxt;
	return window && SEQ_LT(seq, tcp->rcv_nxt + window) && SEQ_GT(seq + len, tcp->rcv_nxt);
}

/*
 * A keep-alive of the guest's: the host's socket does the same, after as long a silence, as what
 * lies on the path may forget a connection that is quiet for longer. With no window offered it was
 * a window probe, and a byte that comes soon is the last one again.
 */
static void keep_alive(struct shard *shard, struct flow *flow, size_t payload_len)
{
	struct tcp *tcp = &flow->tcp;
	uint64_t quiet_s = (shard->now_us + TCP_IDLE_US - tcp->idle_due_us + 500000) / 1000000;

	if (tcp->last_wnd == 0 || tcp->n_runs || flow->fd < 0 ||
	    (payload_len && quiet_s < KEEPALIVE_LEAST_S))
		return;
	quiet_s = quiet_s < 1 ? 1 : quiet_s;
	if (tcp->keepalive_s && tcp->keepalive_s <= quiet_s)
		return;
	tcp->keepalive_s = (uint16_t)quiet_s; /* no more than TCP_IDLE_US */
	hostsock_keepalive(flow->fd, tcp->keepalive_s);
}

/*
 * The guest's FIN once more, while it is held because the peer has not read all before it. A guest
 * that hears nothing of its FIN gives up in the end, and its reset would take with it what the peer
 * has still to read; Windows does after five repetitions. Waiting for the peer goes on without it.
 */
static void note_fin_repeat(struct tcp *tcp)
{
	if (tcp_is(tcp, TCPB_FIN_HELD) && !tcp_is(tcp, TCPB_FIN_TOLD) &&
	    ++tcp->fin_repeats >= TCP_FIN_REPEATS)
		tcp->bits |= TCPB_FIN_TOLD;
}

/* A segment outside the window: old data is acknowledged again, the rest told where we are. */
static void reject(struct shard *shard, struct flow *flow, struct frame *frame,
		   const struct tcp_header *h)
{
	struct tcp *tcp = &flow->tcp;
	uint32_t end = h->seq + frame->payload_len;

	if (h->flags & TCP_FIN && end == tcp->rcv_nxt - 1)
		note_fin_repeat(tcp);
	if (frame->payload_len <= 1 && h->seq == tcp->rcv_nxt - 1 && !(h->flags & TCP_FIN)) {
		keep_alive(shard, flow, frame->payload_len);
		if (frame->payload_len)
			tcp_note_duplicate(shard, flow, h->seq, end);
		tcp->bits |= TCPB_WND_UPDATE;
		tcp->idle_due_us = shard->now_us + TCP_IDLE_US;
		tcp_want_ack(tcp);
	} else if (frame->payload_len && SEQ_LE(end, tcp->rcv_nxt)) {
		tcp_note_duplicate(shard, flow, h->seq, end);
		tcp_want_ack(tcp);
	} else if (frame->payload_len || h->flags & TCP_FIN) {
		if (!SEQ_LE(end, tcp->rcv_nxt))
			count_drop(&shard->counters, DROP_TCP_SEQUENCE);
		tcp->bits |= TCPB_WND_UPDATE;
		tcp_want_ack(tcp);
	} else {
		count_drop(&shard->counters, DROP_TCP_SEQUENCE);
		challenge(shard, tcp);
	}
}

/* RFC 5681 2: a duplicate says nothing but that something was received. */
static bool is_duplicate_ack(const struct tcp *tcp, const struct frame *frame,
			     const struct tcp_header *h)
{
	return tcp->n_runs && h->ack == tcp->snd_una && !frame->payload_len &&
	       !(h->flags & TCP_FIN) && (uint32_t)h->window << tcp->snd_shift == tcp->snd_wnd;
}

/*
 * What the guest has not acknowledged stays in the socket's buffer. The kernel lets that grow by
 * the pace at which it is emptied in one of the host's round trips, and knows nothing of the
 * guest's: if that is longer, all of a small buffer is in flight, and the host's peer waits for
 * room.
 */
static void follow_flight(struct flow *flow, uint32_t flight)
{
	struct tcp *tcp = &flow->tcp;

	if (!tcp_is(tcp, TCPB_DRAINED) || flight < tcp->buffer / 4 * 3 ||
	    tcp->buffer >= TCP_BUFFER_MAX || flight / TCP_BUFFER_FAST > tcp->srtt_us)
		return;
	tcp->buffer *= 2;
	hostsock_raise_receive(flow->fd, tcp->buffer);
}

/* RFC 9293 3.10.7.4, fifth step. False if the segment is not to be looked at further. */
static bool take_ack(struct shard *shard, struct flow *flow, struct frame *frame,
		     const struct tcp_header *h)
{
	struct tcp *tcp = &flow->tcp;
	bool closed = !tcp->snd_wnd;
	uint32_t acked = 0;

	if (SEQ_GT(h->ack, tcp->snd_nxt) || SEQ_LT(h->ack, tcp->snd_una - tcp->snd_wnd_max)) {
		count_drop(&shard->counters, DROP_TCP_SEQUENCE); /* RFC 5961 5.2 */
		challenge(shard, tcp);
		return false;
	}
	if (is_duplicate_ack(tcp, frame, h) && tcp->dup_acks < 255)
		tcp->dup_acks++;
	if (SEQ_GT(h->ack, tcp->snd_una)) {
		acked = h->ack - tcp->snd_una;
		follow_flight(flow, tcp->snd_nxt - tcp->snd_una);
		tcp->snd_una = h->ack;
		if (tcp_is(tcp, TCPB_FIN_SENT | TCPB_HOST_EOF) && SEQ_GT(h->ack, tcp->fin_seq))
			tcp->bits |= TCPB_FIN_ACKED | TCPB_FIN_SENT;
	}
	/* One that acknowledges more is newer, whatever its sequence number: a retransmission. */
	if (h->ack == tcp->snd_una && (acked || SEQ_LT(tcp->snd_wl1, h->seq) ||
				       (tcp->snd_wl1 == h->seq && SEQ_LE(tcp->snd_wl2, h->ack))))
		take_window(tcp, h, tcp->snd_shift);
	if (!tcp->snd_wnd) /* it took its window back over what is under way: alive all the same */
		tcp->retries = 0;
	else if (closed && !acked)
		tcp_recovery_reopened(tcp);
	tcp_recovery_ack(shard, flow, h, acked);
	return true;
}

/* RFC 9293 3.8.5: the last urgent mark, as Linux keeps one; the pointer is behind the urgent byte.
 */
static void take_urgent(struct tcp *tcp, const struct tcp_header *h)
{
	uint32_t mark = h->seq + h->urgent - 1;

	if (!h->urgent || SEQ_LT(mark, tcp->host_nxt))
		return;
	if (!tcp_is(tcp, TCPB_RX_URGENT) || SEQ_GT(mark, tcp->rx_urgent))
		tcp->rx_urgent = mark;
	tcp->bits |= TCPB_RX_URGENT;
}

#define ECN_MASK 3
#define ECN_CE	 3

/* RFC 3168 6.1.2 and 6.1.3: what the guest's segments met, and what ours did. */
static void take_ecn(struct tcp *tcp, const struct frame *frame, const struct tcp_header *h)
{
	if (h->flags & TCP_CWR)
		tcp->bits &= ~(uint32_t)TCPB_ECE;
	if ((frame->tos & ECN_MASK) == ECN_CE) {
		tcp->bits |= TCPB_ECE;
		tcp_want_ack(tcp);
	}
	if (h->flags & TCP_ECE && tcp->n_runs)
		tcp_recovery_ecn(tcp);
}

/*
 * RFC 5961 3.2. The right number is the one that we acknowledge; for a FIN that is held back the
 * guest may have either in mind: behind it as the last that it sent, before it as the last that we
 * said.
 */
static void take_reset(struct shard *shard, struct flow *flow, const struct tcp_header *h)
{
	struct tcp *tcp = &flow->tcp;

	bool exact = h->seq == tcp->rcv_nxt ||
		     (tcp_is(tcp, TCPB_FIN_HELD) && h->seq == tcp->rcv_nxt - 1);

	/* It was told that the peer gets all of it. */
	if (exact && tcp_is(tcp, TCPB_FIN_TOLD) && tcp_is(tcp, TCPB_FIN_HELD)) {
		tcp->deaf = true;
		return;
	}
	if (exact && tcp_is(tcp, TCPB_FIN_TOLD)) {
		tcp_guest_gone(shard, flow);
	} else if (exact) {
		tcp_queue_flush(shard, flow); /* what came before it in this batch */
		tcp_abort(shard, flow, false);
	} else if (is_acceptable(tcp, h->seq, 0)) {
		challenge(shard, tcp);
	} else {
		count_drop(&shard->counters, DROP_TCP_SEQUENCE);
	}
}

/* A segment that the timestamps show to be old. */
static void reject_paws(struct shard *shard, struct flow *flow, const struct frame *frame,
			const struct tcp_header *h)
{
	count_drop(&shard->counters, DROP_TCP_PAWS);
	/* Late, and its repetition was here before: that was needless. */
	if (frame->payload_len && SEQ_LE(h->seq + frame->payload_len, flow->tcp.rcv_nxt))
		tcp_note_duplicate(shard, flow, h->seq, h->seq + frame->payload_len);
	tcp_want_ack(&flow->tcp);
}

/*
 * A segment outside the window. A full window must not keep its owner from learning what the guest
 * has received (RFC 9293 3.10.7.4); the guest may have gone one byte beyond it with a probe, and
 * lives (3.8.6.1).
 */
static void reject_sequence(struct shard *shard, struct flow *flow, struct frame *frame,
			    const struct tcp_header *h)
{
	struct tcp *tcp = &flow->tcp;
	bool near = SEQ_LE(h->seq, tcp->rcv_adv + 1) && SEQ_GE(h->seq, tcp->rcv_nxt - 1);

	reject(shard, flow, frame, h);
	if (near)
		tcp->idle_due_us = shard->now_us + TCP_IDLE_US;
	if (h->flags & TCP_ACK && near)
		take_ack(shard, flow, frame, h);
}

/* RFC 9293 3.10.7.4 up to the fifth step: whether more is to be taken from the segment. */
static bool take_head(struct shard *shard, struct flow *flow, struct frame *frame,
		      const struct tcp_header *h)
{
	struct tcp *tcp = &flow->tcp;
	uint32_t len = frame->payload_len + (h->flags & TCP_FIN ? 1 : 0);

	if (h->flags & TCP_RST)
		take_reset(shard, flow, h);
	else if (h->flags & TCP_SYN && tcp->deaf &&
		 tcp_is(tcp, TCPB_HOST_SHUT)) /* its next one begins afresh */
		tcp_guest_gone(shard, flow);
	else if (h->flags & TCP_SYN && tcp->deaf) /* not before the peer has all that was taken */
		return false;
	else if (h->flags & TCP_SYN) /* RFC 5961 4.2, wherever it lies */
		challenge(shard, tcp);
	else if (lacks_timestamp(shard, tcp, h))
		return false;
	else if (fails_paws(shard, tcp, h))
		reject_paws(shard, flow, frame, h);
	else if (!is_acceptable(tcp, h->seq, len))
		reject_sequence(shard, flow, frame, h);
	else if (!(h->flags & TCP_ACK))
		count_drop(&shard->counters, DROP_TCP_FLAGS);
	else
		return take_ack(shard, flow, frame, h);
	return false;
}

/*
 * A guest that only sends is measured once, in its handshake, which may have had to wait: what it
 * echoes puts that right. Rounded up to the timestamps' grain, this is never too short.
 */
static void take_echo(const struct shard *shard, struct tcp *tcp, const struct tcp_options *o)
{
	uint32_t age = tcp_ts_now(shard, tcp) - o->ts_ecr;

	/* What was never sent yet has an age far above any round trip. */
	if (age < tcp->min_rtt_us / 1000)
		tcp->min_rtt_us = (age + 1) * 1000;
}

static void in_open(struct shard *shard, struct flow *flow, struct frame *frame,
		    const struct tcp_header *h)
{
	struct tcp *tcp = &flow->tcp;

	if (!take_head(shard, flow, frame, h))
		return;
	if (tcp_is(tcp, TCPB_TS) && SEQ_LE(h->seq, tcp->last_ack))
		note_timestamp(shard, tcp, &h->options);
	if (tcp_is(tcp, TCPB_TS))
		take_echo(shard, tcp, &h->options);
	tcp->idle_due_us = shard->now_us + TCP_IDLE_US;
	if (h->flags & TCP_URG)
		take_urgent(tcp, h);
	if (tcp_is(tcp, TCPB_ECN))
		take_ecn(tcp, frame, h);
	if (frame->payload_len || h->flags & TCP_FIN)
		tcp_take_payload(shard, flow, frame, h);
}

/* The round trip that a SYN-ACK took, 0: unknown. After a repetition only the timestamp of the last
 * one, coming back, tells (RFC 7323 4.1). */
static uint32_t handshake_rtt(const struct shard *shard, const struct tcp *tcp,
			      const struct tcp_header *h)
{
	uint32_t age = (uint32_t)(shard->now_us - (tcp->rto_due_us - tcp->rto_us));

	if (!tcp->retries)
		return (uint32_t)(shard->now_us - tcp->ts_recent_us + 1);
	if (!tcp->rto_due_us || !tcp_is(tcp, TCPB_TS) ||
	    tcp_ts_now(shard, tcp) - h->options.ts_ecr > age / 1000 + 1)
		return 0;
	return age + 1;
}

/* The guest has sent a SYN of its own, as ours was on its way to it, and answers ours: RFC 9293,
 * figure 8. */
static bool is_open_from_both(const struct tcp *tcp, const struct tcp_header *h)
{
	return (h->flags & (TCP_SYN | TCP_ACK | TCP_RST)) == (TCP_SYN | TCP_ACK) &&
	       h->seq == tcp->irs && h->ack == tcp->iss + 1;
}

/* Whether it is the last of the handshake; what else comes is answered (RFC 9293 3.10.7.4). */
static bool answers_our_syn(struct shard *shard, struct flow *flow, const struct frame *frame,
			    const struct tcp_header *h)
{
	struct tcp *tcp = &flow->tcp;

	if (h->flags & TCP_RST)
		take_reset(shard, flow, h);
	else if (h->flags & TCP_SYN && h->seq == tcp->irs)
		tcp_send_control(shard, flow, tcp->iss, TCP_SYN | TCP_ACK);
	else if (h->flags & TCP_SYN)
		challenge(shard, tcp);
	else if (!(h->flags & TCP_ACK))
		return false;
	else if (h->ack != tcp->iss + 1)
		tcp_send_control(shard, flow, h->ack, TCP_RST);
	else if (!is_acceptable(tcp, h->seq, frame->payload_len + (h->flags & TCP_FIN ? 1 : 0)))
		challenge(shard, tcp);
	else
		return true;
	return false;
}

static void in_syn_rcvd(struct shard *shard, struct flow *flow, struct frame *frame,
			const struct tcp_header *h)
{
	struct tcp *tcp = &flow->tcp;
	bool both = is_open_from_both(tcp, h);
	uint32_t rtt;

	if (!both && !answers_our_syn(shard, flow, frame, h))
		return;
	if (lacks_timestamp(shard, tcp, h) || fails_paws(shard, tcp, h))
		return;
	rtt = handshake_rtt(shard, tcp, h);
	if (rtt)
		tcp_rtt_sample(tcp, rtt);
	open_flow(shard, flow);
	take_window(tcp, h, both ? 0 : tcp->snd_shift);
	if (both)
		tcp_want_ack(tcp);
	else
		in_open(shard, flow, frame, h);
}

static void in_time_wait(struct shard *shard, struct flow *flow, struct frame *frame,
			 const struct tcp_header *h)
{
	struct tcp *tcp = &flow->tcp;

	if (h->flags & TCP_RST) {
		if (h->seq == tcp->rcv_nxt)
			tcp->bits |= TCPB_DEAD;
		return;
	}
	if (h->flags & TCP_FIN)
		tcp->state_due_us = shard->now_us + TCP_TIME_WAIT_US;
	else if (h->seq == tcp->rcv_nxt && !frame->payload_len && !(h->flags & TCP_SYN))
		return; /* an ACK that asks for nothing */
	tcp_send_control(shard, flow, tcp->snd_nxt, TCP_ACK);
}

static segment_handler *const handlers[] = {
	[TCPS_CONNECTING] = in_connecting, [TCPS_SYN_SENT] = in_syn_sent,
	[TCPS_SYN_RCVD] = in_syn_rcvd,	   [TCPS_OPEN] = in_open,
	[TCPS_TIME_WAIT] = in_time_wait,
};

void tcp_answer_syn(struct shard *shard, struct flow *flow, const struct tcp_header *h)
{
	take_syn(shard, flow, h);
}

void tcp_segment(struct shard *shard, struct flow *flow, struct frame *frame)
{
	struct tcp_header h;

	tcp_header_decode(frame->data + frame->l4_off, (size_t)(frame->payload_off - frame->l4_off),
			  &h);
	flow->queue = frame->queue;
	handlers[flow->tcp.state](shard, flow, frame, &h);
	if (flow->closed)
		return;
	/* Even if it waits for the guest's side to have room: the frame's bytes are the batch's,
	 * which ends. */
	list_remove(&flow->touched);
	shard_touch(shard, flow);
}
