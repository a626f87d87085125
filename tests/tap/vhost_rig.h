/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The whole transport with a front-end in this process and shards that send every frame back. Where
 * shards read their own queues, the test plays their event loop; where the transport's thread
 * reads, it runs batches in place.
 */
#pragma once

#include "tools/vu_frontend.h"
#include "vhost.h"

#include "taploom/checksum.h"

#include <linux/virtio_config.h>
#include <linux/virtio_net.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#define NUM	256u
#define SHARDS	4u
#define BUFFERS (64u << 20)
#define TX_SLOT (72u << 10)
#define HDRS	(ETH_HEADER_LEN + 20 + 8)
#define VNET	12u
#define F(bit)	(1ull << (bit))
#define BASE	(F(VIRTIO_F_VERSION_1))
#define OFFLOADS                                                                                   \
	(F(VIRTIO_NET_F_CSUM) | F(VIRTIO_NET_F_GUEST_CSUM) | F(VIRTIO_NET_F_HOST_TSO4) |           \
	 F(VIRTIO_NET_F_GUEST_TSO4) | F(VIRTIO_NET_F_HOST_USO) | F(VIRTIO_NET_F_GUEST_USO4) |      \
	 F(VIRTIO_NET_F_GUEST_USO6))

struct shard {
	unsigned int id;
	struct counters counters;
	struct tx *tx;
	struct shard_source *sources[2 * MAX_QUEUES];
	bool burst; /* echo by bursts with segmentation, not by single frames */
	_Atomic unsigned int n_frames;
	_Atomic unsigned int n_wakes;
	struct ring ring;
};

struct control {
	_Atomic unsigned int n_frames, n_connected, n_gone;
};

struct rig {
	struct config config;
	struct control control;
	struct steering steering;
	struct runtime rt;
	struct shard shards[SHARDS];
	struct transport *transport;
	struct vfe fe;
	size_t rx_len; /* of each posted buffer */
	size_t vnet;   /* bytes of the header before each frame */
	unsigned int n_pairs;
	uint8_t got[FRAME_MAX + 1];
	struct virtio_net_hdr_v1 got_hdr;
};

/* The shards. */

/* Inside a shard; a test may be there already when it turns them. */
static pthread_mutex_t shard_lock = PTHREAD_RECURSIVE_MUTEX_INITIALIZER_NP;

int shard_add_source(struct shard *shard, struct shard_source *source)
{
	pthread_mutex_lock(&shard_lock);
	for (unsigned int i = 0; i < 2 * MAX_QUEUES; i++)
		if (!shard->sources[i]) {
			shard->sources[i] = source;
			break;
		}
	pthread_mutex_unlock(&shard_lock);
	return 0;
}

void shard_remove_source(struct shard *shard, struct shard_source *source)
{
	pthread_mutex_lock(&shard_lock);
	for (unsigned int i = 0; i < 2 * MAX_QUEUES; i++)
		if (shard->sources[i] == source)
			shard->sources[i] = NULL;
	pthread_mutex_unlock(&shard_lock);
}

struct counters *shard_counters(struct shard *shard)
{
	return &shard->counters;
}

struct tx *shard_tx(struct shard *shard)
{
	return shard->tx;
}

bool shard_try_enter(struct shard *shard)
{
	(void)shard;
	return true;
}

void shard_leave(struct shard *shard)
{
	tx_flush(shard->tx);
}

/* Pieces of a frame as one run of bytes. */
static inline void flatten(const struct frame *frame, uint8_t *to)
{
	memcpy(to, frame->data, frame->payload_off);
	to += frame->payload_off;
	for (uint32_t i = 0; i < frame->n_payload; i++) {
		memcpy(to, frame->payload[i].iov_base, frame->payload[i].iov_len);
		to += frame->payload[i].iov_len;
	}
}

