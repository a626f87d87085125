/* SPDX-License-Identifier: Apache-2.0 */
/* links: tap */
/*
 * Addresses between the guest's view and the host's.
 */
#include "map.h"

#include <arpa/inet.h>
#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static struct netconf net;

static struct ip_addr addr_of(const char *text)
{
	struct in_addr in;
	struct in6_addr in6;

	if (inet_pton(AF_INET, text, &in) == 1)
		return ip4_addr_of(&in);
	assert_int_equal(inet_pton(AF_INET6, text, &in6), 1);
	return ip6_addr_of(&in6);
}

static int make(void **state)
{
	(void)state;
	net = (struct netconf){ 0 };
	for (int i = 0; i < IP_VERSIONS; i++)
		net.v[i].on = true;
	net.v[IP4].addr = addr_of("192.0.2.10");
	net.v[IP4].gateway = addr_of("192.0.2.1");
	net.v[IP4].map_host_loopback = addr_of("192.0.2.1");
	net.v[IP4].map_guest_addr = addr_of("192.0.2.99");
	net.v[IP4].dns_match = addr_of("192.0.2.53");
	net.v[IP4].dns_target = addr_of("127.0.0.53");
	net.v[IP6].addr = addr_of("2001:db8::10");
	net.v[IP6].map_host_loopback = addr_of("fe80::1");
	return 0;
}

static struct to_host_case {
	const char *name;
	const char *dst;
	uint16_t port;
	enum drop drop;
	const char *want;
} to_host[] = {
	{ "a remote address stays", "198.51.100.1", 80, DROP_NONE, "198.51.100.1" },
	{ "a remote IPv6 address stays", "2001:db8:1::1", 80, DROP_NONE, "2001:db8:1::1" },
	{ "the gateway's address is the host's loopback", "192.0.2.1", 80, DROP_NONE, "127.0.0.1" },
	{ "the IPv6 gateway's address is the host's loopback", "fe80::1", 80, DROP_NONE, "::1" },
	{ "the mapped guest address is the host's own", "192.0.2.99", 80, DROP_NONE, "192.0.2.10" },
	{ "DNS to the forwarder goes to the resolver", "192.0.2.53", 53, DROP_NONE, "127.0.0.53" },
	{ "DNS over TLS does so too", "192.0.2.53", 853, DROP_NONE, "127.0.0.53" },
	{ "another port of the forwarder stays", "192.0.2.53", 54, DROP_NONE, "192.0.2.53" },
	{ "loopback is refused", "127.0.0.1", 80, DROP_IP_DEST, NULL },
	{ "all of 127.0.0.0/8 is refused", "127.9.9.9", 80, DROP_IP_DEST, NULL },
	{ "IPv6 loopback is refused", "::1", 80, DROP_IP_DEST, NULL },
	{ "0.0.0.0 is refused", "0.0.0.0", 80, DROP_IP_DEST, NULL },
	{ "the unspecified IPv6 address is refused", "::", 80, DROP_IP_DEST, NULL },
};

static void goes_to_the_host(void **state)
{
	const struct to_host_case *c = *state;
	struct endpoint dst = { addr_of(c->dst), c->port }, out;
	struct ip_addr want;

	assert_int_equal(map_to_host(&net, &dst, IPPROTO_TCP, &out), c->drop);
	if (!c->want)
		return;
	want = addr_of(c->want);
	assert_true(ip_eq(&out.addr, &want));
	assert_int_equal(out.port, c->port);
}

static void a_version_that_is_off_is_refused(void **state)
{
	struct endpoint dst = { addr_of("198.51.100.1"), 80 }, out;

	(void)state;
	net.v[IP4].on = false;
	assert_int_equal(map_to_host(&net, &dst, IPPROTO_TCP, &out), DROP_FAMILY_OFF);
}

static struct to_guest_case {
	const char *name;
	const char *peer;
	const char *want;
} to_guest[] = {
	{ "a remote peer is shown as it is", "198.51.100.1", "198.51.100.1" },
	{ "the host's loopback is shown as the gateway", "127.0.0.1", "192.0.2.1" },
	{ "the host's own address is shown as the mapped one", "192.0.2.10", "192.0.2.99" },
	{ "IPv6 loopback is shown as the gateway", "::1", "fe80::1" },
};

static void comes_to_the_guest(void **state)
{
	const struct to_guest_case *c = *state;
	struct ip_addr peer = addr_of(c->peer), want = addr_of(c->want), out;

	assert_true(map_to_guest(&net, &peer, &peer, &out));
	assert_true(ip_eq(&out, &want));
}

