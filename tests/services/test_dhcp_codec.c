/* SPDX-License-Identifier: Apache-2.0 */
/* links: tap */
#include "services_lib.h"

#include "dhcp_codec.h"

#define OPTIONS_OFF 240
#define FILE_OFF    108
#define SNAME_OFF   44

/* A message with these options behind the cookie. */
static void make(uint8_t message[DHCP_MIN_LEN], const uint8_t *options, size_t len)
{
	memset(message, 0, DHCP_MIN_LEN);
	memcpy(message, (uint8_t[]){ 1, 1, 6, 0, 1, 2, 3, 4, 0, 0, 0x80, 0 }, 12);
	memcpy(message + 28, guest_mac.b, ETH_ADDR_LEN);
	store_be32(message + 236, 0x63825363);
	memcpy(message + OPTIONS_OFF, options, len);
}

static bool decode(struct dhcp_query *query, const uint8_t *options, size_t len)
{
	uint8_t message[DHCP_MIN_LEN];

	make(message, options, len);
	return dhcp_decode(message, sizeof(message), query);
}

#define DECODE(query, ...)                                                                         \
	decode(query, (const uint8_t[]){ __VA_ARGS__ }, sizeof((const uint8_t[]){ __VA_ARGS__ }))

static void the_fixed_part_is_read(void **state)
{
	struct dhcp_query q;

	(void)state;
	assert_true(DECODE(&q, 53, 1, 3, 255));
	assert_int_equal(q.header.op, 1);
	assert_int_equal(q.header.xid, 0x01020304);
	assert_int_equal(q.header.flags, DHCP_FLAG_BROADCAST);
	assert_memory_equal(q.header.chaddr, guest_mac.b, ETH_ADDR_LEN);
	assert_int_equal(q.type, DHCP_REQUEST);
}

static void all_options_of_a_client_are_read(void **state)
{
	struct ip_addr server = ip("192.0.2.1");
	struct dhcp_query q;

	(void)state;
	assert_true(DECODE(&q, 0, 53, 1, 1, 50, 4, 192, 0, 2, 1, 54, 4, 192, 0, 2, 1, 51, 4, 0, 0,
			   1, 0, 57, 2, 2, 64, 55, 3, 1, 3, 6, 61, 2, 1, 9, 81, 3, 5, 0, 0, 255));
	assert_true(ip_eq(&q.requested, &server));
	assert_true(ip_eq(&q.server_id, &server));
	assert_int_equal(q.lease_s, 256);
	assert_int_equal(q.max_len, 576);
	assert_int_equal(q.params.len, 3);
	assert_int_equal(q.client_id.len, 2);
	assert_true(q.has_fqdn);
	assert_int_equal(q.fqdn_flags, DHCP_FQDN_S | DHCP_FQDN_E);
}

static void an_option_of_a_wrong_length_counts_as_absent(void **state)
{
	struct dhcp_query q;

	(void)state;
	assert_true(DECODE(&q, 53, 1, 1, 50, 3, 192, 0, 2, 57, 1, 9, 61, 1, 1, 81, 2, 0, 0, 255));
	assert_true(ip_is_unset(&q.requested));
	assert_int_equal(q.max_len, 0);
	assert_int_equal(q.client_id.len, 0);
	assert_false(q.has_fqdn);
}

static void a_message_type_of_a_wrong_length_is_refused(void **state)
{
	struct dhcp_query q;

	(void)state;
	assert_false(DECODE(&q, 53, 2, 1, 1, 255));
	assert_false(DECODE(&q, 53, 0, 255));
}

static void an_option_that_overruns_ends_the_options(void **state)
{
	struct dhcp_query q;

	(void)state;
	assert_true(DECODE(&q, 53, 1, 1, 50, 200, 192, 0, 2, 1, 57, 2, 2, 64, 255));
	assert_int_equal(q.type, DHCP_DISCOVER);
	assert_true(ip_is_unset(&q.requested));
	assert_int_equal(q.max_len, 0);
}

static void nothing_behind_the_end_option_is_read(void **state)
{
	struct dhcp_query q;

	(void)state;
	assert_true(DECODE(&q, 53, 1, 1, 255, 57, 2, 2, 64));
	assert_int_equal(q.max_len, 0);
}

