/* SPDX-License-Identifier: Apache-2.0 */
#include "netns_watch.h"

#include "taploom/log.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <linux/magic.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <unistd.h>

enum watched { WATCH_PROCESS, WATCH_INOTIFY, WATCH_MOUNTS, WATCH_TIMER, WATCHED };

struct netns_watch {
	int epoll_fd;
	int fds[WATCHED]; /* -1: not needed */
	int dir_fd;	  /* of the path; -1 for a process */
	char name[NAME_MAX + 1];
	dev_t dev; /* the namespace's identity */
	ino_t ino;
	bool went; /* the path's name was removed from its folder */
};

static int add(struct netns_watch *watch, enum watched which, int fd, uint32_t events)
{
	struct epoll_event event = { .events = events };

	if (fd < 0)
		return -errno;
	watch->fds[which] = fd;
	return epoll_ctl(watch->epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0 ? -errno : 0;
}

static int watch_timer(struct netns_watch *watch)
{
	const struct itimerspec second = { { 1, 0 }, { 1, 0 } };
	int fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);

	if (fd >= 0)
		timerfd_settime(fd, 0, &second, NULL);
	return add(watch, WATCH_TIMER, fd, EPOLLIN);
}

static int watch_directory(struct netns_watch *watch, const char *dir)
{
	int fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
	int error;

	if (fd >= 0 && inotify_add_watch(fd, dir, IN_DELETE | IN_MOVED_FROM | IN_UNMOUNT) < 0) {
		error = -errno;
		close(fd);
		return error;
	}
	error = add(watch, WATCH_INOTIFY, fd, EPOLLIN);
	if (error < 0)
		return error;
	return add(watch, WATCH_MOUNTS, open("/proc/self/mountinfo", O_RDONLY | O_CLOEXEC),
		   EPOLLPRI | EPOLLERR);
}

static bool is_procfs(int fd)
{
	struct statfs fs;

	return fstatfs(fd, &fs) == 0 && fs.f_type == PROC_SUPER_MAGIC;
}

/* Directories by the path's text, without following a link at its end: the link's removal counts
 * too. */
static int open_directory(struct netns_watch *watch, const char *path, char dir[PATH_MAX])
{
	char copy[PATH_MAX];

	if ((size_t)snprintf(copy, sizeof(copy), "%s", path) >= sizeof(copy))
		return -ENAMETOOLONG;
	snprintf(watch->name, sizeof(watch->name), "%s", basename(copy));
	snprintf(copy, sizeof(copy), "%s", path);
	snprintf(dir, PATH_MAX, "%s", dirname(copy));
	watch->dir_fd = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
	return watch->dir_fd < 0 ? -errno : 0;
}

/* The file of a process's namespace, which is told of by the process's end; that of a thread, of
 * which the kernel makes no such descriptor, must be looked at. */
static int watch_process(struct netns_watch *watch, pid_t pid)
{
	char path[64], dir[PATH_MAX];
	int error = add(watch, WATCH_PROCESS, (int)syscall(SYS_pidfd_open, pid, 0), EPOLLIN);

	if (error != -EINVAL && error != -ENOENT)
		return error;
	snprintf(path, sizeof(path), "/proc/%d/ns/net", (int)pid);
	error = open_directory(watch, path, dir);
	return error < 0 ? error : watch_timer(watch);
}

static int watch_path(struct netns_watch *watch, const char *path)
{
	char dir[PATH_MAX];
	int pid = 0, end = 0;
	int error;

	sscanf(path, "/proc/%d/ns/net%n", &pid, &end);
	if (pid > 0 && end > 0 && path[end] == '\0')
		return watch_process(watch, pid);
	error = open_directory(watch, path, dir);
	if (error < 0)
		return error;
	if (is_procfs(watch->dir_fd))
		return watch_timer(watch);
	/* where inotify is exhausted (its instances are counted per user), looking must do */
	return watch_directory(watch, dir) == 0 ? 0 : watch_timer(watch);
}

