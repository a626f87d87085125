/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tells when the guest's network namespace has gone: its process ended, or its path was unlinked or
 * unmounted. We hold the namespace ourselves (the namespace thread), so that the
 * kernel's own end of it never comes before ours.
 *
 * A process is watched by pidfd. A path is watched by inotify on its directory and by poll() on the
 * mount table: no timer. Only for paths that announce nothing (in procfs, without a number that
 * names a process) a timer looks once a second.
 *
 * netns_watch_new() is for the main thread, with the host's view of the file system; the rest is
 * the control thread's, and works in any sandbox, as directories are held open.
 */
#pragma once

#include "netns.h"

#include "taploom/thread.h"

struct netns_watch;

/*
 * Watches what the configuration names; with a command, or --no-netns-quit and a path, there is
 * nothing to watch and *out is NULL. 0 or -errno.
 */
int netns_watch_new(struct netns_watch **out, const struct netns *ns, const struct config *config);
void netns_watch_free(struct netns_watch *watch);

/* Readable when netns_watch_gone() is to be asked (an epoll descriptor). */
int netns_watch_fd(const struct netns_watch *watch);

/* Takes what is pending, and says whether the namespace has gone. Never blocks. */
bool netns_watch_gone(struct netns_watch *watch) ON_CONTROL;
