/* SPDX-License-Identifier: Apache-2.0 */
#include "taploom/netconf.h"

#include <arpa/inet.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

/* A host with both versions, its resolvers in resolv, and an empty command line. */
struct setting {
	struct config config;
	struct host_net host;
	struct resolv_conf resolv;
	struct netconf net;
};

static struct ip_addr addr(const char *text)
{
	uint8_t wire[16];

	if (inet_pton(AF_INET, text, wire) == 1)
		return ip4_addr_of(wire);
	assert_int_equal(inet_pton(AF_INET6, text, wire), 1);
	return ip6_addr_of(wire);
}

static void assert_addr(struct ip_addr actual, const char *expected)
{
	struct ip_addr wanted = { 0 };

	if (*expected)
		wanted = addr(expected);
	assert_memory_equal(&actual, &wanted, sizeof(wanted));
}

static int setup(void **state)
{
	struct setting *s = calloc(1, sizeof(*s));

	if (!s)
		return -1;
	s->config.mtu = 65520;
	s->host.v[IP4].ifindex = s->host.v[IP6].ifindex = 7;
	s->host.v[IP4].addr = addr("192.0.2.2");
	s->host.v[IP4].prefix_len = 26;
	s->host.v[IP4].gateway = addr("192.0.2.1");
	s->host.v[IP6].addr = addr("2001:db8::2");
	s->host.v[IP6].prefix_len = 128;
	s->host.v[IP6].gateway = addr("fe80::99");
	*state = s;
	return 0;
}

static int teardown(void **state)
{
	free(*state);
	return 0;
}

static const struct netconf *build(struct setting *s)
{
	netconf_build(&s->net, &s->config, &s->host, &s->resolv, NULL);
	return &s->net;
}

/* Builds anew, with the configuration built last as the one before. */
static const struct netconf *rebuild(struct setting *s)
{
	struct netconf before = s->net;

	netconf_build(&s->net, &s->config, &s->host, &s->resolv, &before);
	return &s->net;
}

static void add_resolver(struct setting *s, const char *text)
{
	s->resolv.dns[s->resolv.n_dns++] = addr(text);
}

static void forget_host(struct setting *s, enum ip_version v)
{
	memset(&s->host.v[v], 0, sizeof(s->host.v[v]));
}

static void the_guest_gets_the_hosts_addresses(void **state)
{
	const struct netconf *net = build(*state);

	assert_true(net->v[IP4].on && net->v[IP6].on);
	assert_addr(net->v[IP4].addr, "192.0.2.2");
	assert_int_equal(net->v[IP4].prefix_len, 26);
	assert_addr(net->v[IP4].gateway, "192.0.2.1");
	assert_addr(net->v[IP6].addr, "2001:db8::2");
	assert_addr(net->v[IP6].gateway, "fe80::99");
	assert_int_equal(net->v[IP6].ifindex, 7);
	assert_int_equal(net->mtu, 65520);
}

static void an_ipv6_prefix_fits_autoconfiguration(void **state)
{
	assert_int_equal(build(*state)->v[IP6].prefix_len, 64);
}

static void a_link_local_router_is_who_we_are(void **state)
{
	assert_addr(build(*state)->v[IP6].our_local, "fe80::99");
}

static void a_global_router_leaves_us_a_link_local_address(void **state)
{
	struct setting *s = *state;

	s->host.v[IP6].gateway = addr("2001:db8::1");
	assert_addr(build(s)->v[IP6].gateway, "2001:db8::1");
	assert_addr(s->net.v[IP6].our_local, "fe80::1");
}

static void addresses_of_the_user_come_first(void **state)
{
	struct setting *s = *state;

	s->config.addr[IP4] = addr("10.0.2.100");
	s->config.prefix_len[IP4] = 24;
	s->config.gateway[IP4] = addr("10.0.2.2");
	s->config.addr[IP6] = addr("2001:db8:1::2");
	s->config.gateway[IP6] = addr("fe80::7");
	build(s);
	assert_addr(s->net.v[IP4].addr, "10.0.2.100");
	assert_int_equal(s->net.v[IP4].prefix_len, 24);
	assert_addr(s->net.v[IP4].gateway, "10.0.2.2");
	assert_addr(s->net.v[IP6].addr, "2001:db8:1::2");
	assert_addr(s->net.v[IP6].gateway, "fe80::7");
	assert_addr(s->net.v[IP6].our_local, "fe80::7");
}

