/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The order of accepted connections: which of them wait, for what, and for how long. What the guest
 * hears of each is a SYN.
 * links: tap
 */
#include "dgram_world.h"

static struct order *orders;
static struct flow *flows[2 * ORDER_PLACES];
static unsigned int n_flows;

static const struct listener *port(uintptr_t number)
{
	return (const struct listener *)number; /* is compared only */
}

static int setup(void **state)
{
	n_flows = 0;
	orders = orders_new();
	return world_setup(state) || !orders;
}

static int teardown(void **state)
{
	int ret;

	for (unsigned int i = 0; i < n_flows; i++) {
		if (!flows[i]->closed)
			tcp_abort(world.shard, flows[i], false);
	}
	ret = world_teardown(state);
	orders_free(orders);
	return ret;
}

/* As listen.c does. */
static struct flow *arrive(const struct listener *listener, const char *client)
{
	struct flow_key key = { .proto = FLOW_TCP,
				.guest = ip4_addr_of(guest4),
				.peer = ip4_addr_of(client),
				.guest_port = 80,
				.peer_port = (uint16_t)(1000 + n_flows) };
	struct flow *flow = flow_take(world.shard, &key, n_flows);

	assert_non_null(flow);
	flows[n_flows++] = flow;
	order_take(orders, listener, &key.peer, world.shard->now_us, &flow->ticket);
	assert_true(flow_publish(world.shard, flow) == flow);
	tcp_open_host(world.shard, flow);
	order_enter(world.shard, flow);
	return flow;
}

#define ONE   "\x0a\0\0\1"
#define OTHER "\x0a\0\0\2"

static void one_waits_until_the_guest_knows_of_the_one_before(void **state)
{
	struct flow *first = arrive(port(1), ONE), *second = arrive(port(1), ONE);

	(void)state;
	arrive(port(1), ONE);
	assert_int_equal(world.n, 1);
	order_done(world.shard, first);
	assert_int_equal(world.n, 2);
	order_done(world.shard, second);
	assert_int_equal(world.n, 3);
	assert_true(list_is_empty(&world.shard->held));
}

static void one_waits_for_its_own_client_at_its_own_port_only(void **state)
{
	(void)state;
	arrive(port(1), ONE);
	arrive(port(1), OTHER);
	arrive(port(2), ONE);
	assert_int_equal(world.n, 3);
}

static void one_goes_on_when_the_one_before_ends(void **state)
{
	struct flow *first = arrive(port(1), ONE);

	(void)state;
	arrive(port(1), ONE);
	tcp_abort(world.shard, first, false);
	assert_int_equal(world.n, 2);
}

static void one_that_ends_while_it_waits_is_not_missed(void **state)
{
	struct flow *first = arrive(port(1), ONE), *second = arrive(port(1), ONE);

	(void)state;
	arrive(port(1), ONE);
	tcp_abort(world.shard, second, false);
	assert_int_equal(world.n, 2); /* the third, for which it was in the way */
	order_done(world.shard, first);
	assert_int_equal(world.n, 2);
}

static void no_wait_is_longer_than_its_bound(void **state)
{
	struct list due;

	(void)state;
	arrive(port(1), ONE);
	arrive(port(1), ONE);
	assert_int_equal(flows[1]->timer.due_us, world.shard->now_us + ORDER_WAIT_US);
	list_init(&due);
	world.shard->now_us += ORDER_WAIT_US + WHEEL_TICK_US;
	wheel_advance(&world.shard->wheel, world.shard->now_us, &due);
	assert_true(list_take(&due) == &flows[1]->timer.link);
	order_begin(world.shard, flows[1]);
	assert_int_equal(world.n, 2);
	arrive(port(1), ONE); /* both places are free by now */
	assert_int_equal(world.n, 3);
}

static void in_a_crowd_nobody_waits(void **state)
{
	(void)state;
	for (unsigned int i = 0; i < ORDER_PLACES; i++)
		arrive(port(1), ONE);
	assert_int_equal(world.n, 1);
	arrive(port(1), ONE);
	assert_int_equal(world.n, 2);
	for (unsigned int i = 0; i < ORDER_PLACES; i++)
		order_done(world.shard, flows[i]);
	assert_int_equal(world.n, ORDER_PLACES + 1);
	arrive(port(1), ONE);
	arrive(port(1), ONE);
	assert_int_equal(world.n, ORDER_PLACES + 3);
	world.shard->now_us += ORDER_CROWDED_US;
	arrive(port(1), ONE);
	arrive(port(1), ONE);
	assert_int_equal(world.n, ORDER_PLACES + 4);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(one_waits_until_the_guest_knows_of_the_one_before),
		T(one_waits_for_its_own_client_at_its_own_port_only),
		T(one_goes_on_when_the_one_before_ends),
		T(one_that_ends_while_it_waits_is_not_missed),
		T(no_wait_is_longer_than_its_bound),
		T(in_a_crowd_nobody_waits),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
