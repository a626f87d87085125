/* SPDX-License-Identifier: Apache-2.0 */
/* links: tap */
/*
 * Ethernet and IP headers as they go to the guest.
 */
#include "l3.h"

#include "taploom/bytes.h"
#include "taploom/checksum.h"

#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static const struct l3 v4 = {
	.dst_mac = { { 1, 2, 3, 4, 5, 6 } },
	.src_mac = { { 7, 8, 9, 10, 11, 12 } },
	.src = { .b = { [10] = 0xff, 0xff, 192, 0, 2, 1 } },
	.dst = { .b = { [10] = 0xff, 0xff, 198, 51, 100, 2 } },
	.proto = IPPROTO_TCP,
	.tos = 0x2,
	.ttl = 64,
	.dont_fragment = true,
	.id = 0x1234,
};

static const struct l3 v6 = {
	.src = { .b = { 0x20, 1, 0xd, 0xb8, [15] = 1 } },
	.dst = { .b = { 0x20, 1, 0xd, 0xb8, [15] = 2 } },
	.proto = IPPROTO_UDP,
	.tos = 0xb9,
	.ttl = 255,
};

static void ethernet_has_addresses_and_type(void **state)
{
	uint8_t p[L3_HEADER_MAX];

	(void)state;
	assert_int_equal(l3_write(p, &v4, 20), 34);
	assert_memory_equal(p, v4.dst_mac.b, 6);
	assert_memory_equal(p + 6, v4.src_mac.b, 6);
	assert_int_equal(load_be16(p + 12), 0x0800);
	assert_int_equal(l3_write(p, &v6, 20), 54);
	assert_int_equal(load_be16(p + 12), 0x86dd);
}

static void ipv4_header_is_right(void **state)
{
	uint8_t p[L3_HEADER_MAX];

	(void)state;
	l3_write(p, &v4, 1000);
	assert_int_equal(p[14], 0x45);
	assert_int_equal(p[15], 2);
	assert_int_equal(load_be16(p + 16), 1020);
	assert_int_equal(load_be16(p + 18), 0x1234);
	assert_int_equal(load_be16(p + 20), 0x4000);
	assert_int_equal(p[22], 64);
	assert_int_equal(p[23], IPPROTO_TCP);
	assert_memory_equal(p + 26, v4.src.b + 12, 4);
	assert_memory_equal(p + 30, v4.dst.b + 12, 4);
}

static void ipv4_checksum_verifies(void **state)
{
	uint8_t p[L3_HEADER_MAX];

	(void)state;
	l3_write(p, &v4, 1000);
	assert_int_equal(checksum_fold(checksum_add(0, p + 14, 20)), 0xffff);
}

static void a_fragment_has_its_offset_and_flag(void **state)
{
	struct l3 l3 = v4;
	uint8_t p[L3_HEADER_MAX];

	(void)state;
	l3.dont_fragment = false;
	l3.frag = 0x2000 | 185;
	l3_write(p, &l3, 1480);
	assert_int_equal(load_be16(p + 20), 0x20b9);
}

static void ipv6_header_is_right(void **state)
{
	uint8_t p[L3_HEADER_MAX];

	(void)state;
	l3_write(p, &v6, 1000);
	assert_int_equal(load_be32(p + 14), 0x6b900000);
	assert_int_equal(load_be16(p + 18), 1000);
	assert_int_equal(p[20], IPPROTO_UDP);
	assert_int_equal(p[21], 255);
	assert_memory_equal(p + 22, v6.src.b, 16);
	assert_memory_equal(p + 38, v6.dst.b, 16);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(ethernet_has_addresses_and_type),
		cmocka_unit_test(ipv4_header_is_right),
		cmocka_unit_test(ipv4_checksum_verifies),
		cmocka_unit_test(a_fragment_has_its_offset_and_flag),
		cmocka_unit_test(ipv6_header_is_right),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
