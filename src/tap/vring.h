/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Virtqueues as the device sees them, split and packed (virtio 1.2, 2.7 and 2.8), behind one
 * interface: take the chains that the driver made available, give them back as used, and suppress
 * notifications both ways.
 *
 * The ring is hostile memory: each index, length, flag and address is read once, checked, and used
 * from our copy. A ring that lies is broken from then on: take gives -EPROTO until it is set up
 * anew.
 *
 * Not thread-safe: whoever works on a ring holds its queue's lock.
 */
#pragma once

#include "vu_memory.h"

#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/uio.h>

#define VRING_SIZE_MAX	    32768u
#define VRING_CHAIN_MAX	    1024u /* pieces of memory in one chain; as many as one sendmsg() takes */
#define VRING_DESC_LEN	    16u
#define VRING_DESC_NEXT	    1u
#define VRING_DESC_WRITE    2u
#define VRING_DESC_INDIRECT 4u
/* Flags of a packed ring's descriptors, beside the wrap counters. */
#define VRING_DESC_AVAIL (1u << 7)
#define VRING_DESC_USED	 (1u << 15)

/* A chain that was taken: what is needed to give it back. */
struct vring_chain {
	uint16_t id;	  /* the head's index, or the packed ring's buffer id */
	uint16_t n_slots; /* descriptors of the ring that it takes */
	uint16_t pos;	  /* where it was available; a packed ring's wrap counter in bit 15 */
	uint32_t n_iov;
	uint32_t len; /* bytes in sum */
};

/* How a ring is set up; addresses are ours, checked to hold the whole of each part. */
struct vring_setup {
	uint32_t num;	   /* entries; a power of two in a split ring */
	uint8_t *desc;	   /* the table, or the packed ring */
	uint8_t *driver;   /* available ring, or the packed ring's driver event structure */
	uint8_t *device;   /* used ring, or the packed ring's device event structure */
	uint64_t log_addr; /* guest address of device for the dirty log */
	bool log_used;	   /* writes to device are logged */
	bool packed;
	bool event_idx;
	bool indirect;
};

struct vring_ops;

struct vring {
	const struct vring_ops *ops;
	const struct vu_memory *memory;
	struct vring_setup setup;
	bool broken;	     /* the driver lied */
	uint32_t taken;	     /* slots taken and not put */
	uint16_t avail_pos;  /* next to be taken: an index, or a packed ring's slot */
	uint16_t avail_seen; /* split: the driver's index as last read */
	uint16_t used_pos;   /* next to be written */
	uint16_t published;  /* used_pos up to which the driver sees */
	uint16_t signalled;  /* used_pos when a call was last decided on */
	bool signalled_valid;
	bool signalled_wrap; /* packed */
	bool avail_wrap;
	bool used_wrap;
	bool published_wrap;
	uint16_t first_flags; /* packed: of the oldest unpublished entry, stored last */
	uint32_t first_len;   /* likewise */
};

struct vring_ops {
	int (*take)(struct vring *ring, bool writable, struct vring_chain *chain,
		    struct iovec *iov);
	void (*untake)(struct vring *ring, const struct vring_chain *chain);
	void (*put)(struct vring *ring, const struct vring_chain *chain, uint32_t written);
	void (*publish)(struct vring *ring);
	bool (*has_more)(const struct vring *ring);
	void (*want_kick)(struct vring *ring, bool wanted);
	bool (*wants_call)(struct vring *ring);
	uint32_t (*base)(const struct vring *ring);
};

extern const struct vring_ops vring_split_ops, vring_packed_ops;

/* Bytes that each part of a ring needs; 0 for a size that no ring can have. */
size_t vring_desc_len(uint32_t num, bool packed);
size_t vring_driver_len(uint32_t num, bool packed);
size_t vring_device_len(uint32_t num, bool packed);

/*
 * Starts a ring at the base that the front-end says (SET_VRING_BASE): the available index, or for a
 * packed ring slot and wrap counter in the low 16 bits. A split ring goes on where its used index
 * stands, if that is not more than a ring's length before the base: chains go back in order, so
 * what is not used was not taken, and some front-ends say where the driver stands. Used elements of
 * a packed ring go on where the available ones do: front-ends differ in what they say in the high
 * half, and a ring that was stopped has nothing under way. A packed ring
 * that shows where it stands is believed rather than the base (vring_resume.c). -EINVAL for a base
 * outside the ring.
 */
int vring_start(struct vring *ring, const struct vring_setup *setup, const struct vu_memory *memory,
		uint32_t base);

/*
 * Takes the next chain. iov has room for VRING_CHAIN_MAX pieces; chain->n_iov of them point into
 * the guest's memory afterwards. writable: what all its descriptors must be for the device. Returns
 * 1, 0 if there is none, or -EPROTO if the driver lied: the ring is broken.
 */
