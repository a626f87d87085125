/* SPDX-License-Identifier: Apache-2.0 */
#include "netns_plan.h"
#include "nl_request.h"
#include "taploom/log.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_addr.h>
#include <linux/rtnetlink.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define LO_IFINDEX	   1	/* in every network namespace */
#define TX_QUEUE_LEN	   8000 /* frames: no small window's worth, see docs/namespace.md */
#define LOCAL_WAITS_MAX	   1000 /* of a millisecond */
#define ADDR_GEN_MODE_NONE 1	/* IN6_ADDR_GEN_MODE_NONE */

struct apply {
	struct nl nl;
	const struct netns_plan *plan;
	unsigned int ifindex;
	struct eth_addr mac;
	_Alignas(NLMSG_ALIGNTO) char room[NL_REQUEST_SIZE];
};

static void put_addr(struct nlmsghdr *msg, uint16_t type, const struct ip_addr *addr)
{
	bool v4 = ip_is_v4(addr);

	mnl_attr_put(msg, type, v4 ? 4 : 16, v4 ? addr->b + 12 : addr->b);
}

static struct nlmsghdr *link_request(struct apply *a, unsigned int ifindex, struct ifinfomsg **ifi)
{
	void *header;
	struct nlmsghdr *msg = nl_request(a->room, RTM_NEWLINK, 0, &header, sizeof(**ifi));

	*ifi = header;
	(*ifi)->ifi_index = (int)ifindex;
	return msg;
}

static int link_up(struct apply *a, unsigned int ifindex)
{
	struct ifinfomsg *ifi;
	struct nlmsghdr *msg = link_request(a, ifindex, &ifi);

	ifi->ifi_flags = IFF_UP;
	ifi->ifi_change = IFF_UP;
	return nl_talk(&a->nl, msg);
}

static int lo_up(struct apply *a)
{
	return link_up(a, LO_IFINDEX);
}

static int device_up(struct apply *a)
{
	return link_up(a, a->ifindex);
}

static int set_u32(struct apply *a, uint16_t type, uint32_t value)
{
	struct ifinfomsg *ifi;
	struct nlmsghdr *msg = link_request(a, a->ifindex, &ifi);

	mnl_attr_put_u32(msg, type, value);
	return nl_talk(&a->nl, msg);
}

static int set_mtu(struct apply *a)
{
	return a->plan->mtu ? set_u32(a, IFLA_MTU, a->plan->mtu) : 0;
}

static int set_queue_len(struct apply *a)
{
	return set_u32(a, IFLA_TXQLEN, TX_QUEUE_LEN);
}

static int set_mac(struct apply *a)
{
	struct ifinfomsg *ifi;
	struct nlmsghdr *msg = link_request(a, a->ifindex, &ifi);

	if (!a->plan->mac_set)
		return 0;
	mnl_attr_put(msg, IFLA_ADDRESS, ETH_ADDR_LEN, a->plan->mac.b);
	return nl_talk(&a->nl, msg);
}

static int note_mac_attr(const struct nlattr *attr, void *arg)
{
	struct apply *a = arg;

	if (mnl_attr_get_type(attr) == IFLA_ADDRESS &&
	    mnl_attr_get_payload_len(attr) == ETH_ADDR_LEN)
		memcpy(a->mac.b, mnl_attr_get_payload(attr), ETH_ADDR_LEN);
	return MNL_CB_OK;
}

static int note_mac(const struct nlmsghdr *msg, void *arg)
{
	return mnl_attr_parse(msg, sizeof(struct ifinfomsg), note_mac_attr, arg);
}

static int get_mac(struct apply *a)
{
	void *header;
	struct nlmsghdr *msg =
		nl_request(a->room, RTM_GETLINK, NLM_F_ACK, &header, sizeof(struct ifinfomsg));

	((struct ifinfomsg *)header)->ifi_index = (int)a->ifindex;
	return nl_dump(&a->nl, msg, note_mac, a);
}

/* The kernel's own link-local address would be tentative for a second: it is told to make none. */
static int no_own_link_local(struct apply *a)
{
	struct ifinfomsg *ifi;
	struct nlmsghdr *msg = link_request(a, a->ifindex, &ifi);
	struct nlattr *spec = mnl_attr_nest_start(msg, IFLA_AF_SPEC);
	struct nlattr *inet6 = mnl_attr_nest_start(msg, AF_INET6);

	mnl_attr_put_u8(msg, IFLA_INET6_ADDR_GEN_MODE, ADDR_GEN_MODE_NONE);
	mnl_attr_nest_end(msg, inet6);
	mnl_attr_nest_end(msg, spec);
	return nl_talk(&a->nl, msg);
}

