/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Four shards with their threads, a reader that hands frames out by the steering table, and buckets
 * that move all the time. Every flow carries a known sequence of bytes over a real socket, which is
 * often full, so that flows have chunks in a pool as they move. Nothing may be lost, repeated or
 * overtaken: the shards must not see a single segment out of order. The flows are the guest's, or
 * connections to a forwarded port, accepted while the buckets move.
 *
 * links: tap
 */
#include "handover.h"
#include "threaded_tx.h"

#include "l3.h"
#include "taploom/bytes.h"

#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#define SHARDS	    4
#define FLOWS	    16 /* at a time */
#define ROUNDS	    6
#define FLOW_BYTES  (256u << 10)
#define SEGMENT_MAX 1400u
#define SLABS	    8
#define SLAB_FRAMES 64
#define FIRST_PORT  4000
#define GUEST_PORT  80 /* that is forwarded to */
#define RECV_BUFFER 4096

static const uint8_t guest4[] = { 10, 0, 0, 2 }, host4[] = { 10, 0, 0, 1 };

/* The guest's end of a flow; what frames to it say is noted by shards, under the lock. */
struct guest_flow {
	uint16_t guest_port, peer_port;
	uint32_t iss, seq; /* seq: the next to be sent */
	uint32_t peer_seq;
	uint32_t acked, window_end;
	bool answered;
	bool called; /* a SYN of the peer has come */
	int peer_fd; /* the socket that the host's end is connected to */
	uint32_t received;
};

struct read_slab {
	struct slab slab;
	struct frame frames[SLAB_FRAMES];
	uint8_t bytes[SLAB_FRAMES][SEGMENT_MAX + 64];
};

struct world {
	struct runtime rt;
	struct config config;
	struct netconf net;
	struct guest_tx txs[SHARDS];
	struct read_slab slabs[SLABS];
	struct counters counters;
	struct handover handover;
	pthread_t threads[SHARDS];
	pthread_mutex_t lock;
	struct guest_flow flows[FLOWS];
	uint16_t first_port; /* of this round's flows */
	uint16_t host_port;
	uint16_t forwarded_port;
	struct listener *listener;
	int listen_fd;
	unsigned int seed;
};

/* Frames to the guest */

static void note(struct guest_flow *flow, const struct tcp_header *h)
{
	uint32_t end = h->ack + h->window; /* no scale, as our SYN had none */

	if (h->flags & TCP_SYN) {
		flow->peer_seq = h->seq + 1;
		flow->answered = true;
	}
	if (SEQ_GT(h->ack, flow->acked))
		flow->acked = h->ack;
	if (SEQ_GT(end, flow->window_end))
		flow->window_end = end;
}

static void note_call(struct guest_flow *flow, const struct tcp_header *h)
{
	flow->called = true;
	flow->peer_seq = h->seq + 1;
}

static void guest_frame(struct world *w, const struct guest_tx *tx, const struct tcp_header *h)
{
	(void)tx;
	pthread_mutex_lock(&w->lock);
	for (unsigned int i = 0; i < FLOWS; i++) {
		struct guest_flow *flow = &w->flows[i];

		if (flow->guest_port != h->dst_port || flow->peer_port != h->src_port ||
		    h->flags & TCP_RST)
			continue;
		if (h->flags & TCP_ACK)
			note(flow, h);
		else if (h->flags & TCP_SYN)
			note_call(flow, h);
	}
	pthread_mutex_unlock(&w->lock);
}

/* Frames from the guest: this thread is the reader. */

static void release(struct slab *slab)
{
	(void)slab; /* free while refs is 0 */
}

static bool is_idle(const void *transport)
{
	const struct world *w = transport;

	for (unsigned int i = 0; i < SLABS; i++)
		if (atomic_load_explicit(&w->slabs[i].slab.refs, memory_order_acquire))
			return false;
	return true;
}

