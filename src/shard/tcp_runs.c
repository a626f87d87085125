/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The scoreboard: what was sent to the guest and is not acknowledged, as runs of bytes with one
 * fate (sent, SACKed, lost, sent again). tcp_recovery.c decides on that fate.
 */
#include "tcp_internal.h"

/*
 * How exact the scoreboard's times are. A thirty-second of the round trip is as good as anything
 * here is: with a run for each segment that an acknowledgement lets go they would be too many, and
 * the last, which takes in what is nearest in time, would soon be all that is in flight, sent just
 * now.
 */
static uint32_t time_grain(const struct tcp *tcp)
{
	return tcp->srtt_us / 32;
}

void runs_remove(struct tcp *tcp, unsigned int i)
{
	tcp->n_runs--;
	memmove(&tcp->runs[i], &tcp->runs[i + 1], (tcp->n_runs - i) * sizeof(tcp->runs[0]));
}

/* Whether two neighbours may become one without a loss of meaning; a later time is the careful one.
 */
static bool alike(const struct tcp_run *a, const struct tcp_run *b)
{
	return a->flags == b->flags && (a->flags & RUN_SACKED || a->sent_us == b->sent_us);
}

/*
 * Two neighbours become one. With something in flight in it the whole counts as in flight: if it
 * counted as lost, what was just repeated would be so again at once, without end.
 */
static void join(struct tcp *tcp, unsigned int i)
{
	struct tcp_run *a = &tcp->runs[i], *b = &tcp->runs[i + 1];
	bool in_flight =
		!(a->flags & (RUN_SACKED | RUN_LOST)) || !(b->flags & (RUN_SACKED | RUN_LOST));
	uint8_t either = a->flags | b->flags;
	uint32_t apart =
		SEQ_LT(a->sent_us, b->sent_us) ? b->sent_us - a->sent_us : a->sent_us - b->sent_us;

	a->end = b->end;
	if (SEQ_LT(a->sent_us, b->sent_us))
		a->sent_us = b->sent_us;
	/* Like that of what was sent twice, a time that is far from exact measures no round trip.
	 */
	a->flags = apart > 4 * time_grain(tcp) ? RUN_RETRANS : either & RUN_RETRANS;
	if (!in_flight)
		a->flags |= either & RUN_LOST ? RUN_LOST : RUN_SACKED;
	runs_remove(tcp, i + 1);
}

void runs_tidy(struct tcp *tcp)
{
	for (unsigned int i = 0; i + 1 < tcp->n_runs;) {
		if (alike(&tcp->runs[i], &tcp->runs[i + 1]))
			join(tcp, i);
		else
			i++;
	}
}

/*
 * What is lost of the scoreboard's truth if two neighbours become one: of one kind, only when they
 * were sent; else rather the little that was SACKed (RFC 2018 8 lets a sender forget it), and
 * rather beside what is in flight than beside what is lost, with which it would be repeated.
 */
static uint64_t cost_of_join(const struct tcp_run *a, const struct tcp_run *b)
{
	uint32_t apart = b->sent_us - a->sent_us;
	uint32_t a_len = a->end - a->start, b_len = b->end - b->start;

	if (!((a->flags ^ b->flags) & (RUN_SACKED | RUN_LOST)))
		return (int32_t)apart < 0 ? 0 - apart : apart;
	return 1ull << 40 | (uint64_t)((a->flags | b->flags) & RUN_LOST ? 1 : 0) << 36 |
	       (a->flags & RUN_SACKED ? a_len : b_len);
}

/* Makes place for two more runs by joining the neighbours that are the least loss. */
void runs_make_room(struct tcp *tcp)
{
	while (tcp->n_runs > TCP_RUNS - 2) {
		unsigned int best = 0;
		uint64_t best_cost = UINT64_MAX;

		for (unsigned int i = 0; i + 1 < tcp->n_runs; i++) {
			uint64_t cost = cost_of_join(&tcp->runs[i], &tcp->runs[i + 1]);

			if (cost < best_cost) {
				best_cost = cost;
				best = i;
			}
		}
		join(tcp, best);
	}
}

/* Splits the run that holds seq, so that a run begins there. Returns its index. */
unsigned int runs_split_at(struct tcp *tcp, uint32_t seq)
{
	for (unsigned int i = 0; i < tcp->n_runs; i++) {
		struct tcp_run *r = &tcp->runs[i];

		if (SEQ_LE(seq, r->start))
			return i;
		if (SEQ_GE(seq, r->end))
			continue;
		memmove(r + 1, r, (tcp->n_runs - i) * sizeof(*r));
		tcp->n_runs++;
		r[0].end = seq;
		r[1].start = seq;
		return i + 1;
	}
	return tcp->n_runs;
}

void runs_sent(struct tcp *tcp, uint32_t start, uint32_t end, uint32_t now_us)
{
	struct tcp_run *last = tcp->n_runs ? &tcp->runs[tcp->n_runs - 1] : NULL;

	tcp->tlp_due_us = 0;
	if (last && last->end == start && !last->flags &&
	    now_us - last->sent_us <= time_grain(tcp)) {
		last->end = end;
		return;
	}
	runs_make_room(tcp);
	tcp->runs[tcp->n_runs++] = (struct tcp_run){ start, end, now_us, 0 };
}

void runs_resent(struct tcp *tcp, uint32_t start, uint32_t end, uint32_t now_us)
{
	unsigned int i;

	tcp->tlp_due_us = 0;
	runs_make_room(tcp);
	i = runs_split_at(tcp, start);
	runs_split_at(tcp, end);
	for (; i < tcp->n_runs && SEQ_LT(tcp->runs[i].start, end); i++) {
		tcp->runs[i].sent_us = now_us;
		tcp->runs[i].flags = (uint8_t)((tcp->runs[i].flags & ~RUN_LOST) | RUN_RETRANS);
	}
	runs_tidy(tcp);
}

struct tcp_run *runs_next_lost(struct tcp *tcp)
{
	for (unsigned int i = 0; i < tcp->n_runs; i++) {
		if (tcp->runs[i].flags & RUN_LOST)
			return &tcp->runs[i];
	}
	return NULL;
}

/* RFC 6675's pipe: sent, neither SACKed nor lost. */
uint32_t runs_in_flight(const struct tcp *tcp)
{
	uint32_t bytes = 0;

	for (unsigned int i = 0; i < tcp->n_runs; i++) {
		if (!(tcp->runs[i].flags & (RUN_SACKED | RUN_LOST)))
			bytes += tcp->runs[i].end - tcp->runs[i].start;
	}
	return bytes;
}
