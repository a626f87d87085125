/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Going to the background. The process that was started stays until the one that it forks says that
 *all is ready, so that status 0 means a daemon that serves, and status 1 one that has said on
 *stderr why not.
 *
 *	daemon_start()  opens the PID file, forks; the parent never returns from it
 *	...             set-up: privileges, sockets, threads; errors go to stderr
 *	daemon_ready()  fills the PID file, detaches the streams, lets the parent go
 *	daemon_end()    at the end, or instead of daemon_ready() when set-up failed
 *
 * Main thread only.
 */
#pragma once

#include "owned_file.h"
#include "taploom/config.h"

#include <signal.h>

struct daemon {
	struct owned_file pid_path;
	int pid_fd;   /* owned; -1: no PID file asked for, or filled */
	int ready_fd; /* owned; -1: in the foreground, or ready */
	bool silent;  /* the terminal is the command's once all is ready */
};

/* The signals that the control thread takes. */
void daemon_signals(sigset_t *set);

/*
 * Blocks those signals, opens config->pid_file (mode 0600, empty) and forks, unless
 * config->foreground or there is a command, whose status is to be passed on. Before any thread.
 * Returns 0 in the process that is to serve; -errno, logged, if the file could not be made or no
 * process is left.
 */
int daemon_start(struct daemon *daemon, const struct config *config);

/*
 * All is ready: writes this process's ID to the PID file; in the background also replaces the
 * standard streams by /dev/null, changes to the root directory, calls log_detach() and lets the
 * parent exit with 0; with a command, but without config->foreground, it calls log_detach() alone,
 * as the terminal is the command's from now on. 0 or -errno, logged: then the parent is gone or
 * will exit with 1, and the daemon must end.
 */
int daemon_ready(struct daemon *daemon);

/* Closes all. If daemon_ready() was not reached the PID file is removed; otherwise it stays. */
void daemon_end(struct daemon *daemon);
