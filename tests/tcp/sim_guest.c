/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The guest: a TCP endpoint written for the simulation, which shares no code with what it tests. It
 * keeps its windows strictly, sends data that was SACKed never again, and acknowledges as RFC 9293
 * and 5681 have it.
 */
#include "sim.h"

#define RTO_MIN_US 200000u
#define RTO_MAX_US 8000000u

static uint32_t min_u32(uint32_t a, uint32_t b)
{
	return a < b ? a : b;
}

/* Sequence number behind all payload. */
static uint32_t data_end(const struct sim_guest *g)
{
	return g->iss + 1 + (uint32_t)g->total;
}

/* Stream bytes received in order. */
static uint64_t received(const struct sim_guest *g)
{
	return g->rcv_nxt - g->irs - 1 - (g->fin_seen ? 1 : 0);
}

static void update_window(struct sim_guest *g)
{
	uint64_t waiting = received(g) - g->consumed;
	uint32_t free = waiting < g->rcvbuf ? g->rcvbuf - (uint32_t)waiting : 0;
	uint32_t edge;

	free = min_u32(free, 65535u << (g->use_wscale && g->peer_wscale ? g->shift : 0));
	edge = g->rcv_nxt + free;

	/* RFC 9293 3.8.6.2.2; and no move that the scale can't express. */
	if (SEQ_GE(edge, g->rcv_edge + min_u32(g->mss, g->rcvbuf / 2 + 1)) &&
	    SEQ_GE(edge, g->rcv_edge + (1u << g->shift)))
		g->rcv_edge = edge;
	if (SEQ_LT(g->rcv_edge, g->rcv_nxt))
		g->rcv_edge = g->rcv_nxt;
}

static void add_sack(struct sim_guest *g, struct segment *s)
{
	unsigned int max = g->ts_on ? 3 : 4;

	if (!g->sack_on)
		return;
	if (g->n_held && g->recent < g->n_held)
		s->sack[s->n_sack++] =
			(struct sack_block){ g->held[g->recent].start, g->held[g->recent].end };
	for (uint32_t i = 0; i < g->n_held && s->n_sack < max; i++) {
		if (i != g->recent)
			s->sack[s->n_sack++] =
				(struct sack_block){ g->held[i].start, g->held[i].end };
	}
}

static void put(struct world *w, struct segment *s)
{
	struct sim_guest *g = &w->guest;
	uint32_t shift = g->use_wscale && w->wscale_offered_by_us ? g->shift : 0, window;

	update_window(g);
	if (s->flags & TCP_ACK && !(s->flags & TCP_RST)) {
		s->ack = g->rcv_nxt;
		window = g->rcv_edge - g->rcv_nxt;
		if (s->flags & TCP_SYN)
			shift = 0;
		window = min_u32(window >> shift, 65535);
		s->window = (uint16_t)window;
		if (!w->guest_edge_max || SEQ_GT(s->ack + (window << shift), w->guest_edge_max))
			w->guest_edge_max = s->ack + (window << shift);
		if (!(s->flags & TCP_SYN))
			add_sack(g, s);
		g->ack_now = false;
		g->delack_at_us = NEVER;
		g->unacked_segments = 0;
	} else if (s->flags & TCP_SYN) {
		s->window = (uint16_t)min_u32(g->rcvbuf, 65535);
	}
	if (g->ts_on && !(s->flags & TCP_RST)) {
		s->has_ts = true;
		s->ts_val = (uint32_t)(w->shard->now_us / 1000) + g->iss;
		s->ts_ecr = s->flags & TCP_ACK ? g->ts_recent : 0;
	}
	s->off = s->seq - g->iss - 1;
	wire_send(w, &w->to_host, s);
}

static void put_flags(struct world *w, uint32_t seq, uint8_t flags)
{
	struct segment s = { .seq = seq, .flags = flags };

	put(w, &s);
}

