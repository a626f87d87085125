/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The UNIX socket's path: free, left behind, in use.
 */
#include "socket_path.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static char dir[] = "/tmp/taploom-socket-XXXXXX";
static char given[64];
static char path[SOCKET_PATH_SIZE];
static struct owned_file owned;

static int set_up(void **state)
{
	(void)state;
	strcpy(dir + strlen(dir) - 6, "XXXXXX");
	if (!mkdtemp(dir))
		return -1;
	snprintf(given, sizeof(given), "%s/x.socket", dir);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	unlink(given);
	return rmdir(dir);
}

static bool exists(const char *what)
{
	struct stat st;

	return lstat(what, &st) == 0;
}

static int connect_to(const char *to)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	strcpy(addr.sun_path, to);
	if (connect(fd, (struct sockaddr *)&addr, sizeof(addr))) {
		close(fd);
		return -1;
	}
	return fd;
}

static void a_guest_can_connect(void **state)
{
	int fd = socket_path_listen(given, path, &owned);
	int guest = connect_to(given);

	(void)state;
	assert_true(fd >= 0);
	assert_true(guest >= 0);
	assert_string_equal(path, given);
	close(guest);
	close(fd);
	assert_int_equal(owned_file_remove(&owned), 0);
	assert_false(exists(given));
}

static void what_a_dead_process_left_is_replaced(void **state)
{
	int fd = socket_path_listen(given, path, &owned);

	(void)state;
	close(fd);
	owned_file_forget(&owned);
	assert_true(exists(given));
	fd = socket_path_listen(given, path, &owned);
	assert_true(fd >= 0);
	close(fd);
	assert_int_equal(owned_file_remove(&owned), 0);
}

static void what_is_in_use_is_left_alone(void **state)
{
	struct owned_file second;
	int fd = socket_path_listen(given, path, &owned);
	int guest;

	(void)state;
	assert_int_equal(socket_path_listen(given, path, &second), -EADDRINUSE);
	guest = connect_to(given);
	assert_true(guest >= 0);
	close(guest);
	close(fd);
	assert_int_equal(owned_file_remove(&owned), 0);
}

static void looking_does_not_connect(void **state)
{
	struct owned_file second;
	int fd = socket_path_listen(given, path, &owned);

	(void)state;
	assert_int_equal(socket_path_listen(given, path, &second), -EADDRINUSE);
	assert_int_equal(accept(fd, NULL, NULL), -1); /* it does not block */
	assert_int_equal(errno, EAGAIN);
	close(fd);
	assert_int_equal(owned_file_remove(&owned), 0);
}

static void a_file_is_never_replaced(void **state)
{
	int fd = open(given, O_CREAT | O_WRONLY, 0600);

	(void)state;
	close(fd);
	assert_int_equal(socket_path_listen(given, path, &owned), -EEXIST);
	assert_true(exists(given));
}

static void a_symbolic_link_is_never_followed(void **state)
{
	char target[80];

	(void)state;
	snprintf(target, sizeof(target), "%s/target", dir);
	assert_int_equal(symlink(target, given), 0);
	assert_int_equal(socket_path_listen(given, path, &owned), -EEXIST);
	assert_false(exists(target));
}

static void a_missing_directory_is_an_error(void **state)
{
	(void)state;
	assert_int_equal(socket_path_listen("/nowhere/x.socket", path, &owned), -ENOENT);
}

static void a_successor_s_socket_is_not_removed(void **state)
{
	struct owned_file second;
	int fd = socket_path_listen(given, path, &owned);
	int other;

	(void)state;
	close(fd);
	other = socket_path_listen(given, path, &second);
	assert_true(other >= 0);
	/* The number of the inode may be given again, so there must be another file in between. */
	if (second.ino != owned.ino)
		assert_int_equal(owned_file_remove(&owned), -ESTALE);
	else
		owned_file_forget(&owned);
	assert_true(exists(given));
	close(other);
	assert_int_equal(owned_file_remove(&second), 0);
}

static void default_paths_are_tried_in_turn(void **state)
{
	struct owned_file second;
	char other_path[SOCKET_PATH_SIZE];
	int n;
	int m;
	int fd = socket_path_listen("", path, &owned);
	int other = socket_path_listen("", other_path, &second);

	(void)state;
	assert_true(fd >= 0);
	assert_true(other >= 0);
	assert_int_equal(sscanf(path, "/tmp/passt_%d.socket", &n), 1);
	assert_int_equal(sscanf(other_path, "/tmp/passt_%d.socket", &m), 1);
	assert_true(m > n);
	close(fd);
	close(other);
	assert_int_equal(owned_file_remove(&owned), 0);
	assert_int_equal(owned_file_remove(&second), 0);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
	static const struct CMUnitTest tests[] = {
		TEST(a_guest_can_connect),
		TEST(what_a_dead_process_left_is_replaced),
		TEST(what_is_in_use_is_left_alone),
		TEST(looking_does_not_connect),
		TEST(a_file_is_never_replaced),
		TEST(a_symbolic_link_is_never_followed),
		TEST(a_missing_directory_is_an_error),
		TEST(a_successor_s_socket_is_not_removed),
		TEST(default_paths_are_tried_in_turn),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
