/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Payload that arrives from the guest, and its FIN: what came before is cut off, what is in order
 * and what is ahead go to tcp_queue.c, and an acknowledgement is asked for.
 */
#include "tcp_internal.h"

/*
 * RFC 2883 4: tells of bytes that came twice. Each is told of: a sender takes back what it did for
 * a loss only once it knows that all of its repetitions were needless.
 */
void tcp_note_duplicate(struct shard *shard, struct flow *flow, uint32_t start, uint32_t end)
{
	struct tcp *tcp = &flow->tcp;

	count_add(&shard->counters, COUNT_TCP_DUP_RX, end - start);
	/* What waits to be told keeps data from going as the acknowledgement. */
	if (!tcp_is(tcp, TCPB_SACK))
		return;
	if (tcp_is(tcp, TCPB_DSACK) && tcp->dsack.end == start) {
		tcp->dsack.end = end;
		return;
	}
	if (tcp_is(tcp, TCPB_DSACK))
		tcp_send_control(shard, flow, tcp->snd_nxt, TCP_ACK);
	tcp->dsack = (struct sack_block){ start, end };
	tcp->bits |= TCPB_DSACK;
}

/* The FIN of the guest is in order. */
static void take_fin(struct tcp *tcp)
{
	tcp->rcv_nxt++;
	tcp->fin_ahead = false;
	/* The guest closes second, or both at once: the wait is ours. Of a FIN that is to be
	 * repeated only the number tells. */
	if (tcp_is(tcp, TCPB_HOST_EOF) && SEQ_GT(tcp->snd_nxt, tcp->fin_seq))
		tcp->bits |= TCPB_TIME_WAIT;
	tcp->bits |= TCPB_GUEST_FIN | TCPB_FIN_HELD;
	if (SEQ_LT(tcp->rcv_adv, tcp->rcv_nxt))
		tcp->rcv_adv = tcp->rcv_nxt;
}

/* Islands that have become contiguous are in order now. */
static void absorb_islands(struct tcp *tcp)
{
	for (struct list *node = tcp->queue.next; node != &tcp->queue; node = node->next) {
		const struct chunk *c = LIST_ENTRY(node, struct chunk, link);

		if (SEQ_GT(c->seq, tcp->rcv_nxt))
			break;
		if (SEQ_GT(c->seq + c->len, tcp->rcv_nxt))
			tcp->rcv_nxt = c->seq + c->len;
	}
	if (tcp->fin_ahead && tcp->guest_fin_seq == tcp->rcv_nxt)
		take_fin(tcp);
}

/* Out-of-order data found no place. */
static void out_of_room(struct shard *shard)
{
	count_drop(&shard->counters, DROP_TCP_UNSACKED);
	log_limited(&shard->pool_limit, LOG_LEVEL_WARNING,
		    "shard %u: the buffer pool is used up, out-of-order segments are dropped; see "
		    "--pool",
		    shard->id);
}

static void take_in_order(struct shard *shard, struct flow *flow, struct frame *frame)
{
	struct tcp *tcp = &flow->tcp;
	const struct chunk *island = tcp_queue_first_island(tcp);
	uint32_t gap = island ? island->seq - tcp->rcv_nxt : UINT32_MAX;

	if (gap < frame->payload_len) {
		/* A segment that reaches into the first island: what fills the hole is in order,
		 * and what is new behind the island waits for that. */
		if (!tcp_queue_island(shard, flow, frame, tcp->rcv_nxt, island->seq))
			out_of_room(shard);
		tcp_trim(frame, 0, gap);
	}
	if (!tcp_queue_in_order(shard, flow, frame))
		count_drop(&shard->counters, DROP_TCP_IN_WINDOW);
	if (island) {
		if (tcp_queue_flush(shard, flow))
			tcp->bits |= TCPB_ABORT;
		absorb_islands(tcp);
	}
}

static void take_out_of_order(struct shard *shard, struct flow *flow, struct frame *frame,
			      uint32_t seq)
{
	struct tcp *tcp = &flow->tcp;

	count_add(&shard->counters, COUNT_TCP_OUT_OF_ORDER, 1);
	if (tcp_is(tcp, TCPB_SACK) &&
	    tcp_queue_overlap(tcp, seq, seq + frame->payload_len, &tcp->dsack))
		tcp->bits |= TCPB_DSACK;
	if (!tcp_queue_island(shard, flow, frame, seq, seq))
		out_of_room(shard);
}