static unsigned int pick(struct world *w, unsigned int n)
{
	w->seed = w->seed * 1103515245u + 12345u;
	return (w->seed >> 16) % n;
}

static uint8_t byte_of(unsigned int flow, uint32_t position)
{
	return (uint8_t)(position * 31 + (position >> 8) + flow);
}

static struct read_slab *take_slab(struct world *w)
{
	for (;;) {
		for (unsigned int i = 0; i < SLABS; i++) {
			struct read_slab *rs = &w->slabs[i];

			if (atomic_load_explicit(&rs->slab.refs, memory_order_acquire))
				continue;
			atomic_store_explicit(&rs->slab.refs, 1, memory_order_relaxed);
			return rs;
		}
		rcu_quiescent_state();
		sched_yield();
	}
}

/* Puts one segment of a flow into a slab's next frame. */
static void put_segment(struct world *w, struct read_slab *rs, unsigned int *n, unsigned int i,
			uint8_t flags, uint32_t len) ON_READER
{
	struct guest_flow *flow = &w->flows[i];
	struct l3 l3 = { .src_mac = { { 2, 0, 0, 0, 0, 1 } },
			 .src = ip4_addr_of(guest4),
			 .dst = ip4_addr_of(host4),
			 .proto = IPPROTO_TCP,
			 .ttl = 64 };
	struct tcp_header h = { .src_port = flow->guest_port,
				.dst_port = flow->peer_port,
				.seq = flow->seq,
				.ack = flow->peer_seq,
				.flags = flags,
				.window = 60000 };
	uint8_t *bytes = rs->bytes[*n];
	struct frame *frame = &rs->frames[*n];

	l3_write(bytes, &l3, TCP_HEADER_LEN + len);
	tcp_header_encode(bytes + 34, &h);
	for (uint32_t k = 0; k < len; k++)
		bytes[54 + k] = byte_of(i, flow->seq - flow->iss - 1 + k);
	flow->seq += len + (flags & TCP_SYN ? 1 : 0);
	assert_int_equal(frame_parse(frame, bytes, 54 + len,
				     (struct frame_offload){ .csum_unchecked = true },
				     &w->rt.secret),
			 DROP_NONE);
	frame->queue = 0;
	handover_add(&w->handover, frame);
	(*n)++;
}

/* How much of a flow may be sent now. */
static uint32_t may_send(struct world *w, unsigned int i)
{
	struct guest_flow *flow = &w->flows[i];
	uint32_t left = flow->iss + 1 + FLOW_BYTES - flow->seq, room;

	pthread_mutex_lock(&w->lock);
	room = SEQ_GT(flow->window_end, flow->seq) ? flow->window_end - flow->seq : 0;
	pthread_mutex_unlock(&w->lock);
	room = room < left ? room : left;
	return room < SEGMENT_MAX ? room : SEGMENT_MAX;
}

/* A read that brings some segments of some flows, in runs of any length. */
static void read_once(struct world *w) ON_READER
{
	struct read_slab *rs = take_slab(w);
	unsigned int n = 0, wanted = 1 + pick(w, SLAB_FRAMES);

	for (unsigned int tries = 0; n < wanted && tries < 2 * FLOWS; tries++) {
		unsigned int i = pick(w, FLOWS), run = 1 + pick(w, 12);
		uint32_t len;

		for (; run && n < wanted && (len = may_send(w, i)); run--)
			put_segment(w, rs, &n, i, TCP_ACK, 1 + pick(w, len));
	}
	handover_run(&w->handover, &rs->slab, pick(w, 2));
	slab_put(&rs->slab);
	rcu_quiescent_state();
}

static void move_buckets(struct world *w) ON_READER
{
	uint8_t table[STEERING_BUCKETS];

	for (unsigned int b = 0; b < STEERING_BUCKETS; b++)
		table[b] = (uint8_t)pick(w, SHARDS);
	handover_steer(&w->handover, table);
}