static void an_option_in_pieces_is_joined(void **state)
{
	struct dhcp_query q;

	(void)state;
	assert_true(DECODE(&q, 55, 2, 1, 3, 53, 1, 1, 55, 2, 6, 15, 255));
	assert_int_equal(q.params.len, 4);
	assert_memory_equal(q.params.b, ((uint8_t[]){ 1, 3, 6, 15 }), 4);
}

static void options_in_file_and_sname_are_read_if_overload_says_so(void **state)
{
	static const uint8_t options[] = { 53, 1, 1, 52, 1, 3, 255 };
	uint8_t message[DHCP_MIN_LEN];
	struct dhcp_query q;

	(void)state;
	make(message, options, sizeof(options));
	memcpy(message + FILE_OFF, (uint8_t[]){ 57, 2, 2, 64, 255 }, 5);
	memcpy(message + SNAME_OFF, (uint8_t[]){ 51, 4, 0, 0, 0, 9, 255 }, 7);
	assert_true(dhcp_decode(message, sizeof(message), &q));
	assert_int_equal(q.max_len, 576);
	assert_int_equal(q.lease_s, 9);
	message[OPTIONS_OFF + 5] = 1;
	assert_true(dhcp_decode(message, sizeof(message), &q));
	assert_int_equal(q.max_len, 576);
	assert_int_equal(q.lease_s, 0);
}

static void every_truncation_is_refused_or_read_without_overrun(void **state)
{
	static const uint8_t options[] = { 53, 1, 1, 55, 3, 1, 3, 6, 255 };
	uint8_t message[DHCP_MIN_LEN];
	struct dhcp_query q;

	(void)state;
	make(message, options, sizeof(options));
	for (size_t len = 0; len < sizeof(message); len++) {
		uint8_t *exact = test_malloc(len + 1);

		memcpy(exact, message, len);
		assert_int_equal(dhcp_decode(exact, len, &q), len >= 236);
		test_free(exact);
	}
}

static void a_message_without_cookie_has_no_options(void **state)
{
	uint8_t message[DHCP_MIN_LEN];
	struct dhcp_query q;

	(void)state;
	make(message, (uint8_t[]){ 53, 1, 1 }, 3);
	memset(message + 236, 0, 4);
	assert_true(dhcp_decode(message, sizeof(message), &q));
	assert_false(q.has_options);
	assert_int_equal(q.type, DHCP_BOOTP);
}

static void another_cookie_is_refused(void **state)
{
	uint8_t message[DHCP_MIN_LEN];
	struct dhcp_query q;

	(void)state;
	make(message, (uint8_t[]){ 53, 1, 1 }, 3);
	message[236] ^= 1;
	assert_false(dhcp_decode(message, sizeof(message), &q));
}

/* Finds an option in an encoded reply; NULL if it is not there. */
static const uint8_t *find(const uint8_t *message, size_t len, uint8_t code)
{
	for (size_t at = OPTIONS_OFF; at < len && message[at] != 255; at += 2U + message[at + 1])
		if (message[at] == code)
			return message + at;
	return NULL;
}

static struct dhcp_reply ack(void)
{
	struct dhcp_reply reply = { .header = { .op = 2, .xid = 7 },
				    .type = DHCP_ACK,
				    .has_options = true,
				    .max_len = 548,
				    .server_id = ip("192.0.2.1"),
				    .lease_s = 3600,
				    .t1_s = 1800,
				    .t2_s = 3150,
				    .mask = ip("255.255.255.0"),
				    .router = ip("192.0.2.1"),
				    .mtu = 1500 };

	reply.header.ciaddr = reply.header.yiaddr = reply.header.siaddr = reply.header.giaddr =
		ip("0.0.0.0");
	return reply;
}

