/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A world in one thread for the TCP translation: the real code of src/shard between a model of the
 * host's socket (sim_sock.c), a model of the transmit batch (sim_tx.c) and wires whose ends are a
 * guest (sim_guest.c) or a script. The clock is the world's: it jumps from event to event, so that
 * hours pass in microseconds and every run is repeated exactly by its seed.
 *
 * Payload is a fixed pattern by stream offset, the guest's and the host's own: nothing is stored,
 * and each byte is compared wherever it is seen. Whoever finds a rule broken calls world_fail(),
 * which ends the run.
 */
#pragma once

#include "shard/tcp_internal.h"

#include "taploom/bytes.h"
#include "taploom/runtime.h"

#include <stdarg.h>

#define NEVER		UINT64_MAX
#define POOL_CHUNKS_ALL 16384u /* of a pool that is not made tiny */

/* What is random follows from the seed alone. */
struct rng {
	uint64_t state;
};

uint64_t rng_next(struct rng *rng);
/* 0 to n - 1. */
uint32_t rng_below(struct rng *rng, uint32_t n);
/* From low to high, both included; equally often in each power of two. */
uint32_t rng_log(struct rng *rng, uint32_t low, uint32_t high);
bool rng_chance(struct rng *rng, uint32_t permille);

/* The byte streams. */
#define PATTERN_PERIOD 65521u /* a prime: a shift by any buffer's size shows */
enum stream { FROM_GUEST, FROM_HOST };
const uint8_t *pattern_at(enum stream stream, uint64_t off, size_t len); /* len up to 65535 */
bool pattern_matches(enum stream stream, uint64_t off, const uint8_t *bytes, size_t len);

/* A TCP segment in either direction, without its payload, which is the pattern. */
struct segment {
	uint32_t seq;
	uint32_t ack;
	uint32_t len; /* payload bytes */
	uint8_t flags;
	uint8_t tos;
	uint16_t window;
	uint16_t urgent;
	uint64_t off; /* stream offset of the payload */
	bool has_mss, has_wscale, sack_ok, has_ts;
	bool junk; /* the payload is not the pattern: it must never reach the stream */
	bool more; /* the next one is in the same batch */
	uint16_t mss;
	uint8_t wscale;
	uint32_t ts_val, ts_ecr;
	uint8_t n_sack;
	struct sack_block sack[4];
};

/* Faults of one direction, in parts per 1000, and delays in microseconds. */
struct faults {
	uint32_t loss, dup, reorder;
	uint32_t delay_us, jitter_us, reorder_us;
};

#define WIRE_MAX 8192

struct wire_entry {
	uint64_t due_us;
	uint64_t order;
	struct segment s;
};

/* Segments under way, a heap by time and order. */
struct wire {
	struct faults faults;
	struct wire_entry heap[WIRE_MAX];
	uint32_t n;
	uint64_t last_due_us; /* those that are not reordered keep their order */
};

/* The host's socket, and the application at its other end. */
struct sim_sock {
	bool open;
	int fd;
	/* How it behaves. */
	uint32_t sndbuf, rcvbuf;
	uint32_t eagain;       /* permille of sends that say EAGAIN without need */
	uint32_t room_percent; /* of the free buffer that info says */
	uint32_t read_chunk;   /* the most that the peer takes at once */
	uint32_t step_us;      /* between the peer's turns */
	uint32_t pause;	       /* permille of turns after which it pauses */
	uint32_t pause_us;
	bool fin_event;	      /* the change to FIN-WAIT-2 is an event */
	uint64_t peer_total;  /* bytes that the peer sends */
	bool peer_fin;	      /* and then closes */
	uint64_t close_after; /* the peer's FIN waits until it has taken as many bytes */
	uint64_t reset_at_us; /* the peer resets */
	uint64_t connect_at_us;
	int connect_error;
	bool scripted; /* the peer does nothing by itself */
	/* State of sending: from the guest to the peer. */
	uint64_t written, taken;
	bool shut, fin_acked;
	uint32_t delivered_ce; /* segments that the peer says met congestion */
	bool want_out;	       /* SOCK_NOSPACE */
	uint64_t out_at_us;
	/* State of receiving. */
	uint64_t arrived, consumed; /* stream offsets: in the buffer is what lies between */
	uint32_t peek_off;
	bool eof, reset;
	int error;
	bool aborted, closed;
	uint32_t keepalive; /* after so many seconds; 0: not */
	uint32_t events;    /* edges not reported yet */
	uint64_t turn_at_us;
	uint64_t urgent_at; /* offset of the urgent byte received from the peer; UINT64_MAX: none */
	uint64_t urgent_sent; /* offset + 1 of the last urgent byte written, 0: none */
	uint32_t urgent;      /* permille of the peer's writes that end with one */
	uint64_t urgent_last; /* offset + 1 of the last that the peer marked, 0: none */
};

#define TX_BYTES 262144

/* The guest's side of the transmit batch. */
struct sim_tx {
	struct tx tx;
	bool gso;
	uint32_t block;	     /* permille of begins that find the guest's side full */
	uint32_t block_us;   /* for how long at most */
	uint64_t unblock_us; /* NEVER: not blocked */
	uint8_t buf[TX_BYTES];
	size_t frame_size;
	bool begun;
};

#define GUEST_RANGES 64

struct range {
	uint32_t start, end;
};

enum guest_state {
	GUEST_CLOSED,
	GUEST_LISTEN,
	GUEST_SYN_SENT,
	GUEST_SYN_RCVD,
	GUEST_OPEN,
	GUEST_RESET
};

