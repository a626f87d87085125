/* SPDX-License-Identifier: Apache-2.0 */
#include "dhcp_codec.h"

#include "dns_name.h"

#define MAGIC_COOKIE 0x63825363
#define SNAME_LEN    64
#define FILE_LEN     128

enum option_code {
	OPT_PAD = 0,
	OPT_MASK = 1,
	OPT_ROUTER = 3,
	OPT_DNS = 6,
	OPT_HOSTNAME = 12,
	OPT_DOMAIN = 15,
	OPT_MTU = 26,
	OPT_REQUESTED = 50,
	OPT_LEASE = 51,
	OPT_OVERLOAD = 52,
	OPT_TYPE = 53,
	OPT_SERVER_ID = 54,
	OPT_PARAMS = 55,
	OPT_MAX_SIZE = 57,
	OPT_T1 = 58,
	OPT_T2 = 59,
	OPT_CLIENT_ID = 61,
	OPT_RAPID_COMMIT = 80,
	OPT_FQDN = 81,
	OPT_SEARCH = 119,
	OPT_ROUTES = 121,
	OPT_END = 255,
};

/* Reading: options are first gathered, as they may come in pieces, and then taken. */

static void take_requested(struct dhcp_query *query, const struct dhcp_bytes *value)
{
	query->requested = ip4_addr_of(value->b);
}

static void take_lease(struct dhcp_query *query, const struct dhcp_bytes *value)
{
	query->lease_s = load_be32(value->b);
}

static void take_type(struct dhcp_query *query, const struct dhcp_bytes *value)
{
	query->type = value->b[0];
}

static void take_server_id(struct dhcp_query *query, const struct dhcp_bytes *value)
{
	query->server_id = ip4_addr_of(value->b);
}

static void take_params(struct dhcp_query *query, const struct dhcp_bytes *value)
{
	query->params = *value;
}

static void take_max_size(struct dhcp_query *query, const struct dhcp_bytes *value)
{
	query->max_len = load_be16(value->b);
}

static void take_client_id(struct dhcp_query *query, const struct dhcp_bytes *value)
{
	query->client_id = *value;
}

static void take_fqdn(struct dhcp_query *query, const struct dhcp_bytes *value)
{
	query->has_fqdn = true;
	query->fqdn_flags = value->b[0];
}

static void take_rapid_commit(struct dhcp_query *query, const struct dhcp_bytes *value)
{
	(void)value;
	query->rapid_commit = true;
}

/* It was acted on while the options were gathered. */
static void take_overload(struct dhcp_query *query, const struct dhcp_bytes *value)
{
	(void)query;
	(void)value;
}

enum slot { SLOT_TYPE, SLOT_OVERLOAD, SLOT_OTHERS, SLOTS = SLOT_OTHERS + 8 };

static const struct query_option {
	uint8_t code;
	uint8_t min_len;
	uint8_t max_len;
	void (*take)(struct dhcp_query *query, const struct dhcp_bytes *value);
} query_options[SLOTS] = {
	[SLOT_TYPE] = { OPT_TYPE, 1, 1, take_type },
	[SLOT_OVERLOAD] = { OPT_OVERLOAD, 1, 1, take_overload },
	[SLOT_OTHERS] = { OPT_REQUESTED, 4, 4, take_requested },
	{ OPT_LEASE, 4, 4, take_lease },
	{ OPT_SERVER_ID, 4, 4, take_server_id },
	{ OPT_PARAMS, 1, 255, take_params },
	{ OPT_MAX_SIZE, 2, 2, take_max_size },
	{ OPT_CLIENT_ID, 2, 255, take_client_id },
	{ OPT_FQDN, 3, 255, take_fqdn },
	{ OPT_RAPID_COMMIT, 0, 0, take_rapid_commit },
};

struct gathered {
	struct dhcp_bytes value[SLOTS];
	bool present[SLOTS];
	bool too_long[SLOTS];
};

/* Appends a piece (RFC 3396 5). */
static void gather(struct gathered *all, uint8_t code, const uint8_t *piece, uint8_t len)
{
	for (unsigned int i = 0; i < SLOTS; i++) {
		struct dhcp_bytes *value = &all->value[i];

		if (query_options[i].code != code)
			continue;
		all->present[i] = true;
		if (len > sizeof(value->b) - value->len) {
			all->too_long[i] = true;
			return;
		}
		memcpy(value->b + value->len, piece, len);
		value->len = (uint8_t)(value->len + len);
		return;
	}
}

