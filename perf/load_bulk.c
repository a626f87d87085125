/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Bulk TCP: each flow is written to, read from, or both, as fast as it goes or at a fixed rate. The
 * sender stops after its time and closes its half; the receiver reads to the end, but counts for
 * the rate only what came in the measured time, which begins with its first byte.
 */
#include "load.h"
#include "pattern.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define CHUNK	 (128 * 1024)
#define BIN_NS	 (10 * 1000 * 1000LL)
#define BINS_MAX (1 << 16)
#define GAP_NS	 (50 * 1000 * 1000LL)
#define LISTENER UINT32_MAX
#define DRAIN_NS (20 * NS_PER_S) /* how long a receiver waits for what is under way */
#define START_NS (10 * NS_PER_S)
#define CHECKED	 16 /* bytes */

struct bulk_flow {
	int fd;
	bool send_open, recv_open;
	uint64_t n_sent, n_recv;
	uint64_t n_window; /* bytes received in the measured time */
};

struct bulk {
	const struct load_options *options;
	int epoll_fd, listen_fd;
	unsigned int n_flows, n_open; /* made so far; those with a half open */
	bool started;		      /* a connection is there */
	int64_t begin_ns;	      /* made, before any byte */
	int64_t first_ns, last_ns;    /* of bytes received; 0 while there is none */
	int64_t longest_gap_ns;
	unsigned int n_gaps;
	uint64_t n_damaged; /* pieces that are not what was sent */
	uint64_t n_recv, n_sent, n_window;
	uint64_t *bins;
	struct bulk_flow flows[LOAD_FLOWS_MAX];
};

/* Sent from any offset of its first period on; received into room. */
static uint8_t pattern[2 * PATTERN_PERIOD + CHUNK], room[CHUNK];

static void add_flow(struct bulk *bulk, int fd)
{
	const struct load_options *options = bulk->options;
	uint32_t events =
		(options->traffic.recv ? EPOLLIN : 0) | (options->traffic.send ? EPOLLOUT : 0);

	bulk->flows[bulk->n_flows] = (struct bulk_flow){ .fd = fd,
							 .send_open = options->traffic.send,
							 .recv_open = options->traffic.recv };
	load_watch(bulk->epoll_fd, fd, events, bulk->n_flows);
	bulk->n_flows++;
	bulk->n_open++;
}

static void accept_flows(struct bulk *bulk)
{
	while (bulk->n_flows < bulk->options->traffic.n_flows) {
		int fd = accept4(bulk->listen_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

		if (fd < 0)
			return;
		add_flow(bulk, fd);
	}
}

/* Interest follows the open halves; a flow with none left is closed. */
static void update(struct bulk *bulk, struct bulk_flow *flow)
{
	struct epoll_event event = {
		.events = (flow->recv_open ? EPOLLIN : 0) | (flow->send_open ? EPOLLOUT : 0),
		.data.u32 = (uint32_t)(flow - bulk->flows),
	};

	if (flow->recv_open || flow->send_open) {
		epoll_ctl(bulk->epoll_fd, EPOLL_CTL_MOD, flow->fd, &event);
		return;
	}
	close(flow->fd);
	flow->fd = -1;
	bulk->n_open--;
}

static void count_received(struct bulk *bulk, struct bulk_flow *flow, uint64_t n)
{
	const struct load_options *options = bulk->options;
	int64_t now = load_now_ns(), at;
	bool in_time;

	if (!bulk->first_ns)
		bulk->first_ns = bulk->last_ns = now;
	at = now - bulk->first_ns;
	in_time = (double)at < (options->traffic.omit + options->traffic.seconds) * 1e9;
	if (in_time && (double)at >= options->traffic.omit * 1e9) {
		int64_t gap = now - bulk->last_ns;

		bulk->n_window += n;
		flow->n_window += n;
		bulk->n_gaps += gap > GAP_NS;
		if (gap > bulk->longest_gap_ns)
			bulk->longest_gap_ns = gap;
	}
	bulk->last_ns = now;
	bulk->n_recv += n;
	if (bulk->bins && at / BIN_NS < BINS_MAX)
		bulk->bins[at / BIN_NS] += n;
}

/* The first and the last bytes of what came, or all of it. */
static void check(struct bulk *bulk, struct bulk_flow *flow, size_t n)
{
	size_t end = n > CHECKED && !bulk->options->traffic.verify ? CHECKED : n;

	if (!pattern_matches(pattern, room, end, flow->n_recv) ||
	    !pattern_matches(pattern, room + n - end, end, flow->n_recv + n - end))
		bulk->n_damaged++;
	flow->n_recv += n;
}

static void flow_recv(struct bulk *bulk, struct bulk_flow *flow)
{
	ssize_t n = recv(flow->fd, room, sizeof(room), 0);

	if (n > 0) {
		check(bulk, flow, (size_t)n);
		count_received(bulk, flow, (uint64_t)n);
	} else if (n == 0) {
		flow->recv_open = false;
		update(bulk, flow);
	} else if (errno != EAGAIN && errno != EINTR) {
		load_die("recv");
	}
}

/* Whether the rate allows another chunk now. */
static bool may_send(const struct bulk *bulk)
{
	double elapsed = (double)(load_now_ns() - bulk->begin_ns) / 1e9;

	return !(bulk->options->traffic.rate > 0) ||
	       (double)bulk->n_sent < elapsed * bulk->options->traffic.rate;
}

static void flow_send(struct bulk *bulk, struct bulk_flow *flow)
{
	double until = (bulk->options->traffic.omit + bulk->options->traffic.seconds) * 1e9;
	ssize_t n;

	if ((double)(load_now_ns() - bulk->begin_ns) > until) {
		shutdown(flow->fd, SHUT_WR);
		flow->send_open = false;
		update(bulk, flow);
		return;
	}
	if (!may_send(bulk))
		return;
	n = send(flow->fd, pattern + flow->n_sent % PATTERN_PERIOD, CHUNK, 0);
	if (n > 0) {
		bulk->n_sent += (uint64_t)n;
		flow->n_sent += (uint64_t)n;
	} else if (n < 0 && errno != EAGAIN && errno != EINTR) {
		load_die("send");
	}
}

/* Whether nothing more is to be waited for: all is closed, or the time has long passed. */
static bool over(const struct bulk *bulk)
{
	const struct load_options *options = bulk->options;
	int64_t now = load_now_ns();
	int64_t until = (int64_t)((options->traffic.omit + options->traffic.seconds) * 1e9);

	if (bulk->n_flows == options->traffic.n_flows && bulk->n_open == 0)
		return true;
	if (bulk->n_flows < options->traffic.n_flows)
		return now - bulk->begin_ns > START_NS;
	return now - bulk->begin_ns > until + START_NS ||
	       (bulk->first_ns && now - bulk->first_ns > until + DRAIN_NS);
}

/* A sender with a rate to keep must not spin on sockets that could take more. */
static void pace(const struct bulk *bulk)
{
	if (bulk->options->traffic.rate > 0 && !may_send(bulk))
		usleep(200);
}

/* A sender's time begins with the first connection, so that a lost SYN takes nothing from it. */
static void start(struct bulk *bulk, uint32_t number)
{
	if (number == LISTENER)
		return;
	bulk->begin_ns = load_now_ns();
	bulk->started = true;
}

static void run(struct bulk *bulk)
{
	struct epoll_event events[64];

	while (!over(bulk)) {
		int n = epoll_wait(bulk->epoll_fd, events, 64, 100);

		if (n > 0 && !bulk->started)
			start(bulk, events[0].data.u32);
		if (bulk->options->traffic.send)
			pace(bulk);
		for (int i = 0; i < n; i++) {
			struct bulk_flow *flow;

			if (events[i].data.u32 == LISTENER) {
				accept_flows(bulk);
				continue;
			}
			flow = &bulk->flows[events[i].data.u32];
			if (flow->recv_open && events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR))
				flow_recv(bulk, flow);
			if (flow->send_open && events[i].events & (EPOLLOUT | EPOLLHUP | EPOLLERR))
				flow_send(bulk, flow);
		}
	}
}

