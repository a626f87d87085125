/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What starts the rings of a vhost-user device, has them go on elsewhere, and stops them. The
 * control-socket thread's. Who changes anything that a ring depends on holds its queue.
 */
#pragma once

#include "vu_device.h"

/* Holds a queue still, or all of them; its kick descriptor is not watched any more. */
void vu_ring_hold(struct vu_device *device, struct vu_queue *queue);
void vu_rings_hold(struct vu_device *device);
void vu_rings_resume(struct vu_device *device);

/* Our addresses of a ring's parts; false if one is outside the shared memory or not aligned
 * (virtio 1.2, 2.7 and 2.8). */
bool vu_ring_translate(const struct vu_device *device, const struct vu_queue *queue,
		       struct vring_setup *setup);

/* Starts a ring, if all is known of it and it doesn't run. */
void vu_ring_try_start(struct vu_device *device, struct vu_queue *queue);

/* After a change of memory or addresses: a ring, or all of them, goes on at its place, stops if
 * that is gone, or starts if it has come. */
void vu_ring_relocate(struct vu_device *device, struct vu_queue *queue);
void vu_rings_relocate(struct vu_device *device);

/* Stops a ring; queue->base says where. */
void vu_ring_stop(struct vu_queue *queue);

/* RESET_DEVICE: as after a new connection, but that the error descriptor stays, which front-ends
 * send once only. */
void vu_ring_reset(struct vu_queue *queue);
/* The connection is gone. */
void vu_ring_forget(struct vu_queue *queue);
