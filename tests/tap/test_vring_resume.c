/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A packed ring whose device was killed, and which another one is given without being told where it
 * stands: with chains of one to three slots, in every place of two rounds.
 */
#include "vring_world.h"

#define ROUNDS (2 * WORLD_NUM + 3)

struct kill {
	const char *name;
	void (*play)(struct world *w);
	unsigned int slots; /* of each chain, at most */
};

static void add(struct world *w, unsigned int slots)
{
	struct drv_desc d[] = { { WORLD_BUF, 100, DRV_WRITE },
				{ WORLD_BUF, 100, DRV_WRITE },
				{ WORLD_BUF, 100, DRV_WRITE } };

	assert_true(drv_add(&w->drv, d, (uint16_t)slots) >= 0);
}

/* The driver gets back what it added, in order. Returns the length. */
static uint32_t get(struct world *w)
{
	uint32_t id, len = 0;

	assert_true(drv_used(&w->drv, &id, &len));
	return len;
}

static void take_and_put(struct world *w, uint32_t written)
{
	assert_int_equal(world_take(w, true), 1);
	assert_true(w->chain.len >= 100);
	vring_put(&w->ring, &w->chain, written);
}

static void use(struct world *w, unsigned int slots)
{
	add(w, slots);
	take_and_put(w, 7);
	vring_publish(&w->ring);
	assert_int_equal(get(w), 7);
}

static void start_at(struct world *w, uint16_t pos, bool wrap)
{
	struct vring_setup setup = w->ring.setup;

	assert_int_equal(vring_start(&w->ring, &setup, &w->memory, pos | (wrap ? 0x8000 : 0)), 0);
}

/* The next device is told where the first one began. */
static void start_anew(struct world *w)
{
	start_at(w, 0, true);
}

static void goes_on(struct world *w)
{
	assert_int_equal(world_take(w, true), 0);
	for (unsigned int i = 0; i < ROUNDS; i++)
		use(w, 1 + i % 3);
}

static void idle(struct world *w)
{
	start_anew(w);
}

static void nothing_left(struct world *w)
{
	while (w->drv.n_free)
		use(w, 1), add(w, 1);
	for (unsigned int i = 0; i < WORLD_NUM; i++) {
		take_and_put(w, 8);
		vring_publish(&w->ring);
	}
	start_anew(w);
	for (unsigned int i = 0; i < WORLD_NUM; i++)
		assert_int_equal(get(w), 8);
}

static void all_available(struct world *w)
{
	while (w->drv.n_free)
		add(w, 1);
	start_anew(w);
	for (unsigned int i = 0; i < WORLD_NUM; i++) {
		take_and_put(w, i);
		vring_publish(&w->ring);
		assert_int_equal(get(w), i);
	}
}

/* Two of three are under way. */
static void taken(struct world *w)
{
	for (unsigned int i = 1; i <= 3; i++)
		add(w, i);
	assert_int_equal(world_take(w, true), 1);
	assert_int_equal(world_take(w, true), 1);
	start_anew(w);
	for (unsigned int i = 1; i <= 3; i++) {
		take_and_put(w, i);
		assert_int_equal(w->chain.n_slots, i);
	}
	vring_publish(&w->ring);
	for (unsigned int i = 1; i <= 3; i++)
		assert_int_equal(get(w), i);
}

/* One that was put was not overwritten by that. */
static void put_one(struct world *w)
{
	add(w, 1);
	take_and_put(w, 0);
	start_anew(w);
	take_and_put(w, 9);
	vring_publish(&w->ring);
	assert_int_equal(get(w), 9);
}

/* Only where the batch ends the base would be believed. */
static void put_some(struct world *w)
{
	for (unsigned int i = 0; i < 4; i++)
		add(w, 1 + i % 2);
	for (unsigned int i = 0; i < 3; i++)
		take_and_put(w, 50);
	start_at(w, w->ring.published, w->ring.published_wrap);
	for (unsigned int i = 0; i < 3; i++)
		assert_int_equal(get(w), 0);
	take_and_put(w, 5);
	vring_publish(&w->ring);
	assert_int_equal(get(w), 5);
}

