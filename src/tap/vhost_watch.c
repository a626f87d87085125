/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who watches which kick descriptor. With as many pairs in use as there are shards, or more, pair i
 * belongs to shard i mod N; with fewer the control-socket thread reads them all. A ring that runs
 * without being enabled is drained by that thread.
 *
 * A change of hands waits until what the old hands took is done, so that no frame overtakes
 * another.
 */
#include "vhost.h"

#include <errno.h>
#include <sys/epoll.h>

static struct vhost *vhost_of(struct vu_device *device)
{
	return (struct vhost *)(void *)((char *)device - offsetof(struct vhost, device));
}

static const struct {
	uint64_t features; /* all of them */
	uint32_t cap;
} cap_rules[] = {
	{ VU_FEATURE(VIRTIO_NET_F_GUEST_CSUM), TX_CSUM },
	{ VU_FEATURE(VIRTIO_NET_F_GUEST_TSO4), TX_TSO4 },
	{ VU_FEATURE(VIRTIO_NET_F_GUEST_TSO6), TX_TSO6 },
	{ VU_FEATURE(VIRTIO_NET_F_GUEST_ECN), TX_ECN },
	{ VU_FEATURE(VIRTIO_NET_F_GUEST_USO4) | VU_FEATURE(VIRTIO_NET_F_GUEST_USO6), TX_USO },
};

static uint32_t caps_of(uint64_t features)
{
	uint32_t caps = 0;

	for (size_t i = 0; i < sizeof(cap_rules) / sizeof(cap_rules[0]); i++)
		if ((features & cap_rules[i].features) == cap_rules[i].features)
			caps |= cap_rules[i].cap;
	return caps & TX_CSUM ? caps : 0; /* the others depend on it (virtio 1.2, 5.1.3.1) */
}

static void unwatch(struct vhost *vhost, struct vu_port *port)
{
	if (port->shard)
		shard_remove_source(port->shard, &port->source);
	else if (port->by_reader)
		epoll_ctl(vhost->epoll_fd, EPOLL_CTL_DEL, port->source.fd, NULL);
	port->shard = NULL;
	port->by_reader = false;
	port->source.fd = -1;
}

static void detach(struct vu_device *device, struct vu_queue *queue)
{
	struct vhost *vhost = vhost_of(device);

	vhost->was_held |= queue->running && !vu_queue_from_guest(queue);
	unwatch(vhost, &vhost->ports[queue->index]);
}

static int watch(struct vhost *vhost, struct vu_port *port, struct shard *shard)
{
	struct epoll_event event = { .events = EPOLLIN, .data.ptr = port };
	int err = 0;

	port->source = (struct shard_source){ port->queue->kick_fd, vu_port_read };
	port->counters = shard ? shard_counters(shard) : &vhost->counters;
	port->kicks_off = false;
	port->known = (struct known_addrs){ 0 };
	if (shard)
		err = shard_add_source(shard, &port->source);
	else if (epoll_ctl(vhost->epoll_fd, EPOLL_CTL_ADD, port->source.fd, &event) < 0)
		err = -errno;
	if (err) {
		port->source.fd = -1;
		return err;
	}
	port->shard = shard;
	port->by_reader = !shard;
	/* The ring may hold chains since before anybody watched. Where one is not enabled, and what
	 * a front-end forgot may have been where it was, nothing is to be looked at uncalled. */
	if (port->queue->enabled)
		vu_eventfd_add(port->source.fd);
	return 0;
}

static void rewatch(struct vhost *vhost, struct vu_port *port, struct shard *shard)
{
	int err;

	if ((port->shard || port->by_reader) && port->shard == shard)
		return;
	unwatch(vhost, port);
	vu_queue_hold(port->queue);
	vu_queue_resume(port->queue);
	err = watch(vhost, port, shard);
	if (err)
		log_warning("vhost-user: queue %u cannot be watched: %s", port->queue->index,
			    strerror(-err));
}

static void announce(struct vhost *vhost, bool active)
{
	if (!active || vhost->announced)
		return;
	vhost->announced = true;
	control_guest_event(vhost->rt->control, GUEST_CONNECTED);
}

static void changed(struct vu_device *device)
{
	struct vhost *vhost = vhost_of(device);
	unsigned int n_shards = vhost->rt->n_shards, n_active = 0;
	uint64_t active = 0, before;

	for (unsigned int pair = 0; pair < MAX_QUEUES; pair++)
		if (vu_device_pair_active(device, pair)) {
			active |= 1ull << pair;
			n_active++;
		}
	atomic_store_explicit(&vhost->caps, caps_of(device->features), memory_order_relaxed);
	before = atomic_exchange(&vhost->active, active);
	for (unsigned int i = 0; i < VU_RINGS; i++) {
		struct vu_port *port = &vhost->ports[i];
		bool own = n_active >= n_shards && active >> i / 2 & 1;

		if (!port->queue->running)
			unwatch(vhost, port);
		else
			rewatch(vhost, port, own ? vhost->rt->shards[i / 2 % n_shards] : NULL);
	}
	announce(vhost, active);
	if (active != before || vhost->was_held)
		vu_tx_wake_all(vhost);
	vhost->was_held = false;
}

const struct vu_device_ops vhost_device_ops = { .detach = detach, .changed = changed };
