/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The stream's reader thread. It waits for the listening socket, the connection and its own
 * eventfd; it alone opens and closes the connection. When no slab is free it stops asking for
 * input, and the guest's writes block: that is the back-pressure.
 */
#include "stream.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define EVENTS_MAX 8
/* Asked for; the kernel's limits decide. More would only make a queue that adds delay. */
#define SOCKET_BUFFER (1 << 20)

static void raise_buffer(int fd, int forced, int plain)
{
	const int size = SOCKET_BUFFER;

	if (setsockopt(fd, SOL_SOCKET, forced, &size, sizeof(size)))
		setsockopt(fd, SOL_SOCKET, plain, &size, sizeof(size));
}

static int watch(struct stream *stream, int op, int fd, uint32_t events, enum stream_event tag)
{
	struct epoll_event ev = { .events = events, .data.u32 = tag };

	return epoll_ctl(stream->epoll_fd, op, fd, &ev) ? -errno : 0;
}

/* Puts the connection into the epoll, twice: who waits for room arms the second entry. */
static int watch_guest(struct stream *stream, int fd, int out_fd)
{
	int err = watch(stream, EPOLL_CTL_ADD, fd, EPOLLIN, STREAM_EVENT_CONN);

	if (!err)
		err = watch(stream, EPOLL_CTL_ADD, out_fd, EPOLLONESHOT, STREAM_EVENT_OUT);
	return err;
}

/* Sets what the other threads see of the connection. */
static void publish_guest(struct stream *stream, int fd, int out_fd)
{
	pthread_mutex_lock(&stream->tx_lock);
	stream->fd = fd;
	stream->out_fd = out_fd;
	stream->cut_len = 0;
	atomic_fetch_add_explicit(&stream->generation, 1, memory_order_release);
	pthread_mutex_unlock(&stream->tx_lock);
}

/* Takes up a connection; fd is owned. */
static void open_guest(struct stream *stream, int fd) ON_READER
{
	int out_fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	int err = out_fd < 0 ? -errno : watch_guest(stream, fd, out_fd);

	if (err) {
		log_limited(&stream->limit, LOG_LEVEL_ERROR, "guest: cannot be served: %s",
			    strerror(-err));
		if (out_fd >= 0)
			close(out_fd);
		close(fd);
		return;
	}
	raise_buffer(fd, SO_SNDBUFFORCE, SO_SNDBUF);
	raise_buffer(fd, SO_RCVBUFFORCE, SO_RCVBUF);
	publish_guest(stream, fd, out_fd);
	/* What found no guest, such as a SYN for a connection accepted before, waits for room. */
	for (unsigned int i = 0; i < stream->rt->n_shards; i++)
		shard_wake_tx(stream->rt->shards[i]);
	log_limited(&stream->limit, LOG_LEVEL_INFO, "guest: connected");
	control_guest_event(stream->rt->control, GUEST_CONNECTED);
}

static void close_guest(struct stream *stream) ON_READER
{
	int fd = stream->fd, out_fd = stream->out_fd;

	publish_guest(stream, -1, -1);
	/* Another process may hold the same socket: closing alone would leave it in the epoll. */
	epoll_ctl(stream->epoll_fd, EPOLL_CTL_DEL, fd, NULL);
	epoll_ctl(stream->epoll_fd, EPOLL_CTL_DEL, out_fd, NULL);
	close(fd);
	close(out_fd);
	stream->paused = stream->read_due = false;
	stream_rx_reset(stream);
	stream_tx_wake_all(stream);
	handover_settle(&stream->handover); /* what it still sent goes before its flows */
	shards_reset_flows(stream->rt);
	guest_mac_forget(stream->rt);
	log_limited(&stream->limit, LOG_LEVEL_INFO, "guest: disconnected");
	if (stream->rt->config->one_off && stream->listen_fd >= 0)
		epoll_ctl(stream->epoll_fd, EPOLL_CTL_DEL, stream->listen_fd, NULL);
	control_guest_event(stream->rt->control, GUEST_GONE);
}

/* No descriptor is left: refuses the guest with the spare one, as it would be reported for ever. */
static void refuse_guest(struct stream *stream)
{
	int fd;

	log_limited(&stream->limit, LOG_LEVEL_ERROR,
		    "guest: refused, the limit on open files is reached; see ulimit -n");
	count_drop(&stream->counters, DROP_FD_LIMIT);
	close(stream->spare_fd);
	fd = accept4(stream->listen_fd, NULL, NULL, SOCK_CLOEXEC);
	if (fd >= 0)
		close(fd);
	stream->spare_fd = fcntl(stream->event_fd, F_DUPFD_CLOEXEC, 0);
	if (stream->spare_fd < 0) /* a shard took it: no reason to spin */
		poll(NULL, 0, 1);
}

