/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The grammar of -t, -u, -T and -U.
 */
#include "ports.h"

#include <arpa/inet.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

static const struct port_range ephemeral = { 32768, 60999 };

/* Specs in the order of a command line, and what they come to: "addr%if first-last:target" or an
 * error's part. */
static struct port_case {
	const char *name;
	const char *specs[3];
	enum port_mode mode; /* PORTS_UNSET: the last spec is refused */
	const char *expected;
} cases[] = {
	{ "none forwards nothing", { "none" }, PORTS_NONE, "" },
	{ "one port", { "22" }, PORTS_LIST, "22-22:22" },
	{ "one port to another", { "22:2222" }, PORTS_LIST, "22-22:2222" },
	{ "a range", { "22-80" }, PORTS_LIST, "22-80:22" },
	{ "a range to another", { "22-80:1022-1080" }, PORTS_LIST, "22-80:1022" },
	{ "a range to the highest ports", { "1-2:65534-65535" }, PORTS_LIST, "1-2:65534" },
	{ "a list", { "22,25:26,80-81" }, PORTS_LIST, "22-22:22 25-25:26 80-81:80" },
	{ "several options add up",
	  { "22", "192.0.2.1/25" },
	  PORTS_LIST,
	  "22-22:22 192.0.2.1 25-25:25" },
	{ "an address", { "192.0.2.1/22" }, PORTS_LIST, "192.0.2.1 22-22:22" },
	{ "an address holds for the whole list",
	  { "192.0.2.1/22,23" },
	  PORTS_LIST,
	  "192.0.2.1 22-22:22 192.0.2.1 23-23:23" },
	{ "an address and an interface",
	  { "192.0.2.1%eth0/22" },
	  PORTS_LIST,
	  "192.0.2.1%eth0 22-22:22" },
	{ "an interface alone", { "%eth0/22" }, PORTS_LIST, "%eth0 22-22:22" },
	{ "an IPv6 address", { "2001:db8::1/22" }, PORTS_LIST, "2001:db8::1 22-22:22" },
	{ "an IPv6 address in brackets",
	  { "[2001:db8::1]/22" },
	  PORTS_LIST,
	  "2001:db8::1 22-22:22" },
	{ "an IPv6 address with an interface",
	  { "[fe80::1]%eth0/22" },
	  PORTS_LIST,
	  "fe80::1%eth0 22-22:22" },
	{ "IPv6 alone, any address", { "::/22" }, PORTS_LIST, "v6only 22-22:22" },
	{ "IPv4 and IPv6, any address, given apart",
	  { "0.0.0.0/22:80", "[::]/22:80" },
	  PORTS_LIST,
	  "0.0.0.0 22-22:80 v6only 22-22:80" },
	{ "the range form that containers use",
	  { "127.0.0.1/5000-5000:5000-5000" },
	  PORTS_LIST,
	  "127.0.0.1 5000-5000:5000" },
	{ "an exclusion cuts a range and its target",
	  { "20-30:120-130,~25" },
	  PORTS_LIST,
	  "20-24:120 26-30:126" },
	{ "an exclusion before its range holds too",
	  { "~25-29,20-30" },
	  PORTS_LIST,
	  "20-24:20 30-30:30" },
	{ "an exclusion of a whole range leaves nothing", { "20-30,~1-100" }, PORTS_LIST, "" },
	{ "an exclusion of the highest port",
	  { "65534-65535,~65535" },
	  PORTS_LIST,
	  "65534-65534:65534" },
	{ "all is what is not ephemeral",
	  { "all" },
	  PORTS_ALL,
	  "1-32767:1 weak 61000-65535:61000 weak" },
	{ "all with an exclusion",
	  { "all,~25" },
	  PORTS_ALL,
	  "1-24:1 weak 26-32767:26 weak 61000-65535:61000 weak" },
	{ "exclusions alone mean all others",
	  { "~25" },
	  PORTS_ALL,
	  "1-24:1 weak 26-32767:26 weak 61000-65535:61000 weak" },
	{ "all on one address",
	  { "192.0.2.1/all" },
	  PORTS_ALL,
	  "192.0.2.1 1-32767:1 weak 192.0.2.1 61000-65535:61000 weak" },
	{ "all on one interface but some", { "%eth0/~2-65535" }, PORTS_ALL, "%eth0 1-1:1 weak" },
	{ "all and an ephemeral port",
	  { "all", "40000" },
	  PORTS_ALL,
	  "1-32767:1 weak 61000-65535:61000 weak 40000-40000:40000" },
	{ "all beside a port is that port, if it can be bound",
	  { "22:23,all" },
	  PORTS_ALL,
	  "22-22:23 weak" },
	{ "all before a range is that range",
	  { "all,20-30,~25" },
	  PORTS_ALL,
	  "20-24:20 weak 26-30:26 weak" },
	{ "blanks before an item are passed over", { "22, 25" }, PORTS_LIST, "22-22:22 25-25:25" },
	{ "nothing before the slash is any address", { "/22" }, PORTS_LIST, "22-22:22" },
	{ "a v4-mapped address is the IPv4 address",
	  { "::ffff:192.0.2.1/22" },
	  PORTS_LIST,
	  "192.0.2.1 22-22:22" },
	{ "auto", { "auto" }, PORTS_AUTO, "1-65535:1 weak scan" },
	{ "auto and a port in another option",
	  { "auto", "22:23" },
	  PORTS_AUTO,
	  "1-65535:1 weak scan 22-22:23" },
	{ "auto beside ports is those ports", { "80-82,auto" }, PORTS_AUTO, "80-82:80 weak scan" },
	{ "auto with targets", { "auto,1080:80" }, PORTS_AUTO, "1080-1080:80 weak scan" },
	{ "auto with an exclusion",
	  { "auto,~25" },
	  PORTS_AUTO,
	  "1-24:1 weak scan 26-65535:26 weak scan" },
	{ "auto is more than all", { "all,auto" }, PORTS_AUTO, "1-65535:1 weak scan" },
	{ "auto on an address", { "::1/auto" }, PORTS_AUTO, "::1 1-65535:1 weak scan" },
	{ "auto twice is once", { "auto", "auto" }, PORTS_AUTO, "1-65535:1 weak scan" },
	{ "auto over another auto is refused", { "auto", "80,auto" }, PORTS_UNSET, "overlap" },
	{ "none is forgotten when ports follow", { "none", "22" }, PORTS_LIST, "22-22:22" },
	{ "none twice", { "none", "none" }, PORTS_NONE, "" },
	{ "a word is refused", { "foo" }, PORTS_UNSET, "'foo'" },
	{ "the wrong item of a list is named", { "22,2x,80" }, PORTS_UNSET, "'2x'" },
	{ "port 0 is refused", { "0" }, PORTS_UNSET, "port 0" },
	{ "port 65536 is refused", { "65536" }, PORTS_UNSET, "'65536'" },
	{ "target port 0 is refused", { "22:0" }, PORTS_UNSET, "port 0" },
	{ "a range that ends before it begins is refused",
	  { "80-22" },
	  PORTS_UNSET,
	  "ends before" },
	{ "a range without an end is refused", { "22-" }, PORTS_UNSET, "'22-'" },
	{ "a range with two ends is refused", { "22-23-24" }, PORTS_UNSET, "'22-23-24'" },
	{ "ranges of different lengths are refused", { "22-80:22-81" }, PORTS_UNSET, "'22-81'" },
	{ "a range to one port is refused", { "22-80:22" }, PORTS_UNSET, "different numbers" },
	{ "overlapping ranges are refused",
	  { "20-30,25-40" },
	  PORTS_UNSET,
	  "25-40 overlap with 20-30" },
	{ "the same port given twice is one", { "22", "22" }, PORTS_LIST, "22-22:22" },
	{ "a port given twice with two targets is refused",
	  { "22", "22:23" },
	  PORTS_UNSET,
	  "22-22 overlap" },
	{ "a port that all has is refused", { "all", "22" }, PORTS_UNSET, "overlap with 1-32767" },
	{ "an address overlaps with any", { "22", "192.0.2.1/22" }, PORTS_UNSET, "overlap" },
	{ "two addresses do not overlap",
	  { "192.0.2.1/22", "192.0.2.2/22" },
	  PORTS_LIST,
	  "192.0.2.1 22-22:22 192.0.2.2 22-22:22" },
	{ "two interfaces do not overlap",
	  { "%a/22", "%b/22" },
	  PORTS_LIST,
	  "%a 22-22:22 %b 22-22:22" },
	{ "any IPv6 address overlaps with one",
	  { "::/22", "2001:db8::1/22" },
	  PORTS_UNSET,
	  "overlap" },
	{ "none after ports is refused", { "22", "none" }, PORTS_UNSET, "contradicts" },
	{ "none in a list is refused", { "22,none" }, PORTS_UNSET, "'none'" },
	{ "an empty spec is refused", { "" }, PORTS_UNSET, "empty" },
	{ "an empty item is refused", { "22,,23" }, PORTS_UNSET, "empty" },
	{ "a comma at the end is refused", { "22," }, PORTS_UNSET, "empty" },
	{ "an empty exclusion is refused", { "~" }, PORTS_UNSET, "''" },
	{ "nothing behind the slash is refused", { "192.0.2.1/" }, PORTS_UNSET, "empty" },
	{ "a second address in a list is refused",
	  { "192.0.2.1/22,192.0.2.2/23" },
	  PORTS_UNSET,
	  "192.0.2.2/23" },
	{ "a name instead of an address is refused",
	  { "localhost/22" },
	  PORTS_UNSET,
	  "'localhost'" },
	{ "an empty interface is refused", { "192.0.2.1%/22" }, PORTS_UNSET, "interface" },
	{ "a multicast address is refused", { "224.0.0.1/22" }, PORTS_UNSET, "'224.0.0.1'" },
	{ "an item of any length is refused",
	  { "11111111111111111111111111111111111111111111111111" },
	  PORTS_UNSET,
	  "not a port" },
};

