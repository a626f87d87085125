/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The packed virtqueue (virtio 1.2, 2.8): one ring of descriptors in which the driver makes chains
 * available and we overwrite the first of each with a used element. Whether a slot is available or
 * used is told by two flags beside the wrap counters of both sides.
 *
 * A batch of used elements becomes visible at once: length and flags of its first slot are stored
 * last.
 */
#include "vring.h"

#include <errno.h>

#define DESC_FLAGS_OFF 14
#define EVENT_OFF_WRAP 0
#define EVENT_FLAGS    2
#define EVENT_ENABLE   0u
#define EVENT_DISABLE  1u
#define EVENT_DESC     2u

static bool flags_available(uint16_t flags, bool wrap)
{
	return !(flags & VRING_DESC_AVAIL) != wrap && !(flags & VRING_DESC_USED) == wrap;
}

/*
 * All entries of an indirect table, in order; their ids and other flags mean nothing. DPDK's driver
 * marks the entry of a transmit header as one to write to: reading it all the same is no harm.
 */
static bool take_table(struct vring *ring, const struct vring_desc *d, bool writable,
		       struct vring_chain *chain, struct iovec *iov)
{
	uint32_t n;
	const uint8_t *table = vring_indirect(ring, d->addr, d->len, &n);

	if (!table || d->word14 & VRING_DESC_NEXT)
		return false;
	for (uint32_t i = 0; i < n; i++) {
		struct vring_desc entry;

		read_once(&entry, table + (size_t)i * VRING_DESC_LEN, sizeof(entry));
		if (entry.word14 & VRING_DESC_INDIRECT ||
		    (writable && !(entry.word14 & VRING_DESC_WRITE)) ||
		    !vring_append(ring, entry.addr, entry.len, chain, iov))
			return false;
	}
	return true;
}

/* 1: the chain goes on in the next slot; 0: it is complete; -EPROTO: it lies. */
static int take_slot(struct vring *ring, const struct vring_desc *d, bool writable,
		     struct vring_chain *chain, struct iovec *iov)
{
	chain->id = d->word12;
	chain->n_slots++;
	if (chain->n_slots + ring->taken > ring->setup.num)
		return -EPROTO;
	if (d->word14 & VRING_DESC_INDIRECT) {
		/* A table is the whole of its chain (2.8.7). */
		return chain->n_slots == 1 && take_table(ring, d, writable, chain, iov) ? 0
											: -EPROTO;
	}
	if (!(d->word14 & VRING_DESC_WRITE) != !writable ||
	    !vring_append(ring, d->addr, d->len, chain, iov))
		return -EPROTO;
	return d->word14 & VRING_DESC_NEXT ? 1 : 0;
}

static int packed_take(struct vring *ring, bool writable, struct vring_chain *chain,
		       struct iovec *iov)
{
	uint16_t pos = ring->avail_pos;
	bool wrap = ring->avail_wrap;
	int more;

	if (ring->broken)
		return -EPROTO;
	if (!flags_available(guest_load16(vring_slot(ring, pos) + DESC_FLAGS_OFF), wrap))
		return 0;
	*chain = (struct vring_chain){ .pos = (uint16_t)(pos | (wrap ? 0x8000 : 0)) };
	do {
		struct vring_desc d;

		read_once(&d, vring_slot(ring, pos), sizeof(d));
		more = take_slot(ring, &d, writable, chain, iov);
		vring_advance(ring, &pos, &wrap, 1);
	} while (more > 0);
	if (more < 0)
		return vring_lie(ring);
	ring->avail_pos = pos;
	ring->avail_wrap = wrap;
	ring->taken += chain->n_slots;
	return 1;
}

static void packed_untake(struct vring *ring, const struct vring_chain *chain)
{
	ring->avail_pos = chain->pos & 0x7fff;
	ring->avail_wrap = chain->pos >> 15;
	ring->taken -= chain->n_slots;
}

/* Passes the other slots of a chain. Drivers don't look at them; that they are marked as used, too,
 * is what vring_resume() goes by. */
static void pass_slots(struct vring *ring, unsigned int n)
{
	for (; n; n--) {
		uint8_t *slot = vring_slot(ring, ring->used_pos);

		guest_store16(slot + DESC_FLAGS_OFF, vring_used_flags(ring->used_wrap));
		vring_log_slot(ring, slot);
		vring_advance(ring, &ring->used_pos, &ring->used_wrap, 1);
	}
}

