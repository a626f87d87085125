/* SPDX-License-Identifier: Apache-2.0 */
/*
 * UDP: datagrams of one size over one or several flows, sent in batches; what is received in the
 * measured time is counted. The connecting side always speaks first, so that a listener that sends
 * knows where to, and a translator between them has its flows.
 */
#include "load.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define BATCH	  64
#define SIZE_MAX_ 65507
#define BUFFER	  (4 << 20)
#define IDLE_NS	  (2 * NS_PER_S)
#define START_NS  (10 * NS_PER_S)
#define HELLO_NS  (100 * 1000 * 1000LL)

struct udp {
	const struct load_options *options;
	unsigned int n_fds, n_peers;
	uint64_t n_sent, n_recv, n_window;
	int64_t first_ns, last_ns;
	struct pollfd fds[LOAD_FLOWS_MAX];
	struct sockaddr_in6 peers[LOAD_FLOWS_MAX]; /* of a listener that sends */
};

static uint8_t payload[SIZE_MAX_];
static uint8_t received[BATCH][2048];

static int open_socket(const struct load_options *options)
{
	int fd = socket(AF_INET6, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	struct sockaddr_in6 any = { .sin6_family = AF_INET6, .sin6_port = options->addr.sin6_port };
	int zero = 0, room = BUFFER;

	if (fd < 0)
		load_die("socket");
	setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &zero, sizeof(zero));
	setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &room, sizeof(room));
	if (options->listen && bind(fd, (struct sockaddr *)&any, sizeof(any)))
		load_die("bind");
	if (!options->listen &&
	    connect(fd, (const struct sockaddr *)&options->addr, sizeof(options->addr)))
		load_die("connect");
	return fd;
}

static void count(struct udp *udp, uint64_t n)
{
	const struct load_options *options = udp->options;
	int64_t now = load_now_ns();
	double at;

	if (!udp->first_ns)
		udp->first_ns = now;
	udp->last_ns = now;
	udp->n_recv += n;
	at = (double)(now - udp->first_ns) / 1e9;
	if (at >= options->omit && at < options->omit + options->seconds)
		udp->n_window += n;
}

/* Takes what waits on a socket; a hello is no datagram of the load. */
static void take(struct udp *udp, int fd)
{
	struct mmsghdr messages[BATCH];
	struct iovec vectors[BATCH];
	uint64_t n_load = 0;
	int n;

	memset(messages, 0, sizeof(messages));
	for (int i = 0; i < BATCH; i++) {
		vectors[i] = (struct iovec){ received[i], sizeof(received[i]) };
		messages[i].msg_hdr.msg_iov = &vectors[i];
		messages[i].msg_hdr.msg_iovlen = 1;
	}
	n = recvmmsg(fd, messages, BATCH, 0, NULL);
	for (int i = 0; i < n; i++)
		n_load += received[i][0] == 'L';
	if (n_load)
		count(udp, n_load);
}

static void send_hellos(struct udp *udp)
{
	for (unsigned int i = 0; i < udp->n_fds; i++)
		if (send(udp->fds[i].fd, "H", 1, 0) < 0 && errno != EAGAIN && errno != ECONNREFUSED)
			load_die("send");
}

static void receive(struct udp *udp)
{
	const struct load_options *options = udp->options;
	int64_t begin = load_now_ns(), hello = 0;
	int64_t until = (int64_t)((options->omit + options->seconds) * 1e9);

	for (;;) {
		int64_t now = load_now_ns();

		if (udp->first_ns ? now - udp->first_ns > until : now - begin > START_NS)
			return;
		if (udp->last_ns && now - udp->last_ns > IDLE_NS)
			return;
		if (!options->listen && !udp->first_ns && now - hello > HELLO_NS) {
			send_hellos(udp);
			hello = now;
		}
		if (poll(udp->fds, udp->n_fds, 50) <= 0)
			continue;
		for (unsigned int i = 0; i < udp->n_fds; i++)
			if (udp->fds[i].revents)
				take(udp, udp->fds[i].fd);
	}
}

