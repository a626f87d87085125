/* SPDX-License-Identifier: Apache-2.0 */
#include "vu_memory.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#define SIZE 0x10000u

static struct vu_memory memory;
static int fd;

static const struct vu_region region = { 0x1000000, SIZE, 0x7f0000000000, 0x1000 };

static int setup(void **state)
{
	(void)state;
	vu_memory_init(&memory);
	fd = memfd_create("memory", MFD_CLOEXEC);
	return ftruncate(fd, SIZE + 0x1000) || vu_memory_add(&memory, &region, fd);
}

static int teardown(void **state)
{
	(void)state;
	vu_memory_clear(&memory);
	return close(fd);
}

static void guest_address_is_translated_behind_the_offset(void **state)
{
	uint64_t len = 4;
	uint8_t *at = vu_memory_guest(&memory, region.guest_addr, &len);
	uint8_t byte = 0;

	(void)state;
	assert_non_null(at);
	*at = 0x77;
	assert_int_equal(pread(fd, &byte, 1, 0x1000), 1);
	assert_int_equal(byte, 0x77);
}

static void range_is_cut_at_the_end_of_its_region(void **state)
{
	uint64_t len = 100;

	(void)state;
	assert_non_null(vu_memory_guest(&memory, region.guest_addr + SIZE - 10, &len));
	assert_int_equal(len, 10);
}

static void addresses_outside_are_refused(void **state)
{
	uint64_t len = 1;

	(void)state;
	assert_null(vu_memory_guest(&memory, region.guest_addr - 1, &len));
	assert_null(vu_memory_guest(&memory, region.guest_addr + SIZE, &len));
	assert_null(vu_memory_guest(&memory, 0, &len));
	assert_null(vu_memory_guest(&memory, UINT64_MAX, &len));
}

static void front_end_range_must_be_whole(void **state)
{
	(void)state;
	assert_non_null(vu_memory_user(&memory, region.user_addr, SIZE));
	assert_null(vu_memory_user(&memory, region.user_addr, SIZE + 1));
	assert_null(vu_memory_user(&memory, region.user_addr + 1, SIZE));
	assert_null(vu_memory_user(&memory, region.user_addr + 1, UINT64_MAX));
	assert_null(vu_memory_user(&memory, region.user_addr - 1, 1));
}

static struct bad {
	const char *name;
	struct vu_region region;
	int err;
} bads[] = {
	{ "an empty region is refused", { 0, 0, 0, 0 }, -EINVAL },
	{ "a region that wraps around is refused", { UINT64_MAX - 10, 100, 0, 0 }, -EINVAL },
	{ "a region that wraps around for the front-end is refused",
	  { 0, 100, UINT64_MAX - 10, 0 },
	  -EINVAL },
	{ "an overlap for the guest is refused", { 0x1000000 + SIZE - 1, 16, 0, 0 }, -EINVAL },
	{ "an overlap for the front-end is refused", { 0, 16, 0x7f0000000001, 0 }, -EINVAL },
	{ "a region behind the end of its file is refused", { 0, SIZE, 0, 0x1001 }, -EINVAL },
	{ "an offset that wraps around is refused", { 0, 16, 0, UINT64_MAX }, -EINVAL },
};

static void bad_region_is_refused(void **state)
{
	const struct bad *bad = *state;

	setup(NULL);
	assert_int_equal(vu_memory_add(&memory, &bad->region, fd), bad->err);
	assert_int_equal(memory.n_mappings, 1);
	teardown(NULL);
}

static void table_that_is_full_is_said(void **state)
{
	struct vu_region one = { 0, 16, 0, 0 };
	int err = 0;

	(void)state;
	for (unsigned int i = 1; i < VU_MEM_SLOTS && !err; i++) {
		one.guest_addr += 16;
		one.user_addr += 16;
		err = vu_memory_add(&memory, &one, fd);
	}
	assert_int_equal(err, 0);
	one.guest_addr += 16;
	one.user_addr += 16;
	assert_int_equal(vu_memory_add(&memory, &one, fd), -ENOSPC);
}

