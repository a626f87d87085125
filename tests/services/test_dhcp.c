/* SPDX-License-Identifier: Apache-2.0 */
/* links: tap */
#include "services_lib.h"

#include "dhcp.h"

static const struct config no_config;

/* A client's message and what comes of it; empty strings are options that are not there. */
static struct exchange_case {
	const char *name;
	uint8_t type;
	const char *server_id;
	const char *requested;
	const char *ciaddr;
	enum drop drop;
	uint8_t answer; /* enum dhcp_type; DHCP_BOOTP with type DHCP_BOOTP; 0xff: none */
} cases[] = {
	{ "a DISCOVER gets an OFFER", DHCP_DISCOVER, "", "", "", DROP_NONE, DHCP_OFFER },
	{ "a DISCOVER that wants another address gets an OFFER of ours", DHCP_DISCOVER, "",
	  "192.0.2.77", "", DROP_NONE, DHCP_OFFER },
	{ "a REQUEST of the offer gets an ACK", DHCP_REQUEST, "192.0.2.1", "192.0.2.10", "",
	  DROP_NONE, DHCP_ACK },
	{ "a REQUEST to us for another address gets a NAK", DHCP_REQUEST, "192.0.2.1", "192.0.2.77",
	  "", DROP_NONE, DHCP_NAK },
	{ "a REQUEST to another server is left to it", DHCP_REQUEST, "192.0.2.2", "192.0.2.10", "",
	  DROP_DHCP, 0xff },
	{ "INIT-REBOOT with the right address gets an ACK", DHCP_REQUEST, "", "192.0.2.10", "",
	  DROP_NONE, DHCP_ACK },
	{ "INIT-REBOOT with a wrong address gets a NAK", DHCP_REQUEST, "", "10.0.0.5", "",
	  DROP_NONE, DHCP_NAK },
	{ "RENEWING gets an ACK", DHCP_REQUEST, "", "", "192.0.2.10", DROP_NONE, DHCP_ACK },
	{ "RENEWING of an address that changed gets a NAK", DHCP_REQUEST, "", "", "192.0.2.11",
	  DROP_NONE, DHCP_NAK },
	{ "a REQUEST for nothing is dropped", DHCP_REQUEST, "", "", "", DROP_DHCP, 0xff },
	{ "an INFORM gets an ACK", DHCP_INFORM, "", "", "192.0.2.77", DROP_NONE, DHCP_ACK },
	{ "a DECLINE gets nothing", DHCP_DECLINE, "192.0.2.1", "192.0.2.10", "", DROP_NONE, 0xff },
	{ "a RELEASE gets nothing", DHCP_RELEASE, "192.0.2.1", "", "192.0.2.10", DROP_NONE, 0xff },
	{ "a RELEASE to another server is left to it", DHCP_RELEASE, "192.0.2.2", "", "192.0.2.10",
	  DROP_DHCP, 0xff },
	{ "a RELEASE to no server is dropped", DHCP_RELEASE, "", "", "192.0.2.10", DROP_DHCP,
	  0xff },
	{ "a BOOTP request gets a reply", DHCP_BOOTP, "", "", "", DROP_NONE, DHCP_BOOTP },
	{ "an OFFER from a client is dropped", DHCP_OFFER, "", "", "", DROP_DHCP, 0xff },
	{ "an ACK from a client is dropped", DHCP_ACK, "", "", "", DROP_DHCP, 0xff },
	{ "an unknown type is dropped", 200, "", "", "", DROP_DHCP, 0xff },
};

static struct ip_addr ip_or_unset(const char *text)
{
	return *text ? ip(text) : (struct ip_addr){ .q = { 0, 0 } };
}

static struct dhcp_query query_of(uint8_t type)
{
	struct dhcp_query q = { .header = { .op = 1, .htype = 1, .hlen = 6, .xid = 9 },
				.type = type,
				.has_options = true };

	q.header.ciaddr = q.header.yiaddr = q.header.siaddr = q.header.giaddr = ip("0.0.0.0");
	memcpy(q.header.chaddr, guest_mac.b, ETH_ADDR_LEN);
	return q;
}