static inline bool echo_burst(struct shard *shard, const struct frame *frame, const uint8_t *bytes)
{
	struct tx_burst burst;
	struct tx_offload offload = { .gso_type = VIRTIO_NET_HDR_GSO_UDP_L4,
				      .gso_size = 1000,
				      .hdr_len = HDRS,
				      .csum_start = 34,
				      .csum_offset = 6 };
	size_t left = frame->payload_len;

	if (!tx_burst_begin(shard->tx, &burst, frame->queue, HDRS, 1000, left,
			    VIRTIO_NET_HDR_GSO_UDP_L4) ||
	    burst.room < left)
		return false;
	bytes += HDRS;
	for (unsigned int i = 0; i < burst.n_iov && left; i++) {
		size_t n = left < burst.iov[i].iov_len ? left : burst.iov[i].iov_len;

		memcpy(burst.iov[i].iov_base, bytes, n);
		bytes += n;
		left -= n;
	}
	for (unsigned int i = 0; i < burst.n_segments; i++)
		memcpy(burst.hdr[i], frame->data, HDRS);
	if (!burst.gso)
		offload = (struct tx_offload){ 0 };
	tx_burst_commit(shard->tx, &burst, frame->payload_len, &offload);
	return true;
}

static inline bool echo(struct shard *shard, const struct frame *frame)
{
	static _Thread_local uint8_t bytes[FRAME_MAX];
	uint8_t *to;

	flatten(frame, bytes);
	if (shard->burst)
		return echo_burst(shard, frame, bytes);
	to = tx_frame_begin(shard->tx, frame->queue, frame->len);
	if (!to)
		return false;
	memcpy(to, bytes, frame->len);
	tx_frame_commit(shard->tx, frame->len, NULL);
	return true;
}

void shard_run_batch(struct shard *shard, struct batch *batch)
{
	for (struct frame *f = batch->first; f; f = f->next)
		shard->n_frames += echo(shard, f);
	batch_done(batch);
}

struct ring *shard_ring(struct shard *shard, unsigned int producer)
{
	(void)producer;
	return &shard->ring;
}

void shard_drain_ring(struct shard *shard, unsigned int producer)
{
	struct batch batch;

	(void)producer;
	while (ring_pop(&shard->ring, &batch))
		shard_run_batch(shard, &batch);
}

/* Nobody sleeps: a batch that was pushed is run at once, by the reader. */
void shard_wake(struct shard *shard, struct counters *waker)
{
	(void)waker;
	role_is_shard();
	shard_drain_ring(shard, 0);
	tx_flush(shard->tx);
}

void shard_wake_tx(struct shard *shard)
{
	atomic_fetch_add(&shard->n_wakes, 1);
}

void shards_reset_flows(struct runtime *rt)
{
	(void)rt;
}

enum drop control_post_frame(struct control *control, const struct frame *frame)
{
	(void)frame;
	atomic_fetch_add(&control->n_frames, 1);
	return DROP_NONE;
}

bool control_guest_address(struct control *control, const struct ip_addr *addr)
{
	(void)control;
	(void)addr;
	return true;
}

void control_guest_event(struct control *control, enum guest_event event)
{
	atomic_fetch_add(event == GUEST_GONE ? &control->n_gone : &control->n_connected, 1);
}

void control_wake_tx(struct control *control)
{
	(void)control;
}

/* One turn of the shards' event loops. Whether there was anything to do. */
static inline bool shards_turn(struct rig *rig)
{
	bool any = false;

	pthread_mutex_lock(&shard_lock);
	for (unsigned int s = 0; s < rig->rt.n_shards; s++)
		for (unsigned int i = 0; i < 2 * MAX_QUEUES; i++) {
			struct shard_source *source = rig->shards[s].sources[i];
			struct pollfd pfd = { source ? source->fd : -1, POLLIN, 0 };

			if (poll(&pfd, 1, 0) <= 0)
				continue;
			source->read(source, &rig->shards[s]);
			tx_flush(rig->shards[s].tx);
			any = true;
		}
	pthread_mutex_unlock(&shard_lock);
	return any;
}

/* The guest. */

