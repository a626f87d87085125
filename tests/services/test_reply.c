/* SPDX-License-Identifier: Apache-2.0 */
/* links: tap */
#include "services_lib.h"

static struct reply_path path(const char *src, const char *dst)
{
	return (struct reply_path){ our_mac, guest_mac, { ip(src), 67 }, { ip(dst), 68 } };
}

static void a_datagram_over_ipv4_has_right_lengths_and_checksums(void **state)
{
	struct reply_path p = path("192.0.2.1", "192.0.2.10");
	uint8_t frame[64];

	(void)state;
	assert_int_equal(reply_udp(frame, sizeof(frame), &p, (const uint8_t *)"odd", 3), 45);
	assert_int_equal(load_be16(frame + 12), 0x0800);
	assert_int_equal(load_be16(frame + 16), 31);
	assert_int_equal(load_be16(frame + 38), 11);
	assert_int_equal(checksum_finish(checksum_add(0, frame + 14, 20)), 0);
	assert_true(sums_up(&p.src.addr, &p.dst.addr, IPPROTO_UDP, frame + 34, 11));
}

static void a_datagram_over_ipv6_has_right_lengths_and_checksums(void **state)
{
	struct reply_path p = path("fe80::1", "fe80::2");
	uint8_t frame[80];

	(void)state;
	assert_int_equal(reply_udp(frame, sizeof(frame), &p, (const uint8_t *)"odd", 3), 65);
	assert_int_equal(load_be16(frame + 12), 0x86dd);
	assert_int_equal(load_be16(frame + 18), 11);
	assert_true(sums_up(&p.src.addr, &p.dst.addr, IPPROTO_UDP, frame + 54, 11));
}

static void a_checksum_that_comes_out_as_zero_is_sent_as_ones(void **state)
{
	struct reply_path p = path("192.0.2.1", "192.0.2.10");
	uint8_t frame[64];
	uint16_t checksum;

	(void)state;
	reply_udp(frame, sizeof(frame), &p, (const uint8_t[2]){ 0, 0 }, 2);
	memcpy(&checksum, frame + 40, 2);
	reply_udp(frame, sizeof(frame), &p, (const uint8_t *)&checksum, 2);
	assert_int_equal(load_be16(frame + 40), 0xffff);
}

static void a_frame_that_does_not_fit_is_refused(void **state)
{
	struct reply_path p4 = path("192.0.2.1", "192.0.2.10");
	struct reply_path p6 = path("fe80::1", "fe80::2");
	uint8_t message[8] = { 133 };
	uint8_t frame[80];

	(void)state;
	for (size_t size = 0; size < 42 + 8; size++)
		assert_int_equal(reply_udp(frame, size, &p4, message, 8), 0);
	for (size_t size = 0; size < 54 + 8; size++)
		assert_int_equal(reply_icmp6(frame, size, &p6, message, 8), 0);
	for (size_t size = 0; size < 14 + 8; size++)
		assert_int_equal(reply_ether(frame, size, &p4, 0x0806, message, 8), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_datagram_over_ipv4_has_right_lengths_and_checksums),
		cmocka_unit_test(a_datagram_over_ipv6_has_right_lengths_and_checksums),
		cmocka_unit_test(a_checksum_that_comes_out_as_zero_is_sent_as_ones),
		cmocka_unit_test(a_frame_that_does_not_fit_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
