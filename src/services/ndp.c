/* SPDX-License-Identifier: Apache-2.0 */
#include "ndp.h"

#define HOP_LIMIT      255
#define RA_HOP_LIMIT   64 /* what the guest puts into its packets */
#define MTU_MIN	       1280
#define AUTONOMOUS_LEN 64 /* prefix and interface identifier make 128 bits: RFC 4862 5.5.3 d */

/* ff02::1:ff00:0/104 (RFC 4291 2.7.1) */
static bool is_solicited_node(const struct ip_addr *a)
{
	static const uint8_t prefix[13] = { 0xff, 2, [11] = 1, [12] = 0xff };

	return memcmp(a->b, prefix, sizeof(prefix)) == 0;
}

bool ndp_is_valid(const struct ndp_query *query, const struct ip_addr *src,
		  const struct ip_addr *dst, uint8_t hop_limit)
{
	bool from_nobody = ip_is_any(src);

	if (hop_limit != HOP_LIMIT || query->code != 0)
		return false;
	if (from_nobody && query->has_source_link)
		return false;
	if (query->type == NDP_NS && from_nobody && !is_solicited_node(dst))
		return false;
	return query->type == NDP_RS || query->type == NDP_RA || !ip_is_multicast(&query->target);
}

static bool is_guests(const struct netconf_version *net, const struct ip_addr *a)
{
	return ip_eq(a, &net->addr) || ip_eq(a, &net->seen) || ip_eq(a, &net->seen_local);
}

/* The guest drops a router from its list when that router's NA comes without the flag (RFC
 * 4861 7.2.5). */
static bool is_router(const struct netconf_version *net, const struct ip_addr *a)
{
	return ip_eq(a, &net->our_local) || ip_eq(a, &net->gateway);
}

bool ndp_answer_ns(const struct netconf *net, const struct ndp_query *query,
		   const struct ip_addr *src, struct ndp_na *na)
{
	const struct netconf_version *v6 = &net->v[IP6];
	const struct ip_addr *target = &query->target;

	if (ip_is_any(src) || ip_is_any(target) || ip_is_multicast(target) ||
	    ip_is_loopback(target) || ip_is_v4(target) || is_guests(v6, target))
		return false;
	na->flags = NDP_NA_SOLICITED | NDP_NA_OVERRIDE;
	if (is_router(v6, target))
		na->flags |= NDP_NA_ROUTER;
	na->target = *target;
	na->target_mac = net->our_mac;
	return true;
}

bool ndp_shows_target(const struct netconf *net, const struct ndp_query *query,
		      const struct ip_addr *src)
{
	return query->type == NDP_NS && ip_is_any(src) && !ip_is_any(&query->target) &&
	       !ip_is_multicast(&query->target) && !ip_is_v4(&query->target) &&
	       !ip_is_link_local(&query->target) && !is_router(&net->v[IP6], &query->target);
}

bool ndp_advertises(const struct config *config, const struct netconf *net)
{
	const struct netconf_version *v6 = &net->v[IP6];

	return !config->no_ndp && !config->no_ra && v6->on && !ip_is_unset(&v6->our_local);
}

static void add_prefix(struct ndp_ra *ra, const struct ip_addr *addr, uint8_t len, bool on_link,
		       bool autonomous, bool deprecated)
{
	if (ra->n_prefixes == NDP_MAX_PREFIXES)
		return;
	ra->prefixes[ra->n_prefixes++] = (struct ndp_prefix){
		.prefix = *addr,
		.len = len,
		.on_link = on_link,
		.autonomous = autonomous,
		.valid_s = deprecated ? NDP_DEPRECATED_VALID_S : NDP_VALID_S,
		.preferred_s = deprecated ? 0 : NDP_PREFERRED_S,
	};
}

/*
 * A /64 is on-link and autonomous at once. Any other prefix is on-link as it is on the host, but no
 * guest can configure itself from it: its address is assigned by DHCPv6. For guests without DHCPv6
 * the /64 around the host's address is autonomous, not on-link; what such a guest picks is
 * translated to the host's address.
 */
