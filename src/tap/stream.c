/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The UNIX stream transport: its making and its end. All memory is mapped here; a page is there
 * only once its thread has touched it.
 */
#include "stream.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#define FRAMES_SIZE (STREAM_SLAB_FRAMES * sizeof(struct frame))

static struct stream *stream_of(struct transport *transport)
{
	return (struct stream *)(void *)((char *)transport - offsetof(struct stream, transport));
}

/* A forked child that was given a descriptor must not stay connected. */
static void close_fd(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

static struct tx *stream_tx(struct transport *transport, unsigned int index)
{
	return &stream_of(transport)->txs[index].tx;
}

static int stream_start(struct transport *transport)
{
	struct stream *stream = stream_of(transport);
	struct runtime *rt = stream->rt;
	int err;

	for (unsigned int i = 0; i < rt->n_shards; i++)
		stream->txs[i].tx.counters = shard_counters(rt->shards[i]);
	err = pthread_create(&stream->thread, NULL, stream_reader_main, stream);
	stream->started = !err;
	return -err;
}

static void stream_stop(struct transport *transport)
{
	struct stream *stream = stream_of(transport);

	if (!stream->started)
		return;
	atomic_store_explicit(&stream->stopping, true, memory_order_release);
	eventfd_write(stream->event_fd, 1);
	pthread_join(stream->thread, NULL);
	stream->started = false;
	pthread_mutex_lock(&stream->tx_lock);
	/* An even generation: shards that are still at work have nowhere to send. */
	if (stream->fd >= 0)
		atomic_fetch_add_explicit(&stream->generation, 1, memory_order_release);
	close_fd(&stream->fd);
	close_fd(&stream->out_fd);
	pthread_mutex_unlock(&stream->tx_lock);
	close_fd(&stream->listen_fd);
}

static void stream_free(struct transport *transport)
{
	struct stream *stream = stream_of(transport);

	stream_stop(transport);
	close_fd(&stream->listen_fd);
	close_fd(&stream->given_fd);
	close_fd(&stream->epoll_fd);
	close_fd(&stream->event_fd);
	close_fd(&stream->spare_fd);
	if (stream->memory)
		munmap(stream->memory, stream->mapped);
	pthread_mutex_destroy(&stream->tx_lock);
	free(stream);
}

static const struct transport_ops stream_ops = {
	.tx = stream_tx,
	.start = stream_start,
	.stop = stream_stop,
	.free = stream_free,
};

static int map_memory(struct stream *stream)
{
	size_t size = STREAM_SLABS * (STREAM_SLAB_SIZE + FRAMES_SIZE) +
		      stream->n_txs * (size_t)STREAM_TX_SIZE;
	void *at = mmap(NULL, size, PROT_READ | PROT_WRITE,
			MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (at == MAP_FAILED)
		return -errno;
	if (stream->rt->config->huge_pages)
		madvise(at, size, MADV_HUGEPAGE);
	stream->memory = at;
	stream->mapped = size;
	log_debug("memory: %zu KiB of slabs and transmit batches, touched as used", size / 1024);
	return 0;
}

/* Gives each slab and each transmit batch its part of the memory. */
static void share_memory(struct stream *stream)
{
	uint8_t *at = stream->memory;

	for (unsigned int i = 0; i < STREAM_SLABS; i++, at += STREAM_SLAB_SIZE) {
		stream->slabs[i].bytes = at;
		stream->slabs[i].size = STREAM_SLAB_SIZE;
	}
	for (unsigned int i = 0; i < STREAM_SLABS; i++, at += FRAMES_SIZE) {
		stream->slabs[i].frames = (struct frame *)(void *)at;
		stream->slabs[i].max_frames = STREAM_SLAB_FRAMES;
	}
	for (unsigned int i = 0; i < stream->n_txs; i++, at += STREAM_TX_SIZE)
		stream_tx_init(stream, i, at);
}

static int watch_in(struct stream *stream, int fd, enum stream_event tag)
{
	struct epoll_event ev = { .events = EPOLLIN, .data.u32 = tag };

	return epoll_ctl(stream->epoll_fd, EPOLL_CTL_ADD, fd, &ev) ? -errno : 0;
}

static int open_descriptors(struct stream *stream)
{
	int err;

	stream->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	stream->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (stream->epoll_fd < 0 || stream->event_fd < 0)
		return -errno;
	stream->spare_fd = fcntl(stream->event_fd, F_DUPFD_CLOEXEC, 0);
	if (stream->spare_fd < 0)
		return -errno;
	err = watch_in(stream, stream->event_fd, STREAM_EVENT_WAKE);
	if (err || stream->listen_fd < 0)
		return err;
	/* A guest that has hung up before it was accepted must not block the reader. */
	if (fcntl(stream->listen_fd, F_SETFL, O_NONBLOCK))
		return -errno;
	return watch_in(stream, stream->listen_fd, STREAM_EVENT_LISTEN);
}

int stream_transport_new(struct transport **out, struct runtime *rt, int listen_fd,
			 int connected_fd, struct pcap *pcap)
{
	struct stream *stream = calloc(1, sizeof(*stream));
	int err;

	if (!stream)
		return -ENOMEM;
	stream->transport =
		(struct transport){ .ops = &stream_ops, .reader_counters = &stream->counters };
	stream->rt = rt;
	stream->pcap = pcap;
	stream->listen_fd = listen_fd;
	stream->given_fd = connected_fd;
	stream->epoll_fd = stream->event_fd = stream->spare_fd = stream->fd = stream->out_fd = -1;
	stream->n_txs = rt->n_shards + 1;
	pthread_mutex_init(&stream->tx_lock, NULL);
	err = map_memory(stream);
	if (!err)
		err = open_descriptors(stream);
	if (err) {
		stream_free(&stream->transport);
		return err;
	}
	share_memory(stream);
	stream_rx_init(stream);
	*out = &stream->transport;
	return 0;
}
