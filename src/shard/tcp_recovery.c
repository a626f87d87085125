/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Loss recovery towards the guest, by the scoreboard of tcp_runs.c: RACK and tail-loss probes (RFC
 * 8985), the retransmission time-out (RFC 6298), and Eifel detection by timestamps (RFC 3522). The
 * link ends in the same machine: what is lost there was thrown away by a full queue, so that the
 * congestion window grows fast, and slowly only where that queue is long. It begins with RFC
 * 6928's, so that a slow guest's round trip is known before all its window is in flight.
 */
#include "tcp_internal.h"

#define QUEUE_LONG_US 4000u /* a local link has no such round trip unless much waits there */

static uint32_t max_u32(uint32_t a, uint32_t b)
{
	return a > b ? a : b;
}

static uint32_t min_u32(uint32_t a, uint32_t b)
{
	return a < b ? a : b;
}

/* RFC 6298 2, without back-off. */
static uint32_t rto_of(const struct tcp *tcp)
{
	if (!tcp->srtt_us)
		return TCP_RTO_FIRST_US;
	return min_u32(tcp->srtt_us + max_u32(4 * tcp->rttvar_us, TCP_RTO_MIN_US), TCP_RTO_MAX_US);
}

void tcp_rtt_sample(struct tcp *tcp, uint32_t rtt_us)
{
	uint32_t apart;

	if (!rtt_us)
		rtt_us = 1;
	if (!tcp->min_rtt_us || rtt_us < tcp->min_rtt_us)
		tcp->min_rtt_us = rtt_us;
	if (!tcp->srtt_us) {
		tcp->srtt_us = rtt_us;
		tcp->rttvar_us = rtt_us / 2;
	} else {
		apart = rtt_us > tcp->srtt_us ? rtt_us - tcp->srtt_us : tcp->srtt_us - rtt_us;
		tcp->rttvar_us = (3 * tcp->rttvar_us + apart) / 4;
		tcp->srtt_us = (uint32_t)((7ull * tcp->srtt_us + rtt_us) / 8);
	}
	tcp->rto_us = rto_of(tcp);
}

/* RFC 8985 6.2 step 2: the most recently sent among what was delivered. */
static void rack_note(struct shard *shard, struct tcp *tcp, const struct tcp_run *run,
		      bool may_sample)
{
	uint32_t rtt = (uint32_t)shard->now_us - run->sent_us;

	/* An answer that came too fast belongs to the first transmission. With a full queue before
	 * the guest the shortest round trip is no measure: all that waits there would seem lost. */
	if (run->flags & RUN_RETRANS && rtt < max_u32(tcp->min_rtt_us, tcp->srtt_us / 2))
		return;
	if (may_sample && !(run->flags & RUN_RETRANS))
		tcp_rtt_sample(tcp, rtt);
	if (!tcp->rack_valid || SEQ_LT(tcp->rack_sent_us, run->sent_us) ||
	    (tcp->rack_sent_us == run->sent_us && SEQ_LT(tcp->rack_end, run->end))) {
		tcp->rack_valid = true;
		tcp->rack_sent_us = run->sent_us;
		tcp->rack_end = run->end;
		tcp->rack_rtt_us = rtt;
	}
}

/* Whether an acknowledgement covers anything that was sent twice. */
static bool any_resent(const struct tcp *tcp, uint32_t una)
{
	for (unsigned int i = 0; i < tcp->n_runs && SEQ_LT(tcp->runs[i].start, una); i++) {
		if (tcp->runs[i].flags & RUN_RETRANS)
			return true;
	}
	return false;
}

/*
 * RFC 8985 6.2 step 2 by timestamps: whether an acknowledgement that moves forward was caused by
 * what was sent before the repetition of a run. If it passed for an answer to that, all that was
 * sent before it would seem lost.
 */
static bool is_older(const struct shard *shard, const struct tcp *tcp, const struct tcp_run *run,
		     const struct tcp_header *h)
{
	uint32_t age_us = (uint32_t)shard->now_us - run->sent_us;

	return run->flags & RUN_RETRANS && tcp_is(tcp, TCPB_TS) && h->options.has_ts &&
	       SEQ_LT(h->options.ts_ecr, tcp_ts_at(tcp, shard->now_us - age_us));
}

