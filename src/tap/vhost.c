/* SPDX-License-Identifier: Apache-2.0 */
#include "vhost.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#define EVENTS (VU_RINGS + 3)

static struct vhost *vhost_of(struct transport *transport)
{
	return (struct vhost *)(void *)transport;
}

static void close_fd(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

void vhost_lied(struct vhost *vhost, const struct vu_queue *queue, struct counters *counters)
{
	count_drop(counters, DROP_VRING);
	log_limited(
		&vhost->limit, LOG_LEVEL_WARNING,
		"vhost-user: queue %u lies about its descriptors; the device rests until the guest "
		"sets it up anew",
		queue->index);
	atomic_store(&vhost->lied, true);
	vu_eventfd_add(vhost->event_fd);
}

/* The connection */

static int epoll_watch(struct vhost *vhost, int fd, void *ptr)
{
	struct epoll_event event = { .events = EPOLLIN, .data.ptr = ptr };

	return epoll_ctl(vhost->epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0 ? -errno : 0;
}

static void forget_message(struct vhost *vhost)
{
	for (unsigned int i = 0; i < vhost->n_message_fds; i++)
		close_fd(&vhost->message_fds[i]);
	vhost->n_message_fds = 0;
	vhost->message_len = 0;
}

static int connect_front_end(struct vhost *vhost, int fd)
{
	int err = fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK) < 0 ? -errno : 0;

	if (!err)
		err = epoll_watch(vhost, fd, &vhost->fd);
	if (err) {
		close(fd);
		return err;
	}
	vhost->fd = fd;
	log_info("vhost-user: a front-end is connected");
	return 0;
}

static void disconnect(struct vhost *vhost)
{
	if (vhost->fd < 0)
		return;
	epoll_ctl(vhost->epoll_fd, EPOLL_CTL_DEL, vhost->fd, NULL);
	close_fd(&vhost->fd);
	forget_message(vhost);
	vu_device_disconnect(&vhost->device);
	role_is_reader();
	rcu_thread_online();		   /* it enters each shard */
	handover_settle(&vhost->handover); /* frames on their way go before their flows */
	shards_reset_flows(vhost->rt);
	rcu_thread_offline();
	guest_mac_forget(vhost->rt);
	vhost->announced = false;
	log_info("vhost-user: the front-end is gone");
	control_guest_event(vhost->rt->control, GUEST_GONE);
}

/* Messages */

static void take_fds(struct vhost *vhost, const struct cmsghdr *cmsg)
{
	size_t n = (cmsg->cmsg_len - CMSG_LEN(0)) / sizeof(int);

	for (size_t i = 0; i < n; i++) {
		int fd;

		memcpy(&fd, CMSG_DATA(cmsg) + i * sizeof(int), sizeof(int));
		if (vhost->n_message_fds < VU_FDS_MAX)
			vhost->message_fds[vhost->n_message_fds++] = fd;
		else
			close(fd);
	}
}

/*
 * Reads until want bytes of the message are there. 1: they are; 0: not yet; -errno: the connection
 * is over. Never reads into the next message, whose descriptors would be mixed up with these.
 */
static int read_to(struct vhost *vhost, size_t want)
{
	_Alignas(struct cmsghdr) uint8_t control[CMSG_SPACE(VU_FDS_MAX * sizeof(int))];

	while (vhost->message_len < want) {
		struct iovec iov = { vhost->message + vhost->message_len,
				     want - vhost->message_len };
		struct msghdr msg = { .msg_iov = &iov,
				      .msg_iovlen = 1,
				      .msg_control = control,
				      .msg_controllen = sizeof(control) };
		ssize_t got = recvmsg(vhost->fd, &msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);

		if (got < 0)
			return errno == EAGAIN || errno == EINTR ? 0 : -errno;
		for (struct cmsghdr *c = CMSG_FIRSTHDR(&msg); c; c = CMSG_NXTHDR(&msg, c))
			if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS)
				take_fds(vhost, c);
		if (got == 0)
			return -ECONNRESET;
		if (msg.msg_flags & MSG_CTRUNC)
			return -EPROTO;
		vhost->message_len += (size_t)got;
	}
	return 1;
}

/* Carries out a complete message. 0 or -errno: the connection ends. */
static int handle_message(struct vhost *vhost, const struct vu_header *header)
{
	struct vu_message message;
	uint8_t reply[VU_REPLY_MAX];
	size_t reply_len = 0;
	int err;

	if (!vu_payload_decode(header, vhost->message + VU_HEADER_LEN, header->size, &message))
		return -EPROTO;
	log_trace("vhost-user: request %u, %u descriptors", message.request, vhost->n_message_fds);
	err = vu_device_handle(&vhost->device, &message, vhost->message_fds, vhost->n_message_fds,
			       reply, &reply_len);
	forget_message(vhost);
	if (!err && reply_len &&
	    send(vhost->fd, reply, reply_len, MSG_NOSIGNAL | MSG_DONTWAIT) != (ssize_t)reply_len)
		err = -EPIPE;
	return err;
}

