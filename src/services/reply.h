/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Complete frames around what the services answer: Ethernet, IP, UDP or ICMPv6, with all checksums.
 * Pure; any thread.
 */
#pragma once

#include "taploom/addr.h"

#include <stddef.h>

#define REPLY_MAX 1514 /* the longest frame that a service sends, in bytes */

struct reply_path {
	struct eth_addr src_mac;
	struct eth_addr dst_mac;
	struct endpoint src; /* addresses of one IP version */
	struct endpoint dst; /* ports count for UDP alone */
};

/* A UDP datagram of either version. Returns the frame's length, 0 if it would be longer than size.
 */
size_t reply_udp(uint8_t *frame, size_t size, const struct reply_path *path, const uint8_t *payload,
		 size_t len);

/* An ICMPv6 message with hop limit 255; its checksum field is 0 before. Returns as reply_udp(). */
size_t reply_icmp6(uint8_t *frame, size_t size, const struct reply_path *path,
		   const uint8_t *message, size_t len);

/* Bytes behind an Ethernet header. Returns as reply_udp(). */
size_t reply_ether(uint8_t *frame, size_t size, const struct reply_path *path, uint16_t ethertype,
		   const uint8_t *bytes, size_t len);