/* A cumulative acknowledgement covers a run that no SACK block did. */
static void run_acked(struct shard *shard, struct tcp *tcp, const struct tcp_run *run,
		      const struct tcp_header *h, bool in_time)
{
	if (is_older(shard, tcp, run, h))
		return;
	/* What was sent later has been delivered already (RFC 8985 6.2 step 3). */
	if (tcp->rack_valid && SEQ_LT(run->end, tcp->rack_end) && !(run->flags & RUN_RETRANS))
		tcp->reordering_seen = true;
	rack_note(shard, tcp, run, in_time);
}

/*
 * RFC 7323 4.1: what was sent twice gives a sample all the same if its timestamp comes back. In
 * whole milliseconds, so that it only shows a path to be slower than thought: without it a
 * time-out that was too short would stay so.
 */
static void sample_echo(const struct shard *shard, struct tcp *tcp, const struct tcp_header *h)
{
	uint32_t ms = tcp_ts_now(shard, tcp) - h->options.ts_ecr;

	if (tcp_is(tcp, TCPB_TS) && h->options.has_ts && ms < TCP_RTO_MAX_US / 1000 &&
	    ms * 1000 > tcp->srtt_us)
		tcp_rtt_sample(tcp, ms * 1000);
}

/* Drops what a cumulative acknowledgement covers. */
static void runs_acked(struct shard *shard, struct tcp *tcp, const struct tcp_header *h)
{
	/* What lay behind a hole was received long ago: its acknowledgement says nothing of the
	 * round trip. */
	uint32_t una = tcp->snd_una;
	bool in_time = !any_resent(tcp, una);

	if (!in_time)
		sample_echo(shard, tcp, h);

	while (tcp->n_runs && SEQ_LE(tcp->runs[0].end, una)) {
		if (!(tcp->runs[0].flags & RUN_SACKED))
			run_acked(shard, tcp, &tcp->runs[0], h,
				  in_time && (tcp->runs[0].end == una || tcp->n_runs == 1));
		runs_remove(tcp, 0);
	}
	if (tcp->n_runs && SEQ_LT(tcp->runs[0].start, una)) {
		struct tcp_run part = tcp->runs[0];

		part.end = una;
		run_acked(shard, tcp, &part, h, in_time);
		tcp->runs[0].start = una;
	}
	/* Its times have 32 bits, which a long silence exceeds; with nothing on its way there is
	 * nothing to compare. */
	if (!tcp->n_runs)
		tcp->rack_valid = false;
}

/* RFC 6675 4: marks what a block covers. Returns the bytes that are new in it. */
static uint32_t runs_sack(struct shard *shard, struct tcp *tcp, const struct sack_block *b)
{
	uint32_t fresh = 0;
	unsigned int i;

	if (!SEQ_LT(b->start, b->end) || SEQ_LT(b->start, tcp->snd_una) ||
	    SEQ_GT(b->end, tcp->snd_nxt))
		return 0;
	runs_make_room(tcp);
	i = runs_split_at(tcp, b->start);
	runs_split_at(tcp, b->end);
	for (; i < tcp->n_runs && SEQ_LE(tcp->runs[i].end, b->end); i++) {
		struct tcp_run *r = &tcp->runs[i];

		if (r->flags & RUN_SACKED)
			continue;
		fresh += r->end - r->start;
		if (tcp->rack_valid && SEQ_LT(r->end, tcp->rack_end) && !(r->flags & RUN_RETRANS))
			tcp->reordering_seen = true;
		rack_note(shard, tcp, r, true);
		r->flags = (uint8_t)((r->flags & RUN_RETRANS) | RUN_SACKED);
	}
	runs_tidy(tcp);
	return fresh;
}

/* RFC 8985 6.2 step 4: a quarter of the shortest round trip at first, more as reordering shows. */
static uint32_t reordering_window(const struct tcp *tcp)
{
	uint32_t window;

	if (!tcp->reordering_seen && (tcp_is(tcp, TCPB_RECOVERY) || tcp->dup_acks >= 3))
		return 0;
	window = (uint32_t)((uint64_t)tcp->min_rtt_us * (1u + tcp->reo_steps) / 4);
	return min_u32(max_u32(window, 1000), max_u32(tcp->srtt_us, 1000));
}

