/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Merges the command line, the host's addresses and routes, and its resolv.conf into what the guest
 * is given.
 *
 * A version is on if it has an address, from the user or from the host. If no version has one, all
 * that the user allows are on in local mode: the guest can then reach the host, and keeps its link
 * until the host's network comes up, when the configuration is built anew.
 *
 * Port 53 of one address per version can be sent elsewhere (dns_match to dns_target). In this order
 * it serves
 * --dns-forward; a resolver that the guest cannot reach by its own address (one on the host's
 * loopback, or on the address that the guest was given), behind the address that stands for the
 * host; and a resolver whose address would otherwise be taken for the host's loopback, behind
 * itself.
 */
#include "taploom/netconf.h"

/* With no address of the host's to copy: RFC 3927 addresses that no configuration tool takes by
 * default. */
static const struct ip_addr local_addr4 = { .b = { [10] = 0xff, 0xff, 169, 254, 2, 1 } };
static const struct ip_addr local_gateway[IP_VERSIONS] = {
	[IP4] = { .b = { [10] = 0xff, 0xff, 169, 254, 2, 2 } },
	[IP6] = { .b = { 0xfe, 0x80, [15] = 1 } },
};

/* Locally administered; the same in every daemon, so that a guest that migrates keeps its
 * neighbour. */
static const struct eth_addr default_mac = { { 0x9a, 0x55, 0x9a, 0x55, 0x9a, 0x55 } };

/* What the versions of one configuration are built from. */
struct sources {
	const struct config *config;
	const struct host_net *host;
	const struct resolv_conf *resolv;
};

static bool has_address(const struct sources *from, enum ip_version v)
{
	return !from->config->family_off[v] &&
	       (!ip_is_unset(&from->config->addr[v]) || !ip_is_unset(&from->host->v[v].addr));
}

static const struct ip_addr *first_set(const struct ip_addr *a, const struct ip_addr *b)
{
	return ip_is_unset(a) ? b : a;
}

/* The length that the address' class implies (RFC 791 3.2), for an address that the host does not
 * have. */
static uint8_t class_prefix_len(const struct ip_addr *addr)
{
	uint8_t first = addr->b[12];

	if (first < 128)
		return 8;
	if (first < 192)
		return 16;
	return first < 224 ? 24 : 32;
}

static uint8_t prefix_len_of(const struct sources *from, enum ip_version v,
			     const struct ip_addr *addr)
{
	if (from->config->prefix_len[v])
		return from->config->prefix_len[v];
	if (v == IP6)
		return 64; /* what autoconfiguration takes, whatever the host has (RFC 4291 2.5.4)
			    */
	if (ip_eq(addr, &from->host->v[v].addr))
		return from->host->v[v].prefix_len;
	return class_prefix_len(addr);
}

static void build_addresses(struct netconf_version *out, const struct sources *from,
			    enum ip_version v)
{
	const struct ip_addr *gateway = &local_gateway[v];

	if (has_address(from, v)) {
		out->addr = *first_set(&from->config->addr[v], &from->host->v[v].addr);
		gateway = first_set(&from->host->v[v].gateway, gateway);
	} else if (v == IP4) {
		out->addr = local_addr4;
		out->placeholder = true;
	}
	out->prefix_len = prefix_len_of(from, v, &out->addr);
	out->gateway = *first_set(&from->config->gateway[v], gateway);
	if (v == IP6)
		out->our_local = ip_is_link_local(&out->gateway) ? out->gateway : local_gateway[v];
}

static void build_mappings(struct netconf_version *out, const struct sources *from,
			   enum ip_version v)
{
	const struct config *config = from->config;

	if (config->map_host_loopback_set[v])
		out->map_host_loopback = config->map_host_loopback[v];
	else if (!config->no_map_gw)
		out->map_host_loopback = out->gateway;
	out->map_guest_addr = config->map_guest_addr[v];
	out->outbound_addr = config->outbound_addr[v];
	out->host_addr = *first_set(&out->outbound_addr, &from->host->v[v].addr);
	out->ifindex = from->host->v[v].ifindex;
	memcpy(out->outbound_if, config->outbound_if[v], sizeof(out->outbound_if));
}

