/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The wheel of George Varghese and Tony Lauck's paper ("Hashed and Hierarchical Timing Wheels",
 * scheme 7): a timer sits on the level whose span covers its distance and moves down as its slot
 * comes up.
 */
#include "wheel.h"

#define LEVEL_SHIFT(level) ((level)*6)

void timer_init(struct timer *timer)
{
	list_init(&timer->link);
	timer->due_us = 0;
	timer->level = timer->slot = 0;
}

void wheel_init(struct wheel *wheel, uint64_t now_us)
{
	wheel->tick = now_us / WHEEL_TICK_US;
	for (unsigned int level = 0; level < WHEEL_LEVELS; level++) {
		wheel->used[level] = 0;
		for (unsigned int slot = 0; slot < WHEEL_SLOTS; slot++)
			list_init(&wheel->slots[level][slot]);
	}
}

/* The tick at which a deadline may fire: the first that is not before it. */
static uint64_t tick_of(uint64_t due_us)
{
	return (due_us + WHEEL_TICK_US - 1) / WHEEL_TICK_US;
}

static void place(struct wheel *wheel, struct timer *timer)
{
	uint64_t tick = tick_of(timer->due_us);
	unsigned int level = 0;

	if (tick < wheel->tick)
		tick = wheel->tick;
	while (level < WHEEL_LEVELS - 1 &&
	       (tick >> LEVEL_SHIFT(level)) - (wheel->tick >> LEVEL_SHIFT(level)) >= WHEEL_SLOTS)
		level++;
	/* Beyond the last level's reach: wait in its farthest slot and be placed anew from there.
	 */
	if ((tick >> LEVEL_SHIFT(level)) - (wheel->tick >> LEVEL_SHIFT(level)) >= WHEEL_SLOTS)
		tick = wheel->tick + ((uint64_t)(WHEEL_SLOTS - 1) << LEVEL_SHIFT(level));
	timer->level = (uint8_t)level;
	timer->slot = (uint8_t)((tick >> LEVEL_SHIFT(level)) % WHEEL_SLOTS);
	list_append(&wheel->slots[level][timer->slot], &timer->link);
	wheel->used[level] |= 1ull << timer->slot;
}

void wheel_disarm(struct wheel *wheel, struct timer *timer)
{
	if (!timer_is_armed(timer))
		return;
	list_remove(&timer->link);
	if (list_is_empty(&wheel->slots[timer->level][timer->slot]))
		wheel->used[timer->level] &= ~(1ull << timer->slot);
}

void wheel_arm(struct wheel *wheel, struct timer *timer, uint64_t due_us)
{
	if (timer_is_armed(timer) && timer->due_us == due_us)
		return;
	wheel_disarm(wheel, timer);
	timer->due_us = due_us;
	place(wheel, timer);
}

/* Distance in slots from the present one to the first used one of a level; 64 if none is used. */
static unsigned int distance(const struct wheel *wheel, unsigned int level)
{
	uint64_t used = wheel->used[level];
	unsigned int at = (unsigned int)((wheel->tick >> LEVEL_SHIFT(level)) % WHEEL_SLOTS);

	if (!used)
		return WHEEL_SLOTS;
	used = at ? used >> at | used << (64 - at) : used;
	return (unsigned int)__builtin_ctzll(used);
}

/* The tick at which a level's first used slot begins, or UINT64_MAX. */
static uint64_t level_next(const struct wheel *wheel, unsigned int level)
{
	unsigned int d = distance(wheel, level);
	uint64_t at = wheel->tick >> LEVEL_SHIFT(level);

	if (d == WHEEL_SLOTS)
		return UINT64_MAX;
	uint64_t begin = (at + d) << LEVEL_SHIFT(level);
	return begin < wheel->tick ? wheel->tick : begin;
}

static uint64_t next_tick(const struct wheel *wheel)
{
	uint64_t next = UINT64_MAX;

	for (unsigned int level = 0; level < WHEEL_LEVELS; level++) {
		uint64_t t = level_next(wheel, level);
		next = t < next ? t : next;
	}
	return next;
}

uint64_t wheel_next_us(const struct wheel *wheel)
{
	uint64_t tick = next_tick(wheel);

	return tick == UINT64_MAX ? UINT64_MAX : tick * WHEEL_TICK_US;
}

/* Empties the slots that begin at the present tick: due timers out, others to a lower level. */
static void turn(struct wheel *wheel, struct list *due)
{
	for (unsigned int level = WHEEL_LEVELS; level-- > 0;) {
		unsigned int slot =
			(unsigned int)((wheel->tick >> LEVEL_SHIFT(level)) % WHEEL_SLOTS);
		struct list todo, *node;

		if (!(wheel->used[level] & 1ull << slot))
			continue;
		list_init(&todo);
		list_splice(&todo, &wheel->slots[level][slot]);
		wheel->used[level] &= ~(1ull << slot);
		while ((node = list_take(&todo))) {
			struct timer *timer = LIST_ENTRY(node, struct timer, link);

			if (tick_of(timer->due_us) <= wheel->tick)
				list_append(due, node);
			else
				place(wheel, timer);
		}
	}
}

void wheel_advance(struct wheel *wheel, uint64_t now_us, struct list *due)
{
	uint64_t now = now_us / WHEEL_TICK_US;

	for (;;) {
		uint64_t next = next_tick(wheel);

		if (next > now)
			break;
		wheel->tick = next;
		turn(wheel, due);
	}
	if (now > wheel->tick)
		wheel->tick = now;
}