static void the_hosts_own_address_keeps_its_prefix_length(void **state)
{
	struct setting *s = *state;

	s->config.addr[IP4] = addr("192.0.2.2");
	assert_int_equal(build(s)->v[IP4].prefix_len, 26);
}

static struct class_case {
	const char *name;
	const char *addr;
	uint8_t prefix_len;
} class_cases[] = {
	{ "a class A address has a prefix of 8", "10.0.0.1", 8 },
	{ "a class B address has a prefix of 16", "172.16.0.1", 16 },
	{ "a class C address has a prefix of 24", "192.168.0.1", 24 },
	{ "an address without class has a prefix of 32", "240.0.0.1", 32 },
};

static void class_gives_the_prefix_length(void **state)
{
	const struct class_case *c = *state;
	struct setting *s;
	void *setting;

	assert_int_equal(setup(&setting), 0);
	s = setting;
	s->config.addr[IP4] = addr(c->addr);
	assert_int_equal(build(s)->v[IP4].prefix_len, c->prefix_len);
	teardown(&setting);
}

static void an_on_link_default_route_still_gives_a_router(void **state)
{
	struct setting *s = *state;

	s->host.v[IP4].gateway = s->host.v[IP6].gateway = (struct ip_addr){ 0 };
	build(s);
	assert_addr(s->net.v[IP4].addr, "192.0.2.2");
	assert_addr(s->net.v[IP4].gateway, "169.254.2.2");
	assert_addr(s->net.v[IP6].gateway, "fe80::1");
}

static void with_no_network_there_is_a_local_one(void **state)
{
	struct setting *s = *state;

	forget_host(s, IP4);
	forget_host(s, IP6);
	build(s);
	assert_true(s->net.v[IP4].on && s->net.v[IP6].on);
	assert_addr(s->net.v[IP4].addr, "169.254.2.1");
	assert_int_equal(s->net.v[IP4].prefix_len, 16);
	assert_addr(s->net.v[IP4].gateway, "169.254.2.2");
	assert_addr(s->net.v[IP4].map_host_loopback, "169.254.2.2");
	assert_addr(s->net.v[IP6].addr, "");
	assert_addr(s->net.v[IP6].gateway, "fe80::1");
	assert_addr(s->net.v[IP6].our_local, "fe80::1");
}

static void a_version_without_address_is_off_beside_one_with(void **state)
{
	struct setting *s = *state;

	forget_host(s, IP6);
	build(s);
	assert_true(s->net.v[IP4].on);
	assert_false(s->net.v[IP6].on);
}

static void an_address_of_the_user_turns_a_version_on(void **state)
{
	struct setting *s = *state;

	forget_host(s, IP6);
	s->config.addr[IP6] = addr("2001:db8::9");
	assert_true(build(s)->v[IP6].on);
	assert_addr(s->net.v[IP6].gateway, "fe80::1");
}

static void a_version_comes_up_when_the_host_gets_an_address(void **state)
{
	struct setting *s = *state;
	struct host_net host = s->host;

	forget_host(s, IP4);
	forget_host(s, IP6);
	build(s);
	s->host.v[IP4] = host.v[IP4];
	rebuild(s);
	assert_addr(s->net.v[IP4].addr, "192.0.2.2");
	assert_false(s->net.v[IP6].on);
	s->host.v[IP6] = host.v[IP6];
	rebuild(s);
	assert_true(s->net.v[IP6].on);
}

static void a_version_turned_off_stays_off(void **state)
{
	struct setting *s = *state;

	s->config.family_off[IP4] = true;
	build(s);
	assert_false(s->net.v[IP4].on);
	assert_true(s->net.v[IP6].on);
}

