/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is made inside the guest's network namespace: the tap device, and with --config-net the
 * addresses and routes. The plan is drawn up outside, from the configuration and from what the
 * host's template interface has; netns_plan_apply() carries it out inside. Main thread.
 */
#pragma once

#include "taploom/addr.h"
#include "taploom/netconf.h"

#define PLAN_MAX_ADDRS	    64
#define PLAN_VERSION_ROUTES 512 /* of one IP version */
#define PLAN_MAX_ROUTES	    (2 * PLAN_VERSION_ROUTES)

struct plan_addr {
	struct ip_addr addr;
	uint8_t prefix_len;
	bool no_prefix_route; /* IFA_F_NOPREFIXROUTE: its route is among the routes */
	bool deprecated;      /* for connections that have it only */
};

struct plan_route {
	enum ip_version version;
	struct ip_addr dst; /* prefix_len 0: the default route */
	uint8_t prefix_len;
	uint8_t scope;		/* RT_SCOPE_* */
	bool onlink;		/* RTNH_F_ONLINK */
	uint32_t metric;	/* 0: the kernel's choice */
	struct ip_addr gateway; /* unset: none */
	struct ip_addr source;	/* preferred source; unset: none */
};

struct netns_plan {
	char ifname[IFNAMSIZ];
	bool mac_set;
	struct eth_addr mac;
	unsigned int n_queues;
	bool configure; /* the rest is carried out; else only the device is made, and lo brought up
			 */
	bool hidden;	/* --splice-only: the device is in a namespace that nobody enters */
	bool ip6;	/* the namespace gets a link-local address */
	uint32_t mtu;	/* 0: as the device has it */
	struct plan_addr addrs[PLAN_MAX_ADDRS];
	unsigned int n_addrs;
	struct plan_route routes[PLAN_MAX_ROUTES];
	unsigned int n_routes;
};

/*
 * Draws up the plan.
 *
 * net:  the guest's configuration, for what is not copied from the host; host: the template
 * interfaces. n_queues: 1 to MAX_QUEUES. Reads the host's addresses and routes by netlink where
 * they are to be copied. 0 or -errno.
 */
int netns_plan_make(struct netns_plan *plan, const struct config *config, const struct netconf *net,
		    const struct host_net *host, unsigned int n_queues);

/* Adds the addresses and the routes of the main table that an interface has. 0 or -errno. */
int netns_plan_copy_addrs(struct netns_plan *plan, enum ip_version version, unsigned int ifindex);
int netns_plan_copy_routes(struct netns_plan *plan, enum ip_version version, unsigned int ifindex);

/*
 * Configures the namespace that the calling thread is in: lo up, and the device as planned, up with
 * its addresses and routes. IPv6 addresses are set without duplicate detection, so that they can be
 * used at once. mac receives the device's address. 0 or -errno, logged.
 */
int netns_plan_apply(const struct netns_plan *plan, unsigned int ifindex, struct eth_addr *mac);

/*
 * Turns what was set up by one plan into what another says, in the namespace that the calling
 * thread is in. Only what the first plan had is removed. 0 or -errno.
 */
int netns_plan_update(const struct netns_plan *before, const struct netns_plan *now,
		      unsigned int ifindex);

/* Whether an address is among those of a plan, whatever its prefix. */
bool netns_plan_has_addr(const struct netns_plan *plan, const struct ip_addr *addr);
/* Whether two plans give a namespace the same addresses and routes. */
bool netns_plan_eq(const struct netns_plan *a, const struct netns_plan *b);

/* Brings the loopback interface up in the namespace that the calling thread is in. 0 or -errno,
 * logged. */
int netns_lo_up(void);
