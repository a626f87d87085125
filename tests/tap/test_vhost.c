/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The whole transport with a front-end in this process and shards that send every frame back. Where
 * shards read their own queues, the test plays their event loop; where the transport's thread
 * reads, it runs batches in place.
 */
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
static void flatten(const struct frame *frame, uint8_t *to)
{
	memcpy(to, frame->data, frame->payload_off);
	to += frame->payload_off;
	for (uint32_t i = 0; i < frame->n_payload; i++) {
		memcpy(to, frame->payload[i].iov_base, frame->payload[i].iov_len);
		to += frame->payload[i].iov_len;
	}
}

static bool echo_burst(struct shard *shard, const struct frame *frame, const uint8_t *bytes)
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

static bool echo(struct shard *shard, const struct frame *frame)
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

void control_guest_address(struct control *control, const struct ip_addr *addr)
{
	(void)control;
	(void)addr;
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
static bool shards_turn(struct rig *rig)
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

static void rx_post(struct rig *rig, unsigned int ring)
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

/* Starts the transport with n_shards, and a guest with n_pairs. */
static struct rig *rig_new(uint64_t features, unsigned int n_shards, unsigned int n_pairs,
			   size_t rx_len)
{
	struct rig *rig = calloc(1, sizeof(*rig));
	int fds[2];

	rig->rt.config = &rig->config;
	rig->rt.control = &rig->control;
	rig->rt.steering_rcu = &rig->steering;
	rig->rt.n_shards = n_shards;
	rig->rx_len = rx_len;
	rig->n_pairs = n_pairs;
	for (unsigned int i = 0; i < STEERING_BUCKETS; i++)
		rig->steering.shard[i] = (uint8_t)(i % n_shards);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
	assert_int_equal(vhost_transport_new(&rig->transport, &rig->rt, -1, fds[0], NULL), 0);
	assert_int_equal(rig->rt.n_readers, 1);
	for (unsigned int i = 0; i < n_shards; i++) {
		rig->shards[i].id = i;
		rig->rt.shards[i] = &rig->shards[i];
		rig->shards[i].tx = rig->transport->ops->tx(rig->transport, i);
	}
	assert_int_equal(rig->transport->ops->start(rig->transport), 0);
	assert_int_equal(vfe_open(&rig->fe, fds[1], BUFFERS), 0);
	assert_int_equal(vfe_negotiate(&rig->fe, features), 0);
	for (unsigned int i = 0; i < n_pairs; i++) {
		assert_int_equal(vfe_pair_start(&rig->fe, i, NUM), 0);
		rx_post(rig, 2 * i);
	}
	return rig;
}

static void rig_free(struct rig *rig)
{
	vfe_close(&rig->fe);
	rig->transport->ops->stop(rig->transport);
	rig->transport->ops->free(rig->transport);
	free(rig);
}

/* A UDP datagram of len bytes in sum; the port tells flows apart. Returns its bytes behind the
 * header. */
static uint8_t *frame_make(struct rig *rig, unsigned int pair, uint16_t port, size_t len)
{
	uint8_t *hdr = rig->fe.mem + VFE_BUFFERS + TX_SLOT * (size_t)pair;
	uint8_t *f = hdr + VNET;
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
static void frame_send(struct rig *rig, unsigned int pair, const uint8_t *f, size_t len)
{
	const uint8_t *hdr = f - VNET;
	size_t all = len + VNET, cut = all / 3;
	struct drv_desc d[] = {
		{ vfe_guest(&rig->fe, hdr), (uint32_t)cut, 0 },
		{ vfe_guest(&rig->fe, hdr + cut), 7, 0 },
		{ vfe_guest(&rig->fe, hdr + cut + 7), (uint32_t)(all - cut - 7), 0 },
	};
	struct drv_ring *r = &rig->fe.rings[2 * pair + 1];

	assert_true(drv_add(r, d, 3) >= 0);
	vfe_kick(&rig->fe, 2 * pair + 1);
}

/* Waits for a used chain, turning the shards meanwhile. */
static void wait_used(struct rig *rig, unsigned int ring, uint32_t *id, uint32_t *len)
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
static size_t frame_receive(struct rig *rig, unsigned int pair)
{
	size_t first = TX_SLOT * (size_t)rig->n_pairs, at = 0;
	unsigned int n = 1;
	uint32_t id, len;

	for (unsigned int i = 0; i < n; i++) {
		const uint8_t *buf;
		size_t skip = i ? 0 : VNET;

		wait_used(rig, 2 * pair, &id, &len);
		buf = rig->fe.mem + VFE_BUFFERS + first + ((size_t)pair * NUM + id) * rig->rx_len;
		if (i == 0)
			memcpy(&rig->got_hdr, buf, VNET);
		n = rig->got_hdr.num_buffers;
		assert_in_range(n, 1, NUM);
		assert_in_range(len, skip + 1, rig->rx_len);
		assert_true(at + len - skip <= FRAME_MAX);
		memcpy(rig->got + at, buf + skip, len - skip);
		at += len - skip;
	}
	rx_post(rig, 2 * pair);
	return at;
}

static void round_trip(struct rig *rig, unsigned int pair, uint16_t port, size_t len)
{
	uint8_t *f = frame_make(rig, pair, port, len);
	uint32_t id, used;

	frame_send(rig, pair, f, len);
	assert_int_equal(frame_receive(rig, pair), len);
	assert_memory_equal(rig->got, f, len);
	wait_used(rig, 2 * pair + 1, &id, &used);
	assert_int_equal(rig->fe.rings[2 * pair + 1].n_free, NUM);
}

static const struct negotiated {
	const char *name;
	uint64_t features;
} feature_sets[] = {
	{ "frames come back: nothing negotiated", BASE },
	{ "frames come back: packed", BASE | F(VIRTIO_F_RING_PACKED) },
	{ "frames come back: mergeable", BASE | F(VIRTIO_NET_F_MRG_RXBUF) },
	{ "frames come back: events", BASE | F(VIRTIO_RING_F_EVENT_IDX) },
	{ "frames come back: in order", BASE | F(VIRTIO_F_IN_ORDER) | F(VIRTIO_NET_F_MRG_RXBUF) },
	{ "frames come back: packed and mergeable, events",
	  BASE | F(VIRTIO_F_RING_PACKED) | F(VIRTIO_NET_F_MRG_RXBUF) | F(VIRTIO_RING_F_EVENT_IDX) },
	{ "frames come back: everything", UINT64_MAX & ~F(VHOST_F_LOG_ALL) },
};

#define N_SETS (sizeof(feature_sets) / sizeof(feature_sets[0]))

static void trips(const struct negotiated *set, unsigned int n_shards, unsigned int n_pairs)
{
	bool mrg = set->features & F(VIRTIO_NET_F_MRG_RXBUF);
	struct rig *rig = rig_new(set->features, n_shards, n_pairs, mrg ? 700 : 9100);

	for (unsigned int i = 0; i < 600; i++)
		round_trip(rig, i % n_pairs, (uint16_t)i, HDRS + 1 + i * 13 % 9000);
	rig_free(rig);
}

static void frames_come_back_by_the_reader(void **state)
{
	trips(*state, SHARDS, 1);
}

static void frames_come_back_by_their_shards(void **state)
{
	trips(*state, 2, 4);
}

static void flows_of_one_pair_reach_all_shards(void **state)
{
	struct rig *rig = rig_new(BASE, SHARDS, 1, 2000);

	(void)state;
	for (uint16_t i = 0; i < 100; i++)
		round_trip(rig, 0, i, 200);
	for (unsigned int i = 0; i < SHARDS; i++)
		assert_true(rig->shards[i].n_frames > 0);
	rig_free(rig);
}

static void pair_belongs_to_its_shard(void **state)
{
	struct rig *rig = rig_new(BASE, 2, 2, 2000);

	(void)state;
	for (uint16_t i = 0; i < 20; i++)
		round_trip(rig, 1, i, 200);
	assert_int_equal(rig->shards[0].n_frames, 0);
	assert_int_equal(rig->shards[1].n_frames, 20);
	assert_int_equal(counter_get(&rig->shards[1].counters, COUNT_FRAMES_OWN), 20);
	rig_free(rig);
}

static void burst_trips(uint64_t features, size_t rx_len, bool gso)
{
	struct rig *rig = rig_new(features, 1, 1, rx_len);

	rig->shards[0].burst = true;
	for (unsigned int i = 0; i < 60; i++) {
		size_t payload = gso ? 1000 * (1 + i) : 1 + i * 16;
		uint8_t *f = frame_make(rig, 0, 7, HDRS + payload);
		uint32_t id, used;

		if (payload + HDRS > FRAME_MAX)
			break;
		frame_send(rig, 0, f, HDRS + payload);
		assert_int_equal(frame_receive(rig, 0), HDRS + payload);
		assert_memory_equal(rig->got, f, HDRS + payload);
		assert_int_equal(rig->got_hdr.gso_type,
				 gso && payload > 1000 ? VIRTIO_NET_HDR_GSO_UDP_L4 : 0);
		wait_used(rig, 1, &id, &used);
	}
	rig_free(rig);
}

static void burst_is_received_into_merged_buffers(void **state)
{
	(void)state;
	burst_trips(BASE | OFFLOADS | F(VIRTIO_NET_F_MRG_RXBUF), 2000, true);
}

static void burst_is_received_into_big_buffers(void **state)
{
	(void)state;
	burst_trips(BASE | OFFLOADS | F(VIRTIO_F_RING_PACKED), 65600, true);
}

static void burst_without_offload_is_single_frames(void **state)
{
	(void)state;
	burst_trips(BASE, 2000, false);
	burst_trips(BASE | F(VIRTIO_NET_F_MRG_RXBUF), 300, false);
}

static void full_guest_is_waited_for(void **state)
{
	struct rig *rig = rig_new(BASE | F(VIRTIO_RING_F_EVENT_IDX), 1, 1, 2000);
	struct tx *tx = rig->shards[0].tx;
	unsigned int n = 0, wakes;

	(void)state;
	while (shards_turn(rig))
		;
	while (tx_frame_begin(tx, 0, 100)) {
		memset(((struct vu_tx *)(void *)tx)->bounce, 1, 100);
		tx_frame_commit(tx, 100, NULL);
		n++;
	}
	assert_int_equal(n, NUM);
	assert_true(tx->blocked);
	assert_false(tx_flush(tx));
	wakes = atomic_load(&rig->shards[0].n_wakes);
	frame_receive(rig, 0); /* posts a buffer, and kicks as it was asked to */
	while (shards_turn(rig))
		;
	assert_int_equal(atomic_load(&rig->shards[0].n_wakes), wakes + 1);
	assert_true(tx_flush(tx));
	assert_false(tx->blocked);
	assert_non_null(tx_frame_begin(tx, 0, 100));
	tx_flush(tx);
	rig_free(rig);
}

static void room_that_is_not_used_is_taken_back(void **state)
{
	struct rig *rig = rig_new(
		BASE | F(VIRTIO_NET_F_MRG_RXBUF) | F(VIRTIO_F_RING_PACKED) | OFFLOADS, 1, 1, 1500);
	struct tx *tx = rig->shards[0].tx;
	struct tx_burst burst;

	(void)state;
	for (unsigned int i = 0; i < 3000; i++) {
		assert_true(
			tx_burst_begin(tx, &burst, 0, 54, 1000, 60000, VIRTIO_NET_HDR_GSO_TCPV4));
		assert_int_equal(burst.room, 60000);
		tx_burst_commit(tx, &burst, 0, NULL);
		assert_non_null(tx_frame_begin(tx, 0, 9000));
		tx_flush(tx);
	}
	assert_false(tx->blocked);
	rig_free(rig);
}

static void frame_too_long_for_the_guest_is_counted(void **state)
{
	struct rig *rig = rig_new(BASE, 1, 1, 600);
	struct tx *tx = rig->shards[0].tx;

	(void)state;
	assert_non_null(tx_frame_begin(tx, 0, 601));
	tx_frame_commit(tx, 601, NULL);
	assert_false(tx->blocked);
	assert_int_equal(rig->shards[0].counters.drop[DROP_TX_TOO_BIG], 1);
	assert_int_equal(counter_get(&rig->shards[0].counters, COUNT_TX_FRAMES), 0);
	assert_non_null(tx_frame_begin(tx, 0, 500));
	tx_flush(tx);
	rig_free(rig);
}

static void kick_may_come_while_a_batch_is_open(void **state)
{
	struct rig *rig = rig_new(BASE, 1, 1, 2000);
	struct tx *tx = rig->shards[0].tx;
	uint8_t *frame;

	(void)state;
	pthread_mutex_lock(&shard_lock);
	frame = tx_frame_begin(tx, 0, 100);
	assert_non_null(frame);
	memset(frame, 1, 100);
	tx_frame_commit(tx, 100, NULL);
	eventfd_write(rig->fe.kick[0], 1);
	while (shards_turn(rig))
		;
	pthread_mutex_unlock(&shard_lock);
	assert_int_equal(frame_receive(rig, 0), 100);
	rig_free(rig);
}

static void stream_is_cut_to_the_guests_buffers(void **state)
{
	struct rig *rig = rig_new(BASE, 1, 1, 600);
	struct tx *tx = rig->shards[0].tx;
	struct tx_burst burst;

	(void)state;
	assert_true(tx_burst_begin(tx, &burst, 0, 54, 1460, 10000, VIRTIO_NET_HDR_GSO_TCPV4));
	assert_int_equal(burst.n_segments, 1);
	assert_int_equal(burst.room, 600 - VNET - 54);
	memset(burst.hdr[0], 1, 54);
	memset(burst.iov[0].iov_base, 2, burst.room);
	tx_burst_commit(tx, &burst, burst.room, NULL);
	tx_flush(tx);
	assert_int_equal(frame_receive(rig, 0), 600 - VNET);
	assert_int_equal(rig->got[53], 1);
	assert_int_equal(rig->got[54], 2);
	rig_free(rig);
}

static void disabled_pair_is_not_written_to(void **state)
{
	struct rig *rig = rig_new(BASE, 1, 2, 2000);
	struct tx *tx = rig->shards[0].tx;

	(void)state;
	assert_int_equal(vfe_ring_enable(&rig->fe, 2, false), 0);
	assert_non_null(tx_frame_begin(tx, 1, 100));
	tx_frame_commit(tx, 100, NULL);
	tx_flush(tx);
	assert_int_equal(frame_receive(rig, 0), 100);
	rig_free(rig);
}

static void no_guest_blocks_the_batch(void **state)
{
	struct rig *rig = rig_new(BASE, 1, 0, 2000);
	struct tx *tx = rig->shards[0].tx;

	(void)state;
	assert_null(tx_frame_begin(tx, 0, 100));
	assert_true(tx->blocked);
	assert_int_equal(atomic_load(&rig->shards[0].n_wakes), 0);
	assert_int_equal(vfe_pair_start(&rig->fe, 0, NUM), 0);
	rx_post(rig, 0);
	assert_true(atomic_load(&rig->shards[0].n_wakes) > 0);
	assert_non_null(tx_frame_begin(tx, 0, 100));
	tx_flush(tx);
	rig_free(rig);
}

static void lie_stops_the_device_until_it_is_set_up_anew(void **state)
{
	struct rig *rig = rig_new(BASE, 1, 1, 2000);
	struct drv_desc lie = { 0x10, 1000, 0 };
	struct pollfd pfd = { .events = POLLIN };
	uint64_t status = 0;

	(void)state;
	pfd.fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	assert_int_equal(vfe_do_fds(&rig->fe,
				    (struct vu_message){ .request = VU_SET_VRING_ERR, .u64 = 1 },
				    &pfd.fd, 1),
			 0);
	drv_add(&rig->fe.rings[1], &lie, 1);
	vfe_kick(&rig->fe, 1);
	while (shards_turn(rig))
		;
	assert_int_equal(poll(&pfd, 1, -1), 1);
	close(pfd.fd);
	assert_int_equal(rig->shards[0].counters.drop[DROP_VRING], 1);
	while (!(status & VIRTIO_CONFIG_S_NEEDS_RESET))
		assert_int_equal(vfe_get(&rig->fe, VU_GET_STATUS, &status), 0);
	assert_int_equal(vfe_pair_start(&rig->fe, 0, NUM), 0);
	rx_post(rig, 0);
	round_trip(rig, 0, 1, 300);
	rig_free(rig);
}

static void ring_goes_on_at_its_base(void **state)
{
	struct rig *rig = rig_new(BASE, SHARDS, 1, 2000);
	uint32_t base;

	(void)state;
	for (uint16_t i = 0; i < 5; i++)
		round_trip(rig, 0, i, 300);
	assert_int_equal(vfe_ring_stop(&rig->fe, 1, &base), 0);
	assert_int_equal(base, 5);
	assert_int_equal(vfe_ring_fd(&rig->fe, VU_SET_VRING_KICK, 1, &rig->fe.kick[1]), 0);
	round_trip(rig, 0, 9, 300);
	rig_free(rig);
}

static void control_frames_go_to_control(void **state)
{
	struct rig *rig = rig_new(BASE, 1, 1, 2000);
	uint8_t *f = frame_make(rig, 0, 0, 60);
	uint32_t id, len;

	(void)state;
	memset(f, 0, 60);
	f[6] = 4;
	f[12] = 8; /* ARP */
	f[13] = 6;
	f[15] = 1;
	f[16] = 8;
	f[18] = 6;
	f[19] = 4;
	f[21] = 1;
	frame_send(rig, 0, f, 60);
	wait_used(rig, 1, &id, &len);
	assert_int_equal(atomic_load(&rig->control.n_frames), 1);
	rig_free(rig);
}

static void used_pages_are_logged(void **state)
{
	struct rig *rig = rig_new(BASE | F(VHOST_F_LOG_ALL), 1, 1, 2000);
	struct vu_message message = { .request = VU_SET_LOG_BASE, .log = { 1u << 20, 0 } };
	int fd = memfd_create("log", MFD_CLOEXEC);
	uint64_t value, page;
	uint8_t byte = 0;

	(void)state;
	assert_int_equal(ftruncate(fd, 1 << 20), 0);
	assert_int_equal(vfe_send(&rig->fe, &message, &fd, 1), 0);
	assert_int_equal(vfe_reply(&rig->fe, &value), 0);
	assert_int_equal(value, 0);
	round_trip(rig, 0, 1, 300);
	page = (VFE_GUEST + VFE_BUFFERS + TX_SLOT) / 4096;
	assert_int_equal(pread(fd, &byte, 1, (off_t)(page / 8)), 1);
	assert_true(byte >> page % 8 & 1);
	close(fd);
	rig_free(rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(flows_of_one_pair_reach_all_shards),
		cmocka_unit_test(pair_belongs_to_its_shard),
		cmocka_unit_test(burst_is_received_into_merged_buffers),
		cmocka_unit_test(burst_is_received_into_big_buffers),
		cmocka_unit_test(burst_without_offload_is_single_frames),
		cmocka_unit_test(full_guest_is_waited_for),
		cmocka_unit_test(room_that_is_not_used_is_taken_back),
		cmocka_unit_test(frame_too_long_for_the_guest_is_counted),
		cmocka_unit_test(kick_may_come_while_a_batch_is_open),
		cmocka_unit_test(stream_is_cut_to_the_guests_buffers),
		cmocka_unit_test(disabled_pair_is_not_written_to),
		cmocka_unit_test(no_guest_blocks_the_batch),
		cmocka_unit_test(lie_stops_the_device_until_it_is_set_up_anew),
		cmocka_unit_test(ring_goes_on_at_its_base),
		cmocka_unit_test(control_frames_go_to_control),
		cmocka_unit_test(used_pages_are_logged),
	};
	struct CMUnitTest rows[2 * N_SETS];
	int failed = cmocka_run_group_tests(tests, NULL, NULL);

	for (size_t i = 0; i < N_SETS; i++) {
		void *set = (void *)(uintptr_t)&feature_sets[i];

		rows[i] = (struct CMUnitTest){ feature_sets[i].name, frames_come_back_by_the_reader,
					       NULL, NULL, set };
		rows[N_SETS + i] =
			(struct CMUnitTest){ feature_sets[i].name, frames_come_back_by_their_shards,
					     NULL, NULL, set };
	}
	return failed + cmocka_run_group_tests(rows, NULL, NULL);
}