/* The host's peers */

/* Reads some of what has come, and checks it. Whether all of the flow was there. */
static bool receive(struct guest_flow *flow, unsigned int i)
{
	uint8_t data[3000];
	ssize_t n = recv(flow->peer_fd, data, sizeof(data), MSG_DONTWAIT);

	for (ssize_t k = 0; k < n; k++)
		assert_int_equal(data[k], byte_of(i, flow->received + (uint32_t)k));
	flow->received += n > 0 ? (uint32_t)n : 0;
	return flow->received == FLOW_BYTES;
}

static bool receive_all(struct world *w)
{
	bool done = true;

	for (unsigned int i = 0; i < FLOWS; i++)
		done &= receive(&w->flows[i], i);
	return done;
}

/* Flows of ports that were not used before. */
static void begin_round(struct world *w)
{
	pthread_mutex_lock(&w->lock);
	w->first_port += FLOWS;
	for (unsigned int i = 0; i < FLOWS; i++) {
		uint32_t iss = 1000 * i;

		w->flows[i] = (struct guest_flow){ .guest_port = (uint16_t)(w->first_port + i),
						   .peer_port = w->host_port,
						   .iss = iss,
						   .seq = iss,
						   .acked = iss,
						   .window_end = iss,
						   .peer_fd = -1 };
	}
	pthread_mutex_unlock(&w->lock);
}

static bool is_answered(struct world *w, unsigned int i)
{
	bool answered;

	pthread_mutex_lock(&w->lock);
	answered = w->flows[i].answered;
	pthread_mutex_unlock(&w->lock);
	return answered;
}

/* One after the other, so that each accepted socket is known. */
static void open_flow(struct world *w, unsigned int i) ON_READER
{
	struct read_slab *rs = take_slab(w);
	unsigned int n = 0;

	put_segment(w, rs, &n, i, TCP_SYN, 0);
	handover_run(&w->handover, &rs->slab, false);
	slab_put(&rs->slab);
	rcu_thread_offline();
	w->flows[i].peer_fd = accept(w->listen_fd, NULL, NULL);
	assert_true(w->flows[i].peer_fd >= 0);
	while (!is_answered(w, i))
		sched_yield();
	rcu_thread_online();
	rs = take_slab(w);
	n = 0;
	put_segment(w, rs, &n, i, TCP_ACK, 0);
	handover_run(&w->handover, &rs->slab, false);
	slab_put(&rs->slab);
}

/* A peer connects to the forwarded port, from a port that the guest's side knows before. */
static void call(struct world *w, unsigned int i)
{
	struct sockaddr_in sin = { .sin_family = AF_INET,
				   .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof(sin);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), size = RECV_BUFFER;

	setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof(size));
	assert_int_equal(bind(fd, (struct sockaddr *)&sin, sizeof(sin)), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&sin, &len), 0);
	pthread_mutex_lock(&w->lock);
	w->flows[i].guest_port = GUEST_PORT;
	w->flows[i].peer_port = ntohs(sin.sin_port);
	w->flows[i].peer_fd = fd;
	pthread_mutex_unlock(&w->lock);
	sin.sin_port = htons(w->forwarded_port);
	assert_true(connect(fd, (struct sockaddr *)&sin, sizeof(sin)) == 0 || errno == EINPROGRESS);
}

/* Whether a peer's SYN waits for its answer. */
static bool was_called(struct world *w, unsigned int i)
{
	bool waits;

	pthread_mutex_lock(&w->lock);
	waits = w->flows[i].called && w->flows[i].seq == w->flows[i].iss;
	pthread_mutex_unlock(&w->lock);
	return waits;
}

