/* SPDX-License-Identifier: Apache-2.0 */
/* links: tap */
#include "services_lib.h"

#include "dhcp6.h"

static const struct config no_config;
static const uint8_t client_duid[] = { 0, 3, 0, 1 };
static const uint8_t our_duid[] = { 0, 4, 1, 2, 3, 4 };
static const uint8_t other_duid[] = { 0, 4, 1, 2, 3, 5 };

enum server { NO_SERVER, OURS, OTHER };

static struct dhcp6_query query_of(uint8_t type, enum server server)
{
	struct dhcp6_query q = { .type = type,
				 .xid = 77,
				 .client_id = { client_duid, sizeof(client_duid) },
				 .has_server_id = server != NO_SERVER };

	if (server == OURS)
		q.server_id = (struct dhcp6_bytes){ our_duid, sizeof(our_duid) };
	else if (server == OTHER)
		q.server_id = (struct dhcp6_bytes){ other_duid, sizeof(other_duid) };
	return q;
}

static struct dhcp6_query_ia *add_ia(struct dhcp6_query *q, uint16_t kind, const char *addr)
{
	struct dhcp6_query_ia *ia = &q->ias[q->n_ias++];

	*ia = (struct dhcp6_query_ia){ .kind = kind, .iaid = q->n_ias };
	if (addr)
		ia->addrs[ia->n_addrs++] = ip(addr);
	return ia;
}

static enum drop answer(const struct dhcp6_query *q, bool multicast, struct dhcp6_reply *reply)
{
	struct netconf net;

	fill_net(&net);
	return dhcp6_answer(&no_config, &net, (struct dhcp6_bytes){ our_duid, sizeof(our_duid) }, q,
			    multicast, reply);
}

