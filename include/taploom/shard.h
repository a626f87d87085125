/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Shards as the tap side and the main thread see them. A shard's state is entered either by its own
 * thread or, while that sleeps, by a tap reader that runs a batch in place.
 */
#pragma once

#include "taploom/frame.h"
#include "taploom/ring.h"
#include "taploom/runtime.h"
#include "taploom/thread.h"
#include "taploom/tx.h"

/*
 * What a shard reads by itself: a tun queue, the kicks of queue pairs. The descriptor is in the
 * shard's epoll (level-triggered); read is called in the shard's context and hands frames to
 * shard_run_batch() or to other shards' rings. Returns whether more is waiting.
 */
struct shard_source {
	int fd;
	bool (*read)(struct shard_source *source, struct shard *shard);
};

/* Maps a shard's memory and makes its descriptors. Main thread. 0 or -errno. */
int shard_new(struct shard **out, struct runtime *rt, unsigned int id, struct tx *tx);
void shard_free(struct shard *shard);

/* Entry point of a shard's thread: argument is the struct shard. Runs until shard_stop(). */
void *shard_main(void *shard);
void shard_stop(struct shard *shard);

unsigned int shard_id(const struct shard *shard);
struct counters *shard_counters(struct shard *shard);
struct tx *shard_tx(struct shard *shard);

/*
 * Adds a source, or takes one away; both wait until nobody is inside the shard. 0 or -errno. Main
 * or control thread, or a transport's own; registered for RCU once shards run.
 */
int shard_add_source(struct shard *shard, struct shard_source *source);
void shard_remove_source(struct shard *shard, struct shard_source *source);
/* Reads it once more before it is taken away. */
void shard_finish_source(struct shard *shard, struct shard_source *source);

/*
 * Enters a shard from a reader, if nobody is inside and its own thread sleeps or is about to. On
 * true the caller runs shard_run_batch() and must leave. The reader is online for RCU.
 */
bool shard_try_enter(struct shard *shard) ON_READER;
/* Flushes the transmit batch and re-arms the shard's timer if a nearer deadline came. */
void shard_leave(struct shard *shard) ON_READER;

/* Runs a batch to its end and gives it back (batch_done()). */
void shard_run_batch(struct shard *shard, struct batch *batch) ON_SHARD;

/* The ring from producer (a reader's number, or n_readers + a shard's id) to this shard. */
struct ring *shard_ring(struct shard *shard, unsigned int producer);

/* Runs what waits in the ring from this producer: it was pushed before and goes first. */
void shard_drain_ring(struct shard *shard, unsigned int producer) ON_SHARD;

/* After a push: wakes the shard if it sleeps. Any thread. */
void shard_wake(struct shard *shard, struct counters *waker);

/* The guest's side has room again: the shard resumes what waits. Any thread. */
void shard_wake_tx(struct shard *shard);

/* The guest is gone (disconnected) or another came: all flows are reset, silently towards the
 * guest. Control or reader thread; returns when every shard has done it. */
void shards_reset_flows(struct runtime *rt);

/* The namespace has sockets again, see ns_sockets.h. Any thread. */
void shard_ns_refilled(struct shard *shard);

struct listener;
struct port_map;

/*
 * Binds one forwarded port and gives it to the shards. Control thread (or main before the threads).
 * Returns 0 or -errno of the system call that failed.
 */
int shards_listen(struct runtime *rt, uint8_t proto, const struct port_map *map, uint16_t port,
		  struct listener **out) ON_CONTROL;
/*
 * The other direction: a listening (TCP) or bound (UDP) socket of the guest's namespace, for a port
 * of the host's loopback. fd: from shards_ns_socket(), the shards' from now on, also if this fails.
 */
int shards_listen_ns(struct runtime *rt, uint8_t proto, int fd, uint16_t target,
		     struct listener **out) ON_CONTROL;
/* Makes such a socket, bound to loopback in the calling thread's namespace. A descriptor or -errno.
 * Any thread. */
int shards_ns_socket(uint8_t proto, enum ip_version version, uint16_t port);
/* Adds the host's ports that flows of the guest hold by their own UDP sockets to a bit set of
 * 65536.
 */
void shards_own_udp(const struct runtime *rt, uint64_t *ports) ON_CONTROL;
void shards_unlisten(struct runtime *rt, struct listener *listener) ON_CONTROL;
/* Closes all: the ports are free for others at once. */
void shards_unlisten_all(struct runtime *rt) ON_CONTROL;
/* At the end, when no shard runs any more. */
void shards_free_listeners(struct runtime *rt);
