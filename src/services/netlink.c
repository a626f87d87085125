/* SPDX-License-Identifier: Apache-2.0 */
#include "netlink.h"

#include <assert.h>
#include <errno.h>
#include <libmnl/libmnl.h>
#include <linux/if_addr.h>
#include <linux/if_link.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <stdlib.h>
#include <sys/param.h>

/* The attributes of one message, by type, as far as they are looked at; NULL if absent. */
struct attrs {
	const struct nlattr *by_type[RTA_VIA + 1];
};
static_assert((int)RTA_VIA >= (int)IFLA_MTU && (int)RTA_VIA >= (int)IFA_FLAGS,
	      "each kind's attributes have a place");

static int store_attr(const struct nlattr *attr, void *data)
{
	struct attrs *attrs = data;
	uint16_t type = mnl_attr_get_type(attr);

	if (type < sizeof(attrs->by_type) / sizeof(attrs->by_type[0]))
		attrs->by_type[type] = attr;
	return MNL_CB_OK;
}

/* The payload of an attribute, if it is there and has at least len bytes. */
static const void *attr_of(const struct attrs *attrs, unsigned int type, size_t len)
{
	const struct nlattr *attr = attrs->by_type[type];

	return attr && mnl_attr_get_payload_len(attr) >= len ? mnl_attr_get_payload(attr) : NULL;
}

static uint32_t u32_of(const struct attrs *attrs, unsigned int type, uint32_t otherwise)
{
	const void *payload = attr_of(attrs, type, sizeof(uint32_t));

	if (payload)
		memcpy(&otherwise, payload, sizeof(otherwise));
	return otherwise;
}

/* The address in an attribute, if it is there and of the version that the message says. */
static bool addr_of(const struct attrs *attrs, unsigned int type, enum ip_version version,
		    struct ip_addr *addr)
{
	const void *payload = attr_of(attrs, type, version == IP4 ? 4 : 16);

	if (payload)
		*addr = version == IP4 ? ip4_addr_of(payload) : ip6_addr_of(payload);
	return payload;
}

static bool version_of_family(uint8_t family, enum ip_version *version)
{
	*version = family == AF_INET ? IP4 : IP6;
	return family == AF_INET || family == AF_INET6;
}

/* A list with room for one more than n items, NULL if memory is short; its size doubles when n
 * reaches it. */
static void *grow(void *list, size_t n, size_t item_size)
{
	if (n & (n - 1))
		return list;
	return reallocarray(list, n ? 2 * n : 1, item_size);
}

static void parse_link(struct netlink_link *link, const struct nlmsghdr *msg,
		       const struct ifinfomsg *info)
{
	struct attrs attrs = { 0 };
	const struct nlattr *attr;

	mnl_attr_parse(msg, sizeof(*info), store_attr, &attrs);
	attr = attrs.by_type[IFLA_IFNAME];
	if (attr)
		memcpy(link->name, mnl_attr_get_payload(attr),
		       strnlen(mnl_attr_get_payload(attr),
			       MIN(mnl_attr_get_payload_len(attr), sizeof(link->name) - 1)));
	attr = attrs.by_type[IFLA_ADDRESS];
	if (attr && mnl_attr_get_payload_len(attr) == ETH_ADDR_LEN)
		memcpy(link->mac.b, mnl_attr_get_payload(attr), ETH_ADDR_LEN);
	link->ifindex = (unsigned int)info->ifi_index;
	link->mtu = u32_of(&attrs, IFLA_MTU, 0);
	link->usable = (info->ifi_flags & IFF_UP) && !(info->ifi_flags & IFF_LOOPBACK);
}

static int take_link(struct netlink_state *state, const struct nlmsghdr *msg)
{
	const struct ifinfomsg *info = mnl_nlmsg_get_payload(msg);
	struct netlink_link *links;

	if (info->ifi_index <= 0)
		return 0;
	links = grow(state->links, state->n_links, sizeof(*links));
	if (!links)
		return -ENOMEM;
	state->links = links;
	links[state->n_links] = (struct netlink_link){ 0 };
	parse_link(&links[state->n_links++], msg, info);
	return 0;
}