/* A listener learns its peers from their hellos. */
static void learn_peers(struct udp *udp)
{
	int64_t begin = load_now_ns();

	while (udp->n_peers < udp->options->n_flows && load_now_ns() - begin < START_NS) {
		struct sockaddr_in6 from;
		socklen_t len = sizeof(from);
		unsigned int i = 0;
		uint8_t byte;

		poll(udp->fds, 1, 50);
		if (recvfrom(udp->fds[0].fd, &byte, 1, 0, (struct sockaddr *)&from, &len) < 0)
			continue;
		while (i < udp->n_peers && memcmp(&udp->peers[i], &from, sizeof(from)) != 0)
			i++;
		udp->peers[i] = from;
		udp->n_peers += i == udp->n_peers;
	}
}

static void send_batch(struct udp *udp, unsigned int flow)
{
	struct mmsghdr messages[BATCH];
	struct iovec vector = { payload, udp->options->size };
	int fd = udp->fds[udp->options->listen ? 0 : flow].fd;
	int n;

	memset(messages, 0, sizeof(messages));
	for (int i = 0; i < BATCH; i++) {
		messages[i].msg_hdr.msg_iov = &vector;
		messages[i].msg_hdr.msg_iovlen = 1;
		if (udp->options->listen) {
			messages[i].msg_hdr.msg_name = &udp->peers[flow];
			messages[i].msg_hdr.msg_namelen = sizeof(udp->peers[flow]);
		}
	}
	n = sendmmsg(fd, messages, BATCH, 0);
	if (n > 0)
		udp->n_sent += (uint64_t)n;
	else if (errno == EAGAIN)
		poll(&(struct pollfd){ .fd = fd, .events = POLLOUT }, 1, 10);
	else if (errno != ECONNREFUSED && errno != ENOBUFS)
		load_die("sendmmsg");
}

static void transmit(struct udp *udp)
{
	const struct load_options *options = udp->options;
	double until = options->omit + options->seconds + 0.2;
	int64_t begin = load_now_ns();
	unsigned int n_flows = options->listen ? udp->n_peers : udp->n_fds, flow = 0;

	memset(payload, 'L', sizeof(payload));
	for (double at = 0; n_flows && at < until; at = (double)(load_now_ns() - begin) / 1e9) {
		if (options->rate > 0 && (double)udp->n_sent > at * options->rate) {
			usleep(200);
			continue;
		}
		send_batch(udp, flow);
		flow = (flow + 1) % n_flows;
	}
}

static int report(const struct udp *udp)
{
	bool ok = udp->options->recv ? udp->n_recv > 0 : udp->n_sent > 0;

	printf("{\"ok\": %s, \"sent\": %llu, \"received\": %llu, \"window\": %llu, \"seconds\": "
	       "%.3f}\n",
	       ok ? "true" : "false", (unsigned long long)udp->n_sent,
	       (unsigned long long)udp->n_recv, (unsigned long long)udp->n_window,
	       udp->options->seconds);
	return ok ? 0 : 1;
}

int load_udp(const struct load_options *options)
{
	struct udp *udp = calloc(1, sizeof(*udp));

	if (!udp || options->size < 1 || options->size > SIZE_MAX_)
		load_die("size of a datagram");
	udp->options = options;
	udp->n_fds = options->listen ? 1 : options->n_flows;
	for (unsigned int i = 0; i < udp->n_fds; i++)
		udp->fds[i] = (struct pollfd){ .fd = open_socket(options), .events = POLLIN };
	if (options->listen)
		fputs("listening\n", stderr);
	if (options->listen && options->send)
		learn_peers(udp);
	if (options->send)
		transmit(udp);
	else
		receive(udp);
	return report(udp);
}
