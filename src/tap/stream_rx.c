/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The stream's receive side. A turn is one recv() into a slab; its frames are parsed where they
 * lie and gathered per shard. A frame that the read cut is moved to the start of the next slab, or
 * of the same one if nobody else holds it, which keeps a lightly loaded reader on one warm slab.
 */
#include "stream.h"

#include "taploom/frame_fields.h"

#include <errno.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

/* A slab's last reference is gone. Any thread. */
static void release_slab(struct slab *slab)
{
	struct stream *stream = slab->owner;

	atomic_fetch_or(&stream->free_slabs, 1u << slab->index);
	/* Sequentially consistent, as in starve(): one of the two sees the other's store. */
	if (atomic_load(&stream->starved) && atomic_exchange(&stream->starved, false))
		eventfd_write(stream->event_fd, 1);
}

/* Whether only the reader holds a slab. */
static bool is_idle(const void *transport)
{
	const struct stream *stream = transport;
	uint32_t out = ((1u << STREAM_SLABS) - 1) & ~atomic_load(&stream->free_slabs);
	const struct slab *own = stream->slab;

	if (own && atomic_load_explicit(&own->refs, memory_order_acquire) == 1)
		out &= ~(1u << own->index);
	return !out;
}

void stream_rx_init(struct stream *stream)
{
	for (uint32_t i = 0; i < STREAM_SLABS; i++) {
		stream->slabs[i].release = release_slab;
		stream->slabs[i].owner = stream;
		stream->slabs[i].index = i;
	}
	atomic_init(&stream->free_slabs, (1u << STREAM_SLABS) - 1);
	handover_init(&stream->handover, stream->rt, &stream->counters, is_idle, stream);
}

/* The lowest free slab, so that few of them are ever touched; NULL if all are under way. */
static struct slab *take_slab(struct stream *stream)
{
	uint32_t free_now = atomic_load(&stream->free_slabs);
	struct slab *slab;

	if (!free_now)
		return NULL;
	slab = &stream->slabs[__builtin_ctz(free_now)];
	atomic_fetch_and(&stream->free_slabs, ~(1u << slab->index));
	atomic_store_explicit(&slab->refs, 1, memory_order_relaxed);
	return slab;
}

/* As take_slab(), but announces that the reader will wait; looks again, for a slab that came
 * meanwhile. */
static struct slab *take_slab_or_starve(struct stream *stream)
{
	struct slab *slab = take_slab(stream);

	if (slab)
		return slab;
	atomic_store(&stream->starved, true);
	slab = take_slab(stream);
	if (slab)
		atomic_store(&stream->starved, false);
	return slab;
}

/* Makes stream->slab a slab with the unparsed bytes at its start. False: all slabs are under way.
 */
static bool prepare_slab(struct stream *stream)
{
	size_t left = stream->filled - stream->off;
	struct slab *old = stream->slab, *slab;

	if (old && stream->off == 0)
		return true; /* less than a frame, and nobody else has seen it */
	if (old && atomic_load_explicit(&old->refs, memory_order_acquire) == 1) {
		memmove(old->bytes, old->bytes + stream->off, left);
	} else {
		slab = take_slab_or_starve(stream);
		if (!slab)
			return false;
		if (old) {
			memcpy(slab->bytes, old->bytes + stream->off, left);
			slab_put(old);
		}
		stream->slab = slab;
	}
	stream->off = 0;
	stream->filled = left;
	return true;
}

/* Tells control of a source that was not among the last seen. */
static void learn_source(struct stream *stream, const struct frame *frame)
{
	struct ip_addr src;

	if (frame->l4_off == frame->l3_off) /* ARP */
		return;
	src = frame_src(frame);
	known_addrs_note(stream->rt, &stream->known, &src);
}