/* Jain's index of the flows' bytes: 1 where all had the same. */
static double fairness(const struct bulk *bulk)
{
	double sum = 0, squares = 0;

	for (unsigned int i = 0; i < bulk->n_flows; i++) {
		double n = (double)bulk->flows[i].n_window;

		sum += n;
		squares += n * n;
	}
	return squares > 0 ? sum * sum / (bulk->n_flows * squares) : 0;
}

static void write_bins(const struct bulk *bulk)
{
	FILE *file = fopen(bulk->options->bins_path, "w");
	int64_t last = (bulk->last_ns - bulk->first_ns) / BIN_NS;

	if (!file)
		load_die(bulk->options->bins_path);
	for (int64_t i = 0; i <= last && i < BINS_MAX; i++)
		fprintf(file, "%llu\n", (unsigned long long)bulk->bins[i]);
	fclose(file);
}

static int report(const struct bulk *bulk)
{
	bool all = bulk->n_flows == bulk->options->traffic.n_flows;
	bool ok = all && !bulk->n_damaged && (!bulk->options->traffic.recv || bulk->n_recv);

	printf("{\"ok\": %s, \"whole\": %s, \"sent\": %llu, \"received\": %llu, \"window\": %llu, "
	       "\"seconds\": %.3f, \"longest_gap_ms\": %.3f, \"gaps\": %u, \"fairness\": %.4f, "
	       "\"damaged\": %llu}\n",
	       ok ? "true" : "false", bulk->n_open == 0 ? "true" : "false",
	       (unsigned long long)bulk->n_sent, (unsigned long long)bulk->n_recv,
	       (unsigned long long)bulk->n_window, bulk->options->traffic.seconds,
	       (double)bulk->longest_gap_ns / 1e6, bulk->n_gaps, fairness(bulk),
	       (unsigned long long)bulk->n_damaged);
	return all ? 0 : 1;
}

int load_bulk(const struct load_options *options)
{
	struct bulk *bulk = calloc(1, sizeof(*bulk));

	if (!bulk)
		load_die("memory");
	if (options->bins_path && !(bulk->bins = calloc(BINS_MAX, sizeof(*bulk->bins))))
		load_die("memory");
	pattern_fill(pattern, sizeof(pattern));
	bulk->options = options;
	bulk->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (options->listen) {
		bulk->listen_fd = load_listen(options);
		load_watch(bulk->epoll_fd, bulk->listen_fd, EPOLLIN, LISTENER);
	}
	bulk->begin_ns = load_now_ns();
	for (unsigned int i = 0; !options->listen && i < options->traffic.n_flows; i++)
		add_flow(bulk, load_connect(options));
	while (options->listen && bulk->n_flows == 0 && !over(bulk)) {
		usleep(200);
		accept_flows(bulk);
	}
	bulk->begin_ns = load_now_ns();
	run(bulk);
	if (options->bins_path)
		write_bins(bulk);
	return report(bulk);
}
