/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What all threads share: made by the main thread before the others start. Each member says who
 * writes it; everything not marked is constant.
 */
#pragma once

#include "taploom/bytes.h"
#include "taploom/config.h"
#include "taploom/frame.h"
#include "taploom/log.h"
#include "taploom/netconf.h"
#include "taploom/rcu.h"
#include "taploom/ring.h"

#include <stdatomic.h>
#include <stdbool.h>

struct listener;
struct order;
struct shard;
struct tx;
struct control;
struct ns_sockets;

#define STEERING_BUCKETS 256

/*
 * Which shard the hash of a TCP flow belongs to, like a NIC's RSS table. The reader publishes
 * another one by RCU, to move buckets by load, while nothing that it has handed over is under way.
 */
struct steering {
	uint8_t shard[STEERING_BUCKETS];
	_Atomic bool in_use; /* set by the reader, cleared with release after a grace period */
	struct rcu_head reclaim;
};

#define STEERING_TABLES 3 /* one in use, the others at most a grace period from being free */

struct runtime {
	const struct config *config;
	struct hash_secret secret;
	unsigned int n_shards;
	struct shard *shards[MAX_SHARDS];
	unsigned int
		n_readers; /* tap readers with rings of their own: 0 where shards read queues */

	struct netconf *netconf_rcu;   /* written by control */
	struct steering *steering_rcu; /* written by main, then by the reader: one of the tables */
	struct steering tables[STEERING_TABLES];

	/* Flows that a shard has asked another for and has no answer yet. Written by the asking
	 * shard; the reader loads it with acquire before it changes the table. */
	_Atomic uint32_t moving;

	/* When a busy flow was last offered to another shard: the period's number in the upper
	 * half, and 1 while it is under way. Written by the shard that offers, compared and
	 * exchanged; relaxed, as nothing else depends on it. */
	_Atomic uint64_t spreading;

	/* The guest's Ethernet address, in the low 48 bits (first byte highest); 0: not seen.
	 * Written by whoever reads a frame from another source, relaxed; read for each frame to the
	 * guest. */
	_Atomic uint64_t guest_mac;

	/* How often the addresses learnt of the guest were forgotten. Written by control, with
	 * release, once it has; readers load it with acquire before they rely on having told. */
	_Atomic uint32_t addrs_forgotten;

	struct control *control;

	struct listener *listeners;	     /* control's alone: those that are open */
	const struct ns_sockets *ns_sockets; /* of the guest's namespace; NULL: there is none */

	struct listener *spare_listeners; /* and those that may be used again */
	unsigned int n_listeners;	  /* that were ever made */
	struct order *orders; /* ORDERS of them, owned; made with the first listener, by control */

	struct udp_ports *udp_ports; /* forwarded UDP ports, by the guest's; the entries have their
					own rules */
};

/*
 * Hands a frame to the control thread: it is copied (at most 2 KiB; a longer one is dropped). Any
 * thread. Returns DROP_NONE, or DROP_CONTROL_FULL for the caller to count.
 */
enum drop control_post_frame(struct control *control, const struct frame *frame);

/* Tells the control thread of an address that the guest uses. Any thread; cheap if nothing is new.
 * False if it did not get there, as there is too much such news: to be told again. */
bool control_guest_address(struct control *control, const struct ip_addr *addr);

/* Called within a read-side section (a registered QSBR thread that is online). */
static inline const struct netconf *netconf_get(const struct runtime *rt)
{
	const struct netconf *n = rcu_dereference(rt->netconf_rcu);
	RCU_NOTE_LOOKUP(n);
	return n;
}

/* Only TCP flows can follow a bucket that moves. */
static inline bool steering_applies(uint8_t proto)
{
	return proto == FLOW_TCP;
}

/* The shard for frames of a flow, where readers hand them out. Called like netconf_get(). */
static inline unsigned int steer(const struct runtime *rt, uint8_t proto, uint32_t hash)
{
	const struct steering *s;

	if (!steering_applies(proto))
		return hash % rt->n_shards;
	s = rcu_dereference(rt->steering_rcu);
	RCU_NOTE_LOOKUP(s);
	return s->shard[hash % STEERING_BUCKETS];
}

/* Where frames to the guest go: to everybody until it has shown its address, as there is nobody
 * else. */
static inline struct eth_addr guest_mac_get(const struct runtime *rt)
{
	uint64_t m = atomic_load_explicit(&rt->guest_mac, memory_order_relaxed);

	if (!m)
		m = ETH_BROADCAST;
	return (struct eth_addr){ { (uint8_t)(m >> 40), (uint8_t)(m >> 32), (uint8_t)(m >> 24),
				    (uint8_t)(m >> 16), (uint8_t)(m >> 8), (uint8_t)m } };
}

static inline void guest_mac_forget(struct runtime *rt)
{
	atomic_store_explicit(&rt->guest_mac, 0, memory_order_relaxed);
}

static inline void guest_mac_note(struct runtime *rt, const uint8_t src[ETH_ADDR_LEN])
{
	uint64_t m = (uint64_t)load_be16(src) << 32 | load_be32(src + 2);
	if (atomic_load_explicit(&rt->guest_mac, memory_order_relaxed) != m)
		atomic_store_explicit(&rt->guest_mac, m, memory_order_relaxed);
}