/* Our own advertisements would give the namespace an address beside those of the host. */
static int no_advertisements(struct apply *a)
{
	char path[64 + IFNAMSIZ];
	int fd, error;

	snprintf(path, sizeof(path), "/proc/sys/net/ipv6/conf/%s/accept_ra", a->plan->ifname);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	error = write(fd, "0", 1) == 1 ? 0 : -errno;
	close(fd);
	return error;
}

static int talk_addr(struct apply *a, uint16_t type, unsigned int flags_of_request,
		     const struct plan_addr *addr)
{
	void *header;
	struct nlmsghdr *msg =
		nl_request(a->room, type, flags_of_request, &header, sizeof(struct ifaddrmsg));
	struct ifaddrmsg *ifa = header;
	bool v4 = ip_is_v4(&addr->addr);
	uint32_t flags = addr->no_prefix_route ? IFA_F_NOPREFIXROUTE : 0;
	const struct ifa_cacheinfo lifetime = { .ifa_prefered = addr->deprecated ? 0 : UINT32_MAX,
						.ifa_valid = UINT32_MAX };

	ifa->ifa_family = v4 ? AF_INET : AF_INET6;
	ifa->ifa_prefixlen = addr->prefix_len;
	ifa->ifa_index = a->ifindex;
	put_addr(msg, IFA_LOCAL, &addr->addr);
	put_addr(msg, IFA_ADDRESS, &addr->addr);
	mnl_attr_put_u32(msg, IFA_FLAGS, v4 ? flags : flags | IFA_F_NODAD);
	if (type == RTM_NEWADDR)
		mnl_attr_put(msg, IFA_CACHEINFO, sizeof(lifetime), &lifetime);
	return nl_talk(&a->nl, msg);
}

static int note_route_type(const struct nlmsghdr *msg, void *arg)
{
	unsigned char *type = arg;

	if (msg->nlmsg_type == RTM_NEWROUTE)
		*type = ((const struct rtmsg *)mnl_nlmsg_get_payload(msg))->rtm_type;
	return MNL_CB_OK;
}

static bool is_local(struct apply *a, const struct ip_addr *addr)
{
	unsigned char type = RTN_UNSPEC;
	void *header;
	struct nlmsghdr *msg =
		nl_request(a->room, RTM_GETROUTE, NLM_F_ACK, &header, sizeof(struct rtmsg));
	struct rtmsg *rtm = header;

	rtm->rtm_family = AF_INET6;
	rtm->rtm_dst_len = 128;
	put_addr(msg, RTA_DST, addr);
	nl_dump(&a->nl, msg, note_route_type, &type); /* no route at all is an error */
	return type == RTN_LOCAL;
}

/* The kernel acknowledges an IPv6 address before a worker of its own makes the route that lets the
 * address be reached from inside: until then a connection to it would come out of the device. */
static void await_local(struct apply *a, const struct ip_addr *addr)
{
	const struct timespec pause = { .tv_nsec = 1000000 };

	for (unsigned int i = 0; i < LOCAL_WAITS_MAX; i++) {
		if (is_local(a, addr))
			return;
		nanosleep(&pause, NULL);
	}
	log_warning("an IPv6 address in the namespace has no route of its own yet");
}

static int add_addr(struct apply *a, const struct plan_addr *addr)
{
	int error = talk_addr(a, RTM_NEWADDR, NLM_F_CREATE | NLM_F_REPLACE, addr);

	if (error == 0 && !ip_is_v4(&addr->addr))
		await_local(a, &addr->addr);
	return error;
}

/* RFC 4291 appendix A: fe80::/64 and the modified EUI-64 of the device. */
static int add_link_local(struct apply *a)
{
	const uint8_t *m = a->mac.b;
	struct plan_addr local = {
		.addr.b = { 0xfe, 0x80, [8] = m[0] ^ 2, m[1], m[2], 0xff, 0xfe, m[3], m[4], m[5] },
		.prefix_len = 64,
	};

	return add_addr(a, &local);
}