static void enter_recovery(struct tcp *tcp)
{
	uint32_t flight;

	if (tcp_is(tcp, TCPB_RECOVERY))
		return;
	flight = runs_in_flight(tcp);
	if (tcp_is(tcp, TCPB_TLP_SENT))
		tcp->pto_steps = 0; /* the probe has found a loss */
	tcp->bits &= ~(uint32_t)TCPB_NO_LOSS;
	tcp->bits |= TCPB_RECOVERY;
	if (tcp_is(tcp, TCPB_ECN))
		tcp->bits |= TCPB_CWR; /* whatever the reason: RFC 3168 6.1.2 */
	tcp->recovery_end = tcp->snd_nxt;
	tcp->retrans_ts = 0;
	tcp->prior_ssthresh = tcp->ssthresh;
	/* A queue on the way was full: somewhat less than what was in it does not fill it again. */
	tcp->cwnd = tcp->ssthresh = max_u32(flight / 10 * 7, 16u * tcp->mss);
}

/* A further time-out: the first repetition of all, and what was before the first loss, remain what
 * an acknowledgement is judged by. */
static void enter_recovery_anew(struct tcp *tcp)
{
	bool again = tcp_is(tcp, TCPB_RECOVERY) && tcp_is(tcp, TCPB_RTO_TRIED);
	uint32_t first = tcp->retrans_ts, prior = tcp->prior_ssthresh;

	tcp->bits &= ~(uint32_t)TCPB_RECOVERY;
	enter_recovery(tcp);
	if (again) {
		tcp->retrans_ts = first;
		tcp->prior_ssthresh = prior;
	}
}

/* RFC 8985 6.2 step 5. Returns the microseconds after which to look again, 0: nothing waits. */
static uint32_t detect_loss(struct shard *shard, struct tcp *tcp)
{
	uint32_t now = (uint32_t)shard->now_us, wait = 0, window;
	bool lost = false;

	if (!tcp->rack_valid)
		return 0;
	window = reordering_window(tcp);
	for (unsigned int i = 0; i < tcp->n_runs; i++) {
		struct tcp_run *r = &tcp->runs[i];
		int32_t left;

		if (r->flags & (RUN_SACKED | RUN_LOST))
			continue;
		if (SEQ_GT(r->sent_us, tcp->rack_sent_us) ||
		    (r->sent_us == tcp->rack_sent_us && SEQ_GE(r->end, tcp->rack_end)))
			continue;
		left = (int32_t)(r->sent_us + tcp->rack_rtt_us + window - now);
		if (left <= 0) {
			r->flags |= RUN_LOST;
			lost = true;
		} else {
			wait = max_u32(wait, (uint32_t)left);
		}
	}
	if (lost)
		enter_recovery(tcp);
	runs_tidy(tcp);
	return wait;
}

void tcp_recovery_reorder(struct shard *shard, struct flow *flow)
{
	uint32_t wait = detect_loss(shard, &flow->tcp);

	flow->tcp.reo_due_us = wait ? shard->now_us + wait : 0;
}

/* RFC 3522: the acknowledgement was caused by the original, as its echoed timestamp is older than
 * the repetition. */
static bool is_spurious(const struct tcp *tcp, const struct tcp_header *h)
{
	return tcp_is(tcp, TCPB_TS) && h->options.has_ts && tcp->retrans_ts &&
	       SEQ_LT(h->options.ts_ecr, tcp->retrans_ts);
}

static void undo(struct shard *shard, struct tcp *tcp)
{
	for (unsigned int i = 0; i < tcp->n_runs; i++)
		tcp->runs[i].flags &= (uint8_t)~RUN_LOST;
	runs_tidy(tcp);
	tcp->bits &= ~(uint32_t)(TCPB_RECOVERY | TCPB_RTO_TRIED);
	tcp->cwnd = max_u32(2 * runs_in_flight(tcp), tcp_initial_window(tcp));
	tcp->ssthresh = tcp->prior_ssthresh;
	tcp->retries = 0;
	tcp->reordering_seen = true;
	if (tcp->reo_steps < UINT8_MAX) /* the round trip is the limit: RFC 8985 6.2 step 4 */
		tcp->reo_steps++;
	count_add(&shard->counters, COUNT_TCP_SPURIOUS, 1);
}

/*
 * How much the window grows with an acknowledgement. Where a loss was that of a long queue, it will
 * be full again: a window that doubled would lose as much as the queue holds each time. A
 * sixty-fourth each round trip keeps it filled, and loses next to nothing.
 */
