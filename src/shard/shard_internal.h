/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A shard as its own modules see it. Everything not marked is reached only by whoever is inside the
 * shard: its thread, or a reader that has entered it.
 */
#pragma once

#include "flow.h"
#include "list.h"
#include "pool.h"
#include "wheel.h"

#include "taploom/shard.h"

#include <pthread.h>

#define SHARD_EVENTS 256

/* A place for a source in the shard's epoll. */
struct source_slot {
	struct pollee pollee;
	struct shard_source *source; /* NULL: free */
};

/* A flow of another shard whose frames come here. Compared, never followed. */
struct stranger {
	const struct flow *flow;
	uint32_t frames;   /* in a row */
	uint64_t asked_us; /* when it was last asked for; 0: never */
};

#define STRANGERS	 64
#define CONNECTING_SLOTS 256

/* A flow that was asked for, and its frames that have come since. */
struct wanted {
	const struct flow *flow; /* NULL: a free place. Compared, never followed */
	struct flow_key key;
	struct frame *first, *last; /* each holds a reference to its slab */
	uint16_t from;		    /* the shard that was asked */
	bool offered;		    /* that shard would rather not have it */
	bool here; /* then: it has come, and what others hand on is before what is kept */
};

/* At most so many at a time: the windows that they were promised must find room in the pool, half
 * of which is left; one flow's is a sixteenth at most. */
#define WANTED 8

/* A flow that this shard has offered to another, until none of its frames can come here any more.
 */
struct leaving {
	const struct flow *flow; /* NULL: none. Compared, never followed */
	unsigned int to;
	uint64_t drain_until_us; /* the queues are to be read to their end, and so long; 0: not yet
				  */
	uint64_t frames_read;	 /* when that began */
};

struct shard {
	/* Constant. */
	struct runtime *rt;
	unsigned int id;
	struct tx *tx;
	int epoll_fd;
	int wake_fd;
	int spare_fd; /* let go when no descriptor is left, to refuse what waits; -1: gone */
	int timer_fd;
	struct pollee wake_pollee, timer_pollee;
	unsigned int n_rings;
	struct ring *rings;	 /* by producer */
	bool spreads;		 /* busy flows may be offered: the queue follows the owner */
	struct flow_table table; /* home of the keys whose hash says so; any thread looks up */

	/* Shared, each with its writers. */
	_Alignas(CACHE_LINE) _Atomic bool asleep; /* its thread, seq_cst; read by producers after a
						     push */
	_Atomic bool tx_ready;			  /* set by the transport, taken by the shard */
	_Atomic bool stopping;			  /* main */
	pthread_mutex_t inside;			  /* whoever runs the shard holds it */
	_Atomic unsigned int
		knocking; /* threads that wait for the mutex; the shard's thread lets them pass */
	struct cds_wfcq_head reclaim_head; /* call_rcu's thread appends, the shard takes all */
	struct cds_wfcq_tail reclaim_tail;

	/* Of whoever is inside. */
	_Alignas(CACHE_LINE) uint64_t now_us;
	uint64_t timer_armed_us; /* for which timer_fd is set; UINT64_MAX: not */
	struct wheel wheel;
	struct pool pool;
	struct flow *flows;
	uint32_t n_flows;     /* entries in memory */
	uint32_t flows_fresh; /* entries from here on were never used */
	uint32_t flows_in_use;
	/* Few entries are left: who gives one back wakes the shard, which alone takes them up.
	 * Relaxed: its thread, or who is inside, writes it; call_rcu's reads it behind an entry. */
	_Atomic bool flows_short;
	struct list flows_free; /* through touched */
	struct list owned;	/* all flows of this owner, but for ... */
	struct list
		connecting; /* ... those of the guest whose connect() is under way, oldest first */
	uint32_t n_connecting;
	uint16_t connecting_to[CONNECTING_SLOTS]; /* of these, by a hash of where to */
	struct list held;      /* accepted, and waiting for others: see order.h */
	struct list touched;   /* flows to be run before this turn ends */
	struct list again;     /* flows to be run with the next turn, without a wait */
	struct list waiting;   /* flows to be run when the guest's side has room */
	struct list time_wait; /* TCP flows in that state, oldest first */
	bool retry;	       /* some wait only for the batch to go out, of which nobody tells */
	struct source_slot sources[2 * MAX_QUEUES];
	bool more_sources;	/* a source has more to read: do not block */
	struct flow *last_flow; /* of the batch: consecutive frames are often of one flow */
	bool foreign;		/* the present batch comes from another shard, or was made */
	struct slab *slab;	/* of the present batch */
	struct stranger strangers[STRANGERS]; /* by hash */
	struct wanted wanted[WANTED];
	unsigned int n_wanted;
	struct leaving leaving;
	struct spread spread;
	/* The number of busy flows in a period, behind that period's number: relaxed, for other
	 * shards; a hint. */
	_Atomic uint64_t busy_shown;
	struct batch forward[MAX_SHARDS]; /* frames of the present batch whose flows others own */
	struct log_limit flows_limit, fd_limit, pool_limit, ping_limit;
	struct counters counters;
	bool peek_off; /* whether the sockets of TCP flows have SO_PEEK_OFF: all of them or none */
	uint8_t *discard;     /* HOSTSOCK_DISCARD_SIZE bytes, never read */
	uint32_t bulk_period; /* flows that send much are counted by periods ... */
	uint32_t bulk_flows;  /* ... in the present one ... */
	uint32_t bulk_before; /* ... and in the one before */
	/* The greater of the two, behind the period's number: relaxed, for other shards; a hint. */
	_Atomic uint32_t bulk_shown;
	uint64_t challenge_second; /* of the limit on challenge ACKs */
	uint32_t challenges;
	void *dgrams;		 /* struct dgrams: the UDP and echo side's own */
	struct splicer *splicer; /* of spliced connections */
	void *fragments;	 /* struct fragments: reassembly's own */
};

