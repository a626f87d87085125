/* SPDX-License-Identifier: Apache-2.0 */
/* Frames through the whole transport: kinds of rings, bursts, room, and who reads which queue. */
#include "vhost_rig.h"

static const struct negotiated {
	const char *name;
	uint64_t features;
} feature_sets[] = {
	{ "frames come back: nothing negotiated", BASE },
	{ "frames come back: not even VERSION_1", 0 },
	{ "frames come back: mergeable without VERSION_1", F(VIRTIO_NET_F_MRG_RXBUF) },
	{ "frames come back: indirect", BASE | F(VIRTIO_RING_F_INDIRECT_DESC) },
	{ "frames come back: packed and indirect",
	  BASE | F(VIRTIO_F_RING_PACKED) | F(VIRTIO_RING_F_INDIRECT_DESC) },
	{ "frames come back: packed and in order",
	  BASE | F(VIRTIO_F_RING_PACKED) | F(VIRTIO_F_IN_ORDER) },
	{ "frames come back: offloads", BASE | OFFLOADS },
	{ "frames come back: packed", BASE | F(VIRTIO_F_RING_PACKED) },
	{ "frames come back: mergeable", BASE | F(VIRTIO_NET_F_MRG_RXBUF) },
	{ "frames come back: events", BASE | F(VIRTIO_RING_F_EVENT_IDX) },
	{ "frames come back: in order", BASE | F(VIRTIO_F_IN_ORDER) | F(VIRTIO_NET_F_MRG_RXBUF) },
	{ "frames come back: packed and mergeable, events",
	  BASE | F(VIRTIO_F_RING_PACKED) | F(VIRTIO_NET_F_MRG_RXBUF) | F(VIRTIO_RING_F_EVENT_IDX) },
	{ "frames come back: everything", UINT64_MAX & ~F(VHOST_F_LOG_ALL) },
};

#define N_SETS (sizeof(feature_sets) / sizeof(feature_sets[0]))

static void trips(const struct negotiated *set, unsigned int n_shards, unsigned int n_pairs)
{
	bool mrg = set->features & F(VIRTIO_NET_F_MRG_RXBUF);
	struct rig *rig = rig_new(set->features, n_shards, n_pairs, mrg ? 700 : 9100);

	for (unsigned int i = 0; i < 600; i++)
		round_trip(rig, i % n_pairs, (uint16_t)i, HDRS + 1 + i * 13 % 9000);
	rig_free(rig);
}

/* Each with each other: what shapes rings and chains. */
static void frames_come_back_with_every_kind_of_ring(void **state)
{
	static const uint8_t bits[] = { VIRTIO_F_RING_PACKED, VIRTIO_RING_F_INDIRECT_DESC,
					VIRTIO_F_IN_ORDER, VIRTIO_RING_F_EVENT_IDX,
					VIRTIO_NET_F_MRG_RXBUF };

	(void)state;
	for (unsigned int kind = 0; kind < 1u << sizeof(bits); kind++) {
		struct negotiated set = { "", BASE };

		for (unsigned int i = 0; i < sizeof(bits); i++)
			set.features |= kind >> i & 1 ? F(bits[i]) : 0;
		trips(&set, SHARDS, 1);
		trips(&set, 2, 2);
	}
}

static void frames_come_back_by_the_reader(void **state)
{
	trips(*state, SHARDS, 1);
}

static void frames_come_back_by_their_shards(void **state)
{
	trips(*state, 2, 4);
}

static void flows_of_one_pair_reach_all_shards(void **state)
{
	struct rig *rig = rig_new(BASE, SHARDS, 1, 2000);

	(void)state;
	for (uint16_t i = 0; i < 100; i++)
		round_trip(rig, 0, i, 200);
	for (unsigned int i = 0; i < SHARDS; i++)
		assert_true(rig->shards[i].n_frames > 0);
	rig_free(rig);
}

static void pair_belongs_to_its_shard(void **state)
{
	struct rig *rig = rig_new(BASE, 2, 2, 2000);

	(void)state;
	for (uint16_t i = 0; i < 20; i++)
		round_trip(rig, 1, i, 200);
	assert_int_equal(rig->shards[0].n_frames, 0);
	assert_int_equal(rig->shards[1].n_frames, 20);
	assert_int_equal(counter_get(&rig->shards[1].counters, COUNT_FRAMES_OWN), 20);
	rig_free(rig);
}

