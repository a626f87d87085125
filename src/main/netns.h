/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The guest's namespaces: found by path, by process, or made for a command. All of this runs in the
 * main thread while it is the only one. Who fails has logged one line that names the thing.
 *
 * Order at start: options, netns_open(), netns_plan (netns_plan.h), netns_make_tap(),
 * netns_join_user() where the daemon is not root, ns_thread_start() (ns_thread.h), capabilities
 * dropped, other threads, netns_command_start(). Nothing of this uses the host's rights afterwards.
 */
#pragma once

#include "taploom/addr.h"
#include "taploom/config.h"

#include <stdbool.h>
#include <sys/types.h>

/* Whom a command runs as: with change, the user that a daemon started as root becomes. */
struct netns_user {
	bool change;
	bool keep_ns; /* it gets no user namespace of its own */
	uid_t uid;
	gid_t gid;
};

struct netns {
	int net_fd;	 /* the network namespace */
	int user_fd;	 /* the user namespace to join for it; -1: the daemon's own will do */
	bool configures; /* its thread keeps the right to configure it */

	/* Of a command that was started by us; 0 and -1 if there is none. */
	pid_t command;
	int command_fd; /* a pidfd: readable when the command has ended */
	int go_fd;	/* its other end is read by the command's process before it executes */
};

/*
 * Opens the namespaces that the configuration names, or starts the process of the command (a shell
 * if neither command, process nor path is given), which waits in new namespaces for
 * netns_command_start(). Descriptors are close-on-exec. 0 or -errno.
 */
int netns_open(struct netns *ns, const struct config *config, const struct netns_user *user);

/* Closes descriptors; a command that was not started yet ends. */
void netns_close(struct netns *ns);

/*
 * Closes what a start alone needs, once the namespace thread is inside: an open path would be busy
 * for those who unmount it.
 */
void netns_let_go(struct netns *ns);

/*
 * Moves the whole process, which has one thread, into the guest's user namespace, if it is in
 * another: an ordinary user's threads may then enter the network namespace. All capabilities there
 * are the process's. 0 or -errno.
 */
int netns_join_user(const struct netns *ns);

/* Moves the calling thread into the network namespace, by way of the user namespace if need be. 0
 * or -errno. */
int netns_enter(const struct netns *ns);

/* What is made inside; see netns_plan.h. */
struct netns_plan;

/* The tap device in the namespace. */
struct tap_device {
	int fds[MAX_QUEUES]; /* owned by the caller */
	unsigned int n_queues;
	unsigned int offloads; /* TUN_F_* that TUNSETOFFLOAD accepted */
	unsigned int ifindex;
	char ifname[IFNAMSIZ];
	struct eth_addr mac; /* the guest's: known before it speaks */
};

/*
 * Makes the tap device and configures the namespace, in a child process that enters it: this
 * process stays outside. When this returns, addresses are usable. 0 or -errno.
 */
int netns_make_tap(const struct netns *ns, const struct netns_plan *plan, struct tap_device *tap);

/* What that child does once it is inside; for tests that are inside already. 0 or -errno. */
int netns_tap_open(struct tap_device *tap, const struct netns_plan *plan);
void netns_tap_close(struct tap_device *tap);

/* The command may execute now. 0 or -errno. */
int netns_command_start(struct netns *ns);

/* Whether the command has ended, and its status as a shell says it: 128 + n for signal n. Never
 * blocks. */
bool netns_command_ended(struct netns *ns, int *status);

/* Passes a signal (SIGTERM) on to the command, if it lives. */
void netns_command_signal(const struct netns *ns, int signal_number);

/* The process of a new command in namespaces of its own: netns_spawn.c. 0 or -errno. */
int netns_spawn(struct netns *ns, char *const command[], const struct netns_user *user);