/* All messages that are there. 0, or -errno: the connection is over. */
static int read_messages(struct vhost *vhost)
{
	struct vu_header header;
	int got;

	for (;;) {
		got = read_to(vhost, VU_HEADER_LEN);
		if (got <= 0)
			return got;
		if (!vu_header_decode(vhost->message, &header))
			return -EPROTO;
		got = read_to(vhost, VU_HEADER_LEN + header.size);
		if (got <= 0)
			return got;
		if (header.reply) /* nothing was asked of the front-end */
			forget_message(vhost);
		else
			got = handle_message(vhost, &header);
		if (got < 0)
			return got;
	}
}

static void front_end_ready(struct vhost *vhost)
{
	int err = read_messages(vhost);

	if (err == -EPROTO)
		log_warning("vhost-user: the front-end broke the protocol, disconnecting");
	if (err < 0)
		disconnect(vhost);
}

/* No descriptor is left: an attempt that waits would be reported without end. */
static void refuse_front_end(struct vhost *vhost)
{
	int fd;

	log_limited(&vhost->limit, LOG_LEVEL_ERROR,
		    "vhost-user: a front-end was refused, the limit on open files is reached; see "
		    "ulimit -n");
	count_drop(&vhost->counters, DROP_FD_LIMIT);
	close_fd(&vhost->spare_fd);
	fd = accept4(vhost->listen_fd, NULL, NULL, SOCK_CLOEXEC);
	close_fd(&fd);
	vhost->spare_fd = fcntl(vhost->event_fd, F_DUPFD_CLOEXEC, 0);
	if (vhost->spare_fd < 0) /* a shard took it: no reason to spin */
		poll(NULL, 0, 1);
}

