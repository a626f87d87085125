/* SPDX-License-Identifier: Apache-2.0 */
#include "netlink.h"

#include <arpa/inet.h>
#include <errno.h>
#include <libmnl/libmnl.h>
#include <linux/if_addr.h>
#include <linux/if_link.h>
#include <linux/rtnetlink.h>
#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#define SEQ 42

/* A dump in the making. */
struct dump {
	_Alignas(struct nlmsghdr) uint8_t bytes[8192];
	size_t len;
};

static struct nlmsghdr *begin(struct dump *dump, uint16_t type)
{
	struct nlmsghdr *msg = mnl_nlmsg_put_header(dump->bytes + dump->len);

	msg->nlmsg_type = type;
	msg->nlmsg_seq = SEQ;
	return msg;
}

static void end(struct dump *dump, const struct nlmsghdr *msg)
{
	dump->len += (msg->nlmsg_len + 3u) & ~3u;
	assert_true(dump->len < sizeof(dump->bytes));
}

static void put_done(struct dump *dump, uint16_t type, int32_t result)
{
	struct nlmsghdr *msg = begin(dump, type);

	memcpy(mnl_nlmsg_put_extra_header(msg, sizeof(result)), &result, sizeof(result));
	end(dump, msg);
}

static void put_link(struct dump *dump, int ifindex, const char *name, unsigned int flags)
{
	struct nlmsghdr *msg = begin(dump, RTM_NEWLINK);
	struct ifinfomsg *info = mnl_nlmsg_put_extra_header(msg, sizeof(*info));
	uint8_t mac[ETH_ADDR_LEN] = { 2, 0, 0, 0, 0, (uint8_t)ifindex };

	info->ifi_index = ifindex;
	info->ifi_flags = flags;
	mnl_attr_put_strz(msg, IFLA_IFNAME, name);
	mnl_attr_put(msg, IFLA_ADDRESS, sizeof(mac), mac);
	mnl_attr_put_u32(msg, IFLA_MTU, 1400);
	end(dump, msg);
}

/* Adds an attribute with an address of either version; returns its family. */
static uint8_t put_addr_attr(struct nlmsghdr *msg, uint16_t type, const char *text)
{
	uint8_t wire[16];

	if (inet_pton(AF_INET, text, wire) == 1) {
		mnl_attr_put(msg, type, 4, wire);
		return AF_INET;
	}
	assert_int_equal(inet_pton(AF_INET6, text, wire), 1);
	mnl_attr_put(msg, type, 16, wire);
	return AF_INET6;
}

static void put_address(struct dump *dump, unsigned int ifindex, const char *text, uint8_t prefix,
			uint8_t scope, uint32_t flags)
{
	struct nlmsghdr *msg = begin(dump, RTM_NEWADDR);
	struct ifaddrmsg *info = mnl_nlmsg_put_extra_header(msg, sizeof(*info));

	info->ifa_index = ifindex;
	info->ifa_prefixlen = prefix;
	info->ifa_scope = scope;
	info->ifa_family = put_addr_attr(msg, IFA_ADDRESS, text);
	mnl_attr_put_u32(msg, IFA_FLAGS, flags);
	end(dump, msg);
}

static void put_global(struct dump *dump, unsigned int ifindex, const char *text, uint8_t prefix)
{
	put_address(dump, ifindex, text, prefix, RT_SCOPE_UNIVERSE, IFA_F_PERMANENT);
}

/* A default route, to be ended with end(). */
static struct nlmsghdr *begin_route(struct dump *dump, uint8_t family, uint32_t table)
{
	struct nlmsghdr *msg = begin(dump, RTM_NEWROUTE);
	struct rtmsg *info = mnl_nlmsg_put_extra_header(msg, sizeof(*info));

	info->rtm_family = family;
	info->rtm_type = RTN_UNICAST;
	mnl_attr_put_u32(msg, RTA_TABLE, table);
	return msg;
}

static void put_route(struct dump *dump, uint8_t family, uint32_t ifindex, const char *gateway,
		      uint32_t metric)
{
	struct nlmsghdr *msg = begin_route(dump, family, RT_TABLE_MAIN);

	mnl_attr_put_u32(msg, RTA_OIF, ifindex);
	mnl_attr_put_u32(msg, RTA_PRIORITY, metric);
	if (gateway)
		put_addr_attr(msg, RTA_GATEWAY, gateway);
	end(dump, msg);
}