/* Validation, RFC 8415 16: a message with one IA_NA that has our address. */
static struct validation_case {
	const char *name;
	uint8_t type;
	enum server server;
	bool no_client;
	bool unicast;
	enum drop drop;
	uint16_t status; /* of the reply */
} cases[] = {
	{ "a SOLICIT is answered", DHCP6_SOLICIT, NO_SERVER, false, false, DROP_NONE,
	  DHCP6_NO_STATUS },
	{ "a SOLICIT to a server is dropped", DHCP6_SOLICIT, OURS, false, false, DROP_DHCP6, 0 },
	{ "a SOLICIT of nobody is dropped", DHCP6_SOLICIT, NO_SERVER, true, false, DROP_DHCP6, 0 },
	{ "a SOLICIT by unicast is dropped", DHCP6_SOLICIT, NO_SERVER, false, true, DROP_DHCP6, 0 },
	{ "a REQUEST to us is answered", DHCP6_REQUEST, OURS, false, false, DROP_NONE,
	  DHCP6_NO_STATUS },
	{ "a REQUEST to another server is left to it", DHCP6_REQUEST, OTHER, false, false,
	  DROP_DHCP6, 0 },
	{ "a REQUEST to no server is dropped", DHCP6_REQUEST, NO_SERVER, false, false, DROP_DHCP6,
	  0 },
	{ "a REQUEST of nobody is dropped", DHCP6_REQUEST, OURS, true, false, DROP_DHCP6, 0 },
	{ "a REQUEST by unicast is told to use multicast", DHCP6_REQUEST, OURS, false, true,
	  DROP_NONE, DHCP6_USE_MULTICAST },
	{ "a RENEW by unicast is told to use multicast", DHCP6_RENEW, OURS, false, true, DROP_NONE,
	  DHCP6_USE_MULTICAST },
	{ "a RELEASE by unicast is told to use multicast", DHCP6_RELEASE, OURS, false, true,
	  DROP_NONE, DHCP6_USE_MULTICAST },
	{ "a DECLINE by unicast is told to use multicast", DHCP6_DECLINE, OURS, false, true,
	  DROP_NONE, DHCP6_USE_MULTICAST },
	{ "a CONFIRM is answered", DHCP6_CONFIRM, NO_SERVER, false, false, DROP_NONE,
	  DHCP6_SUCCESS },
	{ "a CONFIRM to a server is dropped", DHCP6_CONFIRM, OURS, false, false, DROP_DHCP6, 0 },
	{ "a CONFIRM by unicast is dropped", DHCP6_CONFIRM, NO_SERVER, false, true, DROP_DHCP6, 0 },
	{ "a RENEW to us is answered", DHCP6_RENEW, OURS, false, false, DROP_NONE,
	  DHCP6_NO_STATUS },
	{ "a RENEW to another server is left to it", DHCP6_RENEW, OTHER, false, false, DROP_DHCP6,
	  0 },
	{ "a REBIND is answered", DHCP6_REBIND, NO_SERVER, false, false, DROP_NONE,
	  DHCP6_NO_STATUS },
	{ "a REBIND to a server is dropped", DHCP6_REBIND, OURS, false, false, DROP_DHCP6, 0 },
	{ "a REBIND by unicast is dropped", DHCP6_REBIND, NO_SERVER, false, true, DROP_DHCP6, 0 },
	{ "a RELEASE succeeds", DHCP6_RELEASE, OURS, false, false, DROP_NONE, DHCP6_SUCCESS },
	{ "a RELEASE to no server is dropped", DHCP6_RELEASE, NO_SERVER, false, false, DROP_DHCP6,
	  0 },
	{ "a DECLINE succeeds", DHCP6_DECLINE, OURS, false, false, DROP_NONE, DHCP6_SUCCESS },
	{ "an INFORMATION-REQUEST with an IA is dropped", DHCP6_INFORMATION_REQUEST, NO_SERVER,
	  false, false, DROP_DHCP6, 0 },
	{ "an ADVERTISE is dropped", DHCP6_ADVERTISE, OURS, false, false, DROP_DHCP6, 0 },
	{ "a REPLY is dropped", DHCP6_REPLY, OURS, false, false, DROP_DHCP6, 0 },
	{ "a RECONFIGURE is dropped", DHCP6_RECONFIGURE, OURS, false, false, DROP_DHCP6, 0 },
	{ "a relayed message is dropped", 12, NO_SERVER, false, false, DROP_DHCP6, 0 },
	{ "type 0 is dropped", 0, NO_SERVER, false, false, DROP_DHCP6, 0 },
};

static void message_is_answered_or_dropped(void **state)
{
	const struct validation_case *c = *state;
	struct dhcp6_query q = query_of(c->type, c->server);
	struct dhcp6_reply reply;

	add_ia(&q, DHCP6_IA_NA, "2001:db8::10");
	if (c->no_client)
		q.client_id.len = 0;
	assert_int_equal(answer(&q, !c->unicast, &reply), c->drop);
	if (c->drop != DROP_NONE)
		return;
	assert_int_equal(reply.status, c->status);
	assert_int_equal(reply.xid, 77);
	assert_int_equal(reply.type, c->type == DHCP6_SOLICIT ? DHCP6_ADVERTISE : DHCP6_REPLY);
	if (c->status == DHCP6_USE_MULTICAST)
		assert_int_equal(reply.n_ias, 0);
}

