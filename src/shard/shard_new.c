/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A shard's memory and descriptors: made by the main thread before the shards run, freed when none
 * runs any more. Mapped here, touched first by the thread that uses it.
 */
#include "shard_internal.h"

#include "dgram.h"
#include "hostsock.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/timerfd.h>
#include <unistd.h>

static int watch_own(struct shard *shard, int fd, struct pollee *pollee, enum pollee_kind kind)
{
	struct epoll_event ev = { .events = EPOLLIN | EPOLLET, .data.ptr = pollee };

	pollee->kind = kind;
	return epoll_ctl(shard->epoll_fd, EPOLL_CTL_ADD, fd, &ev) ? -errno : 0;
}

static int make_descriptors(struct shard *shard)
{
	int ret;

	shard->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	shard->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	shard->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	if (shard->epoll_fd < 0 || shard->wake_fd < 0 || shard->timer_fd < 0)
		return -errno;
	shard->spare_fd = fcntl(shard->wake_fd, F_DUPFD_CLOEXEC, 0);
	if (shard->spare_fd < 0)
		return -errno;
	/* Edge-triggered: each write and each expiry is one event, and neither is ever read. */
	ret = watch_own(shard, shard->wake_fd, &shard->wake_pollee, POLL_WAKE);
	return ret ? ret : watch_own(shard, shard->timer_fd, &shard->timer_pollee, POLL_TIMER);
}

static void *map_memory(size_t size)
{
	void *p = mmap(NULL, size, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	return p == MAP_FAILED ? NULL : p;
}

/* A shard's part of the entries, and a quarter more, as hashes spread them unevenly. */
static uint32_t flows_of(const struct runtime *rt)
{
	uint32_t part = rt->config->flows / rt->n_shards;

	return part + part / 4 + 64;
}

static int map_pools(struct shard *shard)
{
	const struct runtime *rt = shard->rt;

	shard->n_flows = flows_of(rt);
	shard->n_rings = rt->n_readers + rt->n_shards;
	shard->flows = map_memory(shard->n_flows * sizeof(struct flow));
	shard->rings = map_memory(shard->n_rings * sizeof(struct ring));
	shard->discard = map_memory(HOSTSOCK_DISCARD_SIZE);
	if (!shard->flows || !shard->rings || !shard->discard)
		return -ENOMEM;
	if (rt->config->huge_pages)
		madvise(shard->flows, shard->n_flows * sizeof(struct flow), MADV_HUGEPAGE);
	return pool_init(&shard->pool, rt->config->pool_bytes / rt->n_shards);
}

/* Whether the kernel has SO_PEEK_OFF for TCP sockets of a family: 6.9 for IPv4, later for IPv6.
 * True if there are no such sockets. */
static bool family_has_peek_off(int family)
{
	int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	bool works;

	if (fd < 0)
		return true;
	works = hostsock_set_peek(fd, 0) == 0;
	close(fd);
	return works;
}

/* One answer for all: what a port that is forwarded for both versions accepts is an IPv6 socket,
 * also for a connection of IPv4. */
static bool has_peek_off(void)
{
	return family_has_peek_off(AF_INET) && family_has_peek_off(AF_INET6);
}

static void init_lists(struct shard *shard)
{
	shard_init_lists(shard);
	cds_wfcq_init(&shard->reclaim_head, &shard->reclaim_tail);
	for (unsigned int i = 0; i < 2 * MAX_QUEUES; i++)
		shard->sources[i].pollee.kind = POLL_SOURCE;
}

int shard_new(struct shard **out, struct runtime *rt, unsigned int id, struct tx *tx)
{
	struct shard *shard = map_memory(sizeof(*shard));
	pthread_mutexattr_t attr;
	int ret;

	if (!shard)
		return -ENOMEM;
	shard->rt = rt;
	shard->id = id;
	shard->tx = tx;
	shard->epoll_fd = shard->wake_fd = shard->timer_fd = shard->spare_fd = -1;
	shard->timer_armed_us = UINT64_MAX;
	shard->now_us = shard_clock_us();
	/* Held for some microseconds: cheaper to look a few times more than to sleep. */
	pthread_mutexattr_init(&attr);
	pthread_mutexattr_settype(&attr, PTHREAD_MUTEX_ADAPTIVE_NP);
	pthread_mutex_init(&shard->inside, &attr);
	pthread_mutexattr_destroy(&attr);
	init_lists(shard);
	spread_init(&shard->spread);
	/* A vhost-user guest chooses the queue by itself. */
	shard->spreads = rt->config->mode == MODE_NAMESPACE && !rt->n_readers && rt->n_shards > 1;
	wheel_init(&shard->wheel, shard->now_us);
	shard->peek_off = !rt->config->no_peek_off && has_peek_off();
	tx->counters = &shard->counters;
	ret = make_descriptors(shard);
	ret = ret ? ret : map_pools(shard);
	ret = ret ? ret : flow_table_init(&shard->table, shard->n_flows);
	ret = ret ? ret : splicer_init(shard);
	ret = ret ? ret : dgrams_init(shard);
	if (ret) {
		shard_free(shard);
		return ret;
	}
	*out = shard;
	return 0;
}

static void unmap(void *p, size_t size)
{
	if (p)
		munmap(p, size);
}

void shard_free(struct shard *shard)
{
	const int fds[] = { shard->epoll_fd, shard->wake_fd, shard->timer_fd, shard->spare_fd };

	for (size_t i = 0; i < sizeof(fds) / sizeof(fds[0]); i++) {
		if (fds[i] >= 0)
			close(fds[i]);
	}
	dgrams_free(shard);
	splicer_free(shard);
	flow_table_free(&shard->table);
	pool_free(&shard->pool);
	unmap(shard->flows, shard->n_flows * sizeof(struct flow));
	unmap(shard->rings, shard->n_rings * sizeof(struct ring));
	unmap(shard->discard, HOSTSOCK_DISCARD_SIZE);
	pthread_mutex_destroy(&shard->inside);
	unmap(shard, sizeof(*shard));
}
