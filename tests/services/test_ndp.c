/* SPDX-License-Identifier: Apache-2.0 */
/* links: tap */
#include "services_lib.h"

#include "ndp.h"

static const struct config no_config;

static struct valid_case {
	const char *name;
	uint8_t type;
	uint8_t code;
	uint8_t hop_limit;
	bool source_link;
	const char *src;
	const char *dst;
	const char *target;
	bool valid;
} valid_cases[] = {
	{ "a solicitation to its node's group is valid", NDP_NS, 0, 255, true, "fe80::2",
	  "ff02::1:ff00:99", "2001:db8::99", true },
	{ "a unicast solicitation is valid", NDP_NS, 0, 255, true, "fe80::2", "2001:db8::99",
	  "2001:db8::99", true },
	{ "duplicate address detection is valid", NDP_NS, 0, 255, false, "::", "ff02::1:ff00:99",
	  "2001:db8::99", true },
	{ "a hop limit of 254 is not", NDP_NS, 0, 254, true, "fe80::2", "ff02::1:ff00:99",
	  "2001:db8::99", false },
	{ "a code other than 0 is not", NDP_NS, 1, 255, true, "fe80::2", "ff02::1:ff00:99",
	  "2001:db8::99", false },
	{ "a multicast target is not", NDP_NS, 0, 255, true, "fe80::2", "ff02::1:ff00:99",
	  "ff02::1", false },
	{ "no source and unicast are not", NDP_NS, 0, 255, false, "::", "2001:db8::99",
	  "2001:db8::99", false },
	{ "no source but its link-layer address are not", NDP_NS, 0, 255, true,
	  "::", "ff02::1:ff00:99", "2001:db8::99", false },
	{ "a router solicitation is valid", NDP_RS, 0, 255, true, "fe80::2", "ff02::2",
	  "::", true },
	{ "a router solicitation without source is valid", NDP_RS, 0, 255, false, "::", "ff02::2",
	  "::", true },
	{ "a router solicitation from nobody's link-layer address is not", NDP_RS, 0, 255, true,
	  "::", "ff02::2", "::", false },
};

static void message_is_valid_or_not(void **state)
{
	const struct valid_case *c = *state;
	struct ndp_query query = { c->type, c->code, ip(c->target), c->source_link };
	struct ip_addr src = ip(c->src);
	struct ip_addr dst = ip(c->dst);

	assert_int_equal(ndp_is_valid(&query, &src, &dst, c->hop_limit), c->valid);
}

static struct ns_case {
	const char *name;
	const char *src;
	const char *target;
	bool answered;
	bool router;
} ns_cases[] = {
	{ "the router is advertised as one", "fe80::2", "fe80::1", true, true },
	{ "a neighbour is advertised as none", "fe80::2", "2001:db8::99", true, false },
	{ "any address is answered for", "fe80::2", "2001:db8:ffff::1", true, false },
	{ "the assigned address is the guest's own", "fe80::2", "2001:db8::10", false, false },
	{ "the address that was seen is the guest's own", "fe80::2", "2001:db8::20", false, false },
	{ "its link-local address is the guest's own", "fe80::2", "fe80::20", false, false },
	{ "duplicate address detection is not answered", "::", "2001:db8::99", false, false },
	{ "loopback is no neighbour", "fe80::2", "::1", false, false },
	{ "the unspecified address is no neighbour", "fe80::2", "::", false, false },
	{ "a mapped IPv4 address is no neighbour", "fe80::2", "::ffff:192.0.2.1", false, false },
};

static void solicitation_is_answered_or_not(void **state)
{
	const struct ns_case *c = *state;
	struct ndp_query query = { .type = NDP_NS, .target = ip(c->target) };
	struct ip_addr src = ip(c->src);
	struct netconf net;
	struct ndp_na na;

	fill_net(&net);
	net.v[IP6].seen = ip("2001:db8::20");
	net.v[IP6].seen_local = ip("fe80::20");
	assert_int_equal(ndp_answer_ns(&net, &query, &src, &na), c->answered);
	if (!c->answered)
		return;
	assert_int_equal(na.flags & NDP_NA_ROUTER, c->router ? NDP_NA_ROUTER : 0);
	assert_int_equal(na.flags & NDP_NA_SOLICITED, NDP_NA_SOLICITED);
	assert_true(ip_eq(&na.target, &query.target));
	assert_true(eth_eq(&na.target_mac, &our_mac));
}

static struct ndp_ra ra_of(const struct config *config, const struct netconf *net)
{
	static const struct ndp_router fresh;
	struct ndp_ra ra;

	ndp_fill_ra(&fresh, config, net, &ra);
	return ra;
}

