/* SPDX-License-Identifier: Apache-2.0 */
/* Which of a guest's addresses counts. links: */
#include "main/guest_addrs.h"

#include <arpa/inet.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

struct fixture {
	struct guest_addrs addrs;
	struct netconf_version net;
};

static struct ip_addr addr(const char *text)
{
	struct ip_addr out = { 0 };
	uint8_t v4[4];

	if (inet_pton(AF_INET, text, v4) == 1)
		return ip4_addr_of(v4);
	assert_int_equal(inet_pton(AF_INET6, text, out.b), 1);
	return out;
}

static int set_up(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	f->net.addr = f->net.seen = addr("192.0.2.2");
	*state = f;
	return 0;
}

static int tear_down(void **state)
{
	free(*state);
	return 0;
}

static bool waits(struct fixture *f, const char *text, uint32_t tick)
{
	struct ip_addr other = addr(text);

	role_is_control();
	return guest_addrs_waits(&f->addrs, &f->net, &other, tick);
}

static void one_that_is_not_seen_yet_counts_at_once(void **state)
{
	struct fixture *f = *state;

	f->net.seen = (struct ip_addr){ 0 };
	assert_false(waits(f, "192.0.2.99", 7));
	f->net.seen = addr("192.0.2.98");
	assert_false(waits(f, "192.0.2.99", 7));
}

static void the_one_given_counts_at_once(void **state)
{
	struct fixture *f = *state;

	f->net.seen = addr("192.0.2.98");
	assert_false(waits(f, "192.0.2.2", 7));
}

static void another_waits_until_the_one_given_is_silent(void **state)
{
	struct fixture *f = *state;

	assert_true(waits(f, "192.0.2.99", 7));
	assert_true(waits(f, "192.0.2.99", 8));
	assert_false(waits(f, "192.0.2.99", 9));
	assert_true(waits(f, "192.0.2.99", 10)); /* the next time it is the same */
}

static void another_waits_as_long_as_the_one_given_is_heard(void **state)
{
	struct fixture *f = *state;

	for (uint32_t tick = 7; tick < 60; tick++) {
		assert_true(waits(f, "192.0.2.99", tick));
		guest_addrs_heard(&f->addrs, IP4, tick);
	}
}

static void link_local_ones_are_apart(void **state)
{
	struct fixture *f = *state;

	f->net.addr = f->net.seen = addr("2001:db8::2");
	assert_false(waits(f, "fe80::2", 7));
	assert_true(waits(f, "2001:db8::99", 7));
}

static void who_asks_twice_in_a_tick_is_known(void **state)
{
	struct fixture *f = *state;
	struct ip_addr one = addr("192.0.2.7"), other = addr("192.0.2.8");

	assert_false(guest_addrs_lately(&f->addrs, &one, 7));
	assert_false(guest_addrs_lately(&f->addrs, &other, 7));
	assert_true(guest_addrs_lately(&f->addrs, &one, 7));
	assert_true(guest_addrs_lately(&f->addrs, &other, 7));
	assert_false(guest_addrs_lately(&f->addrs, &one, 8));
	role_is_control();
	guest_addrs_forget(&f->addrs);
	assert_false(guest_addrs_lately(&f->addrs, &one, 8));
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(one_that_is_not_seen_yet_counts_at_once),
		TEST(the_one_given_counts_at_once),
		TEST(another_waits_until_the_one_given_is_silent),
		TEST(another_waits_as_long_as_the_one_given_is_heard),
		TEST(link_local_ones_are_apart),
		TEST(who_asks_twice_in_a_tick_is_known),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