static void the_first_ia_na_gets_the_address_and_no_other(void **state)
{
	struct dhcp6_query q = query_of(DHCP6_SOLICIT, NO_SERVER);
	struct ip_addr addr = ip("2001:db8::10");
	struct dhcp6_reply reply;

	(void)state;
	add_ia(&q, DHCP6_IA_PD, NULL);
	add_ia(&q, DHCP6_IA_TA, NULL);
	add_ia(&q, DHCP6_IA_NA, NULL);
	add_ia(&q, DHCP6_IA_NA, NULL);
	assert_int_equal(answer(&q, true, &reply), DROP_NONE);
	assert_int_equal(reply.n_ias, 4);
	assert_int_equal(reply.ias[0].status, DHCP6_NO_PREFIX_AVAIL);
	assert_int_equal(reply.ias[1].status, DHCP6_NO_ADDRS_AVAIL);
	assert_int_equal(reply.ias[2].status, DHCP6_NO_STATUS);
	assert_int_equal(reply.ias[2].n_leases, 1);
	assert_true(ip_eq(&reply.ias[2].leases[0].addr, &addr));
	assert_int_equal(reply.ias[2].iaid, 3);
	assert_int_equal(reply.ias[3].status, DHCP6_NO_ADDRS_AVAIL);
	assert_int_equal(reply.ias[3].n_leases, 0);
}

static void a_rapid_commit_is_made_where_asked_for(void **state)
{
	struct dhcp6_query q = query_of(DHCP6_SOLICIT, NO_SERVER);
	struct dhcp6_reply reply;

	(void)state;
	q.rapid_commit = true;
	add_ia(&q, DHCP6_IA_NA, NULL);
	assert_int_equal(answer(&q, true, &reply), DROP_NONE);
	assert_int_equal(reply.type, DHCP6_REPLY);
	assert_true(reply.rapid_commit);
	assert_false(reply.preference);
}

static void nothing_is_committed_where_there_is_no_address(void **state)
{
	struct dhcp6_query q = query_of(DHCP6_SOLICIT, NO_SERVER);
	struct dhcp6_reply reply;

	(void)state;
	q.rapid_commit = true;
	add_ia(&q, DHCP6_IA_PD, NULL);
	assert_int_equal(answer(&q, true, &reply), DROP_NONE);
	assert_int_equal(reply.type, DHCP6_ADVERTISE);
	assert_false(reply.rapid_commit);
}

static void a_request_for_an_address_of_another_link_gets_not_on_link(void **state)
{
	struct dhcp6_query q = query_of(DHCP6_REQUEST, OURS);
	struct dhcp6_reply reply;

	(void)state;
	add_ia(&q, DHCP6_IA_NA, "2001:db8:1::10");
	assert_int_equal(answer(&q, true, &reply), DROP_NONE);
	assert_int_equal(reply.ias[0].status, DHCP6_NOT_ON_LINK);
	assert_int_equal(reply.ias[0].n_leases, 0);
}

static void a_request_for_a_neighbours_address_gets_ours(void **state)
{
	struct dhcp6_query q = query_of(DHCP6_REQUEST, OURS);
	struct ip_addr addr = ip("2001:db8::10");
	struct dhcp6_reply reply;

	(void)state;
	add_ia(&q, DHCP6_IA_NA, "2001:db8::77");
	assert_int_equal(answer(&q, true, &reply), DROP_NONE);
	assert_int_equal(reply.ias[0].n_leases, 1);
	assert_true(ip_eq(&reply.ias[0].leases[0].addr, &addr));
}

static void a_confirm_tells_whether_all_addresses_are_on_link(void **state)
{
	struct dhcp6_query q = query_of(DHCP6_CONFIRM, NO_SERVER);
	struct dhcp6_reply reply;

	(void)state;
	add_ia(&q, DHCP6_IA_NA, NULL);
	assert_int_equal(answer(&q, true, &reply), DROP_DHCP6);
	add_ia(&q, DHCP6_IA_NA, "2001:db8::77");
	assert_int_equal(answer(&q, true, &reply), DROP_NONE);
	assert_int_equal(reply.status, DHCP6_SUCCESS);
	add_ia(&q, DHCP6_IA_NA, "2001:db8:1::10");
	assert_int_equal(answer(&q, true, &reply), DROP_NONE);
	assert_int_equal(reply.status, DHCP6_NOT_ON_LINK);
}

