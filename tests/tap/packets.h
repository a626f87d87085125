/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Well-formed frames from a guest, one of each kind, for the tests of the parser to spoil.
 */
#pragma once

#include "taploom/bytes.h"
#include "taploom/checksum.h"
#include "taploom/frame.h"

#define PACKET_MAX 256

struct packet {
	uint8_t bytes[PACKET_MAX];
	size_t len;
};

#define ETH(type) 0x02, 0, 0, 0, 0, 1, 0x02, 0, 0, 0, 0, 9, (type) >> 8, (type)&0xff
/* Guest 10.0.2.15, peer 192.0.2.1; the checksum is filled in by packet_fix(). */
#define IPV4(proto, len)                                                                           \
	ETH(0x0800), 0x45, 0x12, 0, 20 + (len), 0, 1, 0x40, 0, 64, proto, 0, 0, 10, 0, 2, 15, 192, \
		0, 2, 1
/* Guest 2001:db8::15, peer 2001:db8:1::1. */
#define IPV6(next, len)                                                                            \
	ETH(0x86dd), 0x61, 0x20, 0, 0, 0, len, next, 63, 0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0,  \
		0, 0, 0, 0, 0x15, 0x20, 1, 0xd, 0xb8, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1
#define TCP	      0x30, 0x39, 1, 0xbb, 0, 0, 0, 1, 0, 0, 0, 2, 0x60, 0x18, 1, 0, 0, 0, 0, 0, 1, 1, 1, 1
#define TCP_LEN	      24
#define UDP(dst, len) 0x30, 0x39, (dst) >> 8, (dst)&0xff, 0, 8 + (len), 0, 0
#define ECHO(type)    type, 0, 0, 0, 0x77, 0x66, 0, 1
#define DATA	      'p', 'a', 'y', 'l', 'o', 'a', 'd', '!'
#define DATA_LEN      8

enum packet_id {
	TCP4,
	UDP4,
	ECHO4,
	ERROR4,
	DHCP4,
	IGMP4,
	TCP6,
	UDP6,
	ECHO6,
	ERROR6,
	DHCP6,
	NS6,
	ARP,
	HOPOPT6,
	FRAG6,
	PACKETS
};

static const struct packet packets[PACKETS] = {
	[TCP4] = { { IPV4(6, TCP_LEN + DATA_LEN), TCP, DATA }, 34 + TCP_LEN + DATA_LEN },
	[UDP4] = { { IPV4(17, 8 + DATA_LEN), UDP(53, DATA_LEN), DATA }, 34 + 8 + DATA_LEN },
	[ECHO4] = { { IPV4(1, 8 + DATA_LEN), ECHO(8), DATA }, 34 + 8 + DATA_LEN },
	/* Port unreachable for a datagram from 192.0.2.1 port 53 to the guest's port 12345. */
	[ERROR4] = { { IPV4(1, 36), 3, 3,  0, 0,  0,	0,    0, 0,   0x45, 0, 0, 28,
		       0,	    1, 0,  0, 64, 17,	0,    0, 192, 0,    2, 1, 10,
		       0,	    2, 15, 0, 53, 0x30, 0x39, 0, 8,   0,    0 },
		     34 + 36 },
	[DHCP4] = { { IPV4(17, 8 + DATA_LEN), UDP(67, DATA_LEN), DATA }, 34 + 8 + DATA_LEN },
	[IGMP4] = { { IPV4(2, 8), 0x16, 0, 0, 0, 224, 0, 0, 251 }, 34 + 8 },
	[TCP6] = { { IPV6(6, TCP_LEN + DATA_LEN), TCP, DATA }, 54 + TCP_LEN + DATA_LEN },
	[UDP6] = { { IPV6(17, 8 + DATA_LEN), UDP(53, DATA_LEN), DATA }, 54 + 8 + DATA_LEN },
	[ECHO6] = { { IPV6(58, 8 + DATA_LEN), ECHO(128), DATA }, 54 + 8 + DATA_LEN },
	/* Time exceeded for a TCP segment of the peer's port 443 to the guest's port 12345. */
	[ERROR6] = { { IPV6(58, 8 + 40 + 8),
		       3,
		       0,
		       0,
		       0,
		       0,
		       0,
		       0,
		       0,
		       0x60,
		       0,
		       0,
		       0,
		       0,
		       20,
		       6,
		       64,
		       0x20,
		       1,
		       0xd,
		       0xb8,
		       0,
		       1,
		       0,
		       0,
		       0,
		       0,
		       0,
		       0,
		       0,
		       0,
		       0,
		       1,
		       0x20,
		       1,
		       0xd,
		       0xb8,
		       0,
		       0,
		       0,
		       0,
		       0,
		       0,
		       0,
		       0,
		       0,
		       0,
		       0,
		       0x15,
		       1,
		       0xbb,
		       0x30,
		       0x39,
		       0,
		       0,
		       0,
		       1 },
		     54 + 8 + 40 + 8 },
	[DHCP6] = { { IPV6(17, 8 + DATA_LEN), UDP(547, DATA_LEN), DATA }, 54 + 8 + DATA_LEN },
	[NS6] = { { IPV6(58, 24), 135 }, 54 + 24 },
	[ARP] = { { ETH(0x0806), 0, 1, 8, 0, 6, 4, 0, 1 }, 14 + 28 },
	[HOPOPT6] = { { IPV6(0, 8 + 16 + 8 + DATA_LEN),
			60,
			0,
			1,
			4,
			0,
			0,
			0,
			0,
			17,
			1,
			1,
			12,
			0,
			0,
			0,
			0,
			0,
			0,
			0,
			0,
			0,
			0,
			0,
			0,
			UDP(53, DATA_LEN),
			DATA },
		      54 + 8 + 16 + 8 + DATA_LEN },
	[FRAG6] = { { IPV6(44, 8 + 8 + DATA_LEN), 17, 0, 0, 1, 0, 0, 0, 9, UDP(53, 200), DATA },
		    54 + 8 + 8 + DATA_LEN },
};

/* Makes the IPv4 header's checksum right, whatever the header is. */
static inline void packet_fix(struct packet *p)
{
	size_t header = (p->bytes[14] & 15u) * 4;
	uint16_t sum;

	if (p->len < 34 || load_be16(p->bytes + 12) != 0x0800 || 14 + header > p->len)
		return;
	memset(p->bytes + 24, 0, 2);
	sum = checksum_finish(checksum_add(0, p->bytes + 14, header));
	memcpy(p->bytes + 24, &sum, 2);
}
