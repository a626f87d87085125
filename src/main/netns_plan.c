/* SPDX-License-Identifier: Apache-2.0 */
#include "netns_plan.h"

#include "nl_request.h"
#include "taploom/log.h"

#include <errno.h>
#include <linux/if_addr.h>
#include <linux/rtnetlink.h>
#include <stdio.h>
#include <string.h>

#define DUMPS_MAX 10 /* of the same list, while it changes under them */

struct copy {
	struct netns_plan *plan;
	enum ip_version version;
	unsigned int ifindex;
	unsigned int n_before; /* routes that were in the plan before this copy */
	bool full;	       /* more than the plan has room for */
};

static const int families[IP_VERSIONS] = { AF_INET, AF_INET6 };

static struct ip_addr addr_of(enum ip_version version, const struct nlattr *attr)
{
	size_t want = version == IP4 ? 4 : 16;

	if (!attr || mnl_attr_get_payload_len(attr) < want)
		return (struct ip_addr){ 0 };
	return version == IP4 ? ip4_addr_of(mnl_attr_get_payload(attr))
			      : ip6_addr_of(mnl_attr_get_payload(attr));
}

static uint32_t u32_of(const struct nlattr *attr)
{
	return attr && mnl_attr_get_payload_len(attr) >= 4 ? mnl_attr_get_u32(attr) : 0;
}

struct attrs {
	const struct nlattr **by_type;
	unsigned int max;
};

static int attr_note(const struct nlattr *attr, void *arg)
{
	struct attrs *attrs = arg;

	if (mnl_attr_get_type(attr) <= attrs->max)
		attrs->by_type[mnl_attr_get_type(attr)] = attr;
	return MNL_CB_OK;
}

/* An address worth copying: of the interface, not link-local IPv6 (the namespace has its own), not
 * in doubt. */
static int copy_addr(const struct nlmsghdr *msg, void *arg)
{
	const struct nlattr *by_type[IFA_MAX + 1] = { 0 };
	struct attrs attrs = { by_type, IFA_MAX };
	struct copy *copy = arg;
	const struct ifaddrmsg *ifa = mnl_nlmsg_get_payload(msg);
	struct plan_addr *to = &copy->plan->addrs[copy->plan->n_addrs];
	uint32_t flags;

	if (mnl_nlmsg_get_payload_len(msg) < sizeof(*ifa) || ifa->ifa_index != copy->ifindex)
		return MNL_CB_OK;
	mnl_attr_parse(msg, sizeof(*ifa), attr_note, &attrs);
	flags = by_type[IFA_FLAGS] ? u32_of(by_type[IFA_FLAGS]) : ifa->ifa_flags;
	if (ifa->ifa_scope >= RT_SCOPE_LINK || flags & IFA_F_TENTATIVE)
		return MNL_CB_OK;
	if (copy->plan->n_addrs == PLAN_MAX_ADDRS) {
		copy->full = true;
		return MNL_CB_OK;
	}
	to->addr = addr_of(copy->version,
			   by_type[IFA_LOCAL] ? by_type[IFA_LOCAL] : by_type[IFA_ADDRESS]);
	to->prefix_len = ifa->ifa_prefixlen;
	to->no_prefix_route = (flags & IFA_F_NOPREFIXROUTE) != 0;
	to->deprecated = (flags & IFA_F_DEPRECATED) != 0;
	if (!ip_is_unset(&to->addr))
		copy->plan->n_addrs++;
	return MNL_CB_OK;
}

/* Of a route over several interfaces the hop over ours counts. */
static bool take_multipath(const struct nlattr *attr, const struct copy *copy,
			   struct plan_route *to)
{
	const char *at = mnl_attr_get_payload(attr);
	size_t left = mnl_attr_get_payload_len(attr);
	struct rtnexthop hop;

	for (; left >= sizeof(hop); at += hop.rtnh_len, left -= hop.rtnh_len) {
		const struct nlattr *by_type[RTA_MAX + 1] = { 0 };
		struct attrs attrs = { by_type, RTA_MAX };

		memcpy(&hop, at, sizeof(hop));
		if (hop.rtnh_len < sizeof(hop) || hop.rtnh_len > left)
			return false;
		if ((unsigned int)hop.rtnh_ifindex != copy->ifindex)
			continue;
		mnl_attr_parse_payload(at + sizeof(hop), hop.rtnh_len - sizeof(hop), attr_note,
				       &attrs);
		to->gateway = addr_of(copy->version, by_type[RTA_GATEWAY]);
		to->onlink = (hop.rtnh_flags & RTNH_F_ONLINK) != 0;
		return true;
	}
	return false;
}

