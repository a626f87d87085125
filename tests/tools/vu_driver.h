/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The driver's side of a virtqueue, split or packed, for tests and load generators: makes chains
 * available and looks for used ones. Written to be simple, apart from the code that it tests;
 * trusts the device.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define DRV_NEXT     1u
#define DRV_WRITE    2u
#define DRV_INDIRECT 4u
#define DRV_NUM_MAX  1024u

struct drv_desc {
	uint64_t addr; /* guest physical */
	uint32_t len;
	uint16_t flags;
};

struct drv_ring {
	bool packed;
	bool event_idx;
	uint16_t num;
	uint8_t *desc, *driver, *device;
	uint16_t n_free;
	uint16_t free_head; /* split */
	uint16_t avail;	    /* split: index; packed: slot */
	uint16_t last_used;
	uint16_t kicked; /* avail when a kick was last decided on */
	bool avail_wrap, used_wrap;
	uint16_t next[DRV_NUM_MAX];	 /* split: free list; packed: ids that are free */
	uint16_t chain_len[DRV_NUM_MAX]; /* by id */
};

static inline uint16_t drv_load16(const uint8_t *p)
{
	return __atomic_load_n((const uint16_t *)(const void *)p, __ATOMIC_ACQUIRE);
}

static inline void drv_store16(uint8_t *p, uint16_t v)
{
	__atomic_store_n((uint16_t *)(void *)p, v, __ATOMIC_RELEASE);
}

static inline size_t drv_desc_size(uint16_t num)
{
	return 16u * (size_t)num;
}

static inline size_t drv_driver_size(uint16_t num)
{
	return 8 + 2 * (size_t)num;
}

static inline size_t drv_device_size(uint16_t num)
{
	return 8 + 8 * (size_t)num;
}

static inline void drv_init(struct drv_ring *ring, bool packed, uint16_t num, uint8_t *desc,
			    uint8_t *driver, uint8_t *device)
{
	memset(ring, 0, sizeof(*ring));
	ring->packed = packed;
	ring->num = ring->n_free = num;
	ring->desc = desc;
	ring->driver = driver;
	ring->device = device;
	ring->avail_wrap = ring->used_wrap = true;
	memset(desc, 0, drv_desc_size(num));
	memset(driver, 0, packed ? 4 : drv_driver_size(num));
	memset(device, 0, packed ? 4 : drv_device_size(num));
	for (uint16_t i = 0; i < num; i++)
		ring->next[i] = (uint16_t)(i + 1);
}

static inline void drv_write_desc(uint8_t *at, uint64_t addr, uint32_t len, uint16_t w12,
				  uint16_t w14)
{
	memcpy(at, &addr, 8);
	memcpy(at + 8, &len, 4);
	memcpy(at + 12, &w12, 2);
	memcpy(at + 14, &w14, 2);
}

/* Fills a table of descriptors as an indirect descriptor points to one. */
static inline void drv_write_table(const struct drv_ring *ring, uint8_t *table,
				   const struct drv_desc *d, uint16_t n)
{
	for (uint16_t i = 0; i < n; i++) {
		uint16_t next = (uint16_t)(i + 1 < n ? DRV_NEXT : 0);

		if (ring->packed)
			drv_write_desc(table + 16u * i, d[i].addr, d[i].len, 0, d[i].flags);
		else
			drv_write_desc(table + 16u * i, d[i].addr, d[i].len,
				       (uint16_t)(d[i].flags | next), (uint16_t)(i + 1));
	}
}

static inline int drv_add_split(struct drv_ring *ring, const struct drv_desc *d, uint16_t n)
{
	uint16_t head = ring->free_head, i = head;

	for (uint16_t k = 0; k < n; k++) {
		uint16_t next = (uint16_t)(k + 1 < n ? DRV_NEXT : 0);

		drv_write_desc(ring->desc + 16u * i, d[k].addr, d[k].len,
			       (uint16_t)(d[k].flags | next), ring->next[i]);
		ring->free_head = ring->next[i];
		i = ring->next[i];
	}
	drv_store16(ring->driver + 4 + 2u * (ring->avail % ring->num), head);
	ring->avail++;
	drv_store16(ring->driver + 2, ring->avail);
	ring->chain_len[head] = n;
	return head;
}

static inline uint16_t drv_packed_flags(bool wrap)
{
	return (uint16_t)(wrap ? 1u << 7 : 1u << 15);
}

static inline int drv_add_packed(struct drv_ring *ring, const struct drv_desc *d, uint16_t n)
{
	uint16_t id = ring->free_head, first = ring->avail, first_flags = 0;

	ring->free_head = ring->next[id];
	for (uint16_t k = 0; k < n; k++) {
		uint8_t *at = ring->desc + 16u * ring->avail;
		uint16_t flags = (uint16_t)(d[k].flags | (k + 1 < n ? DRV_NEXT : 0) |
					    drv_packed_flags(ring->avail_wrap));

		memcpy(at, &d[k].addr, 8);
		memcpy(at + 8, &d[k].len, 4);
		memcpy(at + 12, &id, 2);
		if (k == 0)
			first_flags = flags;
		else
			drv_store16(at + 14, flags);
		if (++ring->avail == ring->num) {
			ring->avail = 0;
			ring->avail_wrap = !ring->avail_wrap;
		}
	}
	drv_store16(ring->desc + 16u * first + 14, first_flags);
	ring->chain_len[id] = n;
	return id;
}