static void add_prefixes(struct ndp_ra *ra, const struct ip_addr *addr, uint8_t len,
			 bool deprecated)
{
	bool both = len == AUTONOMOUS_LEN;

	add_prefix(ra, addr, AUTONOMOUS_LEN, both, true, deprecated);
	if (!both && len < 128)
		add_prefix(ra, addr, len, true, false, deprecated);
}

/* A router without a way out of the host is no default router, but its prefix and names still
 * count. */
static uint16_t lifetime_of(const struct netconf_version *v6)
{
	bool leads_somewhere = !ip_is_unset(&v6->gateway) || !ip_is_unset(&v6->addr);

	return leads_somewhere ? NDP_ROUTER_LIFETIME_S : 0;
}

static void fill_names(const struct ndp_router *router, const struct config *config,
		       const struct netconf *net, struct ndp_ra *ra)
{
	const struct netconf_version *v6 = &net->v[IP6];
	bool dns = !config->no_dhcp_dns;
	bool search = !config->no_dhcp_search;

	ra->given = (struct ndp_names){ NDP_ROUTER_LIFETIME_S, v6->dns, dns ? v6->n_dns : 0,
					net->search, search ? net->n_search : 0 };
	ra->withdrawn = (struct ndp_names){ 0, router->old_dns, dns ? router->n_old_dns : 0,
					    router->old_search, search ? router->n_old_search : 0 };
}

void ndp_fill_ra(const struct ndp_router *router, const struct config *config,
		 const struct netconf *net, struct ndp_ra *ra)
{
	const struct netconf_version *v6 = &net->v[IP6];
	bool assigned = !ip_is_unset(&v6->addr);

	*ra = (struct ndp_ra){
		.hop_limit = RA_HOP_LIMIT,
		.managed = !config->no_dhcp6 && assigned,
		.other = !config->no_dhcp6,
		.lifetime_s = lifetime_of(v6),
		.source_mac = net->our_mac,
		.mtu = net->mtu >= MTU_MIN ? net->mtu : 0,
	};
	if (assigned)
		add_prefixes(ra, &v6->addr, v6->prefix_len, false);
	for (unsigned int i = 0; i < router->n_old_prefixes; i++)
		add_prefixes(ra, &router->old_prefixes[i].prefix, router->old_prefixes[i].len,
			     true);
	fill_names(router, config, net, ra);
}

void ndp_fill_farewell(const struct ndp_router *router, const struct config *config,
		       const struct netconf *before, struct ndp_ra *ra)
{
	ndp_fill_ra(router, config, before, ra);
	ra->lifetime_s = 0;
	ra->given.lifetime_s = 0;
	for (unsigned int i = 0; i < ra->n_prefixes; i++) {
		ra->prefixes[i].valid_s = NDP_DEPRECATED_VALID_S;
		ra->prefixes[i].preferred_s = 0;
	}
}

static void forget_old(struct ndp_router *router)
{
	router->n_old_prefixes = 0;
	router->n_old_dns = 0;
	router->n_old_search = 0;
}

void ndp_router_sent(struct ndp_router *router, uint64_t now_us, uint32_t random)
{
	uint64_t span = NDP_MAX_INTERVAL_US - NDP_MIN_INTERVAL_US;
	uint64_t interval = NDP_MIN_INTERVAL_US + (random * span >> 32);

	if (router->n_initial < NDP_INITIAL_RAS && ++router->n_initial < NDP_INITIAL_RAS)
		interval = NDP_INITIAL_INTERVAL_US;
	if (router->n_initial == NDP_INITIAL_RAS)
		forget_old(router);
	router->last_us = now_us;
	router->sent = true;
	router->next_us = now_us + interval;
}

void ndp_router_hurry(struct ndp_router *router, uint64_t now_us)
{
	uint64_t earliest = router->sent ? router->last_us + NDP_MIN_DELAY_US : now_us;

	if (earliest < now_us)
		earliest = now_us;
	if (router->next_us > earliest)
		router->next_us = earliest;
}

/* The bits of a prefix, the rest zero: to compare it. */
static struct ip_addr prefix_of(const struct ip_addr *addr, unsigned int len)
{
	struct ip_addr prefix = *addr;

