/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The life of a TCP flow: its beginning from either side, its run and its ends. A run is
 * the only place where the socket and the guest are spoken to; whatever happens (a segment, an
 * event, a timer) is noted in the flow, which is then run once per turn of the shard's loop.
 */
#include "dgram.h"
#include "l3.h"
#include "tcp_internal.h"

#include "taploom/bytes.h"

#include <errno.h>
#include <netinet/icmp6.h>
#include <netinet/ip_icmp.h>
#include <sys/epoll.h>

static void init(struct shard *shard, struct flow *flow, uint8_t state)
{
	struct tcp *tcp = &flow->tcp;
	struct hash_secret secret = { { shard->rt->secret.k[1], ~shard->rt->secret.k[0] } };
	uint32_t hash = flow_key_hash(&flow->key, &secret);

	*tcp = (struct tcp){ .state = state,
			     .rto_us = TCP_RTO_FIRST_US,
			     .buffer = TCP_BUFFER_LEAST };
	list_init(&tcp->queue);
	/* RFC 6528: a secret function of the ports and addresses, and a clock. */
	tcp->iss = hash + (uint32_t)(shard->now_us / 4);
	tcp->ts_offset = hash * 2654435761u;
	tcp->snd_una = tcp->iss;
	tcp->snd_nxt = tcp->iss + 1;
	tcp->ts_recent_us = shard->now_us;
}

void tcp_open_guest(struct shard *shard, struct flow *flow, const struct frame *frame)
{
	struct tcp_header h;

	tcp_header_decode(frame->data + frame->l4_off, (size_t)(frame->payload_off - frame->l4_off),
			  &h);
	init(shard, flow, TCPS_CONNECTING);
	tcp_answer_syn(shard, flow, &h);
	flow->queue = frame->queue;
	flow->tcp.state_due_us = shard->now_us + TCP_CONNECT_US;
	tcp_arm(shard, flow);
}

/* Our SYN or SYN-ACK. False: as soon as there is room. */
static bool send_syn(struct shard *shard, struct flow *flow)
{
	struct tcp *tcp = &flow->tcp;
	bool answer = tcp->state == TCPS_SYN_RCVD;

	tcp->bits |= TCPB_SYN_DUE;
	if (!tcp_send_control(shard, flow, tcp->iss, answer ? TCP_SYN | TCP_ACK : TCP_SYN))
		return false;
	tcp->bits &= ~(uint32_t)TCPB_SYN_DUE;
	tcp->rto_due_us = shard->now_us + tcp->rto_us;
	if (!tcp->retries) /* the answer is a sample of the round trip */
		tcp->ts_recent_us = shard->now_us;
	return true;
}

void tcp_open_host(struct shard *shard, struct flow *flow)
{
	init(shard, flow, TCPS_SYN_SENT);
}

void tcp_begin_host(struct shard *shard, struct flow *flow)
{
	flow->tcp.state_due_us = shard->now_us + TCP_CONNECT_US; /* there may be no guest */
	if (!send_syn(shard, flow))
		shard_touch(shard, flow);
	tcp_arm(shard, flow);
}

static void close_flow(struct shard *shard, struct flow *flow)
{
	tcp_queue_drop(shard, flow);
	tcp_window_release(shard, flow);
	if (flow->fd >= 0)
		hostsock_close(flow->fd);
	flow->fd = -1;
	if (flow->tcp.state == TCPS_CONNECTING)
		tcp_attempt_over(shard, flow);
	flow_close(shard, flow);
}

static bool send_reset(struct shard *shard, struct flow *flow)
{
	const struct tcp *tcp = &flow->tcp;

	if (tcp->state == TCPS_TIME_WAIT)
		return true;
	/* No SYN went out yet, for want of room or because it was not its turn: the guest has not
	 * heard of it. */
	if (tcp->state == TCPS_SYN_SENT && !tcp->rto_due_us && !tcp->retries)
		return true;
	return tcp_send_control(shard, flow, tcp->state == TCPS_CONNECTING ? 0 : tcp->snd_nxt,
				tcp->state == TCPS_SYN_SENT ? TCP_RST : TCP_RST | TCP_ACK);
}

