/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A vhost-user network device: what the front-end's requests do to features, memory and rings. The
 * control-socket thread's, but for the queues' shared part. By QEMU's docs/interop/vhost-user.rst
 * and virtio 1.2, 5.1.
 *
 * A ring goes from stopped to running when its size, its addresses and its kick descriptor are
 * known, in any order, and back by GET_VRING_BASE, RESET_DEVICE or the end of the connection. It
 * carries frames if it is enabled, too.
 */
#pragma once

#include "vu_codec.h"
#include "vu_features.h"
#include "vu_memory.h"
#include "vu_queue.h"

#define VU_REPLY_MAX 64 /* bytes of the longest reply */

struct vu_device;

struct vu_device_ops {
	/* The kick descriptor must not be watched any more: it is about to be closed, or the ring
	 * changes. */
	void (*detach)(struct vu_device *device, struct vu_queue *queue);
	/* A request changed which rings run or are enabled. */
	void (*changed)(struct vu_device *device);
};

struct vu_device {
	const struct vu_device_ops *ops;
	struct vu_queue queues[VU_RINGS];
	struct vu_memory memory;
	uint64_t features;	    /* negotiated */
	uint64_t protocol_features; /* negotiated */
	uint8_t status;		    /* of the virtio device, as the front-end says */
	bool broken;		    /* a ring lied; all rest until they are set up anew */
	/*
	 * The front-end may hand what it is offered to the guest as it is, and have neither a
	 * configuration space nor a control queue: it is offered what takes one of these only once
	 * it has told its protocol features, as QEMU asks again then. Set before the first request.
	 */
	bool wary;
};

/* All that is offered: virtio-net's and vhost's feature bits, and the protocol's. */
uint64_t vu_device_features(void);
uint64_t vu_device_protocol_features(void);

/* 0 or -errno. The device is as after a new connection. */
int vu_device_init(struct vu_device *device, const struct vu_device_ops *ops);
void vu_device_destroy(struct vu_device *device);

/*
 * Carries out one request.
 *
 * fds:       descriptors that came with it; those that are kept are replaced by -1, the rest is the
 * caller's to close. reply:     room for VU_REPLY_MAX bytes; *reply_len is 0 if nothing is to be
 * answered. Returns 0, also if the request was refused, which the reply says if one was asked for,
 * or -EPROTO if the connection must be closed.
 */
int vu_device_handle(struct vu_device *device, const struct vu_message *message, int *fds,
		     unsigned int n_fds, uint8_t *reply, size_t *reply_len);

/* The connection is gone: stops and forgets everything. */
void vu_device_disconnect(struct vu_device *device);

/* A ring lied: stops all of them and asks for a reset in the device's status. */
void vu_device_break(struct vu_device *device);

/* Whether pair i runs and is enabled, both ways. */
bool vu_device_pair_active(const struct vu_device *device, unsigned int pair);
