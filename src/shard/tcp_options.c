/* SPDX-License-Identifier: Apache-2.0 */
#include "tcp_options.h"

#include "taploom/bytes.h"

enum {
	OPT_END = 0,
	OPT_NOP = 1,
	OPT_MSS = 2,
	OPT_WSCALE = 3,
	OPT_SACK_OK = 4,
	OPT_SACK = 5,
	OPT_TS = 8
};

#define WSCALE_MAX 14 /* RFC 7323 2.3 */

static void take_mss(struct bytes_in *in, struct tcp_options *o)
{
	o->mss = in_u16(in);
	o->has_mss = true;
}

static void take_wscale(struct bytes_in *in, struct tcp_options *o)
{
	uint8_t shift = in_u8(in);

	o->wscale = shift > WSCALE_MAX ? WSCALE_MAX : shift;
	o->has_wscale = true;
}

static void take_sack_ok(struct bytes_in *in, struct tcp_options *o)
{
	(void)in;
	o->sack_permitted = true;
}

static void take_sack(struct bytes_in *in, struct tcp_options *o)
{
	o->n_sack = 0;
	while (in_left(in) >= 8 && o->n_sack < TCP_SACK_BLOCKS) {
		struct sack_block *b = &o->sack[o->n_sack++];

		b->start = in_u32(in);
		b->end = in_u32(in);
	}
}

static void take_ts(struct bytes_in *in, struct tcp_options *o)
{
	o->ts_val = in_u32(in);
	o->ts_ecr = in_u32(in);
	o->has_ts = true;
}

static const struct option_rule {
	uint8_t len; /* of the whole option, in bytes; 0: any that is 2 and a multiple of 8 */
	void (*take)(struct bytes_in *in, struct tcp_options *o);
} rules[] = {
	[OPT_MSS] = { 4, take_mss },	     /* RFC 9293 3.7.1 */
	[OPT_WSCALE] = { 3, take_wscale },   /* RFC 7323 2.2 */
	[OPT_SACK_OK] = { 2, take_sack_ok }, /* RFC 2018 2 */
	[OPT_SACK] = { 0, take_sack },	     /* RFC 2018 3 */
	[OPT_TS] = { 10, take_ts },	     /* RFC 7323 3.2 */
};

/* One option whose kind has been read; a length that lies latches the overrun. */
static void take_option(struct bytes_in *in, uint8_t kind, struct tcp_options *o)
{
	uint8_t len = in_u8(in);
	struct bytes_in body;

	if (len < 2) {
		in_skip(in, SIZE_MAX);
		return;
	}
	body = in_sub(in, len - 2u);
	if (!in_ok(&body) || kind >= sizeof(rules) / sizeof(rules[0]) || !rules[kind].take)
		return;
	if (rules[kind].len ? len == rules[kind].len : len > 2 && (len - 2) % 8 == 0)
		rules[kind].take(&body, o);
}

bool tcp_options_decode(const uint8_t *bytes, size_t len, struct tcp_options *o)
{
	struct bytes_in in = in_of(bytes, len);

	*o = (struct tcp_options){ 0 };
	while (in_left(&in) > 0) {
		uint8_t kind = in_u8(&in);

		if (kind == OPT_END)
			break;
		if (kind != OPT_NOP)
			take_option(&in, kind, o);
	}
	return in_ok(&in);
}

void tcp_header_decode(const uint8_t *bytes, size_t hdr_len, struct tcp_header *h)
{
	h->src_port = load_be16(bytes);
	h->dst_port = load_be16(bytes + 2);
	h->seq = load_be32(bytes + 4);
	h->ack = load_be32(bytes + 8);
	h->flags = bytes[13];
	h->window = load_be16(bytes + 14);
	h->urgent = load_be16(bytes + 18);
	tcp_options_decode(bytes + TCP_HEADER_LEN, hdr_len - TCP_HEADER_LEN, &h->options);
}

size_t tcp_header_len(const struct tcp_options *o)
{
	size_t len = TCP_HEADER_LEN;

	/* Each option is padded to four bytes by itself, in the order of tcp_header_encode(). */
	len += o->has_mss ? 4 : 0;
	len += o->has_wscale ? 4 : 0;
	len += o->sack_permitted && !o->has_ts ? 4 : 0;
	len += o->has_ts ? 12 : 0;
	len += o->n_sack ? 4 + 8u * o->n_sack : 0;
	return len;
}

static void put_ts(struct bytes_out *out, const struct tcp_options *o)
{
	/* SACK-permitted fills the place of the two NOPs, as common stacks have it. */
	out_u8(out, o->sack_permitted ? OPT_SACK_OK : OPT_NOP);
	out_u8(out, o->sack_permitted ? 2 : OPT_NOP);
	out_u8(out, OPT_TS);
	out_u8(out, 10);
	out_u32(out, o->ts_val);
	out_u32(out, o->ts_ecr);
}

static void put_sack(struct bytes_out *out, const struct tcp_options *o)
{
	out_u16(out, OPT_NOP << 8 | OPT_NOP);
	out_u8(out, OPT_SACK);
	out_u8(out, (uint8_t)(2 + 8 * o->n_sack));
	for (unsigned int i = 0; i < o->n_sack; i++) {
		out_u32(out, o->sack[i].start);
		out_u32(out, o->sack[i].end);
	}
}

static void put_options(struct bytes_out *out, const struct tcp_options *o)
{
	if (o->has_mss) {
		out_u16(out, OPT_MSS << 8 | 4);
		out_u16(out, o->mss);
	}
	if (o->has_ts)
		put_ts(out, o);
	else if (o->sack_permitted)
		out_u32(out, OPT_NOP << 24 | OPT_NOP << 16 | OPT_SACK_OK << 8 | 2);
	if (o->has_wscale)
		out_u32(out, (uint32_t)(OPT_NOP << 24 | OPT_WSCALE << 16 | 3 << 8 | o->wscale));
	if (o->n_sack)
		put_sack(out, o);
}

size_t tcp_header_encode(uint8_t *bytes, const struct tcp_header *h)
{
	size_t len = tcp_header_len(&h->options);
	struct bytes_out out = out_of(bytes, len);

	out_u16(&out, h->src_port);
	out_u16(&out, h->dst_port);
	out_u32(&out, h->seq);
	out_u32(&out, h->ack);
	out_u8(&out, (uint8_t)(len / 4 << 4));
	out_u8(&out, h->flags);
	out_u16(&out, h->window);
	out_u16(&out, 0);
	out_u16(&out, h->urgent);
	put_options(&out, &h->options);
	return len;
}