static void message_is_answered_as_due(void **state)
{
	const struct exchange_case *c = *state;
	struct dhcp_query q = query_of(c->type);
	struct dhcp_reply reply;
	struct netconf net;
	bool send;

	fill_net(&net);
	q.server_id = ip_or_unset(c->server_id);
	q.requested = ip_or_unset(c->requested);
	if (*c->ciaddr)
		q.header.ciaddr = ip(c->ciaddr);
	assert_int_equal(dhcp_answer(&no_config, &net, &net.v[IP4].gateway, &q, &reply, &send),
			 c->drop);
	assert_int_equal(send, c->answer != 0xff);
	if (send)
		assert_int_equal(reply.type, c->answer);
	if (send &&
	    (reply.type == DHCP_OFFER || (reply.type == DHCP_ACK && c->type != DHCP_INFORM))) {
		assert_true(ip_eq(&reply.header.yiaddr, &net.v[IP4].addr));
		assert_int_equal(reply.lease_s, DHCP_LEASE_S);
	}
}

static void a_placeholder_is_short_and_takes_no_address_away(void **state)
{
	struct dhcp_query q = query_of(DHCP_DISCOVER);
	struct dhcp_reply reply;
	struct netconf net;
	bool send;

	(void)state;
	fill_net(&net);
	net.v[IP4].placeholder = true;
	dhcp_answer(&no_config, &net, &net.v[IP4].gateway, &q, &reply, &send);
	assert_true(send);
	assert_int_equal(reply.lease_s, DHCP_LEASE_LOCAL_S);
	q = query_of(DHCP_REQUEST);
	q.header.ciaddr = ip("192.0.2.11");
	assert_int_equal(dhcp_answer(&no_config, &net, &net.v[IP4].gateway, &q, &reply, &send),
			 DROP_DHCP);
	assert_false(send);
	q.header.ciaddr = net.v[IP4].addr;
	dhcp_answer(&no_config, &net, &net.v[IP4].gateway, &q, &reply, &send);
	assert_true(send);
	assert_int_equal(reply.type, DHCP_ACK);
}

static struct dhcp_reply answer(const struct config *config, const struct netconf *net,
				const struct dhcp_query *q)
{
	struct dhcp_reply reply;
	bool send;

	assert_int_equal(dhcp_answer(config, net, &net->v[IP4].gateway, q, &reply, &send),
			 DROP_NONE);
	assert_true(send);
	return reply;
}

static void an_inform_gets_no_address_and_no_lease(void **state)
{
	struct dhcp_query q = query_of(DHCP_INFORM);
	struct dhcp_reply reply;
	struct netconf net;

	(void)state;
	fill_net(&net);
	reply = answer(&no_config, &net, &q);
	assert_true(ip_is_any(&reply.header.yiaddr));
	assert_int_equal(reply.lease_s + reply.t1_s + reply.t2_s, 0);
}

static void a_shorter_lease_is_granted_within_reason(void **state)
{
	struct dhcp_query q = query_of(DHCP_DISCOVER);
	struct netconf net;

	(void)state;
	fill_net(&net);
	q.lease_s = 120;
	assert_int_equal(answer(&no_config, &net, &q).lease_s, 120);
	q.lease_s = 1;
	assert_int_equal(answer(&no_config, &net, &q).lease_s, DHCP_LEASE_MIN_S);
	q.lease_s = UINT32_MAX;
	assert_int_equal(answer(&no_config, &net, &q).lease_s, DHCP_LEASE_S);
}

static void resolvers_and_search_list_can_be_switched_off(void **state)
{
	struct config config = { .no_dhcp_dns = true, .no_dhcp_search = true };
	struct dhcp_query q = query_of(DHCP_DISCOVER);
	struct dhcp_reply reply;
	struct netconf net;

	(void)state;
	fill_net(&net);
	reply = answer(&no_config, &net, &q);
	assert_int_equal(reply.n_dns, 2);
	assert_int_equal(reply.n_search, 2);
	reply = answer(&config, &net, &q);
	assert_int_equal(reply.n_dns, 0);
	assert_int_equal(reply.n_search, 0);
}

