/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The front-end's memory as vhost-user shares it: a table of mapped regions, translation of guest
 * physical and of the front-end's own addresses with full bounds checks, and the log of pages that
 * we dirtied while the guest migrates.
 *
 * The control-socket thread changes the table, and only while nobody works on a ring: it holds
 * every queue still (see vu_queue_hold()). All others read it with their queue's lock held or a
 * slab of that queue out.
 */
#pragma once

#include "vu_codec.h"

#include <sys/uio.h>

#define VU_MEM_SLOTS 64

struct vu_mapping {
	struct vu_region region;
	uint8_t *base; /* of the region's first byte */
	void *map;     /* as mmap gave it, from the file's offset 0 */
	size_t map_len;
	uint64_t dev, ino;  /* of the file */
	unsigned int users; /* times that it was added */
};

/* Dirty bitmap, one bit per 4 KiB guest page, shared with the front-end. */
struct vu_log {
	uint8_t *bits; /* NULL: none */
	uint64_t size; /* bytes of bits */
	void *map;
	size_t map_len;
};

struct vu_memory {
	struct vu_mapping mappings[VU_MEM_SLOTS];
	unsigned int n_mappings;
	struct vu_log log;
	bool logging; /* VHOST_F_LOG_ALL was negotiated */
};

void vu_memory_init(struct vu_memory *memory);
/* Unmaps everything, the log too. */
void vu_memory_clear(struct vu_memory *memory);

/*
 * Maps one more region from fd, which stays the caller's. The same region may be added several
 * times, as QEMU before 8.0 does once for each queue pair; it is mapped until it was removed as
 * often. Returns 0, or -EINVAL for a region that is empty, wraps around, overlaps another or lies
 * outside its file, -ENOSPC without a free slot, or mmap's error.
 */
int vu_memory_add(struct vu_memory *memory, const struct vu_region *region, int fd);

/* Unmaps the region of the same guest address, front-end address and size; -ENOENT if there is
 * none. */
int vu_memory_remove(struct vu_memory *memory, const struct vu_region *region);

/* Unmaps all regions, but keeps the log. */
void vu_memory_remove_all(struct vu_memory *memory);

/* Our address of len bytes at a front-end address, or NULL if they are not all in one region. */
void *vu_memory_user(const struct vu_memory *memory, uint64_t user_addr, uint64_t len);

/*
 * Our address of the bytes at guest address addr. *len: bytes wanted; on return those that are
 * there, as a range may go on in the next region. NULL if not even one is.
 */
void *vu_memory_guest(const struct vu_memory *memory, uint64_t addr, uint64_t *len);

/* Maps the log; size and offset as the front-end says. 0 or -errno. */
int vu_memory_set_log(struct vu_memory *memory, const struct vu_log_area *area, int fd);

/* Marks guest pages as dirty; what is outside the log is left out. Any thread. */
void vu_log_mark(const struct vu_memory *memory, uint64_t guest_addr, uint64_t len);

/* The same for memory that was written by our address, as given by vu_memory_guest(). */
void vu_log_mark_ours(const struct vu_memory *memory, const void *at, uint64_t len);
