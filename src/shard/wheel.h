/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Timing wheel: all timers of one shard. Four levels of 64 slots; a slot of level 0 is
 * WHEEL_TICK_US long, so that the levels reach 33 ms, 2.1 s, 134 s and 2.4 h. Adding, removing and
 * finding the next deadline take constant time; a timer fires at most one tick of its level's
 * granularity late on levels above 0 it is put down a level first, so that the lateness is one tick
 * of level 0.
 */
#pragma once

#include "list.h"

#include <stdint.h>

#define WHEEL_LEVELS  4
#define WHEEL_SLOTS   64
#define WHEEL_TICK_US 512

struct timer {
	struct list link; /* in a slot, or by itself */
	uint64_t due_us;
	uint8_t level;
	uint8_t slot;
};

struct wheel {
	uint64_t tick;		     /* all before it has been fired */
	uint64_t used[WHEEL_LEVELS]; /* slots that may hold timers */
	struct list slots[WHEEL_LEVELS][WHEEL_SLOTS];
};

void wheel_init(struct wheel *wheel, uint64_t now_us);

void timer_init(struct timer *timer);

/* (Re)arms a timer; one that is due already fires with the next wheel_advance(). */
void wheel_arm(struct wheel *wheel, struct timer *timer, uint64_t due_us);
void wheel_disarm(struct wheel *wheel, struct timer *timer);

static inline bool timer_is_armed(const struct timer *timer)
{
	return !list_is_empty(&timer->link);
}

/* Moves the timers that are due by now_us to the list, disarmed for the wheel; the caller takes
 * them off. */
void wheel_advance(struct wheel *wheel, uint64_t now_us, struct list *due);

/* A time by which wheel_advance() must be called again; never later than the next deadline's tick.
 * UINT64_MAX: none. */
uint64_t wheel_next_us(const struct wheel *wheel);
