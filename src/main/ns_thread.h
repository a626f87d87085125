/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The namespace thread: enters the guest's network namespace once and stays, and makes sockets
 * there. A socket belongs to the namespace in which it was made, whoever uses it afterwards: so
 * this thread only makes them, and the shards connect, bind and listen themselves.
 *
 * Each shard has a pool per kind of socket, filled in batches ahead of need: taking one is a load
 * and a store. A pool that is at its low mark asks for more; what the control thread wants done in
 * the namespace it has done by ns_thread_call().
 *
 * ns_thread_start() comes before capabilities are dropped, as the only thread beside main: setns()
 * needs CAP_SYS_ADMIN (in the permitted set is enough) in our user namespace and in the guest's.
 * Once inside, the thread keeps CAP_NET_BIND_SERVICE, for -T and -U ports below 1024, and with
 * --config-net CAP_NET_ADMIN, to set addresses and routes at run time. main
 * drops the rest of its own when ns_thread_start() has returned, and starts the other threads then.
 */
#pragma once

#include "taploom/config.h"
#include "taploom/ns_sockets.h"
#include "taploom/thread.h"

#include "netns.h"

struct ns_thread;

/*
 * Starts the thread, which enters the namespace (by setns of ns->net_fd) and fills the pools a
 * little.
 *
 * refilled: called on the namespace thread when a shard's empty pool has sockets again; for a
 * wake-up. May be NULL. cpu: to pin the thread to, or -1. Returns 0, or -errno if the namespace
 * cannot be entered (logged).
 */
int ns_thread_start(struct ns_thread **out, const struct netns *ns, unsigned int n_shards, int cpu,
		    void (*refilled)(void *arg, unsigned int shard), void *arg);

/* Ends the thread and closes what is in the pools. No call may be under way. */
void ns_thread_stop(struct ns_thread *thread);

/*
 * Takes a socket of a kind, non-blocking and close-on-exec, from a shard's pool; the caller's from
 * now on. -EAGAIN: the pool is empty, refilled() comes; or the -errno with which the last refill
 * failed (EMFILE), which is tried again with the next call.
 */
int ns_thread_take(struct ns_thread *thread, unsigned int shard, enum ns_socket kind) ON_SHARD;

/*
 * Has a function run on the namespace thread, inside the namespace, and returns its result. Waits:
 * for the main and control threads. A function that may block keeps the shards from getting
 * sockets.
 */
int ns_thread_call(struct ns_thread *thread, int (*function)(void *arg), void *arg);

/* A new socket in the namespace, for the control thread: ns_thread_call() of socket(2). A
 * descriptor or -errno. */
int ns_thread_socket(struct ns_thread *thread, int family, int type, int protocol);
