/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Levels, where lines go, and the limit on what others can provoke.
 */
#include "log.h"
#include "taploom/log.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static struct config config;
static char path[] = "/tmp/taploom-log-XXXXXX";
static char text[8192];
static int saved_stderr = -1;
static FILE *stderr_file;

static int set_up(void **state)
{
	int fd;

	(void)state;
	memset(&config, 0, sizeof(config));
	config.program = "passt";
	config.log_size = 1 << 20;
	config.foreground = true;
	strcpy(path + strlen(path) - 6, "XXXXXX");
	fd = mkstemp(path);
	stderr_file = tmpfile();
	saved_stderr = dup(STDERR_FILENO);
	if (fd < 0 || !stderr_file || dup2(fileno(stderr_file), STDERR_FILENO) < 0)
		return -1;
	return close(fd);
}

static int tear_down(void **state)
{
	(void)state;
	log_close();
	dup2(saved_stderr, STDERR_FILENO);
	close(saved_stderr);
	fclose(stderr_file);
	return unlink(path);
}

static const char *contents(int fd)
{
	ssize_t n = pread(fd, text, sizeof(text) - 1, 0);

	assert_true(n >= 0);
	text[n] = '\0';
	return text;
}

static const char *file_contents(void)
{
	int fd = open(path, O_RDONLY);

	contents(fd);
	close(fd);
	return text;
}

static void use_file(void)
{
	strcpy(config.log_file, path);
	assert_int_equal(log_open(&config), 0);
}

static void log_each_level(void)
{
	log_error("E");
	log_warning("W");
	log_info("I");
	log_debug("D");
	log_trace("T");
}

static void the_default_is_info_on_stderr(void **state)
{
	(void)state;
	assert_int_equal(log_open(&config), 0);
	log_each_level();
	assert_string_equal(contents(STDERR_FILENO), "E\nW\nI\n");
}

static void quiet_leaves_warnings(void **state)
{
	(void)state;
	config.quiet = true;
	assert_int_equal(log_open(&config), 0);
	log_each_level();
	assert_string_equal(contents(STDERR_FILENO), "E\nW\n");
}

static void debug_and_trace_show_more(void **state)
{
	(void)state;
	config.debug = true;
	assert_int_equal(log_open(&config), 0);
	assert_true(log_wanted(LOG_LEVEL_DEBUG));
	assert_false(log_wanted(LOG_LEVEL_TRACE));
	config.trace = true;
	assert_int_equal(log_open(&config), 0);
	log_each_level();
	assert_string_equal(contents(STDERR_FILENO), "E\nW\nI\nD\nT\n");
}

static void a_file_gets_all_and_stderr_the_errors(void **state)
{
	(void)state;
	use_file();
	log_each_level();
	assert_string_equal(contents(STDERR_FILENO), "E\n");
	assert_non_null(strstr(file_contents(), " error: E\n"));
	assert_non_null(strstr(text, " info: I\n"));
}

static void after_detaching_stderr_gets_nothing(void **state)
{
	(void)state;
	use_file();
	log_detach();
	log_each_level();
	assert_string_equal(contents(STDERR_FILENO), "");
	assert_non_null(strstr(file_contents(), " error: E\n"));
}

static void a_long_line_is_cut_and_ended(void **state)
{
	char message[3000];

	(void)state;
	memset(message, 'x', sizeof(message) - 1);
	message[sizeof(message) - 1] = '\0';
	assert_int_equal(log_open(&config), 0);
	log_info("%s", message);
	assert_int_equal(strlen(contents(STDERR_FILENO)), 1024);
	assert_int_equal(text[1023], '\n');
}

static void errno_is_kept(void **state)
{
	(void)state;
	use_file();
	errno = EXDEV;
	log_info("something");
	assert_int_equal(errno, EXDEV);
}

static void a_file_that_cannot_be_made_is_an_error(void **state)
{
	(void)state;
	strcpy(config.log_file, "/nowhere/log");
	assert_int_equal(log_open(&config), -ENOENT);
}

static void a_burst_is_limited_and_counted(void **state)
{
	struct log_limit limit = { 0 };
	uint32_t held_back;
	unsigned int n = 0;
	unsigned int held = 0;

	(void)state;
	for (unsigned int i = 0; i < 1000; i++) {
		n += log_allowed(&limit, &held_back);
		held += held_back;
	}
	assert_in_range(n, 10, 20); /* more only if the loop takes seconds */
	assert_int_equal(held + limit.held_back, 1000 - n);
}

static void later_lines_tell_how_many_were_left_out(void **state)
{
	struct log_limit limit = { 0 };
	uint32_t held_back;

	(void)state;
	while (log_allowed(&limit, &held_back))
		;
	atomic_store(&limit.in_window, 0); /* as if the seconds had passed */
	assert_int_equal(log_open(&config), 0);
	log_limited(&limit, LOG_LEVEL_INFO, "again %d", 1);
	assert_string_equal(contents(STDERR_FILENO), "again 1 (1 similar lines left out)\n");
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
	static const struct CMUnitTest tests[] = {
		TEST(the_default_is_info_on_stderr),
		TEST(quiet_leaves_warnings),
		TEST(debug_and_trace_show_more),
		TEST(a_file_gets_all_and_stderr_the_errors),
		TEST(after_detaching_stderr_gets_nothing),
		TEST(a_long_line_is_cut_and_ended),
		TEST(errno_is_kept),
		TEST(a_file_that_cannot_be_made_is_an_error),
		TEST(a_burst_is_limited_and_counted),
		TEST(later_lines_tell_how_many_were_left_out),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