/* Puts a parsed frame where it belongs. */
static void sort_frame(struct stream *stream, struct frame *frame) ON_READER
{
	guest_mac_note(stream->rt, frame->data + ETH_ADDR_LEN);
	learn_source(stream, frame);
	if (frame->kind == FRAME_CONTROL) {
		enum drop reason = control_post_frame(stream->rt->control, frame);

		if (reason)
			count_drop(&stream->counters, reason);
		return;
	}
	handover_add(&stream->handover, frame);
}

/* Parses a frame at data into *frame. False: it was dropped, and counted. */
static bool take_frame(struct stream *stream, struct frame *frame, const uint8_t *data,
		       size_t len) ON_READER
{
	const struct frame_offload offload = { .csum_unchecked = true };
	enum drop reason;

	if (stream->pcap)
		pcap_write(stream->pcap, &(struct iovec){ (uint8_t *)data, len }, 1);
	reason = frame_parse(frame, data, len, offload, &stream->rt->secret);
	if (reason) {
		count_drop(&stream->counters, reason);
		return false;
	}
	frame->queue = 0;
	sort_frame(stream, frame);
	return true;
}

/*
 * Cuts the slab's bytes into frames. Stops at an incomplete frame, or when the slab has no struct
 * frame left (stream->more is set). False: a length that no frame can have.
 */
static bool cut_frames(struct stream *stream) ON_READER
{
	struct slab *slab = stream->slab;
	uint32_t n_frames = 0;
	uint64_t n_seen = 0, n_bytes = 0;
	uint32_t len = FRAME_MIN;

	while (stream->filled - stream->off >= STREAM_PREFIX) {
		const uint8_t *at = slab->bytes + stream->off;

		len = load_be32(at);
		if (len < FRAME_MIN || len > FRAME_MAX ||
		    stream->filled - stream->off - STREAM_PREFIX < len)
			break;
		if (n_frames == slab->max_frames) {
			stream->more = true;
			break;
		}
		n_seen++;
		n_bytes += len;
		if (take_frame(stream, &slab->frames[n_frames], at + STREAM_PREFIX, len))
			n_frames++;
		stream->off += STREAM_PREFIX + len;
	}
	count_add(&stream->counters, COUNT_RX_FRAMES, n_seen);
	count_add(&stream->counters, COUNT_RX_BYTES, n_bytes);
	if (len >= FRAME_MIN && len <= FRAME_MAX)
		return true;
	count_drop(&stream->counters, DROP_STREAM_LENGTH);
	log_limited(&stream->limit, LOG_LEVEL_WARNING,
		    "guest: a frame length of %u (not %u to %u) on the stream, disconnecting", len,
		    FRAME_MIN, FRAME_MAX);
	return false;
}

enum stream_read stream_rx_turn(struct stream *stream)
{
	size_t room;
	ssize_t got;
	bool good;

	if (!prepare_slab(stream))
		return STREAM_READ_STARVED;
	room = STREAM_SLAB_SIZE - stream->filled;
	if (room > STREAM_READ_SIZE)
		room = STREAM_READ_SIZE;
	got = recv(stream->fd, stream->slab->bytes + stream->filled, room, MSG_DONTWAIT);
	/* At the end what was read before goes first: the socket tells of it again. */
	if (got <= 0 && !stream->more)
		return got < 0 && (errno == EAGAIN || errno == EINTR) ? STREAM_READ_OK
								      : STREAM_READ_END;
	stream->more = got == (ssize_t)room;
	stream->filled += got > 0 ? (size_t)got : 0;
	good = cut_frames(stream);
	handover_run(&stream->handover, stream->slab, !stream->more);
	return good ? STREAM_READ_OK : STREAM_READ_END;
}

void stream_rx_reset(struct stream *stream)
{
	if (stream->slab)
		slab_put(stream->slab);
	stream->slab = NULL;
	stream->off = stream->filled = 0;
	stream->more = false;
	atomic_store(&stream->starved, false);
	stream->known = (struct known_addrs){ 0 };
}
