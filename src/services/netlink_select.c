/* SPDX-License-Identifier: Apache-2.0 */
#include "netlink.h"

static const struct netlink_link *find_link(const struct netlink_state *state, unsigned int ifindex)
{
	for (size_t i = 0; i < state->n_links; i++)
		if (state->links[i].ifindex == ifindex)
			return &state->links[i];
	return NULL;
}

static unsigned int ifindex_of(const struct netlink_state *state, const char *name)
{
	for (size_t i = 0; i < state->n_links; i++)
		if (strcmp(state->links[i].name, name) == 0)
			return state->links[i].ifindex;
	return 0;
}

/* The default route with the lowest metric, the first of equals; through any interface if ifindex
 * is 0. */
static const struct netlink_route *best_route(const struct netlink_state *state,
					      enum ip_version version, unsigned int ifindex)
{
	const struct netlink_route *best = NULL;

	for (size_t i = 0; i < state->n_routes; i++) {
		const struct netlink_route *route = &state->routes[i];

		if (route->version != version || (ifindex && route->ifindex != ifindex))
			continue;
		if (!best || route->metric < best->metric)
			best = route;
	}
	return best;
}

/* An interface's best address of a version beyond its link, the first of equals. */
static const struct netlink_address *best_address(const struct netlink_state *state,
						  enum ip_version version, unsigned int ifindex)
{
	const struct netlink_address *best = NULL;

	for (size_t i = 0; i < state->n_addresses; i++) {
		const struct netlink_address *address = &state->addresses[i];

		if (address->ifindex != ifindex || ip_version_of(&address->addr) != version ||
		    address->rank == RANK_LINK_LOCAL)
			continue;
		if (!best || address->rank < best->rank)
			best = address;
	}
	return best;
}

static const struct netlink_address *link_local_address(const struct netlink_state *state,
							unsigned int ifindex)
{
	for (size_t i = 0; i < state->n_addresses; i++) {
		const struct netlink_address *address = &state->addresses[i];

		if (address->ifindex == ifindex && address->rank == RANK_LINK_LOCAL &&
		    !ip_is_v4(&address->addr))
			return address;
	}
	return NULL;
}

/*
 * With no default route of a version: the interface of the other version's, if it has an address of
 * this one too; the one that there was, as a link that is joined anew loses its addresses for a
 * while, and none if that one is down; or else the first that is up and has one.
 */
static unsigned int routeless_ifindex(const struct netlink_state *state, enum ip_version version)
{
	const struct netlink_route *other = best_route(state, version == IP4 ? IP6 : IP4, 0);
	const struct netlink_link *before = find_link(state, state->before[version]);

	if (other && best_address(state, version, other->ifindex))
		return other->ifindex;
	if (before)
		return before->usable ? before->ifindex : 0;
	for (size_t i = 0; i < state->n_links; i++)
		if (state->links[i].usable && best_address(state, version, state->links[i].ifindex))
			return state->links[i].ifindex;
	return 0;
}

static unsigned int select_ifindex(const struct netlink_state *state, const struct config *config,
				   enum ip_version version)
{
	const char *named = *config->ifname ? config->ifname : config->outbound_if[version];
	const struct netlink_route *route = best_route(state, version, 0);

	if (*named)
		return ifindex_of(state, named);
	return route ? route->ifindex : routeless_ifindex(state, version);
}

void netlink_select(const struct netlink_state *state, const struct config *config,
		    struct host_net *out)
{
	memset(out, 0, sizeof(*out)); /* padding too: the caller may compare two by their bytes */
	for (enum ip_version version = IP4; version < IP_VERSIONS; version++) {
		unsigned int ifindex = select_ifindex(state, config, version);
		const struct netlink_link *link = find_link(state, ifindex);
		const struct netlink_route *route = best_route(state, version, ifindex);
		const struct netlink_address *addr = best_address(state, version, ifindex);
		const struct netlink_address *local = link_local_address(state, ifindex);

		if (!link)
			continue;
		out->v[version].ifindex = ifindex;
		memcpy(out->v[version].ifname, link->name, sizeof(link->name));
		out->v[version].mac = link->mac;
		out->v[version].mtu = link->mtu;
		if (addr) {
			out->v[version].addr = addr->addr;
			out->v[version].prefix_len = addr->prefix_len;
		}
		out->v[version].routed = route != NULL;
		if (route)
			out->v[version].gateway = route->gateway;
		if (version == IP6 && local)
			out->v[version].link_local = local->addr;
	}
}