/* lo, eth0 (2) and eth1 (3), up, each with an address of both versions; no route. */
static void put_two_links(struct dump *dump)
{
	put_link(dump, 1, "lo", IFF_UP | IFF_LOOPBACK);
	put_link(dump, 2, "eth0", IFF_UP);
	put_link(dump, 3, "eth1", IFF_UP);
	put_address(dump, 1, "127.0.0.1", 8, RT_SCOPE_HOST, 0);
	put_global(dump, 2, "192.0.2.2", 24);
	put_global(dump, 3, "198.51.100.3", 25);
	put_address(dump, 2, "fe80::2", 64, RT_SCOPE_LINK, 0);
	put_global(dump, 2, "2001:db8:2::2", 64);
	put_global(dump, 3, "2001:db8:3::3", 64);
	put_address(dump, 3, "fe80::3", 64, RT_SCOPE_LINK, 0);
}

/* before: the interface that was selected for IPv4. */
static struct host_net select_after(const struct dump *dump, const struct config *config,
				    unsigned int before)
{
	static const struct config plain;
	struct netlink_state state = { 0 };
	struct host_net host;

	assert_int_equal(netlink_state_take(&state, dump->bytes, dump->len, SEQ), 1);
	state.before[IP4] = before;
	netlink_select(&state, config ? config : &plain, &host);
	netlink_state_clear(&state);
	return host;
}

static struct host_net select_from(const struct dump *dump, const struct config *config)
{
	return select_after(dump, config, 0);
}

static void assert_addr(struct ip_addr actual, const char *expected)
{
	uint8_t wire[16];
	struct ip_addr wanted = { 0 };

	if (inet_pton(AF_INET, expected, wire) == 1)
		wanted = ip4_addr_of(wire);
	else if (inet_pton(AF_INET6, expected, wire) == 1)
		wanted = ip6_addr_of(wire);
	assert_memory_equal(&actual, &wanted, sizeof(wanted));
}

static void the_default_route_gives_the_interface(void **state)
{
	struct dump dump = { .len = 0 };
	struct host_net host;

	(void)state;
	put_two_links(&dump);
	put_route(&dump, AF_INET, 3, "198.51.100.1", 0);
	put_route(&dump, AF_INET6, 2, "fe80::99", 1024);
	host = select_from(&dump, NULL);
	assert_int_equal(host.v[IP4].ifindex, 3);
	assert_string_equal(host.v[IP4].ifname, "eth1");
	assert_int_equal(host.v[IP4].mtu, 1400);
	assert_int_equal(host.v[IP4].mac.b[5], 3);
	assert_int_equal(host.v[IP4].prefix_len, 25);
	assert_addr(host.v[IP4].addr, "198.51.100.3");
	assert_addr(host.v[IP4].gateway, "198.51.100.1");
	assert_int_equal(host.v[IP6].ifindex, 2);
	assert_addr(host.v[IP6].addr, "2001:db8:2::2");
	assert_addr(host.v[IP6].gateway, "fe80::99");
	assert_addr(host.v[IP6].link_local, "fe80::2");
}

static void the_lowest_metric_wins(void **state)
{
	struct dump dump = { .len = 0 };

	(void)state;
	put_two_links(&dump);
	put_route(&dump, AF_INET, 3, "198.51.100.1", 200);
	put_route(&dump, AF_INET, 2, "192.0.2.1", 100);
	assert_int_equal(select_from(&dump, NULL).v[IP4].ifindex, 2);
}

static void the_first_of_equal_routes_wins(void **state)
{
	struct dump dump = { .len = 0 };

	(void)state;
	put_two_links(&dump);
	put_route(&dump, AF_INET, 3, "198.51.100.1", 100);
	put_route(&dump, AF_INET, 2, "192.0.2.1", 100);
	assert_int_equal(select_from(&dump, NULL).v[IP4].ifindex, 3);
}

static void another_tables_route_does_not_count(void **state)
{
	struct dump dump = { .len = 0 };
	struct nlmsghdr *msg;

	(void)state;
	put_two_links(&dump);
	msg = begin_route(&dump, AF_INET, 100);
	mnl_attr_put_u32(msg, RTA_OIF, 3);
	end(&dump, msg);
	put_route(&dump, AF_INET, 2, "192.0.2.1", 100);
	assert_int_equal(select_from(&dump, NULL).v[IP4].ifindex, 2);
}

