/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The clock, the wires, and a shard without threads: its turn does what the real one's does.
 */
#include "sim.h"

#include "shard/dgram.h"
#include "shard/l3.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

struct world *sim_world;

static uint8_t patterns[2][2 * PATTERN_PERIOD];

uint64_t rng_next(struct rng *rng)
{
	uint64_t x = rng->state += 0x9e3779b97f4a7c15u; /* splitmix64 */

	x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
	x = (x ^ x >> 27) * 0x94d049bb133111ebu;
	return x ^ x >> 31;
}

uint32_t rng_below(struct rng *rng, uint32_t n)
{
	return n ? (uint32_t)((rng_next(rng) >> 32) * n >> 32) : 0;
}

uint32_t rng_log(struct rng *rng, uint32_t low, uint32_t high)
{
	uint32_t top = low ? low : 1;

	for (uint32_t steps = rng_below(rng, 32 - (uint32_t)__builtin_clz(high / top)); steps;
	     steps--)
		top *= 2;
	top = 2 * top < high ? 2 * top : high;
	return low + rng_below(rng, top - low + 1);
}

bool rng_chance(struct rng *rng, uint32_t permille)
{
	return permille && rng_below(rng, 1000) < permille;
}

const uint8_t *pattern_at(enum stream stream, uint64_t off, size_t len)
{
	(void)len;
	return patterns[stream] + off % PATTERN_PERIOD;
}

bool pattern_matches(enum stream stream, uint64_t off, const uint8_t *bytes, size_t len)
{
	while (len) {
		size_t part = len < PATTERN_PERIOD ? len : PATTERN_PERIOD;

		if (memcmp(bytes, pattern_at(stream, off, part), part) != 0)
			return false;
		bytes += part;
		off += part;
		len -= part;
	}
	return true;
}

static void fill_patterns(void)
{
	struct rng rng = { 42 };

	for (unsigned int s = 0; s < 2; s++) {
		for (unsigned int i = 0; i < PATTERN_PERIOD; i++)
			patterns[s][i] = patterns[s][i + PATTERN_PERIOD] = (uint8_t)rng_next(&rng);
	}
}

void world_note(struct world *w, const char *fmt, ...)
{
	char text[400];
	va_list args;

	if (!w->trace)
		return;
	va_start(args, fmt);
	vsnprintf(text, sizeof(text), fmt, args);
	va_end(args);
	printf("%14.6f %s\n", (double)w->shard->now_us / 1e6, text);
}

void world_fail(struct world *w, const char *fmt, ...)
{
	va_list args;

	if (w->failed)
		return;
	w->failed = true;
	va_start(args, fmt);
	vsnprintf(w->failure, sizeof(w->failure), fmt, args);
	va_end(args);
	world_note(w, "FAILED: %s", w->failure);
}

uint64_t world_drops(const struct world *w, enum drop reason)
{
	return atomic_load_explicit(&w->shards[0]->counters.drop[reason], memory_order_relaxed) +
	       atomic_load_explicit(&w->shards[1]->counters.drop[reason], memory_order_relaxed);
}

uint64_t world_count(const struct world *w, enum counter id)
{
	return counter_get(&w->shards[0]->counters, id) + counter_get(&w->shards[1]->counters, id);
}

void segment_text(const struct segment *s, uint32_t base_seq, uint32_t base_ack, char *text,
		  size_t size)
{
	static const struct {
		uint8_t flag;
		char letter;
	} letters[] = { { TCP_SYN, 'S' }, { TCP_FIN, 'F' }, { TCP_RST, 'R' }, { TCP_PSH, 'P' },
			{ TCP_URG, 'U' }, { TCP_ECE, 'E' }, { TCP_CWR, 'C' }, { TCP_ACK, '.' } };
	char flags[9] = "";
	size_t n = 0;

	for (unsigned int i = 0; i < 8; i++) {
		if (s->flags & letters[i].flag)
			flags[n++] = letters[i].letter;
	}
	n = (size_t)snprintf(text, size, "%s %u:%u(%u) ack %u win %u", flags, s->seq - base_seq,
			     s->seq - base_seq + s->len, s->len,
			     s->flags & TCP_ACK ? s->ack - base_ack : 0, s->window);
	if (s->has_ts)
		n += (size_t)snprintf(text + n, size - n, " ts %u/%u", s->ts_val, s->ts_ecr);
	for (unsigned int i = 0; i < s->n_sack; i++)
		n += (size_t)snprintf(text + n, size - n, " sack %u-%u",
				      s->sack[i].start - base_ack, s->sack[i].end - base_ack);
}

