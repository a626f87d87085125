/* SPDX-License-Identifier: Apache-2.0 */
/*
 * UDP: datagrams of one size over one or several flows, sent in batches; what is received in the
 * measured time is counted. The connecting side always speaks first, so that a listener that sends
 * knows where to, and a translator between them has its flows. Each datagram with room for it has a
 * number, by which the receiver tells those that were overtaken.
 */
#include "load.h"
#include "pattern.h"

#include <errno.h>
#include <netinet/udp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define BATCH	  64
#define ROOM	  65536u /* of one receive: a run of datagrams, with -G */
#define RUNS	  16
#define SIZE_MAX_ 65507
#define BUFFER	  (4 << 20)
#define IDLE_NS	  (2 * NS_PER_S)
#define START_NS  (10 * NS_PER_S)
#define HELLO_NS  (100 * 1000 * 1000LL)

struct udp {
	const struct load_options *options;
	unsigned int n_fds, n_peers;
	uint64_t n_sent, n_recv, n_window, n_overtaken;
	uint64_t numbers[LOAD_FLOWS_MAX]; /* of the last sent */
	struct mark_seen seen[LOAD_FLOWS_MAX];
	int64_t first_ns, last_ns;
	struct pollfd fds[LOAD_FLOWS_MAX];
	struct sockaddr_in6 peers[LOAD_FLOWS_MAX]; /* of a listener that sends */
};

static uint8_t payload[SIZE_MAX_];
static uint8_t received[RUNS][ROOM];

static int open_socket(const struct load_options *options)
{
	int fd = socket(AF_INET6, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	struct sockaddr_in6 any = { .sin6_family = AF_INET6, .sin6_port = options->addr.sin6_port };
	int zero = 0, one = 1, room = BUFFER;

	if (fd < 0)
		load_die("socket");
	setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &zero, sizeof(zero));
	setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &room, sizeof(room));
	if (options->gro && setsockopt(fd, IPPROTO_UDP, UDP_GRO, &one, sizeof(one)))
		load_die("UDP_GRO");
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
	if (at >= options->traffic.omit && at < options->traffic.omit + options->traffic.seconds)
		udp->n_window += n;
}

/* Notes one datagram. Returns whether it is of the load, and no greeting. */
static bool note(struct udp *udp, const uint8_t *bytes, size_t len)
{
	struct mark mark = { .kind = (char)bytes[0] };

	if (len >= sizeof(mark)) {
		memcpy(&mark, bytes, sizeof(mark));
		if (mark.kind == 'L' && mark.flow < LOAD_FLOWS_MAX)
			udp->n_overtaken += !mark_note(&udp->seen[mark.flow], &mark);
	}
	return mark.kind == 'L';
}

/* The size of the datagrams that were joined into one; len if it is one. */
static size_t segment_of(struct msghdr *msg, size_t len)
{
	int segment = 0;

	for (struct cmsghdr *c = CMSG_FIRSTHDR(msg); c; c = CMSG_NXTHDR(msg, c))
		if (c->cmsg_level == IPPROTO_UDP && c->cmsg_type == UDP_GRO)
			memcpy(&segment, CMSG_DATA(c), sizeof(segment));
	return segment > 0 ? (size_t)segment : len;
}

static uint64_t note_run(struct udp *udp, struct mmsghdr *message, const uint8_t *bytes)
{
	size_t len = message->msg_len, segment = segment_of(&message->msg_hdr, len);
	uint64_t n_load = 0;

	for (size_t at = 0; at < len; at += segment)
		n_load += note(udp, bytes + at, len - at < segment ? len - at : segment);
	return n_load;
}