static void gather_field(struct gathered *all, const uint8_t *bytes, size_t len)
{
	struct bytes_in in = in_of(bytes, len);

	while (in_left(&in) > 0) {
		uint8_t code = in_u8(&in);
		uint8_t piece_len;
		const uint8_t *piece;

		if (code == OPT_END)
			return;
		if (code == OPT_PAD)
			continue;
		piece_len = in_u8(&in);
		piece = in_take(&in, piece_len);
		if (piece)
			gather(all, code, piece, piece_len);
	}
}

static bool usable(const struct gathered *all, unsigned int slot)
{
	const struct query_option *option = &query_options[slot];
	uint8_t len = all->value[slot].len;

	return all->present[slot] && !all->too_long[slot] && len >= option->min_len &&
	       len <= option->max_len;
}

static struct ip_addr in_ip4(struct bytes_in *in)
{
	uint8_t wire[4];

	in_copy(in, wire, sizeof(wire));
	return ip4_addr_of(wire);
}

static void decode_header(struct bytes_in *in, struct dhcp_header *header)
{
	header->op = in_u8(in);
	header->htype = in_u8(in);
	header->hlen = in_u8(in);
	in_skip(in, 1); /* hops */
	header->xid = in_u32(in);
	in_skip(in, 2); /* secs */
	header->flags = in_u16(in);
	header->ciaddr = in_ip4(in);
	header->yiaddr = in_ip4(in);
	header->siaddr = in_ip4(in);
	header->giaddr = in_ip4(in);
	in_copy(in, header->chaddr, sizeof(header->chaddr));
}

bool dhcp_decode(const uint8_t *bytes, size_t len, struct dhcp_query *query)
{
	struct bytes_in in = in_of(bytes, len);
	struct gathered all = { 0 };
	const uint8_t *sname;
	const uint8_t *file;
	uint32_t cookie;

	*query = (struct dhcp_query){ 0 };
	decode_header(&in, &query->header);
	sname = in_take(&in, SNAME_LEN);
	file = in_take(&in, FILE_LEN);
	if (!in_ok(&in))
		return false;
	cookie = in_left(&in) >= 4 ? in_u32(&in) : 0;
	query->has_options = cookie == MAGIC_COOKIE;
	if (!query->has_options)
		return cookie == 0; /* a vendor's own area (RFC 951) is not for us */
	gather_field(&all, in.at, in_left(&in));
	if (usable(&all, SLOT_OVERLOAD)) {
		uint8_t fields = all.value[SLOT_OVERLOAD].b[0];

		if (fields & 1)
			gather_field(&all, file, FILE_LEN);
		if (fields & 2)
			gather_field(&all, sname, SNAME_LEN);
	}
	for (unsigned int i = 0; i < SLOTS; i++)
		if (usable(&all, i))
			query_options[i].take(query, &all.value[i]);
	/* RFC 2132 9.6 has no type 0, which is BOOTP's among ours. */
	return !all.present[SLOT_TYPE] || (usable(&all, SLOT_TYPE) && query->type != DHCP_BOOTP);
}

/* Writing: each option puts its value, or nothing if the reply has none. */

static void put_u32(struct bytes_out *out, uint32_t v)
{
	if (v)
		out_u32(out, v);
}

static void put_ip4(struct bytes_out *out, const struct ip_addr *addr)
{
	if (!ip_is_unset(addr))
		out_copy(out, addr->b + 12, 4);
}

static void put_text(struct bytes_out *out, const char *text)
{
	if (text)
		out_copy(out, text, strlen(text));
}

static void put_type(struct bytes_out *out, const struct dhcp_reply *reply)
{
	out_u8(out, reply->type);
}

static void put_server_id(struct bytes_out *out, const struct dhcp_reply *reply)
{
	put_ip4(out, &reply->server_id);
}

static void put_lease(struct bytes_out *out, const struct dhcp_reply *reply)
{
	put_u32(out, reply->lease_s);
}

static void put_t1(struct bytes_out *out, const struct dhcp_reply *reply)
{
	put_u32(out, reply->t1_s);
}

static void put_t2(struct bytes_out *out, const struct dhcp_reply *reply)
{
	put_u32(out, reply->t2_s);
}

static void put_client_id(struct bytes_out *out, const struct dhcp_reply *reply)
{
	if (reply->client_id)
		out_copy(out, reply->client_id->b, reply->client_id->len);
}

static void put_mask(struct bytes_out *out, const struct dhcp_reply *reply)
{
	put_ip4(out, &reply->mask);
}

static void put_router(struct bytes_out *out, const struct dhcp_reply *reply)
{
	put_ip4(out, &reply->router);
}

static void put_dns(struct bytes_out *out, const struct dhcp_reply *reply)
{
	for (unsigned int i = 0; i < reply->n_dns; i++)
		put_ip4(out, &reply->dns[i]);
}

static void put_hostname(struct bytes_out *out, const struct dhcp_reply *reply)
{
	put_text(out, reply->hostname);
}

