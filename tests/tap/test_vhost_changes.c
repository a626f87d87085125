/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a front-end changes while shards and the guest are at work: memory, rings, pairs in use, the
 * connection itself. The shards' loop is a thread of its own here. Meant for ThreadSanitizer, too.
 */
#include "vhost_rig.h"

#include <dirent.h>
#include <stdio.h>

#define PAIRS  2u
#define ROUNDS 280u
#define GUESTS 24u
/* The log lies where the last of all rings would be, which nobody has. */
#define LOG_OFF (VFE_BUFFERS - VFE_RING_AREA)

/* The shards' event loops, until they are told to stop. */
struct loops {
	struct rig *rig;
	_Atomic bool stop;
	pthread_t thread;
};

static void *run_loops(void *arg)
{
	struct loops *loops = arg;

	while (!atomic_load(&loops->stop))
		if (!shards_turn(loops->rig))
			sched_yield();
	return NULL;
}

static void loops_start(struct loops *loops, struct rig *rig)
{
	loops->rig = rig;
	atomic_store(&loops->stop, false);
	assert_int_equal(pthread_create(&loops->thread, NULL, run_loops, loops), 0);
}

static void loops_stop(struct loops *loops)
{
	atomic_store(&loops->stop, true);
	pthread_join(loops->thread, NULL);
}

/* The guest sends a few frames on a pair, and takes back what is used of its rings. Returns how
 * many buffers it received. */
static unsigned int pair_turn(struct rig *rig, unsigned int pair, uint16_t port)
{
	struct drv_ring *out = &rig->fe.rings[2 * pair + 1];
	uint8_t *f = frame_make(rig, pair, port, 300 + port % 700);
	unsigned int n = 0;
	uint32_t id, len;

	for (unsigned int i = 0; i < 8 && out->n_free >= 3; i++)
		frame_send(rig, pair, f, 300 + port % 700);
	while (drv_used(out, &id, &len))
		;
	while (drv_used(&rig->fe.rings[2 * pair], &id, &len))
		n++;
	rx_post(rig, 2 * pair);
	return n;
}

static void guest_turn(struct rig *rig, uint16_t port)
{
	for (unsigned int pair = 0; pair < rig->n_pairs; pair++)
		pair_turn(rig, pair, port);
}

/* Until nothing is under way any more; the shards' loops stand still. */
static void settle(struct rig *rig)
{
	for (unsigned int pair = 0; pair < rig->n_pairs; pair++) {
		uint32_t id, len;

		while (rig->fe.rings[2 * pair + 1].n_free < NUM)
			wait_used(rig, 2 * pair + 1, &id, &len);
	}
	while (shards_turn(rig))
		;
	for (unsigned int pair = 0; pair < rig->n_pairs; pair++) {
		uint32_t id, len;

		while (drv_used(&rig->fe.rings[2 * pair], &id, &len))
			;
		rx_post(rig, 2 * pair);
	}
}

/* Changes, each of which leaves the device as it was. */

static void share_memory_again(struct rig *rig)
{
	struct vu_message table = { .request = VU_SET_MEM_TABLE };

	table.n_regions = 1;
	table.regions[0] =
		(struct vu_region){ VFE_GUEST, rig->fe.size, (uint64_t)(uintptr_t)rig->fe.mem, 0 };
	assert_int_equal(vfe_do_fds(&rig->fe, table, &rig->fe.mem_fd, 1), 0);
}

static void plug_and_unplug_memory(struct rig *rig)
{
	struct vu_message message = { .request = VU_ADD_MEM_REG,
				      .region = { 0x1000, 0x10000, 0x1000, 0 } };

	assert_int_equal(vfe_do_fds(&rig->fe, message, &rig->fe.mem_fd, 1), 0);
	message.request = VU_REM_MEM_REG;
	assert_int_equal(vfe_do(&rig->fe, message), 0);
}

/* All of it, while the guest goes on in it. */
static void take_memory_away_and_give_it_back(struct rig *rig)
{
	struct vu_message message = {
		.request = VU_REM_MEM_REG,
		.region = { VFE_GUEST, rig->fe.size, (uint64_t)(uintptr_t)rig->fe.mem, 0 },
	};

	assert_int_equal(vfe_do(&rig->fe, message), 0);
	guest_turn(rig, 79);
	message.request = VU_ADD_MEM_REG;
	assert_int_equal(vfe_do_fds(&rig->fe, message, &rig->fe.mem_fd, 1), 0);
}