static void an_unreachable_default_route_does_not_count(void **state)
{
	struct dump dump = { .len = 0 };
	struct nlmsghdr *msg;

	(void)state;
	put_two_links(&dump);
	msg = begin_route(&dump, AF_INET6, RT_TABLE_MAIN);
	((struct rtmsg *)mnl_nlmsg_get_payload(msg))->rtm_type = RTN_UNREACHABLE;
	mnl_attr_put_u32(msg, RTA_OIF, 3);
	end(&dump, msg);
	put_route(&dump, AF_INET6, 2, "fe80::99", 1024);
	assert_int_equal(select_from(&dump, NULL).v[IP6].ifindex, 2);
}

static void the_first_of_several_next_hops_counts(void **state)
{
	struct dump dump = { .len = 0 };
	struct {
		struct rtnexthop hop;
		struct nlattr attr;
		uint8_t gateway[4];
	} hops[2] = { { { 16, 0, 0, 3 }, { 8, RTA_GATEWAY }, { 198, 51, 100, 1 } },
		      { { 16, 0, 0, 2 }, { 8, RTA_GATEWAY }, { 192, 0, 2, 1 } } };
	struct nlmsghdr *msg;
	struct host_net host;

	(void)state;
	put_two_links(&dump);
	msg = begin_route(&dump, AF_INET, RT_TABLE_MAIN);
	mnl_attr_put(msg, RTA_MULTIPATH, sizeof(hops), hops);
	end(&dump, msg);
	host = select_from(&dump, NULL);
	assert_int_equal(host.v[IP4].ifindex, 3);
	assert_addr(host.v[IP4].gateway, "198.51.100.1");
}

static void a_next_hop_that_lies_about_its_length_is_passed_over(void **state)
{
	struct dump dump = { .len = 0 };
	struct rtnexthop hop = { .rtnh_len = 64, .rtnh_ifindex = 3 };
	struct nlmsghdr *msg;

	(void)state;
	put_two_links(&dump);
	msg = begin_route(&dump, AF_INET, RT_TABLE_MAIN);
	mnl_attr_put(msg, RTA_MULTIPATH, sizeof(hop), &hop);
	end(&dump, msg);
	assert_int_equal(select_from(&dump, NULL).v[IP4].ifindex, 2);
}

static void a_gateway_of_the_other_version_is_none(void **state)
{
	struct dump dump = { .len = 0 };
	uint8_t via[18] = { AF_INET6, 0, 0xfe, 0x80, [17] = 1 };
	struct nlmsghdr *msg;
	struct host_net host;

	(void)state;
	put_two_links(&dump);
	msg = begin_route(&dump, AF_INET, RT_TABLE_MAIN);
	mnl_attr_put_u32(msg, RTA_OIF, 3);
	mnl_attr_put(msg, RTA_VIA, sizeof(via), via);
	end(&dump, msg);
	host = select_from(&dump, NULL);
	assert_int_equal(host.v[IP4].ifindex, 3);
	assert_addr(host.v[IP4].gateway, "");
}

static void a_named_interface_counts_without_a_route(void **state)
{
	static const struct config config = { .ifname = "eth1" };
	struct dump dump = { .len = 0 };
	struct host_net host;

	(void)state;
	put_two_links(&dump);
	put_route(&dump, AF_INET, 2, "192.0.2.1", 0);
	put_route(&dump, AF_INET6, 3, "fe80::1", 0);
	host = select_from(&dump, &config);
	assert_int_equal(host.v[IP4].ifindex, 3);
	assert_addr(host.v[IP4].gateway, "");
	assert_addr(host.v[IP6].gateway, "fe80::1");
}

static void a_named_interface_that_is_not_there_gives_nothing(void **state)
{
	static const struct config config = { .ifname = "eth9" };
	struct dump dump = { .len = 0 };
	struct host_net host;

	(void)state;
	put_two_links(&dump);
	put_route(&dump, AF_INET, 2, "192.0.2.1", 0);
	host = select_from(&dump, &config);
	assert_int_equal(host.v[IP4].ifindex, 0);
	assert_addr(host.v[IP4].gateway, "");
}