/* Answers the SYNs that have come. */
static void answer_calls(struct world *w) ON_READER
{
	struct read_slab *rs = take_slab(w);
	unsigned int n = 0;

	for (unsigned int i = 0; i < FLOWS; i++)
		if (was_called(w, i))
			put_segment(w, rs, &n, i, TCP_SYN | TCP_ACK, 0);
	handover_run(&w->handover, &rs->slab, pick(w, 2));
	slab_put(&rs->slab);
}

static int listen_on_loopback(uint16_t *port)
{
	struct sockaddr_in sin = { .sin_family = AF_INET,
				   .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	const int size = RECV_BUFFER;
	socklen_t len = sizeof(sin);
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof(size));
	assert_int_equal(bind(fd, (struct sockaddr *)&sin, sizeof(sin)), 0);
	assert_int_equal(listen(fd, 1), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&sin, &len), 0);
	*port = ntohs(sin.sin_port);
	return fd;
}

/* One that was free a moment ago: a listener of no address takes a number, not "any". */
static uint16_t free_port(void)
{
	uint16_t port;

	close(listen_on_loopback(&port));
	return port;
}

static int setup(void **state)
{
	struct world *w = calloc(1, sizeof(*w));

	w->config = (struct config){ .mtu = 1500, .flows = 1024, .pool_bytes = 64 << 20 };
	w->net.v[IP4] = (struct netconf_version){ .on = true,
						  .addr = ip4_addr_of(guest4),
						  .map_host_loopback = ip4_addr_of(host4) };
	w->rt.config = &w->config;
	w->rt.n_shards = SHARDS;
	w->rt.n_readers = 1;
	w->rt.netconf_rcu = &w->net;
	w->rt.tables[0].in_use = true;
	w->rt.steering_rcu = &w->rt.tables[0];
	w->seed = 1;
	w->first_port = FIRST_PORT;
	pthread_mutex_init(&w->lock, NULL);
	w->listen_fd = listen_on_loopback(&w->host_port);
	rcu_register_thread();
	for (unsigned int i = 0; i < SLABS; i++)
		w->slabs[i].slab.release = release;
	handover_init(&w->handover, &w->rt, &w->counters, is_idle, w);
	for (unsigned int i = 0; i < SHARDS; i++) {
		w->txs[i].tx.ops = &ops;
		w->txs[i].world = w;
		assert_int_equal(shard_new(&w->rt.shards[i], &w->rt, i, &w->txs[i].tx), 0);
	}
	role_is_control();
	w->forwarded_port = free_port();
	assert_int_equal(shards_listen(&w->rt, IPPROTO_TCP,
				       &(struct port_map){ .first = w->forwarded_port,
							   .last = w->forwarded_port,
							   .target = GUEST_PORT },
				       w->forwarded_port, &w->listener),
			 0);
	for (unsigned int i = 0; i < SHARDS; i++)
		assert_int_equal(pthread_create(&w->threads[i], NULL, shard_main, w->rt.shards[i]),
				 0);
	*state = w;
	return 0;
}

static int teardown(void **state)
{
	struct world *w = *state;

	for (unsigned int i = 0; i < SHARDS; i++)
		shard_stop(w->rt.shards[i]);
	for (unsigned int i = 0; i < SHARDS; i++)
		pthread_join(w->threads[i], NULL);
	shards_reset_flows(&w->rt);
	role_is_control();
	shards_unlisten_all(&w->rt);
	shards_free_listeners(&w->rt);
	assert_int_equal(atomic_load(&w->rt.moving), 0);
	assert_true(is_idle(w));
	rcu_barrier();
	for (unsigned int i = 0; i < SHARDS; i++) {
		pool_collect(&w->rt.shards[i]->pool);
		assert_int_equal(w->rt.shards[i]->pool.n_used, 0);
		assert_int_equal(w->rt.shards[i]->pool.reserved, 0);
		shard_free(w->rt.shards[i]);
	}
	rcu_unregister_thread();
	close(w->listen_fd);
	free(w);
	return 0;
}

