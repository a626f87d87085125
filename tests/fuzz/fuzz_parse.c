/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Any bytes as a frame. The first byte says where the frame is cut into linear bytes and pieces:
 * what is accepted of the pieces must be what is accepted of the whole. links: tap
 */
#include "taploom/frame_fields.h"

#include <stdlib.h>

#define PIECES_MAX 64

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len);

static const struct hash_secret secret = { { 1, 2 } };

static void require(bool condition)
{
	if (!condition)
		abort();
}

/* Every offset and length lies inside the frame, and nothing readable is claimed that isn't there.
 */
static void check_frame(const struct frame *f, const uint8_t *data, size_t len)
{
	require(f->data == data && f->linear_len <= f->len && f->len <= len);
	require(f->l3_off <= f->l4_off && f->l4_off <= f->payload_off);
	require(f->payload_off + f->payload_len <= f->len);
	require(f->payload_off <= f->linear_len);
	if (f->kind == FRAME_CONTROL) {
		require(f->linear_len == f->len);
		return;
	}
	require(f->key.proto && f->key.zero[0] == 0 && !ip_is_unset(&f->key.guest));
	require(f->hash == flow_steer_hash(&f->key, &secret));
}

/* Copies what the payload's pieces hold and returns the number of bytes. */
static size_t gather(const struct frame *f, uint8_t *out)
{
	size_t n = 0;

	for (unsigned int i = 0; i < f->n_payload; i++) {
		memcpy(out + n, f->payload[i].iov_base, f->payload[i].iov_len);
		n += f->payload[i].iov_len;
	}
	return n;
}

static void check_pieces(const struct frame *whole, const uint8_t *data, size_t len, size_t linear,
			 size_t piece)
{
	struct iovec iov[PIECES_MAX], scratch[PIECES_MAX + 1];
	unsigned int n_iov = 0;
	struct frame cut;
	uint8_t *gathered = malloc(len + 1), *head = malloc(linear + 1);

	memcpy(head, data, linear);
	for (size_t at = linear; at < len && n_iov < PIECES_MAX; at += piece) {
		if (n_iov == PIECES_MAX - 1 || len - at < piece)
			piece = len - at;
		iov[n_iov++] = (struct iovec){ (uint8_t *)data + at, piece };
	}
	if (frame_parse_iov(&cut, head, linear, iov, n_iov, scratch, (struct frame_offload){ 0 },
			    &secret) == DROP_NONE) {
		check_frame(&cut, head, len);

		require(whole && cut.kind == whole->kind && cut.payload_len == whole->payload_len);
		require(flow_key_eq(&cut.key, &whole->key));
		require(gather(&cut, gathered) == whole->payload_len);
		require(memcmp(gathered, data + whole->payload_off, whole->payload_len) == 0);
	}
	free(gathered);
	free(head);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
	struct frame frame;
	bool accepted;
	size_t linear;

	if (len < 2 || len > 4096)
		return 0;
	linear = bytes[0];
	bytes++;
	len--;
	if (linear > len)
		linear = len;
	accepted =
		frame_parse(&frame, bytes, len, (struct frame_offload){ 0 }, &secret) == DROP_NONE;
	if (accepted)
		check_frame(&frame, bytes, len);
	check_pieces(accepted ? &frame : NULL, bytes, len, linear, 1 + linear % 9);
	return 0;
}
