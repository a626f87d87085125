/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Transactions: a request, its response, the next; over connections that stay, or a new one for
 * each (closed by a reset, so that no port waits). The client keeps a histogram of the times that
 * transactions took.
 *
 * load_hold() is here too: connections that do nothing, to see what they cost.
 */
#include "histogram.h"
#include "load.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define LISTENER   UINT32_MAX
#define SIZE_LIMIT (64 * 1024)
#define START_NS   (10 * NS_PER_S)

struct trans_conn {
	int fd;
	size_t n_in;	  /* of the message that is being received */
	bool sent;	  /* client: the request is out */
	int64_t began_ns; /* client: of the connection or the request */
};

struct trans {
	const struct load_options *options;
	int epoll_fd, listen_fd;
	int64_t begin_ns;
	uint64_t n_all;
	struct histogram times; /* in the measured time */
	struct trans_conn conns[2 * LOAD_FLOWS_MAX];
};

static char message[SIZE_LIMIT];

/* Requests and responses are HTTP where they are long enough: what is in between may look at them.
 */
static void fill_message(const char *head, size_t size)
{
	memset(message, 'x', sizeof(message));
	if (size >= strlen(head) + 4) {
		memcpy(message, head, strlen(head));
		memcpy(message + size - 4, "\r\n\r\n", 4);
	}
}

static void client_connect(struct trans *trans, uint32_t number)
{
	struct trans_conn *conn = &trans->conns[number];

	*conn = (struct trans_conn){ .fd = load_connect(trans->options),
				     .began_ns = load_now_ns() };
	load_watch(trans->epoll_fd, conn->fd, EPOLLOUT, number);
}

static void client_request(struct trans *trans, uint32_t number)
{
	struct trans_conn *conn = &trans->conns[number];
	struct epoll_event event = { .events = EPOLLIN, .data.u32 = number };

	if (send(conn->fd, message, trans->options->traffic.size, 0) !=
	    (ssize_t)trans->options->traffic.size)
		load_die("send of a request");
	if (!conn->sent)
		epoll_ctl(trans->epoll_fd, EPOLL_CTL_MOD, conn->fd, &event);
	conn->sent = true;
}

static void client_count(struct trans *trans, const struct trans_conn *conn)
{
	const struct load_options *options = trans->options;
	int64_t now = load_now_ns();
	double at = (double)(now - trans->begin_ns) / 1e9;

	trans->n_all++;
	if (at < options->traffic.omit || at > options->traffic.omit + options->traffic.seconds)
		return;
	histogram_add(&trans->times, (uint64_t)(now - conn->began_ns));
}

