/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Neighbour discovery messages (RFC 4861, 8106) as structs. The ICMPv6 checksum is the caller's: it
 * needs the IPv6 header. Pure; any thread.
 */
#pragma once

#include "taploom/config.h"

#include <stddef.h>

#define NDP_RS	     133
#define NDP_RA	     134
#define NDP_NS	     135
#define NDP_NA	     136
#define NDP_REDIRECT 137

#define NDP_NA_LEN	 32
#define NDP_RA_MAX_LEN	 1240 /* in an IPv6 packet of 1280 bytes, which no link cuts */
#define NDP_MAX_PREFIXES 12

#define NDP_NA_ROUTER	 0x80
#define NDP_NA_SOLICITED 0x40
#define NDP_NA_OVERRIDE	 0x20

struct ndp_query {
	uint8_t type;
	uint8_t code;
	struct ip_addr target; /* of NS, NA and redirect */
	bool has_source_link;  /* the source link-layer address option */
};

struct ndp_na {
	uint8_t flags; /* NDP_NA_* */
	struct ip_addr target;
	struct eth_addr target_mac;
};

struct ndp_prefix {
	struct ip_addr prefix; /* bits after len are written as zeros */
	uint8_t len;
	bool on_link;
	bool autonomous;
	uint32_t valid_s;
	uint32_t preferred_s;
};

/* Resolvers and search domains that are given, or, with a lifetime of 0, taken back. */
struct ndp_names {
	uint32_t lifetime_s;
	const struct ip_addr *dns;
	unsigned int n_dns;
	const struct domain *search;
	unsigned int n_search;
};

struct ndp_ra {
	uint8_t hop_limit;
	bool managed; /* M: addresses by DHCPv6 */
	bool other;   /* O: the rest by DHCPv6 */
	uint16_t lifetime_s;
	struct eth_addr source_mac;
	uint32_t mtu; /* 0: none */
	struct ndp_prefix prefixes[NDP_MAX_PREFIXES];
	unsigned int n_prefixes;
	struct ndp_names given;
	struct ndp_names withdrawn;
};

/*
 * Reads an NDP message of any of the five types from its ICMPv6 header on. False if it is no such
 * message, too short, or has an option of length 0 or one that overruns (RFC
 * 4861 4.6, 6.1, 7.1, 8.1).
 */
bool ndp_decode(const uint8_t *bytes, size_t len, struct ndp_query *query);

/* Writes an NA, the checksum field 0; returns NDP_NA_LEN, 0 if size is less. */
size_t ndp_encode_na(uint8_t *bytes, size_t size, const struct ndp_na *na);

/* Writes an RA (size is NDP_RA_MAX_LEN or more), the checksum field 0, and returns its length. What
 * does not fit is left out, names first. */
size_t ndp_encode_ra(uint8_t *bytes, size_t size, const struct ndp_ra *ra);
