/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The log file of bounded size.
 */
#include "log_file.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#define SIZE 4096

static char path[] = "/tmp/taploom-log-file-XXXXXX";
static char text[4 * SIZE];

static struct log_file file = { PTHREAD_MUTEX_INITIALIZER, -1, 0, 0 };

static int set_up(void **state)
{
	int fd;

	(void)state;
	strcpy(path + strlen(path) - 6, "XXXXXX");
	fd = mkstemp(path);
	if (fd < 0)
		return -1;
	close(fd);
	return log_file_open(&file, path, SIZE);
}

static int tear_down(void **state)
{
	(void)state;
	if (file.fd >= 0)
		log_file_close(&file);
	return unlink(path);
}

static size_t contents(void)
{
	int fd = open(path, O_RDONLY);
	ssize_t n = read(fd, text, sizeof(text) - 1);

	assert_true(n >= 0);
	text[n] = '\0';
	close(fd);
	return (size_t)n;
}

/* Writes lines "line N" from first to last. */
static void write_lines(unsigned int first, unsigned int last)
{
	char line[32];

	for (unsigned int i = first; i <= last; i++) {
		int len = snprintf(line, sizeof(line), "line %u\n", i);

		log_file_write(&file, line, (size_t)len);
	}
}

static void lines_follow_each_other(void **state)
{
	(void)state;
	write_lines(1, 2);
	contents();
	assert_string_equal(text, "line 1\nline 2\n");
}

static void a_full_file_loses_its_oldest_lines_only(void **state)
{
	unsigned int line;

	(void)state;
	write_lines(1, 2000);
	assert_in_range(contents(), SIZE / 2, SIZE);
	assert_int_equal(sscanf(text, "line %u\n", &line), 1); /* begins with a whole line */
	for (char *at = text; *at; at = strchr(at, '\n') + 1) {
		char expected[32];

		snprintf(expected, sizeof(expected), "line %u\n", line++);
		assert_memory_equal(at, expected, strlen(expected));
	}
	assert_int_equal(line, 2001);
}

static void it_stays_the_same_file(void **state)
{
	struct stat before;
	struct stat after;

	(void)state;
	assert_int_equal(stat(path, &before), 0);
	write_lines(1, 2000);
	assert_int_equal(stat(path, &after), 0);
	assert_int_equal(before.st_ino, after.st_ino);
}

static void an_existing_file_is_continued(void **state)
{
	(void)state;
	write_lines(1, 1);
	log_file_close(&file);
	assert_int_equal(log_file_open(&file, path, SIZE), 0);
	write_lines(2, 2);
	contents();
	assert_string_equal(text, "line 1\nline 2\n");
}

static void an_existing_file_above_the_limit_is_cut(void **state)
{
	(void)state;
	write_lines(1, 500);
	log_file_close(&file);
	assert_int_equal(truncate(path, 3 * SIZE), 0);
	assert_int_equal(log_file_open(&file, path, SIZE), 0);
	write_lines(501, 502);
	assert_in_range(contents(), 1, SIZE);
}

static void a_line_without_end_is_dropped_as_a_whole(void **state)
{
	char junk[SIZE];

	(void)state;
	memset(junk, 'x', sizeof(junk));
	log_file_write(&file, junk, sizeof(junk));
	write_lines(1, 1);
	contents();
	assert_string_equal(text, "line 1\n");
}

static void a_directory_that_is_not_there_is_an_error(void **state)
{
	struct log_file other = { PTHREAD_MUTEX_INITIALIZER, -1, 0, 0 };

	(void)state;
	assert_int_equal(log_file_open(&other, "/nowhere/log", SIZE), -2);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
	static const struct CMUnitTest tests[] = {
		TEST(lines_follow_each_other),
		TEST(a_full_file_loses_its_oldest_lines_only),
		TEST(it_stays_the_same_file),
		TEST(an_existing_file_is_continued),
		TEST(an_existing_file_above_the_limit_is_cut),
		TEST(a_line_without_end_is_dropped_as_a_whole),
		cmocka_unit_test(a_directory_that_is_not_there_is_an_error),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
