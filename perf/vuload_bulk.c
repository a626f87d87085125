/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Bulk TCP over one or several connections, from us, to us, or both. The measured time begins with
 * the first byte that came, as taploom-load's does.
 */
#include "vuload_tcp.h"

#include <stdio.h>
#include <stdlib.h>

#define FIRST_PORT 20000u
#define START_NS   (10 * NS_PER_S)
#define DRAIN_NS   (20 * NS_PER_S) /* time-outs of a busy machine included */
#define TIMER_NS   (20 * 1000 * 1000LL)
#define GAP_NS	   (50 * 1000 * 1000LL)
#define ENDLESS	   (UINT64_MAX / 2)
#define CHUNK	   (128u << 10)

struct bulk {
	int64_t begin_ns, open_ns; /* started; all connections are there */
	int64_t first_ns, last_ns, timer_ns, longest_gap_ns;
	unsigned int n_gaps, n_open, next;
	uint64_t n_window, n_strayed;
	struct vl_tcp flows[LOAD_FLOWS_MAX];
	uint64_t windows[LOAD_FLOWS_MAX]; /* bytes in the measured time */
};

static void start(struct vl *vl)
{
	struct bulk *bulk = calloc(1, sizeof(*bulk));

	if (!bulk)
		load_die("memory");
	vl->state = bulk;
	bulk->begin_ns = bulk->timer_ns = load_now_ns();
	for (unsigned int i = 0; i < vl->options->traffic.n_flows; i++)
		vl_tcp_open(vl, &bulk->flows[i], (uint16_t)(FIRST_PORT + i),
			    vl->options->traffic.port, i % vl->options->pairs, bulk->begin_ns);
}

static void count(struct vl *vl, unsigned int flow, size_t n, int64_t now)
{
	struct bulk *bulk = vl->state;
	const struct vl_options *options = vl->options;
	double at;

	if (!bulk->first_ns)
		bulk->first_ns = bulk->last_ns = now;
	at = (double)(now - bulk->first_ns) / 1e9;
	if (at >= options->traffic.omit && at < options->traffic.omit + options->traffic.seconds) {
		int64_t gap = now - bulk->last_ns;

		bulk->n_window += n;
		bulk->windows[flow] += n;
		bulk->n_gaps += gap > GAP_NS;
		bulk->longest_gap_ns = gap > bulk->longest_gap_ns ? gap : bulk->longest_gap_ns;
	}
	bulk->last_ns = now;
}

static void take(struct vl *vl, const struct vl_frame *frame, int64_t now)
{
	struct bulk *bulk = vl->state;
	unsigned int flow = frame->dst_port - FIRST_PORT;
	struct vl_tcp *tcp;
	size_t fresh;

	if (frame->proto != IPPROTO_TCP || flow >= vl->options->traffic.n_flows ||
	    frame->src_port != vl->options->traffic.port) {
		vl->errors.stray++;
		return;
	}
	tcp = &bulk->flows[flow];
	bulk->n_strayed += frame->pair != tcp->pair;
	fresh = vl_tcp_take(vl, tcp, frame, now);
	if (!fresh)
		return;
	if (!vl_payload_ok(vl, frame, frame->payload_len - fresh, fresh, tcp->rcv - fresh))
		vl->errors.payload++;
	count(vl, flow, fresh, now);
}

static uint64_t sent(const struct vl *vl)
{
	const struct bulk *bulk = vl->state;
	uint64_t n = 0;

	for (unsigned int i = 0; i < vl->options->traffic.n_flows; i++)
		n += bulk->flows[i].una;
	return n;
}

/* With a rate the application writes what is due, and the flows share it. */
static void write_due(struct vl *vl, int64_t now)
{
	const struct vl_options *options = vl->options;
	struct bulk *bulk = vl->state;
	double due = (double)(now - bulk->open_ns) / 1e9 * options->traffic.rate /
		     options->traffic.n_flows;

	for (unsigned int i = 0; i < options->traffic.n_flows; i++) {
		struct vl_tcp *tcp = &bulk->flows[i];
		/* As a program writes, but not all at the same time. */
		uint64_t ahead = (uint64_t)i * CHUNK / options->traffic.n_flows;
		uint64_t end = ((uint64_t)due + ahead) / CHUNK * CHUNK;

		if (!tcp->fin_wanted && tcp->written < end && end - tcp->una < (8u << 20))
			tcp->written = end;
	}
}

static bool time_is_over(const struct vl *vl, int64_t now)
{
	const struct bulk *bulk = vl->state;

	return (double)(now - bulk->open_ns) >
	       (vl->options->traffic.omit + vl->options->traffic.seconds) * 1e9;
}

/* What a flow's application does: writes until its time is over, then ends its half; one that only
 * receives ends when the other side has. */
