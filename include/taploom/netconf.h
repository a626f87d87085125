/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The network that the guest is given: addresses, gateway, resolvers, and how addresses are mapped
 * between the guest's view and the host's. Built by the control thread from the configuration and
 * from what the host has, published by RCU, never changed afterwards.
 */
#pragma once

#include "taploom/addr.h"
#include "taploom/config.h"

/* What the host has; one entry per IP version. Filled by discovery (netlink). */
struct host_net {
	struct {
		unsigned int ifindex; /* 0: no usable interface */
		bool routed;	      /* by a default route, no guess */
		char ifname[IFNAMSIZ];
		struct ip_addr addr; /* unset: none */
		uint8_t prefix_len;
		struct ip_addr gateway;	   /* unset: none (on-link default route) */
		struct ip_addr link_local; /* IPv6: the interface's own */
		struct eth_addr mac;
		uint32_t mtu;
	} v[IP_VERSIONS];
};

/* What the host's resolv.conf says. */
struct resolv_conf {
	struct ip_addr dns[2 * MAX_DNS];
	unsigned int n_dns;
	struct domain search[MAX_SEARCH];
	unsigned int n_search;
};

struct netconf_version {
	bool on;	     /* this version is used at all */
	struct ip_addr addr; /* assigned to the guest; unset: no address to assign */
	bool placeholder;    /* addr is link-local, until the host has one */
	uint8_t prefix_len;
	struct ip_addr gateway; /* what the guest uses as router; for IPv6 link-local or the host's
				   router */
	struct ip_addr dns[MAX_DNS]; /* what the guest is told */
	unsigned int n_dns;

	struct ip_addr seen;	   /* the address the guest was seen to use; unset: not seen yet */
	struct ip_addr seen_local; /* IPv6: its link-local address */

	struct ip_addr
		map_host_loopback; /* guest to this address: the host's loopback; unset: off */
	struct ip_addr
		map_guest_addr; /* guest to this address: the host's own address; unset: off */
	struct ip_addr
		dns_match; /* guest to this address, port 53 or 853: dns_target; unset: off */
	struct ip_addr dns_target;
	struct ip_addr outbound_addr; /* source to bind to; unset: the kernel's choice */
	struct ip_addr host_addr; /* the host's own that it then chooses; unset: none is known */
	unsigned int ifindex;	  /* the host's interface: scope of link-local addresses; 0: none */
	char outbound_if[IFNAMSIZ]; /* bind to this device; "": not */
	struct ip_addr our_local;   /* link-local source of what we say to the guest (IPv6) */
};

struct netconf {
	struct netconf_version v[IP_VERSIONS];
	struct domain search[MAX_SEARCH];
	unsigned int n_search;
	char hostname[MAX_DOMAIN];
	char fqdn[MAX_DOMAIN];
	uint32_t mtu; /* announced; 0: not */
	struct eth_addr our_mac;
};

/*
 * Merges what the user said with what the host has (pure; any thread). The addresses seen are
 * carried over from the configuration before, if there was one.
 */
void netconf_build(struct netconf *out, const struct config *config, const struct host_net *host,
		   const struct resolv_conf *resolv, const struct netconf *before);