static void put_syn(struct world *w)
{
	struct sim_guest *g = &w->guest;
	bool answer = g->state == GUEST_SYN_RCVD;
	struct segment s = { .seq = g->iss,
			     .flags = (uint8_t)(TCP_SYN | (answer ? TCP_ACK : 0)),
			     .has_mss = true,
			     .mss = g->mss,
			     .wscale = g->shift };

	s.has_wscale = g->use_wscale && (!answer || w->wscale_offered_by_us);
	s.sack_ok = answer ? g->sack_on : g->use_sack;
	w->wscale_offered_by_guest = s.has_wscale;
	if (!answer)
		g->ts_on = g->use_ts;
	put(w, &s);
	g->rto_at_us = w->shard->now_us + g->rto_us;
}

static void rto_restart(struct world *w, struct sim_guest *g)
{
	bool outstanding = g->snd_una != g->snd_max;

	g->rto_at_us = outstanding ? w->shard->now_us + g->rto_us : NEVER;
}

void guest_connect(struct world *w)
{
	struct sim_guest *g = &w->guest;

	g->snd_una = g->iss;
	g->snd_nxt = g->snd_max = g->iss + 1;
	g->rto_us = 1000000;
	g->delack_at_us = g->read_at_us = g->probe_at_us = NEVER;
	g->alive_at_us = NEVER;
	if (!w->host_opens) {
		g->state = GUEST_SYN_SENT;
		put_syn(w);
	} else {
		g->state = GUEST_LISTEN;
		g->rto_at_us = NEVER;
	}
}

static bool is_sacked(const struct sim_guest *g, uint32_t seq, uint32_t *end)
{
	for (uint32_t i = 0; i < g->n_sacked; i++) {
		if (SEQ_GE(seq, g->sacked[i].start) && SEQ_LT(seq, g->sacked[i].end)) {
			*end = g->sacked[i].end;
			return true;
		}
	}
	return false;
}

/* The distance to the next SACKed byte. */
static uint32_t until_sacked(const struct sim_guest *g, uint32_t seq)
{
	uint32_t n = UINT32_MAX;

	for (uint32_t i = 0; i < g->n_sacked; i++) {
		if (SEQ_GT(g->sacked[i].start, seq))
			n = min_u32(n, g->sacked[i].start - seq);
	}
	return n;
}

/* Adds a range to a sorted set; false if it has no place. */
static bool range_add(struct range *set, uint32_t *n, uint32_t start, uint32_t end, uint32_t *where)
{
	uint32_t i = 0, j;

	while (i < *n && SEQ_LT(set[i].end, start))
		i++;
	for (j = i; j < *n && SEQ_LE(set[j].start, end); j++) {
		start = SEQ_LT(set[j].start, start) ? set[j].start : start;
		end = SEQ_GT(set[j].end, end) ? set[j].end : end;
	}
	if (j == i && *n == GUEST_RANGES)
		return false;
	memmove(&set[i + 1], &set[j], (*n - j) * sizeof(*set));
	*n = *n - (j - i) + 1;
	set[i] = (struct range){ start, end };
	*where = i;
	return true;
}

static void range_cut(struct range *set, uint32_t *n, uint32_t below)
{
	uint32_t i = 0;

	while (i < *n && SEQ_LE(set[i].end, below))
		i++;
	memmove(set, set + i, (*n - i) * sizeof(*set));
	*n -= i;
	if (*n && SEQ_LT(set[0].start, below))
		set[0].start = below;
}

/* Payload bytes per segment, with the room that options take. */
static uint32_t segment_size(const struct sim_guest *g)
{
	uint32_t options =
		(g->ts_on ? 12u : 0u) + (g->n_held && g->sack_on ? 36u - (g->ts_on ? 8u : 0u) : 0u);

	return g->peer_mss > options + 8 ? g->peer_mss - options : 8;
}