/* Adds a resolver to what the guest is told, once, while there is room. */
static void tell_resolver(struct netconf_version *out, const struct ip_addr *resolver)
{
	for (unsigned int i = 0; i < out->n_dns; i++)
		if (ip_eq(&out->dns[i], resolver))
			return;
	if (out->n_dns < MAX_DNS)
		out->dns[out->n_dns++] = *resolver;
}

/* Sends DNS for match to target, if that is still free to be decided. Returns whether it goes
 * there. */
static bool match_dns(struct netconf_version *out, const struct ip_addr *match,
		      const struct ip_addr *target)
{
	if (ip_is_unset(match))
		return false;
	if (ip_is_unset(&out->dns_match)) {
		out->dns_match = *match;
		out->dns_target = *target;
	}
	return ip_eq(&out->dns_match, match) && ip_eq(&out->dns_target, target);
}

/* Takes one of the host's resolvers, if there is a way for the guest to reach it. */
static void take_resolver(struct netconf_version *out, const struct ip_addr *resolver)
{
	bool is_host = ip_is_loopback(resolver) || ip_eq(resolver, &out->addr);
	/* As map.c has it: the router's own address stands for what the gateway stands for. */
	bool is_router = !ip_is_unset(&out->our_local) && ip_eq(resolver, &out->our_local) &&
			 ip_eq(&out->gateway, &out->map_host_loopback);
	bool shadowed = is_router || ip_eq(resolver, &out->map_host_loopback) ||
			ip_eq(resolver, &out->map_guest_addr);
	const struct ip_addr *told = is_host ? &out->map_host_loopback : resolver;

	if ((is_host || shadowed) && !match_dns(out, told, resolver))
		return;
	tell_resolver(out, told);
}

static void build_dns(struct netconf_version *out, const struct sources *from, enum ip_version v)
{
	const struct config *config = from->config;
	const struct ip_addr *dns = config->dns_set ? config->dns : from->resolv->dns;
	unsigned int n = config->dns_set ? config->n_dns : from->resolv->n_dns;
	struct ip_addr target = config->dns_host[v];

	for (unsigned int i = 0; i < from->resolv->n_dns && ip_is_unset(&target); i++)
		if (ip_version_of(&from->resolv->dns[i]) == v)
			target = from->resolv->dns[i];
	if (!ip_is_unset(&target) && match_dns(out, &config->dns_forward[v], &target) &&
	    !config->dns_set)
		tell_resolver(out, &out->dns_match);
	for (unsigned int i = 0; i < n; i++)
		if (ip_version_of(&dns[i]) == v && (config->dns_set && ip_is_loopback(&dns[i])))
			tell_resolver(out, &dns[i]); /* the guest's own */
		else if (ip_version_of(&dns[i]) == v)
			take_resolver(out, &dns[i]);
}

static void build_names(struct netconf *out, const struct sources *from)
{
	const struct config *config = from->config;
	const struct domain *search = config->search_set ? config->search : from->resolv->search;

	out->n_search = config->search_set ? config->n_search : from->resolv->n_search;
	memcpy(out->search, search, sizeof(out->search));
	memcpy(out->hostname, config->hostname, sizeof(out->hostname));
	memcpy(out->fqdn, config->fqdn, sizeof(out->fqdn));
}

void netconf_build(struct netconf *out, const struct config *config, const struct host_net *host,
		   const struct resolv_conf *resolv, const struct netconf *before)
{
	struct sources from = { config, host, resolv };
	bool local = !has_address(&from, IP4) && !has_address(&from, IP6);

	memset(out, 0, sizeof(*out)); /* padding too: the caller may compare two by their bytes */
	for (enum ip_version v = IP4; v < IP_VERSIONS; v++) {
		struct netconf_version *version = &out->v[v];

		version->on = !config->family_off[v] && (local || has_address(&from, v));
		if (version->on) {
			build_addresses(version, &from, v);
			build_mappings(version, &from, v);
			build_dns(version, &from, v);
		}
		if (!before)
			continue;
		/* The guest keeps the address that it has until it renews, or its namespace is
		 * brought up to date. */
		version->seen = before->v[v].seen;
		version->seen_local = before->v[v].seen_local;
	}
	build_names(out, &from);
	out->mtu = config->mtu;
	out->our_mac = config->our_mac_set ? config->our_mac : default_mac;
}