static void a_64_is_on_link_and_autonomous(void **state)
{
	struct netconf net;
	struct ndp_ra ra;

	(void)state;
	fill_net(&net);
	ra = ra_of(&no_config, &net);
	assert_int_equal(ra.n_prefixes, 1);
	assert_true(ra.prefixes[0].on_link && ra.prefixes[0].autonomous);
	assert_true(ra.managed && ra.other);
	assert_int_equal(ra.lifetime_s, NDP_ROUTER_LIFETIME_S);
	assert_int_equal(ra.mtu, 1500);
}

static void another_prefix_is_on_link_and_a_64_autonomous(void **state)
{
	struct netconf net;
	struct ndp_ra ra;

	(void)state;
	fill_net(&net);
	net.v[IP6].prefix_len = 80;
	ra = ra_of(&no_config, &net);
	assert_int_equal(ra.n_prefixes, 2);
	assert_true(ra.prefixes[0].len == 64 && ra.prefixes[0].autonomous &&
		    !ra.prefixes[0].on_link);
	assert_true(ra.prefixes[1].len == 80 && ra.prefixes[1].on_link &&
		    !ra.prefixes[1].autonomous);
	net.v[IP6].prefix_len = 128;
	assert_int_equal(ra_of(&no_config, &net).n_prefixes, 1);
}

static void flags_follow_dhcpv6(void **state)
{
	struct config config = { .no_dhcp6 = true };
	struct netconf net;
	struct ndp_ra ra;

	(void)state;
	fill_net(&net);
	ra = ra_of(&config, &net);
	assert_false(ra.managed || ra.other);
	net.v[IP6].addr = (struct ip_addr){ .q = { 0, 0 } };
	ra = ra_of(&no_config, &net);
	assert_false(ra.managed);
	assert_true(ra.other);
	assert_int_equal(ra.n_prefixes, 0);
}

static void an_mtu_that_ipv6_forbids_is_not_announced(void **state)
{
	struct netconf net;

	(void)state;
	fill_net(&net);
	net.mtu = 1279;
	assert_int_equal(ra_of(&no_config, &net).mtu, 0);
	net.mtu = 0;
	assert_int_equal(ra_of(&no_config, &net).mtu, 0);
}

static void resolvers_and_search_list_can_be_switched_off(void **state)
{
	struct config config = { .no_dhcp_dns = true, .no_dhcp_search = true };
	struct netconf net;

	(void)state;
	fill_net(&net);
	assert_int_equal(ra_of(&no_config, &net).given.n_dns, 1);
	assert_int_equal(ra_of(&no_config, &net).given.n_search, 2);
	assert_int_equal(ra_of(&config, &net).given.n_dns, 0);
	assert_int_equal(ra_of(&config, &net).given.n_search, 0);
}

static void switches_and_versions_decide_whether_there_is_a_router(void **state)
{
	struct config no_ra = { .no_ra = true };
	struct config no_ndp = { .no_ndp = true };
	struct netconf net;

	(void)state;
	fill_net(&net);
	assert_true(ndp_advertises(&no_config, &net));
	assert_false(ndp_advertises(&no_ra, &net));
	assert_false(ndp_advertises(&no_ndp, &net));
	net.v[IP6].on = false;
	assert_false(ndp_advertises(&no_config, &net));
}

static void a_change_takes_back_prefix_resolvers_and_domains(void **state)
{
	struct ndp_router router = { 0 };
	struct netconf before;
	struct netconf now;
	struct ndp_ra ra;

	(void)state;
	fill_net(&before);
	fill_net(&now);
	now.v[IP6].addr = ip("2001:db8:1::10");
	now.v[IP6].dns[0] = ip("2001:db8:1::53");
	now.n_search = 1;
	ndp_router_changed(&router, &before, &now, 1);
	ndp_fill_ra(&router, &no_config, &now, &ra);
	assert_int_equal(ra.n_prefixes, 2);
	assert_int_equal(ra.prefixes[1].preferred_s, 0);
	assert_int_equal(ra.withdrawn.lifetime_s, 0);
	assert_int_equal(ra.withdrawn.n_dns, 1);
	assert_true(ip_eq(&ra.withdrawn.dns[0], &before.v[IP6].dns[0]));
	assert_int_equal(ra.withdrawn.n_search, 1);
	for (unsigned int i = 0; i < NDP_INITIAL_RAS; i++)
		ndp_router_sent(&router, i, 0);
	ndp_fill_ra(&router, &no_config, &now, &ra);
	assert_int_equal(ra.n_prefixes, 1);
	assert_int_equal(ra.withdrawn.n_dns + ra.withdrawn.n_search, 0);
}