/* Sends one segment of up to len bytes. Returns the bytes. */
static uint32_t put_data(struct world *w, uint32_t seq, uint32_t len)
{
	struct sim_guest *g = &w->guest;
	struct segment s = { .seq = seq, .flags = TCP_ACK };

	len = min_u32(len, segment_size(g));
	s.len = len;
	if (SEQ_GE(seq, g->snd_max) && rng_chance(&w->rng, g->urgent))
		g->urgent_last = seq + len - g->iss - 1;
	/* RFC 9293 3.8.5: all before the mark says where it is. */
	if (g->urgent_last > seq - g->iss - 1 && g->urgent_last - (seq - g->iss - 1) <= 65535) {
		s.flags |= TCP_URG;
		s.urgent = (uint16_t)(g->urgent_last - (seq - g->iss - 1));
	}
	if (seq + len == data_end(g) && g->fin_sent)
		s.flags |= TCP_FIN;
	if (SEQ_LT(seq, g->snd_max) && len && !(g->probed && g->snd_max - seq == 1))
		g->n_retrans++;
	put(w, &s);
	if (SEQ_GT(seq + len, g->snd_max))
		g->snd_max = seq + len;
	/* What a probe left of the timer's time is not this segment's. */
	if (g->rto_at_us == NEVER || (g->probed && seq == g->snd_una))
		g->rto_at_us = w->shard->now_us + g->rto_us;
	return len;
}

static bool may_close(const struct sim_guest *g)
{
	return received(g) >= g->close_after;
}

static void send_fin(struct world *w, struct sim_guest *g)
{
	g->fin_sent = true;
	put_flags(w, data_end(g), TCP_FIN | TCP_ACK);
	g->snd_nxt = g->snd_max = data_end(g) + 1;
	if (g->rto_at_us == NEVER)
		g->rto_at_us = w->shard->now_us + g->rto_us;
}

static void send_new(struct world *w)
{
	struct sim_guest *g = &w->guest;
	uint32_t end = data_end(g), limit = SEQ_LT(g->snd_edge, end) ? g->snd_edge : end;

	while (SEQ_LT(g->snd_nxt, limit) && g->snd_nxt - g->snd_una < g->cwnd) {
		uint32_t behind, len = limit - g->snd_nxt;

		if (g->sack_on && is_sacked(g, g->snd_nxt, &behind)) {
			g->snd_nxt = behind;
			continue;
		}
		/* RFC 9293 3.8.6.2.1: no silly segments while data is under way. */
		if (len < segment_size(g) && limit != end && g->snd_nxt != g->snd_una)
			break;
		len = min_u32(len, until_sacked(g, g->snd_nxt));
		g->snd_nxt += put_data(w, g->snd_nxt, len);
	}
	if (g->snd_nxt == end && !g->fin_sent && may_close(g)) {
		if (g->abort_instead) {
			put_flags(w, g->snd_nxt, TCP_RST | TCP_ACK);
			g->state = GUEST_RESET;
			return;
		}
		send_fin(w, g);
	} else if (g->fin_sent && g->snd_nxt == end && g->snd_max == end + 1) {
		send_fin(w, g);
	}
	if (SEQ_LT(g->snd_nxt, end) && SEQ_GE(g->snd_nxt, g->snd_edge) &&
	    g->snd_una == g->snd_nxt && g->probe_at_us == NEVER)
		g->probe_at_us = w->shard->now_us + g->rto_us;
}

/* Fast retransmission: the holes below what was SACKed, or the first segment. */
static void recover(struct world *w)
{
	struct sim_guest *g = &w->guest;
	uint32_t top = g->n_sacked ? g->sacked[g->n_sacked - 1].start : g->snd_una, behind;

	if (SEQ_LT(g->recovery_nxt, g->snd_una))
		g->recovery_nxt = g->snd_una;
	if (g->recovery_nxt == g->snd_una && (!g->sack_on || !g->n_sacked) &&
	    SEQ_LT(g->snd_una, data_end(g))) {
		uint32_t len = min_u32(g->snd_max, data_end(g)) - g->snd_una;

		len = SEQ_LT(data_end(g), g->snd_max) ? data_end(g) - g->snd_una
						      : g->snd_max - g->snd_una;
		g->recovery_nxt = g->snd_una + put_data(w, g->snd_una, len);
	}
	while (g->sack_on && SEQ_LT(g->recovery_nxt, top)) {
		if (is_sacked(g, g->recovery_nxt, &behind))
			g->recovery_nxt = behind;
		else
			g->recovery_nxt +=
				put_data(w, g->recovery_nxt, until_sacked(g, g->recovery_nxt));
	}
}

