/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Transmit batches of the tun transport. A tap device has no system call that takes several frames,
 * so each frame is written when it is committed: it is in the cache then, order is kept without a
 * list, and nothing waits for the flush. The kernel runs its receive path inside the write and has
 * no queue that could be full, so a batch never blocks; what the device refuses is counted.
 *
 * A thread always writes on the queue that it reads: the kernel sends what the guest says next for
 * that flow to the same queue.
 */
#include "tun.h"

#include <errno.h>
#include <linux/if_tun.h>
#include <unistd.h>

#ifndef TUN_F_USO4
#define TUN_F_USO4 0x20
#define TUN_F_USO6 0x40
#endif
#ifndef VIRTIO_NET_HDR_GSO_UDP_L4
#define VIRTIO_NET_HDR_GSO_UDP_L4 5
#endif

#define IP_LEN_MAX   65535u /* IPv4's total length; kept for IPv6 too */
#define USO_SEGMENTS 64	    /* what every kernel cuts a UDP super-frame into (UDP_MAX_SEGMENTS) */
#define SLOT_ALIGN   16
#define BURST_ROOM   (256u << 10) /* payload and headers of a burst without segmentation */

struct tun_tx {
	struct tx tx; /* first: what shards hold */
	struct tun_transport *tun;
	const struct tun_queue *queue;
	unsigned int caps;   /* enum tx_caps: constant for a tap device */
	size_t slot_size;    /* of the burst under way */
	uint8_t *frame_room; /* header, then the frame */
	uint8_t *burst_room; /* slots of header, frame header and payload */
};

static const struct {
	unsigned int accepted; /* all of TUN_F_* */
	unsigned int cap;
} cap_rules[] = {
	{ TUN_F_CSUM, TX_CSUM },
	{ TUN_F_TSO4, TX_TSO4 },
	{ TUN_F_TSO6, TX_TSO6 },
	{ TUN_F_TSO_ECN, TX_ECN },
	{ TUN_F_USO4 | TUN_F_USO6, TX_USO },
};

static const unsigned int gso_cap[] = {
	[VIRTIO_NET_HDR_GSO_TCPV4] = TX_TSO4,
	[VIRTIO_NET_HDR_GSO_TCPV6] = TX_TSO6,
	[VIRTIO_NET_HDR_GSO_UDP_L4] = TX_USO,
};

/* What a write to a tap device can say; whatever is not here is DROP_TX_ERROR. */
static const struct {
	int error;
	enum drop drop;
} write_errors[] = {
	{ EIO, DROP_TX_NO_GUEST },	/* the interface is down */
	{ EBADFD, DROP_TX_NO_GUEST },	/* the device is gone */
	{ ENOTCONN, DROP_TX_NO_GUEST }, /* likewise, once its reader has seen that */
	{ EAGAIN,
	  DROP_TX_BLOCKED }, /* the device's send buffer, without limit unless somebody set it */
	{ EMSGSIZE, DROP_TX_TOO_BIG },
};

static enum drop drop_of(int error)
{
	for (size_t i = 0; i < sizeof(write_errors) / sizeof(write_errors[0]); i++)
		if (write_errors[i].error == error)
			return write_errors[i].drop;
	return DROP_TX_ERROR;
}

static struct tun_tx *tun_tx_from(struct tx *tx)
{
	return (struct tun_tx *)(void *)tx;
}

static void put_header(uint8_t *at, size_t payload_len, const struct tx_offload *offload)
{
	struct virtio_net_hdr hdr = { 0 };

	if (offload && offload->csum_start) {
		hdr.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM;
		hdr.csum_start = offload->csum_start;
		hdr.csum_offset = offload->csum_offset;
	}
	if (offload && offload->gso_type && payload_len > offload->gso_size) {
		hdr.gso_type = offload->gso_type;
		hdr.gso_size = offload->gso_size;
		hdr.hdr_len = offload->hdr_len;
	}
	memcpy(at, &hdr, sizeof(hdr));
}

static void frame_write(struct tun_tx *tt, const uint8_t *at, size_t len)
{
	struct iovec frame = { (void *)(uintptr_t)(at + TUN_HDR_LEN), len };
	ssize_t written = write(tt->queue->source.fd, at, TUN_HDR_LEN + len);

	count_add(tt->tx.counters, COUNT_TX_FLUSHES, 1);
	if (written != (ssize_t)(TUN_HDR_LEN + len)) {
		count_drop(tt->tx.counters, written < 0 ? drop_of(errno) : DROP_TX_ERROR);
		return;
	}
	count_add(tt->tx.counters, COUNT_TX_FRAMES, 1);
	count_add(tt->tx.counters, COUNT_TX_BYTES, len);
	if (tt->tun->pcap)
		pcap_write(tt->tun->pcap, &frame, 1);
}

static uint8_t *frame_begin(struct tx *tx, uint16_t queue, size_t size)
{
	struct tun_tx *tt = tun_tx_from(tx);

	(void)queue;
	return size <= FRAME_MAX ? tt->frame_room + TUN_HDR_LEN : NULL;
}