static void the_only_version_left_has_a_local_network(void **state)
{
	struct setting *s = *state;

	s->config.family_off[IP6] = true;
	forget_host(s, IP4);
	build(s);
	assert_true(s->net.v[IP4].on);
	assert_false(s->net.v[IP6].on);
	assert_addr(s->net.v[IP4].addr, "169.254.2.1");
}

static void the_gateway_stands_for_the_hosts_loopback(void **state)
{
	const struct netconf *net = build(*state);

	assert_addr(net->v[IP4].map_host_loopback, "192.0.2.1");
	assert_addr(net->v[IP6].map_host_loopback, "fe80::99");
}

static void no_map_gw_leaves_the_gateway_alone(void **state)
{
	struct setting *s = *state;

	s->config.no_map_gw = true;
	build(s);
	assert_addr(s->net.v[IP4].map_host_loopback, "");
	assert_addr(s->net.v[IP6].map_host_loopback, "");
}

static void an_address_for_the_hosts_loopback_holds_beside_no_map_gw(void **state)
{
	struct setting *s = *state;

	s->config.no_map_gw = true;
	s->config.map_host_loopback[IP4] = addr("169.254.9.9");
	s->config.map_host_loopback_set[IP4] = true;
	assert_addr(build(s)->v[IP4].map_host_loopback, "169.254.9.9");
}

static void map_host_loopback_none_maps_nothing(void **state)
{
	struct setting *s = *state;

	s->config.map_host_loopback_set[IP4] = true;
	assert_addr(build(s)->v[IP4].map_host_loopback, "");
	assert_addr(s->net.v[IP6].map_host_loopback, "fe80::99");
}

static void outbound_options_are_passed_on(void **state)
{
	struct setting *s = *state;

	s->config.outbound_addr[IP4] = addr("192.0.2.7");
	s->config.map_guest_addr[IP6] = addr("2001:db8::77");
	strcpy(s->config.outbound_if[IP4], "eth7");
	build(s);
	assert_addr(s->net.v[IP4].outbound_addr, "192.0.2.7");
	assert_string_equal(s->net.v[IP4].outbound_if, "eth7");
	assert_string_equal(s->net.v[IP6].outbound_if, "");
	assert_addr(s->net.v[IP6].map_guest_addr, "2001:db8::77");
}

static void resolvers_are_told_by_version(void **state)
{
	struct setting *s = *state;

	add_resolver(s, "198.51.100.1");
	add_resolver(s, "2001:db8::53");
	add_resolver(s, "198.51.100.2");
	build(s);
	assert_int_equal(s->net.v[IP4].n_dns, 2);
	assert_addr(s->net.v[IP4].dns[0], "198.51.100.1");
	assert_addr(s->net.v[IP4].dns[1], "198.51.100.2");
	assert_int_equal(s->net.v[IP6].n_dns, 1);
	assert_addr(s->net.v[IP4].dns_match, "");
}

static void resolvers_of_the_user_replace_the_hosts(void **state)
{
	struct setting *s = *state;

	add_resolver(s, "198.51.100.1");
	s->config.dns_set = true;
	s->config.dns[s->config.n_dns++] = addr("203.0.113.1");
	build(s);
	assert_int_equal(s->net.v[IP4].n_dns, 1);
	assert_addr(s->net.v[IP4].dns[0], "203.0.113.1");
}

static void a_loopback_resolver_of_the_user_is_the_guests_own(void **state)
{
	struct setting *s = *state;

	s->config.dns_set = true;
	s->config.dns[s->config.n_dns++] = addr("127.0.0.1");
	s->config.dns[s->config.n_dns++] = addr("::1");
	build(s);
	assert_int_equal(s->net.v[IP4].n_dns, 1);
	assert_addr(s->net.v[IP4].dns[0], "127.0.0.1");
	assert_addr(s->net.v[IP4].dns_match, "");
	assert_addr(s->net.v[IP6].dns[0], "::1");
}