static bool is_before(const struct wire_entry *a, const struct wire_entry *b)
{
	return a->due_us < b->due_us || (a->due_us == b->due_us && a->order < b->order);
}

static void heap_swap(struct wire *wire, uint32_t a, uint32_t b)
{
	struct wire_entry e = wire->heap[a];

	wire->heap[a] = wire->heap[b];
	wire->heap[b] = e;
}

static void heap_push(struct wire *wire, const struct segment *s, uint64_t due_us, uint64_t order)
{
	uint32_t i = wire->n;

	if (wire->n == WIRE_MAX)
		return; /* as lost */
	wire->heap[wire->n++] = (struct wire_entry){ due_us, order, *s };
	for (; i && is_before(&wire->heap[i], &wire->heap[(i - 1) / 2]); i = (i - 1) / 2)
		heap_swap(wire, i, (i - 1) / 2);
}

void wire_send(struct world *w, struct wire *wire, const struct segment *s)
{
	const struct faults *f = &wire->faults;
	uint64_t due = w->shard->now_us + f->delay_us + rng_below(&w->rng, f->jitter_us + 1);
	static uint64_t order;

	if (rng_chance(&w->rng, f->loss)) {
		world_note(w, "     (lost)");
		return;
	}
	if (rng_chance(&w->rng, f->reorder)) {
		due += rng_below(&w->rng, f->reorder_us + 1);
	} else {
		due = due < wire->last_due_us ? wire->last_due_us : due;
		wire->last_due_us = due;
	}
	heap_push(wire, s, due, order++);
	if (rng_chance(&w->rng, f->dup))
		heap_push(wire, s, due + rng_below(&w->rng, f->reorder_us + 1), order++);
}

bool wire_take(struct wire *wire, uint64_t now_us, struct segment *s)
{
	uint32_t i = 0;

	if (!wire->n || wire->heap[0].due_us > now_us)
		return false;
	*s = wire->heap[0].s;
	wire->heap[0] = wire->heap[--wire->n];
	for (;;) {
		uint32_t least = i;

		for (uint32_t child = 2 * i + 1; child <= 2 * i + 2 && child < wire->n; child++) {
			if (is_before(&wire->heap[child], &wire->heap[least]))
				least = child;
		}
		if (least == i)
			return true;
		heap_swap(wire, i, least);
		i = least;
	}
}

uint64_t wire_next(const struct wire *wire)
{
	return wire->n ? wire->heap[0].due_us : NEVER;
}

/* What the shard's other files would do. */
void flow_close(struct shard *shard, struct flow *flow)
{
	struct world *w = sim_world;

	if (flow->closed)
		return;
	flow->closed = true;
	list_remove(&flow->touched);
	list_remove(&flow->owned);
	wheel_disarm(&shard->wheel, &flow->timer);
	if (w->flow == flow)
		w->flow = NULL;
	w->waited = flow->tcp.state == TCPS_TIME_WAIT;
	w->flow_closed_us = shard->now_us;
	world_note(w, "flow closed");
}

void icmp_send_error(struct shard *shard, const uint8_t *quoted, size_t len, uint8_t type,
		     uint8_t code, uint32_t info, const struct ip_addr *from)
{
	struct world *w = sim_world;

	(void)shard, (void)quoted, (void)len, (void)info, (void)from;
	world_note(w, "ICMP error type %u code %u", type, code);
	if (w->on_icmp)
		w->on_icmp(w, type, code);
}

static struct shard *new_shard(void)
{
	struct shard *shard = aligned_alloc(CACHE_LINE, (sizeof(struct shard) + CACHE_LINE - 1) /
								CACHE_LINE * CACHE_LINE);

	if (!shard)
		abort();
	memset(shard, 0, sizeof(*shard));
	shard->discard = malloc(HOSTSOCK_DISCARD_SIZE);
	if (pool_init(&shard->pool, POOL_CHUNKS_ALL * POOL_CHUNK))
		abort();
	return shard;
}

