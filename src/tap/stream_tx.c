/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The stream's transmit batches. Each thread lays out frames, with their lengths, one behind the
 * other in a buffer of its own, and writes all of it with one sendmsg() under the one lock of the
 * socket.
 *
 * The socket may take a part that ends inside a frame. The rest of that frame is copied to the
 * transport (stream->cut) and goes before anything else, whoever writes next; the whole frames
 * behind it stay in their thread's buffer. The thread marks itself as waiting and arms EPOLLOUT,
 * both under the lock; arming reports room that is there already, so that no wake-up is lost.
 * EPOLLOUT is armed only then: else the reader would be woken by each buffer that the guest
 * consumes.
 */
#include "stream.h"

#include "taploom/bytes.h"

#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

/* The least that an Ethernet has on its wire (IEEE 802.3 3.2.8), checksum apart: the driver of a
 * card that is no virtio device may drop what is shorter, and nobody behind the socket fills it up.
 */
#define ETH_LEAST 60u

static struct stream_tx *stream_tx_of(struct tx *tx)
{
	return (struct stream_tx *)(void *)((char *)tx - offsetof(struct stream_tx, tx));
}

static void discard(struct stream_tx *st)
{
	st->head = st->tail = 0;
	st->tx.blocked = false;
}

/* Has the reader told when the socket has room. Under tx_lock. */
static void arm_out(struct stream *stream)
{
	struct epoll_event ev = { .events = EPOLLOUT | EPOLLONESHOT, .data.u32 = STREAM_EVENT_OUT };

	epoll_ctl(stream->epoll_fd, EPOLL_CTL_MOD, stream->out_fd, &ev);
}

/* Accounts for n bytes that the socket took from the batch's front. Under tx_lock. */
static void take_sent(struct stream *stream, struct stream_tx *st, size_t n)
{
	size_t at = st->head;

	if (n == st->tail - st->head) {
		st->head = st->tail = 0;
		return;
	}
	while (n) {
		size_t len = STREAM_PREFIX + load_be32(st->buf + at);

		if (n < len) {
			stream->cut_off = 0;
			stream->cut_len = len - n;
			memcpy(stream->cut, st->buf + at + n, len - n);
			n = len;
		}
		n -= len;
		at += len;
	}
	st->head = at;
	if (st->head == st->tail)
		st->head = st->tail = 0;
}

static size_t take_cut(struct stream *stream, size_t n)
{
	size_t from_cut = n < stream->cut_len ? n : stream->cut_len;

	stream->cut_off += from_cut;
	stream->cut_len -= from_cut;
	return n - from_cut;
}

/*
 * Writes the rest of the cut frame and then the batch, which may be NULL. Under tx_lock. False:
 * something is left, and EPOLLOUT is armed.
 */
static bool write_out(struct stream *stream, struct stream_tx *st, struct counters *counters)
{
	struct iovec iov[2];
	struct msghdr msg = { .msg_iov = iov };
	ssize_t sent;

	if (stream->cut_len)
		iov[msg.msg_iovlen++] =
			(struct iovec){ stream->cut + stream->cut_off, stream->cut_len };
	if (st)
		iov[msg.msg_iovlen++] = (struct iovec){ st->buf + st->head, st->tail - st->head };
	sent = sendmsg(stream->fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL);
	count_add(counters, COUNT_TX_FLUSHES, 1);
	if (sent < 0 && errno != EAGAIN && errno != EINTR && errno != ENOBUFS && errno != ENOMEM) {
		/* The guest is gone; the reader sees it too and ends the connection. */
		stream->cut_len = 0;
		if (st)
			st->head = st->tail = 0;
		return true;
	}
	if (sent > 0) {
		size_t rest = take_cut(stream, (size_t)sent);

		if (st)
			take_sent(stream, st, rest);
	}
	if (!stream->cut_len && (!st || st->head == st->tail))
		return true;
	arm_out(stream);
	return false;
}

/* Under tx_lock. A batch whose last frame alone was cut is done: that rest is the transport's now.
 */
static void flush_locked(struct stream *stream, struct stream_tx *st)
{
	if (atomic_load_explicit(&stream->generation, memory_order_relaxed) != st->generation) {
		discard(st);
		return;
	}
	if (!write_out(stream, st, st->tx.counters))
		count_add(st->tx.counters, COUNT_TX_STALLS, 1);
	st->tx.blocked = st->head != st->tail;
	st->waiting = st->tx.blocked;
}

static bool stream_flush(struct tx *tx)
{
	struct stream_tx *st = stream_tx_of(tx);
	struct stream *stream = st->stream;

	if (st->head == st->tail)
		return true;
	pthread_mutex_lock(&stream->tx_lock);
	flush_locked(stream, st);
	pthread_mutex_unlock(&stream->tx_lock);
	return !tx->blocked;
}

/* Whether need bytes fit behind the batch now; writes the batch if that is what it takes. */
static bool make_room(struct stream_tx *st, size_t need)
{
	uint32_t now = atomic_load_explicit(&st->stream->generation, memory_order_acquire);

	if (st->generation != now) {
		discard(st);
		st->generation = now;
	}
	if (!(now & 1) || st->tx.blocked)
		return false;
	if (STREAM_TX_SIZE - st->tail >= need)
		return true;
	return stream_flush(&st->tx) && STREAM_TX_SIZE - st->tail >= need;
}

