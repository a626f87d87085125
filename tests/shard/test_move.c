/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Two shards with their threads, each the reader of its own queue, and a guest whose flow changes
 * the queue, or whose device has the queue follow the shard that writes: the flow is handed on,
 * moves, and nothing is lost, repeated or overtaken. The host's side is a real socket on loopback.
 *
 * links: tap
 */
#include "threaded_tx.h"

#include "l3.h"
#include "taploom/bytes.h"
#include "taploom/checksum.h"

#include <arpa/inet.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#define SHARDS	     2
#define QUEUE_FRAMES 256
#define SEGMENT	     100
#define FOLLOWING    SHARDS /* as a queue: that of the shard that wrote last */
#define READ_FRAMES  8	    /* with one read, so that older frames wait on a queue */

/* Frames that wait on a queue; the slab is the source's. */
struct queue {
	struct shard_source source;
	pthread_mutex_t lock;
	uint8_t bytes[QUEUE_FRAMES][256];
	size_t len[QUEUE_FRAMES];
	unsigned int n;
	unsigned int index;
	struct runtime *rt;
	bool offer; /* the flow of the next frame is offered to the other shard */
};

struct read_slab {
	struct slab slab;
	struct frame frames[QUEUE_FRAMES];
	uint8_t bytes[QUEUE_FRAMES][256];
};

/* What the guest has been sent of its one flow. */
struct guest {
	pthread_mutex_t lock;
	uint32_t iss, seq; /* of what we sent: seq is the next */
	uint32_t peer_seq; /* next expected */
	uint32_t acked;
	bool open;
	uint16_t port;
	unsigned int queue; /* of the shard that wrote last */
};

struct world {
	struct runtime rt;
	struct config config;
	struct netconf net;
	struct steering steering;
	struct guest_tx txs[SHARDS];
	struct queue queues[SHARDS];
	struct guest guest;
	pthread_t threads[SHARDS];
	int listen_fd, peer_fd;
};

static void guest_frame(struct world *w, const struct guest_tx *tx, const struct tcp_header *h)
{
	pthread_mutex_lock(&w->guest.lock);
	w->guest.queue = (unsigned int)(tx - w->txs);
	if (h->flags & TCP_SYN) {
		w->guest.peer_seq = h->seq + 1;
		w->guest.open = true;
	}
	if (h->flags & TCP_ACK && (SEQ_GT(h->ack, w->guest.acked)))
		w->guest.acked = h->ack;
	pthread_mutex_unlock(&w->guest.lock);
}

static void release(struct slab *slab)
{
	free(slab->owner);
}

/* Offers the flow of a frame to the other shard. */
static void offer(struct shard *shard, const struct frame *frame)
{
	struct flow *flow = flow_find(shard->rt, &frame->key, frame->hash);

	assert_non_null(flow);
	assert_true(move_offer(shard, flow, !shard->id));
}

/* Frames that were read go; the others come to the front. */
static void shift(struct queue *q, unsigned int n)
{
	q->n -= n;
	memmove(q->bytes, q->bytes + n, q->n * sizeof(q->bytes[0]));
	memmove(q->len, q->len + n, q->n * sizeof(q->len[0]));
}

static bool read_queue(struct shard_source *source, struct shard *shard)
{
	struct queue *q = (struct queue *)(void *)source;
	struct read_slab *rs = calloc(1, sizeof(*rs));
	struct batch batch = { .slab = &rs->slab };
	unsigned int n_frames;
	bool more, with_offer;
	eventfd_t n;

	role_is_shard();
	rs->slab = (struct slab){ .refs = 1, .release = release, .owner = rs };
	pthread_mutex_lock(&q->lock);
	eventfd_read(source->fd, &n);
	n_frames = q->n < READ_FRAMES ? q->n : READ_FRAMES;
	for (unsigned int i = 0; i < n_frames; i++) {
		memcpy(rs->bytes[i], q->bytes[i], q->len[i]);
		if (frame_parse(&rs->frames[i], rs->bytes[i], q->len[i],
				(struct frame_offload){ .csum_unchecked = true },
				&q->rt->secret) == DROP_NONE) {
			rs->frames[i].queue = (uint16_t)q->index;
			batch_add(&batch, &rs->frames[i]);
		}
	}
	shift(q, n_frames);
	more = q->n > 0;
	if (more)
		eventfd_write(source->fd, 1);
	with_offer = q->offer && batch.n_frames;
	q->offer = q->offer && !with_offer;
	pthread_mutex_unlock(&q->lock);
	if (with_offer)
		offer(shard, batch.first);
	shard_run_batch(shard, &batch);
	return more;
}

