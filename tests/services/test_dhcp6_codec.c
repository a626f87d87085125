/* SPDX-License-Identifier: Apache-2.0 */
/* links: tap */
#include "services_lib.h"

#include "dhcp6_codec.h"

/* clang-format off */
static const uint8_t full[] = {
	3, 1, 2, 3,                                     /* Request */
	0, 1, 0, 4, 0, 3, 0, 1,                         /* client identifier */
	0, 2, 0, 3, 0, 4, 9,                            /* server identifier */
	0, 6, 0, 6, 0, 23, 0, 24, 0, 39,                /* option request */
	0, 14, 0, 0,                                    /* rapid commit */
	0, 39, 0, 2, 1, 0,                              /* client FQDN */
	0, 3, 0, 40, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 0, /* IA_NA with an address */
	0, 5, 0, 24, 0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10, 0, 0, 0, 0, 0, 0, 0, 0,
	0, 4, 0, 4, 0, 0, 0, 10,                        /* IA_TA */
	0, 25, 0, 12, 0, 0, 0, 11, 0, 0, 0, 0, 0, 0, 0, 0, /* IA_PD */
};
/* clang-format on */

static void all_options_of_a_client_are_read(void **state)
{
	struct ip_addr addr = ip("2001:db8::10");
	struct dhcp6_query q;

	(void)state;
	assert_true(dhcp6_decode(full, sizeof(full), &q));
	assert_int_equal(q.type, DHCP6_REQUEST);
	assert_int_equal(q.xid, 0x010203);
	assert_int_equal(q.client_id.len, 4);
	assert_int_equal(q.server_id.len, 3);
	assert_true(q.has_server_id && q.rapid_commit && q.has_fqdn);
	assert_int_equal(q.fqdn_flags, DHCP6_FQDN_S);
	assert_true(dhcp6_wants(&q, 23) && dhcp6_wants(&q, 24) && dhcp6_wants(&q, 39));
	assert_false(dhcp6_wants(&q, 25));
	assert_int_equal(q.n_ias, 3);
	assert_int_equal(q.ias[0].iaid, 9);
	assert_int_equal(q.ias[0].n_addrs, 1);
	assert_true(ip_eq(&q.ias[0].addrs[0], &addr));
	assert_int_equal(q.ias[1].kind, DHCP6_IA_TA);
	assert_int_equal(q.ias[1].iaid, 10);
	assert_int_equal(q.ias[2].kind, DHCP6_IA_PD);
}

static void every_truncation_is_read_without_overrun(void **state)
{
	struct dhcp6_query q;

	(void)state;
	for (size_t len = 0; len < sizeof(full); len++) {
		uint8_t *exact = test_malloc(len + 1);
		bool ok;

		memcpy(exact, full, len);
		ok = dhcp6_decode(exact, len, &q);
		/* Cut between two options it is a message, elsewhere it is none. */
		assert_int_equal(ok, len == 4 || len == 12 || len == 19 || len == 29 || len == 33 ||
					     len == 39 || len == 83 || len == 91);
		test_free(exact);
	}
}

static void an_ia_whose_options_overrun_is_refused(void **state)
{
	uint8_t bytes[sizeof(full)];
	struct dhcp6_query q;

	(void)state;
	memcpy(bytes, full, sizeof(full));
	bytes[39 + 16 + 3] = 25; /* the address option's length */
	assert_false(dhcp6_decode(bytes, sizeof(bytes), &q));
}

static void a_client_identifier_of_an_impossible_length_counts_as_absent(void **state)
{
	uint8_t bytes[4 + 4 + 131] = { 1, 0, 0, 1, 0, 1, 0, 131 };
	struct dhcp6_query q;

	(void)state;
	assert_true(dhcp6_decode(bytes, sizeof(bytes), &q));
	assert_int_equal(q.client_id.len, 0);
}

static void ias_and_addresses_beyond_the_limit_are_ignored(void **state)
{
	uint8_t bytes[4 + 16 * (DHCP6_MAX_IAS + 2)] = { 1 };
	struct dhcp6_query q;

	(void)state;
	for (size_t at = 4; at < sizeof(bytes); at += 16)
		memcpy(bytes + at, (uint8_t[]){ 0, 3, 0, 12 }, 4);
	assert_true(dhcp6_decode(bytes, sizeof(bytes), &q));
	assert_int_equal(q.n_ias, DHCP6_MAX_IAS);
}

static void an_option_request_of_odd_length_counts_as_absent(void **state)
{
	static const uint8_t bytes[] = { 1, 0, 0, 1, 0, 6, 0, 3, 0, 23, 0 };
	struct dhcp6_query q;

	(void)state;
	assert_true(dhcp6_decode(bytes, sizeof(bytes), &q));
	assert_false(dhcp6_wants(&q, 23));
}