/* A TCP endpoint of its own, as plain as it can be. */
struct sim_guest {
	enum guest_state state;
	/* How it behaves. */
	bool use_sack, use_ts, use_wscale, go_back_n, probe_with_data, abort_instead;
	uint16_t mss; /* that it announces */
	uint8_t shift;
	uint32_t rcvbuf, read_chunk, cwnd;
	uint32_t read_step_us, pause, pause_us;
	uint32_t ack_every, delack_us;
	uint64_t total;	      /* bytes that it sends, then a FIN */
	uint64_t close_after; /* its FIN waits until it has received as many bytes */
	uint64_t reset_at_us;
	uint32_t iss;
	uint32_t urgent; /* permille of its new segments that end with an urgent byte */
	/* Sending. */
	uint32_t snd_una, snd_nxt, snd_max, snd_edge, edge_max;
	uint32_t wl1, wl2;
	uint16_t peer_mss;
	uint8_t peer_shift;
	bool peer_wscale, probed;
	bool sack_on, ts_on;
	struct range sacked[GUEST_RANGES];
	uint32_t n_sacked;
	uint32_t dup_acks, recover;
	bool in_recovery;
	uint32_t recovery_nxt;
	uint32_t rto_us, retries;
	uint64_t rto_at_us, probe_at_us;
	uint32_t n_retrans; /* of data */
	bool fin_sent, fin_acked;
	uint64_t urgent_last; /* offset + 1 of the last byte that it marked, 0: none */
	/* Receiving. */
	uint32_t irs, rcv_nxt, rcv_edge;
	uint64_t consumed; /* stream offset up to which the application has read */
	struct range held[GUEST_RANGES];
	uint32_t n_held, recent;
	uint32_t unacked_segments;
	uint64_t delack_at_us, read_at_us;
	bool ack_now, fin_seen;
	uint32_t fin_at; /* sequence number of the FIN */
	bool fin_known;
	uint64_t urgent_seen; /* offset + 1 of the last urgent byte that it was told of */
	uint32_t ts_recent;
	uint64_t alive_at_us; /* it asks whether the peer is alive */
};

struct world {
	uint64_t seed;
	struct rng rng;
	bool trace;
	bool failed;
	char failure[256];
	uint64_t steps;

	struct runtime rt;
	struct config config;
	struct netconf netconf;
	struct shard *shard; /* the flow's owner */
	struct shard *shards[2];
	uint32_t move; /* permille of turns after which the flow goes to the other shard */
	struct flow flows[8];
	unsigned int n_flows;
	struct flow *flow; /* the present one, or NULL */
	struct flow_key key;
	bool v6;

	struct sim_sock sock;
	struct sim_tx tx;
	struct sim_guest guest;
	struct wire to_host, to_guest;
	bool no_guest; /* scripted: emitted segments go to seen only */
	void (*on_emit)(struct world *w, const struct segment *s);
	void (*on_icmp)(struct world *w, uint8_t type, uint8_t code);
	void (*on_sock)(struct world *w, const char *what, uint64_t n);

	/* Of the connection. */
	bool host_opens;
	uint32_t guest_iss, our_iss; /* as seen on the wire */
	bool our_iss_known;
	uint32_t our_edge; /* the right edge of the window that we offered */
	bool our_edge_known;
	uint8_t our_shift;
	bool wscale_offered_by_guest, wscale_offered_by_us;
	uint32_t guest_edge_max; /* of the window that the guest offered */
	uint32_t n_emitted;
	bool guest_heard_reset, we_reset;
	bool waited; /* the flow was in TIME_WAIT for its whole time before it closed */
	uint64_t flow_closed_us;
	uint32_t sack_max; /* highest sequence number that we ever SACKed */
};

extern struct world *sim_world; /* the sockets know only descriptors */

/* One world is mapped once and used again for each seed: the pool and the shard are big. */
struct world *world_new(void);
void world_free(struct world *w);
/* Sets everything back, and the clock to now_us. pool_bytes: at most 64 MiB. */
void world_reset(struct world *w, uint64_t seed, uint64_t now_us, size_t pool_bytes);
/* Chooses the clock so that our initial sequence number will be iss. After the key is set. */
void world_aim_iss(struct world *w, uint32_t iss);
void world_fail(struct world *w, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void world_note(struct world *w, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Whether the kernel has the peek offset for TCP. */
void world_peek_off(struct world *w, bool known);
/* A connection accepted on the host begins. */
void world_accept(struct world *w);
/* The time of the next event of shard, socket, guest or wire. */
uint64_t world_next(const struct world *w);
/* Runs one turn of the shard's loop, and what is due elsewhere, at a time. */
void world_turn(struct world *w, uint64_t now_us);
/* Gives a segment to the shard as a frame, at once, in a batch of its own. */
void world_segment(struct world *w, const struct segment *s);
uint64_t world_drops(const struct world *w, enum drop reason);
uint64_t world_count(const struct world *w, enum counter id);

void wire_send(struct world *w, struct wire *wire, const struct segment *s);
bool wire_take(struct wire *wire, uint64_t now_us, struct segment *s);
uint64_t wire_next(const struct wire *wire);

/* sim_sock.c */
void sock_reset(struct sim_sock *sock);
void sock_turn(struct world *w);
uint64_t sock_next(const struct world *w);
void sock_raise(struct sim_sock *sock, uint32_t events);

/* sim_tx.c */
void sim_tx_init(struct world *w);
void sim_tx_block(struct world *w, uint64_t until_us);

/* sim_guest.c */
void guest_connect(struct world *w);
void guest_segment(struct world *w, const struct segment *s);
void guest_turn(struct world *w);
uint64_t guest_next(const struct world *w);

/* sim_hostile.c: some segments of a guest that keeps to nothing. */
void hostile_run(struct world *w);

void segment_text(const struct segment *s, uint32_t base_seq, uint32_t base_ack, char *text,
		  size_t size);
