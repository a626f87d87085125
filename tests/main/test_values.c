/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The small values that options are made of.
 */
#include "values.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

enum kind { NUMBER, SIZE, ADDR, MAC, IFNAME, DOMAIN, LIST, MASK };

static struct value_case {
	const char *name;
	enum kind kind;
	const char *text;
	bool ok;
	uint64_t value; /* of a number, size or mask; length of a list */
} cases[] = {
	{ "a number is read", NUMBER, "1000", true, 1000 },
	{ "a number above the limit is refused", NUMBER, "1001", false, 0 },
	{ "a number that overflows 64 bits is refused", NUMBER, "99999999999999999999999", false,
	  0 },
	{ "a number with a sign is refused", NUMBER, "+1", false, 0 },
	{ "a number with a blank before it is refused", NUMBER, " 1", false, 0 },
	{ "a number with letters behind it is refused", NUMBER, "1x", false, 0 },
	{ "an empty number is refused", NUMBER, "", false, 0 },
	{ "a size without a unit is bytes", SIZE, "1000", true, 1000 },
	{ "K is 1024 bytes", SIZE, "2K", true, 2048 },
	{ "M is lower case too", SIZE, "3m", true, 3 << 20 },
	{ "G is 2^30 bytes", SIZE, "1G", true, 1 << 30 },
	{ "a size above the limit is refused after its unit", SIZE, "5G", false, 0 },
	{ "a size with something behind its unit is refused", SIZE, "1KB", false, 0 },
	{ "an unknown unit is refused", SIZE, "1T", false, 0 },
	{ "an IPv4 address is read", ADDR, "192.0.2.1", true, 0 },
	{ "an IPv6 address is read", ADDR, "2001:db8::1", true, 0 },
	{ "a v4-mapped address is read", ADDR, "::ffff:192.0.2.1", true, 0 },
	{ "an IPv4 address with three bytes is refused", ADDR, "192.0.2", false, 0 },
	{ "a MAC address is read", MAC, "02:00:5E:aa:bb:01", true, 0 },
	{ "a group MAC address is refused", MAC, "01:00:5e:00:00:01", false, 0 },
	{ "the zero MAC address is refused", MAC, "00:00:00:00:00:00", false, 0 },
	{ "a MAC address of five bytes is refused", MAC, "02:00:5e:aa:bb", false, 0 },
	{ "a MAC address of seven bytes is refused", MAC, "02:00:5e:aa:bb:01:02", false, 0 },
	{ "a MAC address with single digits is refused", MAC, "2:0:5e:aa:bb:1", false, 0 },
	{ "an interface name is read", IFNAME, "eth0.100", true, 0 },
	{ "an interface name of 15 bytes is read", IFNAME, "abcdefghijklmno", true, 0 },
	{ "an interface name of 16 bytes is refused", IFNAME, "abcdefghijklmnop", false, 0 },
	{ "an interface name with a slash is refused", IFNAME, "a/b", false, 0 },
	{ "an interface name with a blank is refused", IFNAME, "a b", false, 0 },
	{ "an empty interface name is refused", IFNAME, "", false, 0 },
	{ "a domain is accepted", DOMAIN, "sub-1.example.org", true, 0 },
	{ "a domain with a dot at its end is accepted", DOMAIN, "example.org.", true, 0 },
	{ "a domain with an empty label is refused", DOMAIN, "a..b", false, 0 },
	{ "a domain that is a dot is refused", DOMAIN, ".", false, 0 },
	{ "a domain with a control character is refused", DOMAIN, "a\nb", false, 0 },
	{ "a label of 64 bytes is refused", DOMAIN,
	  "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", false, 0 },
	{ "a list of numbers and ranges is read", LIST, "0,2-4,1", true, 5 },
	{ "a list that is too long is refused", LIST, "0-8", false, 0 },
	{ "a range that ends before it begins is refused", LIST, "3-2", false, 0 },
	{ "a list with a comma at its end is refused", LIST, "1,", false, 0 },
	{ "an empty list is refused", LIST, "", false, 0 },
	{ "a mask is counted", MASK, "255.255.240.0", true, 20 },
	{ "a mask of all ones is counted", MASK, "255.255.255.255", true, 32 },
	{ "a mask with a hole is refused", MASK, "255.0.255.0", false, 0 },
	{ "a mask of zero is refused", MASK, "0.0.0.0", false, 0 },
	{ "a mask without dots is refused", MASK, "24", false, 0 },
};

static bool parse(const struct value_case *c, uint64_t *value)
{
	struct ip_addr addr;
	struct eth_addr mac;
	char ifname[IFNAMSIZ];
	int list[8];
	unsigned int n = 0;
	uint8_t bits = 0;
	bool ok = false;

	*value = 0;
	switch (c->kind) {
	case NUMBER:
		return value_number(c->text, 1000, value);
	case SIZE:
		return value_size(c->text, UINT64_C(4) << 30, value);
	case ADDR:
		return value_addr(c->text, &addr);
	case MAC:
		return value_mac(c->text, &mac);
	case IFNAME:
		return value_ifname(c->text, ifname);
	case DOMAIN:
		return value_domain(c->text, strlen(c->text));
	case LIST:
		ok = value_list(c->text, list, 8, &n);
		*value = n;
		return ok;
	case MASK:
		ok = value_mask(c->text, &bits);
		*value = bits;
		return ok;
	}
	return ok;
}

static void run_case(void **state)
{
	const struct value_case *c = *state;
	uint64_t value;

	assert_int_equal(parse(c, &value), c->ok);
	if (c->ok)
		assert_int_equal(value, c->value);
}

#define N_CASES (sizeof(cases) / sizeof(cases[0]))

int main(void)
{
	struct CMUnitTest tests[N_CASES];

	for (size_t i = 0; i < N_CASES; i++)
		tests[i] = (struct CMUnitTest){ .name = cases[i].name,
						.test_func = run_case,
						.initial_state = &cases[i] };
	return cmocka_run_group_tests(tests, NULL, NULL);
}