/*
 * The socket has failed, or we give up. What the peer sent before it reset is still in the socket;
 * the guest gets of it what a host would have had in its own buffer, and then the RST. False: when
 * there is room, as a guest that only receives would never learn of a RST that was lost.
 */
static bool end_flow(struct shard *shard, struct flow *flow)
{
	tcp_queue_drop(shard, flow);
	flow->tcp.poll_us = 0; /* nothing of the peer's is waited for any more */
	if (flow->tcp.state == TCPS_OPEN && !flow->tcp.deaf && !tcp_send_rest(shard, flow))
		return false;
	if (!send_reset(shard, flow))
		return false;
	tcp_abort(shard, flow, false);
	return true;
}

void tcp_abort(struct shard *shard, struct flow *flow, bool tell_guest)
{
	if (tell_guest)
		send_reset(shard, flow);
	if (flow->fd >= 0)
		hostsock_abort(flow->fd);
	flow->fd = -1;
	close_flow(shard, flow);
}

void tcp_guest_gone(struct shard *shard, struct flow *flow)
{
	if (!tcp_is(&flow->tcp, TCPB_HOST_SHUT)) {
		tcp_abort(shard, flow, false);
		return;
	}
	hostsock_drain(flow->fd);
	close_flow(shard, flow);
}

void tcp_refuse(struct shard *shard, const struct frame *frame)
{
	struct tcp_header h;
	uint32_t len;

	tcp_header_decode(frame->data + frame->l4_off, (size_t)(frame->payload_off - frame->l4_off),
			  &h);
	if (h.flags & TCP_RST)
		return;
	len = frame->payload_len + (h.flags & TCP_SYN ? 1 : 0) + (h.flags & TCP_FIN ? 1 : 0);
	if (h.flags & TCP_ACK)
		tcp_send_stray(shard, frame, h.ack, 0, TCP_RST);
	else
		tcp_send_stray(shard, frame, 0, h.seq + len, TCP_RST | TCP_ACK);
	count_add(&shard->counters, COUNT_TCP_RESETS, 1);
}

/* How an error of connect() is told to the guest: as the host was told. */
static const struct connect_error {
	int error;
	uint8_t code4; /* RFC 792, RFC 1812 5.2.7.1: of type 3 */
	uint8_t code6; /* RFC 4443 3.1: of type 1 */
} connect_errors[] = {
	{ ENETUNREACH, ICMP_NET_UNREACH, ICMP6_DST_UNREACH_NOROUTE },
	{ ENETDOWN, ICMP_NET_UNREACH, ICMP6_DST_UNREACH_NOROUTE },
	{ EHOSTUNREACH, ICMP_HOST_UNREACH, ICMP6_DST_UNREACH_ADDR },
	{ EHOSTDOWN, ICMP_HOST_UNKNOWN, ICMP6_DST_UNREACH_ADDR },
	{ ENONET, ICMP_HOST_ISOLATED, ICMP6_DST_UNREACH_ADDR },
	{ ENOPROTOOPT, ICMP_PROT_UNREACH, ICMP6_DST_UNREACH_NOPORT },
	{ EOPNOTSUPP, ICMP_SR_FAILED, ICMP6_DST_UNREACH_NOROUTE },
	{ EACCES, ICMP_PKT_FILTERED, ICMP6_DST_UNREACH_ADMIN },
	{ EPERM, ICMP_PKT_FILTERED, ICMP6_DST_UNREACH_ADMIN },
	{ EADDRNOTAVAIL, ICMP_NET_UNREACH, ICMP6_DST_UNREACH_NOROUTE },
};