/* Whether an address may be used, and how well it suits a guest. */
static bool rank_address(struct netlink_address *address, uint8_t scope, uint32_t flags)
{
	bool tentative = (flags & IFA_F_TENTATIVE) && !(flags & IFA_F_OPTIMISTIC);

	if (tentative || (flags & IFA_F_DADFAILED) || ip_is_any(&address->addr) ||
	    ip_is_loopback(&address->addr) || ip_is_multicast(&address->addr))
		return false;
	if (scope >= RT_SCOPE_LINK) {
		address->rank = RANK_LINK_LOCAL;
		return scope == RT_SCOPE_LINK && ip_is_link_local(&address->addr);
	}
	address->rank = RANK_STABLE;
	/* The same bit says "secondary" of an IPv4 address: after the first of its network anyway.
	 */
	if (flags & IFA_F_TEMPORARY)
		address->rank = RANK_TEMPORARY;
	if (flags & IFA_F_DEPRECATED)
		address->rank = RANK_DEPRECATED;
	return true;
}

static int take_address(struct netlink_state *state, const struct nlmsghdr *msg)
{
	const struct ifaddrmsg *info = mnl_nlmsg_get_payload(msg);
	struct netlink_address address = { .ifindex = info->ifa_index,
					   .prefix_len = info->ifa_prefixlen };
	struct netlink_address *addresses;
	struct attrs attrs = { 0 };
	enum ip_version version;

	if (!version_of_family(info->ifa_family, &version) ||
	    info->ifa_prefixlen > (version == IP4 ? 32 : 128))
		return 0;
	mnl_attr_parse(msg, sizeof(*info), store_attr, &attrs);
	/* Of a point-to-point link, IFA_ADDRESS is the peer's. */
	if (!addr_of(&attrs, IFA_LOCAL, version, &address.addr) &&
	    !addr_of(&attrs, IFA_ADDRESS, version, &address.addr))
		return 0;
	if (!rank_address(&address, info->ifa_scope, u32_of(&attrs, IFA_FLAGS, info->ifa_flags)))
		return 0;
	addresses = grow(state->addresses, state->n_addresses, sizeof(*addresses));
	if (!addresses)
		return -ENOMEM;
	state->addresses = addresses;
	addresses[state->n_addresses++] = address;
	return 0;
}

/* Of several next hops the first. Returns its interface, 0 if there is none, and sets its
 * attributes. */
static unsigned int first_nexthop(struct attrs *attrs, const struct nlattr *multipath)
{
	const struct rtnexthop *hop = mnl_attr_get_payload(multipath);
	size_t len = mnl_attr_get_payload_len(multipath);

	if (len < sizeof(*hop) || hop->rtnh_len < sizeof(*hop) || hop->rtnh_len > len)
		return 0;
	mnl_attr_parse_payload(hop + 1, hop->rtnh_len - sizeof(*hop), store_attr, attrs);
	return hop->rtnh_ifindex > 0 ? (unsigned int)hop->rtnh_ifindex : 0;
}

/* A unicast default route of the main table; a route of the kernel's cache, or a dead one, is none.
 */
static bool is_default_route(const struct rtmsg *info, const struct attrs *attrs)
{
	return info->rtm_dst_len == 0 && info->rtm_src_len == 0 && info->rtm_type == RTN_UNICAST &&
	       !(info->rtm_flags & (RTM_F_CLONED | RTNH_F_DEAD)) &&
	       u32_of(attrs, RTA_TABLE, info->rtm_table) == RT_TABLE_MAIN;
}

static bool parse_route(struct netlink_route *route, const struct nlmsghdr *msg)
{
	const struct rtmsg *info = mnl_nlmsg_get_payload(msg);
	struct attrs attrs = { 0 };

	*route = (struct netlink_route){ 0 };
	mnl_attr_parse(msg, sizeof(*info), store_attr, &attrs);
	if (!version_of_family(info->rtm_family, &route->version) ||
	    !is_default_route(info, &attrs))
		return false;
	route->metric = u32_of(&attrs, RTA_PRIORITY, 0);
	route->ifindex = u32_of(&attrs, RTA_OIF, 0);
	if (attrs.by_type[RTA_MULTIPATH])
		route->ifindex = first_nexthop(&attrs, attrs.by_type[RTA_MULTIPATH]);
	/* A gateway of the other version is in RTA_VIA: none that the guest could use. */
	addr_of(&attrs, RTA_GATEWAY, route->version, &route->gateway);
	return route->ifindex != 0;
}

