/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Bursts to a vhost-user guest: large segments for it to cut, or a run of its own size, received in
 * place.
 */
#include "vhost.h"

#define IP_LEN_MAX   65535u /* IPv4's total length; kept for IPv6 too */
#define GSO_SEGMENTS 8u	    /* large segments of a burst, as many as make half a megabyte */
#define USO_SEGMENTS 64u    /* what Linux cuts a UDP super-frame into (UDP_MAX_SEGMENTS) */

static const struct {
	uint8_t gso_type;
	uint8_t cap;
} gso_rules[] = {
	{ VIRTIO_NET_HDR_GSO_TCPV4, TX_TSO4 },
	{ VIRTIO_NET_HDR_GSO_TCPV6, TX_TSO6 },
	{ VIRTIO_NET_HDR_GSO_UDP_L4, TX_USO },
};

static size_t min_size(size_t a, size_t b)
{
	return a < b ? a : b;
}

static bool gso_taken(const struct vhost *vhost, uint8_t gso_type)
{
	uint8_t type = gso_type & (uint8_t)~VIRTIO_NET_HDR_GSO_ECN;

	for (size_t i = 0; i < sizeof(gso_rules) / sizeof(gso_rules[0]); i++)
		if (gso_rules[i].gso_type == type)
			return vhost_caps(vhost) & gso_rules[i].cap;
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
	enum vu_tx_room room =
		vu_tx_take(vtx, seg, vtx->vnet_len + burst->hdr_len + len, !vtx->n_segs);
	size_t got = room == VU_TX_NONE ? 0 : lay_out_gso(vtx, seg, burst, len), cut = 0;

	if (got < len && got >= burst->seg_len)
		cut = got % burst->seg_len;
	else if (got < len && vtx->n_segs)
		cut = got;
	shorten(burst, cut);
	if (got > cut)
		burst->hdr[vtx->n_segs] = vtx->hdrs[vtx->n_segs];
	else if (vtx->queue)
		vu_tx_untake(vtx, seg->chain);
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
		vu_tx_no_room(vtx);
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

	if (vu_tx_take(vtx, seg, hdrs + len, true) == VU_TX_FULL)
		return len;
	if (stream && i == 0 && bytes_of(vtx, seg) > hdrs && vu_tx_short_for_good(vtx, seg))
		return bytes_of(vtx, seg) - hdrs;
	if (i == 0 && vu_tx_too_big(vtx, seg))
		return len;
	if (vtx->queue) {
		vu_tx_untake(vtx, first);
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
		vu_tx_no_room(vtx);
		return false;
	}
	vtx->tx.blocked = false;
	burst->n_segments = burst->n_iov = vtx->n_segs = n;
	return true;
}

bool vu_tx_burst_begin(struct tx *tx, struct tx_burst *burst, uint16_t queue, size_t hdr_len,
		       size_t seg_len, size_t want, uint8_t gso_type)
{
	struct vu_tx *vtx = vu_tx_of(tx);

	if (!want || !seg_len || hdr_len > VU_TX_HDR || hdr_len + seg_len > FRAME_MAX ||
	    !vu_tx_enter(vtx, queue))
		return false;
	burst->hdr_len = hdr_len;
	burst->seg_len = seg_len;
	burst->queue = queue;
	burst->gso = gso_type && gso_taken(vtx->vhost, gso_type);
	if (burst->gso)
		return begin_gso(vtx, burst, want, gso_type);
	return begin_plain(vtx, burst, want, gso_type && !is_datagram(gso_type));
}

void vu_tx_burst_commit(struct tx *tx, struct tx_burst *burst, size_t len,
			const struct tx_offload *offload)
{
	struct vu_tx *vtx = vu_tx_of(tx);
	unsigned int used = 0;

	for (unsigned int i = 0; i < vtx->n_segs && len; i++) {
		size_t payload = min_size(len, burst->gso ? burst->gso_len : burst->iov[i].iov_len);

		used = vtx->segs[i].chain + vu_tx_finish(vtx, &vtx->segs[i], burst->hdr[i],
							 burst->hdr_len, burst->hdr_len + payload,
							 offload);
		len -= payload;
	}
	if (vtx->queue)
		vu_tx_untake(vtx, used);
	vtx->n_chains = vtx->n_iov = vtx->n_segs = 0;
}