static uint32_t growth(const struct tcp *tcp, uint32_t acked)
{
	bool slow = tcp->srtt_us > tcp->min_rtt_us + QUEUE_LONG_US;

	if (tcp->cwnd < tcp->ssthresh || !slow)
		return acked;
	if (tcp->ssthresh)
		return acked / 64;
	/* Nothing was lost yet, but the round trip could double beyond the time-out before it is
	 * known. */
	return tcp->srtt_us > TCP_RTO_MIN_US / 2 ? acked / 4 : acked;
}

static void grow_window(struct tcp *tcp, uint32_t acked)
{
	uint32_t most;

	/* What lay behind a hole is acknowledged at once: no reason to send as much at once. */
	if (tcp_is(tcp, TCPB_RECOVERY) && !tcp_is(tcp, TCPB_RTO_TRIED))
		return;
	/* RFC 7661 4.3: nor does a window grow that is not made use of. */
	if (tcp->snd_nxt - tcp->snd_una + acked < tcp->cwnd / 2)
		return;
	/* Twice the guest's window does not limit, and is near what does when that opens. */
	most = max_u32(2 * tcp->snd_wnd_max, tcp_initial_window(tcp));
	tcp->cwnd = min_u32(tcp->cwnd + min_u32(growth(tcp, acked), 4u << 20), most);
}

/*
 * The guest had acknowledged all when the probe came, and that acknowledgement never arrived: only
 * behind its last acknowledgement does it take a segment's timestamp (RFC 7323 4.3), the probe's.
 */
static bool answer_was_lost(const struct tcp *tcp, const struct tcp_header *h, uint32_t acked)
{
	return acked && tcp_is(tcp, TCPB_TS) && h->options.has_ts &&
	       SEQ_GE(h->options.ts_ecr, tcp->tlp_ts);
}

/*
 * RFC 8985 7.4: a D-SACK of the probe says that no data was lost, and that this guest, or the
 * machine, takes longer than was waited for: the next probe has more patience.
 */
static void note_needless_probe(struct shard *shard, struct tcp *tcp, const struct tcp_header *h,
				uint32_t acked)
{
	const struct sack_block *b = &h->options.sack[0];

	if (!h->options.n_sack || !tcp->tlp_end || b->end != tcp->tlp_end || SEQ_GT(b->end, h->ack))
		return;
	tcp->tlp_end = 0;
	if (answer_was_lost(tcp, h, acked))
		return;
	if (tcp->pto_steps < TCP_PTO_STEPS_MAX)
		tcp->pto_steps++;
	count_add(&shard->counters, COUNT_TCP_SPURIOUS, 1);
}

/*
 * RFC 6582: without SACK three duplicates say that the first segment is lost; in recovery from a
 * loss a partial ACK does.
 */
static void recover_without_sack(const struct shard *shard, struct tcp *tcp, uint32_t acked)
{
	struct tcp_run *first = &tcp->runs[0];

	/* After a time-out all is lost already, or was repeated a moment ago. */
	if (tcp_is(tcp, TCPB_RTO_TRIED) &&
	    (uint32_t)shard->now_us - first->sent_us < 2 * max_u32(tcp->srtt_us, 1000))
		return;
	if (acked ? !tcp_is(tcp, TCPB_RECOVERY) || tcp_is(tcp, TCPB_NO_LOSS) : tcp->dup_acks != 3)
		return;
	enter_recovery(tcp);
	tcp->bits &= ~(uint32_t)TCPB_NO_LOSS;
	runs_make_room(tcp);
	if (first->end - first->start > tcp->mss)
		runs_split_at(tcp, first->start + tcp->mss);
	first->flags |= RUN_LOST;
}

