/* SPDX-License-Identifier: Apache-2.0 */
#include "vu_offload.h"

#include "taploom/frame_fields.h"

#define TCP_CSUM 16u /* offset of the checksum in the header */
#define UDP_CSUM 6u

/* Which frames may leave their segmentation to us. */
static const struct gso_rule {
	uint8_t gso_type;
	uint8_t feature;
	uint8_t kind;
	uint8_t version; /* 0: any */
} gso_rules[] = {
	{ VIRTIO_NET_HDR_GSO_TCPV4, VIRTIO_NET_F_HOST_TSO4, FRAME_TCP, IP4 },
	{ VIRTIO_NET_HDR_GSO_TCPV6, VIRTIO_NET_F_HOST_TSO6, FRAME_TCP, IP6 },
	{ VIRTIO_NET_HDR_GSO_UDP_L4, VIRTIO_NET_F_HOST_USO, FRAME_UDP, 0 },
};

bool vu_offload_of(const struct virtio_net_hdr_v1 *hdr, uint64_t features,
		   struct frame_offload *offload)
{
	uint8_t type = hdr->gso_type & (uint8_t)~VIRTIO_NET_HDR_GSO_ECN;

	*offload = (struct frame_offload){
		.csum_unchecked = hdr->flags & VIRTIO_NET_HDR_F_NEEDS_CSUM,
	};
	if (hdr->flags & VIRTIO_NET_HDR_F_NEEDS_CSUM && !(features & VU_FEATURE(VIRTIO_NET_F_CSUM)))
		return false;
	if (type == VIRTIO_NET_HDR_GSO_NONE)
		return true;
	offload->gso_type = type;
	offload->gso_size = hdr->gso_size;
	for (size_t i = 0; i < sizeof(gso_rules) / sizeof(gso_rules[0]); i++)
		if (gso_rules[i].gso_type == type)
			return hdr->gso_size && features & VU_FEATURE(gso_rules[i].feature);
	return false;
}

/* Whether what the header says of a frame, which is not a fragment, is what the frame is. */
static bool offload_fits(const struct virtio_net_hdr_v1 *hdr, const struct frame *frame)
{
	uint8_t type = hdr->gso_type & (uint8_t)~VIRTIO_NET_HDR_GSO_ECN;
	uint16_t off = frame->kind == FRAME_TCP ? TCP_CSUM : UDP_CSUM;

	for (size_t i = 0; i < sizeof(gso_rules) / sizeof(gso_rules[0]); i++)
		if (gso_rules[i].gso_type == type &&
		    (gso_rules[i].kind != frame->kind ||
		     (gso_rules[i].version && gso_rules[i].version != frame->version)))
			return false;
	if (!(hdr->flags & VIRTIO_NET_HDR_F_NEEDS_CSUM))
		return true;
	if (frame->kind != FRAME_TCP && frame->kind != FRAME_UDP)
		return false;
	return hdr->csum_start == frame->l4_off && hdr->csum_offset == off;
}

enum drop vu_offload_check(const struct virtio_net_hdr_v1 *hdr, const struct frame *frame)
{
	if (frame->kind == FRAME_FRAGMENT)
		return DROP_NONE; /* a part has no checksum of its own: the whole is verified */
	if (!offload_fits(hdr, frame))
		return DROP_VRING;
	if (!frame->offload.csum_unchecked && !frame->offload.gso_size &&
	    !frame_checksum_is_right(frame))
		return DROP_L4_CHECKSUM;
	return DROP_NONE;
}
