/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Any bytes as a dump over netlink and as events. The first message gives the sequence number
 * waited for. links: services
 */
#include "services/netlink.h"

#include <linux/netlink.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len);

static void select_with(const struct netlink_state *state, const struct config *config)
{
	struct host_net host;

	netlink_select(state, config, &host);
	for (int v = 0; v < IP_VERSIONS; v++)
		if (host.v[v].prefix_len > 128 || (v == IP4 && host.v[v].prefix_len > 32) ||
		    strnlen(host.v[v].ifname, IFNAMSIZ) == IFNAMSIZ)
			abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
	static const struct config plain;
	static const struct config named = { .ifname = "eth0" };
	struct netlink_state state = { 0 };
	uint32_t seq = 0;
	uint8_t *copy =
		malloc(len ? len : 1); /* aligned, as a datagram is, and no longer than it */

	if (!copy)
		return 0;
	if (len)
		memcpy(copy, bytes, len);
	if (len >= sizeof(struct nlmsghdr))
		memcpy(&seq, copy + offsetof(struct nlmsghdr, nlmsg_seq), sizeof(seq));
	netlink_state_take(&state, copy, len, seq);
	netlink_events_matter(copy, len);
	select_with(&state, &plain);
	select_with(&state, &named);
	netlink_state_clear(&state);
	free(copy);
	return 0;
}