static struct port_rules rules;

static void where_text(const struct port_map *map, char *out, size_t size)
{
	char addr[INET6_ADDRSTRLEN] = "";

	if (map->v6_only)
		snprintf(addr, sizeof(addr), "v6only");
	else if (!ip_is_unset(&map->addr) && ip_is_v4(&map->addr))
		inet_ntop(AF_INET, map->addr.b + 12, addr, sizeof(addr));
	else if (!ip_is_unset(&map->addr))
		inet_ntop(AF_INET6, map->addr.b, addr, sizeof(addr));
	snprintf(out, size, "%s%s%s%s", addr, map->ifname[0] ? "%" : "", map->ifname,
		 addr[0] || map->ifname[0] ? " " : "");
}

static void rules_text(char *out, size_t size)
{
	size_t len = 0;

	out[0] = '\0';
	for (unsigned int i = 0; i < rules.n_maps; i++) {
		const struct port_map *map = &rules.maps[i];
		char where[INET6_ADDRSTRLEN + IFNAMSIZ + 4];

		where_text(map, where, sizeof(where));
		len += (size_t)snprintf(out + len, size - len, "%s%s%u-%u:%u%s%s", i ? " " : "",
					where, map->first, map->last, map->target,
					map->weak ? " weak" : "", map->scan ? " scan" : "");
		assert_true(len < size);
	}
}

