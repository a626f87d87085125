/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Bounded byte cursors for the codecs. A cursor carries its bounds and latches the first overrun,
 * so that a codec reads or writes a whole structure and tests for success once. Numbers on the wire
 * are one-member structs: a forgotten byte swap does not compile.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

typedef struct {
	uint16_t wire;
} be16;

typedef struct {
	uint32_t wire;
} be32;

static inline be16 be16_of(uint16_t host)
{
	return (be16){ __builtin_bswap16(host) };
}

static inline be32 be32_of(uint32_t host)
{
	return (be32){ __builtin_bswap32(host) };
}

static inline uint16_t be16_host(be16 v)
{
	return __builtin_bswap16(v.wire);
}

static inline uint32_t be32_host(be32 v)
{
	return __builtin_bswap32(v.wire);
}

/* Unaligned big-endian loads and stores; the caller has checked the bounds. */
static inline uint16_t load_be16(const void *p)
{
	uint16_t v;
	memcpy(&v, p, sizeof(v));
	return __builtin_bswap16(v);
}

static inline uint32_t load_be32(const void *p)
{
	uint32_t v;
	memcpy(&v, p, sizeof(v));
	return __builtin_bswap32(v);
}

static inline void store_be16(void *p, uint16_t host)
{
	uint16_t v = __builtin_bswap16(host);
	memcpy(p, &v, sizeof(v));
}

static inline void store_be32(void *p, uint32_t host)
{
	uint32_t v = __builtin_bswap32(host);
	memcpy(p, &v, sizeof(v));
}

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__,
	       "taploom is built for little-endian machines");

/* A cursor over bytes to be read. After an overrun all reads give zero and in_ok() is false. */
struct bytes_in {
	const uint8_t *at;
	const uint8_t *end;
	bool overrun;
};

static inline struct bytes_in in_of(const void *bytes, size_t len)
{
	return (struct bytes_in){ bytes, (const uint8_t *)bytes + len, false };
}

static inline bool in_ok(const struct bytes_in *in)
{
	return !in->overrun;
}

static inline size_t in_left(const struct bytes_in *in)
{
	return in->overrun ? 0 : (size_t)(in->end - in->at);
}

/* Returns the next len bytes and passes them, or NULL and latches the overrun. */
static inline const uint8_t *in_take(struct bytes_in *in, size_t len)
{
	const uint8_t *at = in->at;

	if (in->overrun || (size_t)(in->end - in->at) < len) {
		in->overrun = true;
		return NULL;
	}
	in->at += len;
	return at;
}

static inline void in_skip(struct bytes_in *in, size_t len)
{
	in_take(in, len);
}

static inline uint8_t in_u8(struct bytes_in *in)
{
	const uint8_t *p = in_take(in, 1);
	return p ? *p : 0;
}

static inline uint16_t in_u16(struct bytes_in *in)
{
	const uint8_t *p = in_take(in, 2);
	return p ? load_be16(p) : 0;
}

static inline uint32_t in_u32(struct bytes_in *in)
{
	const uint8_t *p = in_take(in, 4);
	return p ? load_be32(p) : 0;
}

/* Copies len bytes out; on an overrun dst is zeroed. */
static inline void in_copy(struct bytes_in *in, void *dst, size_t len)
{
	const uint8_t *p = in_take(in, len);

	if (p)
		memcpy(dst, p, len);
	else
		memset(dst, 0, len);
}

/* A cursor over the next len bytes, for a nested structure; empty and overrun if they are not
 * there. */
static inline struct bytes_in in_sub(struct bytes_in *in, size_t len)
{
	const uint8_t *p = in_take(in, len);

	return p ? in_of(p, len) : (struct bytes_in){ in->end, in->end, true };
}

/* A cursor over room to be written. After an overrun writes do nothing and out_ok() is false. */
struct bytes_out {
	uint8_t *start;
	uint8_t *at;
	uint8_t *end;
	bool overrun;
};

static inline struct bytes_out out_of(void *room, size_t size)
{
	return (struct bytes_out){ room, room, (uint8_t *)room + size, false };
}

static inline bool out_ok(const struct bytes_out *out)
{
	return !out->overrun;
}

static inline size_t out_len(const struct bytes_out *out)
{
	return (size_t)(out->at - out->start);
}

/* Returns room for the next len bytes, not initialised, or NULL and latches the overrun. */
static inline uint8_t *out_take(struct bytes_out *out, size_t len)
{
	uint8_t *at = out->at;

	if (out->overrun || (size_t)(out->end - out->at) < len) {
		out->overrun = true;
		return NULL;
	}
	out->at += len;
	return at;
}

static inline void out_u8(struct bytes_out *out, uint8_t v)
{
	uint8_t *p = out_take(out, 1);
	if (p)
		*p = v;
}

static inline void out_u16(struct bytes_out *out, uint16_t v)
{
	uint8_t *p = out_take(out, 2);
	if (p)
		store_be16(p, v);
}

static inline void out_u32(struct bytes_out *out, uint32_t v)
{
	uint8_t *p = out_take(out, 4);
	if (p)
		store_be32(p, v);
}

static inline void out_copy(struct bytes_out *out, const void *src, size_t len)
{
	uint8_t *p = out_take(out, len);
	if (p && len)
		memcpy(p, src, len);
}

static inline void out_zero(struct bytes_out *out, size_t len)
{
	uint8_t *p = out_take(out, len);
	if (p)
		memset(p, 0, len);
}