static void drive(struct vl *vl, struct vl_tcp *tcp, int64_t now)
{
	if (tcp->state != VL_TCP_OPEN || tcp->fin_wanted || !((struct bulk *)vl->state)->open_ns)
		return;
	if (vl->options->traffic.send && !time_is_over(vl, now)) {
		if (vl->options->traffic.rate <= 0)
			tcp->written = ENDLESS;
		return;
	}
	if (vl->options->traffic.send || tcp->fin_received) {
		tcp->written = tcp->max;
		tcp->fin_wanted = true;
	}
}

static bool push_round(struct vl *vl, int64_t now)
{
	struct bulk *bulk = vl->state;
	bool any = false;

	for (unsigned int i = 0; i < vl->options->traffic.n_flows; i++) {
		struct vl_tcp *tcp = &bulk->flows[bulk->next];

		bulk->next = (bulk->next + 1) % vl->options->traffic.n_flows;
		drive(vl, tcp, now);
		any |= vl_tcp_push(vl, tcp, now);
	}
	return any;
}

static void timers(struct vl *vl, int64_t now)
{
	struct bulk *bulk = vl->state;

	bulk->n_open = 0;
	for (unsigned int i = 0; i < vl->options->traffic.n_flows; i++) {
		vl_tcp_timer(vl, &bulk->flows[i], now);
		bulk->n_open += bulk->flows[i].state == VL_TCP_OPEN;
	}
	bulk->timer_ns = now + TIMER_NS;
}

static void note_open(struct vl *vl, int64_t now)
{
	struct bulk *bulk = vl->state;

	for (unsigned int i = 0; i < vl->options->traffic.n_flows; i++)
		if (bulk->flows[i].state == VL_TCP_SYN)
			return;
	bulk->open_ns = now;
}

/* With a rate all that is due goes out; without one a frame each, then a look at what has come. */
static bool push(struct vl *vl, int64_t now)
{
	bool any = push_round(vl, now);

	while (any && vl->options->traffic.rate > 0 && push_round(vl, now))
		;
	for (unsigned int i = 0; i < vl->options->traffic.n_flows; i++)
		vl_tcp_ack(vl, &((struct bulk *)vl->state)->flows[i]);
	return any;
}

static int64_t run(struct vl *vl, int64_t now)
{
	const struct vl_options *options = vl->options;
	struct bulk *bulk = vl->state;

	if (!bulk->open_ns)
		note_open(vl, now);
	if (options->traffic.send && options->traffic.rate > 0 && bulk->open_ns)
		write_due(vl, now);
	if (push(vl, now) && options->traffic.rate <= 0)
		return now;
	if (now >= bulk->timer_ns)
		timers(vl, now);
	if (options->traffic.rate > 0 && options->traffic.send)
		return now + (int64_t)options->tick_us * 1000;
	return bulk->timer_ns;
}

static bool over(struct vl *vl, int64_t now)
{
	const struct bulk *bulk = vl->state;
	int64_t until =
		(int64_t)((vl->options->traffic.omit + vl->options->traffic.seconds) * 1e9) +
		DRAIN_NS;

	if (!bulk->open_ns)
		return now - bulk->begin_ns > START_NS;
	for (unsigned int i = 0; i < vl->options->traffic.n_flows; i++)
		if (bulk->flows[i].state != VL_TCP_CLOSED)
			return now - bulk->open_ns > until;
	return true;
}

/* Jain's index of the flows' bytes: 1 where all had the same. */
static double fairness(const struct vl *vl)
{
	const struct bulk *bulk = vl->state;
	double all = 0, squares = 0;

	for (unsigned int i = 0; i < vl->options->traffic.n_flows; i++) {
		double n = (double)bulk->windows[i];

		all += n;
		squares += n * n;
	}
	return squares > 0 ? all * all / (vl->options->traffic.n_flows * squares) : 0;
}

static bool report(struct vl *vl)
{
	const struct bulk *bulk = vl->state;
	uint64_t received = 0;
	bool whole = true;

	for (unsigned int i = 0; i < vl->options->traffic.n_flows; i++) {
		received += bulk->flows[i].rcv;
		whole = whole && bulk->flows[i].fin_received && bulk->flows[i].fin_acked;
	}
	printf("\"whole\": %s, \"sent\": %llu, \"received\": %llu, \"window\": %llu, "
	       "\"longest_gap_ms\": %.3f, \"gaps\": %u, \"fairness\": %.4f, \"resent\": %llu, "
	       "\"timeouts\": %llu, "
	       "\"other_pair\": %llu",
	       whole ? "true" : "false", (unsigned long long)sent(vl), (unsigned long long)received,
	       (unsigned long long)bulk->n_window, (double)bulk->longest_gap_ns / 1e6, bulk->n_gaps,
	       fairness(vl), (unsigned long long)vl_tcp_resent(),
	       (unsigned long long)vl_tcp_timeouts(), (unsigned long long)bulk->n_strayed);
	return whole && (!vl->options->traffic.recv || received) &&
	       (!vl->options->traffic.send || sent(vl));
}

const struct vl_app vl_bulk_app = { start, take, run, over, report };
