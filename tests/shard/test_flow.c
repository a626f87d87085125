/* SPDX-License-Identifier: Apache-2.0 */
/* links: shard tap */
/*
 * Flow entries and their table: found by key, one entry per key, given back after a grace period.
 */
#include "shard_internal.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#define N_FLOWS 8

/* What the shard asks of the rest of the program. */
enum drop control_post_frame(struct control *control, const struct frame *frame)
{
	(void)control;
	(void)frame;
	return DROP_NONE;
}

static struct runtime rt;
static struct shard shard;
static struct flow entries[N_FLOWS];

static int make(void **state)
{
	(void)state;
	memset(&shard, 0, sizeof(shard));
	memset(entries, 0, sizeof(entries));
	rt.n_shards = 1;
	rt.shards[0] = &shard;
	shard.rt = &rt;
	shard.flows = entries;
	shard.n_flows = N_FLOWS;
	list_init(&shard.flows_free);
	wheel_init(&shard.wheel, 0);
	cds_wfcq_init(&shard.reclaim_head, &shard.reclaim_tail);
	rcu_register_thread();
	return flow_table_init(&shard.table, N_FLOWS);
}

static int unmake(void **state)
{
	(void)state;
	rcu_thread_offline();
	rcu_barrier();
	rcu_thread_online();
	flow_table_free(&shard.table);
	rcu_unregister_thread();
	return 0;
}

static struct flow_key key_of(uint16_t port)
{
	return (struct flow_key){ .guest_port = port, .peer_port = 80, .proto = FLOW_TCP };
}

static struct flow *add(uint16_t port)
{
	struct flow_key key = key_of(port);
	struct flow *flow = flow_take(&shard, &key, port);

	assert_non_null(flow);
	assert_ptr_equal(flow_publish(&shard, flow), flow);
	return flow;
}

static struct flow *find(uint16_t port)
{
	struct flow_key key = key_of(port);

	return flow_find(&rt, &key, port);
}

/* README.md and docs/architecture.md say 2.5 KiB. */
static void an_entry_has_the_size_that_the_readme_tells(void **state)
{
	(void)state;
	if (sizeof(void *) == 8)
		assert_in_range(sizeof(struct flow), 2400, 2700);
}

static void a_published_flow_is_found(void **state)
{
	struct flow *flow = add(1000);

	(void)state;
	assert_ptr_equal(find(1000), flow);
	assert_null(find(1001));
	flow_close(&shard, flow);
}

static void flows_of_one_hash_are_told_apart(void **state)
{
	struct flow_key a = key_of(1), b = key_of(2);
	struct flow *fa = flow_take(&shard, &a, 77), *fb = flow_take(&shard, &b, 77);

	(void)state;
	flow_publish(&shard, fa);
	flow_publish(&shard, fb);
	assert_ptr_equal(flow_find(&rt, &a, 77), fa);
	assert_ptr_equal(flow_find(&rt, &b, 77), fb);
	flow_close(&shard, fa);
	flow_close(&shard, fb);
}

static void the_second_of_one_key_gets_the_first(void **state)
{
	struct flow_key key = key_of(5);
	struct flow *first = add(5), *second = flow_take(&shard, &key, 5);

	(void)state;
	assert_ptr_equal(flow_publish(&shard, second), first);
	flow_give(&shard, second);
	assert_int_equal(shard.flows_in_use, 1);
	flow_close(&shard, first);
}

static void a_closed_flow_is_not_found(void **state)
{
	struct flow *flow = add(6);

	(void)state;
	flow_close(&shard, flow);
	flow_close(&shard, flow);
	assert_null(find(6));
	assert_int_equal(counter_get(&shard.counters, COUNT_FLOWS_CLOSED), 1);
}

static void a_closed_entry_comes_back_after_a_grace_period(void **state)
{
	struct flow *flow = add(7);

	(void)state;
	flow_close(&shard, flow);
	flow_reclaim(&shard);
	assert_int_equal(shard.flows_in_use, 1);
	rcu_thread_offline();
	rcu_barrier();
	rcu_thread_online();
	flow_reclaim(&shard);
	assert_int_equal(shard.flows_in_use, 0);
	assert_ptr_equal(add(8), flow);
	flow_close(&shard, flow);
}

static void a_full_memory_refuses_and_counts(void **state)
{
	struct flow_key key = key_of(999);

	(void)state;
	for (uint16_t i = 0; i < N_FLOWS; i++)
		add(i);
	assert_null(flow_take(&shard, &key, 999));
	assert_int_equal(atomic_load(&shard.counters.drop[DROP_FLOWS_FULL]), 1);
	for (uint16_t i = 0; i < N_FLOWS; i++)
		flow_close(&shard, find(i));
}

static void closing_disarms_and_leaves_all_lists(void **state)
{
	struct flow *flow = add(9);
	struct list owned;

	(void)state;
	list_init(&owned);
	list_append(&owned, &flow->owned);
	wheel_arm(&shard.wheel, &flow->timer, 1000000);
	flow_close(&shard, flow);
	assert_true(list_is_empty(&owned));
	assert_true(wheel_next_us(&shard.wheel) == UINT64_MAX);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(an_entry_has_the_size_that_the_readme_tells),
		cmocka_unit_test_setup_teardown(a_published_flow_is_found, make, unmake),
		cmocka_unit_test_setup_teardown(flows_of_one_hash_are_told_apart, make, unmake),
		cmocka_unit_test_setup_teardown(the_second_of_one_key_gets_the_first, make, unmake),
		cmocka_unit_test_setup_teardown(a_closed_flow_is_not_found, make, unmake),
		cmocka_unit_test_setup_teardown(a_closed_entry_comes_back_after_a_grace_period,
						make, unmake),
		cmocka_unit_test_setup_teardown(a_full_memory_refuses_and_counts, make, unmake),
		cmocka_unit_test_setup_teardown(closing_disarms_and_leaves_all_lists, make, unmake),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
