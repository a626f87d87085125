/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Host discovery: two sockets of NETLINK_ROUTE, both opened at the start as there may be no right
 * to do so later. One listens for events and only tells that something changed; what there is then
 * comes from dumps on the other, so that a lost event costs nothing but a dump.
 */
#include "taploom/services.h"

#include "netlink.h"

#include <errno.h>
#include <libmnl/libmnl.h>
#include <linux/rtnetlink.h>
#include <stdlib.h>

#define BUF_SIZE     32768 /* what the kernel puts into one datagram of a dump, at most */
#define MAX_READS    64	   /* datagrams of events taken at once: other work is waiting, too */
#define MAX_ATTEMPTS 3	   /* at a dump that the host does not change under */

static const unsigned int event_groups = RTMGRP_LINK | RTMGRP_IPV4_IFADDR | RTMGRP_IPV6_IFADDR |
					 RTMGRP_IPV4_ROUTE | RTMGRP_IPV6_ROUTE;

struct discovery {
	const struct config *config;
	struct mnl_socket *events;
	struct mnl_socket *dumps;
	uint32_t seq;			    /* of the last request */
	bool dirty;			    /* host_net is to be read anew */
	struct host_net host;		    /* as last read */
	unsigned int selected[IP_VERSIONS]; /* the last interfaces that a default route gave */
	_Alignas(struct nlmsghdr) uint8_t buf[BUF_SIZE];
};

static int open_socket(struct mnl_socket **out, int flags, unsigned int groups)
{
	int strict = 1;

	*out = mnl_socket_open2(NETLINK_ROUTE, SOCK_CLOEXEC | flags);
	if (!*out || mnl_socket_bind(*out, groups, MNL_SOCKET_AUTOPID) < 0)
		return -errno;
	/* Lets the kernel sort out other tables' routes; before Linux 4.20 netlink.c does it alone.
	 */
	mnl_socket_setsockopt(*out, NETLINK_GET_STRICT_CHK, &strict, sizeof(strict));
	return 0;
}

static struct nlmsghdr *start_request(struct discovery *discovery, uint16_t type)
{
	struct nlmsghdr *msg = mnl_nlmsg_put_header(discovery->buf);

	msg->nlmsg_type = type;
	msg->nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
	msg->nlmsg_seq = ++discovery->seq;
	return msg;
}

static void request_links(struct discovery *discovery)
{
	struct nlmsghdr *msg = start_request(discovery, RTM_GETLINK);

	mnl_nlmsg_put_extra_header(msg, sizeof(struct ifinfomsg));
	mnl_attr_put_u32(msg, IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS);
}

static void request_addresses(struct discovery *discovery)
{
	mnl_nlmsg_put_extra_header(start_request(discovery, RTM_GETADDR), sizeof(struct ifaddrmsg));
}

static void request_routes(struct discovery *discovery, uint8_t family)
{
	struct nlmsghdr *msg = start_request(discovery, RTM_GETROUTE);
	struct rtmsg *info = mnl_nlmsg_put_extra_header(msg, sizeof(*info));

	info->rtm_family = family;
	info->rtm_table = RT_TABLE_MAIN;
}

static void request_routes4(struct discovery *discovery)
{
	request_routes(discovery, AF_INET);
}

static void request_routes6(struct discovery *discovery)
{
	request_routes(discovery, AF_INET6);
}

static void (*const requests[])(struct discovery *discovery) = { request_links, request_addresses,
								 request_routes4, request_routes6 };

/* A kernel without the version, or without its main table (nothing was ever put there). */
static bool has_none(int rc)
{
	return rc == -ENOENT || rc == -EOPNOTSUPP || rc == -EAFNOSUPPORT;
}

/* Sends the request in the buffer, and takes its answer. */
static int dump(struct discovery *discovery, struct netlink_state *state)
{
	const struct nlmsghdr *msg = (const void *)discovery->buf;
	ssize_t n = mnl_socket_sendto(discovery->dumps, msg, msg->nlmsg_len);
	int rc = 1;

	while (n >= 0 && rc > 0) {
		n = mnl_socket_recvfrom(discovery->dumps, discovery->buf, sizeof(discovery->buf));
		if (n < 0 && errno == EINTR)
			n = 0;
		else if (n > 0)
			rc = netlink_state_take(state, discovery->buf, (size_t)n, discovery->seq);
	}
	if (n < 0)
		return -errno;
	return has_none(rc) ? 0 : rc;
}

static int dump_all(struct discovery *discovery, struct netlink_state *state)
{
	int rc = 0;

	netlink_state_clear(state);
	for (size_t i = 0; rc == 0 && i < sizeof(requests) / sizeof(requests[0]); i++) {
		requests[i](discovery);
		rc = dump(discovery, state);
	}
	return rc;
}

static void select_host(struct discovery *discovery, struct netlink_state *state)
{
	memcpy(state->before, discovery->selected, sizeof(state->before));
	netlink_select(state, discovery->config, &discovery->host);
	for (unsigned int v = 0; v < IP_VERSIONS; v++) {
		if (discovery->host.v[v].routed)
			discovery->selected[v] = discovery->host.v[v].ifindex;
	}
}

/* What still changes after the last attempt makes an event, and so the next dump. */
static int read_host(struct discovery *discovery)
{
	struct netlink_state state = { 0 };
	int attempts = 0;
	int rc;

	do {
		rc = dump_all(discovery, &state);
	} while (rc == 0 && state.interrupted && ++attempts < MAX_ATTEMPTS);
	if (rc == 0)
		select_host(discovery, &state);
	netlink_state_clear(&state);
	return rc;
}

int discovery_open(struct discovery **out, const struct config *config)
{
	struct discovery *discovery = calloc(1, sizeof(*discovery));
	struct host_net host;
	int rc;

	if (!discovery)
		return -ENOMEM;
	discovery->config = config;
	discovery->dirty = true;
	/* Events first: what changes during the first dump must not be missed. */
	rc = open_socket(&discovery->events, SOCK_NONBLOCK, event_groups);
	if (rc == 0)
		rc = open_socket(&discovery->dumps, 0, 0);
	if (rc == 0)
		rc = discovery_get(discovery, &host);
	if (rc < 0) {
		discovery_close(discovery);
		return rc;
	}
	*out = discovery;
	return 0;
}

void discovery_close(struct discovery *discovery)
{
	if (!discovery)
		return;
	if (discovery->events)
		mnl_socket_close(discovery->events);
	if (discovery->dumps)
		mnl_socket_close(discovery->dumps);
	free(discovery);
}

int discovery_fd(const struct discovery *discovery)
{
	return mnl_socket_get_fd(discovery->events);
}

bool discovery_read(struct discovery *discovery)
{
	for (int i = 0; i < MAX_READS; i++) {
		ssize_t n = mnl_socket_recvfrom(discovery->events, discovery->buf,
						sizeof(discovery->buf));

		if (n > 0)
			discovery->dirty |= netlink_events_matter(discovery->buf, (size_t)n);
		else if (n < 0 && errno == EAGAIN)
			break;
		else if (n < 0 && errno != EINTR)
			discovery->dirty =
				true; /* ENOBUFS: events were lost; ENOSPC: one was cut */
	}
	return discovery->dirty;
}

int discovery_get(struct discovery *discovery, struct host_net *out)
{
	if (discovery->dirty) {
		int rc = read_host(discovery);

		if (rc < 0)
			return rc;
		discovery->dirty = false;
	}
	*out = discovery->host;
	return 0;
}