static void an_outbound_interface_is_of_one_version(void **state)
{
	static const struct config config = { .outbound_if = { [IP6] = "eth1" } };
	struct dump dump = { .len = 0 };
	struct host_net host;

	(void)state;
	put_two_links(&dump);
	put_route(&dump, AF_INET, 2, "192.0.2.1", 0);
	put_route(&dump, AF_INET6, 2, "fe80::1", 0);
	host = select_from(&dump, &config);
	assert_int_equal(host.v[IP4].ifindex, 2);
	assert_int_equal(host.v[IP6].ifindex, 3);
}

static void without_routes_the_first_interface_up_is_taken(void **state)
{
	struct dump dump = { .len = 0 };
	struct host_net host;

	(void)state;
	put_link(&dump, 9, "down0", 0);
	put_global(&dump, 9, "203.0.113.9", 24);
	put_two_links(&dump);
	host = select_from(&dump, NULL);
	assert_int_equal(host.v[IP4].ifindex, 2);
	assert_int_equal(host.v[IP6].ifindex, 2);
}

/* A wireless link that is joined anew, beside a bridge that always has an address. */
static void without_routes_the_interface_of_before_stays(void **state)
{
	struct dump dump = { .len = 0 };
	struct host_net host;

	(void)state;
	put_link(&dump, 2, "docker0", IFF_UP);
	put_link(&dump, 3, "wlan0", IFF_UP);
	put_link(&dump, 4, "eth0", 0);
	put_global(&dump, 2, "172.17.0.1", 16);
	host = select_after(&dump, NULL, 3);
	assert_int_equal(host.v[IP4].ifindex, 3);
	assert_true(ip_is_unset(&host.v[IP4].addr));
	assert_int_equal(select_after(&dump, NULL, 4).v[IP4].ifindex, 0); /* it is down */
	assert_int_equal(select_after(&dump, NULL, 9).v[IP4].ifindex, 2); /* it is gone */
	put_route(&dump, AF_INET, 2, "172.17.0.9", 0);
	assert_int_equal(select_after(&dump, NULL, 3).v[IP4].ifindex, 2);
}

static void the_other_versions_route_goes_before_the_first_interface(void **state)
{
	struct dump dump = { .len = 0 };

	(void)state;
	put_two_links(&dump);
	put_route(&dump, AF_INET, 3, "198.51.100.1", 0);
	assert_int_equal(select_from(&dump, NULL).v[IP6].ifindex, 3);
}

static void a_loopback_address_is_never_taken(void **state)
{
	struct dump dump = { .len = 0 };

	(void)state;
	put_link(&dump, 1, "lo", IFF_UP | IFF_LOOPBACK);
	put_link(&dump, 2, "eth0", IFF_UP);
	put_address(&dump, 1, "127.0.0.1", 8, RT_SCOPE_HOST, 0);
	put_address(&dump, 1, "::1", 128, RT_SCOPE_HOST, 0);
	put_global(&dump, 1, "192.0.2.1", 32);
	assert_int_equal(select_from(&dump, NULL).v[IP4].ifindex, 0);
}

static struct address_case {
	const char *name;
	uint32_t flags; /* of 2001:db8::a, before 2001:db8::b of the others */
	uint32_t other_flags;
	const char *expected;
} address_cases[] = {
	{ "the first address is taken", 0, 0, "2001:db8::a" },
	{ "a tentative address is not taken", IFA_F_TENTATIVE, 0, "2001:db8::b" },
	{ "an optimistic address is taken", IFA_F_TENTATIVE | IFA_F_OPTIMISTIC, 0, "2001:db8::a" },
	{ "a duplicate address is not taken", IFA_F_DADFAILED, 0, "2001:db8::b" },
	{ "a temporary address comes after a stable one", IFA_F_TEMPORARY, 0, "2001:db8::b" },
	{ "a temporary address comes before none", IFA_F_TEMPORARY, IFA_F_TENTATIVE,
	  "2001:db8::a" },
	{ "a deprecated address comes after a temporary one", IFA_F_DEPRECATED, IFA_F_TEMPORARY,
	  "2001:db8::b" },
	{ "a deprecated address comes before none", IFA_F_DEPRECATED, IFA_F_TENTATIVE,
	  "2001:db8::a" },
};