static void stop_ring(struct rig *rig, unsigned int i)
{
	uint32_t base;

	assert_int_equal(vfe_ring_stop(&rig->fe, i, &base), 0);
}

static void start_ring_again(struct rig *rig, unsigned int i)
{
	assert_int_equal(vfe_ring_fd(&rig->fe, VU_SET_VRING_KICK, i, &rig->fe.kick[i]), 0);
	eventfd_write(rig->fe.kick[i], 1);
}

static void stop_and_start_rings(struct rig *rig)
{
	for (unsigned int i = 0; i < 2 * rig->n_pairs; i++) {
		stop_ring(rig, i);
		start_ring_again(rig, i);
	}
}

static void disable_and_enable_a_pair(struct rig *rig)
{
	for (unsigned int on = 0; on < 2; on++) {
		assert_int_equal(vfe_ring_enable(&rig->fe, 2, on), 0);
		assert_int_equal(vfe_ring_enable(&rig->fe, 3, on), 0);
		guest_turn(rig, 77);
	}
}

static void log_for_a_while(struct rig *rig)
{
	struct vu_message features = { .request = VU_SET_FEATURES,
				       .u64 = rig->fe.features | F(VHOST_F_LOG_ALL) };
	struct vu_message log = { .request = VU_SET_LOG_BASE, .log = { VFE_RING_AREA, LOG_OFF } };
	uint64_t value;

	assert_int_equal(vfe_send(&rig->fe, &log, &rig->fe.mem_fd, 1), 0);
	assert_int_equal(vfe_reply(&rig->fe, &value), 0);
	assert_int_equal(vfe_do(&rig->fe, features), 0);
	guest_turn(rig, 78);
	features.u64 = rig->fe.features;
	assert_int_equal(vfe_do(&rig->fe, features), 0);
}

static void new_call_descriptors(struct rig *rig)
{
	for (unsigned int i = 0; i < 2 * rig->n_pairs; i++)
		assert_int_equal(vfe_ring_fd(&rig->fe, VU_SET_VRING_CALL, i, &rig->fe.call[i]), 0);
}

static void (*const changes[])(struct rig *rig) = {
	share_memory_again,   plug_and_unplug_memory,	 take_memory_away_and_give_it_back,
	stop_and_start_rings, disable_and_enable_a_pair, new_call_descriptors,
	log_for_a_while,
};

#define N_CHANGES (sizeof(changes) / sizeof(changes[0]))

static void changes_under_load(uint64_t features, unsigned int n_shards)
{
	struct rig *rig = rig_new(features, n_shards, PAIRS, 2000);
	struct loops loops;

	loops_start(&loops, rig);
	for (unsigned int i = 0; i < ROUNDS; i++) {
		guest_turn(rig, (uint16_t)i);
		if (i % 2)
			changes[i / 2 % N_CHANGES](rig);
	}
	loops_stop(&loops);
	settle(rig);
	for (uint16_t i = 0; i < 20; i++)
		round_trip(rig, i % PAIRS, i, 400);
	for (unsigned int i = 0; i < n_shards; i++)
		assert_int_equal(rig->shards[i].counters.drop[DROP_VRING], 0);
	rig_free(rig);
}

static void split_rings_outlive_changes(void **state)
{
	(void)state;
	changes_under_load(BASE | F(VIRTIO_RING_F_EVENT_IDX), 2);
}

static void packed_rings_outlive_changes(void **state)
{
	(void)state;
	changes_under_load(BASE | F(VIRTIO_F_RING_PACKED) | F(VIRTIO_NET_F_MRG_RXBUF), 2);
}

static void rings_of_the_reader_outlive_changes(void **state)
{
	(void)state;
	changes_under_load(BASE | F(VIRTIO_F_IN_ORDER), SHARDS);
}

/* A migration: what changes in the guest's memory while it goes on is in the log. */

#define PAGE 4096u

