/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A flow's deadlines, of which its one timer is armed for the nearest.
 */
#include "tcp_internal.h"

/* A SYN or SYN-ACK was not answered in time. */
static void resend_syn(struct flow *flow)
{
	struct tcp *tcp = &flow->tcp;

	tcp->rto_due_us = 0;
	if (++tcp->retries > TCP_SYN_RETRIES) {
		tcp->bits |= TCPB_ABORT;
		return;
	}
	tcp->rto_us *= 2;
	tcp->bits |= TCPB_SYN_DUE;
}

static void on_rto(struct shard *shard, struct flow *flow)
{
	if (flow->tcp.state == TCPS_OPEN)
		tcp_recovery_rto(shard, flow);
	else
		resend_syn(flow);
}

static void on_persist(struct shard *shard, struct flow *flow)
{
	flow->tcp.persist_due_us = 0;
	/* Old by one: the guest must answer it with what it has and its window (RFC 9293 3.8.6.1).
	 */
	tcp_send_control(shard, flow, flow->tcp.snd_una - 1, TCP_ACK);
}

static void on_poll(struct shard *shard, struct flow *flow)
{
	(void)shard;
	flow->tcp.bits |= TCPB_WND_UPDATE;
	flow->tcp.bits &= ~(uint32_t)TCPB_HOST_FULL;
}

/* Nothing came to go with it: this flow's next ones don't wait. */
static void on_ack(struct shard *shard, struct flow *flow)
{
	(void)shard;
	flow->tcp.ack_due_us = 0;
	flow->tcp.bits |= TCPB_ACK_NOW;
	flow->tcp.bits &= ~(uint32_t)TCPB_PROMPT;
}

static void on_idle(struct shard *shard, struct flow *flow)
{
	flow->tcp.idle_due_us = 0;
	if (flow->tcp.deaf)
		tcp_guest_gone(shard, flow);
	else
		flow->tcp.bits |= TCPB_ABORT;
}

static void on_state(struct shard *shard, struct flow *flow)
{
	if (flow->tcp.state == TCPS_TIME_WAIT)
		flow->tcp.bits |= TCPB_DEAD;
	else
		tcp_abort(shard, flow, false);
}

static const struct deadline {
	size_t offset; /* of the time in struct tcp */
	void (*run)(struct shard *shard, struct flow *flow);
} deadlines[] = {
	{ offsetof(struct tcp, tlp_due_us), tcp_recovery_tlp }, /* puts the time-out off */
	{ offsetof(struct tcp, rto_due_us), on_rto },
	{ offsetof(struct tcp, reo_due_us), tcp_recovery_reorder },
	{ offsetof(struct tcp, persist_due_us), on_persist },
	{ offsetof(struct tcp, poll_us), on_poll },
	{ offsetof(struct tcp, idle_due_us), on_idle },
	{ offsetof(struct tcp, state_due_us), on_state },
	{ offsetof(struct tcp, ack_due_us), on_ack },
};

#define N_DEADLINES (sizeof(deadlines) / sizeof(deadlines[0]))

static uint64_t due_us(const struct tcp *tcp, const struct deadline *deadline)
{
	return *(const uint64_t *)(const void *)((const uint8_t *)tcp + deadline->offset);
}

void tcp_arm(struct shard *shard, struct flow *flow)
{
	uint64_t next = UINT64_MAX;

	for (size_t i = 0; i < N_DEADLINES; i++) {
		uint64_t due = due_us(&flow->tcp, &deadlines[i]);

		if (due && due < next)
			next = due;
	}
	/* An armed timer that is early is left alone: it finds nothing due and is armed anew. */
	if (timer_is_armed(&flow->timer) && flow->timer.due_us <= next)
		return;
	if (next != UINT64_MAX)
		wheel_arm(&shard->wheel, &flow->timer, next);
}

void tcp_timer(struct shard *shard, struct flow *flow)
{
	for (size_t i = 0; i < N_DEADLINES && !flow->closed; i++) {
		uint64_t due = due_us(&flow->tcp, &deadlines[i]);

		if (due && due <= shard->now_us)
			deadlines[i].run(shard, flow);
	}
	if (!flow->closed)
		tcp_touch(shard, flow);
}