static const uint8_t client_id[] = { 0, 3, 0, 1 };
static const uint8_t server_id[] = { 0, 4, 9 };

static struct dhcp6_reply reply_with_ids(void)
{
	return (struct dhcp6_reply){ .type = DHCP6_REPLY,
				     .xid = 0x010203,
				     .client_id = { client_id, sizeof(client_id) },
				     .server_id = { server_id, sizeof(server_id) },
				     .status = DHCP6_NO_STATUS };
}

static void a_reply_has_its_identifiers(void **state)
{
	static const uint8_t wire[] = { 7, 1, 2, 3, 0, 1, 0, 4, 0, 3, 0, 1, 0, 2, 0, 3, 0, 4, 9 };
	struct dhcp6_reply reply = reply_with_ids();
	uint8_t bytes[DHCP6_REPLY_MAX];

	(void)state;
	assert_int_equal(dhcp6_encode(bytes, sizeof(bytes), &reply), sizeof(wire));
	assert_memory_equal(bytes, wire, sizeof(wire));
}

static void an_address_is_inside_its_ia(void **state)
{
	struct dhcp6_reply reply = reply_with_ids();
	uint8_t bytes[DHCP6_REPLY_MAX];
	struct dhcp6_query q;
	size_t len;

	(void)state;
	reply.n_ias = 2;
	reply.ias[0] = (struct dhcp6_reply_ia){ .kind = DHCP6_IA_NA,
						.iaid = 9,
						.t1_s = 1,
						.t2_s = 2,
						.status = DHCP6_NO_STATUS,
						.leases = { { ip("2001:db8::10"), 3, 4 } },
						.n_leases = 1 };
	reply.ias[1] = (struct dhcp6_reply_ia){ .kind = DHCP6_IA_TA,
						.iaid = 10,
						.status = DHCP6_NO_ADDRS_AVAIL };
	len = dhcp6_encode(bytes, sizeof(bytes), &reply);
	assert_true(dhcp6_decode(bytes, len, &q));
	assert_int_equal(q.n_ias, 2);
	assert_true(ip_eq(&q.ias[0].addrs[0], &reply.ias[0].leases[0].addr));
	assert_memory_equal(bytes + 19, "\0\3\0\x28\0\0\0\x09\0\0\0\1\0\0\0\2\0\5\0\x18", 20);
	assert_memory_equal(bytes + 63, "\0\4\0\x0a\0\0\0\x0a\0\x0d\0\2\0\2", 14);
	assert_int_equal(len, 77);
}

static void resolvers_domains_and_name_are_written(void **state)
{
	struct ip_addr dns[] = { ip("2001:db8::53") };
	struct domain search[] = { { "a" }, { "b.c" } };
	struct dhcp6_reply reply = reply_with_ids();
	uint8_t bytes[DHCP6_REPLY_MAX];

	(void)state;
	reply.dns = dns;
	reply.n_dns = 1;
	reply.search = search;
	reply.n_search = 2;
	reply.fqdn = "g.h";
	reply.fqdn_flags = DHCP6_FQDN_N;
	assert_int_equal(dhcp6_encode(bytes, sizeof(bytes), &reply), 19 + 20 + 10 + 12);
	assert_memory_equal(bytes + 19, "\0\x17\0\x10\x20\1\x0d\xb8", 8);
	assert_memory_equal(bytes + 39, "\0\x27\0\6\4\1g\1h\0", 10);
	assert_memory_equal(bytes + 49, "\0\x18\0\x08\1a\0\1b\1c\0", 12);
}

static void what_does_not_fit_is_left_out_or_refused(void **state)
{
	struct ip_addr dns[] = { ip("2001:db8::53") };
	struct dhcp6_reply reply = reply_with_ids();
	uint8_t bytes[DHCP6_REPLY_MAX];

	(void)state;
	reply.dns = dns;
	reply.n_dns = 1;
	assert_int_equal(dhcp6_encode(bytes, 19 + 19, &reply), 19);
	assert_int_equal(dhcp6_encode(bytes, 18, &reply), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(all_options_of_a_client_are_read),
		cmocka_unit_test(every_truncation_is_read_without_overrun),
		cmocka_unit_test(an_ia_whose_options_overrun_is_refused),
		cmocka_unit_test(a_client_identifier_of_an_impossible_length_counts_as_absent),
		cmocka_unit_test(ias_and_addresses_beyond_the_limit_are_ignored),
		cmocka_unit_test(an_option_request_of_odd_length_counts_as_absent),
		cmocka_unit_test(a_reply_has_its_identifiers),
		cmocka_unit_test(an_address_is_inside_its_ia),
		cmocka_unit_test(resolvers_domains_and_name_are_written),
		cmocka_unit_test(what_does_not_fit_is_left_out_or_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
