/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A whole ring from the fuzzer: its first byte says the kind, the rest is the guest's memory.
 * Whatever stands there, each piece that is taken lies in that memory, and the device ends.
 *
 * links: tap
 */
#include "tap/vring.h"

#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#define MEM_SIZE 0x8000u
#define GUEST	 0x10000u
#define USER	 0x700000000u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct vu_memory memory;
static uint8_t *mem;

static void prepare(void)
{
	struct vu_region region = { GUEST, MEM_SIZE, USER, 0 };
	int fd = memfd_create("fuzz", MFD_CLOEXEC);

	if (fd < 0 || ftruncate(fd, MEM_SIZE) || vu_memory_add(&memory, &region, fd))
		abort();
	mem = memory.mappings[0].base;
	close(fd);
}

static void use(struct vring *ring, const struct vring_chain *chain, const struct iovec *iov,
		bool writable)
{
	uint32_t len = 0;

	for (uint32_t i = 0; i < chain->n_iov; i++) {
		const uint8_t *at = iov[i].iov_base;

		if (at < mem || iov[i].iov_len > MEM_SIZE || at + iov[i].iov_len > mem + MEM_SIZE ||
		    !iov[i].iov_len)
			abort();
		len += (uint32_t)iov[i].iov_len;
	}
	if (len != chain->len)
		abort();
	if (writable && chain->n_iov)
		memset(iov[0].iov_base, 0xff, iov[0].iov_len);
	vring_put(ring, chain, len);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct iovec iov[VRING_CHAIN_MAX];
	struct vring_chain chain;
	struct vring_setup setup;
	struct vring ring;
	bool writable;

	if (!mem)
		prepare();
	if (size < 1)
		return 0;
	setup = (struct vring_setup){
		.num = 1u << (data[0] & 7),
		.desc = mem,
		.driver = mem + 0x1000,
		.device = mem + 0x2000,
		.packed = data[0] & 8,
		.event_idx = data[0] & 16,
		.indirect = data[0] & 32,
	};
	writable = data[0] & 64;
	memset(mem, 0, MEM_SIZE);
	memcpy(mem, data + 1, size - 1 < MEM_SIZE ? size - 1 : MEM_SIZE);
	if (vring_start(&ring, &setup, &memory, setup.packed ? 0x8000 : 0))
		abort();
	for (unsigned int i = 0; i < 300; i++) {
		if (vring_take(&ring, writable, &chain, iov) <= 0)
			break;
		if (i % 5 == 4)
			vring_untake(&ring, &chain);
		else
			use(&ring, &chain, iov, writable);
		if (i % 3 == 0)
			vring_publish(&ring);
		if (vring_wants_call(&ring))
			vring_want_kick(&ring, i % 2);
		vring_has_more(&ring);
	}
	vring_base(&ring);
	return 0;
}