static void put_domain(struct bytes_out *out, const struct dhcp_reply *reply)
{
	put_text(out, reply->domain);
}

static void put_mtu(struct bytes_out *out, const struct dhcp_reply *reply)
{
	if (reply->mtu)
		out_u16(out, reply->mtu);
}

/* RFC 4702 2: flags, two RCODEs that a server sets to 255, the name in the client's encoding. */
static void put_fqdn(struct bytes_out *out, const struct dhcp_reply *reply)
{
	if (!reply->fqdn)
		return;
	out_u8(out, reply->fqdn_flags);
	out_u8(out, 255);
	out_u8(out, 255);
	if (reply->fqdn_flags & DHCP_FQDN_E)
		dns_name_put(out, reply->fqdn);
	else
		put_text(out, reply->fqdn);
}

static void put_search(struct bytes_out *out, const struct dhcp_reply *reply)
{
	dns_names_put_compressed(out, reply->search, reply->n_search);
}

/* RFC 3442: pairs of a prefix, cut to its length, and its router; router 0.0.0.0 is the link
 * itself. */
static void put_routes(struct bytes_out *out, const struct dhcp_reply *reply)
{
	if (ip_is_unset(&reply->router))
		return;
	if (reply->router_off_link) {
		out_u8(out, 32);
		put_ip4(out, &reply->router);
		out_zero(out, 4);
	}
	out_u8(out, 0);
	put_ip4(out, &reply->router);
}

enum option_use {
	IN_DHCP = 1 << 0,    /* always in an OFFER or an ACK */
	IN_NAK = 1 << 1,     /* always in a NAK: RFC 2131 table 3, RFC 6842 */
	IN_BOOTP = 1 << 2,   /* in a BOOTP reply with a vendor area */
	IF_ASKED = 1 << 3,   /* in an OFFER or an ACK if the client's list has it */
	IF_NO_LIST = 1 << 4, /* and if there is no list: what every client understands */
	/* In any case if the router is off the link, as no client gets there without: some take
	   these routes, but don't think of asking for them. */
	IF_OFF_LINK = 1 << 5,
};

static const struct reply_option {
	uint8_t code;
	uint8_t use;
	void (*put)(struct bytes_out *out, const struct dhcp_reply *reply);
} reply_options[] = {
	{ OPT_TYPE, IN_DHCP | IN_NAK, put_type },
	{ OPT_SERVER_ID, IN_DHCP | IN_NAK, put_server_id },
	{ OPT_LEASE, IN_DHCP, put_lease },
	{ OPT_T1, IN_DHCP, put_t1 },
	{ OPT_T2, IN_DHCP, put_t2 },
	{ OPT_MASK, IN_DHCP | IN_BOOTP, put_mask },
	{ OPT_CLIENT_ID, IN_DHCP | IN_NAK, put_client_id },
	{ OPT_FQDN, IN_DHCP, put_fqdn },
	{ OPT_ROUTER, IF_ASKED | IF_NO_LIST | IN_BOOTP, put_router },
	{ OPT_DNS, IF_ASKED | IF_NO_LIST | IN_BOOTP, put_dns },
	{ OPT_MTU, IF_ASKED | IF_NO_LIST | IN_BOOTP, put_mtu },
	{ OPT_ROUTES, IF_ASKED | IF_OFF_LINK, put_routes },
	{ OPT_HOSTNAME, IF_ASKED | IF_NO_LIST | IN_BOOTP, put_hostname },
	{ OPT_DOMAIN, IF_ASKED | IF_NO_LIST | IN_BOOTP, put_domain },
	{ OPT_SEARCH, IF_ASKED, put_search },
};

#define N_REPLY_OPTIONS (sizeof(reply_options) / sizeof(reply_options[0]))
#define PIECE_MAX	255

/* What a value of len bytes takes: over 255 bytes it goes out in pieces (RFC 3396 7), each with its
 * code and length. */
static size_t in_pieces(size_t len)
{
	return len + 2 * ((len + PIECE_MAX - 1) / PIECE_MAX);
}

/* One byte is left for the end option. */
static size_t room_in(const struct bytes_out *out)
{
	return (size_t)(out->end - out->at) - 1;
}

static void put_pieces(struct bytes_out *out, uint8_t code, const uint8_t *value, size_t len)
{
	for (size_t at = 0; at < len; at += PIECE_MAX) {
		size_t piece = len - at < PIECE_MAX ? len - at : PIECE_MAX;

		out_u8(out, code);
		out_u8(out, (uint8_t)piece);
		out_copy(out, value + at, piece);
	}
}