static inline int vring_take(struct vring *ring, bool writable, struct vring_chain *chain,
			     struct iovec *iov)
{
	return ring->ops->take(ring, writable, chain, iov);
}

/* Puts the chain that was taken last back, as if it had not been taken. */
static inline void vring_untake(struct vring *ring, const struct vring_chain *chain)
{
	ring->ops->untake(ring, chain);
}

/* Gives a chain back with written bytes in it; the driver sees it after vring_publish(). */
static inline void vring_put(struct vring *ring, const struct vring_chain *chain, uint32_t written)
{
	ring->ops->put(ring, chain, written);
}

static inline void vring_publish(struct vring *ring)
{
	ring->ops->publish(ring);
}

/* Whether a chain is available. */
static inline bool vring_has_more(const struct vring *ring)
{
	return ring->ops->has_more(ring);
}

/* Asks the driver for kicks or asks it to spare them. After asking for them, look again with
 * vring_has_more(). */
static inline void vring_want_kick(struct vring *ring, bool wanted)
{
	ring->ops->want_kick(ring, wanted);
}

/* Whether the driver wants a call for what was published since this was last asked. */
static inline bool vring_wants_call(struct vring *ring)
{
	return ring->ops->wants_call(ring);
}

/* What GET_VRING_BASE answers; all that was taken has been put. */
static inline uint32_t vring_base(const struct vring *ring)
{
	return ring->ops->base(ring);
}

/* The rest is for the two kinds of ring. */

struct vring_desc {
	uint64_t addr;
	uint32_t len;
	uint16_t word12; /* split: flags; packed: id */
	uint16_t word14; /* split: next; packed: flags */
};

_Static_assert(sizeof(struct vring_desc) == VRING_DESC_LEN, "a descriptor has 16 bytes");

/* Copies from guest memory; the compiler must not read it again afterwards. */
static inline void read_once(void *to, const void *from, size_t len)
{
	memcpy(to, from, len);
	__asm__ volatile("" ::: "memory");
}

static inline uint16_t guest_load16(const uint8_t *p)
{
	return __atomic_load_n((const uint16_t *)(const void *)p, __ATOMIC_ACQUIRE);
}

static inline void guest_store16(uint8_t *p, uint16_t v)
{
	__atomic_store_n((uint16_t *)(void *)p, v, __ATOMIC_RELEASE);
}

static inline void guest_store32(uint8_t *p, uint32_t v)
{
	__atomic_store_n((uint32_t *)(void *)p, v, __ATOMIC_RELAXED);
}

/* Whether going from old to new passes event (virtio 1.2, 2.7.10). */
static inline bool vring_need_event(uint16_t event, uint16_t new_pos, uint16_t old)
{
	return (uint16_t)(new_pos - event - 1) < (uint16_t)(new_pos - old);
}

/* Marks the ring broken; always -EPROTO. */
int vring_lie(struct vring *ring);

/* Appends a descriptor's memory to the chain's iov. False if it is not the guest's, or there are
 * too many pieces. */
bool vring_append(const struct vring *ring, uint64_t addr, uint32_t len, struct vring_chain *chain,
		  struct iovec *iov);

/* The table behind an indirect descriptor; NULL if it lies. *n: its entries. */
const uint8_t *vring_indirect(const struct vring *ring, uint64_t addr, uint32_t len, uint32_t *n);

static inline uint8_t *vring_slot(const struct vring *ring, uint32_t pos)
{
	return ring->setup.desc + (size_t)pos * VRING_DESC_LEN;
}

/* Flags of a used element of a packed ring. */
static inline uint16_t vring_used_flags(bool wrap)
{
	return wrap ? VRING_DESC_AVAIL | VRING_DESC_USED : 0;
}

/* Moves a packed ring's position by n slots; n is at most the ring's size. */
static inline void vring_advance(const struct vring *ring, uint16_t *pos, bool *wrap, uint32_t n)
{
	uint32_t to = *pos + n;

	if (to >= ring->setup.num) {
		to -= ring->setup.num;
		*wrap = !*wrap;
	}
	*pos = (uint16_t)to;
}

/* Logs a write to a packed ring's slot, after it: who copies the page meanwhile must find it dirty
 * again. */
static inline void vring_log_slot(const struct vring *ring, const uint8_t *slot)
{
	if (ring->memory->logging)
		vu_log_mark_ours(ring->memory, slot, VRING_DESC_LEN);
}

/* Has a packed ring go on where its descriptors say that it stands, if they do. */
void vring_resume(struct vring *ring);

/* Logs a write to the device part. */
static inline void vring_log_device(const struct vring *ring, uint64_t off, uint64_t len)
{
	if (ring->memory->logging && ring->setup.log_used)
		vu_log_mark(ring->memory, ring->setup.log_addr + off, len);
}