/* Quotes the SYN, as far as an error must (its first eight bytes are all that matters). */
static void send_unreachable(struct shard *shard, const struct flow *flow,
			     const struct connect_error *e)
{
	uint8_t quoted[L3_HEADER_MAX + TCP_HEADER_LEN] = { 0 };
	struct l3 l3 = { .src = flow->key.guest,
			 .dst = flow->key.peer,
			 .proto = IPPROTO_TCP,
			 .ttl = 64,
			 .dont_fragment = true };
	bool v4 = ip_is_v4(&l3.dst);
	struct tcp_header h = { .src_port = flow->key.guest_port,
				.dst_port = flow->key.peer_port,
				.seq = flow->tcp.irs,
				.flags = TCP_SYN };
	struct ip_addr from = router_towards(shard, &l3.dst);
	size_t len = l3_write(quoted, &l3, TCP_HEADER_LEN);

	if (e->error == ENOPROTOOPT)
		from = l3.dst; /* which only the host itself can say */
	len += tcp_header_encode(quoted + len, &h);
	icmp_send_error(shard, quoted + 14, len - 14, v4 ? ICMP_DEST_UNREACH : ICMP6_DST_UNREACH,
			v4 ? e->code4 : e->code6, 0, &from);
}

static void connect_failed(struct shard *shard, struct flow *flow, int error)
{
	bool silent = error == ETIMEDOUT; /* the guest's own SYNs go unanswered as long */

	for (size_t i = 0; i < sizeof(connect_errors) / sizeof(connect_errors[0]); i++) {
		if (connect_errors[i].error == error) {
			send_unreachable(shard, flow, &connect_errors[i]);
			silent = true;
		}
	}
	if (silent) {
		tcp_abort(shard, flow, false);
		return;
	}
	flow->tcp.bits |= TCPB_ABORT;
	shard_touch(shard, flow);
}

void tcp_connected(struct shard *shard, struct flow *flow, int error)
{
	struct tcp *tcp = &flow->tcp;

	if (error) {
		connect_failed(shard, flow, error);
		return;
	}
	tcp->state = TCPS_SYN_RCVD;
	tcp->state_due_us = shard->now_us + TCP_CONNECT_US;
	list_remove(&flow->owned);
	list_append(&shard->owned, &flow->owned);
	tcp_attempt_over(shard, flow);
	tcp_window_init(shard, flow);
	if (!send_syn(shard, flow))
		shard_touch(shard, flow);
}

bool tcp_may_reuse(const struct tcp *tcp, const struct frame *frame)
{
	struct tcp_header h;

	if (tcp->state != TCPS_TIME_WAIT)
		return false;
	tcp_header_decode(frame->data + frame->l4_off, (size_t)(frame->payload_off - frame->l4_off),
			  &h);
	if ((h.flags & (TCP_SYN | TCP_ACK | TCP_RST)) != TCP_SYN)
		return false;
	return SEQ_GT(h.seq, tcp->rcv_nxt) || (tcp_is(tcp, TCPB_TS) && h.options.has_ts &&
					       SEQ_GT(h.options.ts_val, tcp->ts_recent));
}

/* Drops from the socket what the guest has acknowledged. */
static void release_acked(struct flow *flow)
{
	struct tcp *tcp = &flow->tcp;
	bool with_fin = tcp_is(tcp, TCPB_HOST_EOF) && SEQ_GT(tcp->snd_una, tcp->fin_seq);
	uint32_t len = (with_fin ? tcp->fin_seq : tcp->snd_una) - tcp->sock_seq;
	ssize_t n;

	if (tcp_is(tcp, TCPB_TX_URGENT) && SEQ_GE(tcp->snd_una, tcp->tx_urgent))
		tcp->bits &= ~(uint32_t)TCPB_TX_URGENT;
	/* One call drops all of it, but that the kernel stops at an urgent byte. */
	for (; len; len -= (uint32_t)n) {
		n = hostsock_discard(flow->fd, len);
		if (n <= 0)
			break;
		tcp->sock_seq += (uint32_t)n;
		/* A peek from an earlier byte on stopped at the urgent one, as often as it tried.
		 */
		if (tcp_is(tcp, TCPB_TX_URGENT))
			tcp->bits &= ~(uint32_t)TCPB_DRAINED;
	}
	if (SEQ_LT(tcp->peek_seq, tcp->sock_seq))
		tcp->peek_seq = tcp->sock_seq;
}

