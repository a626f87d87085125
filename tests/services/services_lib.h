/* SPDX-License-Identifier: Apache-2.0 */
/*
 * For the tests of the services: a network to be given, a guest that makes control frames, and a
 * transport that keeps what it is told to send.
 */
#pragma once

#include "reply.h"
#include "taploom/bytes.h"
#include "taploom/checksum.h"
#include "taploom/frame.h"
#include "taploom/netconf.h"
#include "taploom/tx.h"

#include <arpa/inet.h>
#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#define SENT_MAX 8

static const struct eth_addr our_mac = { { 0x9a, 0x55, 0, 0, 0, 1 } };
static const struct eth_addr guest_mac = { { 0x52, 0x54, 0, 0x12, 0x34, 0x56 } };

/* What the fake transport was told to send. */
struct fake_tx {
	struct tx tx;
	struct counters counters;
	bool full;
	uint8_t room[FRAME_MAX];
	uint8_t sent[SENT_MAX][REPLY_MAX];
	size_t len[SENT_MAX];
	unsigned int n_sent;
};

static inline uint8_t *fake_begin(struct tx *tx, uint16_t queue, size_t size)
{
	struct fake_tx *fake = (struct fake_tx *)tx;

	(void)queue;
	assert_true(size <= FRAME_MAX);
	return fake->full ? NULL : fake->room;
}

static inline void fake_commit(struct tx *tx, size_t len, const struct tx_offload *offload)
{
	struct fake_tx *fake = (struct fake_tx *)tx;

	assert_null(offload);
	assert_true(len <= REPLY_MAX && fake->n_sent < SENT_MAX);
	memcpy(fake->sent[fake->n_sent], fake->room, len);
	fake->len[fake->n_sent++] = len;
}

static const struct tx_ops fake_ops = { .frame_begin = fake_begin, .frame_commit = fake_commit };

static inline struct ip_addr ip(const char *text)
{
	uint8_t wire[16];

	if (inet_pton(AF_INET, text, wire) == 1)
		return ip4_addr_of(wire);
	assert_int_equal(inet_pton(AF_INET6, text, wire), 1);
	return ip6_addr_of(wire);
}

static inline void fill_net(struct netconf *net)
{
	*net = (struct netconf){ .mtu = 1500, .our_mac = our_mac, .n_search = 2 };
	net->v[IP4] = (struct netconf_version){ .on = true,
						.addr = ip("192.0.2.10"),
						.prefix_len = 24,
						.gateway = ip("192.0.2.1"),
						.dns = { ip("192.0.2.53"), ip("198.51.100.53") },
						.n_dns = 2 };
	net->v[IP6] = (struct netconf_version){ .on = true,
						.addr = ip("2001:db8::10"),
						.prefix_len = 64,
						.gateway = ip("fe80::1"),
						.dns = { ip("2001:db8::53") },
						.n_dns = 1,
						.our_local = ip("fe80::1") };
	strcpy(net->search[0].name, "example.org");
	strcpy(net->search[1].name, "lab.example.org");
	strcpy(net->hostname, "guest");
	strcpy(net->fqdn, "guest.example.org");
}

static inline uint64_t dropped(const struct fake_tx *fake, enum drop reason)
{
	return atomic_load(&fake->counters.drop[reason]);
}

/* The sum of the whole of L4 with its pseudo-header comes out as zero if the checksum is right. */
static inline bool sums_up(const struct ip_addr *src, const struct ip_addr *dst, uint8_t proto,
			   const uint8_t *l4, size_t len)
{
	return checksum_finish(
		       checksum_add(checksum_pseudo(src, dst, proto, (uint32_t)len), l4, len)) == 0;
}

/* Fills a frame as its parser would; bytes are lent. */
static inline struct frame frame_of(const uint8_t *bytes, size_t len)
{
	struct frame frame = { .data = bytes,
			       .linear_len = (uint32_t)len,
			       .len = (uint32_t)len,
			       .kind = FRAME_CONTROL,
			       .l3_off = ETH_HEADER_LEN };
	uint16_t ethertype = load_be16(bytes + 12);

	if (ethertype == 0x0800) {
		frame.version = IP4;
		frame.l4_proto = bytes[23];
		frame.ttl = bytes[22];
		frame.l4_off = 34;
	} else if (ethertype == 0x86dd) {
		frame.version = IP6;
		frame.l4_proto = bytes[20];
		frame.ttl = bytes[21];
		frame.l4_off = 54;
	}
	return frame;
}
