/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The DHCP server (RFC 2131). There is one client and one address, the host's: so there is no
 * database of leases, and each message is answered from the configuration in force alone. Leases
 * are short enough for a new address of the host to reach the guest with its next renewal. Pure;
 * any thread.
 */
#pragma once

#include "dhcp_codec.h"

#include "taploom/counters.h"
#include "taploom/netconf.h"

#define DHCP_LEASE_S	   3600
#define DHCP_LEASE_LOCAL_S 60 /* of an address that is given for want of the host's */
#define DHCP_LEASE_MIN_S   10 /* what a client may ask for */

/*
 * The address under which the guest knows this server: its gateway. With none (an on-link default
 * route), the first host address of its prefix that is not its own, as we answer ARP for all of
 * them; where the prefix has no room, a link-local address.
 */
struct ip_addr dhcp_server_addr(const struct netconf_version *net);

/* Whether a datagram to this address is for this server: broadcast, or its own address. */
bool dhcp_is_for_us(const struct netconf_version *net, const struct ip_addr *dst);

/*
 * Answers a client's message.
 *
 * server: the address under which this client knows the server.
 * reply: lends from query, net and config.
 * send:  whether there is a reply; DECLINE and RELEASE get none.
 * Returns DROP_NONE, or DROP_DHCP for what is malformed or meant for another server.
 */
enum drop dhcp_answer(const struct config *config, const struct netconf *net,
		      const struct ip_addr *server, const struct dhcp_query *query,
		      struct dhcp_reply *reply, bool *send);

/*
 * Where a reply goes (RFC 2131 4.1): the IPv4 address, the UDP port and the Ethernet address.
 *
 * src, src_mac: of the query's frame.
 */
struct dhcp_destination {
	struct endpoint to;
	struct eth_addr mac;
};
struct dhcp_destination dhcp_destination_of(const struct dhcp_query *query,
					    const struct dhcp_reply *reply,
					    const struct ip_addr *src,
					    const struct eth_addr *src_mac);
