/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where a packed ring stands, by its descriptors. Who took the place of a back-end that was killed
 * has to know: the front-end couldn't ask any more, and of a packed ring it knows no more than
 * where that was last stopped.
 *
 * It shows by the used flags. The device sets them to its wrap counter, and we do so in all slots
 * of a chain; the driver, when it makes a slot available, to the contrary of its own. So up to the
 * device's place they are the device's wrap counter, from there on the contrary: they turn once,
 * the end of the ring counted as a turn by itself. In a new ring all are 0: it stands at slot 0,
 * and the wrap counter is 1. This holds as chains go back in the order in which they came.
 *
 * A batch that was put but not published has its first slot still available, and turns three times:
 * at that slot, behind it, and at its own end. It is published then, as its buffers can't be taken
 * again; how long they were is not known any more.
 */
#include "vring.h"

#define LEN_OFF	  8
#define ID_OFF	  12
#define FLAGS_OFF 14

static uint16_t flags_at(const struct vring *ring, uint32_t pos)
{
	return guest_load16(vring_slot(ring, pos) + FLAGS_OFF);
}

static bool used_flag(const struct vring *ring, uint32_t pos)
{
	return flags_at(ring, pos) & VRING_DESC_USED;
}

static bool turns(const struct vring *ring, uint32_t pos)
{
	bool before = used_flag(ring, (pos ? pos : ring->setup.num) - 1);

	return (used_flag(ring, pos) != before) != !pos;
}

/* Fills in where the flags turn, up to three times. Returns how often they do, counted to four. */
static unsigned int find_turns(const struct vring *ring, uint16_t at[static 3])
{
	unsigned int n = 0;

	for (uint32_t pos = 0; pos < ring->setup.num && n <= 3; pos++) {
		if (!turns(ring, pos))
			continue;
		if (n < 3)
			at[n] = (uint16_t)pos;
		n++;
	}
	return n;
}

static uint32_t distance(const struct vring *ring, uint32_t from, uint32_t to)
{
	return (to + ring->setup.num - from) % ring->setup.num;
}

/* Of three turns those of the shortest batch: its first slot and its end. False: there is none. */
static bool find_part(const struct vring *ring, const uint16_t at[static 3], uint16_t *first,
		      uint16_t *end)
{
	uint32_t least = ring->setup.num;

	for (unsigned int i = 0; i < 3; i++) {
		uint32_t n = distance(ring, at[i], at[(i + 2) % 3]);

		if (distance(ring, at[i], at[(i + 1) % 3]) != 1 || n >= least)
			continue;
		least = n;
		*first = at[i];
		*end = at[(i + 2) % 3];
	}
	return least < ring->setup.num;
}

/*
 * Whether a batch of the whole ring is what ends at first. Its flags turn once, behind its first
 * slot, which alone is available, and it can't be that for the round to come.
 */
static bool is_whole_ring(const struct vring *ring, uint16_t first, uint16_t next)
{
	bool wrap = !used_flag(ring, next);

	return !(flags_at(ring, first) & VRING_DESC_AVAIL) == used_flag(ring, first) &&
	       !(flags_at(ring, next) & VRING_DESC_AVAIL) == wrap;
}

/* Whether the base is this place. */
static bool stands_at(const struct vring *ring, uint16_t pos)
{
	return ring->avail_pos == pos && ring->avail_wrap != used_flag(ring, pos);
}

/* Whether there is a batch that was not published: its first slot and its end. The base of a ring
 * that another kind of device has left may be right all the same. */
static bool find_batch(const struct vring *ring, unsigned int n, const uint16_t at[static 3],
		       uint16_t *first, uint16_t *end)
{
	if (n == 3)
		return find_part(ring, at, first, end) && !stands_at(ring, *end);
	*first = *end = (uint16_t)distance(ring, 1, at[0]);
	return n == 1 && is_whole_ring(ring, *first, at[0]);
}

/* Publishes the slots from first to end. */
static void finish_batch(const struct vring *ring, uint16_t first, uint16_t end)
{
	uint8_t *slot = vring_slot(ring, first);
	bool wrap = !used_flag(ring, first), any_wrap = wrap;
	uint16_t pos = first;

	do {
		guest_store32(vring_slot(ring, pos) + LEN_OFF, 0);
		vring_log_slot(ring, vring_slot(ring, pos));
		vring_advance(ring, &pos, &any_wrap, 1);
	} while (pos != end);
	guest_store16(slot + FLAGS_OFF, vring_used_flags(wrap));
	vring_log_slot(ring, slot);
}

static void go_on_at(struct vring *ring, uint16_t pos)
{
	ring->avail_pos = ring->used_pos = ring->published = pos;
	ring->avail_wrap = ring->used_wrap = ring->published_wrap = !used_flag(ring, pos);
}

static uint16_t id_at(const struct vring *ring, uint32_t pos)
{
	return guest_load16(vring_slot(ring, pos) + ID_OFF);
}

/*
 * Whether the base lies behind the rest of a chain, from pos on, of which another kind of device
 * has marked no more than its first slot. Linux writes the id of a chain in all of its slots. A
 * base where new rings begin says nothing: it is what a front-end has that was never told.
 */
static bool is_behind_chain(const struct vring *ring, uint16_t pos)
{
	uint16_t id = id_at(ring, distance(ring, 1, pos));
	bool wrap = !used_flag(ring, pos);

	if (!ring->avail_pos && ring->avail_wrap)
		return false;
	for (uint32_t n = 1; n < ring->setup.num; n++) {
		if (pos == ring->avail_pos && wrap == ring->avail_wrap)
			return true;
		if (id_at(ring, pos) != id || !(flags_at(ring, pos) & VRING_DESC_AVAIL) == wrap)
			return false;
		vring_advance(ring, &pos, &wrap, 1);
	}
	return false;
}

void vring_resume(struct vring *ring)
{
	uint16_t at[3] = { 0 }, first = 0, end = 0;
	unsigned int n = find_turns(ring, at);

	if (find_batch(ring, n, at, &first, &end)) {
		finish_batch(ring, first, end);
		go_on_at(ring, end);
	} else if (n == 1 && !is_behind_chain(ring, at[0])) {
		go_on_at(ring, at[0]);
	}
}