static void removed_region_is_not_translated(void **state)
{
	struct vu_region other = region;
	uint64_t len = 1;

	(void)state;
	other.size--;
	assert_int_equal(vu_memory_remove(&memory, &other), -ENOENT);
	assert_int_equal(vu_memory_remove(&memory, &region), 0);
	assert_null(vu_memory_guest(&memory, region.guest_addr, &len));
	assert_int_equal(vu_memory_remove(&memory, &region), -ENOENT);
}

static void region_added_twice_is_removed_twice(void **state)
{
	struct vu_region other = region;

	(void)state;
	assert_int_equal(vu_memory_add(&memory, &region, fd), 0);
	other.mmap_offset = 0;
	assert_int_equal(vu_memory_add(&memory, &other, fd), -EINVAL);
	assert_int_equal(vu_memory_remove(&memory, &region), 0);
	assert_non_null(vu_memory_user(&memory, region.user_addr, 1));
	assert_int_equal(vu_memory_remove(&memory, &region), 0);
	assert_null(vu_memory_user(&memory, region.user_addr, 1));
}

static void log_marks_each_page_once_written(void **state)
{
	struct vu_log_area area = { 0x400, 0x100 };

	(void)state;
	assert_int_equal(vu_memory_set_log(&memory, &area, fd), 0);
	vu_log_mark(&memory, 0x0fff, 2);
	assert_int_equal(memory.log.bits[0], 3);
	vu_log_mark(&memory, 0x9000, 1);
	assert_int_equal(memory.log.bits[1], 2);
	vu_log_mark(&memory, 0x2000, 0);
	assert_int_equal(memory.log.bits[0], 3);
}

static void log_marks_what_we_wrote(void **state)
{
	struct vu_log_area area = { 0x400, 0x100 };
	uint64_t len = 1;
	uint8_t *at = vu_memory_guest(&memory, region.guest_addr + 0x3000, &len);

	(void)state;
	assert_int_equal(vu_memory_set_log(&memory, &area, fd), 0);
	vu_log_mark_ours(&memory, at, 1);
	assert_int_equal(memory.log.bits[0x1003 / 8], 1 << 0x1003 % 8);
}

static void pages_outside_the_log_are_left_out(void **state)
{
	struct vu_log_area area = { 1, 0 };

	(void)state;
	assert_int_equal(vu_memory_set_log(&memory, &area, fd), 0);
	vu_log_mark(&memory, 0x7000, 0x10000);
	vu_log_mark(&memory, UINT64_MAX, 100);
	assert_int_equal(memory.log.bits[0], 0x80);
	assert_int_equal(memory.log.bits[1], 0);
}

static void log_outside_its_file_is_refused(void **state)
{
	struct vu_log_area area = { SIZE + 0x1000, 1 };

	(void)state;
	assert_int_equal(vu_memory_set_log(&memory, &area, fd), -EINVAL);
	area.size = 0;
	assert_int_equal(vu_memory_set_log(&memory, &area, fd), -EINVAL);
}

#define T(f)   cmocka_unit_test_setup_teardown(f, setup, teardown)
#define N_BADS (sizeof(bads) / sizeof(bads[0]))

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(guest_address_is_translated_behind_the_offset),
		T(range_is_cut_at_the_end_of_its_region),
		T(addresses_outside_are_refused),
		T(front_end_range_must_be_whole),
		T(table_that_is_full_is_said),
		T(removed_region_is_not_translated),
		T(region_added_twice_is_removed_twice),
		T(log_marks_each_page_once_written),
		T(log_marks_what_we_wrote),
		T(pages_outside_the_log_are_left_out),
		T(log_outside_its_file_is_refused),
	};
	struct CMUnitTest rows[N_BADS];
	int failed = cmocka_run_group_tests(tests, NULL, NULL);

	for (size_t i = 0; i < N_BADS; i++)
		rows[i] = (struct CMUnitTest){ bads[i].name, bad_region_is_refused, NULL, NULL,
					       &bads[i] };
	return failed + cmocka_run_group_tests(rows, NULL, NULL);
}