static inline void rx_post(struct rig *rig, unsigned int ring)
{
	struct drv_ring *r = &rig->fe.rings[ring];
	size_t first = TX_SLOT * (size_t)rig->n_pairs;

	while (r->n_free) {
		uint32_t slot = r->free_head;
		uint8_t *at = rig->fe.mem + VFE_BUFFERS + first +
			      ((size_t)ring / 2 * NUM + slot) * rig->rx_len;
		struct drv_desc d = { vfe_guest(&rig->fe, at), (uint32_t)rig->rx_len, DRV_WRITE };

		assert_int_equal(drv_add(r, &d, 1), slot);
	}
	vfe_kick(&rig->fe, ring);
}

/* Starts the transport with n_shards, on a listening socket or with a connected one; -1: none. */
static inline struct rig *rig_make(unsigned int n_shards, size_t rx_len, int listen_fd, int fd)
{
	struct rig *rig = calloc(1, sizeof(*rig));

	rig->rt.config = &rig->config;
	rig->rt.control = &rig->control;
	rig->rt.steering_rcu = &rig->steering;
	rig->rt.n_shards = n_shards;
	rig->rx_len = rx_len;
	for (unsigned int i = 0; i < STEERING_BUCKETS; i++)
		rig->steering.shard[i] = (uint8_t)(i % n_shards);
	assert_int_equal(vhost_transport_new(&rig->transport, &rig->rt, listen_fd, fd, NULL), 0);
	assert_int_equal(rig->rt.n_readers, 1);
	for (unsigned int i = 0; i < n_shards; i++) {
		rig->shards[i].id = i;
		rig->rt.shards[i] = &rig->shards[i];
		rig->shards[i].tx = rig->transport->ops->tx(rig->transport, i);
	}
	assert_int_equal(rig->transport->ops->start(rig->transport), 0);
	return rig;
}

/* A guest with n_pairs, whose front-end has the other end of the connection. */
static inline void rig_join(struct rig *rig, int fd, uint64_t features, unsigned int n_pairs)
{
	rig->n_pairs = n_pairs;
	rig->vnet =
		features & (F(VIRTIO_F_VERSION_1) | F(VIRTIO_NET_F_MRG_RXBUF)) ? VNET : VNET - 2;
	assert_int_equal(vfe_open(&rig->fe, fd, BUFFERS), 0);
	assert_int_equal(vfe_negotiate(&rig->fe, features), 0);
	for (unsigned int i = 0; i < n_pairs; i++) {
		assert_int_equal(vfe_pair_start(&rig->fe, i, NUM), 0);
		rx_post(rig, 2 * i);
	}
}