/* Locks a queue that has room; for FOLLOWING, that of the shard that wrote last, which must not
 * change before the frame is in it. */
static struct queue *lock_queue(struct world *w, unsigned int queue)
{
	for (;; sched_yield()) {
		struct queue *q;

		pthread_mutex_lock(&w->guest.lock);
		q = &w->queues[queue == FOLLOWING ? w->guest.queue : queue];
		pthread_mutex_lock(&q->lock);
		if (q->n < QUEUE_FRAMES)
			return q;
		pthread_mutex_unlock(&q->lock);
		pthread_mutex_unlock(&w->guest.lock);
	}
}

/* The guest sends one segment on a queue. */
static void guest_sends(struct world *w, unsigned int queue, uint8_t flags, const uint8_t *data,
			size_t len)
{
	static const uint8_t guest4[] = { 10, 0, 0, 2 }, host4[] = { 10, 0, 0, 1 };
	struct queue *q = lock_queue(w, queue);
	struct l3 l3 = { .src_mac = { { 2, 0, 0, 0, 0, 1 } },
			 .src = ip4_addr_of(guest4),
			 .dst = ip4_addr_of(host4),
			 .proto = IPPROTO_TCP,
			 .ttl = 64 };
	struct tcp_header h = { .src_port = 4000,
				.dst_port = w->guest.port,
				.seq = w->guest.seq,
				.ack = w->guest.peer_seq,
				.flags = flags,
				.window = 60000 };
	uint8_t *p;

	p = q->bytes[q->n];
	l3_write(p, &l3, TCP_HEADER_LEN + len);
	tcp_header_encode(p + 34, &h);
	if (len)
		memcpy(p + 54, data, len);
	q->len[q->n++] = 54 + len;
	pthread_mutex_unlock(&q->lock);
	pthread_mutex_unlock(&w->guest.lock);
	w->guest.seq += (uint32_t)len + (flags & TCP_SYN ? 1 : 0);
	eventfd_write(q->source.fd, 1);
}

static void await_ack(struct world *w, uint32_t seq)
{
	for (bool done = false; !done; sched_yield()) {
		pthread_mutex_lock(&w->guest.lock);
		done = w->guest.open && SEQ_GE(w->guest.acked, seq);
		pthread_mutex_unlock(&w->guest.lock);
	}
}

