/* SPDX-License-Identifier: Apache-2.0 */
#include "vu_device.h"

#include "vu_rings.h"

#include "taploom/log.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/timerfd.h>
#include <unistd.h>

#define MTU_MIN 68u
#define POLL_NS 100000 /* between looks at a ring without a kick descriptor */

/* What a handler sees of one request. */
struct call {
	struct vu_device *device;
	const struct vu_message *message;
	int *fds;
	unsigned int n_fds;
	uint8_t *reply;
	size_t reply_len;
};

static uint64_t features_of(const uint8_t *bits, size_t n)
{
	uint64_t features = 0;

	for (size_t i = 0; i < n; i++)
		features |= VU_FEATURE(bits[i]);
	return features;
}

/*
 * What takes a configuration space or a control queue, which are the front-end's: it takes the bits
 * that name them from here all the same. MQ and GUEST_ANNOUNCE depend on CTRL_VQ (virtio 1.2,
 * 5.1.3.1).
 */
static uint64_t front_end_features(void)
{
	static const uint8_t bits[] = {
		VIRTIO_NET_F_MTU, VIRTIO_NET_F_STATUS,	VIRTIO_NET_F_GUEST_ANNOUNCE,
		VIRTIO_NET_F_MQ,  VIRTIO_NET_F_CTRL_VQ,
	};

	return features_of(bits, sizeof(bits));
}

uint64_t vu_device_features(void)
{
	static const uint8_t bits[] = {
		VIRTIO_NET_F_CSUM,	 VIRTIO_NET_F_GUEST_CSUM, VIRTIO_NET_F_GUEST_TSO4,
		VIRTIO_NET_F_GUEST_TSO6, VIRTIO_NET_F_GUEST_ECN,  VIRTIO_NET_F_HOST_TSO4,
		VIRTIO_NET_F_HOST_TSO6,	 VIRTIO_NET_F_HOST_ECN,	  VIRTIO_NET_F_GUEST_USO4,
		VIRTIO_NET_F_GUEST_USO6, VIRTIO_NET_F_HOST_USO,	  VIRTIO_NET_F_MRG_RXBUF,
		VIRTIO_F_ANY_LAYOUT,	 VIRTIO_RING_F_EVENT_IDX, VIRTIO_F_VERSION_1,
		VIRTIO_F_RING_PACKED,	 VIRTIO_F_IN_ORDER,	  VIRTIO_RING_F_INDIRECT_DESC,
		VHOST_F_LOG_ALL,
	};

	return VU_FEATURE(VHOST_USER_F_PROTOCOL_FEATURES) | front_end_features() |
	       features_of(bits, sizeof(bits));
}

uint64_t vu_device_protocol_features(void)
{
	return VU_FEATURE(VU_PROTOCOL_MQ) | VU_FEATURE(VU_PROTOCOL_LOG_SHMFD) |
	       VU_FEATURE(VU_PROTOCOL_RARP) | VU_FEATURE(VU_PROTOCOL_REPLY_ACK) |
	       VU_FEATURE(VU_PROTOCOL_MTU) | VU_FEATURE(VU_PROTOCOL_RESET_DEVICE) |
	       VU_FEATURE(VU_PROTOCOL_CONFIGURE_MEM_SLOTS) | VU_FEATURE(VU_PROTOCOL_STATUS);
}

/* Handlers: 0 or -errno, which the front-end learns if it asked for a reply. */

static int reply_u64(struct call *call, uint64_t value)
{
	call->reply_len =
		vu_reply_encode_u64(call->reply, VU_REPLY_MAX, call->message->request, value);
	return 0;
}

static struct vu_queue *queue_of(struct call *call, uint64_t index)
{
	return index < VU_RINGS ? &call->device->queues[index] : NULL;
}

/* Takes the only descriptor of a request; -1 if there isn't exactly one. */
static int take_fd(struct call *call)
{
	int fd = call->n_fds == 1 ? call->fds[0] : -1;

	if (fd >= 0)
		call->fds[0] = -1;
	return fd;
}

static int get_features(struct call *call)
{
	const struct vu_device *device = call->device;
	bool all = !device->wary || device->protocol_features;

	return reply_u64(call, vu_device_features() & ~(all ? 0 : front_end_features()));
}

static int set_features(struct call *call)
{
	struct vu_device *device = call->device;

	if (call->message->u64 & ~vu_device_features())
		return -EINVAL;
	vu_rings_hold(device);
	device->features = call->message->u64;
	device->memory.logging = device->features & VU_FEATURE(VHOST_F_LOG_ALL);
	vu_rings_resume(device);
	return 0;
}

static int get_protocol_features(struct call *call)
{
	return reply_u64(call, vu_device_protocol_features());
}

