/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Neighbour and router discovery for the guest (RFC 4861): which solicitations are answered and
 * with what, what a router advertisement says, and when one is due. There is one router on the
 * link, and it owns every address but the guest's. No I/O and no clock: the time comes as an
 * argument. A struct ndp_router is its owner's.
 */
#pragma once

#include "ndp_codec.h"

#include "taploom/counters.h"
#include "taploom/netconf.h"

/* RFC 4861 6.2.1 and 10, in microseconds. */
#define NDP_MAX_INTERVAL_US	UINT64_C(600000000)
#define NDP_MIN_INTERVAL_US	UINT64_C(198000000)
#define NDP_INITIAL_INTERVAL_US UINT64_C(16000000)
#define NDP_INITIAL_RAS		3
#define NDP_MIN_DELAY_US	UINT64_C(3000000) /* between two multicast RAs */

#define NDP_ROUTER_LIFETIME_S  1800 /* three times the longest interval; of RDNSS and DNSSL too */
#define NDP_VALID_S	       86400
#define NDP_PREFERRED_S	       14400
#define NDP_DEPRECATED_VALID_S 7200 /* for old connections; RFC 4862 5.5.3 lets nobody say less */

#define NDP_MAX_OLD_PREFIXES 4

struct ndp_old_prefix {
	struct ip_addr prefix;
	uint8_t len;
};

/* The sending side of a router's interface. Zeroed: nothing was sent yet, the first RA is due at
 * once. */
struct ndp_router {
	uint64_t next_us;	/* when the next multicast RA is due */
	uint64_t last_us;	/* when the last one went out */
	bool sent;		/* last_us is valid */
	unsigned int n_initial; /* RAs of the initial burst that went out */
	/* What the guest was told earlier and is to forget; kept for one burst. */
	struct ndp_old_prefix old_prefixes[NDP_MAX_OLD_PREFIXES];
	unsigned int n_old_prefixes;
	struct ip_addr old_dns[MAX_DNS];
	unsigned int n_old_dns;
	struct domain old_search[MAX_SEARCH];
	unsigned int n_old_search;
};

/*
 * Whether a message has to be processed (RFC 4861 6.1.1, 7.1.1, and the rules that all types
 * share). The checksum is the caller's to verify.
 */
bool ndp_is_valid(const struct ndp_query *query, const struct ip_addr *src,
		  const struct ip_addr *dst, uint8_t hop_limit);

/* Whether a valid message shows an address that its sender is about to use: duplicate address
 * detection does (RFC 4862 5.4). src: of its packet. */
bool ndp_shows_target(const struct netconf *net, const struct ndp_query *query,
		      const struct ip_addr *src);

/*
 * Answers a valid neighbour solicitation: false for duplicate address detection (it is never
 * answered: whatever the guest picks is free), for the guest's own addresses and for what is no
 * unicast address.
 */
bool ndp_answer_ns(const struct netconf *net, const struct ndp_query *query,
		   const struct ip_addr *src, struct ndp_na *na);

/* Whether this configuration has a router that advertises itself. */
bool ndp_advertises(const struct config *config, const struct netconf *net);

/* What an RA says now. Lends from router and net. */
void ndp_fill_ra(const struct ndp_router *router, const struct config *config,
		 const struct netconf *net, struct ndp_ra *ra);

/* The last RA under a link-local address or of an interface that ceases to advertise (RFC
 * 4861 6.2.5, 6.2.8). */
void ndp_fill_farewell(const struct ndp_router *router, const struct config *config,
		       const struct netconf *before, struct ndp_ra *ra);

/* A multicast RA went out: draws the time of the next (RFC 4861 6.2.4). random: any 32 bits. */
void ndp_router_sent(struct ndp_router *router, uint64_t now_us, uint32_t random);

/* A multicast RA is wanted as soon as the rate limit of RFC 4861 6.2.6 allows. */
void ndp_router_hurry(struct ndp_router *router, uint64_t now_us);

/* What the guest is told has changed, or a guest came: a new burst begins. before may be NULL. */
void ndp_router_changed(struct ndp_router *router, const struct netconf *before,
			const struct netconf *now, uint64_t now_us);