	for (unsigned int i = 0; i < 16; i++) {
		unsigned int bits = len > 8 * i ? len - 8 * i : 0;

		prefix.b[i] &= (uint8_t)(bits >= 8 ? 0xff : 0xff00U >> bits);
	}
	return prefix;
}

static bool prefix_is(const struct ndp_old_prefix *old, const struct ip_addr *prefix, uint8_t len)
{
	return old->len == len && ip_eq(&old->prefix, prefix);
}

static void remove_prefix(struct ndp_router *router, const struct ip_addr *prefix, uint8_t len)
{
	unsigned int kept = 0;

	for (unsigned int i = 0; i < router->n_old_prefixes; i++)
		if (!prefix_is(&router->old_prefixes[i], prefix, len))
			router->old_prefixes[kept++] = router->old_prefixes[i];
	router->n_old_prefixes = kept;
}

static void add_old_prefix(struct ndp_router *router, const struct ip_addr *prefix, uint8_t len)
{
	remove_prefix(router, prefix, len);
	if (router->n_old_prefixes == NDP_MAX_OLD_PREFIXES) /* the oldest goes */
		remove_prefix(router, &router->old_prefixes[0].prefix, router->old_prefixes[0].len);
	router->old_prefixes[router->n_old_prefixes++] = (struct ndp_old_prefix){ *prefix, len };
}

static void note_old_prefix(struct ndp_router *router, const struct netconf_version *before,
			    const struct netconf_version *now)
{
	struct ip_addr old = prefix_of(&before->addr, before->prefix_len);
	struct ip_addr new = prefix_of(&now->addr, now->prefix_len);

	if (before->on && !ip_is_unset(&before->addr))
		add_old_prefix(router, &old, before->prefix_len);
	if (now->on && !ip_is_unset(&now->addr))
		remove_prefix(router, &new, now->prefix_len);
}

static bool has_dns(const struct netconf_version *net, const struct ip_addr *dns)
{
	for (unsigned int i = 0; i < net->n_dns; i++)
		if (ip_eq(&net->dns[i], dns))
			return true;
	return false;
}

static bool has_search(const struct netconf *net, const struct domain *search)
{
	for (unsigned int i = 0; i < net->n_search; i++)
		if (strcmp(net->search[i].name, search->name) == 0)
			return true;
	return false;
}

static void note_old_dns(struct ndp_router *router, const struct netconf_version *before,
			 const struct netconf_version *now)
{
	struct ip_addr old[2 * MAX_DNS];
	unsigned int n = 0, kept = 0;

	for (unsigned int i = 0; i < router->n_old_dns; i++)
		old[n++] = router->old_dns[i];
	for (unsigned int i = 0; i < before->n_dns; i++)
		old[n++] = before->dns[i];
	/* From the youngest on, as there may be too many; one that has come back is in both. */
	while (n-- && kept < MAX_DNS) {
		bool known = has_dns(now, &old[n]);

		for (unsigned int i = 0; i < kept; i++)
			known |= ip_eq(&router->old_dns[i], &old[n]);
		if (!known)
			router->old_dns[kept++] = old[n];
	}
	router->n_old_dns = kept;
}

static void note_old_search(struct ndp_router *router, const struct netconf *before,
			    const struct netconf *now)
{
	struct domain old[2 * MAX_SEARCH];
	unsigned int n = 0, kept = 0;

	for (unsigned int i = 0; i < router->n_old_search; i++)
		old[n++] = router->old_search[i];
	for (unsigned int i = 0; i < before->n_search; i++)
		old[n++] = before->search[i];
	while (n-- && kept < MAX_SEARCH) {
		bool known = has_search(now, &old[n]);

		for (unsigned int i = 0; i < kept; i++)
			known |= strcmp(router->old_search[i].name, old[n].name) == 0;
		if (!known)
			router->old_search[kept++] = old[n];
	}
	router->n_old_search = kept;
}

void ndp_router_changed(struct ndp_router *router, const struct netconf *before,
			const struct netconf *now, uint64_t now_us)
{
	if (before) {
		note_old_prefix(router, &before->v[IP6], &now->v[IP6]);
		note_old_dns(router, &before->v[IP6], &now->v[IP6]);
		note_old_search(router, before, now);
	}
	router->n_initial = 0;
	ndp_router_hurry(router, now_us);
}
