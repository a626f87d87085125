/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The DHCPv6 server (RFC 8415). There is one address, the host's, and no database: the first IA_NA
 * of a message gets it, and each message is answered from the configuration in force alone. Pure;
 * any thread.
 */
#pragma once

#include "dhcp6_codec.h"

#include "taploom/counters.h"
#include "taploom/netconf.h"

#define DHCP6_PREFERRED_S 3600
#define DHCP6_VALID_S	  7200
#define DHCP6_T1_S	  1800 /* 0.5 and 0.8 of the preferred lifetime: RFC 8415 21.4 */
#define DHCP6_T2_S	  2880

/* Whether a datagram to this address is for this server: ff02::1:2, or an address of ours. */
bool dhcp6_is_for_us(const struct netconf_version *net, const struct ip_addr *dst);

/*
 * Answers a client's message.
 *
 * server_id: our DUID, the same for the life of the process.
 * multicast: whether the message came to a multicast address.
 * reply:     lends from query, server_id and net.
 * Returns DROP_NONE, or DROP_DHCP6 for what RFC 8415 16 has a server discard, and for what it
 * leaves unanswered.
 */
enum drop dhcp6_answer(const struct config *config, const struct netconf *net,
		       struct dhcp6_bytes server_id, const struct dhcp6_query *query,
		       bool multicast, struct dhcp6_reply *reply);
