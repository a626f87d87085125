/* SPDX-License-Identifier: Apache-2.0 */
#include "vu_memory.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#define LOG_PAGE 4096u

void vu_memory_init(struct vu_memory *memory)
{
	memset(memory, 0, sizeof(*memory));
}

static void unmap_log(struct vu_log *log)
{
	if (log->map)
		munmap(log->map, log->map_len);
	memset(log, 0, sizeof(*log));
}

void vu_memory_remove_all(struct vu_memory *memory)
{
	for (unsigned int i = 0; i < memory->n_mappings; i++)
		munmap(memory->mappings[i].map, memory->mappings[i].map_len);
	memory->n_mappings = 0;
}

void vu_memory_clear(struct vu_memory *memory)
{
	vu_memory_remove_all(memory);
	unmap_log(&memory->log);
	memory->logging = false;
}

static bool ranges_overlap(uint64_t a, uint64_t a_size, uint64_t b, uint64_t b_size)
{
	return a < b + b_size && b < a + a_size;
}

static bool region_fits(const struct vu_memory *memory, const struct vu_region *new)
{
	uint64_t end;

	if (!new->size || __builtin_add_overflow(new->guest_addr, new->size, &end) ||
	    __builtin_add_overflow(new->user_addr, new->size, &end))
		return false;
	for (unsigned int i = 0; i < memory->n_mappings; i++) {
		const struct vu_region *old = &memory->mappings[i].region;

		if (ranges_overlap(old->guest_addr, old->size, new->guest_addr, new->size) ||
		    ranges_overlap(old->user_addr, old->size, new->user_addr, new->size))
			return false;
	}
	return true;
}

/*
 * Maps size bytes at offset of fd, from offset 0 on as huge pages need an aligned one. The file
 * must hold them: what lies behind its end would be a SIGBUS for whoever touches it.
 */
static int map_file(int fd, uint64_t offset, uint64_t size, void **map, size_t *map_len)
{
	struct stat st;
	uint64_t end;

	if (__builtin_add_overflow(offset, size, &end) || end > PTRDIFF_MAX)
		return -EINVAL;
	if (fstat(fd, &st) < 0)
		return -errno;
	if (!S_ISCHR(st.st_mode) && (st.st_size < 0 || (uint64_t)st.st_size < end))
		return -EINVAL; /* a device has no size, and refuses by itself */
	*map = mmap(NULL, (size_t)end, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd, 0);
	if (*map == MAP_FAILED)
		return -errno;
	*map_len = (size_t)end;
	/* The guest's memory is not ours to dump. */
	(void)madvise(*map, *map_len, MADV_DONTDUMP);
	return 0;
}

static struct vu_mapping *find(struct vu_memory *memory, const struct vu_region *region)
{
	for (unsigned int i = 0; i < memory->n_mappings; i++) {
		struct vu_mapping *m = &memory->mappings[i];

		if (m->region.guest_addr == region->guest_addr &&
		    m->region.user_addr == region->user_addr && m->region.size == region->size)
			return m;
	}
	return NULL;
}

/* Another user of a mapping, if it is of the same file and place. */
static int share(struct vu_mapping *m, const struct vu_region *region, const struct stat *st)
{
	if (m->region.mmap_offset != region->mmap_offset || m->dev != st->st_dev ||
	    m->ino != st->st_ino)
		return -EINVAL;
	m->users++;
	return 0;
}

int vu_memory_add(struct vu_memory *memory, const struct vu_region *region, int fd)
{
	struct vu_mapping *m = find(memory, region);
	struct stat st;
	int err;

	if (fstat(fd, &st) < 0)
		return -errno;
	if (m)
		return share(m, region, &st);
	if (!region_fits(memory, region))
		return -EINVAL;
	if (memory->n_mappings == VU_MEM_SLOTS)
		return -ENOSPC;
	m = &memory->mappings[memory->n_mappings];
	err = map_file(fd, region->mmap_offset, region->size, &m->map, &m->map_len);
	if (err)
		return err;
	m->region = *region;
	m->base = (uint8_t *)m->map + region->mmap_offset;
	m->dev = st.st_dev;
	m->ino = st.st_ino;
	m->users = 1;
	memory->n_mappings++;
	return 0;
}

int vu_memory_remove(struct vu_memory *memory, const struct vu_region *region)
{
	struct vu_mapping *m = find(memory, region);

	if (!m)
		return -ENOENT;
	if (--m->users)
		return 0;
	munmap(m->map, m->map_len);
	*m = memory->mappings[--memory->n_mappings];
	return 0;
}

void *vu_memory_user(const struct vu_memory *memory, uint64_t user_addr, uint64_t len)
{
	for (unsigned int i = 0; i < memory->n_mappings; i++) {
		const struct vu_mapping *m = &memory->mappings[i];
		uint64_t off = user_addr - m->region.user_addr;

		if (off < m->region.size && len <= m->region.size - off)
			return m->base + off;
	}
	return NULL;
}

void *vu_memory_guest(const struct vu_memory *memory, uint64_t addr, uint64_t *len)
{
	for (unsigned int i = 0; i < memory->n_mappings; i++) {
		const struct vu_mapping *m = &memory->mappings[i];
		uint64_t off = addr - m->region.guest_addr;

		if (off >= m->region.size)
			continue;
		if (*len > m->region.size - off)
			*len = m->region.size - off;
		return m->base + off;
	}
	return NULL;
}

int vu_memory_set_log(struct vu_memory *memory, const struct vu_log_area *area, int fd)
{
	struct vu_log log = { 0 };
	int err;

	if (!area->size)
		return -EINVAL;
	err = map_file(fd, area->offset, area->size, &log.map, &log.map_len);
	if (err)
		return err;
	log.bits = (uint8_t *)log.map + area->offset;
	log.size = area->size;
	unmap_log(&memory->log);
	memory->log = log;
	return 0;
}

void vu_log_mark(const struct vu_memory *memory, uint64_t guest_addr, uint64_t len)
{
	const struct vu_log *log = &memory->log;
	uint64_t last;

	if (!log->bits || !len || __builtin_add_overflow(guest_addr, len - 1, &last))
		return;
	for (uint64_t page = guest_addr / LOG_PAGE; page <= last / LOG_PAGE; page++) {
		if (page / 8 >= log->size)
			return;
		__atomic_fetch_or(&log->bits[page / 8], (uint8_t)(1u << (page % 8)),
				  __ATOMIC_RELEASE); /* what was written is seen first */
	}
}

void vu_log_mark_ours(const struct vu_memory *memory, const void *at, uint64_t len)
{
	for (unsigned int i = 0; i < memory->n_mappings; i++) {
		const struct vu_mapping *m = &memory->mappings[i];
		uint64_t off = (uint64_t)((uintptr_t)at - (uintptr_t)m->base);

		if (off < m->region.size) {
			vu_log_mark(memory, m->region.guest_addr + off, len);
			return;
		}
	}
}
