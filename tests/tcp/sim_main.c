/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whole connections under random conditions, each of which follows from a seed:
 *
 *   sim [--seeds N] [--first N]   runs N seeds from the first on
 *   sim --seed N --trace          runs one and prints what happened
 *
 * After every step the world's rules are checked (see sim_tx.c, sim_sock.c, sim_guest.c and
 * world_turn()), and at the end that the connection came to it: exact streams, both ends closed or
 * reset, nothing left over.
 */
#include "sim.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define STALL_US   (900ull * 1000000) /* of simulated time without progress either way */
#define STEP_LIMIT 20000000

enum ending { END_CLOSE, END_GUEST_RESET, END_HOST_RESET, END_REFUSED, END_HOSTILE };

struct scenario {
	enum ending ending;
	bool lossless;
	bool lazy; /* late enough for a probe or a time-out */
};

static void choose_faults(struct world *w, struct faults *f)
{
	static const uint32_t losses[] = { 0, 0, 10, 50, 200 };
	struct rng *r = &w->rng;

	f->loss = losses[rng_below(r, 5)];
	f->dup = rng_chance(r, 300) ? rng_below(r, 100) : 0;
	f->reorder = rng_chance(r, 300) ? rng_below(r, 300) : 0;
	f->delay_us = rng_log(r, 10, 30000);
	f->jitter_us = rng_chance(r, 300) ? rng_log(r, 1, 5000) : 0;
	f->reorder_us = rng_log(r, 100, 20000);
}

static uint32_t choose_isn(struct rng *r)
{
	static const uint32_t edges[] = { 0, 0x80000000u, 0x7fffffffu, 0xffffffffu };

	if (rng_chance(r, 400))
		return (uint32_t)rng_next(r);
	return edges[rng_below(r, 4)] - rng_below(r, 30000) + (rng_chance(r, 300) ? 20000 : 0);
}

/* Bytes of one way: none, a few, some windows, or many. */
static uint64_t choose_total(struct rng *r)
{
	uint32_t kind = rng_below(r, 100);

	if (kind < 8)
		return 0;
	if (kind < 35)
		return rng_log(r, 1, 20000);
	if (kind < 97)
		return 20000 + rng_below(r, 280000);
	return 1000000 + rng_below(r, 5000000);
}

static void choose_sock(struct world *w, bool lossless)
{
	struct sim_sock *s = &w->sock;
	struct rng *r = &w->rng;

	s->sndbuf = rng_log(r, 2048, 262144);
	s->rcvbuf = rng_log(r, 2048, 262144);
	s->room_percent = 30 + rng_below(r, 71);
	s->read_chunk = rng_log(r, 256, 131072);
	s->step_us = rng_log(r, 10, 20000);
	s->pause = rng_chance(r, 200) ? rng_below(r, 50) : 0;
	s->pause_us = rng_log(r, 1000, 3000000);
	s->fin_event = rng_chance(r, 500);
	s->peer_total = choose_total(r);
	s->urgent = rng_chance(r, 150) ? rng_log(r, 1, 300) : 0;
	s->peer_fin = true;
	if (!lossless && rng_chance(r, 300))
		s->eagain = rng_below(r, 300);
}

static void choose_guest(struct world *w)
{
	struct sim_guest *g = &w->guest;
	struct rng *r = &w->rng;

	g->iss = w->guest_iss = choose_isn(r);
	g->use_sack = rng_chance(r, 700);
	g->use_ts = rng_chance(r, 500);
	g->use_wscale = rng_chance(r, 700);
	g->shift = (uint8_t)rng_below(r, 10);
	g->go_back_n = rng_chance(r, 500);
	g->probe_with_data = rng_chance(r, 500);
	g->mss = (uint16_t)(w->config.mtu - (w->v6 ? 60 : 40));
	if (rng_chance(r, 200))
		g->mss = (uint16_t)rng_log(r, 88, 1460);
	g->rcvbuf = rng_log(r, 512, 262144);
	while (g->shift && 16u << g->shift > g->rcvbuf) /* or it could not express its own window */
		g->shift--;
	g->read_chunk = rng_log(r, 128, 131072);
	g->read_step_us = rng_log(r, 1, 20000);
	g->pause = rng_chance(r, 200) ? rng_below(r, 50) : 0;
	g->pause_us = rng_log(r, 1000, 3000000);
	g->ack_every = 2;
	g->delack_us = 40000;
	g->cwnd = rng_log(r, 3000, 262144);
	g->total = choose_total(r);
	g->urgent = rng_chance(r, 150) ? rng_log(r, 1, 300) : 0;
}

