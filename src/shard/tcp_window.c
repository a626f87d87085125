/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The window offered to the guest: what the socket's send buffer takes for sure, and the flow's
 * share of the pool. Without the share the send buffer would never be full, and the kernel only
 * lets a buffer grow whose owner has met its end. What goes beyond the send buffer is reserved in
 * the pool, so that payload inside the window always finds room.
 */
#include "tcp_internal.h"

#define GUEST_QUEUE_FRAMES 700u /* of the 1,000 that a tap device's queue has by default */
#define GUEST_QUEUE_LEAST  32u	/* frames per flow, however many there are */
#define SYN_WINDOW_MAX	   65535u
#define BULK_PERIOD_SHIFT                                                                          \
	17	     /* 131 ms, of microseconds; an odd number of them, so that 0 is none          \
		      */
#define BULK_BITS 12 /* of a shard's count of flows that send much */

static uint32_t min_u32(uint32_t a, uint32_t b)
{
	return a < b ? a : b;
}

static uint32_t max_u32(uint32_t a, uint32_t b)
{
	return a > b ? a : b;
}

/*
 * What the socket takes of what comes. One that was full says that it has room when a third of its
 * buffer is free; until then what comes in order goes to the pool, whatever room there is.
 */
static uint32_t room_left(const struct tcp *tcp)
{
	if (tcp_is(tcp, TCPB_HOST_FULL))
		return 0;
	return tcp->send_room > tcp->given ? tcp->send_room - tcp->given : 0;
}

/* The bytes of the pool that this flow may be promised: less as the pool fills, so that all get
 * some. */
static uint32_t share_of(const struct shard *shard, const struct tcp *tcp)
{
	uint64_t left = pool_unpromised(&shard->pool) + tcp->reserved;

	if (left < POOL_DATA)
		return 0;
	return left / 16 > tcp->share ? tcp->share : (uint32_t)(left / 16);
}

/*
 * What comes from a guest in one of its round trips, twice: that much must be offered, or the guest
 * waits for us instead of for its path. The send buffer does not show it: the host's kernel lets
 * that grow for the host's path only. A guest on this machine gains nothing by more.
 */
static void follow_path(const struct shard *shard, struct tcp *tcp)
{
	uint32_t past = (uint32_t)shard->now_us - tcp->round_us;
	uint64_t used = tcp->rcv_nxt - tcp->round_seq;

	/* 0 is a round trip that was never measured. */
	if (!past || past < tcp->min_rtt_us)
		return;
	used = 2 * used * tcp->min_rtt_us / past;
	if (tcp->min_rtt_us >= TCP_FAR_US && used > tcp->share)
		tcp->share = used < TCP_SHARE_MAX ? (uint32_t)used : TCP_SHARE_MAX;
	tcp->round_seq = tcp->rcv_nxt;
	tcp->round_us = (uint32_t)shard->now_us;
}

/* Payload in order that the socket has not taken yet. */
static uint32_t backlog(const struct tcp *tcp)
{
	return tcp->rcv_nxt - tcp->host_nxt - (tcp_is(tcp, TCPB_GUEST_FIN) ? 1 : 0);
}

static void reserve(struct shard *shard, struct tcp *tcp)
{
	uint32_t room = room_left(tcp);
	uint32_t open = SEQ_GT(tcp->rcv_adv, tcp->rcv_nxt) ? tcp->rcv_adv - tcp->rcv_nxt : 0;
	uint32_t need = open > room ? open - room : 0;

	if (tcp_is(tcp, TCPB_GUEST_FIN)) /* what is queued is in the pool already */
		need = 0;
	/* However little it is, a chunk of its own may be what it takes. */
	need = (need + POOL_DATA - 1) / POOL_DATA * POOL_DATA;
	shard->pool.reserved += need;
	shard->pool.reserved -= tcp->reserved;
	tcp->reserved = need;
}

static void ask_socket(struct flow *flow)
{
	struct tcp *tcp = &flow->tcp;
	struct hostsock_info info;

	tcp->send_room = hostsock_room(flow->fd);
	tcp->given = 0;
	if (!tcp_is(tcp, TCPB_ECN))
		return;
	/* Congestion on the host's path is told to the guest, which is the one that can send less.
	 */
	hostsock_info(flow->fd, &info);
	if (info.delivered_ce != tcp->delivered_ce)
		tcp->bits |= TCPB_ECE;
	tcp->delivered_ce = info.delivered_ce;
}

/* Tells the other shards how many flows of this one send much. */
static void show_bulk(struct shard *shard)
{
	uint32_t flows = max_u32(shard->bulk_before, shard->bulk_flows);
	uint32_t number = shard->bulk_period >> 1;

	atomic_store_explicit(&shard->bulk_shown,
			      number << BULK_BITS | min_u32(flows, (1u << BULK_BITS) - 1),
			      memory_order_relaxed);
}

/* Counts a flow once per period as one of those that send much. */
static void note_bulk(struct shard *shard, struct tcp *tcp)
{
	uint32_t period = 2 * (uint32_t)(shard->now_us >> BULK_PERIOD_SHIFT) + 1;
	bool is_new = tcp->bulk_period != period;

	if (shard->bulk_period != period) {
		shard->bulk_before = shard->bulk_period + 2 == period ? shard->bulk_flows : 0;
		shard->bulk_flows = 0;
		shard->bulk_period = period;
	}
	if (!is_new)
		return;
	shard->bulk_flows++;
	tcp->bulk_period = period;
	show_bulk(shard);
}