static void dns_forward_leads_to_the_hosts_resolver_whatever_is_told(void **state)
{
	struct setting *s = *state;

	add_resolver(s, "198.51.100.1");
	s->config.dns_forward[IP4] = addr("169.254.1.1");
	s->config.dns_set = true;
	assert_int_equal(build(s)->v[IP4].n_dns, 0);
	assert_addr(s->net.v[IP4].dns_match, "169.254.1.1");
	assert_addr(s->net.v[IP4].dns_target, "198.51.100.1");
	s->config.dns[s->config.n_dns++] = addr("203.0.113.1");
	assert_int_equal(build(s)->v[IP4].n_dns, 1);
	assert_addr(s->net.v[IP4].dns[0], "203.0.113.1");
	assert_addr(s->net.v[IP4].dns_target, "198.51.100.1");
}

static void a_resolver_that_is_the_routers_own_address_is_not_shadowed(void **state)
{
	struct setting *s = *state;

	s->config.gateway[IP6] = addr("2001:db8::1");
	add_resolver(s, "fe80::1");
	build(s);
	assert_addr(s->net.v[IP6].our_local, "fe80::1");
	assert_addr(s->net.v[IP6].dns[0], "fe80::1");
	assert_addr(s->net.v[IP6].dns_match, "fe80::1");
	assert_addr(s->net.v[IP6].dns_target, "fe80::1");
}

static void dns_none_tells_no_resolver(void **state)
{
	struct setting *s = *state;

	add_resolver(s, "198.51.100.1");
	s->config.dns_set = true;
	assert_int_equal(build(s)->v[IP4].n_dns, 0);
}

static void a_resolver_that_is_the_gateway_is_not_shadowed(void **state)
{
	struct setting *s = *state;

	add_resolver(s, "192.0.2.1");
	build(s);
	assert_addr(s->net.v[IP4].dns[0], "192.0.2.1");
	assert_addr(s->net.v[IP4].dns_match, "192.0.2.1");
	assert_addr(s->net.v[IP4].dns_target, "192.0.2.1");
}

static void a_gateway_not_mapped_needs_no_dns_match(void **state)
{
	struct setting *s = *state;

	s->config.no_map_gw = true;
	add_resolver(s, "192.0.2.1");
	build(s);
	assert_addr(s->net.v[IP4].dns[0], "192.0.2.1");
	assert_addr(s->net.v[IP4].dns_match, "");
}

static void a_loopback_resolver_is_behind_the_gateway(void **state)
{
	struct setting *s = *state;

	add_resolver(s, "127.0.0.53");
	add_resolver(s, "::1");
	build(s);
	assert_int_equal(s->net.v[IP4].n_dns, 1);
	assert_addr(s->net.v[IP4].dns[0], "192.0.2.1");
	assert_addr(s->net.v[IP4].dns_match, "192.0.2.1");
	assert_addr(s->net.v[IP4].dns_target, "127.0.0.53");
	assert_addr(s->net.v[IP6].dns[0], "fe80::99");
	assert_addr(s->net.v[IP6].dns_target, "::1");
}

static void only_the_first_loopback_resolver_is_behind_the_gateway(void **state)
{
	struct setting *s = *state;

	add_resolver(s, "127.0.0.53");
	add_resolver(s, "127.0.0.54");
	add_resolver(s, "192.0.2.1");
	build(s);
	assert_int_equal(s->net.v[IP4].n_dns, 1);
	assert_addr(s->net.v[IP4].dns_target, "127.0.0.53");
}

static void a_loopback_resolver_without_mapping_is_left_out(void **state)
{
	struct setting *s = *state;

	s->config.no_map_gw = true;
	add_resolver(s, "127.0.0.53");
	add_resolver(s, "198.51.100.1");
	build(s);
	assert_int_equal(s->net.v[IP4].n_dns, 1);
	assert_addr(s->net.v[IP4].dns[0], "198.51.100.1");
}