/* As QEMU begins it, with rings at work. Returns the log's file. */
static int log_begin(struct rig *rig)
{
	struct vu_message log = { .request = VU_SET_LOG_BASE, .log = { VFE_RING_AREA, 0 } };
	struct vu_message features = { .request = VU_SET_FEATURES,
				       .u64 = rig->fe.features | F(VHOST_F_LOG_ALL) };
	int fd = memfd_create("log", MFD_CLOEXEC);
	uint64_t value;

	assert_int_equal(ftruncate(fd, VFE_RING_AREA), 0);
	assert_int_equal(vfe_send(&rig->fe, &log, &fd, 1), 0);
	assert_int_equal(vfe_reply(&rig->fe, &value), 0);
	assert_int_equal(vfe_do(&rig->fe, features), 0);
	for (unsigned int i = 0; i < 2 * rig->n_pairs; i++) {
		uint8_t *area = rig->fe.mem + (size_t)i * VFE_RING_AREA;
		struct vu_message addr = { .request = VU_SET_VRING_ADDR };

		addr.addr.index = i;
		addr.addr.flags = VU_VRING_F_LOG;
		addr.addr.desc = vfe_user(&rig->fe, area);
		addr.addr.avail = vfe_user(&rig->fe, area + 0x5000);
		addr.addr.used = vfe_user(&rig->fe, area + 0x8000);
		addr.addr.log = vfe_guest(&rig->fe, area + 0x8000);
		assert_int_equal(vfe_do(&rig->fe, addr), 0);
	}
	return fd;
}

/* Whether it is the guest that writes to a page: its transmit buffers, its part of a ring. */
static bool is_the_guests(const struct rig *rig, size_t off)
{
	size_t at = off % VFE_RING_AREA;

	if (off >= VFE_BUFFERS)
		return off < VFE_BUFFERS + TX_SLOT * (size_t)rig->n_pairs;
	return at < 0x8000 && (at >= 0x5000 || !rig->fe.rings[0].packed);
}

static void migrated(uint64_t features, unsigned int n_shards)
{
	struct rig *rig = rig_new(features, n_shards, PAIRS, 2000);
	uint8_t log[VFE_RING_AREA], *before = malloc(rig->fe.size);
	unsigned int n_changed = 0, received;
	struct loops loops;
	int fd;

	loops_start(&loops, rig);
	for (unsigned int i = 0; i < 20; i++)
		guest_turn(rig, (uint16_t)i);
	fd = log_begin(rig);
	guest_turn(rig, 79);
	for (unsigned int i = 0; i < 2 * PAIRS; i++)
		stop_ring(rig, i);
	memcpy(before, rig->fe.mem, rig->fe.size); /* what was written by now needs no bit */
	for (unsigned int i = 0; i < 2 * PAIRS; i++)
		start_ring_again(rig, i);
	for (unsigned int pair = 0; pair < PAIRS;
	     pair++) { /* rounds of the ring: all slots are used */
		received = 0;
		for (uint16_t i = 0; received < 3 * NUM; i++)
			received += pair_turn(rig, pair, i);
	}
	for (unsigned int i = 0; i < 2 * PAIRS; i++)
		stop_ring(rig, i);
	loops_stop(&loops);
	assert_int_equal(pread(fd, log, sizeof(log), 0), sizeof(log));
	for (size_t off = 0; off < rig->fe.size; off += PAGE) {
		size_t page = (VFE_GUEST + off) / PAGE;

		if (is_the_guests(rig, off) || !memcmp(before + off, rig->fe.mem + off, PAGE))
			continue;
		n_changed++;
		if (!(log[page / 8] >> page % 8 & 1))
			fail_msg("the page at %#zx has changed, which the log doesn't say", off);
	}
	assert_true(n_changed > 2 * PAIRS);
	close(fd);
	free(before);
	rig_free(rig);
}

static void log_of_split_rings_is_whole(void **state)
{
	(void)state;
	migrated(BASE | F(VIRTIO_RING_F_EVENT_IDX) | F(VIRTIO_RING_F_INDIRECT_DESC), 2);
}

static void log_of_packed_rings_is_whole(void **state)
{
	(void)state;
	migrated(BASE | F(VIRTIO_F_RING_PACKED) | F(VIRTIO_NET_F_MRG_RXBUF) | F(VIRTIO_F_IN_ORDER) |
			 F(VIRTIO_RING_F_INDIRECT_DESC) | F(VIRTIO_RING_F_EVENT_IDX),
		 2);
}

static void log_of_the_readers_rings_is_whole(void **state)
{
	(void)state;
	migrated(BASE | F(VIRTIO_NET_F_MRG_RXBUF), SHARDS);
}