/* What no later event tells again, whatever the state. */
static void note_events(struct flow *flow)
{
	if (flow->events & (EPOLLRDHUP | EPOLLHUP))
		flow->tcp.bits |= TCPB_HOST_RDHUP;
	if (flow->events & EPOLLPRI)
		flow->tcp.bits |= TCPB_HOST_PRI;
	else if (flow->events & EPOLLIN) /* each edge tells all that stands */
		flow->tcp.bits &= ~(uint32_t)TCPB_HOST_PRI;
}

static void take_events(struct flow *flow)
{
	struct tcp *tcp = &flow->tcp;
	uint32_t events = flow->events;

	if (events & (EPOLLIN | EPOLLPRI | EPOLLRDHUP | EPOLLHUP | EPOLLERR))
		tcp->bits &= ~(uint32_t)TCPB_DRAINED;
	/* An edge tells all that is ready: of room only if some was lacking. */
	if (events & (EPOLLOUT | EPOLLHUP | EPOLLERR) && tcp_is(tcp, TCPB_HOST_FULL)) {
		tcp->bits &= ~(uint32_t)TCPB_HOST_FULL;
		tcp->bits |= TCPB_WND_UPDATE;
	}
	if (events & EPOLLERR && hostsock_error(flow->fd))
		tcp->bits |= TCPB_ABORT;
}

/* The guest has closed and all is written: so do we. The FIN is acknowledged when the peer has
 * taken ours. */
static void close_sending(struct shard *shard, struct flow *flow)
{
	struct tcp *tcp = &flow->tcp;
	struct hostsock_info info;
	bool polled = tcp->poll_us && tcp->poll_us <= shard->now_us;
	bool look = flow->events || polled;

	if (polled) /* maybe the window's, of before the FIN */
		tcp->poll_us = 0;
	if (!tcp_is(tcp, TCPB_HOST_SHUT)) {
		if (tcp->host_nxt != tcp->rcv_nxt - 1)
			return;
		hostsock_shutdown_send(flow->fd);
		tcp->bits |= TCPB_HOST_SHUT;
		tcp->poll_step_us = TCP_POLL_MIN_US;
		look = true;
	}
	if (!tcp_is(tcp, TCPB_FIN_HELD) || !look)
		return;
	hostsock_info(flow->fd, &info);
	if (info.ended && hostsock_error(flow->fd)) { /* a reset, of which no event has told yet */
		tcp->bits |= TCPB_ABORT;
		return;
	}
	if (info.fin_acked) {
		tcp->bits &= ~(uint32_t)TCPB_FIN_HELD;
		tcp->bits |= TCPB_ACK_NOW;
		tcp->poll_us = 0;
		return;
	}
	/* The state's change comes as an event; the poll is for kernels that don't report it. */
	tcp->poll_us = shard->now_us + tcp->poll_step_us;
	if (tcp->poll_step_us < TCP_POLL_MAX_US)
		tcp->poll_step_us *= 2;
}