static void a_prefix_that_comes_back_is_not_deprecated(void **state)
{
	struct ndp_router router = { 0 };
	struct netconf a;
	struct netconf b;
	struct ndp_ra ra;

	(void)state;
	fill_net(&a);
	fill_net(&b);
	b.v[IP6].addr = ip("2001:db8:1::10");
	ndp_router_changed(&router, &a, &b, 1);
	ndp_router_changed(&router, &b, &a, 2);
	ndp_fill_ra(&router, &no_config, &a, &ra);
	assert_int_equal(ra.n_prefixes, 2);
	assert_int_not_equal(ra.prefixes[0].preferred_s, 0);
	assert_int_equal(ra.prefixes[1].prefix.b[5], 1);
}

static void names_of_two_changes_are_taken_back(void **state)
{
	struct ndp_router router = { 0 };
	struct netconf a, b, c;
	struct ndp_ra ra;

	(void)state;
	fill_net(&a);
	fill_net(&b);
	b.v[IP6].dns[0] = ip("2001:db8:1::53");
	b.n_search = 1;
	c = b;
	c.v[IP6].addr = ip("2001:db8:1::10");
	ndp_router_changed(&router, &a, &b, 1);
	ndp_router_changed(&router, &b, &c, 2);
	ndp_fill_ra(&router, &no_config, &c, &ra);
	assert_int_equal(ra.withdrawn.n_dns, 1);
	assert_true(ip_eq(&ra.withdrawn.dns[0], &a.v[IP6].dns[0]));
	assert_int_equal(ra.withdrawn.n_search, 1);
	ndp_router_changed(&router, &c, &a, 3); /* what comes back is not */
	ndp_fill_ra(&router, &no_config, &a, &ra);
	assert_int_equal(ra.withdrawn.n_dns, 1);
	assert_true(ip_eq(&ra.withdrawn.dns[0], &b.v[IP6].dns[0]));
	assert_int_equal(ra.withdrawn.n_search, 0);
}

static void many_changes_keep_the_last_four_prefixes(void **state)
{
	struct ndp_router router = { 0 };
	struct netconf before;
	struct netconf now;

	(void)state;
	fill_net(&before);
	fill_net(&now);
	for (uint8_t i = 1; i < 20; i++) {
		now.v[IP6].addr.b[7] = i;
		ndp_router_changed(&router, &before, &now, i);
		before = now;
	}
	assert_int_equal(router.n_old_prefixes, NDP_MAX_OLD_PREFIXES);
	assert_int_equal(router.old_prefixes[0].prefix.b[7], 15);
	assert_int_equal(router.old_prefixes[3].prefix.b[7], 18);
}

static void intervals_are_drawn_between_the_limits(void **state)
{
	struct ndp_router router = { .n_initial = NDP_INITIAL_RAS };

	(void)state;
	ndp_router_sent(&router, 100, 0);
	assert_int_equal(router.next_us, 100 + NDP_MIN_INTERVAL_US);
	ndp_router_sent(&router, 100, UINT32_MAX);
	assert_in_range(router.next_us, NDP_MAX_INTERVAL_US, 100 + NDP_MAX_INTERVAL_US);
}

#define ROWS(cases, func)                                                                          \
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)                              \
		rows[n++] = (struct CMUnitTest)                                                    \
		{                                                                                  \
			.name = cases[i].name, .test_func = (func), .initial_state = &cases[i]     \
		}

int main(void)
{
	const struct CMUnitTest fixed[] = {
		cmocka_unit_test(a_64_is_on_link_and_autonomous),
		cmocka_unit_test(another_prefix_is_on_link_and_a_64_autonomous),
		cmocka_unit_test(flags_follow_dhcpv6),
		cmocka_unit_test(an_mtu_that_ipv6_forbids_is_not_announced),
		cmocka_unit_test(resolvers_and_search_list_can_be_switched_off),
		cmocka_unit_test(switches_and_versions_decide_whether_there_is_a_router),
		cmocka_unit_test(a_change_takes_back_prefix_resolvers_and_domains),
		cmocka_unit_test(a_prefix_that_comes_back_is_not_deprecated),
		cmocka_unit_test(names_of_two_changes_are_taken_back),
		cmocka_unit_test(many_changes_keep_the_last_four_prefixes),
		cmocka_unit_test(intervals_are_drawn_between_the_limits),
	};
	struct CMUnitTest rows[sizeof(valid_cases) / sizeof(valid_cases[0]) +
			       sizeof(ns_cases) / sizeof(ns_cases[0])];
	size_t n = 0;

	ROWS(valid_cases, message_is_valid_or_not);
	ROWS(ns_cases, solicitation_is_answered_or_not);
	return cmocka_run_group_tests(fixed, NULL, NULL) + cmocka_run_group_tests(rows, NULL, NULL);
}