static void on_rto(struct world *w)
{
	struct sim_guest *g = &w->guest;

	g->rto_us = min_u32(2 * g->rto_us, RTO_MAX_US);
	g->rto_at_us = w->shard->now_us + g->rto_us;
	g->retries++;
	if (g->state == GUEST_SYN_SENT || g->state == GUEST_SYN_RCVD) {
		put_syn(w);
		return;
	}
	g->in_recovery = false;
	g->dup_acks = 0;
	g->recover = g->snd_max;
	g->snd_nxt = g->snd_una;
	if (g->snd_una == data_end(g)) {
		send_fin(w, g);
		return;
	}
	if (SEQ_GE(g->snd_una,
		   g->snd_edge)) { /* the window has closed over what was lost: as a probe */
		put_data(w, g->snd_una, 1);
		return;
	}
	/* One segment; the rest follows as acknowledgements come. */
	uint32_t len = (SEQ_LT(g->snd_edge, data_end(g)) ? g->snd_edge : data_end(g)) - g->snd_una;

	g->snd_nxt += put_data(w, g->snd_una, min_u32(len, until_sacked(g, g->snd_una)));
	if (!g->go_back_n)
		g->snd_nxt = SEQ_GT(g->snd_max, data_end(g)) ? data_end(g) : g->snd_max;
}

static void on_probe(struct world *w)
{
	struct sim_guest *g = &w->guest;

	g->probe_at_us = NEVER;
	g->rto_us = min_u32(2 * g->rto_us, RTO_MAX_US);
	if (SEQ_LT(g->snd_nxt, g->snd_edge))
		return;
	if (g->probe_with_data) {
		struct segment s = { .seq = g->snd_una, .flags = TCP_ACK, .len = 1 };

		put(w, &s);
		if (SEQ_GT(s.seq + 1, g->snd_max))
			g->snd_max = s.seq + 1;
		g->probed = true;
	} else {
		put_flags(w, g->snd_una - 1, TCP_ACK);
	}
}

static void take_sacks(struct world *w, const struct segment *s)
{
	struct sim_guest *g = &w->guest;
	uint32_t unused;

	for (unsigned int i = 0; i < s->n_sack; i++) {
		const struct sack_block *b = &s->sack[i];

		if (!g->sack_on) {
			world_fail(w, "a SACK block although none was negotiated");
			return;
		}
		if (!SEQ_LT(b->start, b->end) || SEQ_GT(b->end, g->snd_max)) {
			world_fail(w, "a SACK block for what was never sent, %u to %u",
				   b->start - g->iss, b->end - g->iss);
			return;
		}
		if (SEQ_LE(b->end, s->ack)) { /* D-SACK */
			if (i)
				world_fail(w, "a D-SACK block that is not the first");
			continue;
		}
		if (SEQ_GT(b->start, g->snd_una))
			range_add(g->sacked, &g->n_sacked, b->start, b->end, &unused);
	}
}

static void take_ack(struct world *w, const struct segment *s)
{
	struct sim_guest *g = &w->guest;
	uint32_t edge =
		s->ack + ((uint32_t)s->window
			  << (g->use_wscale && w->wscale_offered_by_us && !(s->flags & TCP_SYN)
				      ? g->peer_shift
				      : 0));
	bool fresh = SEQ_GT(s->ack, g->snd_una);

	if (SEQ_GT(s->ack, g->snd_max)) {
		world_fail(w, "an acknowledgement of what was never sent, %u of %u",
			   s->ack - g->iss, g->snd_max - g->iss);
		return;
	}
	if (SEQ_LT(s->ack, g->snd_una))
		return;
	take_sacks(w, s);
	if (!fresh && !s->len && !(s->flags & TCP_FIN) && edge == g->snd_edge &&
	    g->snd_max != g->snd_una)
		g->dup_acks++;
	if (SEQ_GT(edge, g->snd_edge) || fresh)
		g->probe_at_us = NEVER;
	if (SEQ_GT(edge, g->snd_edge))
		g->snd_edge = edge;
	if (fresh) {
		g->snd_una = s->ack;
		if (SEQ_LT(g->snd_nxt, g->snd_una))
			g->snd_nxt = g->snd_una;
		range_cut(g->sacked, &g->n_sacked, g->snd_una);
		g->dup_acks = 0;
		g->retries = 0;
		g->rto_us = RTO_MIN_US;
		if (g->fin_sent && SEQ_GT(s->ack, data_end(g)))
			g->fin_acked = true;
		if (g->in_recovery && SEQ_GE(s->ack, g->recover))
			g->in_recovery = false;
		rto_restart(w, g);
	}
	if (!g->in_recovery && g->dup_acks >= 3 && SEQ_LT(g->snd_una, data_end(g)) &&
	    SEQ_GE(g->snd_una, g->recover)) {
		g->in_recovery = true;
		g->recover = g->snd_max;
		g->recovery_nxt = g->snd_una;
		recover(w);
	} else if (g->in_recovery) {
		recover(w);
	}
}