static void a_renewed_address_that_is_gone_comes_back_with_no_lifetime(void **state)
{
	struct dhcp6_query q = query_of(DHCP6_RENEW, OURS);
	struct ip_addr old = ip("2001:db8:1::10");
	struct dhcp6_reply reply;

	(void)state;
	add_ia(&q, DHCP6_IA_NA, "2001:db8:1::10");
	assert_int_equal(answer(&q, true, &reply), DROP_NONE);
	assert_int_equal(reply.ias[0].n_leases, 2);
	assert_int_equal(reply.ias[0].leases[0].valid_s, DHCP6_VALID_S);
	assert_true(ip_eq(&reply.ias[0].leases[1].addr, &old));
	assert_int_equal(reply.ias[0].leases[1].valid_s, 0);
	assert_int_equal(reply.ias[0].leases[1].preferred_s, 0);
}

static void a_rebind_without_an_address_to_give_is_not_answered(void **state)
{
	struct dhcp6_query q = query_of(DHCP6_REBIND, NO_SERVER);
	struct dhcp6_reply reply;
	struct netconf net;

	(void)state;
	fill_net(&net);
	net.v[IP6].addr = (struct ip_addr){ .q = { 0, 0 } };
	add_ia(&q, DHCP6_IA_NA, "2001:db8::10");
	assert_int_equal(dhcp6_answer(&no_config, &net,
				      (struct dhcp6_bytes){ our_duid, sizeof(our_duid) }, &q, true,
				      &reply),
			 DROP_DHCP6);
}

static void a_release_of_another_address_has_no_binding(void **state)
{
	struct dhcp6_query q = query_of(DHCP6_RELEASE, OURS);
	struct dhcp6_reply reply;

	(void)state;
	add_ia(&q, DHCP6_IA_NA, "2001:db8::10");
	add_ia(&q, DHCP6_IA_NA, "2001:db8::77");
	assert_int_equal(answer(&q, true, &reply), DROP_NONE);
	assert_int_equal(reply.status, DHCP6_SUCCESS);
	assert_int_equal(reply.n_ias, 1);
	assert_int_equal(reply.ias[0].iaid, 2);
	assert_int_equal(reply.ias[0].status, DHCP6_NO_BINDING);
}

static const uint8_t wanted[] = { 0, 23, 0, 24, 0, 39 };

static void an_information_request_gets_what_it_asks_for(void **state)
{
	struct dhcp6_query q = query_of(DHCP6_INFORMATION_REQUEST, NO_SERVER);
	struct dhcp6_reply reply;

	(void)state;
	q.client_id.len = 0;
	assert_int_equal(answer(&q, true, &reply), DROP_NONE);
	assert_int_equal(reply.n_dns + reply.n_search, 0);
	q.wanted = (struct dhcp6_bytes){ wanted, sizeof(wanted) };
	assert_int_equal(answer(&q, true, &reply), DROP_NONE);
	assert_int_equal(reply.n_dns, 1);
	assert_int_equal(reply.n_search, 2);
}

static void the_full_name_is_given_to_who_sends_and_asks(void **state)
{
	struct dhcp6_query q = query_of(DHCP6_SOLICIT, NO_SERVER);
	struct dhcp6_reply reply;

	(void)state;
	q.has_fqdn = true;
	q.fqdn_flags = DHCP6_FQDN_S;
	assert_int_equal(answer(&q, true, &reply), DROP_NONE);
	assert_null(reply.fqdn);
	q.wanted = (struct dhcp6_bytes){ wanted, sizeof(wanted) };
	assert_int_equal(answer(&q, true, &reply), DROP_NONE);
	assert_int_equal(reply.fqdn_flags, DHCP6_FQDN_N | DHCP6_FQDN_O);
	q.has_fqdn = false;
	assert_int_equal(answer(&q, true, &reply), DROP_NONE);
	assert_null(reply.fqdn);
}

