/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Between the two halves of the frame parser: parse.c finds the L4 header behind Ethernet and IP,
 * parse_l4.c classes the frame by it. Pure; any thread.
 */
#pragma once

#include "taploom/frame.h"

#include <stdbool.h>

/*
 * What stands behind an IPv6 header, found by ip6_walk(). All offsets are in bytes from the same
 * start as those given to it.
 */
struct ip6_chain {
	uint32_t l4_off;       /* the first byte that is no extension header */
	uint8_t proto;	       /* what stands there, IPPROTO_* */
	bool fragment;	       /* it is a part of a packet that was cut (RFC 8200 4.5) */
	bool fragment_header;  /* there is such a header, if only an "atomic" one */
	uint16_t fragment_off; /* in bytes */
	bool more;
};

/*
 * Follows the extension headers from chain->l4_off, of type chain->proto, as far as end (RFC 8200
 * 4). A fragment header ends the walk, but an "atomic" one, which is skipped (RFC 6946, 8021).
 */
enum drop ip6_walk(const uint8_t *bytes, uint32_t end, struct ip6_chain *chain);

/*
 * Classes a frame with version, l4_off, l4_proto, len and linear_len filled in: sets kind, key,
 * payload_off and payload_len. Returns DROP_NONE or the reason to drop it.
 */
enum drop l4_parse(struct frame *frame);
