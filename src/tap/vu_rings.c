/* SPDX-License-Identifier: Apache-2.0 */
#include "vu_rings.h"

static bool has(const struct vu_device *device, unsigned int bit)
{
	return device->features & VU_FEATURE(bit);
}

void vu_ring_hold(struct vu_device *device, struct vu_queue *queue)
{
	device->ops->detach(device, queue);
	vu_queue_hold(queue);
}

void vu_rings_hold(struct vu_device *device)
{
	for (unsigned int i = 0; i < VU_RINGS; i++)
		vu_ring_hold(device, &device->queues[i]);
}

void vu_rings_resume(struct vu_device *device)
{
	for (unsigned int i = 0; i < VU_RINGS; i++)
		vu_queue_resume(&device->queues[i]);
}

bool vu_ring_translate(const struct vu_device *device, const struct vu_queue *queue,
		       struct vring_setup *setup)
{
	bool packed = has(device, VIRTIO_F_RING_PACKED);
	const struct vu_vring_addr *addr = &queue->addr;
	size_t desc_len = vring_desc_len(queue->num, packed);

	if (!desc_len || addr->desc % 16 || addr->avail % (packed ? 4 : 2) || addr->used % 4)
		return false;
	*setup = (struct vring_setup){
		.num = queue->num,
		.desc = vu_memory_user(&device->memory, addr->desc, desc_len),
		.driver = vu_memory_user(&device->memory, addr->avail,
					 vring_driver_len(queue->num, packed)),
		.device = vu_memory_user(&device->memory, addr->used,
					 vring_device_len(queue->num, packed)),
		.log_addr = addr->log,
		.log_used = addr->flags & VU_VRING_F_LOG,
		.packed = packed,
		.event_idx = has(device, VIRTIO_RING_F_EVENT_IDX),
		.indirect = has(device, VIRTIO_RING_F_INDIRECT_DESC),
	};
	return setup->desc && setup->driver && setup->device;
}

void vu_ring_try_start(struct vu_device *device, struct vu_queue *queue)
{
	struct vring_setup setup;

	if (queue->running || queue->kick_fd < 0 || !queue->addr_set ||
	    !vu_ring_translate(device, queue, &setup) ||
	    vring_start(&queue->ring, &setup, &device->memory, queue->base))
		return;
	queue->features = device->features;
	if (!has(device, VHOST_USER_F_PROTOCOL_FEATURES))
		queue->enabled = true;
	queue->running = true;
	/* Whoever served it before may have given buffers back without a call. */
	if (queue->call_fd >= 0)
		vu_eventfd_add(queue->call_fd);
	device->broken = false;
}

void vu_ring_relocate(struct vu_device *device, struct vu_queue *queue)
{
	struct vring_setup setup;

	if (!queue->running) {
		vu_ring_try_start(device, queue);
	} else if (vu_ring_translate(device, queue, &setup) && setup.num == queue->ring.setup.num &&
		   setup.packed == queue->ring.setup.packed) {
		queue->ring.setup = setup;
	} else {
		queue->running = false;
		queue->base = vring_base(&queue->ring);
	}
}

void vu_rings_relocate(struct vu_device *device)
{
	for (unsigned int i = 0; i < VU_RINGS; i++)
		vu_ring_relocate(device, &device->queues[i]);
}

void vu_ring_stop(struct vu_queue *queue)
{
	if (queue->running)
		queue->base = vring_base(&queue->ring);
	queue->running = false;
	vu_close_fd(&queue->kick_fd);
}

void vu_ring_reset(struct vu_queue *queue)
{
	vu_ring_stop(queue);
	vu_close_fd(&queue->call_fd);
	queue->enabled = false;
	queue->num = 0;
	queue->base = 0;
	queue->addr_set = false;
}

void vu_ring_forget(struct vu_queue *queue)
{
	vu_ring_reset(queue);
	vu_close_fd(&queue->err_fd);
}
