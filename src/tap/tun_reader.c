/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The reader of a tap device with fewer queues than shards: it reads all queues, steers each frame
 * by its flow's hash, and hands one batch per shard over a turn, in place where the design allows
 * that.
 */
#include "tun.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define INLINE_FRAMES 32
#define INLINE_BYTES  (64u << 10)
#define READER_RING   0 /* the only reader's number */

struct tun_reader {
	struct tun_transport *tun;
	struct counters *counters;
	pthread_t thread;
	bool started;
	int epoll_fd;
	int stop_fd; /* an eventfd, in the epoll with a NULL pointer */
	struct batch batches[MAX_SHARDS];
};

static void run_in_place(struct tun_reader *reader, struct shard *shard,
			 struct batch *batch) ON_READER
{
	role_is_shard(); /* by shard_try_enter() */
	count_add(reader->counters, COUNT_BATCHES_INLINE, 1);
	count_add(reader->counters, COUNT_FRAMES_INLINE, batch->n_frames);
	shard_drain_ring(shard, READER_RING); /* what was pushed before goes first */
	shard_run_batch(shard, batch);
	shard_leave(shard);
}

static void push(struct tun_reader *reader, struct shard *shard, struct batch *batch)
{
	if (!ring_push(shard_ring(shard, READER_RING), batch)) {
		count_drop_n(reader->counters, DROP_POOL_EMPTY, batch->n_frames);
		batch_done(batch);
		return;
	}
	count_add(reader->counters, COUNT_BATCHES_RING, 1);
	count_add(reader->counters, COUNT_FRAMES_RING, batch->n_frames);
	shard_wake(shard, reader->counters);
}

static void hand_over(struct tun_reader *reader, unsigned int id, bool in_place) ON_READER
{
	struct shard *shard = reader->tun->rt->shards[id];
	struct batch *batch = &reader->batches[id];

	in_place = in_place && batch->n_frames <= INLINE_FRAMES && batch->bytes <= INLINE_BYTES;
	if (in_place && shard_try_enter(shard))
		run_in_place(reader, shard, batch);
	else
		push(reader, shard, batch);
	*batch = (struct batch){ 0 };
}

/* Sorts a turn's frames by shard. Returns the number of shards that got some. */
static unsigned int sort(struct tun_reader *reader, const struct tun_turn *turn)
{
	unsigned int n = 0;

	for (unsigned int i = 0; i < turn->n_frames; i++) {
		struct frame *frame = turn->frames[i];
		struct batch *batch = &reader->batches[steer(reader->tun->rt, frame->hash)];

		if (batch->n_frames == 0) {
			batch->slab = turn->slab;
			slab_get(turn->slab);
			n++;
		}
		batch_add(batch, frame);
	}
	return n;
}

/* last: no other queue is known to have something waiting. */
static void queue_turn(struct tun_reader *reader, struct tun_queue *queue, bool last) ON_READER
{
	const struct runtime *rt = reader->tun->rt;
	struct tun_turn turn;
	unsigned int n_targets;
	bool in_place;

	tun_turn_read(queue, &turn);
	if (!turn.slab) {
		if (turn.more)
			sched_yield(); /* the shards hold everything that was read: let them run */
		return;
	}
	n_targets = sort(reader, &turn);
	in_place = last && !turn.more && n_targets == 1 && !rt->config->inline_off;
	for (unsigned int id = 0; n_targets > 0 && id < rt->n_shards; id++) {
		if (reader->batches[id].n_frames == 0)
			continue;
		hand_over(reader, id, in_place);
		n_targets--;
	}
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
