/* SPDX-License-Identifier: Apache-2.0 */
#include "reply.h"

#include "taploom/bytes.h"
#include "taploom/checksum.h"

#include <net/ethernet.h>

#define IP4_HEADER_LEN	   20
#define IP4_DONT_FRAGMENT  0x4000
#define IP4_CHECKSUM_OFF   10
#define UDP_HEADER_LEN	   8
#define UDP_CHECKSUM_OFF   6
#define ICMP6_CHECKSUM_OFF 2
#define TTL		   64
#define NDP_HOP_LIMIT	   255

static void put_ether(struct bytes_out *out, const struct reply_path *path, uint16_t ethertype)
{
	out_copy(out, path->dst_mac.b, ETH_ADDR_LEN);
	out_copy(out, path->src_mac.b, ETH_ADDR_LEN);
	out_u16(out, ethertype);
}

static void put_ip4(struct bytes_out *out, const struct reply_path *path, uint8_t proto, size_t len)
{
	uint8_t *header = out->at;
	uint16_t sum;

	out_u16(out, 0x4500);
	out_u16(out, (uint16_t)(IP4_HEADER_LEN + len));
	out_u16(out, 0); /* never fragmented, so no identification (RFC 6864 4.1) */
	out_u16(out, IP4_DONT_FRAGMENT);
	out_u8(out, TTL);
	out_u8(out, proto);
	out_u16(out, 0);
	out_copy(out, path->src.addr.b + 12, 4);
	out_copy(out, path->dst.addr.b + 12, 4);
	if (!out_ok(out))
		return;
	sum = checksum_finish(checksum_add(0, header, IP4_HEADER_LEN));
	memcpy(header + IP4_CHECKSUM_OFF, &sum, sizeof(sum));
}

static void put_ip6(struct bytes_out *out, const struct reply_path *path, uint8_t proto,
		    uint8_t hops, size_t len)
{
	out_u32(out, UINT32_C(6) << 28);
	out_u16(out, (uint16_t)len);
	out_u8(out, proto);
	out_u8(out, hops);
	out_copy(out, path->src.addr.b, 16);
	out_copy(out, path->dst.addr.b, 16);
}

/* The checksum over the pseudo-header and what was written from l4 on. */
static uint16_t l4_checksum(const struct reply_path *path, uint8_t proto, const uint8_t *l4,
			    size_t len)
{
	uint64_t sum = checksum_pseudo(&path->src.addr, &path->dst.addr, proto, (uint32_t)len);

	return checksum_finish(checksum_add(sum, l4, len));
}

static size_t finish(const struct bytes_out *out)
{
	return out_ok(out) ? out_len(out) : 0;
}

size_t reply_udp(uint8_t *frame, size_t size, const struct reply_path *path, const uint8_t *payload,
		 size_t len)
{
	struct bytes_out out = out_of(frame, size);
	size_t udp_len = UDP_HEADER_LEN + len;
	bool v4 = ip_is_v4(&path->dst.addr);
	uint8_t *udp;
	uint16_t sum;

	put_ether(&out, path, v4 ? ETHERTYPE_IP : ETHERTYPE_IPV6);
	if (v4)
		put_ip4(&out, path, IPPROTO_UDP, udp_len);
	else
		put_ip6(&out, path, IPPROTO_UDP, TTL, udp_len);
	udp = out.at;
	out_u16(&out, path->src.port);
	out_u16(&out, path->dst.port);
	out_u16(&out, (uint16_t)udp_len);
	out_u16(&out, 0);
	out_copy(&out, payload, len);
	if (!out_ok(&out))
		return 0;
	sum = l4_checksum(path, IPPROTO_UDP, udp, udp_len);
	if (sum == 0) /* zero says that there is none */
		sum = 0xffff;
	memcpy(udp + UDP_CHECKSUM_OFF, &sum, sizeof(sum));
	return finish(&out);
}

size_t reply_icmp6(uint8_t *frame, size_t size, const struct reply_path *path,
		   const uint8_t *message, size_t len)
{
	struct bytes_out out = out_of(frame, size);
	uint8_t *icmp;
	uint16_t sum;

	put_ether(&out, path, ETHERTYPE_IPV6);
	put_ip6(&out, path, IPPROTO_ICMPV6, NDP_HOP_LIMIT, len);
	icmp = out.at;
	out_copy(&out, message, len);
	if (!out_ok(&out) || len < ICMP6_CHECKSUM_OFF + sizeof(sum))
		return 0;
	sum = l4_checksum(path, IPPROTO_ICMPV6, icmp, len);
	memcpy(icmp + ICMP6_CHECKSUM_OFF, &sum, sizeof(sum));
	return finish(&out);
}

size_t reply_ether(uint8_t *frame, size_t size, const struct reply_path *path, uint16_t ethertype,
		   const uint8_t *bytes, size_t len)
{
	struct bytes_out out = out_of(frame, size);

	put_ether(&out, path, ethertype);
	out_copy(&out, bytes, len);
	return finish(&out);
}
