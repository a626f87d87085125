/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the TCP translation asks of a host socket. The only door between the two, so that a test can
 * put a simulated socket in its place. A shard's context; calls never block.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

struct hostsock_info {
	uint32_t delivered_ce; /* segments that the peer received marked with CE */
	bool fin_acked;	       /* the peer has acknowledged our FIN, or the connection has ended */
	bool ended;	       /* the latter, maybe by an error: see hostsock_error() */
};

/* Writes payload. Bytes taken, or -errno (-EAGAIN: the buffer is full, and EPOLLOUT will come). */
ssize_t hostsock_send(int fd, const struct iovec *iov, unsigned int n_iov, bool more);
/* Writes one urgent byte (the last of the send marks it). 1 or -errno. */
ssize_t hostsock_send_urgent(int fd, uint8_t byte);

#define HOSTSOCK_DISCARD_SIZE 65536u
#define HOSTSOCK_SKIP_MAX     (32u << 20) /* the most that a peek can lead past */

/*
 * Peeks at received payload from the kernel's peek offset on, which it advances; where the kernel
 * has none for TCP, skip bytes go to the discard area (HOSTSOCK_DISCARD_SIZE bytes, overwritten
 * again and again) first. Bytes without the skipped ones, 0 at the end of the stream, or -errno.
 */
ssize_t hostsock_peek(int fd, const struct iovec *iov, unsigned int n_iov, uint32_t skip,
		      uint8_t *discard);
/* Moves the kernel's peek offset. 0 or -errno. */
int hostsock_set_peek(int fd, uint32_t offset);
/* Drops len received bytes; the kernel's peek offset goes back by as much. Bytes or -errno. */
ssize_t hostsock_discard(int fd, size_t len);

/* Drops all that is there. With bytes that nobody reads a close would be a reset, and what is left
 * to deliver would be lost. */
static inline void hostsock_drain(int fd)
{
	while (hostsock_discard(fd, INT32_MAX) > 0)
		;
}

/* Bytes in the receive buffer, urgent ones included (SIOCINQ). */
uint32_t hostsock_pending(int fd);

/* Whether the first byte in the receive buffer is the urgent one (SIOCATMARK). */
bool hostsock_at_mark(int fd);

/* Payload bytes that the send buffer takes for sure, by a careful estimate. */
uint32_t hostsock_room(int fd);

/* What the kernel knows of the connection: dearer than hostsock_room(). */
void hostsock_info(int fd, struct hostsock_info *info);
/* Whether a socket has connected to itself. port: that it was to connect to. */
bool hostsock_is_own(int fd, uint16_t port);
/* What is wrong with the socket (SO_ERROR), 0 or a positive errno. */
int hostsock_error(int fd);
int hostsock_shutdown_send(int fd);
void hostsock_close(int fd);
/* Closes with a reset to the peer. */
void hostsock_abort(int fd);
/* Keep-alive on the host's side after idle_s seconds of silence. */
void hostsock_keepalive(int fd, int idle_s);
/*
 * Lets the receive buffer hold len bytes of payload, up to half of tcp_rmem's maximum; never less
 * than before. Unlike SO_RCVBUF this leaves the kernel's autotuning on.
 */
void hostsock_raise_receive(int fd, uint32_t len);
