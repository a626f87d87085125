/* SPDX-License-Identifier: Apache-2.0 */
#include "vhost_rig.h"

static void burst_trips(uint64_t features, size_t rx_len, bool gso)
{
	struct rig *rig = rig_new(features, 1, 1, rx_len);

	rig->shards[0].burst = true;
	for (unsigned int i = 0; i < 60; i++) {
		size_t payload = gso ? 1000 * (1 + i) : 1 + i * 16;
		uint8_t *f = frame_make(rig, 0, 7, HDRS + payload);
		uint32_t id, used;

		if (payload + HDRS > FRAME_MAX)
			break;
		frame_send(rig, 0, f, HDRS + payload);
		assert_int_equal(frame_receive(rig, 0), HDRS + payload);
		assert_memory_equal(rig->got, f, HDRS + payload);
		assert_int_equal(rig->got_hdr.gso_type,
				 gso && payload > 1000 ? VIRTIO_NET_HDR_GSO_UDP_L4 : 0);
		wait_used(rig, 1, &id, &used);
	}
	rig_free(rig);
}

static void burst_is_received_into_merged_buffers(void **state)
{
	(void)state;
	burst_trips(BASE | OFFLOADS | F(VIRTIO_NET_F_MRG_RXBUF), 2000, true);
}

static void burst_is_received_into_big_buffers(void **state)
{
	(void)state;
	burst_trips(BASE | OFFLOADS | F(VIRTIO_F_RING_PACKED), 65600, true);
}

static void burst_without_offload_is_single_frames(void **state)
{
	(void)state;
	burst_trips(BASE, 2000, false);
	burst_trips(BASE | F(VIRTIO_NET_F_MRG_RXBUF), 300, false);
}

static void stream_is_cut_to_the_guests_buffers(void **state)
{
	struct rig *rig = rig_new(BASE, 1, 1, 600);
	struct tx *tx = rig->shards[0].tx;
	struct tx_burst burst;

	(void)state;
	assert_true(tx_burst_begin(tx, &burst, 0, 54, 1460, 10000, VIRTIO_NET_HDR_GSO_TCPV4));
	assert_int_equal(burst.n_segments, 1);
	assert_int_equal(burst.room, 600 - VNET - 54);
	memset(burst.hdr[0], 1, 54);
	memset(burst.iov[0].iov_base, 2, burst.room);
	tx_burst_commit(tx, &burst, burst.room, NULL);
	tx_flush(tx);
	assert_int_equal(frame_receive(rig, 0), 600 - VNET);
	assert_int_equal(rig->got[53], 1);
	assert_int_equal(rig->got[54], 2);
	rig_free(rig);
}

static void stream_is_cut_to_a_ring_of_merged_buffers(void **state)
{
	struct rig *rig = rig_new(BASE | F(VIRTIO_NET_F_MRG_RXBUF), 1, 1, 100);
	struct tx *tx = rig->shards[0].tx;
	struct tx_burst burst;

	(void)state;
	assert_true(tx_burst_begin(tx, &burst, 0, 54, 60000, 60000, VIRTIO_NET_HDR_GSO_TCPV4));
	assert_int_equal(burst.n_segments, 1);
	assert_int_equal(burst.room, NUM * 100 - VNET - 54);
	tx_burst_commit(tx, &burst, 0, NULL);
	tx_flush(tx);
	round_trip(rig, 0, 8, 300);
	rig_free(rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(burst_is_received_into_merged_buffers),
		cmocka_unit_test(burst_is_received_into_big_buffers),
		cmocka_unit_test(burst_without_offload_is_single_frames),
		cmocka_unit_test(stream_is_cut_to_the_guests_buffers),
		cmocka_unit_test(stream_is_cut_to_a_ring_of_merged_buffers),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