/* The ring from the guest first; those who are there already are at work. */
static void start_late(struct rig *rig, unsigned int pair)
{
	for (unsigned int i = 2; i--;) {
		assert_int_equal(vfe_ring_enable(&rig->fe, 2 * pair + i, true), 0);
		assert_int_equal(vfe_ring_start(&rig->fe, 2 * pair + i, NUM), 0);
	}
	rx_post(rig, 2 * pair);
}

static void pairs_start_late_and_in_any_order(void **state)
{
	static const unsigned int order[] = { 2, 0, 3, 1 };
	struct rig *rig = rig_new(BASE | F(VIRTIO_RING_F_EVENT_IDX), 3, 0, 2000);
	struct loops loops;

	(void)state;
	rig->n_pairs = 4;
	loops_start(&loops, rig);
	for (unsigned int n = 1; n <= 4; n++) {
		start_late(rig, order[n - 1]);
		for (unsigned int i = 0; i < 20 * n; i++)
			pair_turn(rig, order[i % n], (uint16_t)i);
	}
	loops_stop(&loops);
	settle(rig);
	for (uint16_t i = 0; i < 20; i++)
		round_trip(rig, i % 4, i, 400);
	for (unsigned int i = 0; i < 3; i++)
		assert_true(counter_get(&rig->shards[i].counters, COUNT_FRAMES_OWN) > 0);
	rig_free(rig);
}

/* Reconnections. */

static unsigned int count_in(const char *folder)
{
	DIR *dir = opendir(folder);
	unsigned int n = 0;

	assert_non_null(dir);
	while (readdir(dir))
		n++;
	closedir(dir);
	return n;
}

/* Mappings of guests' memory: the front-ends' and the transport's are in this process. */
static unsigned int count_mappings(void)
{
	FILE *maps = fopen("/proc/self/maps", "re");
	unsigned int n = 0;
	char line[512];

	assert_non_null(maps);
	while (fgets(line, sizeof(line), maps))
		n += strstr(line, "vhost-user-guest") ? 1 : 0;
	fclose(maps);
	return n;
}

static int listener(char path[static 64])
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	strcpy(path, "/tmp/taploom-test-XXXXXX");
	assert_non_null(mkdtemp(path));
	strcat(path, "/s");
	strcpy(addr.sun_path, path);
	assert_int_equal(bind(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
	assert_int_equal(listen(fd, 8), 0);
	return fd;
}

/* The next front-end connects before the end of the one before has been seen, or may have been. */
static void guests_that_vanish_under_load_leave_nothing(void **state)
{
	char path[64];
	struct rig *rig = rig_make(2, 2000, listener(path), -1);
	struct loops loops;
	unsigned int fds = 0;

	(void)state;
	loops_start(&loops, rig);
	for (unsigned int i = 0; i < GUESTS; i++) {
		uint64_t packed = i % 2 ? F(VIRTIO_F_RING_PACKED) : 0;

		rig_join(rig, vfe_connect(path), BASE | packed, PAIRS);
		for (unsigned int k = 0; k < 20; k++)
			guest_turn(rig, (uint16_t)k);
		if (i == 0)
			fds = count_in("/proc/self/fd");
		assert_int_equal(count_in("/proc/self/fd"), fds);
		assert_int_equal(count_mappings(), 2);
		vfe_close(&rig->fe);
	}
	rig_join(rig, vfe_connect(path), BASE, PAIRS);
	loops_stop(&loops);
	settle(rig);
	round_trip(rig, 0, 1, 400);
	assert_int_equal(atomic_load(&rig->control.n_gone), GUESTS);
	rig_free(rig);
	unlink(path);
	*strrchr(path, '/') = 0;
	rmdir(path);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(split_rings_outlive_changes),
		cmocka_unit_test(packed_rings_outlive_changes),
		cmocka_unit_test(rings_of_the_reader_outlive_changes),
		cmocka_unit_test(log_of_split_rings_is_whole),
		cmocka_unit_test(log_of_packed_rings_is_whole),
		cmocka_unit_test(log_of_the_readers_rings_is_whole),
		cmocka_unit_test(pairs_start_late_and_in_any_order),
		cmocka_unit_test(guests_that_vanish_under_load_leave_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
