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
#include "vhost.h"

#include <linux/virtio_config.h>
#include <linux/virtio_net.h>

#define IP_LEN_MAX   65535u /* IPv4's total length; kept for IPv6 too */
#define GSO_SEGMENTS 8u	    /* large segments of a burst, as many as make half a megabyte */
#define USO_SEGMENTS 64u    /* what Linux cuts a UDP super-frame into (UDP_MAX_SEGMENTS) */

_Static_assert(VU_TX_BOUNCE >= FRAME_MAX, "a frame fits the bounce room");

static const struct {
	uint8_t gso_type;
	uint8_t cap;
} gso_rules[] = {
	{ VIRTIO_NET_HDR_GSO_TCPV4, TX_TSO4 },
	{ VIRTIO_NET_HDR_GSO_TCPV6, TX_TSO6 },
	{ VIRTIO_NET_HDR_GSO_UDP_L4, TX_USO },
};

static struct vu_tx *vu_tx_of(struct tx *tx)
{
	return (struct vu_tx *)(void *)tx;
}

static size_t min_size(size_t a, size_t b)
{
	return a < b ? a : b;
}

static bool has(const struct vu_tx *vtx, unsigned int feature)
{
	return vtx->queue->features & VU_FEATURE(feature);
}

static bool mergeable(const struct vu_tx *vtx)
{
	return has(vtx, VIRTIO_NET_F_MRG_RXBUF);
}

/* Room */

/* Takes back what is taken but was not committed. */
static void untake_from(struct vu_tx *vtx, unsigned int first)
{
	while (vtx->n_chains > first)
		vring_untake(&vtx->queue->ring, &vtx->chains[--vtx->n_chains]);
}

static void forget_room(struct vu_tx *vtx)
{
	if (vtx->queue)
		untake_from(vtx, 0);
	vtx->n_chains = vtx->n_iov = vtx->n_segs = 0;
}

/* Lets go of the queue: the guest sees what was put, and is called if it wants that. */
static void leave(struct vu_tx *vtx)
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

