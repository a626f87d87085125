/* SPDX-License-Identifier: Apache-2.0 */
#include "dhcp6_codec.h"

#include "dns_name.h"
#include "taploom/bytes.h"

enum option_code {
	OPT_CLIENT_ID = 1,
	OPT_SERVER_ID = 2,
	OPT_IA_NA = 3,
	OPT_IA_TA = 4,
	OPT_IAADDR = 5,
	OPT_WANTED = 6,
	OPT_PREFERENCE = 7,
	OPT_STATUS = 13,
	OPT_RAPID_COMMIT = 14,
	OPT_IA_PD = 25,
};

#define OPTION_HEADER_LEN  4
#define IAADDR_MIN_LEN	   24
#define IA_TIMES_LEN	   8 /* T1 and T2, of IA_NA and IA_PD */
#define PREFERENCE_HIGHEST 255

/* Reading */

struct option {
	uint16_t code;
	struct dhcp6_bytes value;
};

static struct option in_option(struct bytes_in *in)
{
	struct option option = { .code = in_u16(in) };

	option.value.len = in_u16(in);
	option.value.b = in_take(in, option.value.len);
	return option;
}

static bool take_client_id(struct dhcp6_query *query, const struct option *option)
{
	if (!query->client_id.len)
		query->client_id = option->value;
	return true;
}

static bool take_server_id(struct dhcp6_query *query, const struct option *option)
{
	if (!query->server_id.len)
		query->server_id = option->value;
	return true;
}

static bool take_wanted(struct dhcp6_query *query, const struct option *option)
{
	if (!query->wanted.len && option->value.len % 2 == 0)
		query->wanted = option->value;
	return true;
}

static bool take_rapid_commit(struct dhcp6_query *query, const struct option *option)
{
	(void)option;
	query->rapid_commit = true;
	return true;
}

static bool take_fqdn(struct dhcp6_query *query, const struct option *option)
{
	query->has_fqdn = true;
	query->fqdn_flags = option->value.b[0];
	return true;
}

static void take_addr(struct dhcp6_query_ia *ia, const struct option *option)
{
	if (option->code == OPT_IAADDR && option->value.len >= IAADDR_MIN_LEN &&
	    ia->n_addrs < DHCP6_MAX_ADDRS)
		ia->addrs[ia->n_addrs++] = ip6_addr_of(option->value.b);
}

static bool take_ia(struct dhcp6_query *query, const struct option *option)
{
	struct bytes_in in = in_of(option->value.b, option->value.len);
	struct dhcp6_query_ia *ia = &query->ias[query->n_ias];

	if (query->n_ias == DHCP6_MAX_IAS)
		return true;
	query->n_ias++;
	*ia = (struct dhcp6_query_ia){ .kind = option->code, .iaid = in_u32(&in) };
	if (option->code != OPT_IA_TA)
		in_skip(&in, IA_TIMES_LEN);
	while (in_left(&in) > 0) {
		struct option inner = in_option(&in);

		if (inner.value.b && option->code != OPT_IA_PD)
			take_addr(ia, &inner);
	}
	return in_ok(&in);
}

static const struct query_option {
	uint16_t code;
	uint16_t min_len;
	uint16_t max_len;
	/* False if what is inside the option overruns it. */
	bool (*take)(struct dhcp6_query *query, const struct option *option);
} query_options[] = {
	{ OPT_CLIENT_ID, 3, DHCP6_DUID_MAX, take_client_id },
	{ OPT_SERVER_ID, 3, DHCP6_DUID_MAX, take_server_id },
	{ OPT_IA_NA, 12, UINT16_MAX, take_ia },
	{ OPT_IA_TA, 4, UINT16_MAX, take_ia },
	{ OPT_IA_PD, 12, UINT16_MAX, take_ia },
	{ OPT_WANTED, 2, UINT16_MAX, take_wanted },
	{ OPT_RAPID_COMMIT, 0, 0, take_rapid_commit },
	{ DHCP6_OPT_FQDN, 1, UINT16_MAX, take_fqdn },
};

#define N_QUERY_OPTIONS (sizeof(query_options) / sizeof(query_options[0]))

static bool take_option(struct dhcp6_query *query, const struct option *option)
{
	query->has_server_id |= option->code == OPT_SERVER_ID;
	for (size_t i = 0; i < N_QUERY_OPTIONS; i++) {
		const struct query_option *rule = &query_options[i];

		if (rule->code == option->code && option->value.len >= rule->min_len &&
		    option->value.len <= rule->max_len)
			return rule->take(query, option);
	}
	return true;
}

bool dhcp6_decode(const uint8_t *bytes, size_t len, struct dhcp6_query *query)
{
	struct bytes_in in = in_of(bytes, len);
	uint32_t type_and_xid = in_u32(&in);

	*query = (struct dhcp6_query){ .type = (uint8_t)(type_and_xid >> 24),
				       .xid = type_and_xid & 0xffffff };
	while (in_left(&in) > 0) {
		struct option option = in_option(&in);

		if (option.value.b && !take_option(query, &option))
			return false;
	}
	return in_ok(&in);
}

