/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Addresses as the guest sees them and as the host does: the gateway stands for the host's
 * loopback, the DNS forwarder for a resolver, and so on. Pure functions of the network
 * configuration; any thread.
 */
#pragma once

#include "taploom/addr.h"
#include "taploom/counters.h"
#include "taploom/netconf.h"

#include <sys/socket.h>

/*
 * Where a packet of the guest goes on the host.
 *
 * dst: the destination on the wire; proto: IPPROTO_*. *out is the host-side destination, with its
 * port. Returns DROP_NONE, DROP_FAMILY_OFF, or DROP_IP_DEST where a guest may not go (loopback,
 * 0.0.0.0, link-local addresses of no interface, the host's loopback without a mapping).
 */
enum drop map_to_host(const struct netconf *net, const struct endpoint *dst, uint8_t proto,
		      struct endpoint *out);

/*
 * Which source a packet that came from a host-side peer gets towards the guest: loopback and the
 * host's own address become mapped addresses, all others stay. Returns false if there is no address
 * by which the guest could answer (loopback without a mapping).
 *
 * local: the address on which it arrived (unset if not known).
 */
bool map_to_guest(const struct netconf *net, const struct ip_addr *peer,
		  const struct ip_addr *local, struct ip_addr *out);

/* The guest's address for what comes from the host: seen, else assigned; link_local chooses the
 * link-local one of IPv6. False if there is none. */
bool map_guest_addr(const struct netconf *net, enum ip_version version, bool link_local,
		    struct ip_addr *out);

/* Whether an address stands for many: a group, 255.255.255.255, or the broadcast address of the
 * guest's network. v: of the address' version. */
bool map_is_group(const struct netconf_version *v, const struct ip_addr *addr);

/* An endpoint as a socket address; scope is the interface for link-local IPv6. Returns its length.
 */
socklen_t sockaddr_of(const struct endpoint *e, unsigned int scope, struct sockaddr_storage *sa);
/* The other way; false for another family. v4-mapped IPv6 becomes IPv4 by struct ip_addr's form. */
bool endpoint_of(const struct sockaddr_storage *sa, struct endpoint *e);