static void resolvers_and_search_list_can_be_switched_off(void **state)
{
	struct config config = { .no_dhcp_dns = true, .no_dhcp_search = true };
	struct dhcp6_query q = query_of(DHCP6_INFORMATION_REQUEST, NO_SERVER);
	struct dhcp6_reply reply;
	struct netconf net;

	(void)state;
	fill_net(&net);
	q.wanted = (struct dhcp6_bytes){ wanted, sizeof(wanted) };
	assert_int_equal(dhcp6_answer(&config, &net,
				      (struct dhcp6_bytes){ our_duid, sizeof(our_duid) }, &q, true,
				      &reply),
			 DROP_NONE);
	assert_int_equal(reply.n_dns + reply.n_search, 0);
}

static void a_message_full_of_ias_is_answered_within_bounds(void **state)
{
	struct dhcp6_query q = query_of(DHCP6_RENEW, OURS);
	uint8_t bytes[DHCP6_REPLY_MAX];
	struct dhcp6_reply reply;

	(void)state;
	for (unsigned int i = 0; i < DHCP6_MAX_IAS; i++) {
		struct dhcp6_query_ia *ia = add_ia(&q, DHCP6_IA_NA, "2001:db8:1::1");

		while (ia->n_addrs < DHCP6_MAX_ADDRS)
			ia->addrs[ia->n_addrs++] = ip("2001:db8:2::2");
	}
	assert_int_equal(answer(&q, true, &reply), DROP_NONE);
	assert_int_equal(reply.ias[0].n_leases, DHCP6_MAX_ADDRS + 1);
	assert_int_equal(dhcp6_encode(bytes, sizeof(bytes), &reply), 0);
}

static void the_server_has_its_group_and_its_own_addresses(void **state)
{
	struct ip_addr dst;
	struct netconf net;

	(void)state;
	fill_net(&net);
	dst = ip("ff02::1:2");
	assert_true(dhcp6_is_for_us(&net.v[IP6], &dst));
	dst = ip("fe80::1");
	assert_true(dhcp6_is_for_us(&net.v[IP6], &dst));
	dst = ip("ff02::1");
	assert_false(dhcp6_is_for_us(&net.v[IP6], &dst));
	dst = ip("2001:db8::77");
	assert_false(dhcp6_is_for_us(&net.v[IP6], &dst));
}

#define N_CASES (sizeof(cases) / sizeof(cases[0]))

int main(void)
{
	const struct CMUnitTest fixed[] = {
		cmocka_unit_test(the_first_ia_na_gets_the_address_and_no_other),
		cmocka_unit_test(a_rapid_commit_is_made_where_asked_for),
		cmocka_unit_test(nothing_is_committed_where_there_is_no_address),
		cmocka_unit_test(a_request_for_an_address_of_another_link_gets_not_on_link),
		cmocka_unit_test(a_request_for_a_neighbours_address_gets_ours),
		cmocka_unit_test(a_confirm_tells_whether_all_addresses_are_on_link),
		cmocka_unit_test(a_renewed_address_that_is_gone_comes_back_with_no_lifetime),
		cmocka_unit_test(a_rebind_without_an_address_to_give_is_not_answered),
		cmocka_unit_test(a_release_of_another_address_has_no_binding),
		cmocka_unit_test(an_information_request_gets_what_it_asks_for),
		cmocka_unit_test(the_full_name_is_given_to_who_sends_and_asks),
		cmocka_unit_test(resolvers_and_search_list_can_be_switched_off),
		cmocka_unit_test(a_message_full_of_ias_is_answered_within_bounds),
		cmocka_unit_test(the_server_has_its_group_and_its_own_addresses),
	};
	struct CMUnitTest rows[N_CASES];

	for (size_t i = 0; i < N_CASES; i++)
		rows[i] = (struct CMUnitTest){ .name = cases[i].name,
					       .test_func = message_is_answered_or_dropped,
					       .initial_state = &cases[i] };
	return cmocka_run_group_tests(fixed, NULL, NULL) + cmocka_run_group_tests(rows, NULL, NULL);
}
