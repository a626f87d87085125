/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The buffer pool: its chunks and its accounts.
 */
#include "pool.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>

#include <cmocka.h>

static struct pool pool;

static int make(void **state)
{
	(void)state;
	return pool_init(&pool, 4 * POOL_CHUNK + 100);
}

static int unmake(void **state)
{
	(void)state;
	pool_free(&pool);
	return 0;
}

static void size_is_rounded_down_to_chunks(void **state)
{
	(void)state;
	assert_int_equal(pool.n_chunks, 4);
	assert_int_equal(pool_unpromised(&pool), 4 * POOL_DATA);
}

static void a_pool_without_a_chunk_is_refused(void **state)
{
	struct pool none;

	(void)state;
	assert_int_equal(pool_init(&none, POOL_CHUNK - 1), -EINVAL);
}

static void every_chunk_can_be_taken_once(void **state)
{
	struct chunk *c[4];

	(void)state;
	for (int i = 0; i < 4; i++) {
		c[i] = pool_take(&pool);
		assert_non_null(c[i]);
		assert_int_equal(c[i]->len, 0);
		for (int j = 0; j < i; j++)
			assert_ptr_not_equal(c[i], c[j]);
	}
	assert_null(pool_take(&pool));
	assert_int_equal(pool.n_used, 4);
	assert_int_equal(pool_unpromised(&pool), 0);
}

static void what_was_given_back_is_taken_first(void **state)
{
	struct chunk *a = pool_take(&pool), *b = pool_take(&pool);

	(void)state;
	a->len = 9;
	pool_give(&pool, a);
	pool_give(&pool, b);
	assert_int_equal(pool.n_used, 0);
	assert_ptr_equal(pool_take(&pool), b);
	a = pool_take(&pool);
	assert_int_equal(a->len, 0);
}

static void giving_takes_out_of_the_owners_list(void **state)
{
	struct chunk *c = pool_take(&pool);
	struct list mine;

	(void)state;
	list_init(&mine);
	list_append(&mine, &c->link);
	pool_give(&pool, c);
	assert_true(list_is_empty(&mine));
}

static void promises_lower_what_is_free(void **state)
{
	(void)state;
	pool.reserved = POOL_DATA + 1;
	assert_int_equal(pool_unpromised(&pool), 3 * POOL_DATA - 1);
	pool.reserved = 100 * POOL_DATA;
	assert_int_equal(pool_unpromised(&pool), 0);
}

static void a_chunk_given_back_elsewhere_comes_home(void **state)
{
	struct pool other;
	struct chunk *c = pool_take(&pool), *d = pool_take(&pool);

	(void)state;
	assert_int_equal(pool_init(&other, 2 * POOL_CHUNK), 0);
	pool_give(&other, c);
	pool_give(&other, d);
	assert_int_equal(other.n_used, 0);
	assert_int_equal(pool.n_used, 2); /* until it looks */
	pool_collect(&pool);
	assert_int_equal(pool.n_used, 0);
	pool_free(&other);
}

static void the_last_chunk_may_be_one_that_came_home(void **state)
{
	struct pool other;
	struct chunk *c[4];

	(void)state;
	assert_int_equal(pool_init(&other, POOL_CHUNK), 0);
	for (unsigned int i = 0; i < 4; i++)
		c[i] = pool_take(&pool);
	pool_give(&other, c[2]);
	assert_ptr_equal(pool_take(&pool), c[2]);
	assert_null(pool_take(&pool));
	pool_free(&other);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(size_is_rounded_down_to_chunks, make, unmake),
		cmocka_unit_test(a_pool_without_a_chunk_is_refused),
		cmocka_unit_test_setup_teardown(every_chunk_can_be_taken_once, make, unmake),
		cmocka_unit_test_setup_teardown(what_was_given_back_is_taken_first, make, unmake),
		cmocka_unit_test_setup_teardown(giving_takes_out_of_the_owners_list, make, unmake),
		cmocka_unit_test_setup_teardown(promises_lower_what_is_free, make, unmake),
		cmocka_unit_test_setup_teardown(a_chunk_given_back_elsewhere_comes_home, make,
						unmake),
		cmocka_unit_test_setup_teardown(the_last_chunk_may_be_one_that_came_home, make,
						unmake),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
