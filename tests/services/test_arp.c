/* SPDX-License-Identifier: Apache-2.0 */
/* links: tap */
#include "services_lib.h"

#include "arp.h"

/* One request: who asks for what, and whether that gets an answer. */
static struct ask_case {
	const char *name;
	const char *sender;
	const char *target;
	uint16_t op;
	bool answered;
} cases[] = {
	{ "the gateway is answered for", "192.0.2.10", "192.0.2.1", ARP_REQUEST, true },
	{ "a neighbour is answered for", "192.0.2.10", "192.0.2.99", ARP_REQUEST, true },
	{ "an address outside of the prefix is answered for", "192.0.2.10", "203.0.113.1",
	  ARP_REQUEST, true },
	{ "the assigned address is the guest's own", "192.0.2.11", "192.0.2.10", ARP_REQUEST,
	  false },
	{ "the address that was seen is the guest's own", "192.0.2.10", "192.0.2.20", ARP_REQUEST,
	  false },
	{ "a neighbour of 240.0.0.0/4 is answered for", "240.10.0.5", "240.10.0.1", ARP_REQUEST,
	  true },
	{ "a probe is not answered", "0.0.0.0", "192.0.2.99", ARP_REQUEST, false },
	{ "an announcement is not answered", "192.0.2.99", "192.0.2.99", ARP_REQUEST, false },
	{ "a reply is not answered", "192.0.2.10", "192.0.2.1", ARP_REPLY, false },
	{ "broadcast is no host", "192.0.2.10", "255.255.255.255", ARP_REQUEST, false },
	{ "multicast is no host", "192.0.2.10", "224.0.0.1", ARP_REQUEST, false },
	{ "loopback is no neighbour", "192.0.2.10", "127.0.0.1", ARP_REQUEST, false },
	{ "0.0.0.0 is no host", "192.0.2.10", "0.0.0.0", ARP_REQUEST, false },
};

static void request_is_answered_or_not(void **state)
{
	const struct ask_case *c = *state;
	struct arp_packet request = { c->op, guest_mac, { { 0 } }, ip(c->sender), ip(c->target) };
	struct arp_packet reply;
	struct netconf net;

	fill_net(&net);
	net.v[IP4].seen = ip("192.0.2.20");
	assert_int_equal(arp_answer(&net, &request, &reply), c->answered);
	if (!c->answered)
		return;
	assert_int_equal(reply.op, ARP_REPLY);
	assert_true(eth_eq(&reply.sender_mac, &our_mac));
	assert_true(eth_eq(&reply.target_mac, &guest_mac));
	assert_true(ip_eq(&reply.sender, &request.target));
	assert_true(ip_eq(&reply.target, &request.sender));
}

static struct shown_case {
	const char *name;
	const char *sender;
	uint16_t op;
	bool shown;
} shown_cases[] = {
	{ "a request shows its sender's address", "192.0.2.10", ARP_REQUEST, true },
	{ "a reply shows its sender's address", "192.0.2.10", ARP_REPLY, true },
	{ "a probe shows no address", "0.0.0.0", ARP_REQUEST, false },
	{ "a loopback address is nobody's", "127.0.0.1", ARP_REQUEST, false },
	{ "a group's address is nobody's", "224.0.0.1", ARP_REQUEST, false },
	{ "one of 240.0.0.0/4 may be a host's", "240.10.0.5", ARP_REQUEST, true },
	{ "broadcast is nobody's", "255.255.255.255", ARP_REQUEST, false },
};

static void sender_is_shown_or_not(void **state)
{
	const struct shown_case *c = *state;
	struct arp_packet packet = { c->op, guest_mac, { { 0 } }, ip(c->sender), ip("192.0.2.1") };

	assert_int_equal(arp_shows_sender(&packet), c->shown);
	packet.sender_mac.b[0] |= 1; /* a group's station sends nothing */
	assert_false(arp_shows_sender(&packet));
}

static const uint8_t wire[ARP_LEN] = { 0,   1, 8, 0,  6, 4, 0, 1, 0x52, 0x54, 0,   0x12, 0x34, 0x56,
				       192, 0, 2, 10, 0, 0, 0, 0, 0,	0,    192, 0,	 2,    1 };

static void a_request_is_decoded(void **state)
{
	struct arp_packet p;

	(void)state;
	assert_true(arp_decode(wire, sizeof(wire), &p));
	assert_int_equal(p.op, ARP_REQUEST);
	assert_true(eth_eq(&p.sender_mac, &guest_mac));
	assert_true(ip_eq(&p.sender, &(struct ip_addr){ .q = { ip("192.0.2.10").q[0],
							       ip("192.0.2.10").q[1] } }));
	assert_true(ip_eq(&p.target, &(struct ip_addr){ .q = { ip("192.0.2.1").q[0],
							       ip("192.0.2.1").q[1] } }));
}

static void what_was_encoded_is_decoded_again(void **state)
{
	struct arp_packet p;
	uint8_t bytes[ARP_LEN];

	(void)state;
	assert_true(arp_decode(wire, sizeof(wire), &p));
	assert_int_equal(arp_encode(bytes, sizeof(bytes), &p), ARP_LEN);
	assert_memory_equal(bytes, wire, ARP_LEN);
	assert_int_equal(arp_encode(bytes, sizeof(bytes) - 1, &p), 0);
}

static void every_truncation_is_refused(void **state)
{
	struct arp_packet p;

	(void)state;
	for (size_t len = 0; len < ARP_LEN; len++)
		assert_false(arp_decode(wire, len, &p));
}

static void other_hardware_protocols_and_lengths_are_refused(void **state)
{
	static const size_t fields[] = { 1, 2, 4, 5 };
	struct arp_packet p;

	(void)state;
	for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++) {
		uint8_t bytes[ARP_LEN];

		memcpy(bytes, wire, sizeof(bytes));
		bytes[fields[i]]++;
		assert_false(arp_decode(bytes, sizeof(bytes), &p));
	}
}

static void a_group_address_as_sender_is_not_answered(void **state)
{
	struct arp_packet request;
	struct arp_packet reply;
	struct netconf net;

	(void)state;
	fill_net(&net);
	assert_true(arp_decode(wire, sizeof(wire), &request));
	request.sender_mac.b[0] |= 1;
	assert_false(arp_answer(&net, &request, &reply));
}

#define N_CASES (sizeof(cases) / sizeof(cases[0]))
#define N_SHOWN (sizeof(shown_cases) / sizeof(shown_cases[0]))

int main(void)
{
	const struct CMUnitTest fixed[] = {
		cmocka_unit_test(a_request_is_decoded),
		cmocka_unit_test(what_was_encoded_is_decoded_again),
		cmocka_unit_test(every_truncation_is_refused),
		cmocka_unit_test(other_hardware_protocols_and_lengths_are_refused),
		cmocka_unit_test(a_group_address_as_sender_is_not_answered),
	};
	struct CMUnitTest rows[N_CASES + N_SHOWN];

	for (size_t i = 0; i < N_CASES; i++)
		rows[i] = (struct CMUnitTest){ .name = cases[i].name,
					       .test_func = request_is_answered_or_not,
					       .initial_state = &cases[i] };
	for (size_t i = 0; i < N_SHOWN; i++)
		rows[N_CASES + i] = (struct CMUnitTest){ .name = shown_cases[i].name,
							 .test_func = sender_is_shown_or_not,
							 .initial_state = &shown_cases[i] };
	return cmocka_run_group_tests(fixed, NULL, NULL) + cmocka_run_group_tests(rows, NULL, NULL);
}
