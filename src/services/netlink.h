/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the kernel tells by rtnetlink(7), and which of it the guest is given. Messages are folded
 * into a state, the state is reduced to a struct host_net; pure, but for the memory of the state's
 * lists. Whatever else the kernel has (a full routing table, say) is passed over and not kept.
 * discovery.c does the I/O.
 */
#pragma once

#include "taploom/netconf.h"

struct netlink_link {
	unsigned int ifindex;
	char name[IFNAMSIZ];
	struct eth_addr mac; /* zero for links without one */
	uint32_t mtu;
	bool usable; /* up, and not the loopback interface */
};

/* An address of the host; the lower the rank, the better for the guest. */
struct netlink_address {
	unsigned int ifindex;
	struct ip_addr addr;
	uint8_t prefix_len;
	enum { RANK_STABLE, RANK_TEMPORARY, RANK_DEPRECATED, RANK_LINK_LOCAL } rank;
};

/* A default route of the main table. */
struct netlink_route {
	enum ip_version version;
	unsigned int ifindex;
	uint32_t metric;
	struct ip_addr gateway; /* unset: on-link, or of the other version */
};

/* Lists in the kernel's order, owned. Starts zeroed. */
struct netlink_state {
	struct netlink_link *links;
	struct netlink_address *addresses;
	struct netlink_route *routes;
	size_t n_links, n_addresses, n_routes;
	bool interrupted; /* the host changed during a dump, which may be incomplete */
	unsigned int before[IP_VERSIONS]; /* interfaces that a default route gave last; 0: none */
};

/* Frees the lists and zeroes the state. */
void netlink_state_clear(struct netlink_state *state);

/*
 * Folds a datagram of a dump into the state: links, addresses, routes. Messages that do not parse,
 * or with another sequence number than seq, are passed over.
 *
 * bytes: aligned to 4.
 * Returns 1 if the dump goes on, 0 at its end, -errno if the kernel refused it or memory is short.
 */
int netlink_state_take(struct netlink_state *state, const void *bytes, size_t len, uint32_t seq);

/*
 * Whether a datagram of events has one that may change the outcome: any of links and addresses, and
 * of default routes of the main table. bytes as above.
 */
bool netlink_events_matter(const void *bytes, size_t len);

/*
 * Picks what the guest is given: per version, the interface named by the user, or else that of the
 * default route with the lowest metric, or else, without any default route, the one that has a
 * global address.
 */
void netlink_select(const struct netlink_state *state, const struct config *config,
		    struct host_net *out);
