/* SPDX-License-Identifier: Apache-2.0 */
/* links: tap */
#include "services_lib.h"

#include "ndp_codec.h"

static struct decode_case {
	const char *name;
	uint8_t bytes[48];
	size_t len;
	bool ok;
	bool source_link;
} cases[] = {
	{ "a router solicitation alone is read", { NDP_RS }, 8, true, false },
	{ "a source link-layer address is seen", { NDP_RS, [8] = 1, 1 }, 16, true, true },
	{ "a neighbour solicitation is read", { NDP_NS }, 24, true, false },
	{ "an unknown option is passed over", { NDP_NS, [24] = 200, 2 }, 40, true, false },
	{ "an option of length 0 is refused", { NDP_RS, [8] = 1, 0 }, 16, false, true },
	{ "an option that overruns is refused", { NDP_RS, [8] = 1, 2 }, 16, false, true },
	{ "half an option is refused", { NDP_RS, [8] = 1 }, 9, false, true },
	{ "a short router solicitation is refused", { NDP_RS }, 7, false, false },
	{ "a short router advertisement is refused", { NDP_RA }, 15, false, false },
	{ "a short neighbour solicitation is refused", { NDP_NS }, 23, false, false },
	{ "a short neighbour advertisement is refused", { NDP_NA }, 23, false, false },
	{ "a short redirect is refused", { NDP_REDIRECT }, 39, false, false },
	{ "a redirect is read", { NDP_REDIRECT }, 40, true, false },
	{ "another message is refused", { 128 }, 24, false, false },
	{ "nothing at all is refused", { 0 }, 0, false, false },
};

static void message_is_read_or_refused(void **state)
{
	const struct decode_case *c = *state;
	uint8_t *exact = test_malloc(c->len + 1);
	struct ndp_query query;

	memcpy(exact, c->bytes, c->len);
	assert_int_equal(ndp_decode(exact, c->len, &query), c->ok);
	if (c->ok)
		assert_int_equal(query.has_source_link, c->source_link);
	test_free(exact);
}

static void an_advertised_neighbour_is_written(void **state)
{
	struct ndp_na na = { NDP_NA_SOLICITED | NDP_NA_ROUTER, ip("fe80::1"), our_mac };
	uint8_t bytes[NDP_NA_LEN];
	struct ndp_query query;

	(void)state;
	assert_int_equal(ndp_encode_na(bytes, sizeof(bytes), &na), NDP_NA_LEN);
	assert_true(ndp_decode(bytes, sizeof(bytes), &query));
	assert_int_equal(bytes[4], 0xc0);
	assert_true(ip_eq(&query.target, &na.target));
	assert_memory_equal(bytes + 24, "\2\1", 2);
	assert_memory_equal(bytes + 26, our_mac.b, ETH_ADDR_LEN);
}

/* The option's bytes in an RA, or NULL. */
static const uint8_t *find(const uint8_t *ra, size_t len, uint8_t type)
{
	for (size_t at = 16; at < len; at += 8U * ra[at + 1])
		if (ra[at] == type)
			return ra + at;
	return NULL;
}

static void a_full_advertisement_is_written(void **state)
{
	struct ip_addr dns[] = { ip("2001:db8::53"), ip("2001:db8::54") };
	struct domain search[] = { { "example.org" } };
	struct ndp_ra ra = { .hop_limit = 64,
			     .managed = true,
			     .other = true,
			     .lifetime_s = 1800,
			     .source_mac = our_mac,
			     .mtu = 1500,
			     .n_prefixes = 1,
			     .given = { 1800, dns, 2, search, 1 } };
	uint8_t bytes[NDP_RA_MAX_LEN];
	struct ndp_query query;
	const uint8_t *option;
	size_t len;

	(void)state;
	ra.prefixes[0] = (struct ndp_prefix){ ip("2001:db8:0:1fff::1"), 60, true, true, 9, 5 };
	len = ndp_encode_ra(bytes, sizeof(bytes), &ra);
	assert_true(ndp_decode(bytes, len, &query));
	assert_true(query.has_source_link);
	assert_int_equal(bytes[4], 64);
	assert_int_equal(bytes[5], 0xc0);
	assert_int_equal(load_be16(bytes + 6), 1800);
	assert_int_equal(load_be32(find(bytes, len, 5) + 4), 1500);
	option = find(bytes, len, 3);
	assert_memory_equal(option, "\3\4\74\300\0\0\0\11\0\0\0\5\0\0\0\0", 16);
	assert_memory_equal(option + 16, "\x20\x01\x0d\xb8\0\0\x1f\xf0\0\0\0\0\0\0\0\0", 16);
	option = find(bytes, len, 25);
	assert_int_equal(option[1], 5);
	assert_memory_equal(option + 24, dns[1].b, 16);
	option = find(bytes, len, 31);
	assert_int_equal(option[1], 3);
	assert_memory_equal(option + 8, "\7example\3org\0\0\0\0", 16);
}

static void an_advertisement_of_nothing_has_its_own_address_alone(void **state)
{
	struct ndp_ra ra = { .source_mac = our_mac };
	uint8_t bytes[NDP_RA_MAX_LEN];

	(void)state;
	assert_int_equal(ndp_encode_ra(bytes, sizeof(bytes), &ra), 24);
}

static void names_that_do_not_fit_are_left_out(void **state)
{
	static struct domain search[MAX_SEARCH];
	struct ip_addr dns[] = { ip("2001:db8::53") };
	struct ndp_ra ra = { .given = { 1, dns, 1, search, MAX_SEARCH },
			     .withdrawn = { 0, dns, 1, search, 1 } };
	uint8_t bytes[NDP_RA_MAX_LEN];
	struct ndp_query query;
	size_t len;

	(void)state;
	for (unsigned int i = 0; i < MAX_SEARCH; i++) {
		memset(search[i].name, 'a', 253);
		for (unsigned int dot = 60; dot < 250; dot += 60)
			search[i].name[dot] = '.';
	}
	len = ndp_encode_ra(bytes, sizeof(bytes), &ra);
	assert_true(ndp_decode(bytes, len, &query));
	assert_non_null(find(bytes, len, 25));
	assert_int_equal(load_be32(find(bytes, len, 31) + 4), 0); /* the short list did fit */
}

#define N_CASES (sizeof(cases) / sizeof(cases[0]))

int main(void)
{
	const struct CMUnitTest fixed[] = {
		cmocka_unit_test(an_advertised_neighbour_is_written),
		cmocka_unit_test(a_full_advertisement_is_written),
		cmocka_unit_test(an_advertisement_of_nothing_has_its_own_address_alone),
		cmocka_unit_test(names_that_do_not_fit_are_left_out),
	};
	struct CMUnitTest rows[N_CASES];

	for (size_t i = 0; i < N_CASES; i++)
		rows[i] = (struct CMUnitTest){ .name = cases[i].name,
					       .test_func = message_is_read_or_refused,
					       .initial_state = &cases[i] };
	return cmocka_run_group_tests(fixed, NULL, NULL) + cmocka_run_group_tests(rows, NULL, NULL);
}
