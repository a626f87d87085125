/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The process of a command in a user and network namespace of its own. It makes the namespaces,
 * maps its user to root there, says so through one pipe and waits at another until the network is
 * ready.
 */
#include "netns.h"
#include "taploom/log.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define STATUS_NOT_FOUND 127 /* as shells say it */
#define STATUS_NOT_RUN	 126

static int write_file(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	int error = 0;

	if (fd < 0)
		return -errno;
	if (write(fd, text, strlen(text)) < 0)
		error = -errno;
	close(fd);
	return error;
}

/* Maps one identity to root; without privilege, groups can be mapped only after setgroups() is
 * given up. */
static int map_identity(uid_t uid, gid_t gid)
{
	char line[32];
	int error;

	error = write_file("/proc/self/setgroups", "deny");
	if (error < 0 && error != -ENOENT)
		return error;
	snprintf(line, sizeof(line), "0 %u 1", uid);
	error = write_file("/proc/self/uid_map", line);
	if (error < 0)
		return error;
	snprintf(line, sizeof(line), "0 %u 1", gid);
	return write_file("/proc/self/gid_map", line);
}

static int change_user(const struct netns_user *user)
{
	if (!user->change)
		return 0;
	if (setgroups(0, NULL) < 0 || setresgid(user->gid, user->gid, user->gid) < 0 ||
	    setresuid(user->uid, user->uid, user->uid) < 0)
		return -errno;
	return 0;
}

static int become_user(const struct netns_user *user)
{
	int error = change_user(user);

	if (error < 0)
		log_error("Couldn't become user %u: %s", user->uid, strerror(-error));
	return error;
}

static int make_net(void)
{
	int error = 0;

	if (unshare(CLONE_NEWNET) < 0) {
		error = -errno;
		log_error("Couldn't make a network namespace: %s; without --netns-only an ordinary "
			  "user can",
			  strerror(errno));
	}
	return error;
}

static int make_both(void)
{
	uid_t uid = geteuid();
	gid_t gid = getegid();
	int error;

	if (unshare(CLONE_NEWUSER | CLONE_NEWNET) < 0) {
		error = -errno;
		log_error("Couldn't make a user and network namespace: %s; see "
			  "user.max_user_namespaces, user.max_net_namespaces"
			  " and kernel.unprivileged_userns_clone in sysctl(8)",
			  strerror(errno));
		return error;
	}
	/* Or our own files in /proc are root's, after a change of user or where the program's file
	 * gives capabilities. */
	prctl(PR_SET_DUMPABLE, 1);
	error = map_identity(uid, gid);
	if (error < 0)
		log_error("Couldn't map user %u to root in the new namespace: %s", uid,
			  strerror(-error));
	return error;
}

/* So that ping works, without a right; else no harm. */
static void permit_ping(const char *groups)
{
	write_file("/proc/sys/net/ipv4/ping_group_range", groups);
}

/* A network namespace alone takes the rights of the user that is given up afterwards. */
static int make_net_alone(const struct netns_user *user)
{
	int error = make_net();

	if (error < 0)
		return error;
	permit_ping("0 2147483647");
	return become_user(user);
}

static int make_namespaces(const struct netns_user *user)
{
	int error;

	if (user->keep_ns)
		return make_net_alone(user);
	error = become_user(user);
	error = error ? error : make_both();
	if (error < 0)
		return error;
	permit_ping("0 0");
	return 0;
}

/* Whether the caller ignores a signal for its commands: nohup, and shells for what they start in
 * the background (POSIX 2.11). */
static bool caller_ignores(int number)
{
	struct sigaction action = { .sa_handler = SIG_DFL };

	return (number == SIGHUP || number == SIGINT || number == SIGQUIT) &&
	       sigaction(number, NULL, &action) == 0 && action.sa_handler == SIG_IGN;
}

/* The daemon blocks and ignores signals for its own purposes; the command starts afresh. */
static void reset_signals(void)
{
	sigset_t none;

	for (int n = 1; n < NSIG; n++)
		if (!caller_ignores(n))
			signal(n, SIG_DFL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
}

_Noreturn static void execute(char *const command[])
{
	const char *shell = getenv("SHELL");
	char *const fallback[] = { "sh", NULL };

	reset_signals();
	if (!command && shell && *shell)
		execl(shell, shell, (char *)NULL);
	if (!command)
		command = fallback;
	execvp(command[0], command);
	dprintf(STDERR_FILENO, "%s: %s\n", command[0], strerror(errno));
	_exit(errno == ENOENT ? STATUS_NOT_FOUND : STATUS_NOT_RUN);
}

_Noreturn static void child_main(char *const command[], const struct netns_user *user, int ready_fd,
				 int go_fd)
{
	int error = make_namespaces(user);
	char go;

	if (write(ready_fd, &error, sizeof(error)) != sizeof(error) || error < 0)
		_exit(1);
	close(ready_fd);
	if (read(go_fd, &go, 1) != 1) /* the daemon failed, and has said why */
		_exit(1);
	close(go_fd);
	execute(command);
}

/* Waits until the child has said how it went. */
static int child_ready(int ready_fd)
{
	int error;
	ssize_t len;

	do
		len = read(ready_fd, &error, sizeof(error));
	while (len < 0 && errno == EINTR);
	return len == sizeof(error) ? error : -EPIPE;
}

static void close_pair(int pair[2])
{
	close(pair[0]);
	close(pair[1]);
}

static int spawn(struct netns *ns, char *const command[], const struct netns_user *user,
		 int ready[2], int go[2])
{
	pid_t pid = fork();
	int error;

	if (pid < 0)
		return -errno;
	if (pid == 0) {
		close(ready[0]);
		close(go[1]);
		child_main(command, user, ready[1], go[0]);
	}
	close(ready[1]);
	ready[1] = -1;
	error = child_ready(ready[0]);
	if (error < 0) {
		waitpid(pid, NULL, 0);
		return error;
	}
	ns->command = pid;
	ns->command_fd = (int)syscall(SYS_pidfd_open, pid, 0);
	ns->go_fd = fcntl(go[1], F_DUPFD_CLOEXEC, 0);
	return ns->command_fd < 0 || ns->go_fd < 0 ? -errno : 0;
}

int netns_spawn(struct netns *ns, char *const command[], const struct netns_user *user)
{
	int ready[2], go[2];
	int error;

	if (pipe2(ready, O_CLOEXEC) < 0)
		return -errno;
	if (pipe2(go, O_CLOEXEC) < 0) {
		error = -errno;
		close_pair(ready);
		return error;
	}
	error = spawn(ns, command, user, ready, go);
	close_pair(ready);
	close_pair(go);
	return error;
}

int netns_command_start(struct netns *ns)
{
	ssize_t written = write(ns->go_fd, "", 1);
	int error = written == 1 ? 0 : -errno;

	close(ns->go_fd);
	ns->go_fd = -1;
	return error;
}

bool netns_command_ended(struct netns *ns, int *status)
{
	int raw;

	if (ns->command <= 0 || waitpid(ns->command, &raw, WNOHANG) != ns->command)
		return false;
	*status = WIFEXITED(raw) ? WEXITSTATUS(raw) : 128 + WTERMSIG(raw);
	ns->command = 0;
	return true;
}

void netns_command_signal(const struct netns *ns, int signal_number)
{
	if (ns->command > 0)
		kill(ns->command, signal_number);
}
