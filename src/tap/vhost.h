/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The vhost-user transport, seen from inside: a device whose rings lie in the guest's memory.
 *
 *   vhost.c          makes and ends the transport; the thread of the control socket
 *   vhost_watch.c    who watches which kick descriptor: a shard or that thread
 *   vhost_reader.c   that thread as the reader of a guest with fewer queue pairs than shards
 *   vu_device.c      requests; vu_rings.c, vu_queue.c, vring*.c, vu_memory.c  rings and memory
 *   vu_rx.c          chains to frames, and back to the guest when their batch is done;
 *                    vu_offload.c judges what they say of checksum and segmentation
 *   vu_tx.c          transmit batches, into the guest's receive buffers; vu_tx_room.c takes those,
 *                    vu_tx_write.c fills them, vu_tx_burst.c has payload received into them
 *
 * Locks: that of a queue to the guest, then that of a queue from it; never two of one kind.
 */
#pragma once

#include "handover.h"
#include "vu_device.h"
#include "vu_offload.h"
#include "vu_tx.h"

#include "taploom/known_addrs.h"
#include "taploom/tap.h"

#define VU_TURN_CHAINS 128u	    /* taken in one turn */
#define VU_TURN_BYTES  (512u << 10) /* a turn ends after so many */
#define VU_SLABS       8u	    /* of a queue */
#define VU_SLAB_BYTES  (64u << 10)  /* copies of headers, and of small frames */
#define VU_SLAB_IOV    (3u * 1024u) /* pieces of payload in one slab */

struct vhost;

/* A turn's chains and the frames in them; given back to the guest as one. */
struct vu_slab {
	struct slab slab;     /* first: its release function knows the rest by it */
	struct vu_slab *next; /* in the queue's list of free ones, or of those that are out */
	struct vu_port *port;
	bool done; /* all batches are done, but an older slab's are not */
	unsigned int n_chains;
	unsigned int n_iov;
	size_t n_bytes;
	struct vring_chain chains[VU_TURN_CHAINS];
	struct iovec iov[VU_SLAB_IOV];
	struct frame frames[VU_TURN_CHAINS];
	uint8_t bytes[VU_SLAB_BYTES];
};

/* A queue with those who watch it. */
struct vu_port {
	struct shard_source source; /* first: the shard knows the port by it */
	struct vhost *vhost;
	struct vu_queue *queue;
	struct counters *counters; /* of who reads it */
	struct shard *shard;	   /* whose epoll has it; NULL: the reader's, or nobody's */
	bool by_reader;
	/* Of whoever reads the queue, under its lock. */
	bool kicks_off; /* the guest was asked to spare them */
	struct known_addrs known;
	struct iovec raw[VRING_CHAIN_MAX]; /* of the chain at hand */
};

/* Frames of one turn, in order. */
struct vu_turn {
	struct vu_slab *slab;  /* with the reader's reference; NULL: nothing was taken */
	unsigned int n_frames; /* the first of slab->frames */
	bool more;	       /* the ring may hold more; its kick is still to be read */
};

struct vhost {
	struct transport transport; /* first */
	struct runtime *rt;
	struct pcap *pcap;		  /* or NULL */
	struct counters counters;	  /* the control-socket thread's, which is the reader */
	struct counters control_counters; /* of the control thread's transmit batch */
	struct vu_device device;	  /* the control-socket thread's */
	struct vu_port ports[VU_RINGS];

	_Atomic uint64_t active; /* pairs in use; written by the control-socket thread, read for
				    each frame */
	_Atomic uint32_t caps;	 /* enum tx_caps, likewise */
	_Atomic bool lied; /* a ring is broken: whoever finds it sets this, the thread clears it */
	_Atomic bool stopping;

	/* The control-socket thread's alone. */
	pthread_t thread;
	bool started;
	int listen_fd; /* -1: a connected socket was given */
	int fd;	       /* of the front-end, -1: none */
	int epoll_fd;
	int event_fd;	/* stop, or a ring that lies */
	int spare_fd;	/* let go when no descriptor is left, to turn a front-end away */
	bool was_held;	/* a queue to the guest was held still: batches may have been refused */
	bool announced; /* control was told that a guest is there */
	uint8_t message[VU_HEADER_LEN + VU_PAYLOAD_MAX]; /* what has come of the next request */
	size_t message_len;
	int message_fds[VU_FDS_MAX];
	unsigned int n_message_fds;
	struct handover handover;

	struct log_limit limit;
	struct vu_slab *slabs; /* VU_SLABS for each queue from the guest */
	struct vu_tx *txs;     /* n_shards and one for control */
	size_t slabs_size, txs_size;
};

static inline unsigned int vhost_caps(const struct vhost *vhost)
{
	return atomic_load_explicit(&vhost->caps, memory_order_relaxed);
}

/* vhost_watch.c. The control-socket thread's. */
extern const struct vu_device_ops vhost_device_ops;

/* vu_rx.c */
void vu_rx_init(struct vu_port *port, struct vu_slab *slabs);
/*
 * Takes one turn of chains from the guest, parses them, posts control frames. The caller is online
 * for RCU, runs the frames, and does slab_put(&turn->slab->slab) at the end.
 */
void vu_rx_turn(struct vu_port *port, struct vu_turn *turn);
/* The read callback of a port that belongs to a shard. */
bool vu_port_read(struct shard_source *source, struct shard *shard);
/* The guest posted buffers for frames to it: wakes the batches that wait. Any thread. */
void vu_tx_kicked(struct vu_port *port);

/* vhost_reader.c: the thread runs what the port has; last: no other port is known to have
 * something. */
void vhost_reader_turn(struct vhost *vhost, struct vu_port *port, bool last) ON_READER;
/* Whether no batch of what was taken from any queue is under way; the argument is the struct vhost.
 */
bool vhost_reader_is_idle(const void *transport);
/* Polls the rings for the time that --busy-poll says. Whether one had something. */
bool vhost_reader_poll(struct vhost *vhost) ON_READER;

/* A ring lies: counts, logs, and has the device stopped. Any thread. */
void vhost_lied(struct vhost *vhost, const struct vu_queue *queue, struct counters *counters);

/* Empties an eventfd. */
void vhost_clear(int fd);
