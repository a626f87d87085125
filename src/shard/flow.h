/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Flows and the table that finds them. Each shard has a fixed-size table; a key's home is the table
 * of shard hash % N, and any thread may look there within a read-side section. Entries are
 * preallocated by shard; the shard that owns a flow may be another than its home and than the one
 * whose memory it is in. A freed entry goes through call_rcu and comes back to the shard in whose
 * memory it is.
 */
#pragma once

#include "list.h"
#include "order.h"
#include "pollee.h"
#include "splice.h"
#include "splice_udp.h"
#include "spread.h"
#include "tcp.h"
#include "wheel.h"

#include "taploom/flow_key.h"
#include "taploom/rcu.h"

#include <stdatomic.h>

struct shard;
struct runtime;
struct udp_port;
struct dgram_peer;

/* A UDP or echo flow: one per guest address and port (RFC 4787: endpoint-independent mapping). */
struct dgram {
	struct list peers; /* struct dgram_peer, those that the guest wrote to; the oldest first */
	uint32_t n_peers;
	struct dgram_peer *recent; /* of the last datagram; NULL: none */
	struct udp_port *port;	   /* the guest's port is forwarded: its listeners; or NULL */
	struct list port_link;	   /* among the flows of that port */
	unsigned int oif;	   /* the device that the user named for what leaves; 0: none */
	uint16_t segment_max;	   /* runs of longer datagrams were refused by the kernel */
	int8_t df;		   /* what the own socket does with DF; -1: not set yet */
	uint16_t mtu;		   /* of a hop behind the guest that takes less; 0: none is known */
	uint16_t own_port;	   /* the own socket's; 0: none */
	bool group;		   /* wrote to a group: anyone may answer */
	bool answered;		   /* something came back: the longer time-out holds */
	uint64_t last_us;
};

struct flow {
	struct pollee pollee;
	struct cds_lfht_node node; /* the table's: home of the key's hash */

	/* Constant from flow_publish() to the grace period after flow_close(): any thread reads. */
	struct flow_key key;
	uint32_t hash;	      /* flow_steer_hash() of the key */
	struct shard *memory; /* the shard in whose memory the entry is */

	/* The owner: stored with release by shard_give_flow(), loaded with acquire by any thread.
	 */
	_Atomic uint16_t owner;

	/* The owner's alone. */
	bool closed;  /* out of the table; the entry waits for its grace period */
	bool adopted; /* the owner has taken it up: it is in its list and epoll */
	bool in_epoll;
	bool fresh;	   /* accepted, and neither published nor begun towards the guest */
	bool passed_on;	   /* on its way to the owner of what has its key */
	uint16_t queue;	   /* on which the guest last sent for it */
	int fd;		   /* owned; -1: none */
	uint32_t events;   /* EPOLL* reported since the last run */
	uint64_t moved_us; /* when it last changed its owner */
	struct spread_flow spread;
	struct list touched; /* in shard->touched, again, waiting or time_wait */
	struct list owned;   /* in shard->owned */
	struct list held;    /* in shard->held: nothing was said of it to the guest yet */
	struct ticket ticket;
	struct timer timer;
	union {
		struct tcp tcp;
		struct dgram dgram;
		struct splice splice;
		struct splice_udp splice_udp;
	};

	struct cds_wfcq_node reclaim_node; /* on the way back */
	struct rcu_head reclaim;
};

struct flow_table {
	struct cds_lfht *lfht;
};

/* n: entries to be expected. 0 or -ENOMEM. */
int flow_table_init(struct flow_table *table, uint32_t n);
void flow_table_free(struct flow_table *table);

/* Finds a flow in its home table. Any registered thread, online, in a read-side section that ends
 * before it blocks. */
struct flow *flow_find(const struct runtime *rt, const struct flow_key *key, uint32_t hash);

/* Whether an entry, which may have been freed since, is in the table and of this hash; then as for
 * flow_find(). */
bool flow_is_published(const struct runtime *rt, const struct flow *flow, uint32_t hash);

/* A fresh entry of this shard's memory, zeroed, owned by it, with the key set; NULL and counted if
 * none is left. */
struct flow *flow_take(struct shard *shard, const struct flow_key *key, uint32_t hash);
/* Gives back an entry that was never published. */
void flow_give(struct shard *shard, struct flow *flow);

/* The same where its memory may be another shard's. */
void flow_give_home(struct shard *shard, struct flow *flow);

/* Makes it findable. Returns the flow that was there already (the caller gives its own back), or
 * this one. */
struct flow *flow_publish(struct shard *shard, struct flow *flow);

/* Takes a flow out of the table, its timer and lists, closes nothing; its entry is reclaimed. The
 * owner. */
void flow_close(struct shard *shard, struct flow *flow);

/* Returns reclaimed entries to the free list; once a loop. */
void flow_reclaim(struct shard *shard);

/* Whether entries came back that are needed soon. */
bool flow_waits_for_reclaim(struct shard *shard);

static inline uint16_t flow_owner(const struct flow *flow)
{
	return atomic_load_explicit(&flow->owner, memory_order_acquire);
}
