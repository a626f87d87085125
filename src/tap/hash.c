/* SPDX-License-Identifier: Apache-2.0 */
/*
 * SipHash-1-3: one round for each word of input, three at the end (Aumasson and Bernstein,
 * "SipHash: a fast short-input PRF", 2012). A key is always five words, so the last block holds the
 * length alone.
 */
#include "taploom/flow_key.h"

#define KEY_WORDS (sizeof(struct flow_key) / sizeof(uint64_t))

struct sip {
	uint64_t v0, v1, v2, v3;
};

static inline uint64_t rotate(uint64_t x, int bits)
{
	return x << bits | x >> (64 - bits);
}

static inline void sip_round(struct sip *s)
{
	s->v0 += s->v1;
	s->v2 += s->v3;
	s->v1 = rotate(s->v1, 13) ^ s->v0;
	s->v3 = rotate(s->v3, 16) ^ s->v2;
	s->v0 = rotate(s->v0, 32);
	s->v2 += s->v1;
	s->v0 += s->v3;
	s->v1 = rotate(s->v1, 17) ^ s->v2;
	s->v3 = rotate(s->v3, 21) ^ s->v0;
	s->v2 = rotate(s->v2, 32);
}

static inline void sip_word(struct sip *s, uint64_t word)
{
	s->v3 ^= word;
	sip_round(s);
	s->v0 ^= word;
}

uint32_t flow_key_hash(const struct flow_key *key, const struct hash_secret *secret)
{
	struct sip s = { secret->k[0] ^ 0x736f6d6570736575, secret->k[1] ^ 0x646f72616e646f6d,
			 secret->k[0] ^ 0x6c7967656e657261, secret->k[1] ^ 0x7465646279746573 };
	uint64_t words[KEY_WORDS];

	memcpy(words, key, sizeof(words));
	for (size_t i = 0; i < KEY_WORDS; i++)
		sip_word(&s, words[i]);
	sip_word(&s, (uint64_t)sizeof(words) << 56);
	s.v2 ^= 0xff;
	sip_round(&s);
	sip_round(&s);
	sip_round(&s);
	return (uint32_t)(s.v0 ^ s.v1 ^ s.v2 ^ s.v3);
}

uint32_t flow_steer_hash(const struct flow_key *key, const struct hash_secret *secret)
{
	struct flow_key port_only = { .guest_port = key->guest_port, .proto = key->proto };

	return flow_key_hash(key->proto == FLOW_UDP ? &port_only : key, secret);
}