static int set_protocol_features(struct call *call)
{
	if (call->message->u64 & ~vu_device_protocol_features())
		return -EINVAL;
	call->device->protocol_features = call->message->u64;
	return 0;
}

static int accept_silently(struct call *call)
{
	(void)call;
	return 0;
}

static int set_mem_table(struct call *call)
{
	struct vu_device *device = call->device;
	const struct vu_message *message = call->message;
	int err = 0;

	if (call->n_fds != message->n_regions)
		return -EINVAL;
	vu_rings_hold(device);
	vu_memory_remove_all(&device->memory);
	for (uint32_t i = 0; i < message->n_regions && !err; i++)
		err = vu_memory_add(&device->memory, &message->regions[i], call->fds[i]);
	vu_rings_relocate(device);
	vu_rings_resume(device);
	return err;
}

static int add_mem_reg(struct call *call)
{
	struct vu_device *device = call->device;
	int err;

	if (call->n_fds != 1)
		return -EINVAL;
	vu_rings_hold(device);
	err = vu_memory_add(&device->memory, &call->message->region, call->fds[0]);
	vu_rings_relocate(device);
	vu_rings_resume(device);
	return err;
}

static int rem_mem_reg(struct call *call)
{
	struct vu_device *device = call->device;
	int err;

	vu_rings_hold(device);
	err = vu_memory_remove(&device->memory, &call->message->region);
	vu_rings_relocate(device);
	vu_rings_resume(device);
	return err;
}

static int get_max_mem_slots(struct call *call)
{
	return reply_u64(call, VU_MEM_SLOTS);
}

static int set_log_base(struct call *call)
{
	struct vu_device *device = call->device;
	int err = -EINVAL;

	if (call->n_fds == 1) {
		vu_rings_hold(device);
		err = vu_memory_set_log(&device->memory, &call->message->log, call->fds[0]);
		vu_rings_resume(device);
	}
	if (device->protocol_features & VU_FEATURE(VU_PROTOCOL_LOG_SHMFD))
		reply_u64(call, err ? 1 : 0);
	return err;
}

static void halt_ring(struct call *call, struct vu_queue *queue)
{
	vu_ring_hold(call->device, queue);
	vu_ring_stop(queue);
	vu_queue_resume(queue);
}

/* Front-ends that reset a device without GET_VRING_BASE set it up anew with what follows; nothing
 * is to be read or written any more where the ring was. */
static int set_vring_num(struct call *call)
{
	struct vu_queue *queue = queue_of(call, call->message->state.index);
	uint32_t num = call->message->state.num;

	if (!queue || !vring_desc_len(num, true))
		return -EINVAL;
	if (queue->running && num != queue->ring.setup.num) {
		halt_ring(call, queue);
		queue->addr_set = false; /* of the size before */
	}
	queue->num = num;
	return 0;
}

/* Whether a running ring stands there; then it goes on, for a driver that may know other features.
 */
static bool stands_at(struct call *call, struct vu_queue *queue, uint32_t base)
{
	bool there;

	vu_ring_hold(call->device, queue);
	there = vring_base(&queue->ring) == base;
	if (there)
		queue->features = call->device->features;
	vu_queue_resume(queue);
	return there;
}

static int set_vring_base(struct call *call)
{
	struct vu_queue *queue = queue_of(call, call->message->state.index);
	uint32_t base = call->message->state.num;

	if (!queue)
		return -EINVAL;
	if (queue->running && stands_at(call, queue, base))
		return 0;
	if (queue->running)
		halt_ring(call, queue); /* its address may have been told anew before */
	queue->base = base;
	return 0;
}

static int set_vring_addr(struct call *call)
{
	struct vu_queue *queue = queue_of(call, call->message->addr.index);
	struct vu_device *device = call->device;
	struct vring_setup setup;

	if (!queue)
		return -EINVAL;
	vu_ring_hold(device, queue);
	queue->addr = call->message->addr;
	queue->addr_set = true;
	vu_ring_relocate(device, queue);
	vu_queue_resume(queue);
	/* What it is in may be told later. */
	return !queue->num || !device->memory.n_mappings || vu_ring_translate(device, queue, &setup)
		       ? 0
		       : -EFAULT;
}

static int get_vring_base(struct call *call)
{
	struct vu_queue *queue = queue_of(call, call->message->state.index);
	struct vu_vring_state state = call->message->state;

	if (!queue)
		return -EINVAL;
	halt_ring(call, queue);
	state.num = queue->base;
	call->reply_len =
		vu_reply_encode_state(call->reply, VU_REPLY_MAX, call->message->request, state);
	return 0;
}