static void loopback_without_a_mapping_is_not_shown(void **state)
{
	struct ip_addr peer = addr_of("127.0.0.1"), out;

	(void)state;
	net.v[IP4].map_host_loopback = net.v[IP4].gateway = (struct ip_addr){ 0 };
	assert_false(map_to_guest(&net, &peer, &peer, &out));
}

static void the_router_stands_for_a_gateway_elsewhere(void **state)
{
	struct endpoint router = { addr_of("fe80::1"), 80 }, out;
	struct ip_addr gateway = addr_of("2001:db8::1"), other = addr_of("2001:db8::99"),
		       loopback = addr_of("::1");

	(void)state;
	net.v[IP6].our_local = router.addr;
	net.v[IP6].gateway = net.v[IP6].map_host_loopback = gateway;
	assert_int_equal(map_to_host(&net, &router, 6, &out), DROP_NONE);
	assert_true(ip_eq(&out.addr, &loopback));
	net.v[IP6].map_host_loopback = other;
	assert_int_equal(map_to_host(&net, &router, 6, &out), DROP_NONE);
	assert_true(ip_eq(&out.addr, &router.addr));
	net.v[IP6].map_host_loopback = (struct ip_addr){ 0 };
	assert_int_equal(map_to_host(&net, &router, 6, &out), DROP_NONE);
	assert_true(ip_eq(&out.addr, &router.addr));
}

static void the_guest_is_where_it_was_seen(void **state)
{
	struct ip_addr out, seen = addr_of("192.0.2.77");

	(void)state;
	assert_true(map_guest_addr(&net, IP4, false, &out));
	assert_true(ip_eq(&out, &net.v[IP4].addr));
	net.v[IP4].seen = seen;
	assert_true(map_guest_addr(&net, IP4, false, &out));
	assert_true(ip_eq(&out, &seen));
}

static void a_sockaddr_comes_back(void **state)
{
	const char *const texts[] = { "192.0.2.5", "2001:db8::5" };

	(void)state;
	for (int i = 0; i < 2; i++) {
		struct endpoint e = { addr_of(texts[i]), 4711 }, back;
		struct sockaddr_storage sa;

		assert_int_equal(sockaddr_of(&e, 0, &sa),
				 i ? sizeof(struct sockaddr_in6) : sizeof(struct sockaddr_in));
		assert_true(endpoint_of(&sa, &back));
		assert_true(ip_eq(&e.addr, &back.addr));
		assert_int_equal(back.port, 4711);
	}
}

static void link_local_addresses_get_the_scope(void **state)
{
	struct endpoint e = { addr_of("fe80::5"), 1 };
	struct sockaddr_storage sa;
	struct sockaddr_in6 in6;

	(void)state;
	sockaddr_of(&e, 7, &sa);
	memcpy(&in6, &sa, sizeof(in6));
	assert_int_equal(in6.sin6_scope_id, 7);
	e.addr = addr_of("2001:db8::1");
	sockaddr_of(&e, 7, &sa);
	memcpy(&in6, &sa, sizeof(in6));
	assert_int_equal(in6.sin6_scope_id, 0);
}

#define N_TO_HOST  (sizeof(to_host) / sizeof(to_host[0]))
#define N_TO_GUEST (sizeof(to_guest) / sizeof(to_guest[0]))

int main(void)
{
	const struct CMUnitTest plain[] = {
		cmocka_unit_test_setup(a_version_that_is_off_is_refused, make),
		cmocka_unit_test_setup(loopback_without_a_mapping_is_not_shown, make),
		cmocka_unit_test_setup(the_router_stands_for_a_gateway_elsewhere, make),
		cmocka_unit_test_setup(the_guest_is_where_it_was_seen, make),
		cmocka_unit_test(a_sockaddr_comes_back),
		cmocka_unit_test(link_local_addresses_get_the_scope),
	};
	struct CMUnitTest rows[N_TO_HOST + N_TO_GUEST];

	for (size_t i = 0; i < N_TO_HOST; i++)
		rows[i] = (struct CMUnitTest){ to_host[i].name, goes_to_the_host, NULL, NULL,
					       &to_host[i] };
	for (size_t i = 0; i < N_TO_GUEST; i++)
		rows[N_TO_HOST + i] = (struct CMUnitTest){ to_guest[i].name, comes_to_the_guest,
							   NULL, NULL, &to_guest[i] };
	return cmocka_run_group_tests(rows, make, NULL) + cmocka_run_group_tests(plain, NULL, NULL);
}
