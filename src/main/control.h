/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The control thread's loop: signals, the host's changes, the services, and the guest's coming and
 * going. It is the main thread, once all others run.
 */
#pragma once

#include "netns.h"
#include "network.h"
#include "threads.h"

struct control;

/*
 * Blocks the signals that the loop takes (before the first thread starts, as threads inherit the
 * mask) and makes the inbox; rt->control is set. 0 or -errno, logged.
 */
int control_new(struct control **out, struct runtime *rt, struct network *network);
void control_free(struct control *control);

/* A descriptor whose readiness the loop hands to a function; it returns false to end the loop. */
struct control_hook {
	int fd;
	bool (*ready)(struct control_hook *hook);
	void *arg;
};

/* The command that shares our terminal; lent. Before the loop. */
void control_set_command(struct control *control, const struct netns *command);

/* Adds a hook before the loop; hook must outlive it. 0 or -errno. */
int control_add_hook(struct control *control, struct control_hook *hook);

/* Runs until SIGTERM or SIGINT, or the guest's end where that ends the program. Returns the exit
 * status. */
int control_run(struct control *control, struct transport *transport);
