/* SPDX-License-Identifier: Apache-2.0 */
#include "ns_follow.h"

#include "taploom/log.h"

#include <errno.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <unistd.h>

#define SETTLE_NS 100000000

enum { FOLLOW_NEWS, FOLLOW_TIMER, FOLLOW_HOOKS };

struct ns_follow {
	struct network *network;
	struct ns_thread *thread;
	struct netns_plan *plan; /* as the namespace is */
	unsigned int ifindex;
	struct control_hook hooks[FOLLOW_HOOKS];
};

/* Everything of one version, where the host has nothing now. */
static void keep_version(struct netns_plan *next, const struct netns_plan *now,
			 enum ip_version version)
{
	for (unsigned int i = 0; i < now->n_addrs && next->n_addrs < PLAN_MAX_ADDRS; i++) {
		if (ip_version_of(&now->addrs[i].addr) == version)
			next->addrs[next->n_addrs++] = now->addrs[i];
	}
	for (unsigned int i = 0; i < now->n_routes && next->n_routes < PLAN_MAX_ROUTES; i++) {
		if (now->routes[i].version == version)
			next->routes[next->n_routes++] = now->routes[i];
	}
}

/* By the address: the interface that was asked for may be down. */
static bool host_has(const struct ns_follow *follow, unsigned int v)
{
	const struct host_net *host = &follow->network->host;

	return host->v[v].ifindex &&
	       (!ip_is_unset(&host->v[v].addr) ||
		(!ip_is_unset(&follow->network->rt->config->addr[v]) && host->v[v].routed));
}

static int make_next(const struct ns_follow *follow, struct netns_plan *next)
{
	const struct runtime *rt = follow->network->rt;
	struct netconf net = *rt->netconf_rcu; /* control's own: nobody else replaces it */
	int error;

	for (unsigned int v = 0; v < IP_VERSIONS; v++)
		net.v[v].on = net.v[v].on && host_has(follow, v);
	error = netns_plan_make(next, rt->config, &net, &follow->network->host, rt->n_shards);
	for (unsigned int v = 0; v < IP_VERSIONS && !error; v++) {
		if (!host_has(follow, v))
			keep_version(next, follow->plan, (enum ip_version)v);
	}
	return error;
}

struct update {
	const struct netns_plan *before, *now;
	unsigned int ifindex;
};

static int carry_out(void *arg)
{
	const struct update *update = arg;

	return netns_plan_update(update->before, update->now, update->ifindex);
}

/* The namespace says nothing of its own of an address that it has lost. */
static void forget_lost(const struct ns_follow *follow, const struct netns_plan *next) ON_CONTROL
{
	for (unsigned int i = 0; i < follow->plan->n_addrs; i++) {
		const struct ip_addr *addr = &follow->plan->addrs[i].addr;

		if (!netns_plan_has_addr(next, addr))
			network_address_gone(follow->network, addr);
	}
}

static void look(struct ns_follow *follow) ON_CONTROL
{
	struct netns_plan *next = calloc(1, sizeof(*next));
	struct update update = { follow->plan, next, follow->ifindex };
	int error;

	if (!next || make_next(follow, next) || netns_plan_eq(follow->plan, next)) {
		free(next);
		return;
	}
	error = ns_thread_call(follow->thread, carry_out, &update);
	if (error)
		log_warning("The namespace couldn't follow the host's network: %s",
			    strerror(-error));
	else
		log_info("The namespace follows the host's network: %u addresses, %u routes",
			 next->n_addrs, next->n_routes);
	forget_lost(follow, next); /* what is taken away is so, whatever else was refused */
	free(follow->plan);
	follow->plan = next;
}

static bool settled(struct control_hook *hook)
{
	uint64_t expirations;

	role_is_control();
	if (read(hook->fd, &expirations, sizeof(expirations)) == sizeof(expirations))
		look(hook->arg);
	return true;
}

static void look_soon(const struct ns_follow *follow)
{
	const struct itimerspec once = { { 0, 0 }, { 0, SETTLE_NS } };

	timerfd_settime(follow->hooks[FOLLOW_TIMER].fd, 0, &once, NULL);
}

/* What the news are does not matter: it is looked afterwards. */
static bool news(struct control_hook *hook)
{
	struct ns_follow *follow = hook->arg;
	struct itimerspec left;
	char room[8192];

	while (recv(hook->fd, room, sizeof(room), 0) >= 0 || errno == ENOBUFS)
		;
	if (timerfd_gettime(follow->hooks[FOLLOW_TIMER].fd, &left) == 0 && !left.it_value.tv_sec &&
	    !left.it_value.tv_nsec)
		look_soon(follow);
	return true;
}

static int open_news(void)
{
	struct sockaddr_nl sa = { .nl_family = AF_NETLINK,
				  .nl_groups = RTMGRP_LINK | RTMGRP_IPV4_IFADDR |
					       RTMGRP_IPV6_IFADDR | RTMGRP_IPV4_ROUTE |
					       RTMGRP_IPV6_ROUTE };
	int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_ROUTE), error;

	if (fd < 0)
		return -errno;
	if (bind(fd, (struct sockaddr *)&sa, sizeof(sa)) == 0)
		return fd;
	error = -errno;
	close(fd);
	return error;
}

int ns_follow_new(struct ns_follow **out, struct netns_plan *plan, unsigned int ifindex,
		  struct network *network, struct ns_thread *thread)
{
	struct ns_follow *follow = calloc(1, sizeof(*follow));

	if (!follow) {
		free(plan);
		return -ENOMEM;
	}
	*follow = (struct ns_follow){
		.network = network, .thread = thread, .plan = plan, .ifindex = ifindex
	};
	follow->hooks[FOLLOW_NEWS] = (struct control_hook){ open_news(), news, follow };
	follow->hooks[FOLLOW_TIMER] =
		(struct control_hook){ timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK),
				       settled, follow };
	*out = follow;
	return follow->hooks[FOLLOW_NEWS].fd < 0 || follow->hooks[FOLLOW_TIMER].fd < 0 ? -EMFILE
										       : 0;
}

void ns_follow_free(struct ns_follow *follow)
{
	if (!follow)
		return;
	for (unsigned int i = 0; i < FOLLOW_HOOKS; i++) {
		if (follow->hooks[i].fd >= 0)
			close(follow->hooks[i].fd);
	}
	free(follow->plan);
	free(follow);
}

int ns_follow_hook(struct ns_follow *follow, struct control *control)
{
	int error = control_add_hook(control, &follow->hooks[FOLLOW_NEWS]);

	look_soon(follow); /* nobody told of what has changed since the plan was made */
	return error ? error : control_add_hook(control, &follow->hooks[FOLLOW_TIMER]);
}