/* Whether data was kept that lies behind a number: then no FIN can have it. */
static bool lies_below_data(const struct tcp *tcp, uint32_t seq)
{
	const struct chunk *last = LIST_ENTRY(tcp->queue.prev, struct chunk, link);

	return tcp->queued && SEQ_GT(last->seq + last->len, seq);
}

/*
 * The end of what an application said, as it seems, and the host has been answering at once: the
 * acknowledgement waits a moment for the answer, and goes with it (RFC 9293 3.8.6.3).
 */
static bool may_wait(const struct tcp *tcp)
{
	uint32_t few = tcp->mss < 2048 ? tcp->mss : 2048;

	return tcp_is(tcp, TCPB_PROMPT) && !tcp_is(tcp, TCPB_DSACK | TCPB_GUEST_FIN | TCPB_ECE) &&
	       tcp->rcv_nxt - tcp->last_ack < few;
}

/* orderly: it was the next, and none was missing. */
static void want_ack_of_data(struct shard *shard, struct tcp *tcp, bool orderly)
{
	if (!orderly || !may_wait(tcp))
		tcp_want_ack(tcp);
	else if (!tcp->ack_due_us)
		tcp->ack_due_us = shard->now_us + TCP_ACK_DELAY_US;
}

/* Cuts off what was received before. Returns the number at which the rest begins. */
static uint32_t cut_duplicate(struct shard *shard, struct flow *flow, struct frame *frame,
			      uint32_t seq)
{
	uint32_t old = flow->tcp.rcv_nxt - seq;

	if (!SEQ_LT(seq, flow->tcp.rcv_nxt))
		return seq;
	if (old > frame->payload_len)
		old = frame->payload_len;
	if (old)
		tcp_note_duplicate(shard, flow, seq, seq + old);
	tcp_trim(frame, old, UINT32_MAX);
	return seq + old;
}

/* Cuts off what lies beyond the window or the guest's FIN, and notes where that is. */
static void cut_end(struct tcp *tcp, struct frame *frame, uint32_t seq, bool fin)
{
	uint32_t end = seq + frame->payload_len;

	if (frame->payload_len && SEQ_GT(end, tcp->rcv_adv)) {
		tcp_trim(frame, 0, tcp->rcv_adv - seq);
		fin = false;
	}
	if (fin && !tcp->fin_ahead && !lies_below_data(tcp, end)) {
		tcp->fin_ahead = true;
		tcp->guest_fin_seq = end;
	}
	if (tcp->fin_ahead && SEQ_GT(end, tcp->guest_fin_seq))
		tcp_trim(frame, 0, SEQ_LT(seq, tcp->guest_fin_seq) ? tcp->guest_fin_seq - seq : 0);
}

/* RFC 9293 3.10.7.4, seventh step; the segment is acceptable. */
void tcp_take_payload(struct shard *shard, struct flow *flow, struct frame *frame,
		      const struct tcp_header *h)
{
	struct tcp *tcp = &flow->tcp;
	uint32_t seq;
	bool bare = !frame->payload_len;
	bool orderly = h->seq == tcp->rcv_nxt && !tcp_queue_first_island(tcp);

	if (tcp_is(tcp, TCPB_GUEST_FIN)) { /* nothing can follow a FIN */
		tcp_want_ack(tcp);
		return;
	}
	seq = cut_duplicate(shard, flow, frame, h->seq);
	cut_end(tcp, frame, seq, h->flags & TCP_FIN);
	if (frame->payload_len) {
		if (seq == tcp->rcv_nxt)
			take_in_order(shard, flow, frame);
		else
			take_out_of_order(shard, flow, frame, seq);
	}
	if (tcp->fin_ahead && tcp->guest_fin_seq == tcp->rcv_nxt && !tcp_is(tcp, TCPB_GUEST_FIN))
		take_fin(tcp);
	/* A FIN alone that is held back leaves nothing to be said. */
	if (!bare || !tcp_is(tcp, TCPB_FIN_HELD))
		want_ack_of_data(shard, tcp, orderly);
	/* Without SACK each segment out of order is answered by its own duplicate, which a sender
	 * counts. */
	if (SEQ_GT(seq, tcp->rcv_nxt) && !tcp_is(tcp, TCPB_SACK))
		tcp_send_control(shard, flow, tcp->snd_nxt, TCP_ACK);
}
