/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A guest that keeps to nothing: segments around every edge of what we expect (numbers a little or
 * half the space away, windows that come and go, ACKs and SACK blocks that lie, options that were
 * not negotiated, any flags), with a socket that behaves at random. Its payload is still the
 * pattern by sequence number, so that a byte that is taken at a wrong place shows.
 */
#include "sim.h"

#include <sys/epoll.h>

static uint32_t near(struct rng *r, uint32_t base)
{
	static const int32_t steps[] = { 0, 1, -1, 2, 100, -100, 1460, -1460, 65535, 1 << 20 };
	uint32_t kind = rng_below(r, 14);

	if (kind < 10)
		return base + (uint32_t)steps[kind];
	if (kind < 12)
		return base + rng_below(r, 20000) - 5000;
	if (kind < 13)
		return base + 0x80000000u - 2 + rng_below(r, 5);
	return (uint32_t)rng_next(r);
}

/* A number that the other end has in mind. */
static uint32_t receive_number(struct world *w, struct rng *r)
{
	const struct tcp *tcp = &w->flow->tcp;
	const uint32_t known[] = { tcp->rcv_nxt, tcp->rcv_nxt,	tcp->rcv_nxt, tcp->rcv_adv,
				   tcp->irs,	 tcp->host_nxt, tcp->last_ack };

	return rng_chance(r, 500) ? tcp->rcv_nxt : near(r, known[rng_below(r, 7)]);
}

static uint32_t send_number(struct world *w, struct rng *r)
{
	const struct tcp *tcp = &w->flow->tcp;
	const uint32_t known[] = { tcp->snd_una, tcp->snd_nxt, tcp->fin_seq, tcp->iss };

	return rng_chance(r, 500) ? tcp->snd_nxt : near(r, known[rng_below(r, 4)]);
}

static void add_options(struct world *w, struct segment *s)
{
	struct rng *r = &w->rng;
	const struct tcp *tcp = &w->flow->tcp;

	s->has_ts = (tcp->bits & TCPB_TS) ? rng_chance(r, 950) : rng_chance(r, 50);
	s->ts_val = rng_chance(r, 900) ? tcp->ts_recent + rng_below(r, 3) : near(r, tcp->ts_recent);
	s->ts_ecr = rng_chance(r, 500) ? 0 : (uint32_t)rng_next(r);
	s->n_sack = rng_chance(r, 300) ? (uint8_t)rng_below(r, 4) : 0;
	for (unsigned int i = 0; i < s->n_sack; i++) {
		s->sack[i].start = send_number(w, r);
		s->sack[i].end = rng_chance(r, 700) ? s->sack[i].start + rng_below(r, 5000)
						    : send_number(w, r);
	}
	s->has_mss = rng_chance(r, 20);
	s->mss = (uint16_t)rng_next(r);
	s->sack_ok = rng_chance(r, 20);
	if (s->n_sack == 3 && s->has_ts) /* as much as fits */
		s->has_mss = s->sack_ok = false;
}

static void choose_segment(struct world *w, struct segment *s)
{
	static const uint8_t flags[] = { TCP_ACK, TCP_ACK, TCP_ACK, TCP_ACK | TCP_PSH,
					 TCP_ACK | TCP_URG };
	static const uint32_t lens[] = { 0, 0, 1, 2, 100, 536, 1460, 1460, 9000, 60000 };
	struct rng *r = &w->rng;

	*s = (struct segment){ .flags = flags[rng_below(r, 5)] };
	if (rng_chance(r, 30))
		s->flags = (uint8_t)rng_next(r);
	if (rng_chance(r, 20))
		s->flags |= TCP_FIN;
	s->len = lens[rng_below(r, 10)];
	s->seq = receive_number(w, r);
	w->guest_iss = w->flow->tcp.irs; /* it may be a later connection than the first */
	s->ack = !(s->flags & TCP_ACK) ? 0
		 : w->our_iss_known    ? send_number(w, r)
				       : (uint32_t)rng_next(r); /* it cannot be guessed */
	s->window = (uint16_t)(rng_chance(r, 200) ? rng_below(r, 3) : rng_next(r));
	s->urgent = (uint16_t)(rng_chance(r, 500) ? rng_below(r, 3) : rng_next(r));
	s->tos = (uint8_t)rng_below(r, 4);
	/* Old numbers are before the stream's beginning: the pattern goes on there as well. */
	s->off = (uint64_t)((int64_t)PATTERN_PERIOD * 65536 + (int32_t)(s->seq - w->guest_iss - 1));
	add_options(w, s);
}