static void client_event(struct trans *trans, uint32_t number)
{
	static char response[SIZE_LIMIT];
	struct linger reset = { .l_onoff = 1, .l_linger = 0 };
	struct trans_conn *conn = &trans->conns[number];
	ssize_t n;

	if (!conn->sent) {
		client_request(trans, number);
		return;
	}
	n = recv(conn->fd, response, trans->options->traffic.response_size - conn->n_in, 0);
	if (n < 0 && errno == EAGAIN)
		return;
	if (n <= 0)
		load_die("recv of a response");
	conn->n_in += (size_t)n;
	if (conn->n_in < trans->options->traffic.response_size)
		return;
	client_count(trans, conn);
	if (trans->options->traffic.reconnect) {
		setsockopt(conn->fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
		close(conn->fd);
		client_connect(trans, number);
		return;
	}
	conn->n_in = 0;
	conn->began_ns = load_now_ns();
	client_request(trans, number);
}

static int client(struct trans *trans)
{
	const struct load_options *options = trans->options;
	double until = (options->traffic.omit + options->traffic.seconds) * 1e9;
	struct epoll_event events[64];

	fill_message("GET / HTTP/1.1\r\nHost: server\r\n", options->traffic.size);
	trans->begin_ns = load_now_ns();
	for (uint32_t i = 0; i < options->traffic.n_flows; i++)
		client_connect(trans, i);
	while ((double)(load_now_ns() - trans->begin_ns) < until) {
		int n = epoll_wait(trans->epoll_fd, events, 64, 100);

		if (n > 0 && trans->n_all == 0)
			trans->begin_ns = load_now_ns(); /* a lost SYN takes nothing from it */
		for (int i = 0; i < n; i++)
			client_event(trans, events[i].data.u32);
	}
	printf("{\"ok\": %s, \"transactions\": %llu, \"window\": %llu, \"seconds\": %.3f, "
	       "\"p50_us\": %.2f, \"p99_us\": %.2f}\n",
	       trans->times.n ? "true" : "false", (unsigned long long)trans->n_all,
	       (unsigned long long)trans->times.n, options->traffic.seconds,
	       histogram_share_us(&trans->times, 0.5), histogram_share_us(&trans->times, 0.99));
	return trans->times.n ? 0 : 1;
}

static void server_accept(struct trans *trans)
{
	for (;;) {
		int fd = accept4(trans->listen_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

		if (fd < 0)
			return;
		if (fd >= 2 * LOAD_FLOWS_MAX) {
			close(fd);
			continue;
		}
		/* The descriptor is the number: connections come and go. */
		trans->conns[fd] = (struct trans_conn){ .fd = fd };
		load_watch(trans->epoll_fd, fd, EPOLLIN, (uint32_t)fd);
	}
}

static void server_event(struct trans *trans, uint32_t number)
{
	static char request[SIZE_LIMIT];
	struct trans_conn *conn = &trans->conns[number];
	ssize_t n = recv(conn->fd, request, trans->options->traffic.size - conn->n_in, 0);

	if (n < 0 && errno == EAGAIN)
		return;
	if (n <= 0) {
		close(conn->fd);
		return;
	}
	conn->n_in += (size_t)n;
	if (conn->n_in < trans->options->traffic.size)
		return;
	conn->n_in = 0;
	trans->n_all++;
	if (send(conn->fd, message, trans->options->traffic.response_size, 0) < 0)
		close(conn->fd);
}

/* Serves until it is ended by a signal. */
static _Noreturn void server(struct trans *trans)
{
	struct epoll_event events[64];

	fill_message("HTTP/1.1 200 OK\r\n", trans->options->traffic.response_size);
	trans->listen_fd = load_listen(trans->options);
	load_watch(trans->epoll_fd, trans->listen_fd, EPOLLIN, LISTENER);
	for (;;) {
		int n = epoll_wait(trans->epoll_fd, events, 64, -1);

		for (int i = 0; i < n; i++) {
			if (events[i].data.u32 == LISTENER)
				server_accept(trans);
			else
				server_event(trans, events[i].data.u32);
		}
	}
}

int load_trans(const struct load_options *options)
{
	struct trans *trans = calloc(1, sizeof(*trans));

	if (!trans || !options->traffic.size || options->traffic.size > SIZE_LIMIT ||
	    !options->traffic.response_size || options->traffic.response_size > SIZE_LIMIT)
		load_die("size of a request or response");
	trans->options = options;
	trans->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (options->listen)
		server(trans);
	return client(trans);
}

int load_hold(const struct load_options *options)
{
	struct trans *trans = calloc(1, sizeof(*trans));
	int64_t begin = load_now_ns(), until = begin + (int64_t)(options->traffic.seconds * 1e9);
	unsigned int n = 0;

	if (!trans)
		load_die("memory");
	trans->options = options;
	trans->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	for (uint32_t i = 0; i < options->traffic.n_flows; i++) {
		struct epoll_event event;

		client_connect(trans, i);
		if (epoll_wait(trans->epoll_fd, &event, 1, 5000) != 1 || event.events & EPOLLERR)
			load_die("connect");
		epoll_ctl(trans->epoll_fd, EPOLL_CTL_DEL, trans->conns[i].fd, NULL);
		n++;
	}
	printf("{\"ok\": true, \"connections\": %u}\n", n);
	fflush(stdout);
	while (load_now_ns() < until)
		usleep(10000);
	return 0;
}
