/* SPDX-License-Identifier: Apache-2.0 */
#include "map.h"

#include "taploom/bytes.h"

#define DNS_PORT     53
#define DNS_TLS_PORT 853 /* RFC 7858, RFC 9250 */

static const struct ip_addr loopback[IP_VERSIONS] = {
	[IP4] = { .b = { [10] = 0xff, 0xff, 127, 0, 0, 1 } },
	[IP6] = { .b = { [15] = 1 } },
};

static bool matches(const struct ip_addr *a, const struct ip_addr *rule)
{
	return !ip_is_unset(rule) && ip_eq(a, rule);
}

/*
 * The address that stands for the host's loopback. The guest's IPv6 router is the link-local
 * address that advertises itself, whatever the gateway is: one is as good as the other.
 */
static bool is_host_loopback(const struct netconf_version *v, const struct ip_addr *dst)
{
	return matches(dst, &v->map_host_loopback) ||
	       (matches(dst, &v->our_local) && matches(&v->gateway, &v->map_host_loopback));
}

static bool is_dns(uint16_t port)
{
	return port == DNS_PORT || port == DNS_TLS_PORT;
}

enum drop map_to_host(const struct netconf *net, const struct endpoint *dst, uint8_t proto,
		      struct endpoint *out)
{
	const struct netconf_version *v = &net->v[ip_version_of(&dst->addr)];
	enum ip_version version = ip_version_of(&dst->addr);

	(void)proto;
	*out = *dst;
	if (!v->on)
		return DROP_FAMILY_OFF;
	if (is_dns(dst->port) && matches(&dst->addr, &v->dns_match)) {
		out->addr = v->dns_target;
		return DROP_NONE;
	}
	if (is_host_loopback(v, &dst->addr)) {
		out->addr = loopback[version];
		return DROP_NONE;
	}
	if (matches(&dst->addr, &v->map_guest_addr)) {
		out->addr = v->addr;
		return DROP_NONE;
	}
	if (ip_is_loopback(&dst->addr) || ip_is_any(&dst->addr))
		return DROP_IP_DEST;
	return DROP_NONE;
}

bool map_to_guest(const struct netconf *net, const struct ip_addr *peer,
		  const struct ip_addr *local, struct ip_addr *out)
{
	const struct netconf_version *v = &net->v[ip_version_of(peer)];
	bool own = ip_eq(peer, &v->addr) || (!ip_is_unset(&v->seen) && ip_eq(peer, &v->seen));

	(void)local;
	*out = *peer;
	if (!v->on)
		return false;
	if (!ip_is_loopback(peer) && !own)
		return true;
	/* The guest would take its own address, or a loopback one, for a mistake. */
	if (own && !ip_is_unset(&v->map_guest_addr))
		*out = v->map_guest_addr;
	else if (!ip_is_unset(&v->map_host_loopback))
		*out = v->map_host_loopback;
	else if (!ip_is_unset(&v->gateway))
		*out = v->gateway;
	else
		return false;
	return true;
}

bool map_guest_addr(const struct netconf *net, enum ip_version version, bool link_local,
		    struct ip_addr *out)
{
	const struct netconf_version *v = &net->v[version];
	const struct ip_addr *choice = link_local && version == IP6 ? &v->seen_local : &v->seen;

	if (ip_is_unset(choice) && !(link_local && version == IP6))
		choice = &v->addr;
	if (!v->on || ip_is_unset(choice))
		return false;
	*out = *choice;
	return true;
}

/* The broadcast address of the guest's network. */
static bool is_directed_broadcast(const struct netconf_version *v, const struct ip_addr *addr)
{
	uint32_t hosts;

	if (!ip_is_v4(addr) || v->prefix_len == 0 || v->prefix_len > 30 || ip_is_unset(&v->addr))
		return false;
	hosts = UINT32_MAX >> v->prefix_len;
	return load_be32(addr->b + 12) == (load_be32(v->addr.b + 12) | hosts);
}

bool map_is_group(const struct netconf_version *v, const struct ip_addr *addr)
{
	return ip_is_multicast(addr) || ip_is_broadcast(addr) || is_directed_broadcast(v, addr);
}

socklen_t sockaddr_of(const struct endpoint *e, unsigned int scope, struct sockaddr_storage *sa)
{
	struct sockaddr_in in = { .sin_family = AF_INET, .sin_port = htons(e->port) };
	struct sockaddr_in6 in6 = { .sin6_family = AF_INET6, .sin6_port = htons(e->port) };

	if (ip_is_v4(&e->addr)) {
		memcpy(&in.sin_addr, e->addr.b + 12, 4);
		memcpy(sa, &in, sizeof(in));
		return sizeof(in);
	}
	memcpy(&in6.sin6_addr, e->addr.b, 16);
	if (ip_is_link_local(&e->addr) || (ip_is_multicast(&e->addr) && (e->addr.b[1] & 0xf) <= 2))
		in6.sin6_scope_id = scope;
	memcpy(sa, &in6, sizeof(in6));
	return sizeof(in6);
}

bool endpoint_of(const struct sockaddr_storage *sa, struct endpoint *e)
{
	struct sockaddr_in in;
	struct sockaddr_in6 in6;

	if (sa->ss_family == AF_INET) {
		memcpy(&in, sa, sizeof(in));
		*e = (struct endpoint){ ip4_addr_of(&in.sin_addr), ntohs(in.sin_port) };
		return true;
	}
	if (sa->ss_family == AF_INET6) {
		memcpy(&in6, sa, sizeof(in6));
		*e = (struct endpoint){ ip6_addr_of(&in6.sin6_addr), ntohs(in6.sin6_port) };
		return true;
	}
	return false;
}
