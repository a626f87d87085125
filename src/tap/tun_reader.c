/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The reader of a tap device with fewer queues than shards: it reads all queues, steers each frame
 * by its flow's hash, and hands one batch per shard over a turn, in place where the design allows
 * that.
 */
#include "handover.h"
#include "tun.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

struct tun_reader {
	struct tun_transport *tun;
	struct counters *counters;
	pthread_t thread;
	bool started;
	int epoll_fd;
	int stop_fd; /* an eventfd, in the epoll with a NULL pointer */
	struct handover handover;
};

/* Whether no shard holds a slab of any queue. */
static bool is_idle(const void *transport)
{
	const struct tun_transport *tun = transport;

	for (unsigned int i = 0; i < tun->n_queues; i++)
		for (unsigned int j = 0; j < TUN_SLABS; j++)
			if (atomic_load_explicit(&tun->queues[i].slabs[j].refs,
						 memory_order_acquire))
				return false;
	return true;
}

/* last: no other queue is known to have something waiting. */
static void queue_turn(struct tun_reader *reader, struct tun_queue *queue, bool last) ON_READER
{
	struct tun_turn turn;

	handover_balance(&reader->handover);
	tun_turn_read(queue, &turn);
	if (!turn.slab) {
		if (turn.more)
			sched_yield(); /* the shards hold everything that was read: let them run */
		return;
	}
	for (unsigned int i = 0; i < turn.n_frames; i++)
		handover_add(&reader->handover, turn.frames[i]);
	handover_run(&reader->handover, turn.slab, last && !turn.more);
	slab_put(turn.slab);
}

static void prepare_thread(const struct config *config)
{
	cpu_set_t cpus;

	pthread_setname_np(pthread_self(), "tap-reader");
	if (config->n_cpus == 0)
		return;
	CPU_ZERO(&cpus);
	CPU_SET((size_t)config->cpus[0], &cpus);
	pthread_setaffinity_np(pthread_self(), sizeof(cpus), &cpus);
}

static void *reader_main(void *arg)
{
	struct tun_reader *reader = arg;
	struct epoll_event events[MAX_QUEUES + 1];
	bool stop = false;

	role_is_reader();
	prepare_thread(reader->tun->rt->config);
	rcu_register_thread();
	while (!stop) {
		int n;

		rcu_thread_offline();
		n = epoll_wait(reader->epoll_fd, events, MAX_QUEUES + 1, -1);
		rcu_thread_online();
		count_add(reader->counters, COUNT_LOOPS, 1);
		for (int i = 0; i < n; i++) {
			if (events[i].data.ptr)
				queue_turn(reader, events[i].data.ptr, n == 1);
			else
				stop = true;
		}
	}
	/* A command's last words may still be in a queue when its end is known. */
	for (unsigned int i = 0; i < reader->tun->n_queues; i++)
		queue_turn(reader, &reader->tun->queues[i], false);
	rcu_unregister_thread();
	return NULL;
}

static int epoll_watch(int epoll_fd, int fd, void *ptr)
{
	struct epoll_event event = { .events = EPOLLIN, .data.ptr = ptr };

	return epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0 ? -errno : 0;
}

int tun_reader_new(struct tun_reader **out, struct tun_transport *tun, struct counters *counters)
{
	struct tun_reader *reader = calloc(1, sizeof(*reader));
	int error;

	if (!reader)
		return -ENOMEM;
	reader->tun = tun;
	reader->counters = counters;
	handover_init(&reader->handover, tun->rt, counters, is_idle, tun);
	reader->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	reader->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	error = reader->epoll_fd < 0 || reader->stop_fd < 0
			? -errno
			: epoll_watch(reader->epoll_fd, reader->stop_fd, NULL);
	for (unsigned int i = 0; error == 0 && i < tun->n_queues; i++)
		error = epoll_watch(reader->epoll_fd, tun->queues[i].source.fd, &tun->queues[i]);
	if (error < 0) {
		tun_reader_free(reader);
		return error;
	}
	*out = reader;
	return 0;
}

int tun_reader_start(struct tun_reader *reader)
{
	sigset_t all, before;
	int error;

	sigfillset(&all); /* signals are the control thread's */
	pthread_sigmask(SIG_SETMASK, &all, &before);
	error = pthread_create(&reader->thread, NULL, reader_main, reader);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	reader->started = error == 0;
	return -error;
}

void tun_reader_stop(struct tun_reader *reader)
{
	if (!reader->started)
		return;
	eventfd_write(reader->stop_fd, 1);
	pthread_join(reader->thread, NULL);
	reader->started = false;
}

void tun_reader_free(struct tun_reader *reader)
{
	if (!reader)
		return;
	if (reader->epoll_fd >= 0)
		close(reader->epoll_fd);
	if (reader->stop_fd >= 0)
		close(reader->stop_fd);
	free(reader);
}
