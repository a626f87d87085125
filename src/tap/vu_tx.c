/* SPDX-License-Identifier: Apache-2.0 */
#include "vhost.h"

_Static_assert(VU_TX_BOUNCE >= FRAME_MAX, "a frame fits the bounce room");

static uint8_t *frame_begin(struct tx *tx, uint16_t queue, size_t size)
{
	struct vu_tx *vtx = vu_tx_of(tx);

	if (size > FRAME_MAX || !vu_tx_enter(vtx, queue))
		return NULL;
	if (vu_tx_take(vtx, &vtx->segs[0], vtx->vnet_len + size, true) != VU_TX_FULL &&
	    !vu_tx_too_big(vtx, &vtx->segs[0])) {
		vu_tx_no_room(vtx);
		return NULL;
	}
	vtx->segs[0].bounce = NULL;
	return vtx->bounce;
}

static void frame_commit(struct tx *tx, size_t len, const struct tx_offload *offload)
{
	struct vu_tx *vtx = vu_tx_of(tx);
	unsigned int used = vu_tx_finish(vtx, &vtx->segs[0], vtx->bounce, len, len, offload);

	vu_tx_untake(vtx, used);
	vtx->n_chains = vtx->n_iov = 0;
}

static bool flush(struct tx *tx)
{
	struct vu_tx *vtx = vu_tx_of(tx);

	vu_tx_let_go(vtx);
	if (atomic_load_explicit(&vtx->woken, memory_order_relaxed) &&
	    atomic_exchange_explicit(&vtx->woken, false, memory_order_acquire))
		tx->blocked = false;
	return !tx->blocked;
}

static unsigned int caps(const struct tx *tx, uint16_t queue)
{
	(void)queue;
	return vhost_caps(((const struct vu_tx *)(const void *)tx)->vhost);
}

static const struct tx_ops vu_tx_ops = {
	.frame_begin = frame_begin,
	.frame_commit = frame_commit,
	.burst_begin = vu_tx_burst_begin,
	.burst_commit = vu_tx_burst_commit,
	.flush = flush,
	.caps = caps,
};

void vu_tx_init(struct vu_tx *vtx, struct vhost *vhost, unsigned int index)
{
	vtx->tx.ops = &vu_tx_ops;
	vtx->tx.by_queue = true;
	vtx->vhost = vhost;
	vtx->index = index;
}

void vu_tx_leave(struct tx *tx)
{
	vu_tx_let_go(vu_tx_of(tx));
}

void vu_tx_wake(struct vhost *vhost, unsigned int index)
{
	atomic_store_explicit(&vhost->txs[index].woken, true, memory_order_release);
	if (index < vhost->rt->n_shards)
		shard_wake_tx(vhost->rt->shards[index]);
	else
		control_wake_tx(vhost->rt->control);
}

void vu_tx_wake_all(struct vhost *vhost)
{
	for (unsigned int i = 0; i <= vhost->rt->n_shards; i++)
		vu_tx_wake(vhost, i);
}