/* Who closes first, or how else it ends. */
static void choose_ending(struct world *w, struct scenario *sc)
{
	struct rng *r = &w->rng;
	uint64_t soon = w->shard->now_us + rng_log(r, 1000, 1000000);

	sc->ending =
		rng_chance(r, 750) ? END_CLOSE : (enum ending)(END_GUEST_RESET + rng_below(r, 3));
	if (sc->ending == END_REFUSED && w->host_opens)
		sc->ending = END_CLOSE;
	if (sc->ending == END_GUEST_RESET)
		w->guest.reset_at_us = soon;
	if (sc->ending == END_HOST_RESET)
		w->sock.reset_at_us = soon;
	if (sc->ending == END_REFUSED) {
		static const int errors[] = { ECONNREFUSED, ETIMEDOUT, EHOSTUNREACH, ENETUNREACH,
					      ECONNRESET };

		w->sock.connect_error = errors[rng_below(r, 5)];
	}
	switch (rng_below(r, 3)) {
	case 0: /* the guest only closes when it has everything */
		w->guest.close_after = w->sock.peer_total;
		break;
	case 1:
		w->sock.close_after = w->guest.total;
		break;
	default: /* each when it is done */
		break;
	}
}

/* A guest far away with much to send, to which more of the pool is promised than to others. */
static void choose_far(struct world *w, struct rng *r)
{
	struct sim_guest *g = &w->guest;

	if (w->config.mtu < 1500)
		w->config.mtu = 1500;
	g->mss = (uint16_t)(w->config.mtu - (w->v6 ? 60 : 40));
	g->use_wscale = true;
	g->cwnd = rng_log(r, 262144, 8u << 20);
	g->total = (1u << 20) + rng_below(r, 8u << 20);
	w->to_host.faults.delay_us = w->to_guest.faults.delay_us = rng_log(r, 1000, 30000);
	w->sock.sndbuf = rng_log(r, 2048, 4u << 20);
	w->sock.read_chunk = rng_log(r, 16384, 4u << 20);
}

/* Guests that acknowledge less often than most, or later. */
static void choose_laziness(struct sim_guest *g, struct rng *r)
{
	g->ack_every = rng_chance(r, 500) ? 2 + rng_below(r, 15) : 2;
	g->delack_us = rng_log(r, 40000, 500000);
}

static void choose_scenario(struct world *w, uint64_t seed, struct scenario *sc)
{
	static const uint32_t mtus[] = { 576, 1280, 1500, 1500, 9000, 65520 };
	struct rng choice = { seed ^ 0x5bd1e995 }, habits = { seed ^ 0x1b873593 };
	struct rng *r = &w->rng;
	bool tiny_pool = rng_chance(&choice, 150);

	w->v6 = rng_chance(&choice, 500);
	world_reset(w, seed, 3600ull * 1000000,
		    tiny_pool ? 4096u * (16 + rng_below(&choice, 240))
			      : POOL_CHUNKS_ALL * POOL_CHUNK);
	sc->lossless = rng_chance(r, 300);
	w->config.mtu = mtus[rng_below(r, 6)];
	w->host_opens = rng_chance(r, 400);
	w->tx.gso = rng_chance(r, 400);
	world_peek_off(w, rng_chance(r, 600));
	world_aim_iss(w, choose_isn(r));
	if (!sc->lossless) {
		choose_faults(w, &w->to_host.faults);
		choose_faults(w, &w->to_guest.faults);
		if (rng_chance(r, 250)) {
			w->tx.block = rng_below(r, 100);
			w->tx.block_us = rng_log(r, 100, 100000);
		}
	} else {
		w->to_host.faults.delay_us = w->to_guest.faults.delay_us = rng_log(r, 10, 20000);
	}
	w->move = rng_chance(r, 200) ? rng_log(r, 1, 100) : 0;
	choose_sock(w, sc->lossless);
	choose_guest(w);
	if (rng_chance(&habits, 50))
		choose_far(w, &habits);
	sc->lazy = rng_chance(&habits, 100);
	if (sc->lazy)
		choose_laziness(&w->guest, &habits);
	choose_ending(w, sc);
	if (rng_chance(&choice, 100))
		sc->ending = END_HOSTILE;
}

