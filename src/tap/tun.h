/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The tun transport: the queues of a tap device inside the guest's network namespace, opened with
 * IFF_TAP, IFF_NO_PI, IFF_MULTI_QUEUE and IFF_VNET_HDR. One read brings one frame, of up to 64 KiB
 * where the guest's kernel leaves segmentation to us, and one write gives one.
 *
 * With as many queues as shards or more, queue i is a source of shard i % n_shards, which reads it
 * itself: tun_rx.c. With fewer, one reader thread reads all queues and hands frames to the shards
 * by their flow's hash: tun_reader.c. Transmit batches: tun_tx.c.
 */
#pragma once

#include "taploom/tap.h"

#include <pthread.h>

#define TUN_HDR_LEN    TUN_VNET_HDR_SIZE
#define TUN_TURN_MAX   64	    /* frames read in one turn */
#define TUN_SLAB_SIZE  (512u << 10) /* a turn's bytes: what a second-level cache holds */
#define TUN_SLABS      32	    /* per queue; the first free one is used: cache and memory */
#define TUN_FRAME_ROOM (TUN_HDR_LEN + FRAME_MAX) /* what one read may bring */

struct tun_transport;

/* The receive side of one queue; its owner (a shard's context, or the reader) is the only user. */
struct tun_queue {
	struct shard_source source; /* first: the shard knows the queue by this */
	struct tun_transport *tun;
	struct counters *counters; /* of whoever reads this queue */
	uint16_t index;
	bool gone;		      /* the device is no more, and the control thread was told */
	struct slab slabs[TUN_SLABS]; /* free while refs is 0: release needs to do nothing more */
	struct frame *frames;	      /* TUN_TURN_MAX for each slab */
};

struct tun_reader;

struct tun_transport {
	struct transport transport; /* first: what the main thread holds */
	struct runtime *rt;
	struct pcap *pcap;     /* or NULL */
	unsigned int offloads; /* TUN_F_* accepted by the kernel */
	unsigned int n_queues;
	struct tun_queue *queues;  /* owned, n_queues */
	struct tun_tx *txs;	   /* owned, n_shards and one for the control thread */
	struct tun_reader *reader; /* owned; NULL where shards read */
	uint8_t *map;		   /* slabs, frames and transmit rooms */
	size_t map_size;
	struct counters control_counters; /* of the control thread's transmit batch */
	int idle_fd; /* an unconnected socket, put in the place of a queue whose device is gone */
};

/* One turn of reading: frames for the shards, in order, and whether more may be waiting. */
struct tun_turn {
	struct frame *frames[TUN_TURN_MAX];
	unsigned int n_frames;
	struct slab *slab; /* with the reader's own reference, to be put at the end; NULL: none was
			      free */
	bool more;
};

/*
 * Reads up to a turn of frames from a queue, counts and drops what does not parse, posts control
 * frames, and notes the guest's addresses. The caller is online for RCU, and does
 * slab_put(turn->slab) at the end.
 */
void tun_turn_read(struct tun_queue *queue, struct tun_turn *turn);

/* The read callback of a queue that belongs to a shard. */
bool tun_source_read(struct shard_source *source, struct shard *shard);

/* Whether all of a queue's slabs are in other shards' hands. */
bool tun_queue_starved(const struct tun_queue *queue);

/* The reader of a device with fewer queues than shards. counters are lent. 0 or -errno. */
int tun_reader_new(struct tun_reader **out, struct tun_transport *tun, struct counters *counters);
int tun_reader_start(struct tun_reader *reader);
void tun_reader_stop(struct tun_reader *reader);
void tun_reader_free(struct tun_reader *reader);

/* Transmit batches: size of one with its rooms' bytes, how to set one up, and how to name it. */
size_t tun_tx_size(void);
size_t tun_tx_room(void);
void tun_tx_init(struct tun_transport *tun, unsigned int index, uint8_t *room);
struct tx *tun_tx_of(struct tun_transport *tun, unsigned int index);
