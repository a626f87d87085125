/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Files that are removed at the end only if they are still ours.
 */
#include "owned_file.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static char dir[] = "/tmp/taploom-owned-XXXXXX";
static char ours[64];
static char moved[64];
static struct owned_file file;

static void make(const char *path)
{
	int fd = open(path, O_CREAT | O_EXCL | O_WRONLY, 0600);

	assert_true(fd >= 0);
	close(fd);
}

static bool exists(const char *path)
{
	struct stat st;

	return lstat(path, &st) == 0;
}

static int set_up(void **state)
{
	(void)state;
	strcpy(dir + strlen(dir) - 6, "XXXXXX");
	if (!mkdtemp(dir))
		return -1;
	snprintf(ours, sizeof(ours), "%s/ours", dir);
	snprintf(moved, sizeof(moved), "%s/moved", dir);
	make(ours);
	return owned_file_note(&file, ours);
}

static int tear_down(void **state)
{
	(void)state;
	owned_file_forget(&file);
	unlink(ours);
	unlink(moved);
	return rmdir(dir);
}

static void our_file_is_removed(void **state)
{
	(void)state;
	assert_int_equal(owned_file_remove(&file), 0);
	assert_false(exists(ours));
}

static void a_file_that_took_its_name_stays(void **state)
{
	(void)state;
	assert_int_equal(rename(ours, moved), 0);
	make(ours);
	assert_int_equal(owned_file_remove(&file), -ESTALE);
	assert_true(exists(ours));
}

static void a_file_that_is_gone_is_told(void **state)
{
	(void)state;
	assert_int_equal(unlink(ours), 0);
	assert_int_equal(owned_file_remove(&file), -ENOENT);
}

static void removing_twice_does_nothing(void **state)
{
	(void)state;
	assert_int_equal(owned_file_remove(&file), 0);
	make(ours);
	assert_int_equal(owned_file_remove(&file), 0);
	assert_true(exists(ours));
}

static void a_name_without_directory_is_in_the_current_one(void **state)
{
	struct owned_file other;
	int here = open(".", O_PATH);

	(void)state;
	assert_int_equal(chdir(dir), 0);
	assert_int_equal(owned_file_note(&other, "ours"), 0);
	assert_int_equal(fchdir(here), 0); /* as a daemon does later */
	assert_int_equal(owned_file_remove(&other), 0);
	assert_false(exists(ours));
	close(here);
}

static void a_missing_file_is_an_error(void **state)
{
	struct owned_file other;

	(void)state;
	assert_int_equal(owned_file_note(&other, moved), -ENOENT);
	assert_int_equal(other.dir_fd, -1);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
	static const struct CMUnitTest tests[] = {
		TEST(our_file_is_removed),
		TEST(a_file_that_took_its_name_stays),
		TEST(a_file_that_is_gone_is_told),
		TEST(removing_twice_does_nothing),
		TEST(a_name_without_directory_is_in_the_current_one),
		TEST(a_missing_file_is_an_error),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