static void arm_persist(struct shard *shard, struct tcp *tcp)
{
	bool stuck =
		!tcp_is(tcp, TCPB_DRAINED | TCPB_HOST_EOF) && !tcp->n_runs && tcp->snd_wnd == 0;

	if (!stuck) {
		tcp->persist_due_us = 0;
		tcp->persist_step_us = 0;
	} else if (!tcp->persist_due_us) {
		tcp->persist_step_us =
			tcp->persist_step_us ? tcp->persist_step_us * 2 : TCP_PERSIST_MIN_US;
		if (tcp->persist_step_us > TCP_RTO_MAX_US)
			tcp->persist_step_us = TCP_RTO_MAX_US;
		tcp->persist_due_us = shard->now_us + tcp->persist_step_us;
	}
}

/* Both halves are closed and all is acknowledged. */
static bool is_finished(const struct tcp *tcp)
{
	const uint32_t all = TCPB_GUEST_FIN | TCPB_HOST_SHUT | TCPB_FIN_ACKED;

	return (tcp->bits & all) == all && !tcp_is(tcp, TCPB_FIN_HELD | TCPB_ACK_NOW);
}

static void finish(struct shard *shard, struct flow *flow)
{
	struct tcp *tcp = &flow->tcp;

	if (!tcp_is(tcp, TCPB_TIME_WAIT)) {
		close_flow(shard, flow);
		return;
	}
	tcp_queue_drop(shard, flow);
	tcp_window_release(shard, flow);
	hostsock_close(flow->fd);
	flow->fd = -1;
	flow->in_epoll = false;
	tcp->state = TCPS_TIME_WAIT;
	tcp->rto_due_us = tcp->tlp_due_us = tcp->reo_due_us = tcp->persist_due_us = tcp->poll_us =
		tcp->idle_due_us = tcp->ack_due_us = 0;
	tcp->state_due_us = shard->now_us + TCP_TIME_WAIT_US;
}

/* The guest is gone, and the peer has still to get all of what it said: nobody hears what the peer
 * says, and that must not keep it from reading. */
static void run_deaf(struct shard *shard, struct flow *flow)
{
	struct tcp *tcp = &flow->tcp;

	hostsock_drain(flow->fd);
	tcp->n_runs = 0;
	tcp->rto_due_us = tcp->tlp_due_us = tcp->reo_due_us = tcp->persist_due_us =
		tcp->ack_due_us = 0;
	if (tcp_is(tcp, TCPB_HOST_SHUT) && !tcp_is(tcp, TCPB_FIN_HELD))
		close_flow(shard, flow);
}

static bool run_open(struct shard *shard, struct flow *flow)
{
	struct tcp *tcp = &flow->tcp;
	bool room;

	take_events(flow);
	if (!tcp_is(tcp, TCPB_ABORT) && tcp_queue_flush(shard, flow))
		tcp->bits |= TCPB_ABORT;
	if (tcp_is(tcp, TCPB_ABORT))
		return end_flow(shard, flow);
	if (tcp_is(tcp, TCPB_GUEST_FIN))
		close_sending(shard, flow);
	flow->events = 0;
	if (tcp->deaf) {
		run_deaf(shard, flow);
		return true;
	}
	release_acked(flow);
	if (tcp_is(tcp, TCPB_GUEST_FIN))
		tcp_window_reserve(shard, flow);
	else if (tcp_window_update(shard, flow))
		tcp->bits |= TCPB_ACK_NOW;
	room = tcp_send_data(shard, flow);
	if (room && tcp_is(tcp, TCPB_ACK_NOW))
		room = tcp_send_control(shard, flow, tcp->snd_nxt, TCP_ACK);
	if (tcp_is(tcp, TCPB_ABORT))
		return end_flow(shard, flow);
	tcp_recovery_timers(shard, flow);
	arm_persist(shard, tcp);
	if (is_finished(tcp))
		finish(shard, flow);
	return room;
}