static bool guest_is_done(const struct world *w)
{
	const struct sim_guest *g = &w->guest;

	return g->state == GUEST_RESET || (g->state == GUEST_OPEN && g->fin_acked && g->fin_seen) ||
	       (w->flow == NULL && g->state == GUEST_LISTEN && w->n_flows);
}

/* What must be true of a connection that was closed in order. */
static void check_streams(struct world *w)
{
	const struct sim_guest *g = &w->guest;
	const struct sim_sock *s = &w->sock;

	/* A guest whose FIN is repeated long after the wait is over learns of the end by a reset.
	 */
	bool late = g->fin_sent && g->fin_seen && s->written == g->total &&
		    w->shard->now_us > w->flow_closed_us && w->waited;

	if (g->state == GUEST_LISTEN || g->state == GUEST_SYN_RCVD)
		return; /* each SYN was lost: given up */
	if (g->state == GUEST_RESET && !g->irs && !w->guest_heard_reset)
		return; /* the guest's were */
	if (g->state == GUEST_RESET && !late)
		world_fail(w, "the guest was reset");
	else if (g->rcv_nxt - g->irs - 2 != s->peer_total)
		world_fail(w, "the guest received %u of %llu bytes", g->rcv_nxt - g->irs - 2,
			   (unsigned long long)s->peer_total);
	else if (s->written != g->total)
		world_fail(w, "the socket received %llu of %llu bytes",
			   (unsigned long long)s->written, (unsigned long long)g->total);
	else if (!s->shut || !s->closed)
		world_fail(w, "the socket was not shut down and closed");
	else if (g->urgent_seen != s->urgent_last)
		world_fail(w, "the guest was told of an urgent byte before %llu, not %llu",
			   (unsigned long long)g->urgent_seen, (unsigned long long)s->urgent_last);
	else if (s->urgent_sent != g->urgent_last)
		world_fail(w, "the socket was given an urgent byte before %llu, not %llu",
			   (unsigned long long)s->urgent_sent, (unsigned long long)g->urgent_last);
}

static void check_end(struct world *w, const struct scenario *sc)
{
	if (sc->ending == END_CLOSE)
		check_streams(w);
	else if (sc->ending == END_REFUSED && w->sock.written)
		world_fail(w, "a refused connection carried data");
	if (world_drops(w, DROP_TCP_UNSACKED) && w->shard->pool.n_chunks == POOL_CHUNKS_ALL)
		world_fail(w, "out-of-order data was dropped though the pool is large");
	if (sc->lossless && !sc->lazy && world_count(w, COUNT_TCP_RETRANS) &&
	    sc->ending == END_CLOSE)
		world_fail(w, "%llu retransmissions on a lossless path",
			   (unsigned long long)world_count(w, COUNT_TCP_RETRANS));
	if (sc->lossless && w->guest.n_retrans && sc->ending == END_CLOSE)
		world_fail(w, "the guest sent %u segments again on a lossless path",
			   w->guest.n_retrans);
}

/* A number that changes whenever a byte or an end has come somewhere new. */
static uint64_t progress_of(const struct world *w)
{
	const struct sim_guest *g = &w->guest;
	const struct sim_sock *s = &w->sock;

	return (uint64_t)g->state + g->rcv_nxt + g->consumed + g->snd_una + g->fin_acked +
	       s->written + s->taken + s->arrived + s->consumed + s->shut + s->fin_acked + s->eof +
	       (w->flow != NULL);
}