static bool route_is_wanted(const struct rtmsg *rtm, const struct nlattr *const *by_type,
			    const struct copy *copy)
{
	uint32_t table = by_type[RTA_TABLE] ? u32_of(by_type[RTA_TABLE]) : rtm->rtm_table;

	return table == RT_TABLE_MAIN && rtm->rtm_type == RTN_UNICAST &&
	       !(rtm->rtm_flags & RTM_F_CLONED) && rtm->rtm_family == families[copy->version];
}

static struct ip_addr unspecified(enum ip_version version)
{
	static const uint8_t zero[16];

	return version == IP4 ? ip4_addr_of(zero) : ip6_addr_of(zero);
}

/* The default route, which the kernel lists last for IPv6, has a place in any case. */
static void add_route(struct copy *copy, const struct plan_route *route)
{
	struct netns_plan *plan = copy->plan;

	if (plan->n_routes - copy->n_before < PLAN_VERSION_ROUTES)
		plan->n_routes++;
	else
		copy->full = true;
	if (!copy->full || (route->prefix_len == 0 && plan->routes[plan->n_routes - 1].prefix_len))
		plan->routes[plan->n_routes - 1] = *route;
}

static int copy_route(const struct nlmsghdr *msg, void *arg)
{
	const struct nlattr *by_type[RTA_MAX + 1] = { 0 };
	struct attrs attrs = { by_type, RTA_MAX };
	struct copy *copy = arg;
	const struct rtmsg *rtm = mnl_nlmsg_get_payload(msg);
	struct plan_route to = { 0 };

	if (mnl_nlmsg_get_payload_len(msg) < sizeof(*rtm))
		return MNL_CB_OK;
	mnl_attr_parse(msg, sizeof(*rtm), attr_note, &attrs);
	if (!route_is_wanted(rtm, by_type, copy))
		return MNL_CB_OK;
	to.version = copy->version;
	to.dst = by_type[RTA_DST] ? addr_of(copy->version, by_type[RTA_DST])
				  : unspecified(copy->version);
	to.prefix_len = rtm->rtm_dst_len;
	to.scope = rtm->rtm_scope;
	to.onlink = (rtm->rtm_flags & RTNH_F_ONLINK) != 0;
	to.metric = u32_of(by_type[RTA_PRIORITY]);
	to.gateway = addr_of(copy->version, by_type[RTA_GATEWAY]);
	to.source = addr_of(copy->version, by_type[RTA_PREFSRC]);
	if (by_type[RTA_MULTIPATH] ? !take_multipath(by_type[RTA_MULTIPATH], copy, &to)
				   : u32_of(by_type[RTA_OIF]) != copy->ifindex)
		return MNL_CB_OK;
	if (ip_is_link_local(&to.dst) && copy->version == IP6) /* comes with the interface */
		return MNL_CB_OK;
	add_route(copy, &to);
	return MNL_CB_OK;
}

static int dump_once(struct copy *copy, uint16_t type, size_t header_len, mnl_cb_t each)
{
	_Alignas(NLMSG_ALIGNTO) char room[NL_REQUEST_SIZE];
	struct nl nl;
	void *header;
	int error = nl_open(&nl);

	if (error == 0) {
		struct nlmsghdr *msg = nl_request(room, type, NLM_F_DUMP, &header, header_len);

		*(uint8_t *)header = (uint8_t)families[copy->version]; /* in both, the first byte */
		error = nl_dump(&nl, msg, each, copy);
	}
	nl_close(&nl);
	return error;
}

