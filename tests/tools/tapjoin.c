/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tapjoin SOCKET TAP: joins a tap device to a UNIX stream socket, four bytes of length before each
 * frame, as QEMU does for a VM. A namespace with this device stands in the place of a guest, at
 * little cost. One thread a direction; ends with status 0 when the daemon closes the socket.
 */
#include "ends.h"

#include <arpa/inet.h>
#include <poll.h>
#include <pthread.h>
#include <string.h>

#define SLAB (8U << 20) /* bytes read from the socket at once */

struct joint {
	int tap;
	int sock;
};

static void write_all(int fd, const uint8_t *bytes, size_t len)
{
	while (len > 0) {
		ssize_t n = write(fd, bytes, len);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && (errno == EPIPE || errno == ECONNRESET))
			exit(0); /* the daemon has ended */
		if (n < 0)
			die("write to the socket");
		bytes += n;
		len -= (size_t)n;
	}
}

/* Reads what frames the tap has, up to a batch, each behind its length; returns the bytes. */
static size_t gather(const struct joint *joint, uint8_t *slab)
{
	size_t used = 0;
	while (used < BATCH) {
		ssize_t n = read(joint->tap, slab + used + 4, FRAME_ROOM);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && (errno == EAGAIN || errno == EIO)) /* EIO: the interface is down */
			break;
		if (n < 0)
			die("read from the tap");
		uint32_t prefix = htonl((uint32_t)n);
		memcpy(slab + used, &prefix, sizeof(prefix));
		used += 4 + (size_t)n;
	}
	return used;
}

static void *tap_to_socket(void *arg)
{
	static uint8_t slab[BATCH + FRAME_ROOM + 4];
	const struct joint *joint = arg;
	for (;;) {
		struct pollfd ready = { .fd = joint->tap, .events = POLLIN };
		poll(&ready, 1, -1);
		size_t used = gather(joint, slab);
		if (used > 0)
			write_all(joint->sock, slab, used);
		else
			usleep(1000); /* the interface is down: POLLERR would spin */
	}
	return NULL;
}

/* Gives one frame to the tap; what an interface that is down refuses is lost, as on a wire. */
static void deliver(const struct joint *joint, const uint8_t *frame, size_t len)
{
	while (write(joint->tap, frame, len) < 0) {
		if (errno == EAGAIN) {
			struct pollfd room = { .fd = joint->tap, .events = POLLOUT };
			poll(&room, 1, 10);
		} else if (errno != EINTR) {
			return;
		}
	}
}

/* Gives all whole frames to the tap; returns the bytes taken. */
static size_t deliver_frames(const struct joint *joint, const uint8_t *slab, size_t used)
{
	size_t at = 0;
	while (used - at >= 4) {
		uint32_t prefix;
		memcpy(&prefix, slab + at, sizeof(prefix));
		size_t len = ntohl(prefix);
		if (len > FRAME_ROOM) {
			fprintf(stderr, "tapjoin: a frame of %zu bytes\n", len);
			exit(2);
		}
		if (used - at - 4 < len)
			break;
		deliver(joint, slab + at + 4, len);
		at += 4 + len;
	}
	return at;
}

static void socket_to_tap(const struct joint *joint)
{
	static uint8_t slab[SLAB + FRAME_ROOM + 4];
	size_t used = 0;
	for (;;) {
		ssize_t n = read(joint->sock, slab + used, SLAB);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return;
		used += (size_t)n;
		size_t taken = deliver_frames(joint, slab, used);
		memmove(slab, slab + taken, used - taken);
		used -= taken;
	}
}

int main(int argc, char **argv)
{
	if (argc != 3) {
		fprintf(stderr, "usage: %s SOCKET TAP\n", argv[0]);
		return 1;
	}
	struct joint joint = { .tap = open_tap(argv[2], 0), .sock = connect_to(argv[1]) };
	pthread_t up;
	if (pthread_create(&up, NULL, tap_to_socket, &joint) != 0)
		die("thread");
	puts("ready");
	fflush(stdout);
	socket_to_tap(&joint);
	return 0;
}
