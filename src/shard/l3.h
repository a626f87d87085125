/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Ethernet and IP headers of what goes to the guest. Pure; any thread.
 */
#pragma once

#include "taploom/addr.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define L3_HEADER_MAX (14 + 40)

struct l3 {
	struct eth_addr dst_mac;
	struct eth_addr src_mac;
	struct ip_addr src; /* of the same version as dst */
	struct ip_addr dst;
	uint8_t proto; /* IPPROTO_* */
	uint8_t tos;
	uint8_t ttl;
	bool dont_fragment; /* IPv4 */
	uint16_t id;	    /* IPv4 */
	uint16_t frag;	    /* IPv4: offset in 8-byte units, 0x2000 for more fragments */
};

/* Bytes that l3_write() writes: 34 or 54. */
static inline size_t l3_len(const struct ip_addr *dst)
{
	return ip_is_v4(dst) ? 14 + 20 : 14 + 40;
}

/* Writes both headers for l4_len bytes behind them (RFC 791 3.1, RFC 8200 3). Returns l3_len(). */
size_t l3_write(uint8_t *p, const struct l3 *l3, size_t l4_len);