/* Both. */
static inline struct rig *rig_new(uint64_t features, unsigned int n_shards, unsigned int n_pairs,
				  size_t rx_len)
{
	struct rig *rig;
	int fds[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
	rig = rig_make(n_shards, rx_len, -1, fds[0]);
	rig_join(rig, fds[1], features, n_pairs);
	return rig;
}

static inline void rig_free(struct rig *rig)
{
	vfe_close(&rig->fe);
	rig->transport->ops->stop(rig->transport);
	rig->transport->ops->free(rig->transport);
	free(rig);
}

/* A UDP datagram of len bytes in sum; the port tells flows apart. Returns its bytes behind the
 * header. */
static inline uint8_t *frame_make(struct rig *rig, unsigned int pair, uint16_t port, size_t len)
{
	uint8_t *hdr = rig->fe.mem + VFE_BUFFERS + TX_SLOT * (size_t)pair;
	uint8_t *f = hdr + rig->vnet;
	uint16_t sum;

	memset(hdr, 0, VNET + HDRS);
	f[0] = 2;
	f[6] = 4;
	f[12] = 8;
	f[14] = 0x45;
	store_be16(f + 16, (uint16_t)(len - ETH_HEADER_LEN));
	f[22] = 64;
	f[23] = IPPROTO_UDP;
	store_be32(f + 26, 0x0a000002);
	store_be32(f + 30, 0x08080808);
	sum = checksum_finish(checksum_add(0, f + 14, 20));
	memcpy(f + 24, &sum, 2);
	store_be16(f + 34, port);
	store_be16(f + 36, 4242);
	store_be16(f + 38, (uint16_t)(len - ETH_HEADER_LEN - 20));
	for (size_t i = HDRS; i < len; i++)
		f[i] = (uint8_t)(i * 7 + port + (i >> 8));
	return f;
}

/* Sends the frame in three pieces, cut at odd places. */
static inline void frame_send(struct rig *rig, unsigned int pair, const uint8_t *f, size_t len)
{
	const uint8_t *hdr = f - rig->vnet;
	size_t all = len + rig->vnet, cut = all / 3;
	struct drv_desc d[] = {
		{ vfe_guest(&rig->fe, hdr), (uint32_t)cut, 0 },
		{ vfe_guest(&rig->fe, hdr + cut), 7, 0 },
		{ vfe_guest(&rig->fe, hdr + cut + 7), (uint32_t)(all - cut - 7), 0 },
	};
	struct drv_ring *r = &rig->fe.rings[2 * pair + 1];

	if (rig->fe.features & F(VIRTIO_RING_F_INDIRECT_DESC)) {
		uint8_t *table = rig->fe.mem + VFE_BUFFERS + TX_SLOT * (size_t)pair + TX_SLOT - 64;
		struct drv_desc one = { vfe_guest(&rig->fe, table), 48, DRV_INDIRECT };

		drv_write_table(r, table, d, 3);
		assert_true(drv_add(r, &one, 1) >= 0);
	} else {
		assert_true(drv_add(r, d, 3) >= 0);
	}
	vfe_kick(&rig->fe, 2 * pair + 1);
}

/* Waits for a used chain, turning the shards meanwhile. */
static inline void wait_used(struct rig *rig, unsigned int ring, uint32_t *id, uint32_t *len)
{
	struct drv_ring *r = &rig->fe.rings[ring];

	for (;;) {
		struct pollfd pfd = { rig->fe.call[ring], POLLIN, 0 };

		drv_want_call(r, true);
		if (drv_used(r, id, len))
			return;
		if (!shards_turn(rig) && poll(&pfd, 1, -1) > 0)
			vhost_clear(pfd.fd);
	}
}

/* Receives one frame into rig->got, merging buffers as its header says. Returns its length. */
static inline size_t frame_receive(struct rig *rig, unsigned int pair)
{
	size_t first = TX_SLOT * (size_t)rig->n_pairs, at = 0;
	unsigned int n = 1;
	uint32_t id, len;

	for (unsigned int i = 0; i < n; i++) {
		const uint8_t *buf;
		size_t skip = i ? 0 : rig->vnet;

		wait_used(rig, 2 * pair, &id, &len);
		buf = rig->fe.mem + VFE_BUFFERS + first + ((size_t)pair * NUM + id) * rig->rx_len;
		if (i == 0)
			memcpy(&rig->got_hdr, buf, rig->vnet);
		n = rig->vnet == VNET ? rig->got_hdr.num_buffers : 1;
		assert_in_range(n, 1, NUM);
		assert_in_range(len, skip + 1, rig->rx_len);
		assert_true(at + len - skip <= FRAME_MAX);
		memcpy(rig->got + at, buf + skip, len - skip);
		at += len - skip;
	}
	rx_post(rig, 2 * pair);
	return at;
}

static inline void round_trip(struct rig *rig, unsigned int pair, uint16_t port, size_t len)
{
	uint8_t *f = frame_make(rig, pair, port, len);
	uint32_t id, used;

	frame_send(rig, pair, f, len);
	assert_int_equal(frame_receive(rig, pair), len);
	assert_memory_equal(rig->got, f, len);
	wait_used(rig, 2 * pair + 1, &id, &used);
	assert_int_equal(rig->fe.rings[2 * pair + 1].n_free, NUM);
}