/* Before the handshake with the guest is complete only the host's end is of interest. */
static bool run_handshake(struct shard *shard, struct flow *flow)
{
	/* An error is told once: what comes behind it is none of a connection. */
	uint32_t events = tcp_is(&flow->tcp, TCPB_ABORT) ? 0 : flow->events;

	flow->events = 0;
	if (flow->tcp.state == TCPS_CONNECTING) {
		if (events & (EPOLLERR | EPOLLHUP | EPOLLOUT)) {
			/* Writable, and nothing else: connected. */
			int error = events & (EPOLLERR | EPOLLHUP) ? hostsock_error(flow->fd) : 0;

			/* On the host's own addresses a port that nobody listens on may be the one
			 * that connect() chose. */
			if (!error && (!(events & EPOLLOUT) ||
				       hostsock_is_own(flow->fd, flow->key.peer_port)))
				error = ECONNREFUSED;
			tcp_connected(shard, flow, error);
		}
	} else if (events & (EPOLLERR | EPOLLHUP)) {
		flow->tcp.bits |= TCPB_ABORT;
	}
	if (flow->closed)
		return true;
	list_remove(&flow->touched); /* done here */
	if (tcp_is(&flow->tcp, TCPB_ABORT))
		return end_flow(shard, flow);
	if (tcp_is(&flow->tcp, TCPB_SYN_DUE))
		return send_syn(shard, flow);
	return !tcp_is(&flow->tcp, TCPB_ACK_NOW) ||
	       tcp_send_control(shard, flow, flow->tcp.snd_nxt, TCP_ACK);
}

/* Whether there is something to do though the guest's side may have no room: what the guest sent
 * goes on to the socket, whose end is noticed. */
static bool needs_no_room(const struct flow *flow)
{
	const struct tcp *tcp = &flow->tcp;

	if (tcp->state != TCPS_OPEN || tcp_is(tcp, TCPB_ABORT) ||
	    flow->events & (EPOLLERR | EPOLLHUP | EPOLLRDHUP))
		return true;
	return tcp->host_nxt + (tcp_is(tcp, TCPB_HOST_SHUT) ? 1 : 0) != tcp->rcv_nxt &&
	       (flow->events & EPOLLOUT || !tcp_is(tcp, TCPB_HOST_FULL));
}

void tcp_touch(struct shard *shard, struct flow *flow)
{
	if (needs_no_room(flow))
		list_remove(&flow->touched); /* from those that wait */
	shard_touch(shard, flow);
}

bool tcp_run(struct shard *shard, struct flow *flow)
{
	bool room = true;

	if (flow->closed)
		return true;
	note_events(flow);
	if (tcp_is(&flow->tcp, TCPB_DEAD))
		close_flow(shard, flow);
	else if (flow->tcp.state == TCPS_OPEN)
		room = run_open(shard, flow);
	else if (flow->tcp.state != TCPS_TIME_WAIT)
		room = run_handshake(shard, flow);
	if (flow->closed)
		return room;
	tcp_arm(shard, flow);
	if (flow->tcp.state == TCPS_TIME_WAIT && list_is_empty(&flow->touched))
		list_append(&shard->time_wait, &flow->touched);
	return room;
}

bool tcp_may_move(const struct tcp *tcp)
{
	return tcp->state == TCPS_OPEN && !tcp->gather_first;
}

void tcp_leave(struct shard *shard, struct flow *flow)
{
	tcp_window_release(shard, flow);
}

void tcp_join(struct shard *shard, struct flow *flow)
{
	tcp_window_reserve(shard, flow);
}

/* An entry comes back after a grace period only: some are kept until then. */
static bool is_nearly_full(const struct shard *shard)
{
	return shard->flows_in_use >= shard->n_flows - shard->n_flows / 8;
}

bool tcp_recycle_ended(struct shard *shard)
{
	struct list *node;

	if (!is_nearly_full(shard) || !(node = list_take(&shard->time_wait)))
		return false;
	close_flow(shard, LIST_ENTRY(node, struct flow, touched));
	return true;
}

void tcp_recycle(struct shard *shard)
{
	if (!tcp_recycle_ended(shard) && is_nearly_full(shard))
		tcp_drop_connecting(shard);
}