static void takes_the_expected_address(void **state)
{
	const struct address_case *c = *state;
	struct dump dump = { .len = 0 };

	put_link(&dump, 2, "eth0", IFF_UP);
	put_address(&dump, 2, "2001:db8::a", 64, RT_SCOPE_UNIVERSE, c->flags);
	put_address(&dump, 2, "2001:db8::b", 64, RT_SCOPE_UNIVERSE, c->other_flags);
	assert_addr(select_from(&dump, NULL).v[IP6].addr, c->expected);
}

static void of_a_point_to_point_link_our_end_is_taken(void **state)
{
	struct dump dump = { .len = 0 };
	struct nlmsghdr *msg;
	struct ifaddrmsg *info;

	(void)state;
	put_link(&dump, 2, "ppp0", IFF_UP | IFF_POINTOPOINT);
	msg = begin(&dump, RTM_NEWADDR);
	info = mnl_nlmsg_put_extra_header(msg, sizeof(*info));
	*info = (struct ifaddrmsg){ .ifa_family = AF_INET, .ifa_prefixlen = 32, .ifa_index = 2 };
	put_addr_attr(msg, IFA_ADDRESS, "203.0.113.1");
	put_addr_attr(msg, IFA_LOCAL, "203.0.113.2");
	end(&dump, msg);
	assert_addr(select_from(&dump, NULL).v[IP4].addr, "203.0.113.2");
}

static void an_impossible_prefix_length_is_passed_over(void **state)
{
	struct dump dump = { .len = 0 };

	(void)state;
	put_link(&dump, 2, "eth0", IFF_UP);
	put_global(&dump, 2, "192.0.2.2", 33);
	assert_int_equal(select_from(&dump, NULL).v[IP4].ifindex, 0);
}

static int take(const struct dump *dump, size_t len, struct netlink_state *state)
{
	int rc = netlink_state_take(state, dump->bytes, len, SEQ);

	netlink_state_clear(state);
	return rc;
}

static void a_dump_ends_with_done(void **state)
{
	struct dump dump = { .len = 0 };
	struct netlink_state result = { 0 };

	(void)state;
	put_two_links(&dump);
	assert_int_equal(take(&dump, dump.len, &result), 1);
	put_done(&dump, NLMSG_DONE, 0);
	assert_int_equal(take(&dump, dump.len, &result), 0);
}

static void an_error_of_the_kernel_is_returned(void **state)
{
	struct dump refused = { .len = 0 }, broken_off = { .len = 0 };
	struct netlink_state result = { 0 };

	(void)state;
	put_done(&refused, NLMSG_ERROR, -EPERM);
	assert_int_equal(take(&refused, refused.len, &result), -EPERM);
	put_done(&broken_off, NLMSG_DONE, -ENOENT);
	assert_int_equal(take(&broken_off, broken_off.len, &result), -ENOENT);
}

static void answers_to_another_request_are_passed_over(void **state)
{
	struct dump dump = { .len = 0 };
	struct netlink_state result = { 0 };

	(void)state;
	put_two_links(&dump);
	put_done(&dump, NLMSG_DONE, 0);
	assert_int_equal(netlink_state_take(&result, dump.bytes, dump.len, SEQ + 1), 1);
	assert_int_equal(result.n_links, 0);
}

static void an_interrupted_dump_is_noted(void **state)
{
	struct dump dump = { .len = 0 };
	struct netlink_state result = { 0 };

	(void)state;
	put_done(&dump, NLMSG_DONE, 0);
	((struct nlmsghdr *)(void *)dump.bytes)->nlmsg_flags |= NLM_F_DUMP_INTR;
	assert_int_equal(netlink_state_take(&result, dump.bytes, dump.len, SEQ), 0);
	assert_true(result.interrupted);
}

static void a_message_cut_anywhere_is_passed_over(void **state)
{
	struct dump dump = { .len = 0 };
	struct netlink_state result = { 0 };

	(void)state;
	put_link(&dump, 2, "eth0", IFF_UP);
	for (size_t len = 0; len < dump.len; len++) {
		assert_int_equal(netlink_state_take(&result, dump.bytes, len, SEQ), 1);
		assert_int_equal(result.n_links, 0);
	}
}

