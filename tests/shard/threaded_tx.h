/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A guest's side for tests in which shards have threads of their own: each shard's frames go to the
 * test's guest_frame(), their payload nowhere.
 */
#pragma once

#include "shard_internal.h"

struct world;

struct guest_tx {
	struct tx tx;
	struct world *world;
	uint8_t room[FRAME_MAX];
};

/* What the test makes of a TCP header to the guest, by the shard with tx; called by the shards'
 * threads. */
static void guest_frame(struct world *world, const struct guest_tx *tx, const struct tcp_header *h);

static uint8_t *frame_begin(struct tx *tx, uint16_t queue, size_t size)
{
	(void)queue, (void)size;
	return ((struct guest_tx *)(void *)tx)->room;
}

static void frame_commit(struct tx *tx, size_t len, const struct tx_offload *offload)
{
	const struct guest_tx *guest = (struct guest_tx *)(void *)tx;
	const uint8_t *frame = guest->room, *t = frame + 34;
	struct tcp_header h;

	(void)offload;
	if (frame[23] != IPPROTO_TCP || len < 54)
		return;
	tcp_header_decode(t, (size_t)(t[12] >> 4) * 4, &h);
	guest_frame(guest->world, guest, &h);
}

static bool burst_begin(struct tx *tx, struct tx_burst *burst, uint16_t queue, size_t hdr_len,
			size_t seg_len, size_t want, uint8_t gso_type)
{
	uint8_t *room = ((struct guest_tx *)(void *)tx)->room;

	(void)gso_type;
	*burst = (struct tx_burst){ .hdr = { room },
				    .iov = { { room + hdr_len, seg_len } },
				    .n_segments = 1,
				    .n_iov = 1,
				    .room = want < seg_len ? want : seg_len,
				    .hdr_len = hdr_len,
				    .seg_len = seg_len,
				    .queue = queue };
	return true;
}

static void burst_commit(struct tx *tx, struct tx_burst *burst, size_t len,
			 const struct tx_offload *offload)
{
	(void)tx, (void)burst, (void)len, (void)offload;
}

static bool flush(struct tx *tx)
{
	(void)tx;
	return true;
}

static unsigned int caps(const struct tx *tx, uint16_t queue)
{
	(void)tx, (void)queue;
	return 0;
}

static const struct tx_ops ops = {
	frame_begin, frame_commit, burst_begin, burst_commit, flush, caps
};

/* The control thread's side is not there. */
enum drop control_post_frame(struct control *control, const struct frame *frame)
{
	(void)control, (void)frame;
	return DROP_NONE;
}
