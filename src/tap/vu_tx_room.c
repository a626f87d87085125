/* SPDX-License-Identifier: Apache-2.0 */
#include "vhost.h"

void vu_tx_untake(struct vu_tx *vtx, unsigned int first)
{
	while (vtx->n_chains > first)
		vring_untake(&vtx->queue->ring, &vtx->chains[--vtx->n_chains]);
}

/* Takes back what was begun and not committed. */
static void forget_room(struct vu_tx *vtx)
{
	if (vtx->queue)
		vu_tx_untake(vtx, 0);
	vtx->n_chains = vtx->n_iov = vtx->n_segs = 0;
}

void vu_tx_let_go(struct vu_tx *vtx)
{
	struct vu_queue *queue = vtx->queue;

	forget_room(vtx);
	if (!queue)
		return;
	vring_publish(&queue->ring);
	if (vu_queue_call(queue))
		count_add(vtx->tx.counters, COUNT_TX_FLUSHES, 1);
	vtx->queue = NULL;
	pthread_mutex_unlock(&queue->lock);
}

/* The pair for a flow: the guest's choice, or another one if that is not in use. */
static bool pick_pair(const struct vhost *vhost, uint16_t wanted, unsigned int *pair)
{
	uint64_t active = atomic_load_explicit(&vhost->active, memory_order_relaxed);
	unsigned int n = (unsigned int)__builtin_popcountll(active);

	if (!n)
		return false;
	*pair = wanted % MAX_QUEUES;
	if (active >> *pair & 1)
		return true;
	for (n = wanted % n; n; n--)
		active &= active - 1;
	*pair = (unsigned int)__builtin_ctzll(active);
	return true;
}

bool vu_tx_enter(struct vu_tx *vtx, uint16_t wanted)
{
	struct vu_queue *queue;
	unsigned int pair;

	forget_room(vtx);
	vtx->tx.blocked = false;
	if (!pick_pair(vtx->vhost, wanted, &pair)) {
		vu_tx_let_go(vtx);
		vtx->tx.blocked = true;
		return false;
	}
	queue = &vtx->vhost->device.queues[2 * pair];
	if (queue == vtx->queue)
		return true;
	vu_tx_let_go(vtx);
	pthread_mutex_lock(&queue->lock);
	if (!vu_queue_usable(queue) || !queue->enabled) {
		pthread_mutex_unlock(&queue->lock);
		vtx->tx.blocked = true;
		return false;
	}
	vtx->queue = queue;
	vtx->vnet_len = queue->features & (VU_FEATURE(VIRTIO_F_VERSION_1) |
					   VU_FEATURE(VIRTIO_NET_F_MRG_RXBUF))
				? sizeof(struct virtio_net_hdr_v1)
				: sizeof(struct virtio_net_hdr);
	return true;
}

static bool mergeable(const struct vu_tx *vtx)
{
	return vu_tx_has(vtx, VIRTIO_NET_F_MRG_RXBUF);
}

/* The ring is empty: asks for a kick. Whether it was needless, as there are buffers again. */
static bool wait_for_guest(struct vu_tx *vtx)
{
	struct vu_queue *queue = vtx->queue;

	vring_want_kick(&queue->ring, true);
	if (vring_has_more(&queue->ring)) {
		if (!queue->waiters && !queue->control_waits) /* or they would wait for ever */
			vring_want_kick(&queue->ring, false);
		return true;
	}
	if (vtx->index < vtx->vhost->rt->n_shards)
		queue->waiters |= 1ull << vtx->index;
	else
		queue->control_waits = true;
	vtx->tx.blocked = true;
	return false;
}

static void lied(struct vu_tx *vtx)
{
	const struct vu_queue *queue = vtx->queue;

	vtx->n_chains = vtx->n_iov = 0; /* a broken ring takes nothing back */
	vu_tx_let_go(vtx);
	vtx->tx.blocked = true; /* until the device is set up anew */
	vhost_lied(vtx->vhost, queue, vtx->tx.counters);
}

/* Whether the guest can post no more than is taken: a chain like the last one would not fit. */
static bool all_is_taken(const struct vu_tx *vtx)
{
	const struct vring *ring = &vtx->queue->ring;

	if (vtx->n_chains == VU_TX_CHAINS || vtx->n_iov + VRING_CHAIN_MAX > VU_TX_IOV)
		return true;
	return ring->taken + vtx->chains[vtx->n_chains - 1].n_slots > ring->setup.num;
}

enum vu_tx_room vu_tx_take(struct vu_tx *vtx, struct vu_tx_seg *seg, size_t need, bool wait)
{
	size_t got = 0;

	*seg = (struct vu_tx_seg){ .chain = vtx->n_chains, .iov = vtx->n_iov };
	while (got < need && vtx->n_chains < VU_TX_CHAINS &&
	       vtx->n_iov + VRING_CHAIN_MAX <= VU_TX_IOV) {
		struct vring_chain *chain = &vtx->chains[vtx->n_chains];
		int taken = vring_take(&vtx->queue->ring, true, chain, vtx->iov + vtx->n_iov);

		if (taken < 0) {
			lied(vtx);
			return VU_TX_NONE;
		}
		if (taken == 0) {
			if (wait && wait_for_guest(vtx))
				continue;
			break;
		}
		vtx->n_chains++;
		vtx->n_iov += chain->n_iov;
		got += chain->len;
		if (!mergeable(vtx))
			break;
	}
	seg->n_chains = vtx->n_chains - seg->chain;
	seg->n_iov = vtx->n_iov - seg->iov;
	if (got >= need)
		return VU_TX_FULL;
	return got ? VU_TX_LESS : VU_TX_NONE;
}

void vu_tx_no_room(struct vu_tx *vtx)
{
	if (vtx->queue && !vtx->tx.blocked)
		wait_for_guest(vtx);
	vtx->tx.blocked = true;
	forget_room(vtx);
	count_add(vtx->tx.counters, COUNT_TX_STALLS, 1);
}

bool vu_tx_short_for_good(struct vu_tx *vtx, const struct vu_tx_seg *seg)
{
	if (!vtx->queue || !seg->n_chains ||
	    (mergeable(vtx) ? !all_is_taken(vtx) : vtx->tx.blocked))
		return false;
	vtx->tx.blocked = false;
	return true;
}

bool vu_tx_too_big(struct vu_tx *vtx, struct vu_tx_seg *seg)
{
	if (!vu_tx_short_for_good(vtx, seg))
		return false;
	vu_tx_untake(vtx, seg->chain);
	vtx->n_iov = seg->iov;
	seg->n_chains = seg->n_iov = 0;
	return true;
}
