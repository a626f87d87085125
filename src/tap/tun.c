/* SPDX-License-Identifier: Apache-2.0 */
#include "tun.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

static struct tun_transport *tun_of(struct transport *transport)
{
	return (struct tun_transport *)(void *)transport;
}

static void slab_release(struct slab *slab)
{
	(void)slab; /* a slab is free when nobody holds it: see slab_take() */
}

static size_t queue_room(void)
{
	return TUN_SLABS * (size_t)TUN_SLAB_SIZE;
}

static size_t queue_frames(void)
{
	return (TUN_SLABS * TUN_TURN_MAX * sizeof(struct frame) + 4095u) & ~(size_t)4095u;
}

static void queue_init(struct tun_transport *tun, unsigned int index, int fd, uint8_t *room)
{
	struct tun_queue *queue = &tun->queues[index];

	queue->tun = tun;
	queue->index = (uint16_t)index;
	queue->source = (struct shard_source){ fd, tun_source_read };
	queue->frames = (struct frame *)(void *)(room + queue_room());
	for (unsigned int i = 0; i < TUN_SLABS; i++) {
		struct slab *slab = &queue->slabs[i];

		slab->release = slab_release;
		slab->owner = queue;
		slab->bytes = room + i * (size_t)TUN_SLAB_SIZE;
		slab->size = TUN_SLAB_SIZE;
		slab->frames = &queue->frames[(size_t)i * TUN_TURN_MAX];
		slab->max_frames = TUN_TURN_MAX;
		slab->index = i;
	}
}

/* Maps everything that reading and writing need: address space, which becomes memory as it is used.
 */
static int tun_map(struct tun_transport *tun, const int *queue_fds)
{
	unsigned int n_txs = tun->rt->n_shards + 1;
	uint8_t *at;

	tun->map_size = tun->n_queues * (queue_room() + queue_frames()) + n_txs * tun_tx_room();
	tun->map = mmap(NULL, tun->map_size, PROT_READ | PROT_WRITE,
			MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (tun->map == MAP_FAILED) {
		tun->map = NULL;
		return -errno;
	}
	at = tun->map;
	for (unsigned int i = 0; i < tun->n_queues; i++) {
		queue_init(tun, i, queue_fds[i], at);
		at += queue_room() + queue_frames();
	}
	for (unsigned int i = 0; i < n_txs; i++) {
		tun_tx_init(tun, i, at);
		at += tun_tx_room();
	}
	return 0;
}

static struct tx *tun_tx(struct transport *transport, unsigned int index)
{
	return tun_tx_of(tun_of(transport), index);
}

static int shards_start(struct tun_transport *tun)
{
	for (unsigned int i = 0; i < tun->n_queues; i++) {
		struct shard *shard = tun->rt->shards[i % tun->rt->n_shards];
		struct tun_queue *queue = &tun->queues[i];
		int error;

		queue->counters = shard_counters(shard);
		error = shard_add_source(shard, &queue->source);
		if (error < 0)
			return error;
	}
	return 0;
}

static int tun_start(struct transport *transport)
{
	struct tun_transport *tun = tun_of(transport);

	return tun->reader ? tun_reader_start(tun->reader) : shards_start(tun);
}

static void tun_stop(struct transport *transport)
{
	struct tun_transport *tun = tun_of(transport);

	if (tun->reader) {
		tun_reader_stop(tun->reader);
		return;
	}
	/* A command's last words may still be in a queue when its end is known. */
	for (unsigned int i = 0; i < tun->n_queues; i++)
		shard_finish_source(tun->rt->shards[i % tun->rt->n_shards], &tun->queues[i].source);
}

/* The queues' descriptors are owned from tun_transport_new() on success. */
static void tun_release(struct tun_transport *tun)
{
	tun_reader_free(tun->reader);
	if (tun->map)
		munmap(tun->map, tun->map_size);
	if (tun->idle_fd >= 0)
		close(tun->idle_fd);
	free(tun->transport.reader_counters);
	free(tun->queues);
	free(tun->txs);
	free(tun);
}

static void tun_free(struct transport *transport)
{
	struct tun_transport *tun = tun_of(transport);

	for (unsigned int i = 0; i < tun->n_queues; i++)
		close(tun->queues[i].source.fd);
	tun_release(tun);
}

static const struct transport_ops tun_ops = {
	.tx = tun_tx,
	.start = tun_start,
	.stop = tun_stop,
	.free = tun_free,
};

static int reader_add(struct tun_transport *tun)
{
	struct counters *counters = aligned_alloc(CACHE_LINE, (sizeof(*counters) + CACHE_LINE - 1) &
								      ~(size_t)(CACHE_LINE - 1));

	if (!counters)
		return -ENOMEM;
	memset(counters, 0, sizeof(*counters));
	tun->transport.reader_counters = counters;
	for (unsigned int i = 0; i < tun->n_queues; i++)
		tun->queues[i].counters = counters;
	return tun_reader_new(&tun->reader, tun, counters);
}

static int tun_fill(struct tun_transport *tun, const int *queue_fds)
{
	int error;

	tun->queues = calloc(tun->n_queues, sizeof(*tun->queues));
	tun->txs = calloc(tun->rt->n_shards + 1, tun_tx_size());
	if (!tun->queues || !tun->txs)
		return -ENOMEM;
	tun->idle_fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (tun->idle_fd < 0)
		return -errno;
	error = tun_map(tun, queue_fds);
	if (error < 0 || tun->n_queues >= tun->rt->n_shards)
		return error;
	return reader_add(tun);
}

int tun_transport_new(struct transport **out, struct runtime *rt, const int *queue_fds,
		      unsigned int n_queues, unsigned int offloads, struct pcap *pcap)
{
	struct tun_transport *tun;
	int error;

	if (n_queues == 0 || n_queues > MAX_QUEUES)
		return -EINVAL;
	tun = calloc(1, sizeof(*tun));
	if (!tun)
		return -ENOMEM;
	tun->transport.ops = &tun_ops;
	tun->rt = rt;
	tun->pcap = pcap;
	tun->offloads = offloads;
	tun->n_queues = n_queues;
	tun->idle_fd = -1;
	error = tun_fill(tun, queue_fds);
	if (error < 0) {
		tun_release(tun);
		return error;
	}
	rt->n_readers = tun->reader ? 1 : 0;
	*out = &tun->transport;
	return 0;
}
