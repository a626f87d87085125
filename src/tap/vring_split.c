/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The split virtqueue (virtio 1.2, 2.7): a table of descriptors, a ring in which the driver names
 * the heads of available chains, and one in which we name those that we used.
 */
#include "vring.h"

#include <errno.h>

#define AVAIL_FLAGS_OFF 0
#define AVAIL_IDX_OFF	2
#define AVAIL_RING_OFF	4
#define USED_FLAGS_OFF	0
#define USED_IDX_OFF	2
#define USED_RING_OFF	4
#define USED_ELEM_LEN	8
#define NO_INTERRUPT	1u
#define NO_NOTIFY	1u

/* Where a walk along a chain stands. */
struct walk {
	const uint8_t *table;
	uint32_t n; /* entries of the table */
	uint32_t i; /* of the next descriptor */
	uint32_t seen;
	uint32_t slots; /* of the ring, if indirect */
	bool indirect;
};

static uint32_t slot_of(const struct vring *ring, uint16_t pos)
{
	return pos & (ring->setup.num - 1);
}

/* Follows an indirect descriptor, which must be the last of its chain. */
static bool enter_indirect(const struct vring *ring, struct walk *walk, const struct vring_desc *d)
{
	if (walk->indirect || d->word12 & VRING_DESC_NEXT)
		return false;
	walk->indirect = true;
	walk->table = vring_indirect(ring, d->addr, d->len, &walk->n);
	walk->i = 0;
	walk->slots = walk->seen; /* the table's entries take none of the ring */
	walk->seen--;		  /* they count, not what points to them */
	return walk->table;
}

/* 1: there is one more descriptor; 0: the chain is complete; -EPROTO: it lies. */
static int walk_step(struct vring *ring, struct walk *walk, bool writable,
		     struct vring_chain *chain, struct iovec *iov)
{
	struct vring_desc d;

	if (walk->i >= walk->n || walk->seen++ >= ring->setup.num)
		return -EPROTO;
	read_once(&d, walk->table + (size_t)walk->i * VRING_DESC_LEN, sizeof(d));
	if (d.word12 & VRING_DESC_INDIRECT)
		return enter_indirect(ring, walk, &d) ? 1 : -EPROTO;
	if (!(d.word12 & VRING_DESC_WRITE) != !writable ||
	    !vring_append(ring, d.addr, d.len, chain, iov))
		return -EPROTO;
	walk->i = d.word14;
	return d.word12 & VRING_DESC_NEXT ? 1 : 0;
}

/* Looks for new chains. False if there are none; a jump of more than the ring is a lie. */
static int look(struct vring *ring)
{
	uint16_t idx = guest_load16(ring->setup.driver + AVAIL_IDX_OFF);
	uint16_t n = (uint16_t)(idx - ring->avail_pos);

	if (n > ring->setup.num)
		return vring_lie(ring);
	ring->avail_seen = idx;
	return n ? 1 : 0;
}

static int split_take(struct vring *ring, bool writable, struct vring_chain *chain,
		      struct iovec *iov)
{
	struct walk walk = { .table = ring->setup.desc, .n = ring->setup.num };
	int more;

	if (ring->broken)
		return -EPROTO;
	if (ring->avail_pos == ring->avail_seen) {
		more = look(ring);
		if (more <= 0)
			return more;
	}
	*chain = (struct vring_chain){
		.id = guest_load16(ring->setup.driver + AVAIL_RING_OFF +
				   2 * (size_t)slot_of(ring, ring->avail_pos)),
		.pos = ring->avail_pos,
	};
	walk.i = chain->id;
	do
		more = walk_step(ring, &walk, writable, chain, iov);
	while (more > 0);
	chain->n_slots = (uint16_t)(walk.indirect ? walk.slots : walk.seen);
	if (more < 0 || ring->taken + chain->n_slots > ring->setup.num)
		return vring_lie(ring);
	ring->avail_pos++;
	ring->taken += chain->n_slots;
	return 1;
}

static void split_untake(struct vring *ring, const struct vring_chain *chain)
{
	ring->avail_pos = chain->pos;
	ring->taken -= chain->n_slots;
}

static void split_put(struct vring *ring, const struct vring_chain *chain, uint32_t written)
{
	uint32_t slot = slot_of(ring, ring->used_pos);
	uint8_t *elem = ring->setup.device + USED_RING_OFF + USED_ELEM_LEN * (size_t)slot;

	guest_store32(elem, chain->id);
	guest_store32(elem + 4, written);
	vring_log_device(ring, USED_RING_OFF + USED_ELEM_LEN * (uint64_t)slot, USED_ELEM_LEN);
	ring->used_pos++;
	ring->taken -= chain->n_slots;
}

static void split_publish(struct vring *ring)
{
	if (ring->published == ring->used_pos)
		return;
	guest_store16(ring->setup.device + USED_IDX_OFF, ring->used_pos);
	vring_log_device(ring, USED_IDX_OFF, 2);
	ring->published = ring->used_pos;
}

static bool split_has_more(const struct vring *ring)
{
	return guest_load16(ring->setup.driver + AVAIL_IDX_OFF) != ring->avail_pos;
}

static void split_want_kick(struct vring *ring, bool wanted)
{
	size_t event_off = USED_RING_OFF + USED_ELEM_LEN * (size_t)ring->setup.num;

	if (!ring->setup.event_idx) {
		guest_store16(ring->setup.device + USED_FLAGS_OFF,
			      wanted ? 0 : (uint16_t)NO_NOTIFY);
		vring_log_device(ring, USED_FLAGS_OFF, 2);
	} else if (wanted) {
		/* Without a new event index, the driver stays silent once it is past the old one.
		 */
		guest_store16(ring->setup.device + event_off, ring->avail_pos);
		vring_log_device(ring, event_off, 2);
	}
	if (wanted)
		__atomic_thread_fence(__ATOMIC_SEQ_CST);
}

static bool split_wants_call(struct vring *ring)
{
	const uint8_t *driver = ring->setup.driver;
	uint16_t old = ring->signalled;
	bool valid = ring->signalled_valid;

	if (valid && old == ring->published)
		return false;
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	ring->signalled = ring->published;
	ring->signalled_valid = true;
	if (!ring->setup.event_idx)
		return !(guest_load16(driver + AVAIL_FLAGS_OFF) & NO_INTERRUPT);
	return !valid ||
	       vring_need_event(guest_load16(driver + AVAIL_RING_OFF + 2 * (size_t)ring->setup.num),
				ring->published, old);
}

static uint32_t split_base(const struct vring *ring)
{
	return ring->avail_pos;
}

const struct vring_ops vring_split_ops = {
	.take = split_take,
	.untake = split_untake,
	.put = split_put,
	.publish = split_publish,
	.has_more = split_has_more,
	.want_kick = split_want_kick,
	.wants_call = split_wants_call,
	.base = split_base,
};
