/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Parsers of the small values that options are made of. Pure: text in, value out; false if the text
 * is not such a value as a whole. Any thread.
 */
#pragma once

#include "taploom/addr.h"

#include <net/if.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Decimal digits only, no sign, no blanks; at most max. */
bool value_number(const char *text, uint64_t max, uint64_t *out);
/* A number with an optional K, M or G (powers of 1024); at most max. */
bool value_size(const char *text, uint64_t max, uint64_t *out);
/* An IPv4 or IPv6 address in text form (RFC 4291 2.2); a v4-mapped IPv6 address is the IPv4
 * address. */
bool value_addr(const char *text, struct ip_addr *out);
/* Six hexadecimal bytes with colons; group addresses and zero are refused. */
bool value_mac(const char *text, struct eth_addr *out);
/* A name that may be an interface's: 1 to 15 bytes without blanks, slash or colon. */
bool value_ifname(const char *text, char out[IFNAMSIZ]);
/* A domain name: labels of 1 to 63 letters, digits, - and _, in sum at most 253, a dot at the end
 * allowed. */
bool value_domain(const char *text, size_t len);
/* A list of numbers and ranges such as 0,2-5, in the order given; at most max_n of them. *n is set.
 */
bool value_list(const char *text, int *out, unsigned int max_n, unsigned int *n);
/* An IPv4 mask with dots whose ones are all on the left. */
bool value_mask(const char *text, uint8_t *prefix_len);
