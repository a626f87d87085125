/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ARP (RFC 826) for Ethernet and IPv4: the codec, and which requests are answered. The guest
 * believes its neighbours to be on its own link, so we answer for every address but those that the
 * guest uses itself. Pure; any thread.
 */
#pragma once

#include "taploom/netconf.h"

#include <stddef.h>

#define ARP_LEN	    28
#define ARP_REQUEST 1
#define ARP_REPLY   2

struct arp_packet {
	uint16_t op; /* ARP_* */
	struct eth_addr sender_mac;
	struct eth_addr target_mac;
	struct ip_addr sender;
	struct ip_addr target;
};

/* False if it is shorter than ARP_LEN or not of Ethernet and IPv4; bytes after the packet are
 * padding. */
bool arp_decode(const uint8_t *bytes, size_t len, struct arp_packet *packet);

/* Writes a packet; returns ARP_LEN, 0 if size is less. */
size_t arp_encode(uint8_t *bytes, size_t size, const struct arp_packet *packet);

/* Whether the sender uses the address that it names: no probe, which only asks for it, and an
 * address that a host may have. */
bool arp_shows_sender(const struct arp_packet *packet);

/*
 * Answers a request, or says why not: false for anything but a request, for a probe or an
 * announcement (RFC 5227 2.1.1, 2.3: an answer would tell of a conflict that isn't there), for an
 * address of the guest's own, and for what is no host's address.
 */
bool arp_answer(const struct netconf *net, const struct arp_packet *request,
		struct arp_packet *reply);
