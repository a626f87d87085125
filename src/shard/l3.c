/* SPDX-License-Identifier: Apache-2.0 */
#include "l3.h"

#include "taploom/bytes.h"
#include "taploom/checksum.h"

static void write_ip4(uint8_t *p, const struct l3 *l3, size_t l4_len)
{
	uint16_t sum;

	p[0] = 0x45;
	p[1] = l3->tos;
	store_be16(p + 2, (uint16_t)(20 + l4_len));
	store_be16(p + 4, l3->id);
	store_be16(p + 6, (uint16_t)(l3->frag | (l3->dont_fragment ? 0x4000 : 0)));
	p[8] = l3->ttl;
	p[9] = l3->proto;
	p[10] = p[11] = 0;
	memcpy(p + 12, l3->src.b + 12, 4);
	memcpy(p + 16, l3->dst.b + 12, 4);
	sum = checksum_finish(checksum_add(0, p, 20));
	memcpy(p + 10, &sum, 2);
}

static void write_ip6(uint8_t *p, const struct l3 *l3, size_t l4_len)
{
	store_be32(p, 0x60000000u | (uint32_t)l3->tos << 20);
	store_be16(p + 4, (uint16_t)l4_len);
	p[6] = l3->proto;
	p[7] = l3->ttl;
	memcpy(p + 8, l3->src.b, 16);
	memcpy(p + 24, l3->dst.b, 16);
}

size_t l3_write(uint8_t *p, const struct l3 *l3, size_t l4_len)
{
	bool v4 = ip_is_v4(&l3->dst);

	memcpy(p, l3->dst_mac.b, ETH_ADDR_LEN);
	memcpy(p + 6, l3->src_mac.b, ETH_ADDR_LEN);
	store_be16(p + 12, v4 ? 0x0800 : 0x86dd);
	if (v4)
		write_ip4(p + 14, l3, l4_len);
	else
		write_ip6(p + 14, l3, l4_len);
	return l3_len(&l3->dst);
}
