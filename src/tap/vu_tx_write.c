/* SPDX-License-Identifier: Apache-2.0 */
#include "vhost.h"

static size_t min_size(size_t a, size_t b)
{
	return a < b ? a : b;
}

/* Copies bytes to pieces of the guest's memory from offset off of the segment on. */
static void scatter(const struct vu_tx *vtx, const struct vu_tx_seg *seg, size_t off,
		    const void *bytes, size_t len)
{
	const uint8_t *from = bytes;

	for (unsigned int i = 0; i < seg->n_iov && len; i++) {
		const struct iovec *piece = &vtx->iov[seg->iov + i];
		size_t n;

		if (off >= piece->iov_len) {
			off -= piece->iov_len;
			continue;
		}
		n = min_size(len, piece->iov_len - off);
		memcpy((uint8_t *)piece->iov_base + off, from, n);
		from += n;
		len -= n;
		off = 0;
	}
}

static struct virtio_net_hdr_v1 vnet_header(const struct vu_tx *vtx, size_t payload_len,
					    const struct tx_offload *offload, uint16_t n_buffers)
{
	struct virtio_net_hdr_v1 hdr = { .num_buffers = n_buffers };

	if (offload && offload->csum_start) {
		hdr.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM;
		hdr.csum_start = offload->csum_start;
		hdr.csum_offset = offload->csum_offset;
	} else if (vu_tx_has(vtx, VIRTIO_NET_F_GUEST_CSUM)) {
		hdr.flags = VIRTIO_NET_HDR_F_DATA_VALID;
	}
	if (offload && offload->gso_type && payload_len > offload->gso_size) {
		hdr.gso_type = offload->gso_type;
		hdr.gso_size = offload->gso_size;
		hdr.hdr_len = offload->hdr_len;
	}
	return hdr;
}

static void log_written(const struct vu_tx *vtx, const struct vu_tx_seg *seg, size_t len)
{
	const struct vu_memory *memory = vtx->queue->ring.memory;

	if (!memory->logging)
		return;
	for (unsigned int i = 0; i < seg->n_iov && len; i++) {
		const struct iovec *piece = &vtx->iov[seg->iov + i];
		size_t n = min_size(len, piece->iov_len);

		vu_log_mark_ours(memory, piece->iov_base, n);
		len -= n;
	}
}

/* Chains of the segment that len bytes fill. */
static unsigned int chains_for(const struct vu_tx *vtx, const struct vu_tx_seg *seg, size_t len)
{
	unsigned int n = 0;

	for (size_t got = 0; got < len && n < seg->n_chains; n++)
		got += vtx->chains[seg->chain + n].len;
	return n;
}

static void put_chains(struct vu_tx *vtx, const struct vu_tx_seg *seg, unsigned int n, size_t len)
{
	for (unsigned int i = 0; i < n; i++) {
		const struct vring_chain *chain = &vtx->chains[seg->chain + i];
		size_t written = min_size(len, chain->len);

		vring_put(&vtx->queue->ring, chain, (uint32_t)written);
		len -= written;
	}
}

static void capture(const struct vu_tx *vtx, const struct vu_tx_seg *seg, size_t len)
{
	struct iovec iov[VRING_CHAIN_MAX];
	size_t skip = vtx->vnet_len;
	unsigned int n = 0;

	for (unsigned int i = 0; i < seg->n_iov && len && n < VRING_CHAIN_MAX; i++) {
		const struct iovec *piece = &vtx->iov[seg->iov + i];
		size_t off = min_size(skip, piece->iov_len);

		skip -= off;
		iov[n].iov_base = (uint8_t *)piece->iov_base + off;
		iov[n].iov_len = min_size(piece->iov_len - off, len);
		len -= iov[n].iov_len;
		n += iov[n].iov_len ? 1 : 0;
	}
	pcap_write(vtx->vhost->pcap, iov, n);
}

unsigned int vu_tx_finish(struct vu_tx *vtx, const struct vu_tx_seg *seg, const uint8_t *hdr,
			  size_t hdr_len, size_t len, const struct tx_offload *offload)
{
	size_t vnet_len = vtx->vnet_len;
	unsigned int n = chains_for(vtx, seg, vnet_len + len);
	size_t all_hdr = offload && offload->hdr_len ? offload->hdr_len : hdr_len;
	struct virtio_net_hdr_v1 vnet =
		vnet_header(vtx, len > all_hdr ? len - all_hdr : 0, offload, (uint16_t)n);

	if (!seg->n_chains) {
		count_drop(vtx->tx.counters, DROP_TX_TOO_BIG);
		return 0;
	}
	scatter(vtx, seg, 0, &vnet, vnet_len);
	scatter(vtx, seg, vnet_len, hdr, hdr_len);
	if (seg->bounce)
		scatter(vtx, seg, vnet_len + hdr_len, seg->bounce, len - hdr_len);
	log_written(vtx, seg, vnet_len + len);
	if (vtx->vhost->pcap)
		capture(vtx, seg, len);
	put_chains(vtx, seg, n, vnet_len + len);
	count_add(vtx->tx.counters, COUNT_TX_FRAMES, 1);
	count_add(vtx->tx.counters, COUNT_TX_BYTES, len);
	return n;
}