bool dhcp6_wants(const struct dhcp6_query *query, uint16_t code)
{
	for (unsigned int i = 0; i + 1 < query->wanted.len; i += 2)
		if (load_be16(query->wanted.b + i) == code)
			return true;
	return false;
}

/* Writing */

static void put_option(struct bytes_out *out, uint16_t code, const struct dhcp6_bytes *value)
{
	out_u16(out, code);
	out_u16(out, value->len);
	out_copy(out, value->b, value->len);
}

/* Begins an option whose length is known at its end. Returns its header's place, NULL after an
 * overrun. */
static uint8_t *begin_option(struct bytes_out *out, uint16_t code)
{
	uint8_t *header = out_take(out, OPTION_HEADER_LEN);

	if (header)
		store_be16(header, code);
	return header;
}

static void end_option(struct bytes_out *out, uint8_t *header)
{
	if (header && out_ok(out))
		store_be16(header + 2, (uint16_t)(out->at - header - OPTION_HEADER_LEN));
}

static void put_status(struct bytes_out *out, uint16_t status)
{
	if (status == DHCP6_NO_STATUS)
		return;
	out_u16(out, OPT_STATUS);
	out_u16(out, 2);
	out_u16(out, status);
}

static void put_lease(struct bytes_out *out, const struct dhcp6_lease *lease)
{
	out_u16(out, OPT_IAADDR);
	out_u16(out, IAADDR_MIN_LEN);
	out_copy(out, lease->addr.b, 16);
	out_u32(out, lease->preferred_s);
	out_u32(out, lease->valid_s);
}

static void put_ia(struct bytes_out *out, const struct dhcp6_reply_ia *ia)
{
	uint8_t *header = begin_option(out, ia->kind);

	out_u32(out, ia->iaid);
	if (ia->kind != DHCP6_IA_TA) {
		out_u32(out, ia->t1_s);
		out_u32(out, ia->t2_s);
	}
	for (unsigned int i = 0; i < ia->n_leases; i++)
		put_lease(out, &ia->leases[i]);
	put_status(out, ia->status);
	end_option(out, header);
}

/* RFC 3646 3 */
static void put_dns(struct bytes_out *out, const struct dhcp6_reply *reply)
{
	uint8_t *header;

	if (!reply->n_dns)
		return;
	header = begin_option(out, DHCP6_OPT_DNS);
	for (unsigned int i = 0; i < reply->n_dns; i++)
		out_copy(out, reply->dns[i].b, 16);
	end_option(out, header);
}

/* RFC 3646 4, RFC 8415 10: names are not compressed. */
static void put_search(struct bytes_out *out, const struct dhcp6_reply *reply)
{
	uint8_t bytes[MAX_SEARCH * MAX_DOMAIN];
	struct bytes_out list = out_of(bytes, sizeof(bytes));
	struct dhcp6_bytes value = { bytes, 0 };

	for (unsigned int i = 0; i < reply->n_search; i++)
		dns_name_put(&list, reply->search[i].name);
	value.len = (uint16_t)out_len(&list);
	if (value.len)
		put_option(out, DHCP6_OPT_SEARCH, &value);
}

static void put_fqdn(struct bytes_out *out, const struct dhcp6_reply *reply)
{
	uint8_t *header;

	if (!reply->fqdn)
		return;
	header = begin_option(out, DHCP6_OPT_FQDN);
	out_u8(out, reply->fqdn_flags);
	dns_name_put_partial(out, reply->fqdn);
	end_option(out, header);
}

static void (*const optional[])(struct bytes_out *out, const struct dhcp6_reply *reply) = {
	put_dns,
	put_fqdn,
	put_search,
};

static void put_mandatory(struct bytes_out *out, const struct dhcp6_reply *reply)
{
	out_u32(out, (uint32_t)reply->type << 24 | (reply->xid & 0xffffff));
	if (reply->client_id.len)
		put_option(out, OPT_CLIENT_ID, &reply->client_id);
	put_option(out, OPT_SERVER_ID, &reply->server_id);
	if (reply->preference) {
		out_u16(out, OPT_PREFERENCE);
		out_u16(out, 1);
		out_u8(out, PREFERENCE_HIGHEST);
	}
	if (reply->rapid_commit)
		put_option(out, OPT_RAPID_COMMIT, &(struct dhcp6_bytes){ NULL, 0 });
	for (unsigned int i = 0; i < reply->n_ias; i++)
		put_ia(out, &reply->ias[i]);
	put_status(out, reply->status);
}

size_t dhcp6_encode(uint8_t *bytes, size_t size, const struct dhcp6_reply *reply)
{
	struct bytes_out out = out_of(bytes, size);

	put_mandatory(&out, reply);
	if (!out_ok(&out))
		return 0;
	for (size_t i = 0; i < sizeof(optional) / sizeof(optional[0]); i++) {
		struct bytes_out before = out;

		optional[i](&out, reply);
		if (!out_ok(&out))
			out = before;
	}
	return out_len(&out);
}
