/* SPDX-License-Identifier: Apache-2.0 */
#include "taploom/services.h"

#include <arpa/inet.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

/* What is parsed is compared in a text form: "addr addr | domain domain". */
struct parse_case {
	const char *name;
	const char *text;
	const char *expected;
};

static struct parse_case cases[] = {
	{ "an empty file gives nothing", "", "|" },
	{ "an IPv4 nameserver is taken", "nameserver 192.0.2.1\n", "192.0.2.1 |" },
	{ "an IPv6 nameserver is taken", "nameserver 2001:db8::1\n", "2001:db8::1 |" },
	{ "a scope is left off", "nameserver fe80::1%eth0\n", "fe80::1 |" },
	{ "order is kept over versions", "nameserver ::2\nnameserver 192.0.2.1\n",
	  "::2 192.0.2.1 |" },
	{ "a last line without newline counts", "nameserver 192.0.2.1", "192.0.2.1 |" },
	{ "tabs and trailing blanks are blanks", "nameserver\t 192.0.2.1 \t\n", "192.0.2.1 |" },
	{ "a carriage return is a blank", "nameserver 192.0.2.1\r\nsearch a.test\r\n",
	  "192.0.2.1 | a.test" },
	{ "comments are passed over", "# nameserver 1.1.1.1\n;nameserver 1.1.1.2\n", "|" },
	{ "a comment may follow", "nameserver 192.0.2.1 # why\nsearch a ; b\n", "192.0.2.1 | a" },
	{ "a keyword starts its line", " nameserver 192.0.2.1\n", "|" },
	{ "a keyword is a whole word", "nameserver192.0.2.1\nnameservers 192.0.2.1\n", "|" },
	{ "a keyword without value gives nothing", "nameserver\nnameserver \n", "|" },
	{ "what is no address is passed over", "nameserver dns.test\nnameserver 192.0.2.1\n",
	  "192.0.2.1 |" },
	{ "a cut address is passed over", "nameserver 192.0.2.\nnameserver 1:2\n", "|" },
	{ "an over-long word is passed over",
	  "nameserver 0000000000000000000000000000000000000000000000000000000000000000000000001\n",
	  "|" },
	{ "a multicast address is passed over", "nameserver 224.0.0.1\nnameserver ff02::1\n", "|" },
	{ "the unspecified addresses mean this host", "nameserver 0.0.0.0\nnameserver ::\n",
	  "127.0.0.1 ::1 |" },
	{ "a nameserver is taken once", "nameserver 192.0.2.1\nnameserver 192.0.2.1\n",
	  "192.0.2.1 |" },
	{ "at most three of a version are taken",
	  "nameserver ::1\nnameserver ::2\nnameserver ::3\nnameserver ::4\nnameserver 192.0.2.1\n",
	  "::1 ::2 ::3 192.0.2.1 |" },
	{ "a search list is taken", "search a.test\tb.test\n", "| a.test b.test" },
	{ "the last search list counts", "search a b\nsearch c\n", "| c" },
	{ "a domain is a list of one", "domain a.test b.test\n", "| a.test" },
	{ "a domain after a search list counts", "search a b\ndomain c\n", "| c" },
	{ "a search list after a domain counts", "domain c\nsearch a b\n", "| a b" },
	{ "at most six domains are taken", "search 1 2 3 4 5 6 7\n", "| 1 2 3 4 5 6" },
	{ "the root is no search domain", "search .\n", "|" },
	{ "options and sortlist are passed over", "options ndots:5\nsortlist 192.0.2.0\n", "|" },
};

static void format(const struct resolv_conf *conf, char *text, size_t size)
{
	int len = 0;

	for (unsigned int i = 0; i < conf->n_dns; i++) {
		const struct ip_addr *addr = &conf->dns[i];
		char buf[INET6_ADDRSTRLEN];

		if (ip_is_v4(addr))
			inet_ntop(AF_INET, addr->b + 12, buf, sizeof(buf));
		else
			inet_ntop(AF_INET6, addr->b, buf, sizeof(buf));
		len += snprintf(text + len, size - (size_t)len, "%s ", buf);
	}
	len += snprintf(text + len, size - (size_t)len, "|");
	for (unsigned int i = 0; i < conf->n_search; i++)
		len += snprintf(text + len, size - (size_t)len, " %s", conf->search[i].name);
}