static int watch_fill(struct netns_watch *watch, const struct netns *ns,
		      const struct config *config)
{
	struct stat st;

	watch->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (watch->epoll_fd < 0 || fstat(ns->net_fd, &st) < 0)
		return -errno;
	watch->dev = st.st_dev;
	watch->ino = st.st_ino;
	if (config->netns[0])
		return watch_path(watch, config->netns);
	return watch_process(watch, config->netns_pid);
}

/* Takes the events of the folder. Whether one is of our name, which has gone. */
static bool name_went(struct netns_watch *watch)
{
	char room[4096] __attribute__((aligned(8)));
	bool ours = false;
	ssize_t len;

	while ((len = read(watch->fds[WATCH_INOTIFY], room, sizeof(room))) > 0) {
		const struct inotify_event *event;

		for (char *at = room; at < room + len; at += sizeof(*event) + event->len) {
			event = (const void *)at;
			ours |= event->len && strcmp(event->name, watch->name) == 0;
		}
	}
	return ours;
}

/* What else woke us does not matter, as the state is looked at afterwards; a mount table's news is
 * taken by poll(). */
static void drain(struct netns_watch *watch)
{
	char room[64];
	struct epoll_event event;

	while (epoll_wait(watch->epoll_fd, &event, 1, 0) < 0 && errno == EINTR)
		;
	if (watch->fds[WATCH_INOTIFY] >= 0)
		watch->went |= name_went(watch);
	if (watch->fds[WATCH_TIMER] >= 0)
		while (read(watch->fds[WATCH_TIMER], room, sizeof(room)) > 0)
			;
}

static bool process_ended(int pid_fd)
{
	struct pollfd pfd = { .fd = pid_fd, .events = POLLIN };

	return poll(&pfd, 1, 0) == 1 && pfd.revents != 0;
}

static bool is_gone(struct netns_watch *watch)
{
	struct stat st;

	drain(watch);
	if (watch->fds[WATCH_PROCESS] >= 0)
		return process_ended(watch->fds[WATCH_PROCESS]);
	/* Looking may be forbidden to the user that we have become: it is there as far as we know.
	 */
	if (fstatat(watch->dir_fd, watch->name, &st, 0) < 0)
		return (errno != EACCES && errno != EPERM) || watch->went;
	watch->went = false;
	return st.st_dev != watch->dev || st.st_ino != watch->ino;
}

int netns_watch_new(struct netns_watch **out, const struct netns *ns, const struct config *config)
{
	struct netns_watch *watch;
	int error;

	*out = NULL;
	if (ns->command > 0 || (config->no_netns_quit && config->netns[0]))
		return 0;
	watch = calloc(1, sizeof(*watch));
	if (!watch)
		return -ENOMEM;
	watch->epoll_fd = watch->dir_fd = -1;
	for (int i = 0; i < WATCHED; i++)
		watch->fds[i] = -1;
	error = watch_fill(watch, ns, config);
	if (error < 0) {
		log_error("Couldn't watch the network namespace: %s", strerror(-error));
		netns_watch_free(watch);
		return error;
	}
	if (is_gone(watch)) { /* before the watch began: no event would tell */
		log_error("The network namespace is gone already");
		netns_watch_free(watch);
		return -ENOENT;
	}
	*out = watch;
	return 0;
}

void netns_watch_free(struct netns_watch *watch)
{
	if (!watch)
		return;
	for (int i = 0; i < WATCHED; i++)
		if (watch->fds[i] >= 0)
			close(watch->fds[i]);
	if (watch->dir_fd >= 0)
		close(watch->dir_fd);
	if (watch->epoll_fd >= 0)
		close(watch->epoll_fd);
	free(watch);
}

int netns_watch_fd(const struct netns_watch *watch)
{
	return watch->epoll_fd;
}

bool netns_watch_gone(struct netns_watch *watch)
{
	return is_gone(watch);
}
