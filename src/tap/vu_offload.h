/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the header before a frame from the guest says of its checksum and segmentation: whether the
 * guest may say that, and whether it is so.
 */
#pragma once

#include "vu_features.h"

#include "taploom/counters.h"
#include "taploom/frame.h"

/* What the header says. False: it uses what is not among the features that were negotiated. */
bool vu_offload_of(const struct virtio_net_hdr_v1 *hdr, uint64_t features,
		   struct frame_offload *offload);

/*
 * Judges a frame for a shard: a guest's lies about its offloads, and checksums that nobody else
 * sees. DROP_NONE: it may be taken.
 */
enum drop vu_offload_check(const struct virtio_net_hdr_v1 *hdr, const struct frame *frame);
