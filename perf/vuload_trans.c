/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Transactions: a request, its response, the next; over connections that stay, or a new one for
 * each, which ends with a reset as taploom-load's do.
 */
#include "histogram.h"
#include "vuload_tcp.h"

#include <stdio.h>
#include <stdlib.h>

#define FIRST_PORT 20000u
#define LAST_PORT  60000u
#define START_NS   (10 * NS_PER_S)
#define TIMER_NS   (20 * 1000 * 1000LL)
#define NOBODY	   UINT16_MAX

struct trans_conn {
	struct vl_tcp tcp;
	int64_t began_ns;
	uint64_t expected; /* bytes received when the response is whole */
};

struct trans {
	int64_t begin_ns, first_ns, timer_ns;
	uint64_t n_all;
	struct histogram times;
	uint16_t port; /* the last used */
	uint16_t by_port[65536];
	struct trans_conn conns[LOAD_FLOWS_MAX];
};

static void connect_next(struct vl *vl, unsigned int i, int64_t now)
{
	struct trans *trans = vl->state;
	struct trans_conn *conn = &trans->conns[i];

	if (conn->tcp.port)
		trans->by_port[conn->tcp.port] = NOBODY;
	do
		trans->port = (uint16_t)(trans->port < LAST_PORT ? trans->port + 1u : FIRST_PORT);
	while (trans->by_port[trans->port] != NOBODY);
	trans->by_port[trans->port] = (uint16_t)i;
	conn->began_ns = now;
	conn->expected = 0;
	vl_tcp_open(vl, &conn->tcp, trans->port, vl->options->traffic.port, i % vl->options->pairs,
		    now);
}

static void start(struct vl *vl)
{
	struct trans *trans = calloc(1, sizeof(*trans));

	if (!trans || !vl->options->traffic.size || !vl->options->traffic.response_size)
		load_die("size of a request or response");
	vl->state = trans;
	trans->port = FIRST_PORT;
	trans->begin_ns = trans->timer_ns = load_now_ns();
	memset(trans->by_port, 0xff, sizeof(trans->by_port));
	for (unsigned int i = 0; i < vl->options->traffic.n_flows; i++)
		connect_next(vl, i, trans->begin_ns);
}

static void request(struct vl *vl, struct trans_conn *conn, int64_t now)
{
	conn->tcp.written += vl->options->traffic.size;
	conn->expected = conn->tcp.rcv + vl->options->traffic.response_size;
	while (vl_tcp_push(vl, &conn->tcp, now))
		;
}

static void count(struct vl *vl, const struct trans_conn *conn, int64_t now)
{
	struct trans *trans = vl->state;
	const struct vl_options *options = vl->options;
	double at;

	if (!trans->first_ns)
		trans->first_ns = now;
	at = (double)(now - trans->first_ns) / 1e9;
	trans->n_all++;
	if (at >= options->traffic.omit && at < options->traffic.omit + options->traffic.seconds)
		histogram_add(&trans->times, (uint64_t)(now - conn->began_ns));
}

static void complete(struct vl *vl, unsigned int i, int64_t now)
{
	struct trans *trans = vl->state;
	struct trans_conn *conn = &trans->conns[i];

	count(vl, conn, now);
	if (vl->options->traffic.reconnect) {
		vl_tcp_abort(vl, &conn->tcp);
		connect_next(vl, i, now);
		return;
	}
	conn->began_ns = now;
	request(vl, conn, now);
}

static void take(struct vl *vl, const struct vl_frame *frame, int64_t now)
{
	struct trans *trans = vl->state;
	unsigned int i = trans->by_port[frame->dst_port];
	struct trans_conn *conn;
	bool opening;

	if (i == NOBODY) {
		/* What was under way to a connection that was reset. */
		vl->errors.stray += !vl->options->traffic.reconnect;
		return;
	}
	conn = &trans->conns[i];
	opening = conn->tcp.state == VL_TCP_SYN;
	vl_tcp_take(vl, &conn->tcp, frame, now);
	if (opening && conn->tcp.state == VL_TCP_OPEN)
		request(vl, conn, now);
	else if (conn->expected && conn->tcp.rcv >= conn->expected)
		complete(vl, i, now);
	else if (conn->tcp.state == VL_TCP_CLOSED || conn->tcp.fin_received)
		connect_next(vl, i, now);
}

static int64_t run(struct vl *vl, int64_t now)
{
	struct trans *trans = vl->state;

	for (unsigned int i = 0; i < vl->options->traffic.n_flows; i++)
		vl_tcp_ack(vl, &trans->conns[i].tcp);
	if (now < trans->timer_ns)
		return trans->timer_ns;
	for (unsigned int i = 0; i < vl->options->traffic.n_flows; i++) {
		struct vl_tcp *tcp = &trans->conns[i].tcp;

		vl_tcp_timer(vl, tcp, now);
		while (vl_tcp_push(vl, tcp, now))
			;
	}
	trans->timer_ns = now + TIMER_NS;
	return trans->timer_ns;
}

static bool over(struct vl *vl, int64_t now)
{
	const struct trans *trans = vl->state;

	if (!trans->first_ns)
		return now - trans->begin_ns > START_NS;
	return (double)(now - trans->first_ns) >
	       (vl->options->traffic.omit + vl->options->traffic.seconds) * 1e9;
}

static bool report(struct vl *vl)
{
	const struct trans *trans = vl->state;

	printf("\"transactions\": %llu, \"window\": %llu, \"p50_us\": %.2f, \"p99_us\": %.2f, "
	       "\"resent\": %llu",
	       (unsigned long long)trans->n_all, (unsigned long long)trans->times.n,
	       histogram_share_us(&trans->times, 0.5), histogram_share_us(&trans->times, 0.99),
	       (unsigned long long)vl_tcp_resent());
	return trans->times.n;
}

const struct vl_app vl_trans_app = { start, take, run, over, report };
