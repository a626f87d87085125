/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The UNIX stream transport, seen from inside: one connected socket, on which each frame follows
 * its length in 4 bytes, big-endian.
 *
 *   stream.c         makes and ends the transport
 *   stream_reader.c  the reader's thread: epoll, the guest's coming and going
 *   stream_rx.c      bytes to frames, frames to batches, batches to shards
 *   stream_tx.c      the transmit batches, which share the socket
 *
 * The reader is the only one who opens and closes the connection. It does so under tx_lock, so that
 * who holds the lock and has found the generation unchanged may write to the socket.
 */
#pragma once

#include "handover.h"

#include "taploom/known_addrs.h"
#include "taploom/tap.h"

#include <pthread.h>

#define STREAM_PREFIX	 4 /* bytes of a frame's length */
#define STREAM_SLABS	 8
#define STREAM_READ_SIZE (1u << 20)
/* What was left of the slab before comes first: at least the longest frame fits beside a whole
 * read. */
#define STREAM_SLAB_SIZE   (STREAM_READ_SIZE + (128u << 10))
#define STREAM_SLAB_FRAMES 4096u
#define STREAM_TX_SIZE	   (1u << 20)
/* A batch is written when it has grown to this: it is still in the cache then, and the guest can
 * begin. */
#define STREAM_TX_FLUSH_AT (256u << 10)

_Static_assert(STREAM_SLAB_SIZE - STREAM_READ_SIZE >= FRAME_MAX + STREAM_PREFIX,
	       "a cut frame fits");

/* What an entry of the epoll stands for. */
enum stream_event {
	STREAM_EVENT_LISTEN, /* a guest wants to connect */
	STREAM_EVENT_CONN,   /* the guest has sent, or is gone */
	STREAM_EVENT_OUT,    /* the socket has room again */
	STREAM_EVENT_WAKE,   /* event_fd */
	STREAM_EVENTS
};

struct stream;

/* A thread's transmit batch: whole frames with their lengths, in buf from head to tail. */
struct stream_tx {
	struct tx tx;
	struct stream *stream;
	/* Its thread's alone. */
	uint8_t *buf;
	size_t head, tail;
	uint32_t generation; /* of the connection that the frames are for */
	/* Under tx_lock. */
	bool waiting; /* it has frames that did not fit, and is to be woken */
};

struct stream {
	struct transport transport;
	struct runtime *rt;
	struct pcap *pcap;
	int listen_fd; /* -1: a connected socket was given */
	int given_fd;  /* that one, until the reader has taken it up; else -1 */
	int epoll_fd;
	int event_fd; /* a slab is free again, or the end has come */
	int spare_fd; /* let go when no descriptor is left, to refuse a guest rather than spin */
	pthread_t thread;
	bool started;
	_Atomic bool stopping;	  /* written by stop, read by the reader */
	struct counters counters; /* the reader's */
	struct counters
		tx_counters; /* of a batch whose thread has set none of its own: control's */
	size_t mapped;	     /* bytes at memory */
	uint8_t *memory;

	/* The connection. Written by the reader under tx_lock. */
	int fd;	    /* -1: no guest */
	int out_fd; /* the same socket: its own entry in the epoll, armed by those who wait for room
		     */
	_Atomic uint32_t generation; /* odd while a guest is connected; any thread reads */

	/* Transmit side, under tx_lock. */
	pthread_mutex_t tx_lock;
	size_t cut_off, cut_len; /* the rest of a frame that the socket took in part */
	uint8_t cut[FRAME_MAX + STREAM_PREFIX];
	unsigned int n_txs;
	struct stream_tx txs[MAX_SHARDS + 1];

	/* Receive side: the reader's alone, but for the two words. */
	struct slab slabs[STREAM_SLABS];
	_Atomic uint32_t free_slabs; /* a bit each; set by whoever gives one back */
	_Atomic bool starved; /* the reader waits for a slab; whoever gives one back clears it */
	bool paused;	      /* EPOLLIN is not asked for, as there is no slab */
	bool read_due;	      /* the connection was reported readable */
	struct slab *slab;    /* being filled, or NULL */
	size_t off, filled;   /* its bytes from off to filled are not yet parsed */
	bool more;	      /* there is, or may be, more to do without waiting */
	struct handover handover;
	struct known_addrs known;
	struct log_limit limit;
};

/* stream_reader.c: entry point of the reader's thread; the argument is the struct stream. */
void *stream_reader_main(void *stream);

/* stream_rx.c: gives the slabs their release function and marks them free. */
void stream_rx_init(struct stream *stream);
/* What one turn of reading came to. */
enum stream_read {
	STREAM_READ_OK,
	STREAM_READ_STARVED, /* no slab is free: stream->starved is set, event_fd will say when */
	STREAM_READ_END,     /* the connection is over, or must end */
};
/* Reads once, parses and hands over. */
enum stream_read stream_rx_turn(struct stream *stream) ON_READER;
/* The connection is over: forgets the bytes that were left and what was known of the guest. */
void stream_rx_reset(struct stream *stream) ON_READER;

/* stream_tx.c: a batch of its own for each shard and for control. buf: STREAM_TX_SIZE bytes. */
void stream_tx_init(struct stream *stream, unsigned int index, uint8_t *buf);
/* The socket has room: sends the rest of a cut frame and wakes those who wait. */
void stream_tx_resume(struct stream *stream) ON_READER;
/* Wakes those who wait, as there is nothing to wait for any more. */
void stream_tx_wake_all(struct stream *stream) ON_READER;