static int take_route(struct netlink_state *state, const struct nlmsghdr *msg)
{
	struct netlink_route *routes;
	struct netlink_route route;

	if (!parse_route(&route, msg))
		return 0;
	routes = grow(state->routes, state->n_routes, sizeof(*routes));
	if (!routes)
		return -ENOMEM;
	state->routes = routes;
	routes[state->n_routes++] = route;
	return 0;
}

/* What a kind of message is, by the dump's and the events' types. */
static const struct kind {
	uint16_t type;	  /* it is there */
	uint16_t removed; /* it is gone */
	size_t len;	  /* of the fixed part */
	int (*take)(struct netlink_state *state, const struct nlmsghdr *msg);
} kinds[] = {
	{ RTM_NEWLINK, RTM_DELLINK, sizeof(struct ifinfomsg), take_link },
	{ RTM_NEWADDR, RTM_DELADDR, sizeof(struct ifaddrmsg), take_address },
	{ RTM_NEWROUTE, RTM_DELROUTE, sizeof(struct rtmsg), take_route },
};

static const struct kind *kind_of(const struct nlmsghdr *msg)
{
	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
		if ((msg->nlmsg_type == kinds[i].type || msg->nlmsg_type == kinds[i].removed) &&
		    mnl_nlmsg_get_payload_len(msg) >= kinds[i].len)
			return &kinds[i];
	return NULL;
}

/* The next message of a datagram, NULL at its end or where it makes no sense. */
static const struct nlmsghdr *next_message(const uint8_t **at, size_t *left)
{
	const struct nlmsghdr *msg = (const void *)*at;
	size_t passed;

	if (*left < sizeof(*msg) || msg->nlmsg_len < sizeof(*msg) || msg->nlmsg_len > *left)
		return NULL;
	passed = ((size_t)msg->nlmsg_len + NLMSG_ALIGNTO - 1) & ~(size_t)(NLMSG_ALIGNTO - 1);
	if (passed > *left) /* its attributes are looked for up to there */
		return NULL;
	*at += passed;
	*left -= passed;
	return msg;
}

/* Both NLMSG_DONE and NLMSG_ERROR begin with a negative errno, or 0. */
static int result_of(const struct nlmsghdr *msg)
{
	int32_t result = 0;

	if (mnl_nlmsg_get_payload_len(msg) >= sizeof(result))
		memcpy(&result, mnl_nlmsg_get_payload(msg), sizeof(result));
	return result < 0 && result > -4096 ? result : 0;
}

void netlink_state_clear(struct netlink_state *state)
{
	free(state->links);
	free(state->addresses);
	free(state->routes);
	*state = (struct netlink_state){ 0 };
}

int netlink_state_take(struct netlink_state *state, const void *bytes, size_t len, uint32_t seq)
{
	const struct nlmsghdr *msg;
	const uint8_t *at = bytes;

	while ((msg = next_message(&at, &len))) {
		const struct kind *kind = kind_of(msg);
		int rc = 0;

		if (msg->nlmsg_seq != seq)
			continue;
		if (msg->nlmsg_flags & NLM_F_DUMP_INTR)
			state->interrupted = true;
		if (msg->nlmsg_type == NLMSG_DONE || msg->nlmsg_type == NLMSG_ERROR)
			return result_of(msg);
		if (kind && msg->nlmsg_type == kind->type)
			rc = kind->take(state, msg);
		if (rc)
			return rc;
	}
	return 1;
}

bool netlink_events_matter(const void *bytes, size_t len)
{
	const struct nlmsghdr *msg;
	const uint8_t *at = bytes;

	while ((msg = next_message(&at, &len))) {
		const struct kind *kind = kind_of(msg);
		struct netlink_route route;

		if (kind && (kind->take != take_route || parse_route(&route, msg)))
			return true;
	}
	return false;
}
