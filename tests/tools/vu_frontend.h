/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A minimal vhost-user front-end for tests and load generators: shares one memory, negotiates, and
 * sets queue pairs up. Requests are synchronous. Functions return 0 or more on success and -1 on
 * failure. The memory is laid out as the rings (VFE_RING_AREA bytes each), then room for buffers.
 */
#pragma once

#include "tools/vu_driver.h"
#include "vu_codec.h"

#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define VFE_PAIRS     32u
#define VFE_RING_AREA (64u << 10)
#define VFE_GUEST     0x40000000ull
#define VFE_BUFFERS   ((size_t)2 * VFE_PAIRS * VFE_RING_AREA)

struct vfe {
	int fd;
	int mem_fd;
	uint8_t *mem;
	size_t size;
	uint64_t features, protocol_features;
	struct drv_ring rings[2 * VFE_PAIRS]; /* even: receive, odd: transmit, as the guest says */
	int kick[2 * VFE_PAIRS], call[2 * VFE_PAIRS];
};

static inline uint64_t vfe_guest(const struct vfe *fe, const void *at)
{
	return VFE_GUEST + (uint64_t)((const uint8_t *)at - fe->mem);
}

/* Sends a request with descriptors. */
static inline int vfe_send(struct vfe *fe, const struct vu_message *message, const int *fds,
			   unsigned int n_fds)
{
	_Alignas(struct cmsghdr) uint8_t control[CMSG_SPACE(VU_FDS_MAX * sizeof(int))] = { 0 };
	uint8_t bytes[VU_HEADER_LEN + VU_PAYLOAD_MAX];
	size_t len = vu_request_encode(bytes, sizeof(bytes), message);
	struct iovec iov = { bytes, len };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };

	if (n_fds) {
		struct cmsghdr *c;

		msg.msg_control = control;
		msg.msg_controllen = CMSG_SPACE(n_fds * sizeof(int));
		c = CMSG_FIRSTHDR(&msg);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(n_fds * sizeof(int));
		memcpy(CMSG_DATA(c), fds, n_fds * sizeof(int));
	}
	return sendmsg(fe->fd, &msg, MSG_NOSIGNAL) == (ssize_t)len ? 0 : -1;
}

/* Waits for a reply. Returns its payload's first 8 bytes by *value. */
static inline int vfe_reply(struct vfe *fe, uint64_t *value)
{
	uint8_t bytes[VU_HEADER_LEN + VU_PAYLOAD_MAX];
	struct vu_header header;

	if (recv(fe->fd, bytes, VU_HEADER_LEN, MSG_WAITALL) != VU_HEADER_LEN ||
	    !vu_header_decode(bytes, &header) || !header.reply || header.size < 8 ||
	    recv(fe->fd, bytes, header.size, MSG_WAITALL) != (ssize_t)header.size)
		return -1;
	memcpy(value, bytes, sizeof(*value));
	return 0;
}

static inline int vfe_get(struct vfe *fe, uint32_t request, uint64_t *value)
{
	struct vu_message message = { .request = request };

	return vfe_send(fe, &message, NULL, 0) ? -1 : vfe_reply(fe, value);
}

/* A request whose success is acknowledged. Returns -1 also if it was refused. */
static inline int vfe_do_fds(struct vfe *fe, struct vu_message message, const int *fds,
			     unsigned int n_fds)
{
	uint64_t refused = 0;

	message.need_reply = fe->protocol_features & 1u << VU_PROTOCOL_REPLY_ACK;
	if (vfe_send(fe, &message, fds, n_fds))
		return -1;
	if (message.need_reply && vfe_reply(fe, &refused))
		return -1;
	return refused ? -1 : 0;
}

static inline int vfe_do(struct vfe *fe, struct vu_message message)
{
	return vfe_do_fds(fe, message, NULL, 0);
}

/* Makes the shared memory; fd is the connected socket, owned from now on. */
static inline int vfe_open(struct vfe *fe, int fd, size_t buffers)
{
	memset(fe, 0, sizeof(*fe));
	fe->fd = fd;
	fe->size = VFE_BUFFERS + buffers;
	fe->mem_fd = memfd_create("vhost-user-guest", MFD_CLOEXEC);
	for (unsigned int i = 0; i < 2 * VFE_PAIRS; i++)
		fe->kick[i] = fe->call[i] = -1;
	if (fe->mem_fd < 0 || ftruncate(fe->mem_fd, (off_t)fe->size))
		return -1;
	fe->mem = mmap(NULL, fe->size, PROT_READ | PROT_WRITE, MAP_SHARED, fe->mem_fd, 0);
	return fe->mem == MAP_FAILED ? -1 : 0;
}