void tcp_recovery_ack(struct shard *shard, struct flow *flow, const struct tcp_header *h,
		      uint32_t acked)
{
	struct tcp *tcp = &flow->tcp;
	uint32_t sacked = 0;

	note_needless_probe(shard, tcp, h, acked);
	if (acked) {
		if (tcp_is(tcp, TCPB_RECOVERY) && is_spurious(tcp, h))
			undo(shard, tcp);
		runs_acked(shard, tcp, h);
		tcp->retries = 0;
		tcp->dup_acks = 0;
		tcp->bits &= ~(uint32_t)TCPB_TLP_SENT;
		tcp->rto_due_us = 0;
		/* Progress takes the back-off back step by step: with all in flight repeated, no
		 * sample ever would. */
		tcp->rto_us = max_u32(rto_of(tcp), tcp->rto_us / 2);
		grow_window(tcp, acked);
	}
	for (unsigned int i = 0; i < h->options.n_sack && tcp_is(tcp, TCPB_SACK); i++)
		sacked += runs_sack(shard, tcp, &h->options.sack[i]);
	if (sacked || acked) {
		tcp->tlp_due_us = 0;
		tcp->put_off = false;
	}
	if (tcp_is(tcp, TCPB_RECOVERY) && SEQ_GE(tcp->snd_una, tcp->recovery_end))
		tcp->bits &= ~(uint32_t)(TCPB_RECOVERY | TCPB_RTO_TRIED);
	if (!tcp_is(tcp, TCPB_SACK) && tcp->n_runs) {
		recover_without_sack(shard, tcp, acked);
		return;
	}
	if (sacked || acked || tcp_is(tcp, TCPB_RECOVERY))
		tcp_recovery_reorder(shard, flow);
}

void tcp_recovery_reopened(struct tcp *tcp)
{
	tcp->rto_us = rto_of(tcp);
	tcp->rto_due_us = 0;
}

void tcp_recovery_ecn(struct tcp *tcp)
{
	if (tcp_is(tcp, TCPB_RECOVERY | TCPB_CWR))
		return;
	enter_recovery(tcp);
	tcp->bits |= TCPB_NO_LOSS;
}

/* RFC 1191 6.4: no sign of congestion, so that the window stays. */
void tcp_recovery_shorter(struct shard *shard, struct flow *flow, uint32_t mtu)
{
	struct tcp *tcp = &flow->tcp;
	uint32_t headers = ip_is_v4(&flow->key.guest) ? 40 : 60;
	uint32_t mss = max_u32(mtu, headers + TCP_MSS_LEAST) - headers -
		       (tcp_is(tcp, TCPB_TS) ? TCP_TS_LEN : 0);

	if (tcp->state != TCPS_OPEN || mss >= tcp->mss)
		return;
	tcp->mss = (uint16_t)mss;
	for (unsigned int i = 0; i < tcp->n_runs; i++) {
		if (!(tcp->runs[i].flags & RUN_SACKED))
			tcp->runs[i].flags |= RUN_LOST;
	}
	runs_tidy(tcp);
	tcp->rto_due_us = 0;
	shard_touch(shard, flow);
}

/*
 * A timer that fires long after its time shows that the machine had no time for us, nor perhaps for
 * the guest and for the reader of what it said: an answer may lie there unread.
 */
static bool is_late(const struct shard *shard, uint64_t due_us)
{
	return shard->now_us - due_us >= TCP_LATE_US;
}

void tcp_recovery_rto(struct shard *shard, struct flow *flow)
{
	struct tcp *tcp = &flow->tcp;

	if (!tcp->put_off && is_late(shard, tcp->rto_due_us)) {
		tcp->rto_due_us = shard->now_us + TCP_LATE_US;
		tcp->put_off = true; /* once: a machine may be short of time for good */
		return;
	}
	tcp->rto_due_us = 0;
	if (!tcp->n_runs && !tcp_is(tcp, TCPB_FIN_SENT))
		return;
	/* What the last one let go found no room on the guest's side: nothing is learnt. */
	if (tcp_is(tcp, TCPB_RTO_TRIED) && tcp->no_room) {
		tcp->rto_due_us = shard->now_us + tcp->rto_us;
		return;
	}
	count_add(&shard->counters, COUNT_TCP_RTO, 1);
	if (++tcp->retries > TCP_RETRIES) {
		tcp->bits |= TCPB_ABORT;
		return;
	}
	enter_recovery_anew(tcp);
	tcp->bits |= TCPB_RTO_TRIED;
	tcp->cwnd = 2u * tcp->mss;
	/* RFC 6675 5.1: what was SACKed may have been dropped again; it is kept as such the first
	 * time only. */
	for (unsigned int i = 0; i < tcp->n_runs; i++) {
		if (tcp->retries > 1)
			tcp->runs[i].flags &= (uint8_t)~RUN_SACKED;
		if (!(tcp->runs[i].flags & RUN_SACKED))
			tcp->runs[i].flags |= RUN_LOST;
	}
	runs_tidy(tcp);
	tcp->rto_us = min_u32(tcp->rto_us * 2, TCP_RTO_MAX_US);
	if (tcp_is(tcp, TCPB_FIN_SENT) && !tcp_is(tcp, TCPB_FIN_ACKED))
		tcp->bits &= ~(uint32_t)TCPB_FIN_SENT;
}

