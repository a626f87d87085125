/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Any bytes on the stream, in writes of any size. Whatever the slabs do, the frames that come out
 * must be those that a reader of the whole would find, up to the first length that ends the
 * connection. The first byte sets the size of the writes, the second the frames that a slab holds.
 * links: tap
 */
#include "../tap/stream_fixture.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len);

static void require(bool condition)
{
	if (!condition)
		abort();
}

/* What should come out: counts of frames, and whether the connection ends. */
struct expected {
	uint64_t frames;
	uint64_t bytes;
	uint32_t for_shards;
	bool end;
};

static struct expected expect(const uint8_t *bytes, size_t len)
{
	const struct frame_offload offload = { .csum_unchecked = true };
	struct bytes_in in = in_of(bytes, len);
	struct expected e = { 0 };

	while (in_left(&in) >= STREAM_PREFIX && !e.end) {
		uint32_t n = in_u32(&in);
		struct frame frame;

		e.end = n < FRAME_MIN || n > FRAME_MAX;
		if (e.end || in_left(&in) < n)
			break;
		e.frames++;
		e.bytes += n;
		if (frame_parse(&frame, in_take(&in, n), n, offload, &rt.secret) == DROP_NONE &&
		    frame.kind != FRAME_CONTROL)
			e.for_shards++;
	}
	return e;
}

static void drain_shards(void)
{
	role_is_shard();
	for (unsigned int i = 0; i < rt.n_shards; i++)
		shard_drain_ring(rt.shards[i], 0);
}

static uint32_t n_records(void)
{
	uint32_t n = 0;

	for (unsigned int i = 0; i < rt.n_shards; i++)
		n += rt.shards[i]->n_records;
	return n;
}

/* Writes in pieces and lets the reader turn after each. Returns true when the connection must end.
 */
static bool run(const uint8_t *bytes, size_t len, size_t piece)
{
	role_is_reader();
	for (size_t at = 0; at < len; at += piece) {
		size_t n = len - at < piece ? len - at : piece;

		require(send(guest_fd, bytes + at, n, 0) == (ssize_t)n);
		do {
			enum stream_read result = stream_rx_turn(stream);

			if (result == STREAM_READ_END)
				return true;
			require(result != STREAM_READ_STARVED || config.inline_off);
			drain_shards();
		} while (stream->more);
	}
	return false;
}

static void check(const uint8_t *bytes, size_t len, size_t piece)
{
	struct expected want = expect(bytes, len);
	bool ended = run(bytes, len, piece);

	drain_shards();
	require(ended == want.end);
	require(counter_get(&stream->counters, COUNT_RX_FRAMES) == want.frames);
	require(counter_get(&stream->counters, COUNT_RX_BYTES) == want.bytes);
	require(n_records() == want.for_shards);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
	if (len < 2 || len > 8192)
		return 0;
	require(set_up_turns(NULL) == 0);
	config.inline_off = bytes[0] & 1;
	for (unsigned int i = 0; i < STREAM_SLABS; i++)
		stream->slabs[i].max_frames = 1 + bytes[1] % 16u;
	check(bytes + 2, len - 2, 1 + (bytes[0] >> 1) * 16u);
	tear_down(NULL);
	return 0;
}