static void a_message_of_huge_length_is_passed_over(void **state)
{
	struct dump dump = { .len = 0 };
	struct netlink_state result = { 0 };

	(void)state;
	put_link(&dump, 2, "eth0", IFF_UP);
	((struct nlmsghdr *)(void *)dump.bytes)->nlmsg_len = 0xfffffff0;
	assert_int_equal(take(&dump, dump.len, &result), 1);
}

static void a_change_of_an_address_matters(void **state)
{
	struct dump dump = { .len = 0 };

	(void)state;
	put_global(&dump, 2, "192.0.2.2", 24);
	assert_true(netlink_events_matter(dump.bytes, dump.len));
	((struct nlmsghdr *)(void *)dump.bytes)->nlmsg_type = RTM_DELADDR;
	assert_true(netlink_events_matter(dump.bytes, dump.len));
}

static void a_change_of_a_default_route_matters(void **state)
{
	struct dump dump = { .len = 0 };

	(void)state;
	put_route(&dump, AF_INET, 2, "192.0.2.1", 0);
	((struct nlmsghdr *)(void *)dump.bytes)->nlmsg_type = RTM_DELROUTE;
	assert_true(netlink_events_matter(dump.bytes, dump.len));
}

static void a_change_of_another_route_does_not_matter(void **state)
{
	struct dump dump = { .len = 0 };

	(void)state;
	put_route(&dump, AF_INET, 2, "192.0.2.1", 0);
	((struct rtmsg *)mnl_nlmsg_get_payload((void *)dump.bytes))->rtm_dst_len = 24;
	assert_false(netlink_events_matter(dump.bytes, dump.len));
}

#define N_ADDRESS_CASES (sizeof(address_cases) / sizeof(address_cases[0]))

static const struct CMUnitTest plain_tests[] = {
	cmocka_unit_test(the_default_route_gives_the_interface),
	cmocka_unit_test(the_lowest_metric_wins),
	cmocka_unit_test(the_first_of_equal_routes_wins),
	cmocka_unit_test(another_tables_route_does_not_count),
	cmocka_unit_test(an_unreachable_default_route_does_not_count),
	cmocka_unit_test(the_first_of_several_next_hops_counts),
	cmocka_unit_test(a_next_hop_that_lies_about_its_length_is_passed_over),
	cmocka_unit_test(a_gateway_of_the_other_version_is_none),
	cmocka_unit_test(a_named_interface_counts_without_a_route),
	cmocka_unit_test(a_named_interface_that_is_not_there_gives_nothing),
	cmocka_unit_test(an_outbound_interface_is_of_one_version),
	cmocka_unit_test(without_routes_the_first_interface_up_is_taken),
	cmocka_unit_test(without_routes_the_interface_of_before_stays),
	cmocka_unit_test(the_other_versions_route_goes_before_the_first_interface),
	cmocka_unit_test(a_loopback_address_is_never_taken),
	cmocka_unit_test(of_a_point_to_point_link_our_end_is_taken),
	cmocka_unit_test(an_impossible_prefix_length_is_passed_over),
	cmocka_unit_test(a_dump_ends_with_done),
	cmocka_unit_test(an_error_of_the_kernel_is_returned),
	cmocka_unit_test(answers_to_another_request_are_passed_over),
	cmocka_unit_test(an_interrupted_dump_is_noted),
	cmocka_unit_test(a_message_cut_anywhere_is_passed_over),
	cmocka_unit_test(a_message_of_huge_length_is_passed_over),
	cmocka_unit_test(a_change_of_an_address_matters),
	cmocka_unit_test(a_change_of_a_default_route_matters),
	cmocka_unit_test(a_change_of_another_route_does_not_matter),
};

int main(void)
{
	struct CMUnitTest address_tests[N_ADDRESS_CASES];
	int failed = cmocka_run_group_tests_name("netlink", plain_tests, NULL, NULL);

	for (size_t i = 0; i < N_ADDRESS_CASES; i++)
		address_tests[i] = (struct CMUnitTest){ .name = address_cases[i].name,
							.test_func = takes_the_expected_address,
							.initial_state = &address_cases[i] };
	return failed + cmocka_run_group_tests_name("addresses", address_tests, NULL, NULL);
}
