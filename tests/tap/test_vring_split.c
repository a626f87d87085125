/* SPDX-License-Identifier: Apache-2.0 */
#include "vring_world.h"

#include <errno.h>

static int setup(void **state)
{
	*state = world_new(false);
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
	assert_int_equal(w->chain.len, 35);
	assert_int_equal(w->iov[1].iov_len, 20);
	*world_at(w, WORLD_BUF + 100) = 0x5a;
	assert_int_equal(*(uint8_t *)w->iov[1].iov_base, 0x5a);
	assert_int_equal(world_take(w, false), 0);
}

static void used_chains_show_when_published(void **state)
{
	struct world *w = *state;
	uint32_t id, len;

	world_add1(w, WORLD_BUF, 64, DRV_WRITE);
	assert_int_equal(world_take(w, true), 1);
	vring_put(&w->ring, &w->chain, 33);
	assert_false(drv_used(&w->drv, &id, &len));
	vring_publish(&w->ring);
	assert_true(drv_used(&w->drv, &id, &len));
	assert_int_equal(id, 0);
	assert_int_equal(len, 33);
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

static void many_rounds_wrap_the_index(void **state)
{
	struct world *w = *state;
	uint32_t id, len;

	for (unsigned int i = 0; i < 70000; i++) {
		assert_true(world_add1(w, WORLD_BUF, 1 + i % 100, DRV_WRITE) >= 0);
		assert_int_equal(world_take(w, true), 1);
		assert_int_equal(w->chain.len, 1 + i % 100);
		vring_put(&w->ring, &w->chain, i);
		vring_publish(&w->ring);
		assert_true(drv_used(&w->drv, &id, &len));
		assert_int_equal(len, i);
	}
}

static void indirect_table_is_followed(void **state)
{
	struct world *w = *state;
	struct drv_desc t[] = { { WORLD_BUF, 5, 0 }, { WORLD_BUF, 6, 0 } };

	drv_write_table(&w->drv, world_at(w, WORLD_TABLE), t, 2);
	world_add1(w, WORLD_TABLE, 32, DRV_INDIRECT);
	assert_int_equal(world_take(w, false), 1);
	assert_int_equal(w->chain.n_iov, 2);
	assert_int_equal(w->chain.len, 11);
}

static void table_may_follow_direct_descriptors(void **state)
{
	struct world *w = *state;
	struct drv_desc t[] = { { WORLD_BUF, 5, 0 } };
	struct drv_desc d[] = { { WORLD_BUF, 12, 0 }, { WORLD_TABLE, 16, DRV_INDIRECT } };

	drv_write_table(&w->drv, world_at(w, WORLD_TABLE), t, 1);
	drv_add(&w->drv, d, 2);
	assert_int_equal(world_take(w, false), 1);
	assert_int_equal(w->chain.len, 17);
}

static void buffer_across_neighbours_is_two_pieces(void **state)
{
	struct world *w = *state;

	world_add1(w, WORLD_SEAM - 10, 30, 0);
	assert_int_equal(world_take(w, false), 1);
	assert_int_equal(w->chain.n_iov, 2);
	assert_int_equal(w->iov[0].iov_len, 10);
	assert_int_equal(w->iov[1].iov_len, 20);
}

/* What is under way can't be more than the ring: the same chain twice is two users of its memory.
 */
static void chain_made_available_twice_is_refused(void **state)
{
	struct world *w = *state;
	struct drv_desc d[WORLD_NUM / 2 + 1];

	for (unsigned int i = 0; i < WORLD_NUM / 2 + 1; i++)
		d[i] = (struct drv_desc){ WORLD_BUF, 1, 0 };
	assert_int_equal(drv_add(&w->drv, d, WORLD_NUM / 2 + 1), 0);
	drv_store16(w->drv.driver + 4 + 2, 0);
	drv_store16(w->drv.driver + 2, 2);
	assert_int_equal(world_take(w, false), 1);
	assert_int_equal(w->chain.n_slots, WORLD_NUM / 2 + 1);
	assert_int_equal(world_take(w, false), -EPROTO);
}

static void empty_descriptor_is_no_piece(void **state)
{
	struct world *w = *state;

	world_add1(w, WORLD_BUF, 0, 0);
	assert_int_equal(world_take(w, false), 1);
	assert_int_equal(w->chain.n_iov, 0);
}

static void flag_suppresses_calls(void **state)
{
	struct world *w = *state;

	world_add1(w, WORLD_BUF, 1, 0);
	drv_want_call(&w->drv, false);
	world_take(w, false);
	vring_put(&w->ring, &w->chain, 0);
	vring_publish(&w->ring);
	assert_false(vring_wants_call(&w->ring));
	drv_want_call(&w->drv, true);
	assert_false(vring_wants_call(&w->ring)); /* nothing new */
}

static void use_one(struct world *w)
{
	world_add1(w, WORLD_BUF, 1, 0);
	assert_int_equal(world_take(w, false), 1);
	vring_put(&w->ring, &w->chain, 0);
	vring_publish(&w->ring);
}

static void event_index_suppresses_calls(void **state)
{
	struct world *w = *state;

	world_start(w, false, true, true);
	use_one(w);
	assert_true(vring_wants_call(&w->ring)); /* the first is always told */
	use_one(w);
	assert_false(vring_wants_call(&w->ring)); /* the driver still waits for index 0 */
	w->drv.last_used = 2;
	drv_want_call(&w->drv, true);
	use_one(w);
	assert_true(vring_wants_call(&w->ring));
}

static void kicks_are_suppressed_by_flag(void **state)
{
	struct world *w = *state;

	vring_want_kick(&w->ring, false);
	world_add1(w, WORLD_BUF, 1, 0);
	assert_false(drv_kick_wanted(&w->drv));
	vring_want_kick(&w->ring, true);
	world_add1(w, WORLD_BUF, 1, 0);
	assert_true(drv_kick_wanted(&w->drv));
}

static void kicks_are_suppressed_by_event_index(void **state)
{
	struct world *w = *state;

	world_start(w, false, true, true);
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
}

static void writes_to_the_used_ring_are_logged(void **state)
{
	struct world *w = *state;
	struct vu_log_area area = { 0x1000, 0 };
	int fd = memfd_create("log", MFD_CLOEXEC);

	assert_int_equal(ftruncate(fd, 0x1000), 0);
	assert_int_equal(vu_memory_set_log(&w->memory, &area, fd), 0);
	close(fd);
	w->memory.logging = true;
	w->ring.setup.log_used = true;
	use_one(w);
	assert_int_equal(w->memory.log.bits[(WORLD_GUEST + 0x2000) / 4096 / 8],
			 1u << ((WORLD_GUEST + 0x2000) / 4096 % 8));
}

static void base_counts_taken_chains(void **state)
{
	struct world *w = *state;

	use_one(w);
	use_one(w);
	assert_int_equal(vring_base(&w->ring), 2);
}

/* Lies: each is one available chain, then something is changed. */
struct lie {
	const char *name;
	struct drv_desc d;
	void (*change)(struct world *w);
	struct drv_desc table[2];
	bool no_indirect;
};

static void jump(struct world *w)
{
	drv_store16(w->drv.driver + 2, WORLD_NUM + 1);
}

static void head_outside(struct world *w)
{
	drv_store16(w->drv.driver + 4, WORLD_NUM);
}

static void loop(struct world *w)
{
	drv_write_desc(w->drv.desc, WORLD_BUF, 1, DRV_NEXT, 0);
}

static void next_outside(struct world *w)
{
	drv_write_desc(w->drv.desc, WORLD_BUF, 1, DRV_NEXT, WORLD_NUM);
}

static void table_loop(struct world *w)
{
	drv_write_desc(world_at(w, WORLD_TABLE), WORLD_BUF, 1, DRV_NEXT, 0);
}

static void table_next_outside(struct world *w)
{
	drv_write_desc(world_at(w, WORLD_TABLE), WORLD_BUF, 1, DRV_NEXT, 2);
}

static void nested_table(struct world *w)
{
	drv_write_desc(world_at(w, WORLD_TABLE), WORLD_TABLE, 32, DRV_INDIRECT, 0);
}

static void table_and_next(struct world *w)
{
	drv_write_desc(w->drv.desc, WORLD_TABLE, 32, DRV_INDIRECT | DRV_NEXT, 1);
}

static const struct drv_desc good = { WORLD_BUF, 10, 0 };

static struct lie lies[] = {
	{ .name = "an index that jumps past the ring is refused", { WORLD_BUF, 1, 0 }, jump },
	{ .name = "a head outside the ring is refused", { WORLD_BUF, 1, 0 }, head_outside },
	{ .name = "a loop is refused", { WORLD_BUF, 1, 0 }, loop },
	{ .name = "a next outside the ring is refused", { WORLD_BUF, 1, 0 }, next_outside },
	{ .name = "an address below memory is refused", { 0, 1, 0 } },
	{ .name = "an address behind memory is refused", { WORLD_END, 1, 0 } },
	{ .name = "a buffer that runs out of memory is refused", { WORLD_END - 1, 2, 0 } },
	{ .name = "a buffer that wraps around is refused", { UINT64_MAX - 3, 16, 0 } },
	{ .name = "a buffer with the longest length is refused", { WORLD_BUF, UINT32_MAX, 0 } },
	{ .name = "a buffer for writing is refused where we read", { WORLD_BUF, 1, DRV_WRITE } },
	{ .name = "a table is refused if not negotiated",
	  { WORLD_TABLE, 32, DRV_INDIRECT },
	  .no_indirect = true },
	{ .name = "an empty table is refused", { WORLD_TABLE, 0, DRV_INDIRECT } },
	{ .name = "a table of an odd length is refused", { WORLD_TABLE, 17, DRV_INDIRECT } },
	{ .name = "a table longer than the ring is refused",
	  { WORLD_TABLE, 16 * (WORLD_NUM + 1), DRV_INDIRECT } },
	{ .name = "a table outside memory is refused", { WORLD_END, 16, DRV_INDIRECT } },
	{ .name = "a table across regions is refused", { WORLD_SEAM - 16, 32, DRV_INDIRECT } },
	{ .name = "a loop in a table is refused", { WORLD_TABLE, 32, DRV_INDIRECT }, table_loop },
	{ .name = "a next outside the table is refused",
	  { WORLD_TABLE, 32, DRV_INDIRECT },
	  table_next_outside },
	{ .name = "a table in a table is refused",
	  { WORLD_TABLE, 32, DRV_INDIRECT },
	  nested_table },
	{ .name = "a table with a next is refused",
	  { WORLD_TABLE, 32, DRV_INDIRECT },
	  table_and_next },
};

static void lie_breaks_the_ring(void **state)
{
	const struct lie *lie = *state;
	struct world *w = world_new(false);
	void *again = w;
	struct drv_desc table[] = { good, good };

	world_start(w, false, false, !lie->no_indirect);
	drv_write_table(&w->drv, world_at(w, WORLD_TABLE), table, 2);
	drv_add(&w->drv, &lie->d, 1);
	if (lie->change)
		lie->change(w);
	assert_int_equal(world_take(w, false), -EPROTO);
	assert_int_equal(world_take(w, false), -EPROTO); /* and stays broken */
	world_free(&again);
}

static void reposting_what_is_out_is_refused(void **state)
{
	struct world *w = *state;

	world_add1(w, WORLD_BUF, 1, 0);
	for (unsigned int i = 0; i < WORLD_NUM; i++) {
		assert_int_equal(world_take(w, false), 1);
		drv_store16(w->drv.driver + 4 + 2 * ((i + 1) % WORLD_NUM), 0);
		drv_store16(w->drv.driver + 2, (uint16_t)(i + 2));
	}
	assert_int_equal(world_take(w, false), -EPROTO);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, world_free)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(chain_is_taken_in_order),
		T(used_chains_show_when_published),
		T(untaken_chain_is_taken_again),
		T(many_rounds_wrap_the_index),
		T(indirect_table_is_followed),
		T(table_may_follow_direct_descriptors),
		T(buffer_across_neighbours_is_two_pieces),
		T(chain_made_available_twice_is_refused),
		T(empty_descriptor_is_no_piece),
		T(flag_suppresses_calls),
		T(event_index_suppresses_calls),
		T(kicks_are_suppressed_by_flag),
		T(kicks_are_suppressed_by_event_index),
		T(writes_to_the_used_ring_are_logged),
		T(base_counts_taken_chains),
		T(reposting_what_is_out_is_refused),
	};
	struct CMUnitTest rows[sizeof(lies) / sizeof(lies[0])];
	int failed = cmocka_run_group_tests(tests, NULL, NULL);

	for (size_t i = 0; i < sizeof(lies) / sizeof(lies[0]); i++)
		rows[i] = (struct CMUnitTest){ lies[i].name, lie_breaks_the_ring, NULL, NULL,
					       &lies[i] };
	return failed + cmocka_run_group_tests(rows, NULL, NULL);
}