static void free_shard(struct shard *shard)
{
	pool_free(&shard->pool);
	free(shard->discard);
	free(shard);
}

struct world *world_new(void)
{
	struct world *w = calloc(1, sizeof(*w));

	if (!w)
		return NULL;
	fill_patterns();
	w->shards[0] = new_shard();
	w->shards[1] = new_shard();
	w->shard = w->shards[0];
	sim_world = w;
	return w;
}

void world_free(struct world *w)
{
	free_shard(w->shards[0]);
	free_shard(w->shards[1]);
	free(w);
}

static void reset_shard(struct world *w, struct shard *shard, uint64_t now_us, size_t pool_bytes)
{
	uint8_t *discard = shard->discard, *base = shard->pool.base;

	memset(shard, 0, sizeof(*shard));
	shard->discard = discard;
	shard->pool =
		(struct pool){ .base = base, .n_chunks = (uint32_t)(pool_bytes / POOL_CHUNK) };
	list_init(&shard->pool.free);
	shard->rt = &w->rt;
	shard->tx = &w->tx.tx;
	shard->now_us = now_us;
	shard_init_lists(shard);
	wheel_init(&shard->wheel, now_us);
}

static void default_key(struct world *w)
{
	static const uint8_t guest4[4] = { 192, 0, 2, 15 }, peer4[4] = { 198, 51, 100, 7 };
	static const uint8_t guest6[16] = { 0x20, 1, 0xd, 0xb8, [15] = 15 },
			     peer6[16] = { 0x20, 1, 0xd, 0xb8, 1, [15] = 7 };

	w->key = (struct flow_key){ .guest_port = 40000, .peer_port = 80, .proto = FLOW_TCP };
	w->key.guest = w->v6 ? ip6_addr_of(guest6) : ip4_addr_of(guest4);
	w->key.peer = w->v6 ? ip6_addr_of(peer6) : ip4_addr_of(peer4);
}

void world_reset(struct world *w, uint64_t seed, uint64_t now_us, size_t pool_bytes)
{
	bool v6 = w->v6;

	w->seed = seed;
	w->rng.state = seed * 0x2545f4914f6cdd1du + 1;
	w->failed = false;
	w->steps = 0;
	w->rt.config = &w->config;
	w->rt.n_shards = 1;
	w->rt.shards[0] = w->shards[0];
	w->rt.shards[1] = w->shards[1];
	w->rt.netconf_rcu = &w->netconf;
	w->rt.secret = (struct hash_secret){ { rng_next(&w->rng), rng_next(&w->rng) } };
	w->rt.guest_mac = 0x525400123456;
	w->netconf.our_mac = (struct eth_addr){ { 2, 0, 0, 0, 0, 1 } };
	w->shard = w->shards[0];
	reset_shard(w, w->shards[0], now_us, pool_bytes);
	reset_shard(w, w->shards[1], now_us, pool_bytes);
	w->move = 0;
	sim_tx_init(w);
	sock_reset(&w->sock);
	w->guest = (struct sim_guest){ 0 };
	w->to_host.n = w->to_guest.n = 0;
	w->to_host.last_due_us = w->to_guest.last_due_us = 0;
	w->to_host.faults = w->to_guest.faults = (struct faults){ .delay_us = 50 };
	w->v6 = v6;
	default_key(w);
	w->n_flows = 0;
	w->flow = NULL;
	w->our_iss_known = w->our_edge_known = w->wscale_offered_by_guest =
		w->wscale_offered_by_us = false;
	w->our_shift = 0;
	w->guest_edge_max = 0;
	w->n_emitted = 0;
	w->guest_heard_reset = w->we_reset = false;
	world_peek_off(w, true);
}

void world_peek_off(struct world *w, bool known)
{
	for (unsigned int i = 0; i < 2; i++)
		w->shards[i]->peek_off = known;
}

static struct flow *new_flow(struct world *w)
{
	struct flow *flow = &w->flows[w->n_flows++ % 8];

	memset(flow, 0, sizeof(*flow));
	flow->pollee.kind = POLL_FLOW;
	flow->key = w->key;
	flow->fd = -1;
	list_init(&flow->touched);
	list_init(&flow->owned);
	list_init(&flow->held);
	timer_init(&flow->timer);
	return flow;
}

