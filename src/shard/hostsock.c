/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The real sockets. SO_PEEK_OFF makes the kernel remember how far we have peeked; where it does not
 * know that for TCP, hostsock_peek() is given an offset to skip, see peek_skip().
 */
#include "hostsock.h"

#include "taploom/tx.h"

#include <errno.h>
#include <linux/sock_diag.h>
#include <linux/sockios.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <poll.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

/* tcpi_state; <netinet/tcp.h> has the names, but not the newer members of struct tcp_info. */
enum { STATE_FIN_WAIT2 = 5, STATE_TIME_WAIT = 6, STATE_CLOSE = 7 };

ssize_t hostsock_send(int fd, const struct iovec *iov, unsigned int n_iov, bool more)
{
	struct msghdr msg = { .msg_iov = (struct iovec *)iov, .msg_iovlen = n_iov };
	ssize_t n;

	do
		n = sendmsg(fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL | (more ? MSG_MORE : 0));
	while (n < 0 && errno == EINTR);
	return n < 0 ? -errno : n;
}

ssize_t hostsock_send_urgent(int fd, uint8_t byte)
{
	ssize_t n = send(fd, &byte, 1, MSG_OOB | MSG_DONTWAIT | MSG_NOSIGNAL);

	return n < 0 ? -errno : n;
}

/*
 * What it means that a peek has met n bytes, all of them known: 0 at the end of the stream, -EAGAIN
 * or what is wrong. With the FIN there the count is final, and tells whether something came behind
 * the peek, or it stopped at an urgent byte.
 */
static ssize_t nothing_new(int fd, ssize_t n)
{
	struct pollfd p = { .fd = fd, .events = POLLRDHUP };
	int error;

	if (poll(&p, 1, 0) != 1)
		return -EAGAIN;
	error = p.revents & POLLERR ? hostsock_error(fd) : 0;
	if (error)
		return -error;
	return (p.revents & (POLLRDHUP | POLLHUP)) && hostsock_pending(fd) == n ? 0 : -EAGAIN;
}

#define SKIP_IOV (HOSTSOCK_SKIP_MAX / HOSTSOCK_DISCARD_SIZE)

/* Iovecs that lead past skip bytes, all into the same area. Returns their number. */
static unsigned int skip_iov(struct iovec *iov, uint32_t skip, uint8_t *discard)
{
	unsigned int n = 0;

	for (; skip && n < SKIP_IOV; n++) {
		uint32_t part = skip < HOSTSOCK_DISCARD_SIZE ? skip : HOSTSOCK_DISCARD_SIZE;

		iov[n] = (struct iovec){ discard, part };
		skip -= part;
	}
	return n;
}

static ssize_t peek(int fd, struct iovec *iov, unsigned int n_iov)
{
	struct msghdr msg = { .msg_iov = iov, .msg_iovlen = n_iov };
	ssize_t n;

	do
		n = recvmsg(fd, &msg, MSG_PEEK | MSG_DONTWAIT);
	while (n < 0 && errno == EINTR);
	return n < 0 ? -errno : n;
}

ssize_t hostsock_peek(int fd, const struct iovec *iov, unsigned int n_iov, uint32_t skip,
		      uint8_t *discard)
{
	struct iovec all[SKIP_IOV + TX_BURST_IOV];
	unsigned int n_skip;
	ssize_t n;

	if (!skip)
		return peek(fd, (struct iovec *)iov, n_iov);
	n_skip = skip_iov(all, skip, discard);
	for (unsigned int i = 0; i < n_iov; i++)
		all[n_skip + i] = iov[i];
	n = peek(fd, all, n_skip + n_iov);
	if (n < 0)
		return n;
	return n > (ssize_t)skip ? n - (ssize_t)skip : nothing_new(fd, n);
}

int hostsock_set_peek(int fd, uint32_t offset)
{
	int value = (int)offset;

	return setsockopt(fd, SOL_SOCKET, SO_PEEK_OFF, &value, sizeof(value)) ? -errno : 0;
}

ssize_t hostsock_discard(int fd, size_t len)
{
	ssize_t n;

	do
		n = recv(fd, NULL, len, MSG_TRUNC | MSG_DONTWAIT);
	while (n < 0 && errno == EINTR);
	return n < 0 ? -errno : n;
}

/*
 * How much payload the send buffer takes for sure. Its accounting is of buffer memory: a full
 * segment costs up to half as much again as its payload, so that half of what is free is a promise
 * that holds.
 */
uint32_t hostsock_room(int fd)
{
	uint32_t mem[SK_MEMINFO_VARS] = { 0 };
	socklen_t len = sizeof(mem);

	if (getsockopt(fd, SOL_SOCKET, SO_MEMINFO, mem, &len))
		return 0;
	if (mem[SK_MEMINFO_WMEM_QUEUED] >= mem[SK_MEMINFO_SNDBUF])
		return 0;
	return (mem[SK_MEMINFO_SNDBUF] - mem[SK_MEMINFO_WMEM_QUEUED]) / 2;
}

uint32_t hostsock_pending(int fd)
{
	int n = 0;

	return ioctl(fd, SIOCINQ, &n) || n < 0 ? 0 : (uint32_t)n;
}

bool hostsock_at_mark(int fd)
{
	int at = 0;

	return ioctl(fd, SIOCATMARK, &at) == 0 && at;
}

void hostsock_info(int fd, struct hostsock_info *info)
{
	struct tcp_info ti = { .tcpi_state = STATE_CLOSE };
	socklen_t len = sizeof(ti);
	bool known = getsockopt(fd, IPPROTO_TCP, TCP_INFO, &ti, &len) == 0;

	info->delivered_ce = known ? ti.tcpi_delivered_ce : 0;
	info->ended = !known || ti.tcpi_state == STATE_CLOSE;
	info->fin_acked =
		info->ended || ti.tcpi_state == STATE_FIN_WAIT2 || ti.tcpi_state == STATE_TIME_WAIT;
}

int hostsock_error(int fd)
{
	int error = 0;
	socklen_t len = sizeof(error);

	return getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len) ? errno : error;
}

bool hostsock_is_own(int fd, uint16_t port)
{
	union {
		struct sockaddr any;
		struct sockaddr_in v4; /* the port is where IPv6 has it */
		struct sockaddr_in6 v6;
	} local = { 0 }, peer = { 0 };
	socklen_t local_len = sizeof(local), peer_len = sizeof(peer);

	if (getsockname(fd, &local.any, &local_len) || local.v4.sin_port != htons(port))
		return false;
	return getpeername(fd, &peer.any, &peer_len) == 0 && local_len == peer_len &&
	       memcmp(&local, &peer, local_len) == 0;
}

int hostsock_shutdown_send(int fd)
{
	return shutdown(fd, SHUT_WR) ? -errno : 0;
}

void hostsock_close(int fd)
{
	close(fd);
}

void hostsock_abort(int fd)
{
	struct linger linger = { .l_onoff = 1, .l_linger = 0 };

	setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
	close(fd);
}

void hostsock_raise_receive(int fd, uint32_t len)
{
	int most = (int)len, one = 1;

	/* The buffer grows with the mark of wake-ups (tcp_set_rcvlowat()), and stays when that goes
	 * back. */
	setsockopt(fd, SOL_SOCKET, SO_RCVLOWAT, &most, sizeof(most));
	setsockopt(fd, SOL_SOCKET, SO_RCVLOWAT, &one, sizeof(one));
}

void hostsock_keepalive(int fd, int idle_s)
{
	int on = 1;

	setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle_s, sizeof(idle_s));
	setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
}