static void only_options_that_were_asked_for_are_written(void **state)
{
	struct dhcp_bytes params = { 2, { 26, 119 } };
	struct dhcp_reply reply = ack();
	uint8_t bytes[DHCP_MAX_LEN];
	size_t len;

	(void)state;
	reply.params = &params;
	len = dhcp_encode(bytes, &reply);
	assert_non_null(find(bytes, len, 26));
	assert_null(find(bytes, len, 3));
	assert_null(find(bytes, len, 119)); /* there is nothing to tell */
	for (const uint8_t *code = (const uint8_t[]){ 1, 51, 53, 54, 58, 59, 0 }; *code; code++)
		assert_non_null(find(bytes, len, *code));
}

static void the_usual_options_are_written_without_a_list(void **state)
{
	struct dhcp_reply reply = ack();
	uint8_t bytes[DHCP_MAX_LEN];
	size_t len;

	(void)state;
	len = dhcp_encode(bytes, &reply);
	assert_non_null(find(bytes, len, 3));
	assert_non_null(find(bytes, len, 26));
}

static void a_router_outside_of_the_prefix_has_a_host_route(void **state)
{
	static const uint8_t routes[] = { 121, 14, 32, 192, 0, 2, 1, 0, 0, 0, 0, 0, 192, 0, 2, 1 };
	struct dhcp_bytes params = { 1, { 121 } };
	struct dhcp_reply reply = ack();
	uint8_t bytes[DHCP_MAX_LEN];
	const uint8_t *at;

	(void)state;
	reply.params = &params;
	reply.router_off_link = true;
	at = find(bytes, dhcp_encode(bytes, &reply), 121);
	assert_non_null(at);
	assert_memory_equal(at, routes, sizeof(routes));
}

static void the_way_to_a_router_off_the_link_is_told_unasked(void **state)
{
	struct dhcp_bytes params = { 1, { 3 } };
	struct dhcp_reply reply = ack();
	uint8_t bytes[DHCP_MAX_LEN];

	(void)state;
	assert_null(find(bytes, dhcp_encode(bytes, &reply), 121));
	reply.router_off_link = true;
	assert_non_null(find(bytes, dhcp_encode(bytes, &reply), 121));
	reply.params = &params;
	assert_non_null(find(bytes, dhcp_encode(bytes, &reply), 121));
	reply.router_off_link = false;
	assert_null(find(bytes, dhcp_encode(bytes, &reply), 121));
}

/* As many search domains as there may be, of 60 characters each. */
static void add_long_search(struct dhcp_reply *reply)
{
	static struct domain search[MAX_SEARCH];

	for (unsigned int i = 0; i < MAX_SEARCH; i++) {
		memset(search[i].name, 'a' + (int)i, 60);
		search[i].name[30] = '.';
	}
	reply->search = search;
	reply->n_search = MAX_SEARCH;
}

static void a_reply_is_padded_to_300_bytes_and_never_passes_its_limit(void **state)
{
	struct dhcp_bytes params = { 3, { 119, 3, 26 } };
	struct dhcp_reply reply = ack();
	uint8_t bytes[DHCP_MAX_LEN];

	(void)state;
	assert_int_equal(dhcp_encode(bytes, &reply), DHCP_MIN_LEN);
	add_long_search(&reply);
	reply.params = &params;
	for (uint16_t max = DHCP_MIN_LEN; max <= DHCP_MAX_LEN; max++) {
		reply.max_len = max;
		assert_in_range(dhcp_encode(bytes, &reply), DHCP_MIN_LEN, max);
	}
}

static void a_long_value_is_written_in_pieces(void **state)
{
	struct dhcp_bytes params = { 1, { 119 } };
	struct dhcp_reply reply = ack();
	uint8_t bytes[DHCP_MAX_LEN];
	const uint8_t *at;

	(void)state;
	add_long_search(&reply);
	reply.max_len = DHCP_MAX_LEN;
	reply.params = &params;
	at = find(bytes, dhcp_encode(bytes, &reply), 119);
	assert_non_null(at);
	assert_int_equal(at[1], 255);
	assert_int_equal(at[257], 119);
	assert_int_equal(at[1] + at[258], MAX_SEARCH * 62);
}

