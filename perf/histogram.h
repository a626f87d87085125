/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A histogram of times in nanoseconds: each power of two in 32 parts, 3 % of error at most.
 */
#pragma once

#include <stdint.h>

#define HISTOGRAM_PARTS_LOG2 5
#define HISTOGRAM_SLOTS	     (64 << HISTOGRAM_PARTS_LOG2)

struct histogram {
	uint64_t n;
	uint64_t slots[HISTOGRAM_SLOTS];
};

static inline void histogram_add(struct histogram *h, uint64_t ns)
{
	unsigned int exponent =
		63U - (unsigned int)__builtin_clzll(ns | (1U << HISTOGRAM_PARTS_LOG2));
	unsigned int part = (unsigned int)(ns >> (exponent - HISTOGRAM_PARTS_LOG2)) &
			    ((1U << HISTOGRAM_PARTS_LOG2) - 1);

	h->slots[(exponent << HISTOGRAM_PARTS_LOG2) + part]++;
	h->n++;
}

static inline double histogram_slot_us(unsigned int slot)
{
	unsigned int exponent = slot >> HISTOGRAM_PARTS_LOG2;
	double part = (double)(slot & ((1U << HISTOGRAM_PARTS_LOG2) - 1)) + 0.5;

	return (double)(1ULL << exponent) * (1 + part / (1U << HISTOGRAM_PARTS_LOG2)) / 1e3;
}

/* The time in microseconds under which share of all times are; 0 without any. */
static inline double histogram_share_us(const struct histogram *h, double share)
{
	uint64_t sum = 0;

	for (unsigned int i = 0; i < HISTOGRAM_SLOTS; i++) {
		sum += h->slots[i];
		if (sum > 0 && (double)sum >= share * (double)h->n)
			return histogram_slot_us(i);
	}
	return 0;
}
