/* SPDX-License-Identifier: Apache-2.0 */
#include "netns.h"

#include "taploom/log.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/nsfs.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

/* Opens a namespace and makes sure that it is one of its kind. A descriptor or -errno. */
static int open_kind(const char *path, int kind, const char *kind_name)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	int error;

	if (fd < 0) {
		error = -errno;
		log_error("Couldn't open %s namespace %s: %s", kind_name, path, strerror(errno));
		return error;
	}
	if (ioctl(fd, NS_GET_NSTYPE) != kind) {
		log_error("%s is not a %s namespace", path, kind_name);
		close(fd);
		return -EINVAL;
	}
	return fd;
}

static int open_net(struct netns *ns, const char *path)
{
	ns->net_fd = open_kind(path, CLONE_NEWNET, "network");
	return ns->net_fd < 0 ? ns->net_fd : 0;
}

static int open_user(struct netns *ns, const char *path)
{
	ns->user_fd = open_kind(path, CLONE_NEWUSER, "user");
	return ns->user_fd < 0 ? ns->user_fd : 0;
}

static int open_process(struct netns *ns, pid_t pid, bool with_user)
{
	char path[64];
	int error;

	snprintf(path, sizeof(path), "/proc/%d/ns/net", (int)pid);
	error = open_net(ns, path);
	if (error < 0 || !with_user)
		return error;
	snprintf(path, sizeof(path), "/proc/%d/ns/user", (int)pid);
	return open_user(ns, path);
}

static int open_command(struct netns *ns, const struct config *config,
			const struct netns_user *user)
{
	int error = netns_spawn(ns, config->command, user);

	return error < 0 ? error : open_process(ns, ns->command, true);
}

static int open_any(struct netns *ns, const struct config *config, const struct netns_user *user)
{
	int error;

	if (config->netns[0])
		error = open_net(ns, config->netns);
	else if (config->netns_pid > 0)
		error = open_process(ns, config->netns_pid,
				     !config->netns_only && !config->userns[0]);
	else
		return open_command(ns, config, user);
	if (error < 0 || !config->userns[0])
		return error;
	return open_user(ns, config->userns);
}

int netns_open(struct netns *ns, const struct config *config, const struct netns_user *user)
{
	int error;

	*ns = (struct netns){ .net_fd = -1, .user_fd = -1, .command_fd = -1, .go_fd = -1 };
	error = open_any(ns, config, user);
	if (error < 0)
		netns_close(ns);
	return error;
}

static void close_fd(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

void netns_let_go(struct netns *ns)
{
	close_fd(&ns->net_fd);
	close_fd(&ns->user_fd);
}

void netns_close(struct netns *ns)
{
	close_fd(&ns->go_fd);
	close_fd(&ns->command_fd);
	netns_let_go(ns);
}

/* Joining the namespace that one is in already is refused by the kernel, hence the question. */
static bool is_own(int fd, const char *own_path)
{
	struct stat own, other;

	return stat(own_path, &own) == 0 && fstat(fd, &other) == 0 && own.st_dev == other.st_dev &&
	       own.st_ino == other.st_ino;
}

int netns_join_user(const struct netns *ns)
{
	int error;

	if (ns->user_fd < 0 || is_own(ns->user_fd, "/proc/self/ns/user"))
		return 0;
	if (setns(ns->user_fd, CLONE_NEWUSER) == 0)
		return 0;
	error = -errno;
	log_error("Couldn't join the user namespace: %s", strerror(errno));
	return error;
}

int netns_enter(const struct netns *ns)
{
	int error;

	if (setns(ns->net_fd, CLONE_NEWNET) == 0)
		return 0;
	if (errno == EPERM && ns->user_fd >= 0) {
		error = netns_join_user(ns);
		if (error < 0)
			return error;
		if (setns(ns->net_fd, CLONE_NEWNET) == 0)
			return 0;
	}
	error = -errno;
	log_error("Couldn't enter the network namespace: %s%s", strerror(errno),
		  errno == EPERM && ns->user_fd < 0 ? "; give its user namespace with --userns"
						    : "");
	return error;
}