static inline int vfe_connect(const char *path)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	strncpy(addr.sun_path, path, sizeof(addr.sun_path) - 1);
	if (fd >= 0 && connect(fd, (struct sockaddr *)&addr, sizeof(addr))) {
		close(fd);
		return -1;
	}
	return fd;
}

static inline void vfe_close(struct vfe *fe)
{
	for (unsigned int i = 0; i < 2 * VFE_PAIRS; i++) {
		if (fe->kick[i] >= 0)
			close(fe->kick[i]);
		if (fe->call[i] >= 0)
			close(fe->call[i]);
	}
	if (fe->fd >= 0)
		close(fe->fd);
	if (fe->mem)
		munmap(fe->mem, fe->size);
	close(fe->mem_fd);
}

/* Takes of the wanted features those that are offered, and shares the memory. */
static inline int vfe_negotiate(struct vfe *fe, uint64_t wanted)
{
	struct vu_message table = { .request = VU_SET_MEM_TABLE };

	if (vfe_get(fe, VU_GET_FEATURES, &fe->features))
		return -1;
	fe->features &= wanted | 1ull << 30;
	if (vfe_get(fe, VU_GET_PROTOCOL_FEATURES, &fe->protocol_features) ||
	    vfe_do(fe, (struct vu_message){ .request = VU_SET_PROTOCOL_FEATURES,
					    .u64 = fe->protocol_features }) ||
	    vfe_do(fe, (struct vu_message){ .request = VU_SET_OWNER }) ||
	    vfe_do(fe, (struct vu_message){ .request = VU_SET_FEATURES, .u64 = fe->features }))
		return -1;
	table.n_regions = 1;
	table.regions[0] =
		(struct vu_region){ VFE_GUEST, fe->size, (uint64_t)(uintptr_t)fe->mem, 0 };
	return vfe_do_fds(fe, table, &fe->mem_fd, 1);
}

static inline uint64_t vfe_user(const struct vfe *fe, const void *at)
{
	(void)fe;
	return (uint64_t)(uintptr_t)at;
}

static inline int vfe_ring_fd(struct vfe *fe, uint32_t request, unsigned int i, int *fd)
{
	struct vu_message message = { .request = request, .u64 = i };

	if (*fd < 0)
		*fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	return *fd < 0 ? -1 : vfe_do_fds(fe, message, fd, 1);
}

/* Starts one ring of num entries; it stays disabled. */
static inline int vfe_ring_start(struct vfe *fe, unsigned int i, uint16_t num)
{
	uint8_t *area = fe->mem + (size_t)i * VFE_RING_AREA;
	bool packed = fe->features >> 34 & 1;
	struct vu_message message = { .request = VU_SET_VRING_NUM, .state = { i, num } };

	drv_init(&fe->rings[i], packed, num, area, area + 0x5000, area + 0x8000);
	fe->rings[i].event_idx = fe->features >> 29 & 1;
	if (vfe_do(fe, message))
		return -1;
	message = (struct vu_message){ .request = VU_SET_VRING_BASE,
				       .state = { i, packed ? 0x8000 : 0 } };
	if (vfe_do(fe, message))
		return -1;
	message = (struct vu_message){ .request = VU_SET_VRING_ADDR };
	message.addr.index = i;
	message.addr.desc = vfe_user(fe, area);
	message.addr.avail = vfe_user(fe, area + 0x5000);
	message.addr.used = vfe_user(fe, area + 0x8000);
	if (vfe_do(fe, message) || vfe_ring_fd(fe, VU_SET_VRING_CALL, i, &fe->call[i]))
		return -1;
	return vfe_ring_fd(fe, VU_SET_VRING_KICK, i, &fe->kick[i]);
}

static inline int vfe_ring_enable(struct vfe *fe, unsigned int i, bool on)
{
	return vfe_do(fe,
		      (struct vu_message){ .request = VU_SET_VRING_ENABLE, .state = { i, on } });
}

/* Both rings of a pair, enabled. */
static inline int vfe_pair_start(struct vfe *fe, unsigned int pair, uint16_t num)
{
	for (unsigned int i = 2 * pair; i < 2 * pair + 2; i++)
		if (vfe_ring_start(fe, i, num) || vfe_ring_enable(fe, i, true))
			return -1;
	return 0;
}

/* Stops a ring; returns its base. */
static inline int vfe_ring_stop(struct vfe *fe, unsigned int i, uint32_t *base)
{
	struct vu_message message = { .request = VU_GET_VRING_BASE, .state = { i, 0 } };
	uint64_t value;

	if (vfe_send(fe, &message, NULL, 0) || vfe_reply(fe, &value))
		return -1;
	*base = (uint32_t)(value >> 32);
	return 0;
}

static inline void vfe_kick(struct vfe *fe, unsigned int i)
{
	if (drv_kick_wanted(&fe->rings[i]))
		eventfd_write(fe->kick[i], 1);
}