static void parses_as_expected(void **state)
{
	const struct parse_case *c = *state;
	struct resolv_conf conf;
	char text[4096];

	resolv_conf_parse(&conf, c->text, strlen(c->text));
	format(&conf, text, sizeof(text));
	assert_string_equal(text, c->expected);
}

static void a_domain_too_long_is_left_out(void **state)
{
	char text[MAX_DOMAIN + 64] = "search ";
	struct resolv_conf conf;

	(void)state;
	memset(text + 7, 'a', MAX_DOMAIN);
	strcpy(text + 7 + MAX_DOMAIN, " b.test\n");
	resolv_conf_parse(&conf, text, strlen(text));
	assert_int_equal(conf.n_search, 1);
	assert_string_equal(conf.search[0].name, "b.test");
}

static void a_word_with_a_nul_is_left_out(void **state)
{
	static const char text[] = "nameserver 192.0.2.1\0junk\nsearch a\0b c\n";
	struct resolv_conf conf;

	(void)state;
	resolv_conf_parse(&conf, text, sizeof(text) - 1);
	assert_int_equal(conf.n_dns, 0);
	assert_int_equal(conf.n_search, 1);
	assert_string_equal(conf.search[0].name, "c");
}

static void a_missing_file_gives_nothing(void **state)
{
	struct resolv_conf conf = { .n_dns = 1 };

	(void)state;
	assert_int_equal(resolv_conf_read(&conf, "/nonexistent/resolv.conf"), 0);
	assert_int_equal(conf.n_dns, 0);
}

static void what_is_no_file_is_an_error(void **state)
{
	struct resolv_conf conf;

	(void)state;
	assert_true(resolv_conf_read(&conf, "/") < 0);
}

/* 27 bytes and 2045 lines of 16 leave 21 bytes of what is read at most. */
static void a_line_cut_by_the_size_limit_is_left_out(void **state)
{
	static const char comment[] = "#23456789abcdef\n";
	char path[] = "/tmp/discovery_resolv.XXXXXX";
	struct resolv_conf conf;
	int fd = mkstemp(path);
	int rc;

	(void)state;
	assert_true(fd >= 0);
	dprintf(fd, "nameserver 192.0.2.1 #2345\n");
	for (int i = 0; i < 2045; i++)
		assert_int_equal(write(fd, comment, 16), 16);
	/* 21 bytes of it fit, which would make 192.0.2.25. */
	dprintf(fd, "nameserver 192.0.2.255\n");
	close(fd);
	rc = resolv_conf_read(&conf, path);
	unlink(path);
	assert_int_equal(rc, 0);
	assert_int_equal(conf.n_dns, 1);
	assert_int_equal(conf.dns[0].b[15], 1);
}

#define N_CASES (sizeof(cases) / sizeof(cases[0]))

int main(void)
{
	struct CMUnitTest tests[N_CASES + 5] = {
		[N_CASES] = cmocka_unit_test(a_domain_too_long_is_left_out),
		cmocka_unit_test(a_word_with_a_nul_is_left_out),
		cmocka_unit_test(a_missing_file_gives_nothing),
		cmocka_unit_test(what_is_no_file_is_an_error),
		cmocka_unit_test(a_line_cut_by_the_size_limit_is_left_out),
	};

	for (size_t i = 0; i < N_CASES; i++)
		tests[i] = (struct CMUnitTest){ .name = cases[i].name,
						.test_func = parses_as_expected,
						.initial_state = &cases[i] };
	return cmocka_run_group_tests_name("resolv", tests, NULL, NULL);
}