/* Whole names, and behind all else that was asked for. */
static void a_search_list_that_does_not_fit_is_cut(void **state)
{
	struct dhcp_bytes params = { 3, { 119, 3, 26 } };
	struct dhcp_reply reply = ack();
	uint8_t bytes[DHCP_MAX_LEN];
	const uint8_t *at;
	size_t len;

	(void)state;
	add_long_search(&reply);
	reply.params = &params;
	reply.max_len = 500;
	len = dhcp_encode(bytes, &reply);
	at = find(bytes, len, 119);
	assert_non_null(at);
	assert_int_equal(at[1] % 62, 0);
	assert_in_range(at[1], 62, (MAX_SEARCH - 1) * 62);
	assert_non_null(find(bytes, len, 3));
	assert_true(at > find(bytes, len, 26));
	assert_int_equal(at[2 + at[1]], 255);
}

static void a_nak_has_type_server_and_client_identifier_alone(void **state)
{
	static const uint8_t options[] = { 53, 1, 6, 54, 4, 192, 0, 2, 1, 61, 2, 1, 9, 255 };
	struct dhcp_bytes client = { 2, { 1, 9 } };
	struct dhcp_reply reply = ack();
	uint8_t bytes[DHCP_MAX_LEN];

	(void)state;
	reply.type = DHCP_NAK;
	reply.client_id = &client;
	dhcp_encode(bytes, &reply);
	assert_memory_equal(bytes + OPTIONS_OFF, options, sizeof(options));
}

static void a_bootp_reply_has_no_dhcp_options(void **state)
{
	struct dhcp_reply reply = ack();
	uint8_t bytes[DHCP_MAX_LEN];
	size_t len;

	(void)state;
	reply.type = DHCP_BOOTP;
	reply.max_len = DHCP_MIN_LEN;
	len = dhcp_encode(bytes, &reply);
	assert_int_equal(len, DHCP_MIN_LEN);
	assert_non_null(find(bytes, len, 1));
	for (const uint8_t *code = (const uint8_t[]){ 51, 53, 54, 58, 59, 61, 121, 0 }; *code;
	     code++)
		assert_null(find(bytes, len, *code));
}

static void the_name_is_in_the_clients_encoding(void **state)
{
	struct dhcp_reply reply = ack();
	uint8_t bytes[DHCP_MAX_LEN];
	const uint8_t *at;

	(void)state;
	reply.fqdn = "a.b";
	at = find(bytes, dhcp_encode(bytes, &reply), 81);
	assert_memory_equal(at,
			    "\x51\x06\0\xff\xff"
			    "a.b",
			    8);
	reply.fqdn_flags = DHCP_FQDN_E;
	at = find(bytes, dhcp_encode(bytes, &reply), 81);
	assert_memory_equal(at, "\x51\x08\x04\xff\xff\1a\1b\0", 10);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_fixed_part_is_read),
		cmocka_unit_test(all_options_of_a_client_are_read),
		cmocka_unit_test(an_option_of_a_wrong_length_counts_as_absent),
		cmocka_unit_test(a_message_type_of_a_wrong_length_is_refused),
		cmocka_unit_test(an_option_that_overruns_ends_the_options),
		cmocka_unit_test(nothing_behind_the_end_option_is_read),
		cmocka_unit_test(an_option_in_pieces_is_joined),
		cmocka_unit_test(options_in_file_and_sname_are_read_if_overload_says_so),
		cmocka_unit_test(every_truncation_is_refused_or_read_without_overrun),
		cmocka_unit_test(a_message_without_cookie_has_no_options),
		cmocka_unit_test(another_cookie_is_refused),
		cmocka_unit_test(only_options_that_were_asked_for_are_written),
		cmocka_unit_test(the_usual_options_are_written_without_a_list),
		cmocka_unit_test(a_router_outside_of_the_prefix_has_a_host_route),
		cmocka_unit_test(the_way_to_a_router_off_the_link_is_told_unasked),
		cmocka_unit_test(a_reply_is_padded_to_300_bytes_and_never_passes_its_limit),
		cmocka_unit_test(a_long_value_is_written_in_pieces),
		cmocka_unit_test(a_search_list_that_does_not_fit_is_cut),
		cmocka_unit_test(a_nak_has_type_server_and_client_identifier_alone),
		cmocka_unit_test(a_bootp_reply_has_no_dhcp_options),
		cmocka_unit_test(the_name_is_in_the_clients_encoding),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