static void run_case(void **state)
{
	const struct port_case *c = *state;
	char error[256] = "";
	char text[256];
	bool ok = true;

	memset(&rules, 0, sizeof(rules));
	for (unsigned int i = 0; i < 3 && c->specs[i]; i++) {
		assert_true(ok); /* only the last spec is refused */
		ok = ports_parse(&rules, c->specs[i], ephemeral, error, sizeof(error));
	}
	assert_int_equal(ok, c->mode != PORTS_UNSET);
	if (!ok) {
		assert_non_null(strstr(error, c->expected));
		return;
	}
	assert_int_equal(rules.mode, c->mode);
	rules_text(text, sizeof(text));
	assert_string_equal(text, c->expected);
}

static void too_many_ranges_are_refused(void **state)
{
	char error[256];
	char spec[16];
	unsigned int n = 0;

	(void)state;
	memset(&rules, 0, sizeof(rules));
	do
		snprintf(spec, sizeof(spec), "%u", 1 + 2 * n);
	while (ports_parse(&rules, spec, ephemeral, error, sizeof(error)) && ++n <= MAX_PORT_MAPS);
	assert_int_equal(n, MAX_PORT_MAPS);
	assert_non_null(strstr(error, "1024"));
}

static void the_ephemeral_range_begins_above_the_low_ports(void **state)
{
	(void)state;
	struct port_range range = ports_ephemeral();

	assert_true(range.first > 1 && range.first <= range.last);
}

#define N_CASES (sizeof(cases) / sizeof(cases[0]))

int main(void)
{
	struct CMUnitTest tests[N_CASES + 2] = {
		[N_CASES] = cmocka_unit_test(too_many_ranges_are_refused),
		[N_CASES + 1] = cmocka_unit_test(the_ephemeral_range_begins_above_the_low_ports),
	};

	for (size_t i = 0; i < N_CASES; i++)
		tests[i] = (struct CMUnitTest){ .name = cases[i].name,
						.test_func = run_case,
						.initial_state = &cases[i] };
	return cmocka_run_group_tests(tests, NULL, NULL);
}