static void put_all(struct world *w)
{
	for (unsigned int i = 0; i < WORLD_NUM; i++)
		add(w, 1);
	for (unsigned int i = 0; i < WORLD_NUM; i++)
		take_and_put(w, 50);
	start_anew(w);
	for (unsigned int i = 0; i < WORLD_NUM; i++)
		assert_int_equal(get(w), 0);
}

static struct kill kills[] = {
	{ "an idle ring goes on", idle, 1 },
	{ "an idle ring of longer chains goes on", idle, 3 },
	{ "a ring that is all used goes on", nothing_left, 1 },
	{ "a ring that is all available goes on", all_available, 3 },
	{ "chains that were taken are taken again", taken, 3 },
	{ "a chain that was put but not published is taken again", put_one, 3 },
	{ "chains that were put but not published come back empty", put_some, 3 },
	{ "a whole ring that was put but not published comes back empty", put_all, 1 },
};

static void ring_goes_on(void **state)
{
	const struct kill *kill = *state;

	for (unsigned int n = 0; n < ROUNDS; n++) {
		struct world *w = world_new(true);
		void *again = w;

		for (unsigned int i = 0; i < n; i++)
			use(w, 1 + i % kill->slots);
		kill->play(w);
		goes_on(w);
		world_free(&again);
	}
}

/* Other devices leave all slots of a chain but the first as they are. */
static void other_device_leaves_its_chains(struct world *w, unsigned int n, unsigned int slots)
{
	for (unsigned int i = 0; i < n; i++) {
		uint16_t at = w->ring.used_pos, flags[3];
		bool wrap = false;

		add(w, slots);
		for (unsigned int k = 0; k < slots; k++)
			flags[k] = guest_load16(vring_slot(&w->ring, (at + k) % WORLD_NUM) + 14);
		take_and_put(w, 7);
		vring_publish(&w->ring);
		vring_advance(&w->ring, &at, &wrap, 1);
		for (unsigned int k = 1; k < slots; k++, vring_advance(&w->ring, &at, &wrap, 1))
			guest_store16(vring_slot(&w->ring, at) + 14, flags[k]);
		assert_int_equal(get(w), 7);
	}
}

static void base_behind_a_long_chain_of_another_device_is_believed(void **state)
{
	(void)state;
	for (unsigned int n = 0; n < 2 * WORLD_NUM - 3; n++) {
		struct world *w = world_new(true);
		void *again = w;

		for (unsigned int i = 0; i < n; i++)
			use(w, 1);
		other_device_leaves_its_chains(w, 1, 3);
		start_at(w, w->ring.used_pos, w->ring.used_wrap);
		goes_on(w);
		world_free(&again);
	}
}

static void base_is_believed_where_the_ring_does_not_show_it(void **state)
{
	(void)state;
	for (unsigned int n = 3; n < ROUNDS; n++) {
		struct world *w = world_new(true);
		void *again = w;

		other_device_leaves_its_chains(w, n, 2 + n % 2);
		start_at(w, w->ring.used_pos, w->ring.used_wrap);
		goes_on(w);
		world_free(&again);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(base_behind_a_long_chain_of_another_device_is_believed),
		cmocka_unit_test(base_is_believed_where_the_ring_does_not_show_it),
	};
	struct CMUnitTest rows[sizeof(kills) / sizeof(kills[0])];
	int failed = cmocka_run_group_tests(tests, NULL, NULL);

	for (size_t i = 0; i < sizeof(kills) / sizeof(kills[0]); i++)
		rows[i] = (struct CMUnitTest){ kills[i].name, ring_goes_on, NULL, NULL, &kills[i] };
	return failed + cmocka_run_group_tests(rows, NULL, NULL);
}