/* Takes what waits on a socket. */
static void take(struct udp *udp, int fd)
{
	_Alignas(struct cmsghdr) uint8_t control[RUNS][CMSG_SPACE(sizeof(int))];
	struct mmsghdr messages[RUNS];
	struct iovec vectors[RUNS];
	uint64_t n_load = 0;
	int n;

	memset(messages, 0, sizeof(messages));
	for (int i = 0; i < RUNS; i++) {
		vectors[i] = (struct iovec){ received[i], ROOM };
		messages[i].msg_hdr.msg_iov = &vectors[i];
		messages[i].msg_hdr.msg_iovlen = 1;
		messages[i].msg_hdr.msg_control = control[i];
		messages[i].msg_hdr.msg_controllen = sizeof(control[i]);
	}
	n = recvmmsg(fd, messages, RUNS, 0, NULL);
	for (int i = 0; i < n; i++)
		n_load += note_run(udp, &messages[i], received[i]);
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
	int64_t until = (int64_t)((options->traffic.omit + options->traffic.seconds) * 1e9);

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

	while (udp->n_peers < udp->options->traffic.n_flows && load_now_ns() - begin < START_NS) {
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
	size_t size = udp->options->traffic.size, head = size < MARK_LEN ? size : MARK_LEN;
	int fd = udp->fds[udp->options->listen ? 0 : flow].fd;
	struct mmsghdr messages[BATCH];
	struct iovec vectors[BATCH][2];
	struct mark marks[BATCH];
	int n;

	memset(messages, 0, sizeof(messages));
	for (uint64_t i = 0; i < BATCH; i++) {
		marks[i] = (struct mark){ .kind = 'L',
					  .flow = flow,
					  .number = udp->numbers[flow] + i + 1 };
		vectors[i][0] = (struct iovec){ &marks[i], head };
		vectors[i][1] = (struct iovec){ payload + head, size - head };
		messages[i].msg_hdr.msg_iov = vectors[i];
		messages[i].msg_hdr.msg_iovlen = size > head ? 2 : 1;
		if (udp->options->listen) {
			messages[i].msg_hdr.msg_name = &udp->peers[flow];
			messages[i].msg_hdr.msg_namelen = sizeof(udp->peers[flow]);
		}
	}
	n = sendmmsg(fd, messages, BATCH, 0);
	if (n > 0) {
		udp->n_sent += (uint64_t)n;
		udp->numbers[flow] += (uint64_t)n;
	} else if (errno == EAGAIN) {
		poll(&(struct pollfd){ .fd = fd, .events = POLLOUT }, 1, 10);
	} else if (errno != ECONNREFUSED && errno != ENOBUFS) {
		load_die("sendmmsg");
	}
}

static void transmit(struct udp *udp)
{
	const struct load_options *options = udp->options;
	double until = options->traffic.omit + options->traffic.seconds + 0.2;
	int64_t begin = load_now_ns();
	unsigned int n_flows = options->listen ? udp->n_peers : udp->n_fds, flow = 0;

	pattern_fill(payload, sizeof(payload));
	for (double at = 0; n_flows && at < until; at = (double)(load_now_ns() - begin) / 1e9) {
		if (options->traffic.rate > 0 && (double)udp->n_sent > at * options->traffic.rate) {
			usleep(200);
			continue;
		}
		send_batch(udp, flow);
		flow = (flow + 1) % n_flows;
	}
}

static int report(const struct udp *udp)
{
	bool ok = udp->options->traffic.recv ? udp->n_recv > 0 : udp->n_sent > 0;

	printf("{\"ok\": %s, \"sent\": %llu, \"received\": %llu, \"window\": %llu, \"seconds\": "
	       "%.3f, \"overtaken\": %llu}\n",
	       ok ? "true" : "false", (unsigned long long)udp->n_sent,
	       (unsigned long long)udp->n_recv, (unsigned long long)udp->n_window,
	       udp->options->traffic.seconds, (unsigned long long)udp->n_overtaken);
	return ok ? 0 : 1;
}

int load_udp(const struct load_options *options)
{
	struct udp *udp = calloc(1, sizeof(*udp));

	if (!udp || options->traffic.size < 1 || options->traffic.size > SIZE_MAX_)
		load_die("size of a datagram");
	udp->options = options;
	udp->n_fds = options->listen ? 1 : options->traffic.n_flows;
	for (unsigned int i = 0; i < udp->n_fds; i++)
		udp->fds[i] = (struct pollfd){ .fd = open_socket(options), .events = POLLIN };
	if (options->listen)
		fputs("listening\n", stderr);
	if (options->listen && options->traffic.send)
		learn_peers(udp);
	if (options->traffic.send)
		transmit(udp);
	else
		receive(udp);
	return report(udp);
}
