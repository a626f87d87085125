/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the load generators send, so that who receives can tell loss, repetition and damage: a
 * stream's byte at offset o is pattern_byte(o), whatever it was cut into; a datagram begins with a
 * mark, the number of its flow and its own, and goes on with the pattern's bytes.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define PATTERN_PERIOD 65536u /* bytes after which it repeats */
#define MARK_LEN       16u

static inline uint8_t pattern_byte(uint64_t offset)
{
	uint32_t at = (uint32_t)(offset % PATTERN_PERIOD);

	return (uint8_t)(at * 2654435761u >> 23);
}

/* Fills size bytes, from the pattern's first on. */
static inline void pattern_fill(uint8_t *bytes, size_t size)
{
	for (size_t i = 0; i < size; i++)
		bytes[i] = pattern_byte(i);
}

/* Whether len bytes are those of a stream at offset. pattern: two periods of it, filled. */
static inline int pattern_matches(const uint8_t *pattern, const uint8_t *bytes, size_t len,
				  uint64_t offset)
{
	while (len) {
		size_t n = len < PATTERN_PERIOD ? len : PATTERN_PERIOD;

		if (memcmp(bytes, pattern + offset % PATTERN_PERIOD, n) != 0)
			return 0;
		bytes += n;
		offset += n;
		len -= n;
	}
	return 1;
}

/* The mark of a datagram of the load; a greeting has another first byte. */
struct mark {
	char kind; /* 'L' */
	uint8_t unused[3];
	uint32_t flow;
	uint64_t number; /* from 1 on, in its flow */
};

_Static_assert(sizeof(struct mark) == MARK_LEN, "a mark has no holes");

/* What a receiver has seen of one flow. */
struct mark_seen {
	uint64_t last;
	uint64_t n;
};

/* Notes a datagram's mark. Returns whether it came in order and once. */
static inline int mark_note(struct mark_seen *seen, const struct mark *mark)
{
	int in_order = mark->number > seen->last;

	if (in_order)
		seen->last = mark->number;
	seen->n++;
	return in_order;
}