static void frame_commit(struct tx *tx, size_t len, const struct tx_offload *offload)
{
	struct tun_tx *tt = tun_tx_from(tx);

	put_header(tt->frame_room, offload ? len - offload->hdr_len : len, offload);
	frame_write(tt, tt->frame_room, len);
}

static size_t min_size(size_t a, size_t b)
{
	return a < b ? a : b;
}

static bool gso_taken(const struct tun_tx *tt, uint8_t gso_type)
{
	unsigned int type = gso_type & (unsigned int)~VIRTIO_NET_HDR_GSO_ECN;

	return type < sizeof(gso_cap) / sizeof(gso_cap[0]) && (tt->caps & gso_cap[type]) != 0;
}

/* One segment for the guest's kernel to cut; whole segments only, so that no short one is in the
 * middle. */
static size_t gso_room(size_t hdr_len, size_t seg_len, uint8_t gso_type)
{
	size_t room = IP_LEN_MAX - (hdr_len - ETH_HEADER_LEN);

	if ((gso_type & ~VIRTIO_NET_HDR_GSO_ECN) == VIRTIO_NET_HDR_GSO_UDP_L4)
		room = min_size(room, USO_SEGMENTS * seg_len);
	return room >= seg_len ? room / seg_len * seg_len : room;
}

static void burst_lay_out(struct tun_tx *tt, struct tx_burst *burst, size_t room)
{
	size_t per_slot = burst->gso ? room : burst->seg_len;

	tt->slot_size = (TUN_HDR_LEN + burst->hdr_len + per_slot + SLOT_ALIGN - 1) &
			~(size_t)(SLOT_ALIGN - 1);
	burst->n_segments = 0;
	burst->room = 0;
	while (burst->room < room && burst->n_segments < TX_BURST_SEGMENTS &&
	       (burst->n_segments + 1) * tt->slot_size <= BURST_ROOM) {
		uint8_t *slot = tt->burst_room + burst->n_segments * tt->slot_size;
		struct iovec *iov = &burst->iov[burst->n_segments];

		burst->hdr[burst->n_segments++] = slot + TUN_HDR_LEN;
		iov->iov_base = slot + TUN_HDR_LEN + burst->hdr_len;
		iov->iov_len = min_size(per_slot, room - burst->room);
		burst->room += iov->iov_len;
	}
	burst->n_iov = burst->n_segments;
}

static bool burst_begin(struct tx *tx, struct tx_burst *burst, uint16_t queue, size_t hdr_len,
			size_t seg_len, size_t want, uint8_t gso_type)
{
	struct tun_tx *tt = tun_tx_from(tx);
	size_t room = want;

	if (want == 0 || seg_len == 0 || hdr_len + seg_len > FRAME_MAX)
		return false;
	burst->hdr_len = hdr_len;
	burst->seg_len = seg_len;
	burst->queue = queue;
	burst->gso = gso_type && gso_taken(tt, gso_type);
	if (burst->gso)
		room = burst->gso_len = min_size(want, gso_room(hdr_len, seg_len, gso_type));
	burst_lay_out(tt, burst, room);
	return burst->n_segments > 0;
}

static void burst_commit(struct tx *tx, struct tx_burst *burst, size_t len,
			 const struct tx_offload *offload)
{
	struct tun_tx *tt = tun_tx_from(tx);

	for (unsigned int i = 0; len > 0 && i < burst->n_segments; i++) {
		size_t payload = min_size(len, burst->iov[i].iov_len);
		uint8_t *slot = tt->burst_room + i * tt->slot_size;

		put_header(slot, payload, offload);
		frame_write(tt, slot, burst->hdr_len + payload);
		len -= payload;
	}
}

static bool flush(struct tx *tx)
{
	(void)tx;
	return true;
}

static unsigned int caps(const struct tx *tx, uint16_t queue)
{
	(void)queue;
	return ((const struct tun_tx *)(const void *)tx)->caps;
}

static const struct tx_ops tun_tx_ops = {
	.frame_begin = frame_begin,
	.frame_commit = frame_commit,
	.burst_begin = burst_begin,
	.burst_commit = burst_commit,
	.flush = flush,
	.caps = caps,
};

size_t tun_tx_size(void)
{
	return sizeof(struct tun_tx);
}

size_t tun_tx_room(void)
{
	return BURST_ROOM + ((TUN_FRAME_ROOM + 4095u) & ~4095u);
}

void tun_tx_init(struct tun_transport *tun, unsigned int index, uint8_t *room)
{
	struct tun_tx *tt = &tun->txs[index];

	tt->tx.ops = &tun_tx_ops;
	tt->tx.counters = &tun->control_counters; /* a shard puts its own in this place */
	tt->tun = tun;
	tt->queue = &tun->queues[index == tun->rt->n_shards ? 0 : index % tun->n_queues];
	tt->burst_room = room;
	tt->frame_room = room + BURST_ROOM;
	for (size_t i = 0; i < sizeof(cap_rules) / sizeof(cap_rules[0]); i++)
		if ((tun->offloads & cap_rules[i].accepted) == cap_rules[i].accepted)
			tt->caps |= cap_rules[i].cap;
}

struct tx *tun_tx_of(struct tun_transport *tun, unsigned int index)
{
	return &tun->txs[index].tx;
}
