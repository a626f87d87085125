/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon.h"

#include "log.h"
#include "taploom/log.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static void close_fd(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

void daemon_signals(sigset_t *set)
{
	static const int numbers[] = { SIGTERM, SIGINT, SIGQUIT, SIGHUP, SIGUSR1 };
	struct sigaction hangup;

	sigemptyset(set);
	for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++)
		sigaddset(set, numbers[i]);
	if (sigaction(SIGHUP, NULL, &hangup) == 0 && hangup.sa_handler == SIG_IGN)
		sigdelset(set, SIGHUP);
}

/* Whether the file has the number of a process that lives. */
static bool is_in_use(const char *path)
{
	int fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	char text[16] = "";
	long pid = 0;

	if (fd >= 0 && pread(fd, text, sizeof(text) - 1, 0) > 0)
		pid = strtol(text, NULL, 10);
	if (fd >= 0)
		close(fd);
	return pid > 0 && pid <= INT_MAX && (kill((pid_t)pid, 0) == 0 || errno == EPERM);
}

/* Empties a file; a pipe or a device is left alone, and not even looked into. */
static void cut_file(int fd, const char *path)
{
	struct stat st;

	if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && !is_in_use(path) && ftruncate(fd, 0))
		log_debug("Couldn't cut the PID file: %s", strerror(errno));
}

/* One that is there may be a running daemon's: then it keeps its content until we are ready. It is
 * not removed if we never are. A FIFO is waited for, which a signal may end. */
static int open_pid_file(struct daemon *daemon, const char *path, const sigset_t *signals)
{
	int error;

	daemon->pid_fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (daemon->pid_fd >= 0)
		return owned_file_note(&daemon->pid_path, path);
	if (errno == EEXIST) {
		sigprocmask(SIG_UNBLOCK, signals, NULL);
		daemon->pid_fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
		error = errno;
		sigprocmask(SIG_BLOCK, signals, NULL);
		errno = error;
	}
	if (daemon->pid_fd >= 0) {
		cut_file(daemon->pid_fd, path);
		return 0;
	}
	error = errno;
	log_error("Couldn't open PID file %s: %s", path, strerror(error));
	return -error;
}

/*
 * The parent's part: the byte means ready, end of file without it that the child has given up. A
 * child killed by a signal has said nothing, so the parent does.
 */
static _Noreturn void wait_for_child(struct daemon *daemon, int fd, pid_t child)
{
	char byte;
	ssize_t n;
	int status = 0;

	do
		n = recv(fd, &byte, 1, 0);
	while (n < 0 && errno == EINTR);
	if (n == 1)
		_exit(EXIT_SUCCESS);
	while (waitpid(child, &status, 0) < 0 && errno == EINTR)
		;
	if (WIFSIGNALED(status))
		log_error("The process in the background was ended by signal %d (%s) before it was "
			  "ready",
			  WTERMSIG(status), strsignal(WTERMSIG(status)));
	daemon_end(daemon); /* the child may have had no chance to */
	_exit(EXIT_FAILURE);
}

static int fork_to_background(struct daemon *daemon, const sigset_t *signals)
{
	int pair[2];
	int error;
	pid_t child;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair)) {
		error = errno;
		log_error("Couldn't make a socket pair: %s", strerror(error));
		return -error;
	}
	child = fork();
	if (child < 0) {
		error = errno;
		log_error("Couldn't go to the background: %s; see --foreground", strerror(error));
		close(pair[0]);
		close(pair[1]);
		return -error;
	}
	if (child > 0) {
		close(pair[1]);
		sigprocmask(SIG_UNBLOCK, signals, NULL); /* the child sees its end by the socket */
		wait_for_child(daemon, pair[0], child);
	}
	close(pair[0]);
	daemon->ready_fd = pair[1];
	setsid();
	return 0;
}

/* Where the caller has closed a standard stream, no descriptor of ours is to take its number. */
static int fill_streams(void)
{
	int fd;
	int error;

	do
		fd = open("/dev/null", O_RDWR);
	while (fd >= 0 && fd <= STDERR_FILENO);
	if (fd < 0) {
		error = errno;
		log_error("Couldn't open /dev/null: %s", strerror(error));
		return -error;
	}
	close(fd);
	return 0;
}

int daemon_start(struct daemon *daemon, const struct config *config)
{
	int error = fill_streams();
	sigset_t signals;

	/* From here on there is something to remove: they wait for the control thread, which ends
	 * in order. */
	daemon_signals(&signals);
	sigprocmask(SIG_BLOCK, &signals, NULL);
	signal(SIGPIPE, SIG_IGN); /* whoever reads our output may be gone */
	signal(SIGCHLD, SIG_DFL); /* a caller may ignore it: then no child leaves a status */
	owned_file_init(&daemon->pid_path);
	daemon->pid_fd = -1;
	daemon->ready_fd = -1;
	if (!error && config->pid_file[0])
		error = open_pid_file(daemon, config->pid_file, &signals);
	daemon->silent = config->own_namespace && !config->foreground;
	if (!error && !config->foreground && !config->own_namespace)
		error = fork_to_background(daemon, &signals);
	if (error)
		daemon_end(daemon);
	return error;
}

static int fill_pid_file(struct daemon *daemon)
{
	char text[16];
	int len = snprintf(text, sizeof(text), "%d\n", (int)getpid());
	int error;

	if (daemon->pid_fd < 0)
		return 0;
	if (ftruncate(daemon->pid_fd, 0) && errno != EINVAL) /* that is a pipe or a device */
		log_debug("Couldn't cut the PID file: %s", strerror(errno));
	if (write(daemon->pid_fd, text, (size_t)len) != len) {
		error = errno;
		log_error("Couldn't write the PID file: %s", strerror(error));
		return -error;
	}
	close_fd(&daemon->pid_fd);
	return 0;
}

/* Whoever reads our output until its end is to see that end now. */
static int detach_streams(void)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	int error;

	for (int fd = STDIN_FILENO; null >= 0 && fd <= STDERR_FILENO; fd++)
		if (dup2(null, fd) < 0)
			close_fd(&null);
	if (null < 0) {
		error = errno;
		log_error("Couldn't detach from the standard streams: %s", strerror(error));
		return -error;
	}
	close(null); /* above the standard streams: see fill_streams() */
	log_detach();
	return 0;
}

int daemon_ready(struct daemon *daemon)
{
	int error = fill_pid_file(daemon);

	if (!error && daemon->ready_fd >= 0) {
		error = detach_streams();
		if (!error && chdir("/")) /* a file system that nobody else uses can be unmounted */
			log_debug("Couldn't change to the root directory: %s", strerror(errno));
		if (!error && send(daemon->ready_fd, "", 1, MSG_NOSIGNAL) != 1) {
			error = -EPIPE;
			log_error(
				"Nobody waits for readiness: the process that was started is gone");
		}
	}
	if (error)
		return error;
	if (daemon->silent)
		log_detach();
	close_fd(&daemon->ready_fd);
	owned_file_forget(&daemon->pid_path);
	return 0;
}

void daemon_end(struct daemon *daemon)
{
	owned_file_remove(&daemon->pid_path);
	close_fd(&daemon->pid_fd);
	close_fd(&daemon->ready_fd);
}