static void run(struct world *w, const struct scenario *sc)
{
	/* A reset that is lost, and nothing to be sent: only the limit for idle flows ends it. */
	uint64_t patience = STALL_US + (sc->ending == END_CLOSE ? 0 : TCP_IDLE_US);
	uint64_t last = w->shard->now_us, done = 0;

	if (w->host_opens)
		world_accept(w);
	guest_connect(w);
	while (!w->failed && (w->flow || !guest_is_done(w))) {
		uint64_t next = world_next(w);

		if (progress_of(w) != done) {
			done = progress_of(w);
			last = w->shard->now_us;
		}
		if (next == NEVER || next > last + patience) {
			world_fail(w, "stalled: %s",
				   next == NEVER ? "nothing is left to happen" : "no progress");
			break;
		}
		if (w->steps > STEP_LIMIT) {
			world_fail(w, "no end after %llu steps", (unsigned long long)w->steps);
			break;
		}
		world_turn(w, next);
		/* A guest that was refused silently gives up at last. */
		if (!w->flow && w->guest.state == GUEST_SYN_SENT && w->guest.retries > 6)
			w->guest.state = GUEST_RESET;
	}
	if (!w->failed)
		check_end(w, sc);
}

static bool run_seed(struct world *w, uint64_t seed)
{
	struct scenario sc;

	choose_scenario(w, seed, &sc);
	if (w->trace)
		printf("seed %llu: %s opens, IPv%d, MTU %u, ending %d%s%s%s, guest sends %llu, "
		       "peer %llu, moves %u, peek offset %d, sndbuf %u, rcvbuf %u\n",
		       (unsigned long long)seed, w->host_opens ? "host" : "guest", w->v6 ? 6 : 4,
		       w->config.mtu, sc.ending, sc.lossless ? ", lossless" : "",
		       w->guest.use_sack ? ", SACK" : "", w->guest.use_ts ? ", timestamps" : "",
		       (unsigned long long)w->guest.total, (unsigned long long)w->sock.peer_total,
		       w->move, w->shard->peek_off, w->sock.sndbuf, w->sock.rcvbuf);
	if (sc.ending == END_HOSTILE)
		hostile_run(w);
	else
		run(w, &sc);
	if (w->failed)
		printf("seed %llu: %s (after %.3f s, %llu steps)\n", (unsigned long long)seed,
		       w->failure, (double)w->shard->now_us / 1e6, (unsigned long long)w->steps);
	return !w->failed;
}

/* So that a seed that crashes is known. */
static void crashed(int sig)
{
	char text[64];
	int n = snprintf(text, sizeof(text), "seed %llu: signal %d\n",
			 (unsigned long long)sim_world->seed, sig);

	if (write(STDOUT_FILENO, text, (size_t)n) < 0)
		_exit(3);
	_exit(2);
}

int main(int argc, char **argv)
{
	uint64_t first = 1, n = 1000, failures = 0;
	struct world *w = world_new();

	if (!w)
		return 1;
	setvbuf(stdout, NULL, _IOLBF, 0);
	signal(SIGSEGV, crashed);
	signal(SIGABRT, crashed);
	for (int i = 1; i < argc; i++) {
		if (!strcmp(argv[i], "--trace"))
			w->trace = true;
		else if (!strcmp(argv[i], "--seeds") && i + 1 < argc)
			n = strtoull(argv[++i], NULL, 0);
		else if (!strcmp(argv[i], "--first") && i + 1 < argc)
			first = strtoull(argv[++i], NULL, 0);
		else if (!strcmp(argv[i], "--seed") && i + 1 < argc)
			first = strtoull(argv[++i], NULL, 0), n = 1;
		else
			return fprintf(stderr,
				       "usage: %s [--seeds N] [--first N] [--seed N] [--trace]\n",
				       argv[0]),
			       2;
	}
	for (uint64_t seed = first; seed < first + n && failures < 20; seed++)
		failures += !run_seed(w, seed);
	printf("%llu seeds, %llu failed; to see one: sim --seed N --trace\n", (unsigned long long)n,
	       (unsigned long long)failures);
	world_free(w);
	return failures ? 1 : 0;
}
