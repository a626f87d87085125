/* SPDX-License-Identifier: Apache-2.0 */
/* links: tap */
#include "services_lib.h"

#include "dns_name.h"

static char label63[] = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";

static struct name_case {
	const char *name;
	const char *text;
	size_t len; /* 0: refused */
} cases[] = {
	{ "a name of two labels is written", "example.org", 13 },
	{ "a final dot changes nothing", "example.org.", 13 },
	{ "a label of 63 bytes is written", label63, 65 },
	{ "a label of 64 bytes is refused",
	  "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", 0 },
	{ "an empty name is refused", "", 0 },
	{ "a dot alone is refused", ".", 0 },
	{ "an empty label is refused", "example..org", 0 },
};

static void name_is_written_or_refused(void **state)
{
	const struct name_case *c = *state;
	uint8_t bytes[256];
	struct bytes_out out = out_of(bytes, sizeof(bytes));

	assert_int_equal(dns_name_put(&out, c->text), c->len != 0);
	assert_int_equal(out_len(&out), c->len);
	assert_true(out_ok(&out));
}

static void a_name_over_255_bytes_is_refused(void **state)
{
	char name[300] = "";
	uint8_t bytes[400];
	struct bytes_out out = out_of(bytes, sizeof(bytes));

	(void)state;
	for (int i = 0; i < 4; i++) {
		strcat(name, label63);
		strcat(name, ".");
	}
	assert_false(dns_name_put(&out, name));
	name[254 - 1] = '\0'; /* 253 bytes of text are 255 on the wire */
	assert_true(dns_name_put(&out, name));
	assert_int_equal(out_len(&out), 255);
}

static void a_name_that_does_not_fit_leaves_no_trace(void **state)
{
	uint8_t bytes[12];
	struct bytes_out out = out_of(bytes, sizeof(bytes));

	(void)state;
	assert_false(dns_name_put(&out, "example.org"));
	assert_int_equal(out_len(&out), 0);
	assert_true(out_ok(&out));
}

static void a_single_label_is_a_partial_name(void **state)
{
	static const uint8_t wire[] = { 5, 'g', 'u', 'e', 's', 't' };
	uint8_t bytes[32];
	struct bytes_out out = out_of(bytes, sizeof(bytes));

	(void)state;
	assert_true(dns_name_put_partial(&out, "guest"));
	assert_int_equal(out_len(&out), sizeof(wire));
	assert_memory_equal(bytes, wire, sizeof(wire));
}

static void a_suffix_that_was_written_is_pointed_to(void **state)
{
	static const uint8_t wire[] = "\7example\3org\0\3lab\xc0\0\xc0\0\xc0\x0d";
	struct domain names[] = { { "example.org" },
				  { "lab.EXAMPLE.org." },
				  { "example.org" },
				  { "not..valid" },
				  { "lab.example.org" } };
	uint8_t bytes[64];
	struct bytes_out out = out_of(bytes, sizeof(bytes));

	(void)state;
	dns_names_put_compressed(&out, names, 5);
	assert_int_equal(out_len(&out), sizeof(wire) - 1);
	assert_memory_equal(bytes, wire, sizeof(wire) - 1);
}

static void a_list_that_does_not_fit_is_cut_between_names(void **state)
{
	struct domain names[] = { { "example.org" }, { "example.com" }, { "org" } };
	uint8_t bytes[16];
	struct bytes_out out = out_of(bytes, sizeof(bytes));

	(void)state;
	dns_names_put_compressed(&out, names, 3);
	assert_int_equal(out_len(&out), 15); /* the first, and a pointer to its end */
	assert_memory_equal(bytes + 13, "\xc0\x08", 2);
}

#define N_CASES (sizeof(cases) / sizeof(cases[0]))

int main(void)
{
	const struct CMUnitTest fixed[] = {
		cmocka_unit_test(a_name_over_255_bytes_is_refused),
		cmocka_unit_test(a_name_that_does_not_fit_leaves_no_trace),
		cmocka_unit_test(a_single_label_is_a_partial_name),
		cmocka_unit_test(a_suffix_that_was_written_is_pointed_to),
		cmocka_unit_test(a_list_that_does_not_fit_is_cut_between_names),
	};
	struct CMUnitTest rows[N_CASES];

	for (size_t i = 0; i < N_CASES; i++)
		rows[i] = (struct CMUnitTest){ .name = cases[i].name,
					       .test_func = name_is_written_or_refused,
					       .initial_state = &cases[i] };
	return cmocka_run_group_tests(fixed, NULL, NULL) + cmocka_run_group_tests(rows, NULL, NULL);
}