static int setup(void **state)
{
	static const uint8_t guest4[] = { 10, 0, 0, 2 }, host4[] = { 10, 0, 0, 1 };
	struct world *w = calloc(1, sizeof(*w));
	struct sockaddr_in sin = { .sin_family = AF_INET,
				   .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof(sin);

	w->config = (struct config){ .mtu = 1500, .flows = 1024, .pool_bytes = 4 << 20 };
	w->net.v[IP4] = (struct netconf_version){ .on = true,
						  .addr = ip4_addr_of(guest4),
						  .map_host_loopback = ip4_addr_of(host4) };
	w->rt = (struct runtime){ .config = &w->config,
				  .n_shards = SHARDS,
				  .netconf_rcu = &w->net,
				  .steering_rcu = &w->steering };
	pthread_mutex_init(&w->guest.lock, NULL);
	w->guest.iss = w->guest.seq = w->guest.acked = 1000;
	w->listen_fd = socket(AF_INET, SOCK_STREAM, 0);
	assert_int_equal(bind(w->listen_fd, (struct sockaddr *)&sin, sizeof(sin)), 0);
	assert_int_equal(listen(w->listen_fd, 1), 0);
	assert_int_equal(getsockname(w->listen_fd, (struct sockaddr *)&sin, &len), 0);
	w->guest.port = ntohs(sin.sin_port);
	rcu_register_thread();
	for (unsigned int i = 0; i < SHARDS; i++) {
		w->txs[i].tx.ops = &ops;
		w->txs[i].world = w;
		w->queues[i] = (struct queue){ .source = { eventfd(0, EFD_NONBLOCK), read_queue },
					       .index = i,
					       .rt = &w->rt };
		pthread_mutex_init(&w->queues[i].lock, NULL);
		assert_int_equal(shard_new(&w->rt.shards[i], &w->rt, i, &w->txs[i].tx), 0);
	}
	for (unsigned int i = 0; i < SHARDS; i++) {
		assert_int_equal(shard_add_source(w->rt.shards[i], &w->queues[i].source), 0);
		assert_int_equal(pthread_create(&w->threads[i], NULL, shard_main, w->rt.shards[i]),
				 0);
	}
	rcu_thread_offline();
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
	rcu_thread_online();
	shards_reset_flows(&w->rt);
	rcu_barrier();
	for (unsigned int i = 0; i < SHARDS; i++) {
		shard_free(w->rt.shards[i]);
		close(w->queues[i].source.fd);
	}
	rcu_unregister_thread();
	close(w->peer_fd);
	close(w->listen_fd);
	free(w);
	return 0;
}

static void open_connection(struct world *w)
{
	guest_sends(w, 0, TCP_SYN, NULL, 0);
	w->peer_fd = accept(w->listen_fd, NULL, NULL);
	assert_true(w->peer_fd >= 0);
	await_ack(w, w->guest.iss + 1);
	guest_sends(w, 0, TCP_ACK, NULL, 0);
}

static uint64_t moves(const struct world *w)
{
	uint64_t n = 0;

	for (unsigned int i = 0; i < SHARDS; i++)
		n += counter_get(shard_counters(w->rt.shards[i]), COUNT_FLOWS_MOVED);
	return n;
}

/* Reads what the host's peer has got, and checks that it is the sequence of numbers that the guest
 * sent. */
static void check_stream(struct world *w, uint32_t n_segments)
{
	uint8_t data[SEGMENT];

	for (uint32_t i = 0; i < n_segments; i++) {
		assert_int_equal(recv(w->peer_fd, data, sizeof(data), MSG_WAITALL), sizeof(data));
		assert_int_equal(load_be32(data), i);
	}
}

static void send_number(struct world *w, unsigned int queue, uint32_t number)
{
	uint8_t data[SEGMENT] = { 0 };

	store_be32(data, number);
	guest_sends(w, queue, TCP_ACK, data, sizeof(data));
}

static void a_flow_follows_the_guest_to_another_queue(void **state)
{
	struct world *w = *state;

	open_connection(w);
	for (uint32_t i = 0; i < 200; i++) {
		send_number(w, 1, i);
		await_ack(w, w->guest.seq);
	}
	check_stream(w, 200);
	assert_int_equal(moves(w), 1);
}

static void frames_on_another_queue_arrive_in_order_while_the_flow_moves(void **state)
{
	struct world *w = *state;

	open_connection(w);
	/* No wait for acknowledgements: frames are under way in every place when the flow changes
	 * its owner. */
	for (uint32_t i = 0; i < 400; i++)
		send_number(w, 1, i);
	await_ack(w, w->guest.seq);
	check_stream(w, 400);
	assert_int_equal(counter_get(shard_counters(w->rt.shards[0]), COUNT_TCP_OUT_OF_ORDER), 0);
	assert_int_equal(counter_get(shard_counters(w->rt.shards[1]), COUNT_TCP_OUT_OF_ORDER), 0);
}

static void a_flow_does_not_move_to_and_fro(void **state)
{
	struct world *w = *state;
	uint32_t n = 0;

	open_connection(w);
	for (unsigned int turn = 0; turn < 20; turn++) {
		for (unsigned int i = 0; i < 20; i++)
			send_number(w, turn % 2, n++);
		await_ack(w, w->guest.seq);
	}
	check_stream(w, n);
	assert_in_range(moves(w), 0, 2); /* at most one a second, and this takes less than two */
}

static void fewer_than_eight_frames_move_nothing(void **state)
{
	struct world *w = *state;

	open_connection(w);
	for (uint32_t i = 0; i < 7; i++)
		send_number(w, 1, i);
	await_ack(w, w->guest.seq);
	check_stream(w, 7);
	assert_int_equal(moves(w), 0);
}

static uint64_t count(const struct world *w, enum counter id)
{
	return counter_get(shard_counters(w->rt.shards[0]), id) +
	       counter_get(shard_counters(w->rt.shards[1]), id);
}

static unsigned int queue_now(struct world *w)
{
	unsigned int queue;

	pthread_mutex_lock(&w->guest.lock);
	queue = w->guest.queue;
	pthread_mutex_unlock(&w->guest.lock);
	return queue;
}

/* Once the connection is open. */
static void offer_from(struct world *w, unsigned int queue)
{
	await_ack(w, w->guest.seq);
	pthread_mutex_lock(&w->queues[queue].lock);
	w->queues[queue].offer = true;
	pthread_mutex_unlock(&w->queues[queue].lock);
}

static void the_queue_of_an_offered_flow_follows_in_order(void **state)
{
	struct world *w = *state;
	uint32_t n;

	open_connection(w);
	for (n = 0; n < 100; n++)
		send_number(w, FOLLOWING, n);
	offer_from(w, 0);
	/* Until it has moved, and then some: frames wait on the old queue when the new one has some
	 * already. */
	while (queue_now(w) == 0)
		send_number(w, FOLLOWING, n++);
	for (unsigned int i = 0; i < 300; i++)
		send_number(w, FOLLOWING, n++);
	await_ack(w, w->guest.seq);
	check_stream(w, n);
	assert_int_equal(count(w, COUNT_FLOWS_SPREAD), 1);
	assert_int_equal(moves(w), 1);
	assert_int_equal(count(w, COUNT_TCP_OUT_OF_ORDER), 0);
	assert_int_equal(count(w, COUNT_TCP_DUP_RX), 0);
}

/* The queue of a flow that the kernel has no room to remember goes by a hash. */
static void an_offered_flow_whose_queue_stays_is_handed_on(void **state)
{
	struct world *w = *state;
	uint32_t n = 0;

	open_connection(w);
	send_number(w, 0, n++);
	offer_from(w, 0);
	while (count(w, COUNT_FLOWS_SPREAD) == 0 || n < 300)
		send_number(w, 0, n++);
	await_ack(w, w->guest.seq);
	check_stream(w, n);
	assert_in_range(moves(w), 1, 2); /* it may follow its frames back, after a second */
	assert_int_equal(count(w, COUNT_TCP_OUT_OF_ORDER), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(a_flow_follows_the_guest_to_another_queue, setup,
						teardown),
		cmocka_unit_test_setup_teardown(
			frames_on_another_queue_arrive_in_order_while_the_flow_moves, setup,
			teardown),
		cmocka_unit_test_setup_teardown(a_flow_does_not_move_to_and_fro, setup, teardown),
		cmocka_unit_test_setup_teardown(fewer_than_eight_frames_move_nothing, setup,
						teardown),
		cmocka_unit_test_setup_teardown(the_queue_of_an_offered_flow_follows_in_order,
						setup, teardown),
		cmocka_unit_test_setup_teardown(an_offered_flow_whose_queue_stays_is_handed_on,
						setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