void world_aim_iss(struct world *w, uint32_t iss)
{
	struct shard *shard = w->shard;
	struct flow *flow = new_flow(w);
	uint64_t now = shard->now_us;
	bool trace = w->trace;

	w->trace = false;
	tcp_open_host(shard, flow);
	tcp_begin_host(shard, flow); /* its SYN shows what the present clock gives */
	flow_close(shard, flow);
	now += 4ull * (iss - w->our_iss);
	shard->now_us = now;
	wheel_init(&w->shards[0]->wheel, now);
	wheel_init(&w->shards[1]->wheel, now);
	w->our_iss_known = false;
	w->to_guest.n = 0;
	w->to_guest.last_due_us = 0;
	w->trace = trace;
	w->n_flows = 0;
}

void world_accept(struct world *w)
{
	struct flow *flow = new_flow(w);

	w->flow = flow;
	w->sock.open = true;
	flow->fd = w->sock.fd;
	flow->in_epoll = true;
	list_append(&w->shard->owned, &flow->owned);
	tcp_open_host(w->shard, flow);
	tcp_begin_host(w->shard, flow);
	sock_raise(&w->sock, 0);
	if (!w->sock.scripted)
		w->sock.turn_at_us = w->shard->now_us + 1;
}

static void open_guest_flow(struct world *w, struct frame *frame)
{
	struct flow *flow = new_flow(w);

	tcp_open_guest(w->shard, flow, frame);
	w->flow = flow;
	tcp_connecting(w->shard, flow);
	flow->fd = w->sock.fd;
	flow->in_epoll = true;
	w->sock.open = true;
	if (w->n_flows > 1) { /* another connection than the one before */
		struct sim_sock *s = &w->sock;

		s->closed = s->aborted = s->shut = s->fin_acked = s->eof = s->reset = s->want_out =
			false;
		s->written = s->taken = s->arrived = s->consumed = 0;
		s->peek_off = s->events = 0;
		s->error = 0;
		s->turn_at_us = s->out_at_us = NEVER;
		w->our_iss_known = w->our_edge_known = w->wscale_offered_by_us = false;
		w->guest_edge_max = 0;
	}
	if (!w->sock.scripted)
		w->sock.connect_at_us = w->shard->now_us + rng_below(&w->rng, 5000);
	if (w->on_sock)
		w->on_sock(w, "connect", 0);
}

/* conn_frame() without a table. */
static void route(struct world *w, struct frame *frame)
{
	uint8_t flags = frame->data[frame->l4_off + 13];
	bool syn = (flags & (TCP_SYN | TCP_ACK | TCP_RST)) == TCP_SYN;

	if (w->flow) {
		if (!syn || !tcp_may_reuse(&w->flow->tcp, frame)) {
			tcp_segment(w->shard, w->flow, frame);
			return;
		}
		tcp_abort(w->shard, w->flow, false);
	}
	if (syn) {
		open_guest_flow(w, frame);
		return;
	}
	count_drop(&w->shard->counters, DROP_NO_FLOW);
	tcp_refuse(w->shard, frame);
}

static size_t write_options(uint8_t *o, const struct segment *s)
{
	size_t n = 0;

	if (s->has_mss) {
		o[n++] = 2, o[n++] = 4;
		store_be16(o + n, s->mss);
		n += 2;
	}
	if (s->sack_ok)
		o[n++] = 4, o[n++] = 2;
	if (s->has_wscale)
		o[n++] = 3, o[n++] = 3, o[n++] = s->wscale;
	if (s->has_ts) {
		o[n++] = 8, o[n++] = 10;
		store_be32(o + n, s->ts_val);
		store_be32(o + n + 4, s->ts_ecr);
		n += 8;
	}
	if (s->n_sack) {
		o[n++] = 5, o[n++] = (uint8_t)(2 + 8 * s->n_sack);
		for (unsigned int i = 0; i < s->n_sack; i++, n += 8) {
			store_be32(o + n, s->sack[i].start);
			store_be32(o + n + 4, s->sack[i].end);
		}
	}
	while (n % 4)
		o[n++] = 1;
	return n;
}

