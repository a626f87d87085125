/* SPDX-License-Identifier: Apache-2.0 */
#include "vhost_rig.h"

static void full_guest_is_waited_for(void **state)
{
	struct rig *rig = rig_new(BASE | F(VIRTIO_RING_F_EVENT_IDX), 1, 1, 2000);
	struct tx *tx = rig->shards[0].tx;
	unsigned int n = 0, wakes;

	(void)state;
	while (shards_turn(rig))
		;
	while (tx_frame_begin(tx, 0, 100)) {
		memset(((struct vu_tx *)(void *)tx)->bounce, 1, 100);
		tx_frame_commit(tx, 100, NULL);
		n++;
	}
	assert_int_equal(n, NUM);
	assert_true(tx->blocked);
	assert_false(tx_flush(tx));
	wakes = atomic_load(&rig->shards[0].n_wakes);
	frame_receive(rig, 0); /* posts a buffer, and kicks as it was asked to */
	while (shards_turn(rig))
		;
	assert_int_equal(atomic_load(&rig->shards[0].n_wakes), wakes + 1);
	assert_true(tx_flush(tx));
	assert_false(tx->blocked);
	assert_non_null(tx_frame_begin(tx, 0, 100));
	tx_flush(tx);
	rig_free(rig);
}

static void room_that_is_not_used_is_taken_back(void **state)
{
	struct rig *rig = rig_new(
		BASE | F(VIRTIO_NET_F_MRG_RXBUF) | F(VIRTIO_F_RING_PACKED) | OFFLOADS, 1, 1, 1500);
	struct tx *tx = rig->shards[0].tx;
	struct tx_burst burst;

	(void)state;
	for (unsigned int i = 0; i < 3000; i++) {
		assert_true(
			tx_burst_begin(tx, &burst, 0, 54, 1000, 60000, VIRTIO_NET_HDR_GSO_TCPV4));
		assert_int_equal(burst.room, 60000);
		tx_burst_commit(tx, &burst, 0, NULL);
		assert_non_null(tx_frame_begin(tx, 0, 9000));
		tx_flush(tx);
	}
	assert_false(tx->blocked);
	rig_free(rig);
}

static void frame_too_long_for_the_guest_is_counted(void **state)
{
	struct rig *rig = rig_new(BASE, 1, 1, 600);
	struct tx *tx = rig->shards[0].tx;

	(void)state;
	assert_non_null(tx_frame_begin(tx, 0, 601));
	tx_frame_commit(tx, 601, NULL);
	assert_false(tx->blocked);
	assert_int_equal(rig->shards[0].counters.drop[DROP_TX_TOO_BIG], 1);
	assert_int_equal(counter_get(&rig->shards[0].counters, COUNT_TX_FRAMES), 0);
	assert_non_null(tx_frame_begin(tx, 0, 500));
	tx_flush(tx);
	rig_free(rig);
}

static void kick_may_come_while_a_batch_is_open(void **state)
{
	struct rig *rig = rig_new(BASE, 1, 1, 2000);
	struct tx *tx = rig->shards[0].tx;
	uint8_t *frame;

	(void)state;
	pthread_mutex_lock(&shard_lock);
	frame = tx_frame_begin(tx, 0, 100);
	assert_non_null(frame);
	memset(frame, 1, 100);
	tx_frame_commit(tx, 100, NULL);
	eventfd_write(rig->fe.kick[0], 1);
	while (shards_turn(rig))
		;
	pthread_mutex_unlock(&shard_lock);
	assert_int_equal(frame_receive(rig, 0), 100);
	rig_free(rig);
}

static void disabled_pair_is_not_written_to(void **state)
{
	struct rig *rig = rig_new(BASE, 1, 2, 2000);
	struct tx *tx = rig->shards[0].tx;

	(void)state;
	assert_int_equal(vfe_ring_enable(&rig->fe, 2, false), 0);
	assert_non_null(tx_frame_begin(tx, 1, 100));
	tx_frame_commit(tx, 100, NULL);
	tx_flush(tx);
	assert_int_equal(frame_receive(rig, 0), 100);
	rig_free(rig);
}

static void no_guest_blocks_the_batch(void **state)
{
	struct rig *rig = rig_new(BASE, 1, 0, 2000);
	struct tx *tx = rig->shards[0].tx;

	(void)state;
	assert_null(tx_frame_begin(tx, 0, 100));
	assert_true(tx->blocked);
	assert_int_equal(atomic_load(&rig->shards[0].n_wakes), 0);
	assert_int_equal(vfe_pair_start(&rig->fe, 0, NUM), 0);
	rx_post(rig, 0);
	assert_true(atomic_load(&rig->shards[0].n_wakes) > 0);
	assert_non_null(tx_frame_begin(tx, 0, 100));
	tx_flush(tx);
	rig_free(rig);
}

static void frame_too_long_for_a_ring_of_merged_buffers_is_counted(void **state)
{
	struct rig *rig = rig_new(BASE | F(VIRTIO_NET_F_MRG_RXBUF), 1, 1, 100);
	struct tx *tx = rig->shards[0].tx;

	(void)state;
	assert_non_null(tx_frame_begin(tx, 0, FRAME_MAX));
	tx_frame_commit(tx, FRAME_MAX, NULL);
	assert_false(tx->blocked);
	assert_int_equal(rig->shards[0].counters.drop[DROP_TX_TOO_BIG], 1);
	tx_flush(tx);
	round_trip(rig, 0, 8, 300);
	rig_free(rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(full_guest_is_waited_for),
		cmocka_unit_test(room_that_is_not_used_is_taken_back),
		cmocka_unit_test(frame_too_long_for_the_guest_is_counted),
		cmocka_unit_test(kick_may_come_while_a_batch_is_open),
		cmocka_unit_test(disabled_pair_is_not_written_to),
		cmocka_unit_test(no_guest_blocks_the_batch),
		cmocka_unit_test(frame_too_long_for_a_ring_of_merged_buffers_is_counted),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