static void the_full_name_is_given_to_who_sends_or_asks(void **state)
{
	struct dhcp_query q = query_of(DHCP_DISCOVER);
	struct dhcp_reply reply;
	struct netconf net;

	(void)state;
	fill_net(&net);
	assert_null(answer(&no_config, &net, &q).fqdn);
	q.has_fqdn = true;
	q.fqdn_flags = DHCP_FQDN_S;
	reply = answer(&no_config, &net, &q);
	assert_string_equal(reply.fqdn, "guest.example.org");
	assert_int_equal(reply.fqdn_flags, DHCP_FQDN_N | DHCP_FQDN_O);
	q.has_fqdn = false;
	q.params = (struct dhcp_bytes){ 1, { 81 } };
	assert_int_equal(answer(&no_config, &net, &q).fqdn_flags, DHCP_FQDN_N | DHCP_FQDN_E);
}

static void a_gateway_outside_of_the_prefix_is_off_link(void **state)
{
	struct dhcp_query q = query_of(DHCP_DISCOVER);
	struct netconf net;

	(void)state;
	fill_net(&net);
	assert_false(answer(&no_config, &net, &q).router_off_link);
	net.v[IP4].gateway = ip("203.0.113.1");
	assert_true(answer(&no_config, &net, &q).router_off_link);
}

static void the_clients_maximum_is_kept(void **state)
{
	struct dhcp_query q = query_of(DHCP_DISCOVER);
	struct netconf net;

	(void)state;
	fill_net(&net);
	assert_int_equal(answer(&no_config, &net, &q).max_len, 548);
	q.max_len = 100;
	assert_int_equal(answer(&no_config, &net, &q).max_len, 548);
	q.max_len = 1000;
	assert_int_equal(answer(&no_config, &net, &q).max_len, 972);
	q.max_len = UINT16_MAX;
	assert_int_equal(answer(&no_config, &net, &q).max_len, DHCP_MAX_LEN);
}

static void an_mtu_of_zero_is_not_announced(void **state)
{
	struct dhcp_query q = query_of(DHCP_DISCOVER);
	struct netconf net;

	(void)state;
	fill_net(&net);
	net.mtu = 0;
	assert_int_equal(answer(&no_config, &net, &q).mtu, 0);
}

static void the_server_is_the_gateway_or_a_neighbour(void **state)
{
	struct ip_addr server;
	struct netconf net;

	(void)state;
	fill_net(&net);
	server = dhcp_server_addr(&net.v[IP4]);
	assert_true(ip_eq(&server, &net.v[IP4].gateway));
	net.v[IP4].gateway = (struct ip_addr){ .q = { 0, 0 } };
	server = dhcp_server_addr(&net.v[IP4]);
	assert_memory_equal(server.b + 12, ((uint8_t[]){ 192, 0, 2, 1 }), 4);
	net.v[IP4].addr = ip("192.0.2.1");
	server = dhcp_server_addr(&net.v[IP4]);
	assert_memory_equal(server.b + 12, ((uint8_t[]){ 192, 0, 2, 2 }), 4);
	net.v[IP4].prefix_len = 32;
	server = dhcp_server_addr(&net.v[IP4]);
	assert_true(ip_is_link_local(&server));
}

static void datagrams_to_other_servers_are_not_for_us(void **state)
{
	struct ip_addr dst;
	struct netconf net;

	(void)state;
	fill_net(&net);
	dst = ip("255.255.255.255");
	assert_true(dhcp_is_for_us(&net.v[IP4], &dst));
	dst = ip("192.0.2.255");
	assert_true(dhcp_is_for_us(&net.v[IP4], &dst));
	dst = ip("192.0.2.1");
	assert_true(dhcp_is_for_us(&net.v[IP4], &dst));
	dst = ip("192.0.2.2");
	assert_false(dhcp_is_for_us(&net.v[IP4], &dst));
}

