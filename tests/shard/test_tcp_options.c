/* SPDX-License-Identifier: Apache-2.0 */
/*
 * TCP options on the wire: well-formed and lying ones, and headers that are written and read back.
 */
#include "tcp_options.h"

#include "taploom/bytes.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static struct option_case {
	const char *name;
	uint8_t bytes[40];
	size_t len;
	bool ok;
	struct tcp_options want;
} cases[] = {
	{ "no options are fine", { 0 }, 0, true, { 0 } },
	{ "an MSS alone is read", { 2, 4, 0x05, 0xb4 }, 4, true, { .has_mss = true, .mss = 1460 } },
	{ "a window scale is read", { 3, 3, 7 }, 3, true, { .has_wscale = true, .wscale = 7 } },
	{ "a window scale above 14 is 14",
	  { 3, 3, 200 },
	  3,
	  true,
	  { .has_wscale = true, .wscale = 14 } },
	{ "SACK-permitted is read", { 4, 2 }, 2, true, { .sack_permitted = true } },
	{ "timestamps are read",
	  { 8, 10, 0, 0, 0, 1, 0, 0, 0, 2 },
	  10,
	  true,
	  { .has_ts = true, .ts_val = 1, .ts_ecr = 2 } },
	{ "NOPs are passed over", { 1, 1, 1, 4, 2 }, 5, true, { .sack_permitted = true } },
	{ "what follows the end is not read", { 0, 2, 4, 5, 6 }, 5, true, { 0 } },
	{ "an unknown option is passed over",
	  { 99, 4, 1, 2, 4, 2 },
	  6,
	  true,
	  { .sack_permitted = true } },
	{ "one SACK block is read",
	  { 5, 10, 0, 0, 0, 1, 0, 0, 0, 9 },
	  10,
	  true,
	  { .n_sack = 1, .sack = { { 1, 9 } } } },
	{ "a SACK option without a block means nothing", { 5, 2 }, 2, true, { 0 } },
	{ "a SACK option with half a block means nothing", { 5, 6, 0, 0, 0, 1 }, 6, true, { 0 } },
	{ "an MSS of the wrong length means nothing",
	  { 2, 3, 5, 4, 2 },
	  5,
	  true,
	  { .sack_permitted = true } },
	{ "a length of 0 is refused", { 3, 0 }, 2, false, { 0 } },
	{ "a length of 1 is refused", { 3, 1, 0 }, 3, false, { 0 } },
	{ "a length beyond the end is refused", { 2, 4, 5 }, 3, false, { 0 } },
	{ "a kind without a length is refused", { 2 }, 1, false, { 0 } },
	{ "what comes before a lie is kept", { 4, 2, 3, 0 }, 4, false, { .sack_permitted = true } },
};

static void options_are_read(void **state)
{
	const struct option_case *c = *state;
	struct tcp_options got;

	assert_int_equal(tcp_options_decode(c->bytes, c->len, &got), c->ok);
	assert_int_equal(got.has_mss, c->want.has_mss);
	assert_int_equal(got.mss, c->want.mss);
	assert_int_equal(got.has_wscale, c->want.has_wscale);
	assert_int_equal(got.wscale, c->want.wscale);
	assert_int_equal(got.sack_permitted, c->want.sack_permitted);
	assert_int_equal(got.has_ts, c->want.has_ts);
	assert_int_equal(got.ts_val, c->want.ts_val);
	assert_int_equal(got.ts_ecr, c->want.ts_ecr);
	assert_int_equal(got.n_sack, c->want.n_sack);
	for (unsigned int i = 0; i < got.n_sack; i++) {
		assert_int_equal(got.sack[i].start, c->want.sack[i].start);
		assert_int_equal(got.sack[i].end, c->want.sack[i].end);
	}
}

static struct header_case {
	const char *name;
	struct tcp_options options;
	size_t len;
} headers[] = {
	{ "a header without options has 20 bytes", { 0 }, 20 },
	{ "a SYN with all options comes back",
	  { .has_mss = true,
	    .mss = 1460,
	    .has_wscale = true,
	    .wscale = 8,
	    .sack_permitted = true,
	    .has_ts = true,
	    .ts_val = 77,
	    .ts_ecr = 88 },
	  40 },
	{ "SACK-permitted without timestamps comes back", { .sack_permitted = true }, 24 },
	{ "four SACK blocks come back",
	  { .n_sack = 4, .sack = { { 1, 2 }, { 3, 4 }, { 5, 6 }, { 7, 8 } } },
	  56 },
	{ "three SACK blocks beside timestamps come back",
	  { .has_ts = true, .ts_val = 1, .n_sack = 3, .sack = { { 1, 2 }, { 3, 4 }, { 5, 6 } } },
	  60 },
};

static void header_comes_back(void **state)
{
	const struct header_case *c = *state;
	struct tcp_header h = { .src_port = 80,
				.dst_port = 40000,
				.seq = 0xfffffff0,
				.ack = 5,
				.flags = TCP_ACK | TCP_URG,
				.window = 1234,
				.urgent = 9,
				.options = c->options };
	struct tcp_header got;
	uint8_t bytes[60];

	assert_int_equal(tcp_header_len(&h.options), c->len);
	assert_int_equal(tcp_header_encode(bytes, &h), c->len);
	assert_int_equal(bytes[12] >> 4, c->len / 4);
	tcp_header_decode(bytes, c->len, &got);
	assert_int_equal(got.seq, h.seq);
	assert_int_equal(got.ack, h.ack);
	assert_int_equal(got.flags, h.flags);
	assert_int_equal(got.window, h.window);
	assert_int_equal(got.urgent, h.urgent);
	assert_int_equal(got.options.mss, h.options.mss);
	assert_int_equal(got.options.wscale, h.options.wscale);
	assert_int_equal(got.options.sack_permitted, h.options.sack_permitted);
	assert_int_equal(got.options.ts_val, h.options.ts_val);
	assert_int_equal(got.options.n_sack, h.options.n_sack);
	assert_memory_equal(got.options.sack, h.options.sack,
			    h.options.n_sack * sizeof(struct sack_block));
}

#define N_CASES	  (sizeof(cases) / sizeof(cases[0]))
#define N_HEADERS (sizeof(headers) / sizeof(headers[0]))

int main(void)
{
	struct CMUnitTest tests[N_CASES + N_HEADERS];

	for (size_t i = 0; i < N_CASES; i++)
		tests[i] = (struct CMUnitTest){ cases[i].name, options_are_read, NULL, NULL,
						&cases[i] };
	for (size_t i = 0; i < N_HEADERS; i++)
		tests[N_CASES + i] = (struct CMUnitTest){ headers[i].name, header_comes_back, NULL,
							  NULL, &headers[i] };
	return cmocka_run_group_tests(tests, NULL, NULL);
}
