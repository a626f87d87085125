/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The Internet checksum (RFC 1071, 1624). Sums are 64-bit one's complement accumulators of
 * native-order words, folded and stored at the end. Pure; any thread.
 */
#pragma once

#include "taploom/addr.h"

#include <stddef.h>
#include <stdint.h>

/* Adds len bytes to a sum; a piece of odd length may only be the last. */
uint64_t checksum_add(uint64_t sum, const void *bytes, size_t len);

/* The pseudo-header of both versions (RFC 9293 3.1, RFC 8200 8.1); l4_len in bytes, proto
 * IPPROTO_*. */
uint64_t checksum_pseudo(const struct ip_addr *src, const struct ip_addr *dst, uint8_t proto,
			 uint32_t l4_len);

/* Folds to 16 bits without complement, in wire order: what a partial checksum field holds. */
uint16_t checksum_fold(uint64_t sum);

/* The checksum field's value in wire order: store it with memcpy. */
static inline uint16_t checksum_finish(uint64_t sum)
{
	return (uint16_t)~checksum_fold(sum);
}
