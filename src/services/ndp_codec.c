/* SPDX-License-Identifier: Apache-2.0 */
#include "ndp_codec.h"

#include "dns_name.h"

#define OPT_SOURCE_LINK 1
#define OPT_TARGET_LINK 2
#define OPT_PREFIX	3
#define OPT_MTU		5
#define OPT_RDNSS	25
#define OPT_DNSSL	31

#define RA_MANAGED	  0x80
#define RA_OTHER	  0x40
#define PREFIX_ON_LINK	  0x80
#define PREFIX_AUTONOMOUS 0x40

#define TARGET_OFF 8

/* Where each message's options begin, which is also its least length. */
static const struct message_rule {
	uint8_t options_off;
	bool has_target;
} rules[] = {
	[NDP_RS - NDP_RS] = { 8, false },	[NDP_RA - NDP_RS] = { 16, false },
	[NDP_NS - NDP_RS] = { 24, true },	[NDP_NA - NDP_RS] = { 24, true },
	[NDP_REDIRECT - NDP_RS] = { 40, true },
};

static void decode_options(struct bytes_in *in, struct ndp_query *query)
{
	while (in_left(in) > 0) {
		uint8_t type = in_u8(in);
		size_t len = 8 * (size_t)in_u8(in);

		if (len == 0)
			in->overrun = true;
		else
			in_skip(in, len - 2);
		query->has_source_link |= type == OPT_SOURCE_LINK;
	}
}

bool ndp_decode(const uint8_t *bytes, size_t len, struct ndp_query *query)
{
	struct bytes_in in = in_of(bytes, len);
	const struct message_rule *rule;

	*query = (struct ndp_query){ 0 };
	query->type = in_u8(&in);
	query->code = in_u8(&in);
	if (query->type < NDP_RS || query->type > NDP_REDIRECT)
		return false;
	rule = &rules[query->type - NDP_RS];
	in_skip(&in, (size_t)rule->options_off - 2);
	if (!in_ok(&in))
		return false;
	if (rule->has_target)
		query->target = ip6_addr_of(bytes + TARGET_OFF);
	decode_options(&in, query);
	return in_ok(&in);
}

static void put_header(struct bytes_out *out, uint8_t type)
{
	out_u8(out, type);
	out_u8(out, 0);
	out_u16(out, 0); /* the checksum */
}

static void put_link(struct bytes_out *out, uint8_t type, const struct eth_addr *mac)
{
	out_u8(out, type);
	out_u8(out, 1);
	out_copy(out, mac->b, ETH_ADDR_LEN);
}

size_t ndp_encode_na(uint8_t *bytes, size_t size, const struct ndp_na *na)
{
	struct bytes_out out = out_of(bytes, size);

	put_header(&out, NDP_NA);
	out_u8(&out, na->flags);
	out_zero(&out, 3);
	out_copy(&out, na->target.b, 16);
	put_link(&out, OPT_TARGET_LINK, &na->target_mac);
	return out_ok(&out) ? out_len(&out) : 0;
}

static void put_mtu(struct bytes_out *out, uint32_t mtu)
{
	out_u8(out, OPT_MTU);
	out_u8(out, 1);
	out_u16(out, 0);
	out_u32(out, mtu);
}

/* RFC 4861 4.6.2: the bits after the prefix length must be zero. */
static void put_prefix_bits(struct bytes_out *out, const struct ip_addr *prefix, unsigned int len)
{
	for (unsigned int i = 0; i < 16; i++) {
		unsigned int bits = len > 8 * i ? len - 8 * i : 0;
		unsigned int mask = bits >= 8 ? 0xff : 0xff00U >> bits;

		out_u8(out, (uint8_t)(prefix->b[i] & mask));
	}
}

static void put_prefix(struct bytes_out *out, const struct ndp_prefix *prefix)
{
	unsigned int flags = (prefix->on_link ? PREFIX_ON_LINK : 0) |
			     (prefix->autonomous ? PREFIX_AUTONOMOUS : 0);

	out_u8(out, OPT_PREFIX);
	out_u8(out, 4);
	out_u8(out, prefix->len);
	out_u8(out, (uint8_t)flags);
	out_u32(out, prefix->valid_s);
	out_u32(out, prefix->preferred_s);
	out_u32(out, 0);
	put_prefix_bits(out, &prefix->prefix, prefix->len);
}

/* RFC 8106 5.1 */
static void put_rdnss(struct bytes_out *out, const struct ndp_names *names)
{
	if (!names->n_dns)
		return;
	out_u8(out, OPT_RDNSS);
	out_u8(out, (uint8_t)(1 + 2 * names->n_dns));
	out_u16(out, 0);
	out_u32(out, names->lifetime_s);
	for (unsigned int i = 0; i < names->n_dns; i++)
		out_copy(out, names->dns[i].b, 16);
}

/* RFC 8106 5.2: the names follow each other, and zeros fill the last unit of 8 bytes. */
static void put_dnssl(struct bytes_out *out, const struct ndp_names *names)
{
	uint8_t bytes[MAX_SEARCH * MAX_DOMAIN];
	struct bytes_out list = out_of(bytes, sizeof(bytes));

	for (unsigned int i = 0; i < names->n_search; i++)
		dns_name_put(&list, names->search[i].name);
	if (!out_len(&list))
		return;
	out_zero(&list, -out_len(&list) & 7);
	out_u8(out, OPT_DNSSL);
	out_u8(out, (uint8_t)(1 + out_len(&list) / 8));
	out_u16(out, 0);
	out_u32(out, names->lifetime_s);
	out_copy(out, bytes, out_len(&list));
}

/* Writes an option as a whole, or not at all. */
static void put_if_fits(struct bytes_out *out, const struct ndp_names *names,
			void (*put)(struct bytes_out *out, const struct ndp_names *names))
{
	struct bytes_out before = *out;

	put(out, names);
	if (!out_ok(out))
		*out = before;
}

size_t ndp_encode_ra(uint8_t *bytes, size_t size, const struct ndp_ra *ra)
{
	struct bytes_out out = out_of(bytes, size);

	put_header(&out, NDP_RA);
	out_u8(&out, ra->hop_limit);
	out_u8(&out, (uint8_t)((ra->managed ? RA_MANAGED : 0) | (ra->other ? RA_OTHER : 0)));
	out_u16(&out, ra->lifetime_s);
	out_u32(&out, 0); /* reachable time: not specified */
	out_u32(&out, 0); /* retransmission timer: likewise */
	put_link(&out, OPT_SOURCE_LINK, &ra->source_mac);
	if (ra->mtu)
		put_mtu(&out, ra->mtu);
	for (unsigned int i = 0; i < ra->n_prefixes; i++)
		put_prefix(&out, &ra->prefixes[i]);
	put_if_fits(&out, &ra->given, put_rdnss);
	put_if_fits(&out, &ra->withdrawn, put_rdnss);
	put_if_fits(&out, &ra->given, put_dnssl);
	put_if_fits(&out, &ra->withdrawn, put_dnssl);
	return out_ok(&out) ? out_len(&out) : 0;
}
