/* SPDX-License-Identifier: Apache-2.0 */
#include "main/port_scan.h"
#include "taploom/bytes.h"

#include <errno.h>
#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#define SEQ 7

struct datagram {
	uint8_t bytes[512];
	size_t len;
};

static void put_header(struct datagram *to, uint16_t type, uint32_t seq, size_t payload_len)
{
	struct nlmsghdr header = {
		.nlmsg_len = (uint32_t)(sizeof(header) + payload_len),
		.nlmsg_type = type,
		.nlmsg_seq = seq,
	};

	memcpy(to->bytes + to->len, &header, sizeof(header));
	to->len += sizeof(header);
}

static void put_socket(struct datagram *to, uint32_t seq, uint16_t local, uint16_t remote)
{
	struct inet_diag_msg socket = {
		.idiag_family = AF_INET,
		.id.idiag_sport = htons(local),
		.id.idiag_dport = htons(remote),
	};

	put_header(to, SOCK_DIAG_BY_FAMILY, seq, sizeof(socket));
	memcpy(to->bytes + to->len, &socket, sizeof(socket));
	to->len += sizeof(socket);
}

static void test_ports_of_a_dump_are_added(void **state)
{
	struct datagram in = { .len = 0 };
	struct port_set ports = { 0 };

	(void)state;
	put_socket(&in, SEQ, 22, 0);
	put_socket(&in, SEQ, 65535, 0);
	assert_int_equal(diag_parse(in.bytes, in.len, SEQ, &ports), DIAG_MORE);
	assert_true(port_set_has(&ports, 22));
	assert_true(port_set_has(&ports, 65535));
	assert_false(port_set_has(&ports, 23));
}

static void test_a_dump_ends_with_its_done_message(void **state)
{
	struct datagram in = { .len = 0 };
	struct port_set ports = { 0 };

	(void)state;
	put_socket(&in, SEQ, 22, 0);
	put_header(&in, NLMSG_DONE, SEQ, 0);
	assert_int_equal(diag_parse(in.bytes, in.len, SEQ, &ports), DIAG_DONE);
}

static void test_answers_to_another_request_are_passed_over(void **state)
{
	struct datagram in = { .len = 0 };
	struct port_set ports = { 0 };

	(void)state;
	put_socket(&in, SEQ - 1, 22, 0);
	put_socket(&in, SEQ, 80, 0);
	assert_int_equal(diag_parse(in.bytes, in.len, SEQ, &ports), DIAG_MORE);
	assert_false(port_set_has(&ports, 22));
	assert_true(port_set_has(&ports, 80));
}

static void test_an_error_message_is_an_error(void **state)
{
	struct datagram in = { .len = 0 };
	struct port_set ports = { 0 };

	(void)state;
	put_header(&in, NLMSG_ERROR, SEQ, 0);
	assert_int_equal(diag_parse(in.bytes, in.len, SEQ, &ports), DIAG_ERROR);
}

static void test_the_reason_in_a_done_message_counts(void **state)
{
	static const struct {
		int32_t error;
		enum diag_result result;
	} reasons[] = {
		{ 0, DIAG_DONE },
		{ -ENOENT, DIAG_ABSENT },
		{ -ENOMEM, DIAG_ERROR },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(reasons) / sizeof(reasons[0]); i++) {
		struct datagram in = { .len = 0 };
		struct port_set ports = { 0 };

		put_header(&in, NLMSG_DONE, SEQ, sizeof(reasons[i].error));
		memcpy(in.bytes + in.len, &reasons[i].error, sizeof(reasons[i].error));
		in.len += sizeof(reasons[i].error);
		assert_int_equal(diag_parse(in.bytes, in.len, SEQ, &ports), reasons[i].result);
	}
}

