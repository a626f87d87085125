/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Feature bits of virtio-net and vhost, with those that the kernel's headers lack or have among
 * things that are of no use here.
 */
#pragma once

#include <linux/virtio_config.h>
#include <linux/virtio_net.h>

#ifndef VIRTIO_NET_F_GUEST_USO4 /* headers before Linux 6.2 */
#define VIRTIO_NET_F_GUEST_USO4 54
#define VIRTIO_NET_F_GUEST_USO6 55
#define VIRTIO_NET_F_HOST_USO	56
#endif
#ifndef VIRTIO_NET_HDR_GSO_UDP_L4
#define VIRTIO_NET_HDR_GSO_UDP_L4 5
#endif

/* linux/virtio_ring.h and linux/vhost.h have ring types of their own. */
#define VIRTIO_RING_F_INDIRECT_DESC 28
#define VIRTIO_RING_F_EVENT_IDX	    29
#define VHOST_F_LOG_ALL		    26

#define VHOST_USER_F_PROTOCOL_FEATURES 30

#define VU_FEATURE(bit) (1ull << (bit))