/* A change in the middle of a dump interrupts it (NLM_F_DUMP_INTR in netlink(7)): then again. */
static int dump_into(struct copy *copy, uint16_t type, size_t header_len, mnl_cb_t each)
{
	unsigned int n_addrs = copy->plan->n_addrs, n_routes = copy->plan->n_routes;
	int error;

	for (unsigned int i = 0; i < DUMPS_MAX; i++) {
		copy->plan->n_addrs = n_addrs;
		copy->plan->n_routes = copy->n_before = n_routes;
		copy->full = false;
		error = dump_once(copy, type, header_len, each);
		if (error != -EINTR)
			break;
	}
	if (error < 0)
		log_error("Couldn't read the host's addresses and routes: %s", strerror(-error));
	return error;
}

int netns_plan_copy_addrs(struct netns_plan *plan, enum ip_version version, unsigned int ifindex)
{
	struct copy copy = { .plan = plan, .version = version, .ifindex = ifindex };
	int error = dump_into(&copy, RTM_GETADDR, sizeof(struct ifaddrmsg), copy_addr);

	if (copy.full)
		log_warning("only %d addresses are copied to the namespace", PLAN_MAX_ADDRS);
	return error;
}

int netns_plan_copy_routes(struct netns_plan *plan, enum ip_version version, unsigned int ifindex)
{
	struct copy copy = { .plan = plan, .version = version, .ifindex = ifindex };
	int error = dump_into(&copy, RTM_GETROUTE, sizeof(struct rtmsg), copy_route);

	if (copy.full)
		log_warning("only %d routes of IPv%d are copied to the namespace",
			    PLAN_VERSION_ROUTES, version == IP4 ? 4 : 6);
	return error;
}

static void add_given_addr(struct netns_plan *plan, const struct netconf_version *net)
{
	if (ip_is_unset(&net->addr) || plan->n_addrs == PLAN_MAX_ADDRS)
		return;
	plan->addrs[plan->n_addrs++] =
		(struct plan_addr){ .addr = net->addr, .prefix_len = net->prefix_len };
}

/* The gateway may be outside the prefix: it is on the link all the same. */
static void add_given_default(struct netns_plan *plan, enum ip_version version,
			      const struct netconf_version *net)
{
	if (ip_is_unset(&net->gateway) || plan->n_routes == PLAN_MAX_ROUTES)
		return;
	plan->routes[plan->n_routes++] = (struct plan_route){
		.version = version,
		.dst = unspecified(version),
		.gateway = net->gateway,
		.onlink = true,
	};
}

static int plan_version(struct netns_plan *plan, const struct config *config,
			enum ip_version version, const struct netconf_version *net,
			unsigned int ifindex)
{
	bool copy_addrs = ifindex && !config->no_copy_addrs && ip_is_unset(&config->addr[version]);
	bool copy_routes =
		ifindex && !config->no_copy_routes && ip_is_unset(&config->gateway[version]);
	int error = 0;

	if (config->family_off[version] || !net->on)
		return 0;
	if (copy_addrs)
		error = netns_plan_copy_addrs(plan, version, ifindex);
	else
		add_given_addr(plan, net);
	if (error < 0)
		return error;
	if (copy_routes)
		return netns_plan_copy_routes(plan, version, ifindex);
	add_given_default(plan, version, net);
	return 0;
}

static const char *template_name(const struct config *config, const struct host_net *host)
{
	for (int v = 0; v < IP_VERSIONS; v++)
		if (!config->family_off[v] && host->v[v].ifindex && host->v[v].ifname[0])
			return host->v[v].ifname;
	return "tap0";
}

int netns_plan_make(struct netns_plan *plan, const struct config *config, const struct netconf *net,
		    const struct host_net *host, unsigned int n_queues)
{
	const char *name = config->ns_ifname[0] ? config->ns_ifname : template_name(config, host);

	memset(plan, 0, sizeof(*plan));
	snprintf(plan->ifname, IFNAMSIZ, "%s", name);
	plan->mac_set = config->ns_mac_set;
	plan->mac = config->ns_mac;
	plan->n_queues = n_queues;
	plan->hidden = config->splice_only;
	plan->configure = config->config_net && !plan->hidden;
	plan->ip6 = net->v[IP6].on && !config->family_off[IP6];
	plan->mtu = config->mtu;
	for (int v = 0; plan->configure && v < IP_VERSIONS; v++) {
		int error = plan_version(plan, config, (enum ip_version)v, &net->v[v],
					 host->v[v].ifindex);
		if (error < 0)
			return error;
	}
	return 0;
}