/* Whether the guest has hung up already: its successor's attempt may be reported before its end. */
static bool guest_has_gone(const struct stream *stream)
{
	struct pollfd p = { .fd = stream->fd, .events = POLLRDHUP };

	return poll(&p, 1, 0) == 1 && p.revents & (POLLRDHUP | POLLHUP | POLLERR);
}

static void on_listen(struct stream *stream, uint32_t events) ON_READER
{
	int fd = accept4(stream->listen_fd, NULL, NULL, SOCK_CLOEXEC);

	(void)events;
	if (fd < 0) {
		if (errno == EMFILE || errno == ENFILE)
			refuse_guest(stream);
		return;
	}
	if (stream->fd >= 0 && !stream->rt->config->one_off && guest_has_gone(stream))
		close_guest(stream);
	if (stream->fd < 0) {
		open_guest(stream, fd);
		return;
	}
	log_limited(&stream->limit, LOG_LEVEL_WARNING,
		    "guest: a second one was refused, one is connected");
	close(fd);
}

static void on_conn(struct stream *stream, uint32_t events) ON_READER
{
	if (stream->fd < 0)
		return;
	/* While paused the end of the connection is still reported, and would be for ever. */
	if (stream->paused && (events & (EPOLLHUP | EPOLLERR)))
		close_guest(stream);
	else
		stream->read_due = true;
}

static void on_out(struct stream *stream, uint32_t events) ON_READER
{
	(void)events;
	stream_tx_resume(stream);
}

static void on_wake(struct stream *stream, uint32_t events) ON_READER
{
	eventfd_t n;

	(void)events;
	eventfd_read(stream->event_fd, &n);
}

/* All run on the reader's thread, which the table hides from the analysis. */
static void (*const handlers[STREAM_EVENTS])(struct stream *stream, uint32_t events) = {
	[STREAM_EVENT_LISTEN] = on_listen,
	[STREAM_EVENT_CONN] = on_conn,
	[STREAM_EVENT_OUT] = on_out,
	[STREAM_EVENT_WAKE] = on_wake,
};

static void pause_reading(struct stream *stream, bool pause)
{
	if (stream->paused == pause)
		return;
	stream->paused = pause;
	watch(stream, EPOLL_CTL_MOD, stream->fd, pause ? 0 : EPOLLIN, STREAM_EVENT_CONN);
}

static void read_guest(struct stream *stream) ON_READER
{
	stream->read_due = false;
	switch (stream_rx_turn(stream)) {
	case STREAM_READ_OK:
		pause_reading(stream, false);
		break;
	case STREAM_READ_STARVED:
		pause_reading(stream, true);
		break;
	case STREAM_READ_END:
		close_guest(stream);
		break;
	}
}

static uint64_t now_us(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

/* Polls without sleeping for as long as the option says. */
static int busy_poll(struct stream *stream, struct epoll_event *events)
{
	const uint64_t until = now_us() + stream->rt->config->busy_poll_us;
	int n;

	do {
		n = epoll_wait(stream->epoll_fd, events, EVENTS_MAX, 0);
		rcu_quiescent_state();
	} while (n == 0 && now_us() < until);
	return n;
}

static int wait_events(struct stream *stream, struct epoll_event *events)
{
	int n = 0;

	if (stream->more && !stream->paused)
		return epoll_wait(stream->epoll_fd, events, EVENTS_MAX, 0);
	if (stream->rt->config->busy_poll_us)
		n = busy_poll(stream, events);
	if (n)
		return n;
	rcu_thread_offline();
	n = epoll_wait(stream->epoll_fd, events, EVENTS_MAX, -1);
	rcu_thread_online();
	return n;
}

static void run_loop(struct stream *stream) ON_READER
{
	struct epoll_event events[EVENTS_MAX];

	while (!atomic_load_explicit(&stream->stopping, memory_order_acquire)) {
		int n = wait_events(stream, events);

		for (int i = 0; i < n; i++)
			handlers[events[i].data.u32](stream, events[i].events);
		if (stream->fd >= 0 && (stream->read_due || stream->more || stream->paused)) {
			handover_balance(&stream->handover);
			read_guest(stream);
		}
		count_add(&stream->counters, COUNT_LOOPS, 1);
		rcu_quiescent_state();
	}
}

static void pin(const struct config *config)
{
	cpu_set_t set;
	int err;

	if (!config->n_cpus)
		return;
	CPU_ZERO(&set);
	CPU_SET((size_t)config->cpus[0], &set);
	err = pthread_setaffinity_np(pthread_self(), sizeof(set), &set);
	if (err)
		log_warning("reader: cannot be pinned to CPU %d: %s", config->cpus[0],
			    strerror(err));
}

void *stream_reader_main(void *arg)
{
	struct stream *stream = arg;

	role_is_reader();
	pthread_setname_np(pthread_self(), "reader");
	pin(stream->rt->config);
	rcu_register_thread();
	if (stream->given_fd >= 0)
		open_guest(stream, stream->given_fd);
	stream->given_fd = -1;
	run_loop(stream);
	rcu_unregister_thread();
	return NULL;
}