static void packed_put(struct vring *ring, const struct vring_chain *chain, uint32_t written)
{
	uint8_t *slot = vring_slot(ring, ring->used_pos);
	uint16_t flags = vring_used_flags(ring->used_wrap);

	if (written)
		flags |= VRING_DESC_WRITE;
	guest_store16(slot + 12, chain->id);
	if (ring->used_pos == ring->published && ring->used_wrap == ring->published_wrap) {
		ring->first_flags = flags;
		ring->first_len = written;
	} else {
		guest_store32(slot + 8, written);
		guest_store16(slot + DESC_FLAGS_OFF, flags);
	}
	vring_log_slot(ring, slot);
	vring_advance(ring, &ring->used_pos, &ring->used_wrap, 1);
	pass_slots(ring, chain->n_slots - 1u);
	ring->taken -= chain->n_slots;
}

static void packed_publish(struct vring *ring)
{
	uint8_t *slot = vring_slot(ring, ring->published);

	if (ring->published == ring->used_pos && ring->published_wrap == ring->used_wrap)
		return;
	guest_store32(slot + 8, ring->first_len);
	guest_store16(slot + DESC_FLAGS_OFF, ring->first_flags);
	vring_log_slot(ring, slot);
	ring->published = ring->used_pos;
	ring->published_wrap = ring->used_wrap;
}

static bool packed_has_more(const struct vring *ring)
{
	return flags_available(guest_load16(vring_slot(ring, ring->avail_pos) + DESC_FLAGS_OFF),
			       ring->avail_wrap);
}

static void packed_want_kick(struct vring *ring, bool wanted)
{
	uint8_t *device = ring->setup.device;

	if (!wanted) {
		guest_store16(device + EVENT_FLAGS, EVENT_DISABLE);
	} else if (!ring->setup.event_idx) {
		guest_store16(device + EVENT_FLAGS, EVENT_ENABLE);
	} else {
		guest_store16(device + EVENT_OFF_WRAP,
			      (uint16_t)(ring->avail_pos | (ring->avail_wrap ? 0x8000 : 0)));
		guest_store16(device + EVENT_FLAGS, EVENT_DESC);
	}
	vring_log_device(ring, 0, 4);
	if (wanted)
		__atomic_thread_fence(__ATOMIC_SEQ_CST);
}

/* Whether what was published passes the slot that the driver waits for (2.8.10). */
static bool passes_event(const struct vring *ring, uint16_t off_wrap, uint16_t old)
{
	uint16_t event = off_wrap & 0x7fff;

	if (off_wrap >> 15 != ring->published_wrap)
		event = (uint16_t)(event - ring->setup.num);
	if (ring->published <= old)
		old = (uint16_t)(old - ring->setup.num);
	return vring_need_event(event, ring->published, old);
}

static bool packed_wants_call(struct vring *ring)
{
	const uint8_t *driver = ring->setup.driver;
	uint16_t old = ring->signalled;
	bool valid = ring->signalled_valid;
	uint16_t flags;

	if (valid && old == ring->published && ring->signalled_wrap == ring->published_wrap)
		return false;
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	ring->signalled = ring->published;
	ring->signalled_wrap = ring->published_wrap;
	ring->signalled_valid = true;
	flags = guest_load16(driver + EVENT_FLAGS);
	if (flags != EVENT_DESC || !ring->setup.event_idx)
		return flags != EVENT_DISABLE;
	return !valid || passes_event(ring, guest_load16(driver + EVENT_OFF_WRAP), old);
}

static uint32_t packed_base(const struct vring *ring)
{
	uint32_t half = ring->avail_pos | (ring->avail_wrap ? 0x8000u : 0);

	return half | half << 16; /* nothing is under way: used is where available is */
}

const struct vring_ops vring_packed_ops = {
	.take = packed_take,
	.untake = packed_untake,
	.put = packed_put,
	.publish = packed_publish,
	.has_more = packed_has_more,
	.want_kick = packed_want_kick,
	.wants_call = packed_wants_call,
	.base = packed_base,
};
