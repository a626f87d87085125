/* SPDX-License-Identifier: Apache-2.0 */
/* What the tools join: tap devices, and a daemon by its socket. */
#pragma once

#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define FRAME_ROOM    70000	 /* more than any frame */
#define BATCH	      (1U << 20) /* bytes gathered before a write to the socket */
#define SOCKET_BUFFER (4 << 20)	 /* so that neither side waits for each batch */

static void die(const char *what)
{
	perror(what);
	exit(1);
}

/* Opens a tap device of this namespace, or a queue of one with IFF_MULTI_QUEUE, without blocking.
 * Never fails. */
static int open_tap(const char *name, short flags)
{
	struct ifreq request = { .ifr_flags = (short)(IFF_TAP | IFF_NO_PI | flags) };
	snprintf(request.ifr_name, sizeof(request.ifr_name), "%s", name);
	int fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0 || ioctl(fd, TUNSETIFF, &request) < 0)
		die(name);
	return fd;
}

/* Connects to a daemon's UNIX stream socket. Never fails. */
static int connect_to(const char *path)
{
	struct sockaddr_un where = { .sun_family = AF_UNIX };
	snprintf(where.sun_path, sizeof(where.sun_path), "%s", path);
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int size = SOCKET_BUFFER;
	setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
	setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof(size));
	if (connect(fd, (const struct sockaddr *)&where, sizeof(where)) < 0)
		die(path);
	return fd;
}