/* The clock of all deadlines, in microseconds; monotonic. */
uint64_t shard_clock_us(void);

/* The shard's lists, all empty. */
static inline void shard_init_lists(struct shard *shard)
{
	list_init(&shard->flows_free);
	list_init(&shard->owned);
	list_init(&shard->connecting);
	list_init(&shard->held);
	list_init(&shard->touched);
	list_init(&shard->again);
	list_init(&shard->time_wait);
	list_init(&shard->waiting);
}

/* Largest IP packet for the guest, in bytes: no IPv6 link has less than 1280 (RFC 8200 5), whatever
 * IPv4 is told. */
static inline uint32_t guest_mtu(const struct shard *shard, bool v4)
{
	uint32_t mtu = shard->rt->config->mtu ? shard->rt->config->mtu : 1500;

	return v4 || mtu > 1280 ? mtu : 1280;
}

/* Who speaks for the host when it cannot reach a destination: the guest's gateway, or in its stead
 * that itself. */
static inline struct ip_addr router_towards(const struct shard *shard, const struct ip_addr *dst)
{
	const struct netconf_version *v = &netconf_get(shard->rt)->v[ip_version_of(dst)];

	return ip_is_unset(&v->gateway) ? *dst : v->gateway;
}

/* Puts a flow on the list of those to be run before the turn ends. */
static inline void shard_touch(struct shard *shard, struct flow *flow)
{
	if (list_is_empty(&flow->touched))
		list_append(&shard->touched, &flow->touched);
}

/* The same for the next turn: sockets and rings of others come first. */
static inline void shard_touch_again(struct shard *shard, struct flow *flow)
{
	list_remove(&flow->touched);
	list_append(&shard->again, &flow->touched);
}

/* Enters a shard from the control thread, waiting for whoever is inside; shard_leave() ends it. The
 * caller is a registered QSBR thread, online before and after. */
void shard_enter(struct shard *shard);

/* Adds a flow's descriptor to the epoll, edge-triggered, for all events. 0 or -errno. */
int shard_watch(struct shard *shard, struct flow *flow);

/* Hands a frame on to the shard that owns its flow; it goes out when the batch is at its end. */
void shard_forward(struct shard *shard, struct frame *frame, unsigned int owner);

/*
 * Runs one frame that was not read but made (a reassembled one), or hands it to the shard that its
 * hash says. Like a batch of its own: it may be called while another runs. The caller's reference
 * to the slab goes with it.
 */
void shard_inject(struct shard *shard, struct frame *frame, struct slab *slab);

/* Pushes what the batch under way has for others, each with a reference to its slab. */
void shard_push_forwarded(struct shard *shard);

/* Runs frames of shard->slab's successor, batch->slab, as a batch of their own; their references
 * stay the caller's. No other batch is under way. */
void shard_run_frames(struct shard *shard, const struct batch *batch);

/* Runs a flow now. False: the guest's side is full, and it waits to be run again. */
bool shard_run_flow(struct shard *shard, struct flow *flow);

/* Runs each flow that was marked, once. */
void shard_run_touched(struct shard *shard);

/* Whether no other thread has left a batch for this shard. */
bool shard_rings_are_empty(const struct shard *shard);

/* Takes up a flow whose owner this shard is. */
void shard_own(struct shard *shard, struct flow *flow);

/* move.c: hands a flow that this shard owns to another, in order behind what was forwarded. False:
 * the ring is busy. */
bool shard_give_flow(struct shard *shard, struct flow *flow, unsigned int owner);
/* Tells another shard that a flow, which it may hold, need not wait any more: see order.h. */
void move_let_go(struct shard *shard, const struct flow *flow, uint32_t number, unsigned int to);
/* A frame of a flow that another shard owns has come here: it goes there; and if the guest goes on
 * sending here, the flow is asked for. */
void move_hand_on(struct shard *shard, struct flow *flow, struct frame *frame, unsigned int owner);
/* Whether the frame is of a flow that was asked for: then it is kept until the answer is there. */
bool move_keeps(struct shard *shard, struct frame *frame);
/* The batches by which shards speak of flows. */
void move_take(struct shard *shard, struct flow *flow);
void move_answer(struct shard *shard, struct flow *flow, uint32_t hash, unsigned int to);
void move_denied(struct shard *shard, const struct flow *flow);
/* Offers a flow that this shard owns to another; spread_done() tells the end. False: it cannot move
 * now. No batch is under way. */
bool move_offer(struct shard *shard, struct flow *flow, unsigned int to);
void move_offered(struct shard *shard, const struct flow *flow, uint32_t hash, unsigned int from);
void move_declined(struct shard *shard, const struct flow *flow);
void move_drain(struct shard *shard, const struct flow *flow);
void move_drained(struct shard *shard, const struct flow *flow);
/* Once a turn, behind the rings: reads this shard's queues to their end if that was asked for. */
void move_settle(struct shard *shard);

/* conn.c: a TCP segment; finds its flow or begins one. */
void conn_frame(struct shard *shard, struct frame *frame);
/* listen.c: a listening socket is readable. */
struct listener;
void listener_accept(struct shard *shard, struct listener *listener);

/* Publishes and begins a connection that was accepted, at the shard that is to own it; refuses it
 * if its key is in use. */
void listener_begin(struct shard *shard, struct flow *flow);
/* Sets what every TCP socket of ours needs before data flows. */
void conn_socket_options(int fd, bool peek_off);

/* Counts and logs, at a limited rate, that the limit on open files is reached. */
void shard_out_of_fds(struct shard *shard);
