/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The Internet checksum against a sum done two bytes at a time, and against RFC 1071's own example.
 */
#include "taploom/checksum.h"

#include "taploom/bytes.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#define BUFFER 70000

static uint8_t buffer[BUFFER];

/* RFC 1071 4.1, in wire order. */
static uint16_t plain_sum(const uint8_t *p, size_t len)
{
	uint64_t sum = 0;
	uint16_t wire;

	for (; len > 1; len -= 2, p += 2)
		sum += load_be16(p);
	if (len)
		sum += (uint64_t)*p << 8;
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	store_be16(&wire, (uint16_t)sum);
	return wire;
}

static int fill(void **state)
{
	uint32_t x = 12345;

	(void)state;
	for (size_t i = 0; i < BUFFER; i++) {
		x = x * 1664525 + 1013904223;
		buffer[i] = (uint8_t)(x >> 24);
	}
	return 0;
}

static int fill_ones(void **state)
{
	(void)state;
	memset(buffer, 0xff, sizeof(buffer));
	return 0;
}

static void compare(size_t off, size_t len)
{
	uint16_t sum = checksum_fold(checksum_add(0, buffer + off, len));

	assert_int_equal(sum, plain_sum(buffer + off, len));
}

static void every_short_length_agrees(void **state)
{
	(void)state;
	for (size_t len = 0; len < 1600; len++)
		compare(0, len);
}

static void every_alignment_agrees(void **state)
{
	(void)state;
	for (size_t off = 0; off < 64; off++)
		compare(off, 1500);
}

static void the_longest_packet_agrees(void **state)
{
	(void)state;
	compare(0, 65535);
	compare(3, 65535);
}

static void pieces_add_up_to_the_whole(void **state)
{
	uint64_t sum = 0;

	(void)state;
	for (size_t off = 0; off < 6000; off += 600)
		sum = checksum_add(sum, buffer + off, 600);
	assert_int_equal(checksum_fold(sum), plain_sum(buffer, 6000));
}

static void the_example_of_rfc_1071_agrees(void **state)
{
	static const uint8_t bytes[] = { 0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7 };
	uint16_t sum = checksum_fold(checksum_add(0, bytes, sizeof(bytes)));

	(void)state;
	assert_int_equal(load_be16(&sum), 0xddf2);
}

static void a_finished_checksum_sums_to_all_ones(void **state)
{
	uint8_t packet[40];
	uint16_t sum;

	(void)state;
	memcpy(packet, buffer, sizeof(packet));
	memset(packet + 10, 0, 2);
	sum = checksum_finish(checksum_add(0, packet, sizeof(packet)));
	memcpy(packet + 10, &sum, 2);
	assert_int_equal(checksum_finish(checksum_add(0, packet, sizeof(packet))), 0);
}

static void the_ipv4_pseudo_header_is_as_in_rfc_9293(void **state)
{
	static const uint8_t pseudo[] = {
		192, 0, 2, 1, 198, 51, 100, 7, 0, IPPROTO_TCP, 0x12, 0x34
	};
	struct ip_addr src = ip4_addr_of(pseudo), dst = ip4_addr_of(pseudo + 4);
	uint64_t sum = checksum_pseudo(&src, &dst, IPPROTO_TCP, 0x1234);

	(void)state;
	assert_int_equal(checksum_fold(sum), plain_sum(pseudo, sizeof(pseudo)));
}

static void the_ipv6_pseudo_header_is_as_in_rfc_8200(void **state)
{
	uint8_t pseudo[40];
	struct ip_addr src, dst;
	uint64_t sum;

	(void)state;
	memcpy(pseudo, buffer, 32);
	store_be32(pseudo + 32, 70000);
	store_be32(pseudo + 36, IPPROTO_UDP);
	src = ip6_addr_of(pseudo);
	dst = ip6_addr_of(pseudo + 16);
	sum = checksum_pseudo(&src, &dst, IPPROTO_UDP, 70000);
	assert_int_equal(checksum_fold(sum), plain_sum(pseudo, sizeof(pseudo)));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(every_short_length_agrees, fill),
		cmocka_unit_test_setup(every_alignment_agrees, fill),
		cmocka_unit_test_setup(the_longest_packet_agrees, fill),
		cmocka_unit_test_setup(pieces_add_up_to_the_whole, fill),
		{ "carries are kept in a long run of ones", the_longest_packet_agrees, fill_ones,
		  NULL, NULL },
		{ "carries are kept in short runs of ones", every_short_length_agrees, fill_ones,
		  NULL, NULL },
		cmocka_unit_test(the_example_of_rfc_1071_agrees),
		cmocka_unit_test_setup(a_finished_checksum_sums_to_all_ones, fill),
		cmocka_unit_test(the_ipv4_pseudo_header_is_as_in_rfc_9293),
		cmocka_unit_test_setup(the_ipv6_pseudo_header_is_as_in_rfc_8200, fill),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
