/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A shared memory with one ring in it, for the tests of both kinds of ring: we see it through
 * vu_memory, the driver by a mapping of its own. Two regions that are neighbours for the guest, but
 * not for the front-end, then a hole.
 */
#pragma once

#include "tools/vu_driver.h"
#include "vring.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#define WORLD_SIZE  0x40000u /* of each region */
#define WORLD_GUEST 0x100000u
#define WORLD_USER  0x7000000000u
#define WORLD_USER2 0x7100000000u
#define WORLD_NUM   8u
/* Guest addresses. */
#define WORLD_BUF   (WORLD_GUEST + 0x8000u)
#define WORLD_TABLE (WORLD_GUEST + 0x4000u)
#define WORLD_SEAM  (WORLD_GUEST + WORLD_SIZE)
#define WORLD_END   (WORLD_GUEST + 2 * WORLD_SIZE)

struct world {
	int fd;
	uint8_t *mem; /* the driver's mapping of both regions */
	struct vu_memory memory;
	struct vring ring;
	struct drv_ring drv;
	struct vring_chain chain;
	struct iovec iov[VRING_CHAIN_MAX];
};

static inline uint8_t *world_at(struct world *w, uint64_t guest)
{
	return w->mem + (guest - WORLD_GUEST);
}

static inline void world_start(struct world *w, bool packed, bool event_idx, bool indirect)
{
	uint8_t *desc = w->mem, *driver = w->mem + 0x1000, *device = w->mem + 0x2000;
	struct vring_setup setup = {
		.num = WORLD_NUM,
		.desc = vu_memory_user(&w->memory, WORLD_USER, vring_desc_len(WORLD_NUM, packed)),
		.driver = vu_memory_user(&w->memory, WORLD_USER + 0x1000,
					 vring_driver_len(WORLD_NUM, packed)),
		.device = vu_memory_user(&w->memory, WORLD_USER + 0x2000,
					 vring_device_len(WORLD_NUM, packed)),
		.log_addr = WORLD_GUEST + 0x2000,
		.packed = packed,
		.event_idx = event_idx,
		.indirect = indirect,
	};

	drv_init(&w->drv, packed, WORLD_NUM, desc, driver, device);
	w->drv.event_idx = event_idx;
	assert_int_equal(vring_start(&w->ring, &setup, &w->memory, packed ? 0x8000 : 0), 0);
}

static inline struct world *world_new(bool packed)
{
	struct world *w = calloc(1, sizeof(*w));
	struct vu_region low = { WORLD_GUEST, WORLD_SIZE, WORLD_USER, 0 };
	struct vu_region high = { WORLD_SEAM, WORLD_SIZE, WORLD_USER2, WORLD_SIZE };

	assert_non_null(w);
	w->fd = memfd_create("world", MFD_CLOEXEC);
	assert_int_equal(ftruncate(w->fd, 2 * WORLD_SIZE), 0);
	w->mem = mmap(NULL, 2 * WORLD_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, w->fd, 0);
	assert_ptr_not_equal(w->mem, MAP_FAILED);
	vu_memory_init(&w->memory);
	assert_int_equal(vu_memory_add(&w->memory, &low, w->fd), 0);
	assert_int_equal(vu_memory_add(&w->memory, &high, w->fd), 0);
	world_start(w, packed, false, true);
	return w;
}

static inline int world_free(void **state)
{
	struct world *w = *state;

	vu_memory_clear(&w->memory);
	munmap(w->mem, 2 * WORLD_SIZE);
	close(w->fd);
	free(w);
	return 0;
}

static inline int world_take(struct world *w, bool writable)
{
	return vring_take(&w->ring, writable, &w->chain, w->iov);
}

static inline int world_add1(struct world *w, uint64_t addr, uint32_t len, uint16_t flags)
{
	struct drv_desc d = { addr, len, flags };

	return drv_add(&w->drv, &d, 1);
}
