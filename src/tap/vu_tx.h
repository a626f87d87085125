/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Transmit batches of the vhost-user transport. The first frame of a batch takes the lock of its
 * queue, the flush gives it back: between them chains are taken, filled and put, and the guest sees
 * and hears of them once.
 *
 * A single frame is written to private memory and copied. A burst is received in place: behind room
 * for its headers the pieces of the caller's iovecs are the guest's own buffers, several of them
 * merged if the guest takes that. What a burst did not need is taken back before anybody sees it.
 */
#pragma once

#include "vu_queue.h"

#include "taploom/tap.h"

#define VU_TX_CHAINS 1024u
#define VU_TX_IOV    (4u * 1024u)
#define VU_TX_BOUNCE (256u << 10)
#define VU_TX_HDR    128u

struct vhost;

/* One segment of an open burst or frame: chains and pieces, as indices into the batch's. */
struct vu_tx_seg {
	unsigned int chain, n_chains;
	unsigned int iov, n_iov;
	uint8_t *bounce; /* where its payload is received, if not in place */
};

/* A thread's transmit batch. */
struct vu_tx {
	struct tx tx; /* first */
	struct vhost *vhost;
	unsigned int index;	/* the shard's, or n_shards for control */
	struct vu_queue *queue; /* whose lock is held: since the first frame of the batch */
	size_t vnet_len;	/* of that queue's header */
	/* The guest may have room again: set by any thread, cleared by the flush. */
	_Atomic bool woken;
	/* What is taken for the frame or burst at hand. */
	unsigned int n_chains, n_iov, n_segs;
	struct vring_chain chains[VU_TX_CHAINS];
	struct iovec iov[VU_TX_IOV];
	struct vu_tx_seg segs[TX_BURST_SEGMENTS];
	uint8_t hdrs[TX_BURST_SEGMENTS][VU_TX_HDR];
	uint8_t bounce[VU_TX_BOUNCE]; /* single frames, and payload that no one buffer holds */
};

void vu_tx_init(struct vu_tx *vtx, struct vhost *vhost, unsigned int index);
/* Lets go of a queue whose lock the batch holds, as tx_flush() does, but says nothing of waiting.
 */
void vu_tx_leave(struct tx *tx);
/* Wakes a thread that waits for the guest, by its batch's number. Any thread. */
void vu_tx_wake(struct vhost *vhost, unsigned int index);
/* Wakes all of them. */
void vu_tx_wake_all(struct vhost *vhost);

/* The rest is for vu_tx*.c. */

static inline struct vu_tx *vu_tx_of(struct tx *tx)
{
	return (struct vu_tx *)(void *)tx;
}

/* Whether the queue at hand was started with a feature. */
static inline bool vu_tx_has(const struct vu_tx *vtx, unsigned int feature)
{
	return vtx->queue->features >> feature & 1;
}

/* vu_tx_room.c */

/* Enters the queue for a frame. False: no guest is there; whoever waits is woken when one is. */
bool vu_tx_enter(struct vu_tx *vtx, uint16_t wanted);
/* Lets go of the queue: the guest sees what was put, and is called if it wants that. */
void vu_tx_let_go(struct vu_tx *vtx);

enum vu_tx_room { VU_TX_FULL, VU_TX_LESS, VU_TX_NONE };

/*
 * Takes chains for one segment of need bytes, its headers included; as many as it takes if they can
 * be merged, else one. VU_TX_LESS: the guest has fewer bytes than that now, or gave a chain that is
 * too short. wait: a kick is asked for if the ring is empty.
 */
enum vu_tx_room vu_tx_take(struct vu_tx *vtx, struct vu_tx_seg *seg, size_t need, bool wait);
/* Takes back the chains from first on. */
void vu_tx_untake(struct vu_tx *vtx, unsigned int first);
/*
 * Whether the first segment failed as the guest's buffers are too short for it, now and later: they
 * can't be merged, or the ring holds no more of them. To wait would be for ever.
 */
bool vu_tx_short_for_good(struct vu_tx *vtx, const struct vu_tx_seg *seg);
/* As above; such a frame is written to private memory, and dropped at its commit. */
bool vu_tx_too_big(struct vu_tx *vtx, struct vu_tx_seg *seg);
/* No room for a frame. Whoever wants to send one waits for the guest. */
void vu_tx_no_room(struct vu_tx *vtx);

/* vu_tx_write.c */

/*
 * Completes a segment: len bytes of frame, of which hdr_len stand in hdr and the rest either in
 * place or in seg->bounce, and puts its chains. Returns the number of chains used.
 */
unsigned int vu_tx_finish(struct vu_tx *vtx, const struct vu_tx_seg *seg, const uint8_t *hdr,
			  size_t hdr_len, size_t len, const struct tx_offload *offload);

/* vu_tx_burst.c: see struct tx_ops. */

bool vu_tx_burst_begin(struct tx *tx, struct tx_burst *burst, uint16_t queue, size_t hdr_len,
		       size_t seg_len, size_t want, uint8_t gso_type);
void vu_tx_burst_commit(struct tx *tx, struct tx_burst *burst, size_t len,
			const struct tx_offload *offload);
