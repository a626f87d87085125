/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The Internet checksum. One's complement addition may be done in words of any width and in either
 * byte order (RFC 1071 2), so long runs are added as 32-bit words in 64-bit lanes, which cannot
 * overflow within any length that fits in memory, and the rest as 64-bit words with carry.
 */
#include "taploom/checksum.h"

#include "taploom/bytes.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#define WIDE_MIN 256 /* bytes; below it the set-up of the vector loop costs more than it saves */

static uint64_t add_carry(uint64_t a, uint64_t b)
{
	uint64_t sum;

	return __builtin_add_overflow(a, b, &sum) ? sum + 1 : sum;
}

static uint64_t load64(const uint8_t *p)
{
	uint64_t v;

	memcpy(&v, p, sizeof(v));
	return v;
}

/* Adds n bytes, a multiple of 32, as 64-bit words; two sums so that the carry chains overlap. */
static uint64_t add_words(uint64_t sum, const uint8_t *p, size_t n)
{
	unsigned __int128 even = sum, odd = 0;

	for (; n; n -= 32, p += 32) {
		even += load64(p);
		odd += load64(p + 8);
		even += load64(p + 16);
		odd += load64(p + 24);
	}
	even += odd;
	return add_carry((uint64_t)even, (uint64_t)(even >> 64));
}

#if defined(__x86_64__)
/* Adds 32 bytes at p, as eight 32-bit words, to the four 64-bit lanes of acc. */
#define ADD_VECTOR(acc, p)                                                                         \
	do {                                                                                       \
		__m256i v_ = _mm256_loadu_si256((const __m256i *)(const void *)(p));               \
		acc = _mm256_add_epi64(acc, _mm256_and_si256(v_, low));                            \
		acc = _mm256_add_epi64(acc, _mm256_srli_epi64(v_, 32));                            \
	} while (0)

/* Adds n bytes, a multiple of 128. */
__attribute__((target("avx2"))) static uint64_t add_vectors(uint64_t sum, const uint8_t *p,
							    size_t n)
{
	const __m256i low = _mm256_set1_epi64x(0xffffffff);
	__m256i a = _mm256_setzero_si256(), b = a, c = a, d = a;
	uint64_t lanes[4];

	for (; n; n -= 128, p += 128) {
		ADD_VECTOR(a, p);
		ADD_VECTOR(b, p + 32);
		ADD_VECTOR(c, p + 64);
		ADD_VECTOR(d, p + 96);
	}
	a = _mm256_add_epi64(_mm256_add_epi64(a, b), _mm256_add_epi64(c, d));
	_mm256_storeu_si256((__m256i *)(void *)lanes, a);
	for (int i = 0; i < 4; i++)
		sum = add_carry(sum, lanes[i]);
	return sum;
}
#endif

/* Adds what it can of a long run in one go and returns the number of bytes added. */
static size_t add_wide(uint64_t *sum, const uint8_t *p, size_t len)
{
#if defined(__x86_64__)
	if (len >= WIDE_MIN && __builtin_cpu_supports("avx2")) {
		*sum = add_vectors(*sum, p, len & ~(size_t)127);
		return len & ~(size_t)127;
	}
#endif
	*sum = add_words(*sum, p, len & ~(size_t)31);
	return len & ~(size_t)31;
}

uint64_t checksum_add(uint64_t sum, const void *bytes, size_t len)
{
	const uint8_t *p = bytes;
	size_t done = add_wide(&sum, p, len);
	uint64_t last = 0;

	for (p += done, len -= done; len >= 8; len -= 8, p += 8)
		sum = add_carry(sum, load64(p));
	/* The zero bytes that pad the last word don't change the sum. */
	if (len)
		memcpy(&last, p, len);
	return add_carry(sum, last);
}

uint64_t checksum_pseudo(const struct ip_addr *src, const struct ip_addr *dst, uint8_t proto,
			 uint32_t l4_len)
{
	uint64_t sum = (uint64_t)htonl(l4_len) + htonl(proto);

	if (ip_is_v4(src) && ip_is_v4(dst))
		return sum + src->w[3] + dst->w[3];
	for (int i = 0; i < 4; i++)
		sum += (uint64_t)src->w[i] + dst->w[i];
	return sum;
}

uint16_t checksum_fold(uint64_t sum)
{
	sum = (sum & 0xffffffff) + (sum >> 32);
	sum = (sum & 0xffff) + ((sum >> 16) & 0xffff) + (sum >> 32);
	sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t)((sum & 0xffff) + (sum >> 16));
}