/* Writes the frame's bytes; returns their number. */
static size_t build_frame(const struct world *w, uint8_t *p, const struct segment *s)
{
	struct l3 l3 = { .src = w->key.guest,
			 .dst = w->key.peer,
			 .src_mac = guest_mac_get(&w->rt),
			 .dst_mac = w->netconf.our_mac,
			 .proto = IPPROTO_TCP,
			 .ttl = 64,
			 .tos = s->tos };
	size_t off = l3_len(&l3.dst), opts;
	uint8_t *tcp = p + off;

	memset(tcp, 0, 20);
	opts = write_options(tcp + 20, s);
	l3_write(p, &l3, 20 + opts + s->len);
	store_be16(tcp, w->key.guest_port);
	store_be16(tcp + 2, w->key.peer_port);
	store_be32(tcp + 4, s->seq);
	store_be32(tcp + 8, s->ack);
	tcp[12] = (uint8_t)((20 + opts) / 4 << 4);
	tcp[13] = s->flags;
	store_be16(tcp + 14, s->window);
	store_be16(tcp + 18, s->urgent);
	memcpy(tcp + 20 + opts, pattern_at(FROM_GUEST, s->off, s->len), s->len);
	if (s->junk)
		memset(tcp + 20 + opts, 0xee, s->len);
	return off + 20 + opts + s->len;
}

#define BATCH_FRAMES_MAX 64

struct sim_batch {
	uint8_t *bytes; /* as if freed after the batch: what is still lent then is seen by the
			   sanitizer or as junk */
	size_t used, size;
	struct frame frames[BATCH_FRAMES_MAX];
	unsigned int n;
};

static void batch_append(struct world *w, struct sim_batch *batch, const struct segment *s)
{
	static const struct frame_offload offload = { .csum_unchecked = true };
	struct frame *frame = &batch->frames[batch->n];
	uint8_t *at = batch->bytes + batch->used;
	size_t len = build_frame(w, at, s);
	char text[200];
	enum drop drop;

	if (w->trace) {
		segment_text(s, w->guest_iss, w->our_iss, text, sizeof(text));
		world_note(w, "--> %s%s", text, s->junk ? " junk" : "");
	}
	drop = frame_parse(frame, at, len, offload, &w->rt.secret);
	if (drop) {
		world_fail(w, "the simulation's own frame was refused, %d", drop);
		return;
	}
	frame->next = NULL;
	frame->queue = 0;
	batch->used += (len + 63) / 64 * 64;
	batch->n++;
}

static void run_flow(struct world *w, struct flow *flow)
{
	if (!tcp_run(w->shard, flow) && !flow->closed && list_is_empty(&flow->touched))
		list_append(&w->shard->waiting, &flow->touched);
	if (!flow->closed && flow->tcp.gather_first)
		world_fail(w, "frames are still lent after a run");
}

static void run_touched(struct world *w)
{
	struct list *node;

	while ((node = list_take(&w->shard->touched)))
		run_flow(w, LIST_ENTRY(node, struct flow, touched));
}

static void batch_run(struct world *w, struct sim_batch *batch)
{
	for (unsigned int i = 0; i < batch->n; i++)
		route(w, &batch->frames[i]);
	run_touched(w);
	memset(batch->bytes, 0xdb, batch->used);
	memset(batch->frames, 0xdb, batch->n * sizeof(batch->frames[0]));
	batch->n = 0;
	batch->used = 0;
}

static struct sim_batch the_batch;

static struct sim_batch *batch_get(void)
{
	static uint8_t bytes[BATCH_FRAMES_MAX * 2048 + 2 * 65600];

	the_batch.bytes = bytes;
	the_batch.size = sizeof(bytes);
	return &the_batch;
}

void world_segment(struct world *w, const struct segment *s)
{
	struct sim_batch *batch = batch_get();

	batch_append(w, batch, s);
	if (!s->more)
		batch_run(w, batch);
}

static void run_batches(struct world *w)
{
	struct sim_batch *batch = batch_get();
	struct segment s;

	while (!w->failed && wire_take(&w->to_host, w->shard->now_us, &s)) {
		batch_append(w, batch, &s);
		if (batch->n == BATCH_FRAMES_MAX || batch->used + 65700 > batch->size)
			batch_run(w, batch);
	}
	if (batch->n)
		batch_run(w, batch);
}

static void run_timers(struct world *w)
{
	struct shard *shard = w->shard;
	struct list due, *node;

	list_init(&due);
	wheel_advance(&shard->wheel, shard->now_us, &due);
	while ((node = list_take(&due)))
		tcp_timer(shard, LIST_ENTRY(node, struct flow, timer.link));
}