/* The flows of all shards that sent much in this period or the one before. */
static uint32_t bulk_flows(const struct shard *shard)
{
	const struct runtime *rt = shard->rt;
	uint32_t number = shard->bulk_period >> 1, flows = 0;

	for (unsigned int i = 0; i < rt->n_shards; i++) {
		uint32_t shown =
			atomic_load_explicit(&rt->shards[i]->bulk_shown, memory_order_relaxed);
		uint32_t age = (number << BULK_BITS) - (shown & ~((1u << BULK_BITS) - 1));

		/* Clocks of shards differ by a turn: one may be a period ahead. */
		if (age + (1u << BULK_BITS) <= 2u << BULK_BITS)
			flows += shown & ((1u << BULK_BITS) - 1);
	}
	return max_u32(flows, 1);
}

/*
 * What the guest's own queue holds of one flow: a guest on the stream may be a tap device, which
 * drops what does not fit. The flows that send share it, whichever shard has them.
 */
static uint32_t guest_queue_share(const struct shard *shard, const struct tcp *tcp)
{
	if (shard->rt->config->mode != MODE_STREAM)
		return UINT32_MAX;
	return max_u32(GUEST_QUEUE_FRAMES / bulk_flows(shard), GUEST_QUEUE_LEAST) * tcp->mss;
}

static uint32_t window_of(const struct shard *shard, const struct tcp *tcp)
{
	/* What is on a long way to us is not in the guest's queue. */
	uint32_t most = min_u32(TCP_WINDOW_MAX, guest_queue_share(shard, tcp)) + tcp->share -
			TCP_SHARE_LEAST;
	uint32_t window = min_u32(room_left(tcp) + share_of(shard, tcp), most);
	uint32_t waiting = backlog(tcp);

	/* What the header can't express would look like news, and be told again and again. */
	window = min_u32(window, 65535u << tcp->rcv_shift);
	return window > waiting ? window - waiting : 0;
}

void tcp_window_init(struct shard *shard, struct flow *flow)
{
	struct tcp *tcp = &flow->tcp;

	tcp->share = TCP_SHARE_LEAST;
	tcp->round_seq = tcp->rcv_nxt;
	tcp->round_us = (uint32_t)shard->now_us;
	ask_socket(flow);
	tcp->rcv_adv = tcp->rcv_nxt + min_u32(window_of(shard, tcp), SYN_WINDOW_MAX);
	reserve(shard, tcp);
}

/*
 * How much may be open for nothing new to be learnt: half of the socket's room. A flow to which no
 * more was promised than a SYN can say gets more when a quarter of that is used: most never need
 * it, and what is promised to one is kept from others.
 */
static uint32_t enough_open(const struct tcp *tcp)
{
	uint32_t enough = tcp->send_room / 2;

	return tcp_is(tcp, TCPB_WIDE) ? enough : min_u32(enough, SYN_WINDOW_MAX / 4 * 3);
}

bool tcp_window_update(struct shard *shard, struct flow *flow)
{
	struct tcp *tcp = &flow->tcp;
	uint32_t open = SEQ_GT(tcp->rcv_adv, tcp->rcv_nxt) ? tcp->rcv_adv - tcp->rcv_nxt : 0;
	uint32_t offered = tcp->last_ack + tcp->last_wnd - tcp->rcv_nxt;
	uint32_t window;

	/* While little of what was offered is used, nothing new is to be learnt. */
	if (!tcp_is(tcp, TCPB_WND_UPDATE) && tcp->given < tcp->send_room / 4 &&
	    open > enough_open(tcp)) {
		reserve(shard, tcp);
		return false;
	}
	tcp->bits &= ~(uint32_t)TCPB_WND_UPDATE;
	note_bulk(shard, tcp);
	follow_path(shard, tcp);
	ask_socket(flow);
	window = window_of(shard, tcp);
	/* RFC 9293 3.8.6.2.2: no silly windows (a large MSS may be more than there ever is), and no
	 * edge that goes back. */
	if (window >= open + min_u32(tcp->mss, (window + backlog(tcp)) / 2)) {
		tcp->rcv_adv = tcp->rcv_nxt + window;
		tcp->bits |= TCPB_WIDE;
	}
	reserve(shard, tcp);
	if ((int32_t)offered < 0)
		offered = 0;
	open = SEQ_GT(tcp->rcv_adv, tcp->rcv_nxt) ? tcp->rcv_adv - tcp->rcv_nxt : 0;
	/* A socket that refused nothing tells of no room: it is asked. */
	tcp->poll_us = open < min_u32(tcp->mss, SYN_WINDOW_MAX / 4) && !backlog(tcp) &&
				       !tcp_is(tcp, TCPB_HOST_FULL)
			       ? shard->now_us + TCP_PERSIST_MIN_US
			       : 0;
	return open > offered && open - offered >= min_u32(2u * tcp->mss, open / 2 + 1);
}

void tcp_window_reserve(struct shard *shard, struct flow *flow)
{
	reserve(shard, &flow->tcp);
}

void tcp_window_release(struct shard *shard, struct flow *flow)
{
	shard->pool.reserved -= flow->tcp.reserved;
	flow->tcp.reserved = 0;
}