static void want_ack(struct sim_guest *g, uint64_t now_us)
{
	if (g->delack_at_us == NEVER)
		g->delack_at_us = now_us + g->delack_us;
}

static void take_payload(struct world *w, const struct segment *s)
{
	struct sim_guest *g = &w->guest;
	uint32_t start = s->seq, end = s->seq + s->len, where;
	bool fin = s->flags & TCP_FIN;

	if (SEQ_GT(end, g->rcv_edge)) {
		g->ack_now = true;
		end = g->rcv_edge;
		fin = false;
	}
	if (fin) {
		if (g->fin_known && g->fin_at != s->seq + s->len)
			world_fail(w, "the FIN moved");
		g->fin_known = true;
		g->fin_at = s->seq + s->len;
	}
	if (SEQ_LT(start, g->rcv_nxt)) {
		start = g->rcv_nxt;
		g->ack_now = true;
	}
	if (SEQ_LT(start, end)) {
		if (start != g->rcv_nxt) {
			g->ack_now = true;
			if (!range_add(g->held, &g->n_held, start, end, &where))
				return;
			g->recent = where;
		} else {
			g->rcv_nxt = end;
			if (g->n_held) {
				g->ack_now = true;
				range_cut(g->held, &g->n_held, g->rcv_nxt);
				if (g->n_held && g->held[0].start == g->rcv_nxt) {
					g->rcv_nxt = g->held[0].end;
					range_cut(g->held, &g->n_held, g->rcv_nxt);
				}
				g->recent = 0;
			}
			if (++g->unacked_segments >= g->ack_every)
				g->ack_now = true;
			want_ack(g, w->shard->now_us);
		}
	}
	if (g->fin_known && !g->fin_seen && g->rcv_nxt == g->fin_at) {
		g->rcv_nxt++;
		g->fin_seen = true;
		g->ack_now = true;
	} else if (g->fin_seen) {
		g->ack_now = true;
	}
	if (g->read_at_us == NEVER)
		g->read_at_us = w->shard->now_us + 1 + rng_below(&w->rng, g->read_step_us);
}

static void take_syn(struct world *w, const struct segment *s)
{
	struct sim_guest *g = &w->guest;

	if (!s->has_mss)
		world_fail(w, "a SYN without MSS");
	if (g->state == GUEST_SYN_SENT &&
	    ((s->has_wscale && !g->use_wscale) || (s->sack_ok && !g->use_sack) ||
	     (s->has_ts && !g->use_ts)))
		world_fail(w, "a SYN-ACK with options that were not offered");
	g->irs = s->seq;
	g->rcv_nxt = s->seq + 1;
	g->consumed = 0;
	g->rcv_edge = g->rcv_nxt + min_u32(g->rcvbuf, 65535);
	w->guest_edge_max = g->rcv_edge;
	g->peer_mss = s->mss;
	g->peer_shift = s->has_wscale ? s->wscale : 0;
	g->peer_wscale = s->has_wscale;
	g->sack_on = s->sack_ok && g->use_sack;
	g->ts_on = s->has_ts && g->use_ts;
	g->ts_recent = s->ts_val;
	g->snd_edge = s->ack + s->window;
}

