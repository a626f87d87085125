/* SPDX-License-Identifier: Apache-2.0 */
/*
 * IP addresses of both versions in one type: 16 bytes in wire order, IPv4 in its v4-mapped form
 * (RFC 4291 2.5.5.2), so that a key is compared and hashed without asking for the version.
 */
#pragma once

#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

struct ip_addr {
	union {
		uint8_t b[16];
		uint32_t w[4]; /* wire order */
		uint64_t q[2];
	};
};

/* An address and a port; the port is in host order. */
struct endpoint {
	struct ip_addr addr;
	uint16_t port;
};

enum ip_version { IP4 = 0, IP6 = 1, IP_VERSIONS = 2 }; /* also an index into arrays per version */

#define ETH_ADDR_LEN  6
#define ETH_BROADCAST 0xffffffffffffu /* as the low 48 bits of a number */

struct eth_addr {
	uint8_t b[ETH_ADDR_LEN];
};

static inline struct ip_addr ip4_addr_of(const void *wire)
{
	struct ip_addr a = { .b = { [10] = 0xff, [11] = 0xff } };
	memcpy(a.b + 12, wire, 4);
	return a;
}

static inline struct ip_addr ip6_addr_of(const void *wire)
{
	struct ip_addr a;
	memcpy(a.b, wire, 16);
	return a;
}

static inline bool ip_is_v4(const struct ip_addr *a)
{
	return a->q[0] == 0 && a->w[2] == htonl(0xffff);
}

static inline enum ip_version ip_version_of(const struct ip_addr *a)
{
	return ip_is_v4(a) ? IP4 : IP6;
}

static inline bool ip_eq(const struct ip_addr *a, const struct ip_addr *b)
{
	return a->q[0] == b->q[0] && a->q[1] == b->q[1];
}

/* True for the unset address (all zero) and for the unspecified one of either version. */
static inline bool ip_is_any(const struct ip_addr *a)
{
	return a->q[0] == 0 && (a->q[1] == 0 || (a->w[2] == htonl(0xffff) && a->w[3] == 0));
}

/* All bytes zero: "not set"; the IPv4 unspecified address 0.0.0.0 is set. */
static inline bool ip_is_unset(const struct ip_addr *a)
{
	return a->q[0] == 0 && a->q[1] == 0;
}

static inline bool ip_is_loopback(const struct ip_addr *a)
{
	if (ip_is_v4(a))
		return a->b[12] == 127;
	return a->q[0] == 0 && a->w[2] == 0 && a->w[3] == htonl(1);
}

static inline bool ip_is_multicast(const struct ip_addr *a)
{
	return ip_is_v4(a) ? (a->b[12] & 0xf0) == 0xe0 : a->b[0] == 0xff;
}

/* 255.255.255.255. */
static inline bool ip_is_broadcast(const struct ip_addr *a)
{
	return ip_is_v4(a) && a->w[3] == 0xffffffff;
}

/* IPv6 fe80::/10 or IPv4 169.254.0.0/16. */
static inline bool ip_is_link_local(const struct ip_addr *a)
{
	if (ip_is_v4(a))
		return a->b[12] == 169 && a->b[13] == 254;
	return a->b[0] == 0xfe && (a->b[1] & 0xc0) == 0x80;
}

static inline bool eth_eq(const struct eth_addr *a, const struct eth_addr *b)
{
	return memcmp(a->b, b->b, ETH_ADDR_LEN) == 0;
}