static void a_resolver_on_the_guests_address_is_behind_the_gateway(void **state)
{
	struct setting *s = *state;

	add_resolver(s, "192.0.2.2");
	build(s);
	assert_addr(s->net.v[IP4].dns[0], "192.0.2.1");
	assert_addr(s->net.v[IP4].dns_target, "192.0.2.2");
}

static void dns_forward_is_told_first_and_reaches_the_first_resolver(void **state)
{
	struct setting *s = *state;

	s->config.no_map_gw = true;
	s->config.dns_forward[IP4] = addr("169.254.1.1");
	add_resolver(s, "127.0.0.53");
	add_resolver(s, "198.51.100.1");
	build(s);
	assert_int_equal(s->net.v[IP4].n_dns, 2);
	assert_addr(s->net.v[IP4].dns[0], "169.254.1.1");
	assert_addr(s->net.v[IP4].dns[1], "198.51.100.1");
	assert_addr(s->net.v[IP4].dns_match, "169.254.1.1");
	assert_addr(s->net.v[IP4].dns_target, "127.0.0.53");
}

static void dns_forward_reaches_the_resolver_of_dns_host(void **state)
{
	struct setting *s = *state;

	s->config.dns_forward[IP4] = addr("169.254.1.1");
	s->config.dns_host[IP4] = addr("127.0.0.9");
	add_resolver(s, "198.51.100.1");
	assert_addr(build(s)->v[IP4].dns_target, "127.0.0.9");
}

static void dns_forward_without_resolver_is_not_told(void **state)
{
	struct setting *s = *state;

	s->config.dns_forward[IP4] = addr("169.254.1.1");
	add_resolver(s, "2001:db8::53");
	build(s);
	assert_int_equal(s->net.v[IP4].n_dns, 0);
	assert_addr(s->net.v[IP4].dns_match, "");
}

static void at_most_three_resolvers_are_told(void **state)
{
	struct setting *s = *state;

	s->config.dns_forward[IP4] = addr("169.254.1.1");
	add_resolver(s, "198.51.100.1");
	add_resolver(s, "198.51.100.2");
	add_resolver(s, "198.51.100.3");
	build(s);
	assert_int_equal(s->net.v[IP4].n_dns, MAX_DNS);
	assert_addr(s->net.v[IP4].dns[2], "198.51.100.2");
}

static void the_hosts_search_list_is_told(void **state)
{
	struct setting *s = *state;

	s->resolv.n_search = 1;
	strcpy(s->resolv.search[0].name, "host.test");
	strcpy(s->config.hostname, "guest");
	strcpy(s->config.fqdn, "guest.test");
	build(s);
	assert_int_equal(s->net.n_search, 1);
	assert_string_equal(s->net.search[0].name, "host.test");
	assert_string_equal(s->net.hostname, "guest");
	assert_string_equal(s->net.fqdn, "guest.test");
}

static void a_search_list_of_the_user_replaces_the_hosts(void **state)
{
	struct setting *s = *state;

	s->resolv.n_search = 1;
	strcpy(s->resolv.search[0].name, "host.test");
	s->config.search_set = true;
	assert_int_equal(build(s)->n_search, 0);
}

static void our_mac_is_locally_administered_unless_given(void **state)
{
	struct setting *s = *state;
	static const struct eth_addr given = { { 2, 0, 0, 0, 0, 1 } };

	assert_int_equal(build(s)->our_mac.b[0] & 3, 2);
	s->config.our_mac = given;
	s->config.our_mac_set = true;
	assert_true(eth_eq(&build(s)->our_mac, &given));
}

static void addresses_seen_are_carried_over(void **state)
{
	struct setting *s = *state;

	build(s);
	s->net.v[IP4].seen = addr("192.0.2.50");
	s->net.v[IP6].seen_local = addr("fe80::5");
	s->host.v[IP4].addr = addr("192.0.2.3");
	rebuild(s);
	assert_addr(s->net.v[IP4].seen, "192.0.2.50");
	assert_addr(s->net.v[IP6].seen_local, "fe80::5");
}

