/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Readiness, streams and the PID file as whoever starts the program sees them. Each test forks a
 * starter, which forks the daemon; its output comes by a pipe that is read to its end.
 */
#include "daemon.h"
#include "log.h"
#include "taploom/log.h"

#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

static struct config config;
static char dir[] = "/tmp/taploom-daemon-XXXXXX";
static char output[4096];
static int hold[2]; /* the daemon lives until this pipe's write end is closed */

static int set_up(void **state)
{
	(void)state;
	memset(&config, 0, sizeof(config));
	config.program = "passt";
	strcpy(dir + strlen(dir) - 6, "XXXXXX");
	if (!mkdtemp(dir) || pipe2(hold, O_CLOEXEC))
		return -1;
	snprintf(config.pid_file, sizeof(config.pid_file), "%s/pid", dir);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	unlink(config.pid_file);
	return rmdir(dir);
}

enum ending { READY, SAYS_NO, IS_KILLED };

/* What a program does, in the starter and the daemon. */
static _Noreturn void run_program(enum ending ending)
{
	struct daemon daemon;
	char byte;

	close(hold[1]);
	if (log_open(&config) || daemon_start(&daemon, &config))
		_exit(1);
	log_info("setting up");
	if (ending == IS_KILLED)
		raise(SIGKILL);
	if (ending == SAYS_NO) {
		log_error("no luck");
		daemon_end(&daemon);
		_exit(1);
	}
	if (daemon_ready(&daemon))
		_exit(1);
	log_info("serving");
	while (read(hold[0], &byte, 1) > 0)
		;
	daemon_end(&daemon);
	_exit(7);
}

/* Starts it; reads what it says until end of file; returns its status as of waitpid(). */
static int start(enum ending ending)
{
	int out[2];
	int status;
	size_t len = 0;
	ssize_t n;
	pid_t child;

	assert_int_equal(pipe(out), 0);
	child = fork();
	if (child == 0) {
		dup2(out[1], STDOUT_FILENO);
		dup2(out[1], STDERR_FILENO);
		close(out[0]);
		close(out[1]);
		run_program(ending);
	}
	close(out[1]);
	if (config.foreground)
		close(hold[1]);
	while ((n = read(out[0], output + len, sizeof(output) - 1 - len)) > 0)
		len += (size_t)n;
	output[len] = '\0';
	close(out[0]);
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFEXITED(status));
	return WEXITSTATUS(status);
}

/* The PID in the file, 0 if there is no file. */
static pid_t pid_in_file(void)
{
	FILE *file = fopen(config.pid_file, "r");
	char line[32] = "";
	int pid = 0;

	if (!file)
		return 0;
	assert_non_null(fgets(line, sizeof(line), file));
	assert_int_equal(line[strlen(line) - 1], '\n');
	assert_int_equal(fgetc(file), EOF);
	assert_int_equal(sscanf(line, "%d", &pid), 1);
	fclose(file);
	return pid;
}

static void end_daemon(void)
{
	close(hold[0]);
	if (!config.foreground)
		close(hold[1]);
}

static void status_0_means_ready_with_streams_closed(void **state)
{
	pid_t pid;

	(void)state;
	assert_int_equal(start(READY), 0); /* returned, so the streams have ended */
	assert_string_equal(output, "setting up\n");
	pid = pid_in_file();
	assert_true(pid > 0);
	assert_int_equal(kill(pid, 0), 0); /* it lives on */
	end_daemon();
}

static void the_pid_file_is_private(void **state)
{
	struct stat st;

	(void)state;
	assert_int_equal(start(READY), 0);
	assert_int_equal(stat(config.pid_file, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0600);
	end_daemon();
}

static void a_failure_has_status_1_a_reason_and_no_pid_file(void **state)
{
	(void)state;
	assert_int_equal(start(SAYS_NO), 1);
	assert_string_equal(output, "setting up\nno luck\n");
	assert_int_equal(pid_in_file(), 0);
	end_daemon();
}

static void a_daemon_that_is_killed_early_is_told_of(void **state)
{
	(void)state;
	assert_int_equal(start(IS_KILLED), 1);
	assert_non_null(strstr(output, "signal 9"));
	assert_int_equal(pid_in_file(), 0);
	end_daemon();
}

static void in_the_foreground_the_streams_stay(void **state)
{
	(void)state;
	config.foreground = true;
	assert_int_equal(start(READY), 7); /* the program's own status */
	assert_string_equal(output, "setting up\nserving\n");
	assert_true(pid_in_file() > 0); /* stays at the end */
	end_daemon();
}

static void without_a_pid_file_it_starts_too(void **state)
{
	(void)state;
	config.pid_file[0] = '\0';
	assert_int_equal(start(READY), 0);
	end_daemon();
}

static void a_pid_file_that_cannot_be_made_is_an_error(void **state)
{
	(void)state;
	strcat(config.pid_file, "/x");
	assert_int_equal(start(READY), 1);
	assert_non_null(strstr(output, config.pid_file));
	end_daemon();
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
	static const struct CMUnitTest tests[] = {
		TEST(status_0_means_ready_with_streams_closed),
		TEST(the_pid_file_is_private),
		TEST(a_failure_has_status_1_a_reason_and_no_pid_file),
		TEST(a_daemon_that_is_killed_early_is_told_of),
		TEST(in_the_foreground_the_streams_stay),
		TEST(without_a_pid_file_it_starts_too),
		TEST(a_pid_file_that_cannot_be_made_is_an_error),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
