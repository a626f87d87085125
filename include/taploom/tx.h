/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Transmit batches: what a thread has to say to the guest, gathered and written in as few system
 * calls as the transport can do with. Each shard has a batch of its own, and so has the control
 * thread; the transports (stream, tun, vhost-user) implement struct tx_ops.
 *
 * When the guest's side is full, begin returns nothing; the shard leaves its sockets unread, keeps
 * what it wants to say as state of its flows, and is woken with shard_wake_tx() when there is room.
 * A frame that was committed is not lost by this daemon.
 */
#pragma once

#include "taploom/counters.h"

#include <linux/virtio_net.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

/* What the guest's side takes; read anew for each frame, as a driver may renegotiate. */
enum tx_caps {
	TX_CSUM = 1 << 0, /* partial checksums */
	TX_TSO4 = 1 << 1,
	TX_TSO6 = 1 << 2,
	TX_ECN = 1 << 3, /* VIRTIO_NET_HDR_GSO_ECN */
	TX_USO = 1 << 4, /* VIRTIO_NET_HDR_GSO_UDP_L4 */
};

/* What is left to the guest's side for one frame; all zero: a complete frame. */
struct tx_offload {
	uint8_t gso_type; /* VIRTIO_NET_HDR_GSO_* */
	uint16_t gso_size;
	uint16_t hdr_len;     /* Ethernet to L4 header, with gso_type */
	uint16_t csum_start;  /* from the Ethernet header; 0: no partial checksum */
	uint16_t csum_offset; /* from csum_start */
};

#define TX_BURST_SEGMENTS 64
#define TX_BURST_IOV	  256

/*
 * Room for a run of TCP or UDP payload of one flow. The caller receives into iov, writes a header
 * of hdr_len bytes to each hdr[i] that got payload, and commits.
 *
 * With segmentation offload there are large segments, of gso_len bytes (up to 64 KiB, whole
 * segments of seg_len) but for the last; their payload follows each other in the pieces, of which
 * each may have several. Otherwise segment i has exactly the piece iov[i], of seg_len bytes but for
 * the last.
 */
struct tx_burst {
	uint8_t *hdr[TX_BURST_SEGMENTS]; /* of n_segments; from the Ethernet header on, hdr_len
					    bytes */
	struct iovec iov[TX_BURST_IOV];
	unsigned int n_segments;
	unsigned int n_iov;
	size_t room;	/* payload bytes that iov holds in sum */
	size_t hdr_len; /* as asked for */
	size_t seg_len; /* payload per segment as asked for */
	bool gso; /* large segments, to be cut by the guest's side: need gso_type and gso_size */
	size_t gso_len;
	uint16_t queue;
	void *transport[2]; /* the transport's own */
};

struct tx;

struct tx_ops {
	/*
	 * Room for one frame of up to size bytes (Ethernet header on, at most FRAME_MAX); NULL if
	 * the guest's side is full or no guest is there. Nothing is sent unless commit follows; a
	 * second begin before it takes the room back.
	 */
	uint8_t *(*frame_begin)(struct tx *tx, uint16_t queue, size_t size);
	/* len: bytes written, at most size. The frame goes out with the batch. */
	void (*frame_commit)(struct tx *tx, size_t len, const struct tx_offload *offload);
	/*
	 * Room for up to want bytes of payload in segments of seg_len, behind headers of hdr_len
	 * (at most 128). gso_type: what the caller can have segmented (VIRTIO_NET_HDR_GSO_*); the
	 * transport sets burst->gso if the guest takes that. False if there is no room for even one
	 * segment. There may be less room than wanted.
	 */
	bool (*burst_begin)(struct tx *tx, struct tx_burst *burst, uint16_t queue, size_t hdr_len,
			    size_t seg_len, size_t want, uint8_t gso_type);
	/*
	 * len: payload bytes received, 0 to burst->room; 0 takes all back. offload: as for
	 * frame_commit, the same for each segment.
	 */
	void (*burst_commit)(struct tx *tx, struct tx_burst *burst, size_t len,
			     const struct tx_offload *offload);
	/* Writes what was committed. False if some of it waits for the guest: begin then gives
	 * NULL. */
	bool (*flush)(struct tx *tx);
	/* enum tx_caps of the guest's side now, for a queue. */
	unsigned int (*caps)(const struct tx *tx, uint16_t queue);
};

struct tx {
	const struct tx_ops *ops;
	struct counters *counters; /* its thread's */
	bool blocked;		   /* the last begin found no room, and the shard will be woken */
	bool by_queue;		   /* constant: another queue may have room all the same */
};

static inline uint8_t *tx_frame_begin(struct tx *tx, uint16_t queue, size_t size)
{
	return tx->ops->frame_begin(tx, queue, size);
}

static inline void tx_frame_commit(struct tx *tx, size_t len, const struct tx_offload *offload)
{
	tx->ops->frame_commit(tx, len, offload);
}

static inline bool tx_burst_begin(struct tx *tx, struct tx_burst *burst, uint16_t queue,
				  size_t hdr_len, size_t seg_len, size_t want, uint8_t gso_type)
{
	return tx->ops->burst_begin(tx, burst, queue, hdr_len, seg_len, want, gso_type);
}

static inline void tx_burst_commit(struct tx *tx, struct tx_burst *burst, size_t len,
				   const struct tx_offload *offload)
{
	tx->ops->burst_commit(tx, burst, len, offload);
}

static inline bool tx_flush(struct tx *tx)
{
	return tx->ops->flush(tx);
}

static inline unsigned int tx_caps(const struct tx *tx, uint16_t queue)
{
	return tx->ops->caps(tx, queue);
}