static void lie_stops_the_device_until_it_is_set_up_anew(void **state)
{
	struct rig *rig = rig_new(BASE, 1, 1, 2000);
	struct drv_desc lie = { 0x10, 1000, 0 };
	struct pollfd pfd = { .events = POLLIN };
	uint64_t status = 0;

	(void)state;
	pfd.fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	assert_int_equal(vfe_do_fds(&rig->fe,
				    (struct vu_message){ .request = VU_SET_VRING_ERR, .u64 = 1 },
				    &pfd.fd, 1),
			 0);
	drv_add(&rig->fe.rings[1], &lie, 1);
	vfe_kick(&rig->fe, 1);
	while (shards_turn(rig))
		;
	assert_int_equal(poll(&pfd, 1, -1), 1);
	close(pfd.fd);
	assert_int_equal(rig->shards[0].counters.drop[DROP_VRING], 1);
	while (!(status & VIRTIO_CONFIG_S_NEEDS_RESET))
		assert_int_equal(vfe_get(&rig->fe, VU_GET_STATUS, &status), 0);
	assert_int_equal(vfe_pair_start(&rig->fe, 0, NUM), 0);
	rx_post(rig, 0);
	round_trip(rig, 0, 1, 300);
	rig_free(rig);
}

static void ring_goes_on_at_its_base(void **state)
{
	struct rig *rig = rig_new(BASE, SHARDS, 1, 2000);
	uint32_t base;

	(void)state;
	for (uint16_t i = 0; i < 5; i++)
		round_trip(rig, 0, i, 300);
	assert_int_equal(vfe_ring_stop(&rig->fe, 1, &base), 0);
	assert_int_equal(base, 5);
	assert_int_equal(vfe_ring_fd(&rig->fe, VU_SET_VRING_KICK, 1, &rig->fe.kick[1]), 0);
	round_trip(rig, 0, 9, 300);
	rig_free(rig);
}

static void control_frames_go_to_control(void **state)
{
	struct rig *rig = rig_new(BASE, 1, 1, 2000);
	uint8_t *f = frame_make(rig, 0, 0, 60);
	uint32_t id, len;

	(void)state;
	memset(f, 0, 60);
	f[6] = 4;
	f[12] = 8; /* ARP */
	f[13] = 6;
	f[15] = 1;
	f[16] = 8;
	f[18] = 6;
	f[19] = 4;
	f[21] = 1;
	frame_send(rig, 0, f, 60);
	wait_used(rig, 1, &id, &len);
	assert_int_equal(atomic_load(&rig->control.n_frames), 1);
	rig_free(rig);
}

static void used_pages_are_logged(void **state)
{
	struct rig *rig = rig_new(BASE | F(VHOST_F_LOG_ALL), 1, 1, 2000);
	struct vu_message message = { .request = VU_SET_LOG_BASE, .log = { 1u << 20, 0 } };
	int fd = memfd_create("log", MFD_CLOEXEC);
	uint64_t value, page;
	uint8_t byte = 0;

	(void)state;
	assert_int_equal(ftruncate(fd, 1 << 20), 0);
	assert_int_equal(vfe_send(&rig->fe, &message, &fd, 1), 0);
	assert_int_equal(vfe_reply(&rig->fe, &value), 0);
	assert_int_equal(value, 0);
	round_trip(rig, 0, 1, 300);
	page = (VFE_GUEST + VFE_BUFFERS + TX_SLOT) / 4096;
	assert_int_equal(pread(fd, &byte, 1, (off_t)(page / 8)), 1);
	assert_true(byte >> page % 8 & 1);
	close(fd);
	rig_free(rig);
}

static void ring_without_a_kick_carries_frames(void **state)
{
	struct rig *rig = rig_new(BASE | F(VIRTIO_RING_F_EVENT_IDX), SHARDS, 1, 2000);
	struct vu_message polled = { .request = VU_SET_VRING_KICK, .u64 = VU_VRING_FD_NONE | 1 };

	(void)state;
	assert_int_equal(vfe_do(&rig->fe, polled), 0);
	close(rig->fe.kick[1]);
	rig->fe.kick[1] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK); /* nobody's */
	for (uint16_t i = 0; i < 50; i++)
		round_trip(rig, 0, i, 300);
	rig_free(rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(frames_come_back_with_every_kind_of_ring),
		cmocka_unit_test(flows_of_one_pair_reach_all_shards),
		cmocka_unit_test(pair_belongs_to_its_shard),
		cmocka_unit_test(lie_stops_the_device_until_it_is_set_up_anew),
		cmocka_unit_test(ring_goes_on_at_its_base),
		cmocka_unit_test(control_frames_go_to_control),
		cmocka_unit_test(used_pages_are_logged),
		cmocka_unit_test(ring_without_a_kick_carries_frames),
	};
	struct CMUnitTest rows[2 * N_SETS];
	int failed = cmocka_run_group_tests(tests, NULL, NULL);

	for (size_t i = 0; i < N_SETS; i++) {
		void *set = (void *)(uintptr_t)&feature_sets[i];

		rows[i] = (struct CMUnitTest){ feature_sets[i].name, frames_come_back_by_the_reader,
					       NULL, NULL, set };
		rows[N_SETS + i] =
			(struct CMUnitTest){ feature_sets[i].name, frames_come_back_by_their_shards,
					     NULL, NULL, set };
	}
	return failed + cmocka_run_group_tests(rows, NULL, NULL);
}