/* What we may send ends at the largest window that the guest ever offered. */
static void note_edge(struct world *w, const struct segment *s)
{
	const struct tcp *tcp = &w->flow->tcp;
	uint32_t edge = s->ack + ((uint32_t)s->window << tcp->snd_shift);

	if (s->flags & TCP_ACK && s->ack - tcp->snd_una <= tcp->snd_nxt - tcp->snd_una &&
	    (!w->guest_edge_max || SEQ_GT(edge, w->guest_edge_max)))
		w->guest_edge_max = edge;
}

static void send_syn(struct world *w)
{
	struct rng *r = &w->rng;
	struct segment s = { .flags = TCP_SYN,
			     .seq = w->guest_iss,
			     .has_mss = rng_chance(r, 800),
			     .mss = (uint16_t)rng_log(r, 1, 65535),
			     .has_wscale = rng_chance(r, 700),
			     .wscale = (uint8_t)rng_below(r, 16),
			     .sack_ok = rng_chance(r, 700),
			     .has_ts = rng_chance(r, 500),
			     .ts_val = (uint32_t)rng_next(r),
			     .window = (uint16_t)rng_next(r) };

	if (w->host_opens) {
		s.flags |= TCP_ACK;
		s.ack = w->our_iss + 1;
	}
	w->wscale_offered_by_guest = s.has_wscale;
	w->guest_edge_max = w->host_opens ? w->our_iss + 1 + s.window : 0;
	world_segment(w, &s);
}

static void step(struct world *w, uint64_t until_us)
{
	uint64_t next;

	while (!w->failed && (next = world_next(w)) <= until_us)
		world_turn(w, next);
	if (w->shard->now_us < until_us)
		w->shard->now_us = until_us;
}

/* A handshake up to our answer, as nobody can guess our number. */
static void begin(struct world *w)
{
	if (w->host_opens) {
		world_accept(w);
		/* A host's peer that goes before our SYN had room leaves nothing to attack. */
		while (w->flow && !w->our_iss_known)
			step(w, w->shard->now_us + 10000);
		if (!w->flow)
			return;
	}
	send_syn(w);
	while (w->flow && !w->our_iss_known && !w->failed)
		step(w, w->shard->now_us + 10000);
	if (w->flow)
		w->guest_edge_max = w->flow->tcp.snd_una + 1 + w->flow->tcp.snd_wnd;
}

void hostile_run(struct world *w)
{
	struct rng *r = &w->rng;
	uint32_t n = 50 + rng_below(r, 1000);

	w->no_guest = true;
	begin(w);
	for (uint32_t i = 0; i < n && w->flow && !w->failed; i++) {
		struct segment s;

		choose_segment(w, &s);
		if (i == 0) /* the handshake's end, most of the time */
			s = (struct segment){ .flags = TCP_ACK,
					      .seq = w->flow->tcp.rcv_nxt,
					      .ack = w->flow->tcp.iss + 1,
					      .window = s.window,
					      .has_ts = (w->flow->tcp.bits & TCPB_TS) != 0,
					      .ts_val = w->flow->tcp.ts_recent };
		note_edge(w, &s);
		world_segment(w, &s);
		step(w, w->shard->now_us + rng_log(r, 1, 1000000));
	}
	if (w->flow && !w->failed)
		tcp_abort(w->shard, w->flow, false);
	step(w, w->shard->now_us);
	w->no_guest = false;
}