static void established(struct world *w)
{
	struct sim_guest *g = &w->guest;

	g->state = GUEST_OPEN;
	g->snd_una = g->iss + 1;
	g->recover = g->snd_una;
	g->rto_us = RTO_MIN_US;
	g->rto_at_us = NEVER;
	g->ack_now = true;
	g->alive_at_us = w->shard->now_us + 5000000;
}

static void in_syn_sent(struct world *w, const struct segment *s)
{
	struct sim_guest *g = &w->guest;

	if (s->flags & TCP_ACK && s->ack != g->iss + 1)
		return;
	if (s->flags & TCP_RST) {
		if (s->flags & TCP_ACK)
			g->state = GUEST_RESET, w->guest_heard_reset = true;
		return;
	}
	if ((s->flags & (TCP_SYN | TCP_ACK)) != (TCP_SYN | TCP_ACK))
		return;
	take_syn(w, s);
	established(w);
}

static void in_listen(struct world *w, const struct segment *s)
{
	struct sim_guest *g = &w->guest;

	if ((s->flags & (TCP_SYN | TCP_ACK | TCP_RST)) != TCP_SYN)
		return;
	take_syn(w, s);
	g->state = GUEST_SYN_RCVD;
	put_syn(w);
}

/* A closed endpoint's answer, RFC 9293 3.10.7.1. */
static void refuse(struct world *w, const struct segment *s)
{
	struct segment r = { .flags = TCP_RST };

	if (s->flags & TCP_RST)
		return;
	if (s->flags & TCP_ACK) {
		r.seq = s->ack;
	} else {
		r.flags |= TCP_ACK;
		r.ack = s->seq + s->len + (s->flags & TCP_SYN ? 1 : 0) +
			(s->flags & TCP_FIN ? 1 : 0);
	}
	wire_send(w, &w->to_host, &r);
}

/* RFC 5961 3.2. */
static void take_reset(struct world *w, const struct segment *s)
{
	struct sim_guest *g = &w->guest;

	if (s->seq == g->rcv_nxt) {
		g->state = GUEST_RESET;
		w->guest_heard_reset = true;
	} else if (SEQ_GT(s->seq, g->rcv_nxt) && SEQ_LT(s->seq, g->rcv_edge)) {
		g->ack_now = true;
	}
}

/* RFC 7323 3.2 and 5.3. False: the segment goes no further. */
static bool check_timestamp(struct world *w, const struct segment *s)
{
	struct sim_guest *g = &w->guest;

	if (!g->ts_on)
		return true;
	if (!s->has_ts) {
		world_fail(w, "a segment without the timestamp that was negotiated");
		return false;
	}
	if (SEQ_LT(s->ts_val, g->ts_recent)) {
		g->ack_now = true;
		return false;
	}
	return true;
}

/* RFC 9293 3.10.7.4, first step. False: the segment goes no further. */
static bool check_sequence(struct world *w, const struct segment *s)
{
	struct sim_guest *g = &w->guest;
	uint32_t end = s->seq + s->len + (s->flags & TCP_FIN ? 1 : 0);
	bool old = end != s->seq ? SEQ_LE(end, g->rcv_nxt) || SEQ_GT(s->seq, g->rcv_edge)
				 : SEQ_LT(s->seq, g->rcv_nxt);

	if (!old)
		return true;
	g->ack_now = true;
	/* What it acknowledges is true all the same; a window's edge only ever grows. */
	if (g->state == GUEST_OPEN && s->flags & TCP_ACK && SEQ_LE(s->ack, g->snd_max))
		take_ack(w, s);
	return false;
}

static void take_urgent(struct world *w, const struct segment *s)
{
	struct sim_guest *g = &w->guest;
	uint64_t mark = s->seq + s->urgent - g->irs - 1;

	if (mark > w->sock.urgent_last)
		world_fail(w, "an urgent byte before %llu that the peer did not mark",
			   (unsigned long long)mark);
	if (mark > g->urgent_seen)
		g->urgent_seen = mark;
}