/* Enters the queue for a frame. False: no guest is there; whoever waits is woken when one is. */
static bool enter(struct vu_tx *vtx, uint16_t wanted)
{
	struct vu_queue *queue;
	unsigned int pair;

	forget_room(vtx);
	vtx->tx.blocked = false;
	if (!pick_pair(vtx->vhost, wanted, &pair)) {
		leave(vtx);
		vtx->tx.blocked = true;
		return false;
	}
	queue = &vtx->vhost->device.queues[2 * pair];
	if (queue == vtx->queue)
		return true;
	leave(vtx);
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

/* The ring is empty: asks for a kick. Whether it was needless, as there are buffers again. */
static bool wait_for_guest(struct vu_tx *vtx)
{
	struct vu_queue *queue = vtx->queue;

	vring_want_kick(&queue->ring, true);
	if (vring_has_more(&queue->ring)) {
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
	leave(vtx);
	vtx->tx.blocked = true; /* until the device is set up anew */
	vhost_lied(vtx->vhost, queue, vtx->tx.counters);
}

enum room { ROOM_FULL, ROOM_LESS, ROOM_NONE };

/* Whether the guest can post no more than is taken: a chain like the last one would not fit. */
static bool all_is_taken(const struct vu_tx *vtx)
{
	const struct vring *ring = &vtx->queue->ring;

	if (vtx->n_chains == VU_TX_CHAINS || vtx->n_iov + VRING_CHAIN_MAX > VU_TX_IOV)
		return true;
	return ring->taken + vtx->chains[vtx->n_chains - 1].n_slots > ring->setup.num;
}

/*
 * Takes chains for one segment of need bytes, its headers included; as many as it takes if they can
 * be merged, else one. ROOM_LESS: the guest has fewer bytes than that now, or gave a chain that is
 * too short. wait: a kick is asked for if the ring is empty.
 */
static enum room take_segment(struct vu_tx *vtx, struct vu_tx_seg *seg, size_t need, bool wait)
{
	size_t got = 0;

	*seg = (struct vu_tx_seg){ .chain = vtx->n_chains, .iov = vtx->n_iov };
	while (got < need && vtx->n_chains < VU_TX_CHAINS &&
	       vtx->n_iov + VRING_CHAIN_MAX <= VU_TX_IOV) {
		struct vring_chain *chain = &vtx->chains[vtx->n_chains];
		int taken = vring_take(&vtx->queue->ring, true, chain, vtx->iov + vtx->n_iov);

		if (taken < 0) {
			lied(vtx);
			return ROOM_NONE;
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
		return ROOM_FULL;
	return got ? ROOM_LESS : ROOM_NONE;
}

/* No room for a frame. Whoever wants to send one waits for the guest. */
static void no_room(struct vu_tx *vtx)
{
	if (vtx->queue && !vtx->tx.blocked)
		wait_for_guest(vtx);
	vtx->tx.blocked = true;
	forget_room(vtx);
	count_add(vtx->tx.counters, COUNT_TX_STALLS, 1);
}

/*
 * Whether the first segment failed as the guest's buffers are too short for it, now and later: they
 * can't be merged, or the ring holds no more of them. To wait would be for ever.
 */
static bool short_for_good(struct vu_tx *vtx, const struct vu_tx_seg *seg)
{
	if (!vtx->queue || !seg->n_chains ||
	    (mergeable(vtx) ? !all_is_taken(vtx) : vtx->tx.blocked))
		return false;
	vtx->tx.blocked = false;
	return true;
}

/* A frame too long for the guest is written to private memory, and dropped at its commit. */
static bool too_big(struct vu_tx *vtx, struct vu_tx_seg *seg)
{
	if (!short_for_good(vtx, seg))
		return false;
	untake_from(vtx, seg->chain);
	vtx->n_iov = seg->iov;
	seg->n_chains = seg->n_iov = 0;
	return true;
}

/* Writing */

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
	} else if (has(vtx, VIRTIO_NET_F_GUEST_CSUM)) {
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

/*
 * Completes a segment: len bytes of frame, of which hdr_len stand in hdr and the rest either in
 * place or in seg->bounce, and puts its chains. Returns the number of chains used.
 */
static unsigned int finish_segment(struct vu_tx *vtx, const struct vu_tx_seg *seg,
				   const uint8_t *hdr, size_t hdr_len, size_t len,
				   const struct tx_offload *offload)
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

/* Single frames */

static uint8_t *frame_begin(struct tx *tx, uint16_t queue, size_t size)
{
	struct vu_tx *vtx = vu_tx_of(tx);

	if (size > FRAME_MAX || !enter(vtx, queue))
		return NULL;
	if (take_segment(vtx, &vtx->segs[0], vtx->vnet_len + size, true) != ROOM_FULL &&
	    !too_big(vtx, &vtx->segs[0])) {
		no_room(vtx);
		return NULL;
	}
	vtx->segs[0].bounce = NULL;
	return vtx->bounce;
}

static void frame_commit(struct tx *tx, size_t len, const struct tx_offload *offload)
{
	struct vu_tx *vtx = vu_tx_of(tx);
	unsigned int used = finish_segment(vtx, &vtx->segs[0], vtx->bounce, len, len, offload);

	untake_from(vtx, used);
	vtx->n_chains = vtx->n_iov = 0;
}

/* Bursts */

static unsigned int caps_now(const struct vhost *vhost)
{
	return atomic_load_explicit(&vhost->caps, memory_order_relaxed);
}

static bool gso_taken(const struct vhost *vhost, uint8_t gso_type)
{
	uint8_t type = gso_type & (uint8_t)~VIRTIO_NET_HDR_GSO_ECN;

	for (size_t i = 0; i < sizeof(gso_rules) / sizeof(gso_rules[0]); i++)
		if (gso_rules[i].gso_type == type)
			return caps_now(vhost) & gso_rules[i].cap;
	return false;
}

static bool is_datagram(uint8_t gso_type)
{
	return (gso_type & ~VIRTIO_NET_HDR_GSO_ECN) == VIRTIO_NET_HDR_GSO_UDP_L4;
}

/* Payload of one frame for the guest to cut; whole segments, so that no short one is in the middle
 * of a stream. */
static size_t gso_room(const struct tx_burst *burst, uint8_t gso_type)
{
	size_t room = IP_LEN_MAX - (burst->hdr_len - ETH_HEADER_LEN);

	if (is_datagram(gso_type))
		room = min_size(room, USO_SEGMENTS * burst->seg_len);
	return room >= burst->seg_len ? room / burst->seg_len * burst->seg_len : room;
}

/* Adds the pieces of the guest's memory behind the headers, up to room bytes. Returns the bytes. */
static size_t lay_out_gso(const struct vu_tx *vtx, const struct vu_tx_seg *seg,
			  struct tx_burst *burst, size_t room)
{
	size_t skip = vtx->vnet_len + burst->hdr_len, got = 0;

	for (unsigned int i = 0; i < seg->n_iov && got < room && burst->n_iov < TX_BURST_IOV; i++) {
		const struct iovec *piece = &vtx->iov[seg->iov + i];
		size_t off = min_size(skip, piece->iov_len);
		size_t len = min_size(piece->iov_len - off, room - got);

		skip -= off;
		if (!len)
			continue;
		burst->iov[burst->n_iov++] =
			(struct iovec){ (uint8_t *)piece->iov_base + off, len };
		got += len;
	}
	return got;
}

/* Takes len bytes off the last pieces. */
static void shorten(struct tx_burst *burst, size_t len)
{
	while (len) {
		struct iovec *last = &burst->iov[burst->n_iov - 1];
		size_t part = min_size(len, last->iov_len);

		last->iov_len -= part;
		len -= part;
		burst->n_iov -= last->iov_len ? 0 : 1;
	}
}

/*
 * Room for one more large segment of up to len bytes; less in whole segments if there are any. Only
 * the first waits for the guest. Returns the bytes, 0 if there is no room.
 */
static size_t begin_large(struct vu_tx *vtx, struct tx_burst *burst, size_t len)
{
	struct vu_tx_seg *seg = &vtx->segs[vtx->n_segs];
	enum room room = take_segment(vtx, seg, vtx->vnet_len + burst->hdr_len + len, !vtx->n_segs);
	size_t got = room == ROOM_NONE ? 0 : lay_out_gso(vtx, seg, burst, len), cut = 0;

	if (got < len && got >= burst->seg_len)
		cut = got % burst->seg_len;
	else if (got < len && vtx->n_segs)
		cut = got;
	shorten(burst, cut);
	if (got > cut)
		burst->hdr[vtx->n_segs] = vtx->hdrs[vtx->n_segs];
	else if (vtx->queue)
		untake_from(vtx, seg->chain);
	vtx->n_segs += got > cut;
	return got - cut;
}

static bool begin_gso(struct vu_tx *vtx, struct tx_burst *burst, size_t want, uint8_t gso_type)
{
	burst->gso_len = gso_room(burst, gso_type);
	burst->n_iov = 0;
	burst->room = 0;
	while (burst->room < want && vtx->n_segs < GSO_SEGMENTS) {
		size_t len = min_size(burst->gso_len, want - burst->room);
		size_t got = begin_large(vtx, burst, len);

		burst->room += got;
		if (got < len)
			break;
	}
	if (!vtx->queue || !burst->room) { /* a lie of the ring takes all with it */
		no_room(vtx);
		return false;
	}
	vtx->tx.blocked = false;
	burst->n_segments = vtx->n_segs;
	return true;
}

/* Where a segment's payload is received: in place if one piece holds all of it. */
static uint8_t *segment_room(struct vu_tx *vtx, struct vu_tx_seg *seg, size_t hdrs, size_t seg_len,
			     unsigned int i)
{
	const struct iovec *piece = &vtx->iov[seg->iov];

	if (seg->n_iov && piece->iov_len >= hdrs + seg_len)
		return (uint8_t *)piece->iov_base + hdrs;
	seg->bounce = vtx->bounce + i * seg_len;
	return seg->bounce;
}

static size_t bytes_of(const struct vu_tx *vtx, const struct vu_tx_seg *seg)
{
	size_t len = 0;

	for (unsigned int i = 0; i < seg->n_chains; i++)
		len += vtx->chains[seg->chain + i].len;
	return len;
}

/*
 * One segment of a burst without segmentation, of up to len bytes of payload. A guest whose buffers
 * are shorter gets shorter segments of a TCP stream, but never a part of a datagram. Returns the
 * bytes that there is room for.
 */
static size_t begin_segment(struct vu_tx *vtx, const struct tx_burst *burst, unsigned int i,
			    size_t len, bool stream)
{
	size_t hdrs = vtx->vnet_len + burst->hdr_len;
	struct vu_tx_seg *seg = &vtx->segs[i];
	unsigned int first = vtx->n_chains;

	if (take_segment(vtx, seg, hdrs + len, true) == ROOM_FULL)
		return len;
	if (stream && i == 0 && bytes_of(vtx, seg) > hdrs && short_for_good(vtx, seg))
		return bytes_of(vtx, seg) - hdrs;
	if (i == 0 && too_big(vtx, seg))
		return len;
	if (vtx->queue) {
		untake_from(vtx, first);
		vtx->n_iov = seg->iov;
	}
	return 0;
}

static bool begin_plain(struct vu_tx *vtx, struct tx_burst *burst, size_t want, bool stream)
{
	size_t hdrs = vtx->vnet_len + burst->hdr_len;
	unsigned int n = 0;

	burst->room = 0;
	while (n < TX_BURST_SEGMENTS && burst->room < want &&
	       (n + 1) * burst->seg_len <= VU_TX_BOUNCE) {
		size_t len = min_size(burst->seg_len, want - burst->room);
		size_t got = begin_segment(vtx, burst, n, len, stream);

		if (!got)
			break;
		burst->hdr[n] = vtx->hdrs[n];
		burst->iov[n].iov_base = segment_room(vtx, &vtx->segs[n], hdrs, burst->seg_len, n);
		burst->iov[n++].iov_len = got;
		burst->room += got;
		if (got < len || !vtx->segs[n - 1].n_chains)
			break; /* a run must be of equal segments */
	}
	if (!n || !vtx->queue) {
		no_room(vtx);
		return false;
	}
	vtx->tx.blocked = false;
	burst->n_segments = burst->n_iov = vtx->n_segs = n;
	return true;
}

static bool burst_begin(struct tx *tx, struct tx_burst *burst, uint16_t queue, size_t hdr_len,
			size_t seg_len, size_t want, uint8_t gso_type)
{
	struct vu_tx *vtx = vu_tx_of(tx);

	if (!want || !seg_len || hdr_len > VU_TX_HDR || hdr_len + seg_len > FRAME_MAX ||
	    !enter(vtx, queue))
		return false;
	burst->hdr_len = hdr_len;
	burst->seg_len = seg_len;
	burst->queue = queue;
	burst->gso = gso_type && gso_taken(vtx->vhost, gso_type);
	if (burst->gso)
		return begin_gso(vtx, burst, want, gso_type);
	return begin_plain(vtx, burst, want, gso_type && !is_datagram(gso_type));
}

static void burst_commit(struct tx *tx, struct tx_burst *burst, size_t len,
			 const struct tx_offload *offload)
{
	struct vu_tx *vtx = vu_tx_of(tx);
	unsigned int used = 0;

	for (unsigned int i = 0; i < vtx->n_segs && len; i++) {
		size_t payload = min_size(len, burst->gso ? burst->gso_len : burst->iov[i].iov_len);

		used = vtx->segs[i].chain + finish_segment(vtx, &vtx->segs[i], burst->hdr[i],
							   burst->hdr_len, burst->hdr_len + payload,
							   offload);
		len -= payload;
	}
	if (vtx->queue)
		untake_from(vtx, used);
	vtx->n_chains = vtx->n_iov = vtx->n_segs = 0;
}

static bool flush(struct tx *tx)
{
	struct vu_tx *vtx = vu_tx_of(tx);

	leave(vtx);
	if (atomic_load_explicit(&vtx->woken, memory_order_relaxed) &&
	    atomic_exchange_explicit(&vtx->woken, false, memory_order_acquire))
		tx->blocked = false;
	return !tx->blocked;
}

static unsigned int caps(const struct tx *tx, uint16_t queue)
{
	(void)queue;
	return caps_now(((const struct vu_tx *)(const void *)tx)->vhost);
}

static const struct tx_ops vu_tx_ops = {
	.frame_begin = frame_begin,
	.frame_commit = frame_commit,
	.burst_begin = burst_begin,
	.burst_commit = burst_commit,
	.flush = flush,
	.caps = caps,
};

void vu_tx_init(struct vu_tx *vtx, struct vhost *vhost, unsigned int index)
{
	vtx->tx.ops = &vu_tx_ops;
	vtx->vhost = vhost;
	vtx->index = index;
}

void vu_tx_leave(struct tx *tx)
{
	leave(vu_tx_of(tx));
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