static void run_events(struct world *w)
{
	if (!w->sock.open || !w->sock.events || !w->flow || w->flow->fd < 0)
		return;
	w->flow->events |= w->sock.events;
	w->sock.events = 0;
	tcp_touch(w->shard, w->flow);
}

/* Every promise of a shard's memory that holds between turns. */
static void check_shard(struct world *w, struct shard *shard)
{
	struct pool *pool = &shard->pool;

	pool_collect(pool); /* of a flow that was here before */
	/* With a socket that refuses what it said it had room for, and a pool that has none,
	 * nothing can be kept; the guest sends it again. */
	if (world_drops(w, DROP_TCP_IN_WINDOW) &&
	    !(w->sock.eagain && pool->n_chunks < POOL_CHUNKS_ALL))
		world_fail(w, "payload inside the offered window was dropped");
	if (pool->n_used > pool->n_chunks || (int64_t)pool->reserved < 0)
		world_fail(w, "the pool's accounts are wrong");
	if (!w->flow && shard->n_connecting)
		world_fail(w, "an attempt to connect is still counted");
	if (!w->flow && (pool->n_used || pool->reserved))
		world_fail(w, "%u chunks and %llu reserved bytes are left over", pool->n_used,
			   (unsigned long long)pool->reserved);
	if (!w->flow && w->sock.open)
		world_fail(w, "the socket is left over");
	if (!w->flow && (!list_is_empty(&shard->waiting) || !list_is_empty(&shard->again)))
		world_fail(w, "a closed flow is still in a list");
}

/* The flow goes to the other shard, as move_answer() and move_take() have it. */
static void move_flow(struct world *w)
{
	struct shard *from = w->shard, *to = w->shards[w->shard == w->shards[0]];
	struct flow *flow = w->flow;
	struct list due;

	if (!flow || from->tx->blocked || !tcp_may_move(&flow->tcp) || !tcp_run(from, flow) ||
	    flow->closed || !tcp_may_move(&flow->tcp))
		return;
	tcp_leave(from, flow);
	list_remove(&flow->touched);
	list_remove(&flow->owned);
	wheel_disarm(&from->wheel, &flow->timer);
	to->now_us = from->now_us;
	list_init(&due);
	wheel_advance(&to->wheel, to->now_us, &due);
	w->shard = to;
	list_append(&to->owned, &flow->owned);
	tcp_join(to, flow);
	sock_raise(&w->sock, 0); /* a new epoll reports present readiness */
	shard_touch(to, flow);
	world_note(w, "flow moves to shard %d", to == w->shards[1]);
}

void world_turn(struct world *w, uint64_t now_us)
{
	struct shard *shard = w->shard;
	struct segment s;

	w->steps++;
	if (now_us > shard->now_us)
		shard->now_us = now_us;
	if (w->tx.unblock_us <= shard->now_us) {
		w->tx.unblock_us = NEVER;
		w->tx.tx.blocked = false;
		world_note(w, "guest's side has room");
		list_splice(&shard->again, &shard->waiting);
	}
	list_splice(&shard->touched, &shard->again);
	sock_turn(w);
	run_events(w);
	run_batches(w);
	run_timers(w);
	run_touched(w);
	if (!w->tx.tx.blocked)
		list_splice(&shard->again, &shard->waiting);
	if (rng_chance(&w->rng, w->move))
		move_flow(w);
	check_shard(w, w->shards[0]);
	check_shard(w, w->shards[1]);
	while (!w->failed && wire_take(&w->to_guest, shard->now_us, &s))
		guest_segment(w, &s);
	guest_turn(w);
}

static uint64_t nearer(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

uint64_t world_next(const struct world *w)
{
	uint64_t next = wheel_next_us(&w->shard->wheel);

	if (!list_is_empty(&w->shard->again) || !list_is_empty(&w->shard->touched) ||
	    (w->sock.open && w->sock.events && w->flow))
		return w->shard->now_us;
	next = nearer(next, wire_next(&w->to_host));
	next = nearer(next, wire_next(&w->to_guest));
	next = nearer(next, sock_next(w));
	next = nearer(next, guest_next(w));
	return nearer(next, w->tx.unblock_us);
}