/* The handshake is done, or was answered by us. */
static void in_open(struct world *w, const struct segment *s)
{
	struct sim_guest *g = &w->guest;

	if (s->flags & TCP_SYN) {
		if (g->state == GUEST_SYN_RCVD)
			put_syn(w);
		else
			g->ack_now = true;
		return;
	}
	if (!check_timestamp(w, s) || !check_sequence(w, s) || !(s->flags & TCP_ACK))
		return;
	if (g->ts_on && SEQ_LE(s->seq, g->rcv_nxt))
		g->ts_recent = s->ts_val;
	if (g->state == GUEST_SYN_RCVD) {
		if (s->ack != g->iss + 1)
			return;
		established(w);
		g->ack_now = false;
		g->snd_edge = s->ack;
	}
	take_ack(w, s);
	if (s->flags & TCP_URG)
		take_urgent(w, s);
	if (s->len || s->flags & TCP_FIN)
		take_payload(w, s);
}

void guest_segment(struct world *w, const struct segment *s)
{
	struct sim_guest *g = &w->guest;

	if (g->state == GUEST_RESET || g->state == GUEST_CLOSED) {
		refuse(w, s);
	} else if (g->state == GUEST_LISTEN) {
		in_listen(w, s);
	} else if (g->state == GUEST_SYN_SENT) {
		in_syn_sent(w, s);
	} else {
		g->alive_at_us = w->shard->now_us + 5000000;
		if (s->flags & TCP_RST)
			take_reset(w, s);
		else
			in_open(w, s);
	}
}

static void application_reads(struct world *w)
{
	struct sim_guest *g = &w->guest;
	uint64_t waiting = received(g) - g->consumed;
	uint32_t before = g->rcv_edge;
	uint64_t n = 1 + rng_below(&w->rng, g->read_chunk);

	g->read_at_us = NEVER;
	g->consumed += n < waiting ? n : waiting;
	update_window(g);
	if (g->rcv_edge != before && (g->rcv_edge - before >= 2u * g->mss || before == g->rcv_nxt ||
				      g->rcv_edge - before >= g->rcvbuf / 2))
		g->ack_now = true;
	if (g->consumed < received(g))
		g->read_at_us = w->shard->now_us + 1 + rng_below(&w->rng, g->read_step_us) +
				(rng_chance(&w->rng, g->pause) ? g->pause_us : 0);
}

void guest_turn(struct world *w)
{
	struct sim_guest *g = &w->guest;
	uint64_t now = w->shard->now_us;

	if (g->reset_at_us && g->reset_at_us <= now && g->state == GUEST_OPEN) {
		put_flags(w, g->snd_nxt, TCP_RST | TCP_ACK);
		g->state = GUEST_RESET;
		world_note(w, "guest resets");
	}
	if (g->state == GUEST_CLOSED || g->state == GUEST_LISTEN || g->state == GUEST_RESET)
		return;
	if (g->read_at_us <= now)
		application_reads(w);
	if (g->rto_at_us <= now)
		on_rto(w);
	if (g->probe_at_us <= now)
		on_probe(w);
	if (g->state != GUEST_OPEN)
		return;
	send_new(w);
	if (g->state == GUEST_OPEN && (g->ack_now || g->delack_at_us <= now))
		put_flags(w, g->snd_max, TCP_ACK);
	if (g->alive_at_us <= now) { /* a keep-alive, RFC 9293 3.8.4 */
		g->alive_at_us = now + 5000000;
		put_flags(w, g->snd_max - 1, TCP_ACK);
	}
}

uint64_t guest_next(const struct world *w)
{
	const struct sim_guest *g = &w->guest;
	uint64_t next = NEVER;

	if (g->state == GUEST_CLOSED || g->state == GUEST_LISTEN || g->state == GUEST_RESET)
		return NEVER;
	next = g->rto_at_us < next ? g->rto_at_us : next;
	if (g->state != GUEST_OPEN)
		return next;
	if (g->reset_at_us && g->reset_at_us < next)
		next = g->reset_at_us;
	next = g->probe_at_us < next ? g->probe_at_us : next;
	next = g->delack_at_us < next ? g->delack_at_us : next;
	next = g->read_at_us < next ? g->read_at_us : next;
	return g->alive_at_us < next ? g->alive_at_us : next;
}