static void a_seen_address_stays_while_it_is_assigned(void **state)
{
	struct setting *s = *state;

	build(s);
	s->net.v[IP4].seen = s->net.v[IP4].addr;
	assert_addr(rebuild(s)->v[IP4].seen, "192.0.2.2");
}

static void a_seen_address_of_a_machine_outlives_its_assignment(void **state)
{
	struct setting *s = *state;

	build(s);
	s->net.v[IP4].seen = s->net.v[IP4].addr;
	s->host.v[IP4].addr = addr("192.0.2.3");
	assert_addr(rebuild(s)->v[IP4].seen, "192.0.2.2");
}

#define TEST(f)	      cmocka_unit_test_setup_teardown(f, setup, teardown)
#define N_CLASS_CASES (sizeof(class_cases) / sizeof(class_cases[0]))

static const struct CMUnitTest plain_tests[] = {
	TEST(the_guest_gets_the_hosts_addresses),
	TEST(an_ipv6_prefix_fits_autoconfiguration),
	TEST(a_link_local_router_is_who_we_are),
	TEST(a_global_router_leaves_us_a_link_local_address),
	TEST(addresses_of_the_user_come_first),
	TEST(the_hosts_own_address_keeps_its_prefix_length),
	TEST(an_on_link_default_route_still_gives_a_router),
	TEST(with_no_network_there_is_a_local_one),
	TEST(a_version_without_address_is_off_beside_one_with),
	TEST(an_address_of_the_user_turns_a_version_on),
	TEST(a_version_comes_up_when_the_host_gets_an_address),
	TEST(a_version_turned_off_stays_off),
	TEST(the_only_version_left_has_a_local_network),
	TEST(the_gateway_stands_for_the_hosts_loopback),
	TEST(no_map_gw_leaves_the_gateway_alone),
	TEST(an_address_for_the_hosts_loopback_holds_beside_no_map_gw),
	TEST(map_host_loopback_none_maps_nothing),
	TEST(outbound_options_are_passed_on),
	TEST(resolvers_are_told_by_version),
	TEST(resolvers_of_the_user_replace_the_hosts),
	TEST(dns_none_tells_no_resolver),
	TEST(a_loopback_resolver_of_the_user_is_the_guests_own),
	TEST(dns_forward_leads_to_the_hosts_resolver_whatever_is_told),
	TEST(a_resolver_that_is_the_routers_own_address_is_not_shadowed),
	TEST(a_resolver_that_is_the_gateway_is_not_shadowed),
	TEST(a_gateway_not_mapped_needs_no_dns_match),
	TEST(a_loopback_resolver_is_behind_the_gateway),
	TEST(only_the_first_loopback_resolver_is_behind_the_gateway),
	TEST(a_loopback_resolver_without_mapping_is_left_out),
	TEST(a_resolver_on_the_guests_address_is_behind_the_gateway),
	TEST(dns_forward_is_told_first_and_reaches_the_first_resolver),
	TEST(dns_forward_reaches_the_resolver_of_dns_host),
	TEST(dns_forward_without_resolver_is_not_told),
	TEST(at_most_three_resolvers_are_told),
	TEST(the_hosts_search_list_is_told),
	TEST(a_search_list_of_the_user_replaces_the_hosts),
	TEST(our_mac_is_locally_administered_unless_given),
	TEST(addresses_seen_are_carried_over),
	TEST(a_seen_address_stays_while_it_is_assigned),
	TEST(a_seen_address_of_a_machine_outlives_its_assignment),
};

int main(void)
{
	struct CMUnitTest class_tests[N_CLASS_CASES];
	int failed = cmocka_run_group_tests_name("netconf", plain_tests, NULL, NULL);

	for (size_t i = 0; i < N_CLASS_CASES; i++)
		class_tests[i] = (struct CMUnitTest){ .name = class_cases[i].name,
						      .test_func = class_gives_the_prefix_length,
						      .initial_state = &class_cases[i] };
	return failed + cmocka_run_group_tests_name("netconf by class", class_tests, NULL, NULL);
}