/* All of an option with a value of up to most bytes. False if that does not fit. */
static bool put_up_to(struct bytes_out *out, size_t most, const struct reply_option *option,
		      const struct dhcp_reply *reply)
{
	uint8_t bytes[DHCP_MAX_LEN];
	struct bytes_out value = out_of(bytes, most);

	option->put(&value, reply);
	if (!out_ok(&value) || in_pieces(out_len(&value)) > room_in(out))
		return false;
	put_pieces(out, option->code, bytes, out_len(&value));
	return true;
}

static bool put_option(struct bytes_out *out, const struct reply_option *option,
		       const struct dhcp_reply *reply)
{
	return put_up_to(out, DHCP_MAX_LEN, option, reply);
}

/* Of a list as much as the room that is left takes: some search domains are better than none. */
static void put_part(struct bytes_out *out, const struct reply_option *option,
		     const struct dhcp_reply *reply)
{
	size_t most = room_in(out);

	while (most && in_pieces(most) > room_in(out))
		most--;
	put_up_to(out, most, option, reply);
}

static void put_options_for(struct bytes_out *out, unsigned int use, const struct dhcp_reply *reply)
{
	for (size_t i = 0; i < N_REPLY_OPTIONS; i++)
		if (reply_options[i].use & use)
			put_option(out, &reply_options[i], reply);
}

static bool is_asked(const struct dhcp_reply *reply, uint8_t code)
{
	return reply->params && memchr(reply->params->b, code, reply->params->len);
}

static void put_unasked(struct bytes_out *out, unsigned int use, const struct dhcp_reply *reply)
{
	for (size_t i = 0; i < N_REPLY_OPTIONS; i++)
		if (reply_options[i].use & use && !is_asked(reply, reply_options[i].code))
			put_option(out, &reply_options[i], reply);
}

/* In the client's order, each once (RFC 2132 9.8), but for a search list that must be cut: at the
 * end, so that it takes the place of nothing else. */
static void put_asked(struct bytes_out *out, const struct dhcp_reply *reply)
{
	bool done[N_REPLY_OPTIONS] = { false };
	const struct reply_option *too_long = NULL;

	for (unsigned int p = 0; p < reply->params->len; p++) {
		for (size_t i = 0; i < N_REPLY_OPTIONS; i++) {
			if (reply_options[i].code != reply->params->b[p] || done[i] ||
			    !(reply_options[i].use & IF_ASKED))
				continue;
			done[i] = true;
			if (!put_option(out, &reply_options[i], reply) &&
			    reply_options[i].code == OPT_SEARCH)
				too_long = &reply_options[i];
		}
	}
	if (too_long)
		put_part(out, too_long, reply);
}

/* The one option without a value; one byte of room is left for the end option. */
static void put_rapid_commit(struct bytes_out *out, const struct dhcp_reply *reply)
{
	if (!reply->rapid_commit || out->end - out->at < 3)
		return;
	out_u8(out, OPT_RAPID_COMMIT);
	out_u8(out, 0);
}

static void put_options(struct bytes_out *out, const struct dhcp_reply *reply)
{
	if (reply->type == DHCP_BOOTP) {
		put_options_for(out, IN_BOOTP, reply);
	} else if (reply->type == DHCP_NAK) {
		put_options_for(out, IN_NAK, reply);
	} else {
		put_options_for(out, IN_DHCP, reply);
		put_rapid_commit(out, reply);
		if (reply->router_off_link)
			put_unasked(out, IF_OFF_LINK, reply);
		if (reply->params)
			put_asked(out, reply);
		else
			put_options_for(out, IF_NO_LIST, reply);
	}
	out_u8(out, OPT_END);
}

static void encode_header(struct bytes_out *out, const struct dhcp_header *header)
{
	out_u8(out, header->op);
	out_u8(out, header->htype);
	out_u8(out, header->hlen);
	out_u8(out, 0); /* hops */
	out_u32(out, header->xid);
	out_u16(out, 0); /* secs */
	out_u16(out, header->flags);
	out_copy(out, header->ciaddr.b + 12, 4);
	out_copy(out, header->yiaddr.b + 12, 4);
	out_copy(out, header->siaddr.b + 12, 4);
	out_copy(out, header->giaddr.b + 12, 4);
	out_copy(out, header->chaddr, sizeof(header->chaddr));
	out_zero(out, SNAME_LEN + FILE_LEN);
}

size_t dhcp_encode(uint8_t *bytes, const struct dhcp_reply *reply)
{
	struct bytes_out out = out_of(bytes, reply->max_len);

	encode_header(&out, &reply->header);
	if (reply->has_options) {
		out_u32(&out, MAGIC_COOKIE);
		put_options(&out, reply);
	}
	if (out_len(&out) < DHCP_MIN_LEN)
		out_zero(&out, DHCP_MIN_LEN - out_len(&out));
	return out_len(&out);
}