/*
 * The descriptor of SET_VRING_KICK and its like, or -1 for none. It must not block us, whatever it
 * is. -EINVAL: there is neither a descriptor nor the flag that says so.
 */
static int take_vring_fd(struct call *call, int *fd)
{
	*fd = take_fd(call);
	if (*fd < 0)
		return call->message->u64 & VU_VRING_FD_NONE ? 0 : -EINVAL;
	if (fcntl(*fd, F_SETFL, fcntl(*fd, F_GETFL) | O_NONBLOCK) < 0) {
		int err = -errno;

		vu_close_fd(fd);
		return err;
	}
	return 0;
}

/* What is watched in place of a kick descriptor if the front-end gives none: a timer's. */
static int polling_fd(void)
{
	struct itimerspec period = { { 0, POLL_NS }, { 0, POLL_NS } };
	int fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);

	if (fd >= 0)
		timerfd_settime(fd, 0, &period, NULL);
	return fd < 0 ? -errno : fd;
}

static int set_vring_kick(struct call *call)
{
	struct vu_queue *queue = queue_of(call, call->message->u64 & 0xff);
	int fd, err;

	if (!queue)
		return -EINVAL;
	err = take_vring_fd(call, &fd);
	if (err)
		return err;
	if (fd < 0)
		fd = polling_fd();
	if (fd < 0)
		return fd;
	vu_ring_hold(call->device, queue);
	vu_close_fd(&queue->kick_fd);
	queue->kick_fd = fd;
	vu_ring_try_start(call->device, queue);
	vu_queue_resume(queue);
	return 0;
}

static int set_vring_call(struct call *call)
{
	struct vu_queue *queue = queue_of(call, call->message->u64 & 0xff);
	int fd, err;

	if (!queue)
		return -EINVAL;
	err = take_vring_fd(call, &fd);
	if (err)
		return err;
	pthread_mutex_lock(&queue->lock);
	vu_close_fd(&queue->call_fd);
	queue->call_fd = fd;
	queue->ring.signalled_valid = false; /* what was signalled before may have gone nowhere */
	if (fd >= 0 && queue->running)
		vu_eventfd_add(fd);
	pthread_mutex_unlock(&queue->lock);
	return 0;
}

static int set_vring_err(struct call *call)
{
	struct vu_queue *queue = queue_of(call, call->message->u64 & 0xff);
	int fd, err;

	if (!queue)
		return -EINVAL;
	err = take_vring_fd(call, &fd);
	if (err)
		return err;
	pthread_mutex_lock(&queue->lock);
	vu_close_fd(&queue->err_fd);
	queue->err_fd = fd;
	pthread_mutex_unlock(&queue->lock);
	return 0;
}

static int get_queue_num(struct call *call)
{
	return reply_u64(call, MAX_QUEUES);
}

static int set_vring_enable(struct call *call)
{
	struct vu_queue *queue = queue_of(call, call->message->state.index);

	if (!queue || call->message->state.num > 1)
		return -EINVAL;
	vu_ring_hold(call->device, queue);
	queue->enabled = call->message->state.num;
	vu_queue_resume(queue);
	return 0;
}

/* The MTU itself is announced by DHCP and router advertisements. */
static int set_mtu(struct call *call)
{
	return call->message->u64 >= MTU_MIN && call->message->u64 <= UINT16_MAX ? 0 : -EINVAL;
}

static void reset_device(struct vu_device *device, void (*reset_ring)(struct vu_queue *queue))
{
	vu_rings_hold(device);
	for (unsigned int i = 0; i < VU_RINGS; i++)
		reset_ring(&device->queues[i]);
	device->features = 0;
	device->memory.logging = false;
	device->status = 0;
	device->broken = false;
	vu_rings_resume(device);
}

static int do_reset_device(struct call *call)
{
	reset_device(call->device, vu_ring_reset);
	return 0;
}

/* 0 is a reset (virtio 1.2, 2.1): rings stop at their base. */
static int set_status(struct call *call)
{
	struct vu_device *device = call->device;

	device->status = (uint8_t)(call->message->u64 & ~(uint64_t)VIRTIO_CONFIG_S_NEEDS_RESET);
	if (device->status)
		return 0;
	vu_rings_hold(device);
	for (unsigned int i = 0; i < VU_RINGS; i++)
		vu_ring_stop(&device->queues[i]);
	device->broken = false;
	vu_rings_resume(device);
	return 0;
}

static int get_status(struct call *call)
{
	struct vu_device *device = call->device;

	return reply_u64(call, device->status | (device->broken ? VIRTIO_CONFIG_S_NEEDS_RESET : 0));
}

/* There is none, and it was not offered. Who asks all the same waits for an answer: one without
 * bytes says so; or a refusal, if that was asked for. */