/* The run that a probe repeats: the last, or in recovery, which needs it, the first one missing. */
static unsigned int probed_run(const struct tcp *tcp)
{
	unsigned int i = 0;

	if (!tcp_is(tcp, TCPB_RECOVERY))
		return tcp->n_runs - 1u;
	while (i < tcp->n_runs && tcp->runs[i].flags & RUN_SACKED)
		i++;
	return i;
}

/*
 * RFC 8985 7.3: the last segment again, as what is new has gone already. The time-out counts from
 * here. In recovery too: a repetition, or the answer to it, may be lost with nothing behind it that
 * would tell, and on a link within one machine a time-out is an age.
 */
void tcp_recovery_tlp(struct shard *shard, struct flow *flow)
{
	struct tcp *tcp = &flow->tcp;
	struct tcp_run *run;
	unsigned int i;

	if (is_late(shard, tcp->tlp_due_us)) {
		tcp->tlp_due_us = 0; /* from the start */
		return;
	}
	tcp->tlp_due_us = 0;
	runs_make_room(tcp);
	i = probed_run(tcp);
	if (i >= tcp->n_runs || tcp->runs[i].flags & RUN_SACKED)
		return;
	tcp->bits |= TCPB_TLP_SENT;
	run = &tcp->runs[i];
	if (run->end - run->start > tcp->mss) {
		bool first = tcp_is(tcp, TCPB_RECOVERY);

		runs_split_at(tcp, first ? run->start + tcp->mss : run->end - tcp->mss);
		run = &tcp->runs[first ? i : i + 1];
	}
	run->flags |= RUN_LOST;
	/* It goes whatever the window says. */
	tcp->cwnd = max_u32(tcp->cwnd, runs_in_flight(tcp) + tcp->mss);
	/* In recovery guests acknowledge at once (RFC 5681 4.2): nothing is learnt of their
	 * patience. */
	tcp->tlp_end = tcp_is(tcp, TCPB_RECOVERY) ? 0 : run->end;
	tcp->tlp_ts = tcp_ts_now(shard, tcp);
	tcp->rto_due_us = shard->now_us + tcp->rto_us;
	count_add(&shard->counters, COUNT_TCP_TLP, 1);
}

void tcp_recovery_timers(struct shard *shard, struct flow *flow)
{
	struct tcp *tcp = &flow->tcp;
	bool outstanding =
		tcp->n_runs || (tcp_is(tcp, TCPB_FIN_SENT) && !tcp_is(tcp, TCPB_FIN_ACKED));
	uint32_t pto;

	if (!outstanding) {
		tcp->rto_due_us = tcp->tlp_due_us = tcp->reo_due_us = 0;
		return;
	}
	if (!tcp->rto_due_us)
		tcp->rto_due_us = shard->now_us + tcp->rto_us;
	if (tcp_is(tcp, TCPB_RTO_TRIED | TCPB_TLP_SENT) || !tcp->n_runs || !tcp->srtt_us ||
	    !tcp_is(tcp, TCPB_SACK)) {
		tcp->tlp_due_us = 0;
		return;
	}
	/* What the socket brings meanwhile, and the window does not let go, puts no probe off. */
	if (tcp->tlp_due_us)
		return;
	/* RFC 8985 7.2: two round trips, and the time for which a lone segment's acknowledgement
	 * may be delayed; but no later than the time-out, in whose place it is sent then. */
	pto = max_u32(2 * tcp->srtt_us + 2 * tcp->rttvar_us, TCP_PTO_MIN_US << tcp->pto_steps);
	if (!tcp_is(tcp, TCPB_RECOVERY) && runs_in_flight(tcp) <= tcp->mss)
		pto += TCP_DELAYED_ACK_US;
	tcp->tlp_due_us = shard->now_us + pto;
	if (tcp->tlp_due_us > tcp->rto_due_us)
		tcp->tlp_due_us = tcp->rto_due_us;
}
