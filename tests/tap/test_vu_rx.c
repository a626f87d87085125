/* SPDX-License-Identifier: Apache-2.0 */
#include "vhost_rig.h"

static void chain_shorter_than_its_header_is_a_lie(void **state)
{
	struct rig *rig = rig_new(BASE, 1, 1, 2000);
	uint8_t *f = frame_make(rig, 0, 7, 300);
	struct drv_desc d = { vfe_guest(&rig->fe, f - VNET), VNET - 1, 0 };

	(void)state;
	drv_add(&rig->fe.rings[1], &d, 1);
	vfe_kick(&rig->fe, 1);
	while (shards_turn(rig))
		;
	assert_int_equal(rig->shards[0].counters.drop[DROP_VRING], 1);
	rig_free(rig);
}

static void empty_frame_is_dropped(void **state)
{
	struct rig *rig = rig_new(BASE, 1, 1, 2000);
	uint8_t *f = frame_make(rig, 0, 7, 300);
	struct drv_desc d = { vfe_guest(&rig->fe, f - VNET), VNET, 0 };
	uint32_t id, used;

	(void)state;
	drv_add(&rig->fe.rings[1], &d, 1);
	vfe_kick(&rig->fe, 1);
	wait_used(rig, 1, &id, &used);
	assert_int_equal(rig->shards[0].counters.drop[DROP_SHORT], 1);
	round_trip(rig, 0, 8, 300);
	rig_free(rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(chain_shorter_than_its_header_is_a_lie),
		cmocka_unit_test(empty_frame_is_dropped),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