static int get_config(struct call *call)
{
	if (!call->message->need_reply)
		call->reply_len = vu_reply_encode_no_config(call->reply, VU_REPLY_MAX);
	return -EOPNOTSUPP;
}

static int (*const handlers[VU_REQUESTS])(struct call *call) = {
	[VU_GET_FEATURES] = get_features,
	[VU_SET_FEATURES] = set_features,
	[VU_SET_OWNER] = accept_silently,
	[VU_RESET_OWNER] = accept_silently, /* deprecated: recommended to be ignored */
	[VU_SET_MEM_TABLE] = set_mem_table,
	[VU_SET_LOG_BASE] = set_log_base,
	[VU_SET_LOG_FD] = accept_silently, /* an optional wake-up that nobody waits for */
	[VU_SET_VRING_NUM] = set_vring_num,
	[VU_SET_VRING_ADDR] = set_vring_addr,
	[VU_SET_VRING_BASE] = set_vring_base,
	[VU_GET_VRING_BASE] = get_vring_base,
	[VU_SET_VRING_KICK] = set_vring_kick,
	[VU_SET_VRING_CALL] = set_vring_call,
	[VU_SET_VRING_ERR] = set_vring_err,
	[VU_GET_PROTOCOL_FEATURES] = get_protocol_features,
	[VU_SET_PROTOCOL_FEATURES] = set_protocol_features,
	[VU_GET_QUEUE_NUM] = get_queue_num,
	[VU_SET_VRING_ENABLE] = set_vring_enable,
	[VU_SEND_RARP] = accept_silently, /* no switch has to learn where the guest is */
	[VU_NET_SET_MTU] = set_mtu,
	[VU_GET_CONFIG] = get_config,
	[VU_RESET_DEVICE] = do_reset_device,
	[VU_GET_MAX_MEM_SLOTS] = get_max_mem_slots,
	[VU_ADD_MEM_REG] = add_mem_reg,
	[VU_REM_MEM_REG] = rem_mem_reg,
	[VU_SET_STATUS] = set_status,
	[VU_GET_STATUS] = get_status,
};

int vu_device_handle(struct vu_device *device, const struct vu_message *message, int *fds,
		     unsigned int n_fds, uint8_t *reply, size_t *reply_len)
{
	struct call call = { device, message, fds, n_fds, reply, 0 };
	uint32_t request = message->request;
	int err =
		request < VU_REQUESTS && handlers[request] ? handlers[request](&call) : -EOPNOTSUPP;

	if (err)
		log_debug("vhost-user: request %u refused: %s", request, strerror(-err));
	device->ops->changed(device);
	if (!call.reply_len && message->need_reply &&
	    device->protocol_features & VU_FEATURE(VU_PROTOCOL_REPLY_ACK))
		reply_u64(&call, err ? 1 : 0);
	*reply_len = call.reply_len;
	/* Who waits for a base would wait for ever. */
	return err && !call.reply_len && request == VU_GET_VRING_BASE ? -EPROTO : 0;
}

/* Life */

int vu_device_init(struct vu_device *device, const struct vu_device_ops *ops)
{
	memset(device, 0, sizeof(*device));
	device->ops = ops;
	vu_memory_init(&device->memory);
	for (unsigned int i = 0; i < VU_RINGS; i++) {
		int err = vu_queue_init(&device->queues[i], (uint16_t)i);

		if (err) {
			while (i--)
				vu_queue_destroy(&device->queues[i]);
			return err;
		}
	}
	return 0;
}

void vu_device_destroy(struct vu_device *device)
{
	for (unsigned int i = 0; i < VU_RINGS; i++) {
		vu_ring_forget(&device->queues[i]);
		vu_queue_destroy(&device->queues[i]);
	}
	vu_memory_clear(&device->memory);
}

void vu_device_disconnect(struct vu_device *device)
{
	reset_device(device, vu_ring_forget);
	device->protocol_features = 0;
	vu_memory_clear(&device->memory);
	device->ops->changed(device);
}

void vu_device_break(struct vu_device *device)
{
	vu_rings_hold(device);
	for (unsigned int i = 0; i < VU_RINGS; i++) {
		struct vu_queue *queue = &device->queues[i];

		if (queue->running)
			vu_queue_signal_error(queue);
		vu_ring_stop(queue);
	}
	device->broken = true;
	vu_rings_resume(device);
	device->ops->changed(device);
}

bool vu_device_pair_active(const struct vu_device *device, unsigned int pair)
{
	const struct vu_queue *to = &device->queues[2 * pair];
	const struct vu_queue *from = to + 1;

	return to->running && to->enabled && from->running && from->enabled;
}
