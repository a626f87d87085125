/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The checksums of the guest's frames, for the transports whose guests must get them right.
 */
#include "taploom/checksum.h"
#include "taploom/frame.h"
#include "taploom/frame_fields.h"

#include <netinet/in.h>

#define UDP_CSUM 6u /* offset of the checksum in the header */

/* The sum of pieces, of which each may have an odd length. */
static uint64_t sum_pieces(const struct iovec *iov, uint32_t n)
{
	uint64_t sum = 0;
	bool odd = false;

	for (uint32_t i = 0; i < n; i++) {
		uint16_t part = checksum_fold(checksum_add(0, iov[i].iov_base, iov[i].iov_len));

		sum += odd ? __builtin_bswap16(part) : part;
		odd ^= iov[i].iov_len & 1;
	}
	return sum;
}

bool frame_checksum_is_right(const struct frame *frame)
{
	const uint8_t *l4 = frame->data + frame->l4_off;
	uint32_t hdr_len = (uint32_t)(frame->payload_off - frame->l4_off);
	uint64_t sum = 0;

	if (frame->kind == FRAME_UDP && !load_be16(l4 + UDP_CSUM))
		return frame->version == IP4; /* RFC 8200 8.1 */
	if (frame->l4_proto != IPPROTO_ICMP) {
		struct ip_addr src = frame_src(frame), dst = frame_dst(frame);

		sum = checksum_pseudo(&src, &dst, frame->l4_proto, hdr_len + frame->payload_len);
	}
	sum = checksum_fold(checksum_add(sum, l4, hdr_len)) +
	      sum_pieces(frame->payload, frame->n_payload);
	return !checksum_finish(sum);
}
