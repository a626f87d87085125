/* SPDX-License-Identifier: Apache-2.0 */
#include "vring.h"

#include <errno.h>

static bool size_ok(uint32_t num, bool packed)
{
	return num && num <= VRING_SIZE_MAX && (packed || !(num & (num - 1)));
}

size_t vring_desc_len(uint32_t num, bool packed)
{
	return size_ok(num, packed) ? (size_t)num * VRING_DESC_LEN : 0;
}

size_t vring_driver_len(uint32_t num, bool packed)
{
	if (!size_ok(num, packed))
		return 0;
	return packed ? 4 : 6 + 2 * (size_t)num;
}

size_t vring_device_len(uint32_t num, bool packed)
{
	if (!size_ok(num, packed))
		return 0;
	return packed ? 4 : 6 + 8 * (size_t)num;
}

/* A used index that is not within a ring's length of the available one was never written. */
static uint16_t used_start(const struct vring_setup *setup, uint16_t avail)
{
	uint16_t used = avail;

	if (!setup->packed)
		used = guest_load16(setup->device + 2);
	return (uint16_t)(avail - used) <= setup->num ? used : avail;
}

int vring_start(struct vring *ring, const struct vring_setup *setup, const struct vu_memory *memory,
		uint32_t base)
{
	uint16_t pos = setup->packed ? base & 0x7fff : (uint16_t)base, used;

	if (!size_ok(setup->num, setup->packed) || (setup->packed && pos >= setup->num))
		return -EINVAL;
	used = used_start(setup, pos);
	if (!setup->packed)
		pos = used;
	*ring = (struct vring){
		.ops = setup->packed ? &vring_packed_ops : &vring_split_ops,
		.memory = memory,
		.setup = *setup,
		.avail_pos = pos,
		.avail_seen = pos,
		.used_pos = used,
		.published = used,
		.avail_wrap = base >> 15 & 1,
		.used_wrap = base >> 15 & 1,
		.published_wrap = base >> 15 & 1,
	};
	if (setup->packed)
		vring_resume(ring);
	return 0;
}

int vring_lie(struct vring *ring)
{
	ring->broken = true;
	return -EPROTO;
}

bool vring_append(const struct vring *ring, uint64_t addr, uint32_t len, struct vring_chain *chain,
		  struct iovec *iov)
{
	uint32_t sum;

	if (__builtin_add_overflow(chain->len, len, &sum))
		return false;
	chain->len = sum;
	while (len) {
		uint64_t here = len;
		void *at = vu_memory_guest(ring->memory, addr, &here);

		if (!at || chain->n_iov == VRING_CHAIN_MAX)
			return false;
		iov[chain->n_iov++] = (struct iovec){ at, here };
		addr += here;
		len -= (uint32_t)here;
	}
	return true;
}

const uint8_t *vring_indirect(const struct vring *ring, uint64_t addr, uint32_t len, uint32_t *n)
{
	uint64_t here = len;
	const uint8_t *table;

	*n = len / VRING_DESC_LEN;
	if (!ring->setup.indirect || !len || len % VRING_DESC_LEN || *n > ring->setup.num)
		return NULL;
	table = vu_memory_guest(ring->memory, addr, &here);
	return here == len ? table : NULL;
}
