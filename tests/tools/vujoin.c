/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vujoin SOCKET TAP PAIRS: joins a tap device with a queue for each queue pair to a vhost-user
 * socket. A namespace with this device stands in the place of a guest, as with tapjoin. One thread,
 * no offloads; ends with status 0 when the daemon closes the socket.
 */
#include "ends.h"

#include "tools/vu_frontend.h"

#include <linux/virtio_config.h>
#include <linux/virtio_ring.h>
#include <poll.h>

#define VNET  12u /* bytes of the virtio header */
#define NUM   256u
#define SLOT  (72u << 10) /* of a frame behind its header */
#define RINGS (2 * VFE_PAIRS)

struct joint {
	struct vfe fe;
	unsigned int pairs;
	int taps[VFE_PAIRS];
};

static uint8_t *slot_of(struct joint *joint, unsigned int ring, uint32_t id)
{
	return joint->fe.mem + VFE_BUFFERS + ((size_t)ring * NUM + id) * SLOT;
}

/* Makes the next free slot of a ring available. */
static void add(struct joint *joint, unsigned int i, size_t len, uint16_t flags)
{
	struct drv_ring *ring = &joint->fe.rings[i];
	uint64_t at = vfe_guest(&joint->fe, slot_of(joint, i, ring->free_head));
	struct drv_desc d = { at, (uint32_t)len, flags };

	drv_add(ring, &d, 1);
}

/* Gives a tap queue all frames of a pair's receive ring. Whether there was one. */
static bool deliver(struct joint *joint, unsigned int pair)
{
	unsigned int i = 2 * pair;
	bool any = false;
	uint32_t id, len;

	while (drv_used(&joint->fe.rings[i], &id, &len)) {
		any = true;
		if (len > VNET &&
		    write(joint->taps[pair], slot_of(joint, i, id) + VNET, len - VNET) < 0 &&
		    errno != EIO && errno != EAGAIN) /* lost, as on a wire */
			die("write to the tap");
		add(joint, i, SLOT, DRV_WRITE);
	}
	if (any)
		vfe_kick(&joint->fe, i);
	return any;
}

static bool has_room(struct joint *joint, unsigned int pair)
{
	struct drv_ring *ring = &joint->fe.rings[2 * pair + 1];
	uint32_t id, len;

	while (drv_used(ring, &id, &len))
		;
	return ring->n_free > 0;
}

/* Puts all frames of a tap queue into a pair's transmit ring. Whether there was one. */
static bool collect(struct joint *joint, unsigned int pair)
{
	unsigned int i = 2 * pair + 1;
	bool any = false;

	while (has_room(joint, pair)) {
		uint8_t *slot = slot_of(joint, i, joint->fe.rings[i].free_head);
		ssize_t n = read(joint->taps[pair], slot + VNET, SLOT - VNET);

		if (n < 0 && errno != EAGAIN && errno != EIO) /* EIO: the interface is down */
			die("read from the tap");
		if (n <= 0)
			break;
		memset(slot, 0, VNET);
		add(joint, i, VNET + (size_t)n, 0);
		any = true;
	}
	if (any)
		vfe_kick(&joint->fe, i);
	return any;
}

static bool turn(struct joint *joint)
{
	bool any = false;

	for (unsigned int pair = 0; pair < joint->pairs; pair++) {
		any |= deliver(joint, pair);
		any |= collect(joint, pair);
	}
	return any;
}

/* Asks for calls, or to be spared them; whether there is something already. */
static bool want_calls(struct joint *joint, bool wanted)
{
	bool pending = false;

	for (unsigned int pair = 0; pair < joint->pairs; pair++) {
		drv_want_call(&joint->fe.rings[2 * pair], wanted);
		pending |= drv_pending(&joint->fe.rings[2 * pair]);
	}
	return pending;
}

/* Sleeps until there is something to do. False: the daemon is gone. */
static bool rest(struct joint *joint)
{
	struct pollfd fds[RINGS + 1];
	int timeout = -1;
	bool is_down = false;
	eventfd_t value;
	unsigned int n = 0;

	for (unsigned int pair = 0; pair < joint->pairs; pair++) {
		bool room = has_room(joint, pair);

		fds[n++] = (struct pollfd){ .fd = joint->fe.call[2 * pair], .events = POLLIN };
		fds[n++] = (struct pollfd){ .fd = room ? joint->taps[pair] : -1, .events = POLLIN };
		if (!room) /* its ring is asked for no calls */
			timeout = 1;
	}
	fds[n] = (struct pollfd){ .fd = joint->fe.fd, .events = POLLRDHUP };
	poll(fds, n + 1, timeout);
	for (unsigned int i = 0; i < n; i++) {
		is_down |= (fds[i].revents & POLLERR) != 0;
		if (i % 2 == 0 && fds[i].revents)
			eventfd_read(fds[i].fd, &value);
	}
	if (is_down)
		usleep(1000); /* POLLERR would spin */
	return !fds[n].revents;
}

static void start_pair(struct joint *joint, unsigned int pair)
{
	struct vfe *fe = &joint->fe;
	unsigned int i = 2 * pair;

	if (vfe_ring_start(fe, i, NUM) || vfe_ring_start(fe, i + 1, NUM))
		die("start a ring");
	drv_want_call(&fe->rings[i + 1], false);
	while (fe->rings[i].n_free)
		add(joint, i, SLOT, DRV_WRITE);
	if (vfe_ring_enable(fe, i, true) || vfe_ring_enable(fe, i + 1, true))
		die("enable a ring");
	vfe_kick(fe, i);
}

int main(int argc, char **argv)
{
	static struct joint joint;
	bool goes_on = true;

	joint.pairs = argc == 4 ? (unsigned int)strtoul(argv[3], NULL, 10) : 0;
	if (joint.pairs < 1 || joint.pairs > VFE_PAIRS) {
		fprintf(stderr, "usage: %s SOCKET TAP PAIRS\n", argv[0]);
		return 1;
	}
	for (unsigned int i = 0; i < joint.pairs; i++)
		joint.taps[i] = open_tap(argv[2], IFF_MULTI_QUEUE);
	if (vfe_open(&joint.fe, connect_to(argv[1]), (size_t)2 * joint.pairs * NUM * SLOT))
		die("shared memory");
	if (vfe_negotiate(&joint.fe, 1ull << VIRTIO_F_VERSION_1 | 1ull << VIRTIO_RING_F_EVENT_IDX))
		die("negotiate");
	for (unsigned int i = 0; i < joint.pairs; i++)
		start_pair(&joint, i);
	puts("ready");
	fflush(stdout);
	while (goes_on) {
		if (turn(&joint))
			continue;
		if (!want_calls(&joint, true))
			goes_on = rest(&joint);
		want_calls(&joint, false);
	}
	return 0;
}
