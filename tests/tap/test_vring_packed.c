/* SPDX-License-Identifier: Apache-2.0 */
#include "vring_world.h"

#include <errno.h>

static int setup(void **state)
{
	*state = world_new(true);
	return 0;
}

static void chain_is_taken_in_order(void **state)
{
	struct world *w = *state;
	struct drv_desc d[] = { { WORLD_BUF, 12, 0 },
				{ WORLD_BUF + 100, 20, 0 },
				{ WORLD_BUF, 3, 0 } };

	assert_int_equal(drv_add(&w->drv, d, 3), 0);
	assert_int_equal(world_take(w, false), 1);
	assert_int_equal(w->chain.n_iov, 3);
	assert_int_equal(w->chain.n_slots, 3);
	assert_int_equal(w->chain.len, 35);
	assert_int_equal(world_take(w, false), 0);
}

static void used_chains_show_when_published(void **state)
{
	struct world *w = *state;
	struct vring_chain first;
	uint32_t id, len;

	world_add1(w, WORLD_BUF, 64, DRV_WRITE);
	world_add1(w, WORLD_BUF, 64, DRV_WRITE);
	assert_int_equal(world_take(w, true), 1);
	first = w->chain;
	assert_int_equal(world_take(w, true), 1);
	vring_put(&w->ring, &first, 33);
	vring_put(&w->ring, &w->chain, 44);
	assert_false(drv_used(&w->drv, &id, &len));
	vring_publish(&w->ring);
	assert_true(drv_used(&w->drv, &id, &len));
	assert_int_equal(len, 33);
	assert_true(drv_used(&w->drv, &id, &len));
	assert_int_equal(len, 44);
}

static void chains_come_back_in_any_order(void **state)
{
	struct world *w = *state;
	struct drv_desc two[] = { { WORLD_BUF, 12, 0 }, { WORLD_BUF, 13, 0 } };
	struct vring_chain first;
	uint32_t id, len;

	assert_int_equal(drv_add(&w->drv, two, 2), 0);
	assert_int_equal(world_add1(w, WORLD_BUF, 1, 0), 1);
	world_take(w, false);
	first = w->chain;
	world_take(w, false);
	vring_put(&w->ring, &w->chain, 0);
	vring_put(&w->ring, &first, 0);
	vring_publish(&w->ring);
	assert_true(drv_used(&w->drv, &id, &len));
	assert_int_equal(id, 1);
	assert_true(drv_used(&w->drv, &id, &len));
	assert_int_equal(id, 0);
}

static void untaken_chain_is_taken_again(void **state)
{
	struct world *w = *state;

	world_add1(w, WORLD_BUF, 10, 0);
	world_add1(w, WORLD_BUF, 20, 0);
	assert_int_equal(world_take(w, false), 1);
	vring_untake(&w->ring, &w->chain);
	assert_int_equal(world_take(w, false), 1);
	assert_int_equal(w->chain.len, 10);
}

static void many_rounds_wrap_the_ring(void **state)
{
	struct world *w = *state;
	uint32_t id, len;

	for (unsigned int i = 0; i < 10000; i++) {
		struct drv_desc d[] = { { WORLD_BUF, 1 + i, DRV_WRITE },
					{ WORLD_BUF, 1, DRV_WRITE },
					{ WORLD_BUF, 1, DRV_WRITE } };

		assert_true(drv_add(&w->drv, d, (uint16_t)(1 + i % 3)) >= 0);
		assert_int_equal(world_take(w, true), 1);
		assert_int_equal(w->chain.len, 1 + i + i % 3);
		vring_put(&w->ring, &w->chain, i);
		vring_publish(&w->ring);
		assert_true(drv_used(&w->drv, &id, &len));
		assert_int_equal(len, i);
		assert_int_equal(world_take(w, true), 0);
	}
}

static void whole_ring_in_one_batch_is_published_and_told(void **state)
{
	struct world *w = *state;
	struct vring_chain chains[WORLD_NUM];
	uint32_t id, len;

	for (unsigned int round = 0; round < 3; round++) {
		for (unsigned int i = 0; i < WORLD_NUM; i++)
			assert_true(world_add1(w, WORLD_BUF, 5, DRV_WRITE) >= 0);
		for (unsigned int i = 0; i < WORLD_NUM; i++) {
			assert_int_equal(world_take(w, true), 1);
			chains[i] = w->chain;
		}
		for (unsigned int i = 0; i < WORLD_NUM; i++)
			vring_put(&w->ring, &chains[i], i);
		assert_false(drv_used(&w->drv, &id, &len));
		vring_publish(&w->ring);
		assert_true(vring_wants_call(&w->ring));
		for (unsigned int i = 0; i < WORLD_NUM; i++)
			assert_true(drv_used(&w->drv, &id, &len));
	}
}

