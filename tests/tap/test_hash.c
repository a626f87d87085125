/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The flow hash against a general SipHash written step by step from its paper, which is itself held
 * against the paper's test vector (2 and 4 rounds).
 */
#include "taploom/flow_key.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static const struct hash_secret secret = { { 0x0706050403020100, 0x0f0e0d0c0b0a0908 } };

static uint64_t rotl(uint64_t x, unsigned int b)
{
	return (x << b) | (x >> (64 - b));
}

static void rounds(uint64_t v[4], int n)
{
	while (n-- > 0) {
		v[0] += v[1];
		v[1] = rotl(v[1], 13) ^ v[0];
		v[0] = rotl(v[0], 32);
		v[2] += v[3];
		v[3] = rotl(v[3], 16) ^ v[2];
		v[0] += v[3];
		v[3] = rotl(v[3], 21) ^ v[0];
		v[2] += v[1];
		v[1] = rotl(v[1], 17) ^ v[2];
		v[2] = rotl(v[2], 32);
	}
}

static uint64_t siphash(int c, int d, const uint8_t *bytes, size_t len)
{
	uint64_t v[4] = { secret.k[0] ^ 0x736f6d6570736575, secret.k[1] ^ 0x646f72616e646f6d,
			  secret.k[0] ^ 0x6c7967656e657261, secret.k[1] ^ 0x7465646279746573 };

	for (size_t block = 0; block <= len / 8; block++) {
		uint64_t m = 0;

		for (size_t i = 0; i < 8 && block * 8 + i < len; i++)
			m |= (uint64_t)bytes[block * 8 + i] << (8 * i);
		if (block == len / 8)
			m |= (uint64_t)len << 56;
		v[3] ^= m;
		rounds(v, c);
		v[0] ^= m;
	}
	v[2] ^= 0xff;
	rounds(v, d);
	return v[0] ^ v[1] ^ v[2] ^ v[3];
}

static struct flow_key key_of(uint32_t seed, uint8_t proto)
{
	struct flow_key key = { .proto = proto, .guest_port = (uint16_t)seed, .peer_port = 443 };

	for (size_t i = 0; i < 16; i++) {
		key.guest.b[i] = (uint8_t)(seed * 7 + i);
		key.peer.b[i] = (uint8_t)(seed * 13 + i * i);
	}
	return key;
}

static void the_reference_gives_the_papers_vector(void **state)
{
	uint8_t bytes[15];

	(void)state;
	for (uint8_t i = 0; i < sizeof(bytes); i++)
		bytes[i] = i;
	assert_true(siphash(2, 4, bytes, sizeof(bytes)) == 0xa129ca6149be45e5);
}

static void a_key_is_hashed_as_siphash_1_3(void **state)
{
	(void)state;
	for (uint32_t seed = 0; seed < 1000; seed++) {
		struct flow_key key = key_of(seed, FLOW_TCP);
		uint64_t want = siphash(1, 3, (const uint8_t *)&key, sizeof(key));

		assert_int_equal(flow_key_hash(&key, &secret), (uint32_t)want);
	}
}

static void another_secret_gives_another_hash(void **state)
{
	const struct hash_secret other = { { 1, 2 } };
	struct flow_key key = key_of(1, FLOW_TCP);

	(void)state;
	assert_int_not_equal(flow_key_hash(&key, &secret), flow_key_hash(&key, &other));
}

static void a_tcp_flow_is_steered_by_its_whole_key(void **state)
{
	struct flow_key key = key_of(5, FLOW_TCP);

	(void)state;
	assert_int_equal(flow_steer_hash(&key, &secret), flow_key_hash(&key, &secret));
}

static void udp_flows_of_one_port_are_steered_alike(void **state)
{
	struct flow_key v4 = { .guest_port = 53, .proto = FLOW_UDP };
	struct flow_key v6 = key_of(7, FLOW_UDP);

	(void)state;
	v6.guest_port = 53;
	v4.guest = ip4_addr_of("\xc0\x00\x02\x01");
	assert_int_equal(flow_steer_hash(&v4, &secret), flow_steer_hash(&v6, &secret));
}

static void udp_flows_of_two_ports_are_steered_apart(void **state)
{
	struct flow_key a = { .guest_port = 53, .proto = FLOW_UDP };
	struct flow_key b = { .guest_port = 54, .proto = FLOW_UDP };

	(void)state;
	assert_int_not_equal(flow_steer_hash(&a, &secret), flow_steer_hash(&b, &secret));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_reference_gives_the_papers_vector),
		cmocka_unit_test(a_key_is_hashed_as_siphash_1_3),
		cmocka_unit_test(another_secret_gives_another_hash),
		cmocka_unit_test(a_tcp_flow_is_steered_by_its_whole_key),
		cmocka_unit_test(udp_flows_of_one_port_are_steered_alike),
		cmocka_unit_test(udp_flows_of_two_ports_are_steered_apart),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