/* Makes a chain available. Returns its id, or -1 if the ring is full. */
static inline int drv_add(struct drv_ring *ring, const struct drv_desc *d, uint16_t n)
{
	if (ring->n_free < n)
		return -1;
	ring->n_free = (uint16_t)(ring->n_free - n);
	return ring->packed ? drv_add_packed(ring, d, n) : drv_add_split(ring, d, n);
}

static inline bool drv_used_split(struct drv_ring *ring, uint32_t *id, uint32_t *len)
{
	const uint8_t *elem;
	uint16_t i;

	if (drv_load16(ring->device + 2) == ring->last_used)
		return false;
	elem = ring->device + 4 + 8u * (ring->last_used % ring->num);
	memcpy(id, elem, 4);
	memcpy(len, elem + 4, 4);
	ring->last_used++;
	i = (uint16_t)*id;
	for (uint16_t k = 1; k < ring->chain_len[*id]; k++)
		i = ring->next[i];
	ring->next[i] = ring->free_head;
	ring->free_head = (uint16_t)*id;
	return true;
}

static inline bool drv_used_packed(struct drv_ring *ring, uint32_t *id, uint32_t *len)
{
	const uint8_t *at = ring->desc + 16u * ring->last_used;
	uint16_t flags = drv_load16(at + 14), wire_id;

	if (!(flags & 1u << 7) == ring->used_wrap || !(flags & 1u << 15) == ring->used_wrap)
		return false;
	memcpy(&wire_id, at + 12, 2);
	memcpy(len, at + 8, 4);
	*id = wire_id;
	ring->last_used = (uint16_t)(ring->last_used + ring->chain_len[*id]);
	if (ring->last_used >= ring->num) {
		ring->last_used = (uint16_t)(ring->last_used - ring->num);
		ring->used_wrap = !ring->used_wrap;
	}
	ring->next[*id] = ring->free_head;
	ring->free_head = (uint16_t)*id;
	return true;
}

/* Takes the oldest used chain. False if there is none. */
static inline bool drv_used(struct drv_ring *ring, uint32_t *id, uint32_t *len)
{
	if (!(ring->packed ? drv_used_packed(ring, id, len) : drv_used_split(ring, id, len)))
		return false;
	ring->n_free = (uint16_t)(ring->n_free + ring->chain_len[*id]);
	return true;
}

/* Whether the device has used a chain that was not taken yet. */
static inline bool drv_pending(const struct drv_ring *ring)
{
	uint16_t flags;

	if (!ring->packed)
		return drv_load16(ring->device + 2) != ring->last_used;
	flags = drv_load16(ring->desc + 16u * ring->last_used + 14);
	return !(flags & 1u << 7) != ring->used_wrap && !(flags & 1u << 15) != ring->used_wrap;
}

static inline bool drv_passes(uint16_t event, uint16_t to, uint16_t from)
{
	return (uint16_t)(to - event - 1) < (uint16_t)(to - from);
}

/* Whether the device wants a kick for what was added since this was last asked. */
static inline bool drv_kick_wanted(struct drv_ring *ring)
{
	uint16_t from = ring->kicked, event;

	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	ring->kicked = ring->avail;
	if (!ring->packed && ring->event_idx)
		return drv_passes(drv_load16(ring->device + 4 + 8u * ring->num), ring->avail, from);
	if (!ring->packed)
		return !(drv_load16(ring->device) & 1);
	if (drv_load16(ring->device + 2) != 2)
		return drv_load16(ring->device + 2) == 0;
	event = drv_load16(ring->device);
	if (event >> 15 != ring->avail_wrap)
		return drv_passes((uint16_t)((event & 0x7fff) - ring->num), ring->avail,
				  (uint16_t)(ring->avail <= from ? from - ring->num : from));
	return drv_passes(event & 0x7fff, ring->avail,
			  (uint16_t)(ring->avail <= from ? from - ring->num : from));
}

/* Asks the device for calls, or asks it to spare them. */
static inline void drv_want_call(struct drv_ring *ring, bool wanted)
{
	if (ring->packed && ring->event_idx && wanted) {
		drv_store16(ring->driver,
			    (uint16_t)(ring->last_used | (ring->used_wrap ? 0x8000 : 0)));
		drv_store16(ring->driver + 2, 2);
	} else if (ring->packed) {
		drv_store16(ring->driver + 2, wanted ? 0 : 1);
	} else if (ring->event_idx) {
		drv_store16(ring->driver + 4 + 2u * ring->num,
			    (uint16_t)(wanted ? ring->last_used : ring->last_used - 1));
	} else {
		drv_store16(ring->driver, wanted ? 0 : 1);
	}
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
}

/* Asks for one call when n more slots are used (at least 1); at once without event indices. */
static inline void drv_want_call_after(struct drv_ring *ring, uint16_t n)
{
	uint16_t slot = (uint16_t)(ring->last_used + n - 1);
	bool wrap = ring->used_wrap;

	if (!ring->event_idx) {
		drv_want_call(ring, true);
		return;
	}
	if (ring->packed) {
		if (slot >= ring->num) {
			slot = (uint16_t)(slot - ring->num);
			wrap = !wrap;
		}
		drv_store16(ring->driver, (uint16_t)(slot | (wrap ? 0x8000 : 0)));
		drv_store16(ring->driver + 2, 2);
	} else {
		drv_store16(ring->driver + 4 + 2u * ring->num, slot);
	}
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
}