static void indirect_table_is_read_in_order(void **state)
{
	struct world *w = *state;
	struct drv_desc t[] = { { WORLD_BUF, 5, 0 }, { WORLD_BUF, 6, 0 } };

	drv_write_table(&w->drv, world_at(w, WORLD_TABLE), t, 2);
	world_add1(w, WORLD_TABLE, 32, DRV_INDIRECT);
	assert_int_equal(world_take(w, false), 1);
	assert_int_equal(w->chain.n_iov, 2);
	assert_int_equal(w->chain.n_slots, 1);
}

static void use_one(struct world *w)
{
	uint32_t id, len;

	world_add1(w, WORLD_BUF, 1, 0);
	assert_int_equal(world_take(w, false), 1);
	vring_put(&w->ring, &w->chain, 0);
	vring_publish(&w->ring);
	assert_true(drv_used(&w->drv, &id, &len));
}

static void write_flag_in_a_table_is_no_matter_where_we_read(void **state)
{
	struct world *w = *state;
	struct drv_desc t[] = { { WORLD_BUF, 5, DRV_WRITE }, { WORLD_BUF, 6, 0 } };

	drv_write_table(&w->drv, world_at(w, WORLD_TABLE), t, 2);
	world_add1(w, WORLD_TABLE, 32, DRV_INDIRECT);
	assert_int_equal(world_take(w, false), 1);
	assert_int_equal(w->chain.len, 11);
}

static void readable_entry_is_refused_where_we_write(void **state)
{
	struct world *w = *state;
	struct drv_desc t[] = { { WORLD_BUF, 5, DRV_WRITE }, { WORLD_BUF, 6, 0 } };

	drv_write_table(&w->drv, world_at(w, WORLD_TABLE), t, 2);
	world_add1(w, WORLD_TABLE, 32, DRV_INDIRECT);
	assert_int_equal(world_take(w, true), -EPROTO);
}

/* Who clears the log and copies the page before the flags are stored must find it marked again. */
static void page_is_dirty_after_it_was_published(void **state)
{
	struct world *w = *state;
	uint8_t bits[64] = { 0 };

	w->memory.logging = true;
	w->memory.log.bits = bits;
	w->memory.log.size = sizeof(bits);
	world_add1(w, WORLD_BUF, 1, 0);
	assert_int_equal(world_take(w, false), 1);
	vring_put(&w->ring, &w->chain, 0);
	memset(bits, 0, sizeof(bits));
	vring_publish(&w->ring);
	assert_int_equal(bits[WORLD_GUEST / 4096 / 8] >> WORLD_GUEST / 4096 % 8 & 1, 1);
	memset(&w->memory.log, 0, sizeof(w->memory.log));
}

static void driver_flags_suppress_calls(void **state)
{
	struct world *w = *state;

	drv_want_call(&w->drv, false);
	use_one(w);
	assert_false(vring_wants_call(&w->ring));
	drv_want_call(&w->drv, true);
	use_one(w);
	assert_true(vring_wants_call(&w->ring));
}

static void event_slot_suppresses_calls(void **state)
{
	struct world *w = *state;

	world_start(w, true, true, true);
	drv_want_call(&w->drv, true); /* at slot 0 */
	use_one(w);
	assert_true(vring_wants_call(&w->ring));
	for (unsigned int i = 0; i < 2 * WORLD_NUM - 2; i++) {
		use_one(w);
		/* Slot 0 with that wrap counter comes only after two rounds. */
		assert_false(vring_wants_call(&w->ring));
	}
}

static void kicks_follow_the_device_event(void **state)
{
	struct world *w = *state;

	world_start(w, true, true, true);
	vring_want_kick(&w->ring, true);
	world_add1(w, WORLD_BUF, 1, 0);
	assert_true(drv_kick_wanted(&w->drv));
	world_add1(w, WORLD_BUF, 1, 0);
	assert_false(drv_kick_wanted(&w->drv));
	while (world_take(w, false) > 0)
		;
	vring_want_kick(&w->ring, true);
	world_add1(w, WORLD_BUF, 1, 0);
	assert_true(drv_kick_wanted(&w->drv));
	vring_want_kick(&w->ring, false);
	world_add1(w, WORLD_BUF, 1, 0);
	assert_false(drv_kick_wanted(&w->drv));
}

static void base_has_slot_and_wrap_counter_twice(void **state)
{
	struct world *w = *state;

	for (unsigned int i = 0; i < WORLD_NUM + 3; i++)
		use_one(w);
	assert_int_equal(vring_base(&w->ring), 0x00030003);
}