static void what_is_no_request_of_an_ethernet_client_is_dropped(void **state)
{
	struct dhcp_reply reply;
	struct netconf net;
	bool send;

	(void)state;
	fill_net(&net);
	for (int i = 0; i < 5; i++) {
		struct dhcp_query q = query_of(DHCP_DISCOVER);

		q.header.op = i == 0 ? 2 : 1;
		q.header.htype = i == 1 ? 6 : 1;
		q.header.hlen = i == 2 ? 16 : 6;
		q.header.chaddr[0] |= i == 3;
		q.header.giaddr = i == 4 ? ip("10.0.0.1") : ip("0.0.0.0");
		assert_int_equal(
			dhcp_answer(&no_config, &net, &net.v[IP4].gateway, &q, &reply, &send),
			DROP_DHCP);
		assert_false(send);
	}
}

static bool goes_to(const struct dhcp_query *q, const struct dhcp_reply *reply, const char *addr,
		    uint16_t port)
{
	struct ip_addr src = ip("192.0.2.10");
	struct ip_addr want = ip(addr);
	struct dhcp_destination d = dhcp_destination_of(q, reply, &src, &guest_mac);
	bool broadcast = d.mac.b[0] == 0xff;

	return ip_eq(&d.to.addr, &want) && d.to.port == port &&
	       broadcast == (strcmp(addr, "255.255.255.255") == 0);
}

static void replies_go_where_rfc_2131_4_1_says(void **state)
{
	struct dhcp_query q = query_of(DHCP_REQUEST);
	struct dhcp_reply reply;
	struct netconf net;

	(void)state;
	fill_net(&net);
	q.requested = net.v[IP4].addr;
	reply = answer(&no_config, &net, &q);
	assert_true(goes_to(&q, &reply, "192.0.2.10", DHCP_CLIENT_PORT));
	q.header.flags = DHCP_FLAG_BROADCAST;
	assert_true(goes_to(&q, &reply, "255.255.255.255", DHCP_CLIENT_PORT));
	q.header.ciaddr = ip("192.0.2.20");
	assert_true(goes_to(&q, &reply, "192.0.2.20", DHCP_CLIENT_PORT));
	reply.type = DHCP_NAK;
	assert_true(goes_to(&q, &reply, "255.255.255.255", DHCP_CLIENT_PORT));
	q.header.giaddr = ip("192.0.2.30");
	assert_true(goes_to(&q, &reply, "192.0.2.30", DHCP_SERVER_PORT));
}

#define N_CASES (sizeof(cases) / sizeof(cases[0]))

int main(void)
{
	const struct CMUnitTest fixed[] = {
		cmocka_unit_test(an_inform_gets_no_address_and_no_lease),
		cmocka_unit_test(a_shorter_lease_is_granted_within_reason),
		cmocka_unit_test(resolvers_and_search_list_can_be_switched_off),
		cmocka_unit_test(the_full_name_is_given_to_who_sends_or_asks),
		cmocka_unit_test(a_gateway_outside_of_the_prefix_is_off_link),
		cmocka_unit_test(the_clients_maximum_is_kept),
		cmocka_unit_test(an_mtu_of_zero_is_not_announced),
		cmocka_unit_test(the_server_is_the_gateway_or_a_neighbour),
		cmocka_unit_test(datagrams_to_other_servers_are_not_for_us),
		cmocka_unit_test(a_placeholder_is_short_and_takes_no_address_away),
		cmocka_unit_test(what_is_no_request_of_an_ethernet_client_is_dropped),
		cmocka_unit_test(replies_go_where_rfc_2131_4_1_says),
	};
	struct CMUnitTest rows[N_CASES];

	for (size_t i = 0; i < N_CASES; i++)
		rows[i] = (struct CMUnitTest){ .name = cases[i].name,
					       .test_func = message_is_answered_as_due,
					       .initial_state = &cases[i] };
	return cmocka_run_group_tests(fixed, NULL, NULL) + cmocka_run_group_tests(rows, NULL, NULL);
}