static int add_addrs(struct apply *a)
{
	for (unsigned int i = 0; i < a->plan->n_addrs; i++) {
		const struct plan_addr *addr = &a->plan->addrs[i];
		int error = add_addr(a, addr);

		if (error < 0 && ip_is_v4(&addr->addr))
			return error;
		if (error < 0) /* a namespace may be without IPv6 */
			log_warning("the namespace refuses an IPv6 address: %s", strerror(-error));
	}
	return 0;
}

bool netns_plan_has_addr(const struct netns_plan *plan, const struct ip_addr *addr)
{
	for (unsigned int i = 0; i < plan->n_addrs; i++)
		if (ip_eq(&plan->addrs[i].addr, addr))
			return true;
	return false;
}

static int talk_route(struct apply *a, uint16_t type, unsigned int flags,
		      const struct plan_route *route, bool onlink)
{
	void *header;
	struct nlmsghdr *msg = nl_request(a->room, type, flags, &header, sizeof(struct rtmsg));
	struct rtmsg *rtm = header;

	rtm->rtm_family = route->version == IP4 ? AF_INET : AF_INET6;
	rtm->rtm_dst_len = route->prefix_len;
	rtm->rtm_table = RT_TABLE_MAIN;
	rtm->rtm_protocol = RTPROT_BOOT;
	rtm->rtm_scope = route->scope;
	rtm->rtm_type = RTN_UNICAST;
	rtm->rtm_flags = onlink ? RTNH_F_ONLINK : 0;
	if (route->prefix_len)
		put_addr(msg, RTA_DST, &route->dst);
	if (!ip_is_unset(&route->gateway))
		put_addr(msg, RTA_GATEWAY, &route->gateway);
	if (!ip_is_unset(&route->source) && netns_plan_has_addr(a->plan, &route->source))
		put_addr(msg, RTA_PREFSRC, &route->source);
	if (route->metric)
		mnl_attr_put_u32(msg, RTA_PRIORITY, route->metric);
	mnl_attr_put_u32(msg, RTA_OIF, a->ifindex);
	return nl_talk(&a->nl, msg);
}

static int add_route(struct apply *a, const struct plan_route *route, bool onlink)
{
	return talk_route(a, RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL, route, onlink);
}

/* One pass over the routes not added yet. Returns how many were; error is the last refusal's. */
static unsigned int add_routes_once(struct apply *a, bool *added, bool onlink, int *error)
{
	unsigned int n = 0;

	*error = 0;
	for (unsigned int i = 0; i < a->plan->n_routes; i++) {
		const struct plan_route *route = &a->plan->routes[i];
		int result;

		if (added[i])
			continue;
		result = add_route(a, route,
				   route->onlink || (onlink && !ip_is_unset(&route->gateway)));
		added[i] = result == 0 || result == -EEXIST;
		n += added[i];
		if (!added[i])
			*error = result;
	}
	return n;
}

/*
 * A gateway must be reachable by a route that was added before, and dumps know no such order: pass
 * after pass until none is added; what is left then has a gateway that no prefix covers.
 */
static int add_routes(struct apply *a)
{
	bool added[PLAN_MAX_ROUTES] = { false };
	int error;

	while (add_routes_once(a, added, false, &error) > 0)
		;
	if (error < 0)
		add_routes_once(a, added, true, &error);
	if (error < 0)
		log_warning("some of the host's routes were refused in the namespace: %s",
			    strerror(-error));
	return 0;
}

enum step_need {
	ALWAYS,
	CONFIGURE,
	CONFIGURE_IP6,
};

static const struct step {
	int (*run)(struct apply *a);
	enum step_need need;
	bool optional; /* a refusal is no failure: an old kernel, or no IPv6 */
	const char *what;
} steps[] = {
	{ lo_up, ALWAYS, false, "bring the loopback interface up" },
	{ set_mac, ALWAYS, false, "set the tap device's Ethernet address" },
	{ get_mac, ALWAYS, false, "read the tap device's Ethernet address" },
	{ set_queue_len, ALWAYS, true, "raise the tap device's transmit queue" },
	{ set_mtu, CONFIGURE, false, "set the tap device's MTU" },
	{ no_own_link_local, CONFIGURE_IP6, true, "choose the tap device's link-local address" },
	{ no_advertisements, CONFIGURE_IP6, true, "refuse router advertisements" },
	{ device_up, CONFIGURE, false, "bring the tap device up" },
	{ add_link_local, CONFIGURE_IP6, true, "add a link-local address" },
	{ add_addrs, CONFIGURE, false, "add an address" },
	{ add_routes, CONFIGURE, false, "add a route" },
};