static void base_outside_the_ring_is_refused(void **state)
{
	struct world *w = *state;
	struct vring_setup again = w->ring.setup;

	assert_int_equal(vring_start(&w->ring, &again, &w->memory, WORLD_NUM), -EINVAL);
}

struct lie {
	const char *name;
	struct drv_desc d;
	void (*change)(struct world *w);
	bool no_indirect;
};

static void endless(struct world *w)
{
	for (unsigned int i = 0; i < WORLD_NUM; i++)
		drv_write_desc(w->drv.desc + 16 * i, WORLD_BUF, 1, 0, 0x80 | DRV_NEXT);
}

static void nested_table(struct world *w)
{
	drv_write_desc(world_at(w, WORLD_TABLE), WORLD_TABLE, 32, 0, DRV_INDIRECT);
}

static void table_and_next(struct world *w)
{
	drv_write_desc(w->drv.desc, WORLD_TABLE, 32, 0, 0x80 | DRV_INDIRECT | DRV_NEXT);
}

static void table_behind_direct(struct world *w)
{
	drv_write_desc(w->drv.desc + 16, WORLD_TABLE, 32, 0, 0x80 | DRV_INDIRECT);
	drv_write_desc(w->drv.desc, WORLD_BUF, 1, 0, 0x80 | DRV_NEXT);
}

static struct lie lies[] = {
	{ .name = "a chain longer than the ring is refused", { WORLD_BUF, 1, 0 }, endless },
	{ .name = "an address below memory is refused", { 0, 1, 0 } },
	{ .name = "an address behind memory is refused", { WORLD_END, 1, 0 } },
	{ .name = "a buffer that runs out of memory is refused", { WORLD_END - 1, 2, 0 } },
	{ .name = "a buffer that wraps around is refused", { UINT64_MAX - 3, 16, 0 } },
	{ .name = "a buffer for writing is refused where we read", { WORLD_BUF, 1, DRV_WRITE } },
	{ .name = "a table is refused if not negotiated",
	  { WORLD_TABLE, 32, DRV_INDIRECT },
	  .no_indirect = true },
	{ .name = "an empty table is refused", { WORLD_TABLE, 0, DRV_INDIRECT } },
	{ .name = "a table of an odd length is refused", { WORLD_TABLE, 17, DRV_INDIRECT } },
	{ .name = "a table longer than the ring is refused",
	  { WORLD_TABLE, 16 * (WORLD_NUM + 1), DRV_INDIRECT } },
	{ .name = "a table outside memory is refused", { WORLD_END, 16, DRV_INDIRECT } },
	{ .name = "a table in a table is refused",
	  { WORLD_TABLE, 32, DRV_INDIRECT },
	  nested_table },
	{ .name = "a table with a next is refused",
	  { WORLD_TABLE, 32, DRV_INDIRECT },
	  table_and_next },
	{ .name = "a table behind a direct descriptor is refused",
	  { WORLD_BUF, 1, 0 },
	  table_behind_direct },
};

static void lie_breaks_the_ring(void **state)
{
	const struct lie *lie = *state;
	struct world *w = world_new(true);
	struct drv_desc table[] = { { WORLD_BUF, 1, 0 }, { WORLD_BUF, 1, 0 } };
	void *again = w;

	world_start(w, true, false, !lie->no_indirect);
	drv_write_table(&w->drv, world_at(w, WORLD_TABLE), table, 2);
	drv_add(&w->drv, &lie->d, 1);
	if (lie->change)
		lie->change(w);
	assert_int_equal(world_take(w, false), -EPROTO);
	assert_int_equal(world_take(w, false), -EPROTO);
	world_free(&again);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, world_free)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(chain_is_taken_in_order),
		T(used_chains_show_when_published),
		T(chains_come_back_in_any_order),
		T(untaken_chain_is_taken_again),
		T(many_rounds_wrap_the_ring),
		T(whole_ring_in_one_batch_is_published_and_told),
		T(indirect_table_is_read_in_order),
		T(write_flag_in_a_table_is_no_matter_where_we_read),
		T(readable_entry_is_refused_where_we_write),
		T(page_is_dirty_after_it_was_published),
		T(driver_flags_suppress_calls),
		T(event_slot_suppresses_calls),
		T(kicks_follow_the_device_event),
		T(base_has_slot_and_wrap_counter_twice),
		T(base_outside_the_ring_is_refused),
	};
	struct CMUnitTest rows[sizeof(lies) / sizeof(lies[0])];
	int failed = cmocka_run_group_tests(tests, NULL, NULL);

	for (size_t i = 0; i < sizeof(lies) / sizeof(lies[0]); i++)
		rows[i] = (struct CMUnitTest){ lies[i].name, lie_breaks_the_ring, NULL, NULL,
					       &lies[i] };
	return failed + cmocka_run_group_tests(rows, NULL, NULL);
}
