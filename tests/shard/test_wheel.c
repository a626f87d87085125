/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The timing wheel: when timers fire on each level, and what wheel_next_us() promises.
 */
#include "wheel.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#define SECOND 1000000ull
#define HOUR   (3600 * SECOND)

static struct wheel wheel;

/* Jumps from one announced time to the next until the timer fires. Returns when. */
static uint64_t fires_at(struct timer *timer)
{
	struct list due;
	uint64_t next;

	list_init(&due);
	while (list_is_empty(&due)) {
		next = wheel_next_us(&wheel);
		assert_true(next != UINT64_MAX);
		wheel_advance(&wheel, next, &due);
	}
	assert_ptr_equal(list_take(&due), &timer->link);
	assert_false(timer_is_armed(timer));
	return next;
}

static struct delay_case {
	const char *name;
	uint64_t start, delay;
} delays[] = {
	{ "a timer that is due fires at once", 5000 * SECOND, 0 },
	{ "a timer of a microsecond fires in the next tick", 5000 * SECOND + 3, 1 },
	{ "a timer of a millisecond fires in time", 5000 * SECOND, 1000 },
	{ "a timer at the edge of level 0 fires in time", 0, 64 * 512 },
	{ "a timer of 200 ms fires in time", 77, 200000 },
	{ "a timer at the edge of level 1 fires in time", 512, 64 * 64 * 512 },
	{ "a timer of a minute fires in time", 123456789, 60 * SECOND },
	{ "a timer of two hours fires in time", 99 * HOUR + 1, 2 * HOUR },
	{ "a timer beyond the last level fires in time", 17, 30 * HOUR },
	{ "a timer just before a level's turn fires in time", 64 * 64 * 512 - 1, 33000 },
};

static void fires_in_time(void **state)
{
	const struct delay_case *c = *state;
	struct timer timer;
	uint64_t at;

	wheel_init(&wheel, c->start);
	timer_init(&timer);
	wheel_arm(&wheel, &timer, c->start + c->delay);
	assert_true(timer_is_armed(&timer));
	at = fires_at(&timer);
	assert_true(at + WHEEL_TICK_US > c->start + c->delay);
	assert_true(at <= c->start + c->delay + WHEEL_TICK_US);
}

static void an_empty_wheel_promises_nothing(void **state)
{
	(void)state;
	wheel_init(&wheel, 12345);
	assert_true(wheel_next_us(&wheel) == UINT64_MAX);
}

static void a_disarmed_timer_does_not_fire(void **state)
{
	struct timer timer;
	struct list due;

	(void)state;
	wheel_init(&wheel, 0);
	timer_init(&timer);
	wheel_arm(&wheel, &timer, 5000);
	wheel_disarm(&wheel, &timer);
	wheel_disarm(&wheel, &timer);
	list_init(&due);
	wheel_advance(&wheel, SECOND, &due);
	assert_true(list_is_empty(&due));
	assert_true(wheel_next_us(&wheel) == UINT64_MAX);
}

static void rearming_moves_a_timer(void **state)
{
	struct timer timer;
	uint64_t at;

	(void)state;
	wheel_init(&wheel, 0);
	timer_init(&timer);
	wheel_arm(&wheel, &timer, 5 * SECOND);
	wheel_arm(&wheel, &timer, 2 * SECOND);
	at = fires_at(&timer);
	assert_true(at >= 2 * SECOND && at <= 2 * SECOND + WHEEL_TICK_US);
}

static void a_late_call_finds_all_that_is_due(void **state)
{
	struct timer timers[100];
	struct list due;
	unsigned int n = 0;

	(void)state;
	wheel_init(&wheel, 0);
	for (unsigned int i = 0; i < 100; i++) {
		timer_init(&timers[i]);
		wheel_arm(&wheel, &timers[i], i * 100000ull);
	}
	list_init(&due);
	wheel_advance(&wheel, 5 * SECOND + 1000, &due);
	while (list_take(&due))
		n++;
	assert_int_equal(n, 51);
}

static void a_thousand_random_timers_fire_in_time(void **state)
{
	static struct timer timers[1000];
	unsigned int left = 1000;
	uint64_t now = 987654321;

	(void)state;
	srand(7);
	wheel_init(&wheel, now);
	for (unsigned int i = 0; i < 1000; i++) {
		timer_init(&timers[i]);
		wheel_arm(&wheel, &timers[i],
			  now + (uint64_t)rand() % (UINT64_C(1) << (rand() % 34)));
	}
	while (left) {
		struct list due, *node;

		list_init(&due);
		assert_true(wheel_next_us(&wheel) != UINT64_MAX);
		now = wheel_next_us(&wheel) > now ? wheel_next_us(&wheel) : now;
		wheel_advance(&wheel, now, &due);
		while ((node = list_take(&due))) {
			struct timer *t = LIST_ENTRY(node, struct timer, link);

			assert_true(t->due_us <= now && now <= t->due_us + 2 * WHEEL_TICK_US);
			left--;
		}
	}
}

#define N_DELAYS (sizeof(delays) / sizeof(delays[0]))

int main(void)
{
	const struct CMUnitTest plain[] = {
		cmocka_unit_test(an_empty_wheel_promises_nothing),
		cmocka_unit_test(a_disarmed_timer_does_not_fire),
		cmocka_unit_test(rearming_moves_a_timer),
		cmocka_unit_test(a_late_call_finds_all_that_is_due),
		cmocka_unit_test(a_thousand_random_timers_fire_in_time),
	};
	struct CMUnitTest rows[N_DELAYS];

	for (size_t i = 0; i < N_DELAYS; i++)
		rows[i] = (struct CMUnitTest){ delays[i].name, fires_in_time, NULL, NULL,
					       &delays[i] };
	return cmocka_run_group_tests(plain, NULL, NULL) + cmocka_run_group_tests(rows, NULL, NULL);
}