/* Appends the frame of len bytes that was written behind the batch's end, and room for its length.
 */
static void append_frame(struct stream_tx *st, size_t len)
{
	uint8_t *at = st->buf + st->tail;

	if (len < ETH_LEAST) {
		memset(at + STREAM_PREFIX + len, 0, ETH_LEAST - len);
		len = ETH_LEAST;
	}
	store_be32(at, (uint32_t)len);
	st->tail += STREAM_PREFIX + len;
	count_add(st->tx.counters, COUNT_TX_FRAMES, 1);
	count_add(st->tx.counters, COUNT_TX_BYTES, len);
	if (st->stream->pcap)
		pcap_write(st->stream->pcap, &(struct iovec){ at + STREAM_PREFIX, len }, 1);
}

static uint8_t *stream_frame_begin(struct tx *tx, uint16_t queue, size_t size)
{
	struct stream_tx *st = stream_tx_of(tx);

	(void)queue;
	if (!make_room(st, STREAM_PREFIX + (size < ETH_LEAST ? ETH_LEAST : size)))
		return NULL;
	return st->buf + st->tail + STREAM_PREFIX;
}

static void stream_frame_commit(struct tx *tx, size_t len, const struct tx_offload *offload)
{
	struct stream_tx *st = stream_tx_of(tx);

	(void)offload; /* caps() offered none */
	append_frame(st, len);
	if (st->tail - st->head >= STREAM_TX_FLUSH_AT)
		stream_flush(tx);
}

/* Segments are laid out as they are sent: length, header, payload, and so on. */
static bool stream_burst_begin(struct tx *tx, struct tx_burst *burst, uint16_t queue,
			       size_t hdr_len, size_t seg_len, size_t want, uint8_t gso_type)
{
	struct stream_tx *st = stream_tx_of(tx);
	/* Never below ETH_LEAST: see TCP_MSS_LEAST. */
	size_t slot = STREAM_PREFIX + hdr_len + seg_len, n;

	(void)gso_type;
	if (!make_room(st, slot))
		return false;
	n = (want + seg_len - 1) / seg_len;
	if (n > TX_BURST_SEGMENTS)
		n = TX_BURST_SEGMENTS;
	if (n > (STREAM_TX_SIZE - st->tail) / slot)
		n = (STREAM_TX_SIZE - st->tail) / slot;
	for (size_t i = 0; i < n; i++) {
		burst->hdr[i] = st->buf + st->tail + i * slot + STREAM_PREFIX;
		burst->iov[i] = (struct iovec){ burst->hdr[i] + hdr_len, seg_len };
	}
	burst->room = n * seg_len;
	if (burst->room > want) {
		burst->iov[n - 1].iov_len -= burst->room - want;
		burst->room = want;
	}
	burst->n_segments = burst->n_iov = (unsigned int)n;
	burst->hdr_len = hdr_len;
	burst->seg_len = seg_len;
	burst->gso = false;
	burst->queue = queue;
	return true;
}

static void stream_burst_commit(struct tx *tx, struct tx_burst *burst, size_t len,
				const struct tx_offload *offload)
{
	struct stream_tx *st = stream_tx_of(tx);

	(void)offload;
	while (len) {
		size_t n = len < burst->seg_len ? len : burst->seg_len;

		append_frame(st, burst->hdr_len + n);
		len -= n;
	}
	if (st->tail - st->head >= STREAM_TX_FLUSH_AT)
		stream_flush(tx);
}

static unsigned int stream_caps(const struct tx *tx, uint16_t queue)
{
	(void)tx;
	(void)queue;
	return 0;
}

static const struct tx_ops stream_tx_ops = {
	.frame_begin = stream_frame_begin,
	.frame_commit = stream_frame_commit,
	.burst_begin = stream_burst_begin,
	.burst_commit = stream_burst_commit,
	.flush = stream_flush,
	.caps = stream_caps,
};

void stream_tx_init(struct stream *stream, unsigned int index, uint8_t *buf)
{
	stream->txs[index] = (struct stream_tx){
		.tx = { .ops = &stream_tx_ops, .counters = &stream->tx_counters },
		.stream = stream,
		.buf = buf,
	};
}

void stream_tx_wake_all(struct stream *stream)
{
	const unsigned int n_shards = stream->rt->n_shards;
	bool woken[MAX_SHARDS + 1] = { false };

	pthread_mutex_lock(&stream->tx_lock);
	for (unsigned int i = 0; i < stream->n_txs; i++) {
		woken[i] = stream->txs[i].waiting;
		stream->txs[i].waiting = false;
	}
	pthread_mutex_unlock(&stream->tx_lock);
	for (unsigned int i = 0; i < n_shards; i++) {
		if (woken[i])
			shard_wake_tx(stream->rt->shards[i]);
	}
	if (woken[n_shards])
		control_wake_tx(stream->rt->control);
}

void stream_tx_resume(struct stream *stream)
{
	bool room = true;

	pthread_mutex_lock(&stream->tx_lock);
	if (stream->fd >= 0 && stream->cut_len)
		room = write_out(stream, NULL, &stream->counters);
	pthread_mutex_unlock(&stream->tx_lock);
	if (room)
		stream_tx_wake_all(stream);
}
