/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Addresses and ports as they stand in a parsed frame. For a frame that frame_parse() accepted, of
 * IP (not ARP); the ports of TCP and UDP frames only. Pure; any thread.
 */
#pragma once

#include "taploom/bytes.h"
#include "taploom/frame.h"

#define IP4_SRC_OFF 12 /* RFC 791 3.1 */
#define IP4_DST_OFF 16
#define IP6_SRC_OFF 8 /* RFC 8200 3 */
#define IP6_DST_OFF 24

static inline struct ip_addr frame_src(const struct frame *frame)
{
	const uint8_t *ip = frame->data + frame->l3_off;

	return frame->version == IP4 ? ip4_addr_of(ip + IP4_SRC_OFF)
				     : ip6_addr_of(ip + IP6_SRC_OFF);
}

static inline struct ip_addr frame_dst(const struct frame *frame)
{
	const uint8_t *ip = frame->data + frame->l3_off;

	return frame->version == IP4 ? ip4_addr_of(ip + IP4_DST_OFF)
				     : ip6_addr_of(ip + IP6_DST_OFF);
}

static inline uint16_t frame_src_port(const struct frame *frame)
{
	return load_be16(frame->data + frame->l4_off);
}

static inline uint16_t frame_dst_port(const struct frame *frame)
{
	return load_be16(frame->data + frame->l4_off + 2);
}