static void test_every_truncation_is_an_error_and_reads_nothing_past_the_end(void **state)
{
	struct datagram in = { .len = 0 };

	(void)state;
	put_socket(&in, SEQ, 22, 0);
	for (size_t len = 1; len < in.len; len++) {
		struct port_set ports = { 0 };

		assert_int_equal(diag_parse(in.bytes, len, SEQ, &ports), DIAG_ERROR);
		assert_false(port_set_has(&ports, 22));
	}
}

static void test_a_request_asks_for_listeners_of_tcp(void **state)
{
	uint8_t request[DIAG_REQUEST_LEN];
	struct inet_diag_req_v2 question;

	(void)state;
	diag_request(request, SEQ, AF_INET6, IPPROTO_TCP);
	memcpy(&question, request + sizeof(struct nlmsghdr), sizeof(question));
	assert_int_equal(question.sdiag_family, AF_INET6);
	assert_int_equal(question.idiag_states, 1 << TCP_LISTEN);
}

static void test_a_request_asks_for_unconnected_sockets_of_udp(void **state)
{
	uint8_t request[DIAG_REQUEST_LEN];
	struct inet_diag_req_v2 question;

	(void)state;
	diag_request(request, SEQ, AF_INET, IPPROTO_UDP);
	memcpy(&question, request + sizeof(struct nlmsghdr), sizeof(question));
	assert_int_equal(question.idiag_states, 1 << TCP_CLOSE);
}

static struct event_case {
	const char *name;
	uint16_t local, remote;
	bool matters;
} event_cases[] = {
	{ "the end of a listener on a known port matters", 22, 0, true },
	{ "the end of a socket on another port does not matter", 23, 0, false },
	{ "the end of a connection does not matter", 22, 40000, false },
};

static void test_event(void **state)
{
	const struct event_case *c = *state;
	struct datagram in = { .len = 0 };
	struct port_set tcp = { 0 }, udp = { 0 };

	port_set_add(&tcp, 22);
	put_socket(&in, 0, c->local, c->remote);
	assert_int_equal(diag_event_matters(in.bytes, in.len, &tcp, &udp), c->matters);
}

static void test_changes_between_sets_are_found_in_order(void **state)
{
	struct port_set before = { 0 }, now = { 0 };
	int port;

	(void)state;
	port_set_add(&before, 1);
	port_set_add(&before, 64);
	port_set_add(&now, 64);
	port_set_add(&now, 65535);
	port = port_set_next_change(&before, &now, 0);
	assert_int_equal(port, 1);
	port = port_set_next_change(&before, &now, (unsigned int)port + 1);
	assert_int_equal(port, 65535);
	assert_int_equal(port_set_next_change(&before, &now, (unsigned int)port + 1), -1);
}

static void test_subtracting_takes_our_own_ports_out(void **state)
{
	struct port_set found = { 0 }, own = { 0 };

	(void)state;
	port_set_add(&found, 80);
	port_set_add(&found, 81);
	port_set_add(&own, 81);
	port_set_subtract(&found, &own);
	assert_true(port_set_has(&found, 80));
	assert_false(port_set_has(&found, 81));
}

#define EVENT(i)                                                                                   \
	{                                                                                          \
		event_cases[i].name, test_event, NULL, NULL, &event_cases[i]                       \
	}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_ports_of_a_dump_are_added),
		cmocka_unit_test(test_a_dump_ends_with_its_done_message),
		cmocka_unit_test(test_answers_to_another_request_are_passed_over),
		cmocka_unit_test(test_an_error_message_is_an_error),
		cmocka_unit_test(test_the_reason_in_a_done_message_counts),
		cmocka_unit_test(test_every_truncation_is_an_error_and_reads_nothing_past_the_end),
		cmocka_unit_test(test_a_request_asks_for_listeners_of_tcp),
		cmocka_unit_test(test_a_request_asks_for_unconnected_sockets_of_udp),
		EVENT(0),
		EVENT(1),
		EVENT(2),
		cmocka_unit_test(test_changes_between_sets_are_found_in_order),
		cmocka_unit_test(test_subtracting_takes_our_own_ports_out),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