/* One front-end at a time: others are turned away, as they would wait for ever. */
static void accept_front_end(struct vhost *vhost)
{
	int fd = accept4(vhost->listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	if (fd < 0) {
		if (errno == EMFILE || errno == ENFILE)
			refuse_front_end(vhost);
		return;
	}
	if (vhost->fd >= 0)
		front_end_ready(vhost); /* it may be gone, which this turn would see later */
	if (vhost->fd >= 0) {
		log_info("vhost-user: a second front-end was turned away");
		close(fd);
		return;
	}
	connect_front_end(vhost, fd);
}

/* The thread. It may wait for shards while it handles messages: offline for RCU. */

static void thread_event(struct vhost *vhost)
{
	vhost_clear(vhost->event_fd);
	if (atomic_exchange(&vhost->lied, false))
		vu_device_break(&vhost->device);
}

/* What is not a kick. Whether it was that. */
static bool other_event(struct vhost *vhost, const void *ptr)
{
	if (ptr == &vhost->event_fd)
		thread_event(vhost);
	else if (ptr == &vhost->listen_fd)
		accept_front_end(vhost);
	else if (ptr == &vhost->fd)
		front_end_ready(vhost);
	else
		return false;
	return true;
}

static bool is_watched(const struct vu_port *port)
{
	return port->by_reader;
}

static void run_kicks(struct vhost *vhost, struct epoll_event *events, int n) ON_READER
{
	rcu_thread_online();
	for (int i = 0; i < n; i++) {
		struct vu_port *port = events[i].data.ptr;

		if (port && is_watched(port))
			vhost_reader_turn(vhost, port, n == 1);
	}
	rcu_thread_offline();
}

static void prepare_thread(const struct config *config)
{
	cpu_set_t cpus;

	pthread_setname_np(pthread_self(), "tap-reader");
	if (!config->n_cpus)
		return;
	CPU_ZERO(&cpus);
	CPU_SET((size_t)config->cpus[0], &cpus);
	pthread_setaffinity_np(pthread_self(), sizeof(cpus), &cpus);
}

static void loop(struct vhost *vhost) ON_READER
{
	struct epoll_event events[EVENTS];
	int n = 0;

	while (!atomic_load_explicit(&vhost->stopping, memory_order_acquire)) {
		bool poll = n > 0 && vhost->rt->config->busy_poll_us && vhost_reader_poll(vhost);

		n = epoll_wait(vhost->epoll_fd, events, EVENTS, poll ? 0 : -1);
		count_add(&vhost->counters, COUNT_LOOPS, 1);
		for (int i = 0; i < n; i++)
			if (other_event(vhost, events[i].data.ptr))
				events[i].data.ptr = NULL;
		run_kicks(vhost, events, n);
	}
}

static void *thread_main(void *arg)
{
	struct vhost *vhost = arg;

	role_is_reader();
	prepare_thread(vhost->rt->config);
	rcu_register_thread();
	rcu_thread_offline();
	loop(vhost);
	disconnect(vhost);
	rcu_thread_online();
	rcu_unregister_thread();
	return NULL;
}

/* The transport */

static struct tx *vhost_tx(struct transport *transport, unsigned int index)
{
	return &vhost_of(transport)->txs[index].tx;
}

static int vhost_start(struct transport *transport)
{
	struct vhost *vhost = vhost_of(transport);
	sigset_t all, before;
	int err;

	for (unsigned int i = 0; i < vhost->rt->n_shards; i++)
		vhost->txs[i].tx.counters = shard_counters(vhost->rt->shards[i]);
	sigfillset(&all); /* signals are the control thread's */
	pthread_sigmask(SIG_SETMASK, &all, &before);
	err = pthread_create(&vhost->thread, NULL, thread_main, vhost);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	vhost->started = !err;
	return -err;
}

/* While the shards still run: the sources are taken from them. */
static void vhost_stop(struct transport *transport)
{
	struct vhost *vhost = vhost_of(transport);

	if (!vhost->started)
		return;
	atomic_store_explicit(&vhost->stopping, true, memory_order_release);
	vu_eventfd_add(vhost->event_fd);
	pthread_join(vhost->thread, NULL);
	vhost->started = false;
	close_fd(&vhost->listen_fd);
}

static void vhost_free(struct transport *transport)
{
	struct vhost *vhost = vhost_of(transport);

	vhost_stop(transport);
	vu_device_destroy(&vhost->device);
	close_fd(&vhost->fd);
	close_fd(&vhost->listen_fd);
	close_fd(&vhost->epoll_fd);
	close_fd(&vhost->event_fd);
	close_fd(&vhost->spare_fd);
	if (vhost->slabs)
		munmap(vhost->slabs, vhost->slabs_size);
	if (vhost->txs)
		munmap(vhost->txs, vhost->txs_size);
	free(vhost);
}

static const struct transport_ops vhost_ops = {
	.tx = vhost_tx,
	.start = vhost_start,
	.stop = vhost_stop,
	.free = vhost_free,
};

static void *map(size_t size)
{
	void *at = mmap(NULL, size, PROT_READ | PROT_WRITE,
			MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	return at == MAP_FAILED ? NULL : at;
}

/* Address space, which becomes memory as it is used. */
static int make_memory(struct vhost *vhost)
{
	unsigned int n_txs = vhost->rt->n_shards + 1;

	vhost->slabs_size = (size_t)MAX_QUEUES * VU_SLABS * sizeof(*vhost->slabs);
	vhost->txs_size = n_txs * sizeof(*vhost->txs);
	vhost->slabs = map(vhost->slabs_size);
	vhost->txs = map(vhost->txs_size);
	if (!vhost->slabs || !vhost->txs)
		return -ENOMEM;
	log_debug("memory: %zu KiB of slabs and transmit batches, touched as used",
		  (vhost->slabs_size + vhost->txs_size) / 1024);
	for (unsigned int i = 0; i < n_txs; i++)
		vu_tx_init(&vhost->txs[i], vhost, i);
	vhost->txs[n_txs - 1].tx.counters = &vhost->control_counters;
	return 0;
}

static void make_ports(struct vhost *vhost)
{
	for (unsigned int i = 0; i < VU_RINGS; i++) {
		struct vu_port *port = &vhost->ports[i];

		port->vhost = vhost;
		port->queue = &vhost->device.queues[i];
		port->source.fd = -1;
		if (vu_queue_from_guest(port->queue))
			vu_rx_init(port, vhost->slabs + (size_t)(i / 2) * VU_SLABS);
	}
}

static int make_descriptors(struct vhost *vhost)
{
	int err = 0;

	vhost->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	vhost->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (vhost->epoll_fd < 0 || vhost->event_fd < 0)
		return -errno;
	vhost->spare_fd = fcntl(vhost->event_fd, F_DUPFD_CLOEXEC, 0);
	if (vhost->spare_fd < 0)
		return -errno;
	err = epoll_watch(vhost, vhost->event_fd, &vhost->event_fd);
	if (!err && vhost->listen_fd >= 0)
		err = epoll_watch(vhost, vhost->listen_fd, &vhost->listen_fd);
	return err;
}

int vhost_transport_new(struct transport **out, struct runtime *rt, int listen_fd, int connected_fd,
			struct pcap *pcap)
{
	struct vhost *vhost = calloc(1, sizeof(*vhost));
	int err = vhost ? vu_device_init(&vhost->device, &vhost_device_ops) : -ENOMEM;

	if (err) {
		free(vhost);
		return err;
	}
	vhost->transport = (struct transport){ &vhost_ops, &vhost->counters };
	vhost->device.wary = rt->config->as_passt;
	vhost->rt = rt;
	vhost->pcap = pcap;
	vhost->listen_fd = listen_fd;
	vhost->fd = vhost->epoll_fd = vhost->event_fd = vhost->spare_fd = -1;
	err = make_memory(vhost);
	if (!err)
		err = make_descriptors(vhost);
	if (err)
		goto fail;
	make_ports(vhost);
	handover_init(&vhost->handover, rt, &vhost->counters, vhost_reader_is_idle, vhost);
	rt->n_readers = 1;
	if (connected_fd >= 0) {
		err = connect_front_end(vhost, connected_fd);
		if (err)
			goto fail;
	}
	*out = &vhost->transport;
	return 0;
fail:
	vhost_free(&vhost->transport);
	return err;
}
