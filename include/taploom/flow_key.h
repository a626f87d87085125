/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Flow keys: what tells one flow from another, as the guest sees it. The guest's side is the one
 * whose frames come from the tap, whoever began the flow.
 */
#pragma once

#include "taploom/addr.h"

#include <stdint.h>

/* The key's protocol; UDP and echo flows have no peer in their key (see docs/architecture.md). */
enum flow_proto { FLOW_TCP = 1, FLOW_UDP, FLOW_ECHO, FLOW_FRAGMENT, FLOW_SPLICE, FLOW_SPLICE_UDP };

struct flow_key {
	struct ip_addr guest;
	struct ip_addr peer;
	uint16_t guest_port; /* host order; an echo's identifier */
	uint16_t peer_port;
	uint8_t proto;	 /* enum flow_proto */
	uint8_t zero[3]; /* always 0, as keys are hashed and compared as bytes */
};

_Static_assert(sizeof(struct flow_key) == 40, "a flow key is hashed as five 64-bit words");

struct hash_secret {
	uint64_t k[2];
};

/*
 * SipHash-1-3 of the key under a secret made at start, so that nobody outside can aim many flows at
 * one bucket or shard. Pure; any thread.
 */
uint32_t flow_key_hash(const struct flow_key *key, const struct hash_secret *secret);

/*
 * The hash that selects a flow's shard. That of the whole key, but for UDP, where only protocol and
 * guest port count: the IPv4 and IPv6 flows of a port and its forwarding socket meet on one shard.
 */
uint32_t flow_steer_hash(const struct flow_key *key, const struct hash_secret *secret);

static inline bool flow_key_eq(const struct flow_key *a, const struct flow_key *b)
{
	return memcmp(a, b, sizeof(*a)) == 0;
}
