/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Discovery against the kernel, in a network namespace that this process makes for itself. That
 * takes root, and ip(8) to set it up.
 */
#include "taploom/services.h"

#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

static const struct config plain;

/* A new namespace for each test, and discovery in it; the state is NULL where there is no right to
 * that. */
static int setup(void **state)
{
	struct discovery *discovery;

	*state = NULL;
	if (unshare(CLONE_NEWNET) < 0 || system("ip link set lo up") != 0) {
		print_message("skipped: no right to a network namespace, or no ip(8)\n");
		return 0;
	}
	if (discovery_open(&discovery, &plain) < 0)
		return -1;
	*state = discovery;
	return 0;
}

static int teardown(void **state)
{
	discovery_close(*state);
	return 0;
}

static bool read_events(struct discovery *discovery)
{
	role_is_control();
	return discovery_read(discovery);
}

static void run(const char *command)
{
	assert_int_equal(system(command), 0);
}

static void add_interface(void)
{
	run("ip link add veth0 mtu 1380 type veth peer name veth1");
	run("ip link set veth1 up && ip link set veth0 up");
	run("ip address add 192.0.2.2/24 dev veth0");
	run("ip address add 2001:db8::2/64 dev veth0 nodad");
	run("ip route add default via 192.0.2.1");
	run("ip route add default via 2001:db8::1");
}

static struct host_net get(struct discovery *discovery)
{
	struct host_net host;

	assert_int_equal(discovery_get(discovery, &host), 0);
	return host;
}

static void an_empty_namespace_has_no_interface(void **state)
{
	struct host_net host;

	if (!*state)
		skip();
	host = get(*state);
	assert_int_equal(host.v[IP4].ifindex, 0);
	assert_int_equal(host.v[IP6].ifindex, 0);
	assert_true(ip_is_unset(&host.v[IP4].addr));
}

static void a_new_interface_is_taken_up(void **state)
{
	static const uint8_t addr4[] = { 192, 0, 2, 2 }, gateway4[] = { 192, 0, 2, 1 };
	static const uint8_t addr6[16] = { 0x20, 0x01, 0x0d, 0xb8, [15] = 2 };
	struct host_net host;

	if (!*state)
		skip();
	add_interface();
	assert_true(read_events(*state));
	host = get(*state);
	assert_string_equal(host.v[IP4].ifname, "veth0");
	assert_string_equal(host.v[IP6].ifname, "veth0");
	assert_memory_equal(host.v[IP4].addr.b + 12, addr4, 4);
	assert_memory_equal(host.v[IP4].gateway.b + 12, gateway4, 4);
	assert_int_equal(host.v[IP4].prefix_len, 24);
	assert_int_equal(host.v[IP4].mtu, 1380);
	assert_memory_equal(host.v[IP6].addr.b, addr6, 16);
	assert_int_equal(host.v[IP6].gateway.b[15], 1);
}

static void an_address_that_goes_is_let_go(void **state)
{
	struct host_net host;

	if (!*state)
		skip();
	add_interface();
	read_events(*state);
	get(*state);
	run("ip address del 192.0.2.2/24 dev veth0");
	assert_true(read_events(*state));
	host = get(*state);
	assert_true(ip_is_unset(&host.v[IP4].addr));
	assert_true(ip_is_unset(&host.v[IP4].gateway));
	assert_false(ip_is_unset(&host.v[IP6].addr));
}

/* A link that redials, and one that any machine with containers has beside it: a guess would be
 * that one, as the first that is up with an address. */
static void an_interface_of_an_on_link_route_stays_when_it_loses_all(void **state)
{
	if (!*state)
		skip();
	run("ip link add docker0 type veth peer name docker1");
	run("ip link set docker0 up; ip link set docker1 up");
	run("ip address add 172.17.0.1/16 dev docker0");
	add_interface();
	run("ip route del default; ip route add default dev veth0");
	read_events(*state);
	assert_string_equal(get(*state).v[IP4].ifname, "veth0");
	run("ip address del 192.0.2.2/24 dev veth0"); /* and with it the route */
	assert_true(read_events(*state));
	assert_string_equal(get(*state).v[IP4].ifname, "veth0");
}

static void nothing_new_is_told_when_nothing_changed(void **state)
{
	if (!*state)
		skip();
	run("ip route add 203.0.113.0/24 dev lo");
	assert_false(read_events(*state));
}

/* The events of 3000 addresses are more than the socket's buffer takes. */
static void events_that_were_lost_make_a_new_dump(void **state)
{
	struct host_net host;
	FILE *ip;

	if (!*state)
		skip();
	ip = popen("ip -batch -", "w");
	assert_non_null(ip);
	for (int i = 0; i < 3000; i++)
		fprintf(ip, "address add 10.%d.%d.1/32 dev lo\naddress del 10.%d.%d.1/32 dev lo\n",
			i / 250, i % 250, i / 250, i % 250);
	assert_int_equal(pclose(ip), 0);
	add_interface();
	assert_true(read_events(*state));
	host = get(*state);
	assert_string_equal(host.v[IP4].ifname, "veth0");
}

static void there_are_more_interfaces_than_fit_into_one_answer(void **state)
{
	if (!*state)
		skip();
	run("for i in $(seq 40); do echo link add a$i type veth peer name b$i; done | ip -batch -");
	add_interface();
	read_events(*state);
	assert_string_equal(get(*state).v[IP4].ifname, "veth0");
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(an_empty_namespace_has_no_interface),
		TEST(a_new_interface_is_taken_up),
		TEST(an_address_that_goes_is_let_go),
		TEST(an_interface_of_an_on_link_route_stays_when_it_loses_all),
		TEST(nothing_new_is_told_when_nothing_changed),
		TEST(events_that_were_lost_make_a_new_dump),
		TEST(there_are_more_interfaces_than_fit_into_one_answer),
	};

	return cmocka_run_group_tests_name("discovery", tests, NULL, NULL);
}