static uint64_t count(const struct world *w, enum counter id)
{
	uint64_t n = 0;

	for (unsigned int i = 0; i < SHARDS; i++)
		n += counter_get(shard_counters(w->rt.shards[i]), id);
	return n;
}

static uint64_t dropped(const struct world *w)
{
	uint64_t n = 0;

	for (unsigned int i = 0; i < SHARDS; i++)
		for (unsigned int d = 1; d < DROP_COUNT; d++)
			n += atomic_load(&shard_counters(w->rt.shards[i])->drop[d]);
	return n;
}

static void assert_in_order(const struct world *w)
{
	assert_int_equal(count(w, COUNT_TCP_OUT_OF_ORDER), 0);
	assert_int_equal(count(w, COUNT_TCP_DUP_RX), 0);
	assert_int_equal(dropped(w), 0);
	assert_int_equal(atomic_load(&w->counters.drop[DROP_RING_FULL]), 0);
}

static void flows_whose_buckets_move_all_the_time_lose_repeat_and_reorder_nothing(void **state)
{
	struct world *w = *state;

	role_is_reader();
	for (unsigned int round = 0; round < ROUNDS; round++) {
		begin_round(w);
		for (unsigned int i = 0; i < FLOWS; i++)
			open_flow(w, i);
		for (bool done = false; !done;) {
			read_once(w);
			if (pick(w, 8) == 0)
				move_buckets(w);
			done = receive_all(w);
		}
		for (unsigned int i = 0; i < FLOWS; i++)
			close(w->flows[i].peer_fd);
		assert_in_order(w);
	}
	assert_true(count(w, COUNT_FLOWS_MOVED) > ROUNDS);
	assert_true(count(w, COUNT_FRAMES_HELD) > 0);
}

static void connections_accepted_while_buckets_move_lose_repeat_and_reorder_nothing(void **state)
{
	struct world *w = *state;

	role_is_reader();
	for (unsigned int round = 0; round < ROUNDS; round++) {
		unsigned int n_called = 0;

		begin_round(w);
		for (bool done = false; !done;) {
			if (n_called < FLOWS && pick(w, 3) == 0)
				call(w, n_called++);
			if (pick(w, 3) == 0)
				move_buckets(w);
			answer_calls(w);
			read_once(w);
			done = receive_all(w) && n_called == FLOWS;
		}
		for (unsigned int i = 0; i < FLOWS; i++)
			close(w->flows[i].peer_fd);
		assert_in_order(w);
	}
	assert_int_equal(count(w, COUNT_FLOWS_REFUSED), 0);
	assert_int_equal(count(w, COUNT_ACCEPTED), ROUNDS * FLOWS);
	assert_true(count(w, COUNT_FLOWS_MOVED) > ROUNDS);
}

static void flows_that_are_reset_while_they_move_leave_nothing_behind(void **state)
{
	struct world *w = *state;

	role_is_reader();
	for (unsigned int round = 0; round < ROUNDS; round++) {
		begin_round(w);
		for (unsigned int i = 0; i < FLOWS; i++)
			open_flow(w, i);
		for (unsigned int i = 0; i < 40; i++) {
			read_once(w);
			if (i % 4 == 0)
				move_buckets(w);
		}
		handover_settle(&w->handover);
		shards_reset_flows(&w->rt); /* the guest has gone */
		assert_int_equal(count(w, COUNT_FLOWS_OPENED), count(w, COUNT_FLOWS_CLOSED));
		for (unsigned int i = 0; i < FLOWS; i++)
			close(w->flows[i].peer_fd);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(
			flows_whose_buckets_move_all_the_time_lose_repeat_and_reorder_nothing,
			setup, teardown),
		cmocka_unit_test_setup_teardown(
			connections_accepted_while_buckets_move_lose_repeat_and_reorder_nothing,
			setup, teardown),
		cmocka_unit_test_setup_teardown(
			flows_that_are_reset_while_they_move_leave_nothing_behind, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