static bool step_is_due(const struct step *step, const struct netns_plan *plan)
{
	return step->need == ALWAYS || (plan->configure && (step->need == CONFIGURE || plan->ip6));
}

static int run_steps(struct apply *a)
{
	for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
		int error = step_is_due(&steps[i], a->plan) ? steps[i].run(a) : 0;

		if (error == 0)
			continue;
		if (!steps[i].optional) {
			log_error("Couldn't %s in the namespace: %s", steps[i].what,
				  strerror(-error));
			return error;
		}
		log_debug("couldn't %s in the namespace: %s", steps[i].what, strerror(-error));
	}
	return 0;
}

int netns_plan_apply(const struct netns_plan *plan, unsigned int ifindex, struct eth_addr *mac)
{
	struct apply a = { .plan = plan, .ifindex = ifindex };
	int error = nl_open(&a.nl);

	if (error == 0)
		error = run_steps(&a);
	else
		log_error("Couldn't open a netlink socket in the namespace: %s", strerror(-error));
	nl_close(&a.nl);
	*mac = a.mac;
	return error;
}

int netns_lo_up(void)
{
	struct apply a = { .ifindex = LO_IFINDEX };
	int error = nl_open(&a.nl);

	error = error ? error : lo_up(&a);
	nl_close(&a.nl);
	if (error < 0)
		log_error("Couldn't bring the loopback interface up in the namespace: %s",
			  strerror(-error));
	return error;
}

static bool addr_eq(const struct plan_addr *a, const struct plan_addr *b)
{
	return ip_eq(&a->addr, &b->addr) && a->prefix_len == b->prefix_len &&
	       a->no_prefix_route == b->no_prefix_route;
}

static bool route_eq(const struct plan_route *a, const struct plan_route *b)
{
	return a->version == b->version && ip_eq(&a->dst, &b->dst) &&
	       a->prefix_len == b->prefix_len && a->scope == b->scope && a->onlink == b->onlink &&
	       a->metric == b->metric && ip_eq(&a->gateway, &b->gateway) &&
	       ip_eq(&a->source, &b->source);
}

static const struct plan_addr *find_addr(const struct netns_plan *plan,
					 const struct plan_addr *addr)
{
	for (unsigned int i = 0; i < plan->n_addrs; i++) {
		if (addr_eq(&plan->addrs[i], addr))
			return &plan->addrs[i];
	}
	return NULL;
}

static bool has_route(const struct netns_plan *plan, const struct plan_route *route)
{
	for (unsigned int i = 0; i < plan->n_routes; i++) {
		if (route_eq(&plan->routes[i], route))
			return true;
	}
	return false;
}

bool netns_plan_eq(const struct netns_plan *a, const struct netns_plan *b)
{
	if (a->n_addrs != b->n_addrs || a->n_routes != b->n_routes)
		return false;
	for (unsigned int i = 0; i < a->n_addrs; i++) {
		const struct plan_addr *same = find_addr(b, &a->addrs[i]);

		if (!same || same->deprecated != a->addrs[i].deprecated)
			return false;
	}
	for (unsigned int i = 0; i < a->n_routes; i++) {
		if (!has_route(b, &a->routes[i]))
			return false;
	}
	return true;
}

static void del_routes(struct apply *a, const struct netns_plan *before)
{
	for (unsigned int i = 0; i < before->n_routes; i++) {
		const struct plan_route *route = &before->routes[i];

		if (!has_route(a->plan, route)) /* it may have gone with its address */
			talk_route(a, RTM_DELROUTE, 0, route, false);
	}
}

static void del_addrs(struct apply *a, const struct netns_plan *before)
{
	for (unsigned int i = 0; i < before->n_addrs; i++) {
		if (!find_addr(a->plan, &before->addrs[i]))
			talk_addr(a, RTM_DELADDR, 0, &before->addrs[i]);
	}
}

/* The last address of a device takes all its routes along, the first of an IPv4 prefix the others:
 * so new ones come first, and what the kernel has thrown away with an old one is added again. */
int netns_plan_update(const struct netns_plan *before, const struct netns_plan *now,
		      unsigned int ifindex)
{
	struct apply a = { .plan = now, .ifindex = ifindex };
	int error = nl_open(&a.nl);

	if (error == 0) {
		del_routes(&a, before);
		add_addrs(&a);
		del_addrs(&a, before);
		error = add_addrs(&a);
		add_routes(&a);
	}
	nl_close(&a.nl);
	return error;
}
