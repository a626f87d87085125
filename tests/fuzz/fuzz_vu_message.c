/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A front-end's side of a connection from the fuzzer: messages one after the other, each of them
 * with a byte before it that says how many descriptors come along. After each, rings that run are
 * looked at.
 *
 * links: tap
 */
#include "tap/vu_device.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#define FILE_SIZE 0x20000

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct vu_device device;
static int mem_fd = -1;

static void detach(struct vu_device *d, struct vu_queue *queue)
{
	(void)d;
	(void)queue;
}

static void changed(struct vu_device *d)
{
	(void)d;
}

static const struct vu_device_ops ops = { detach, changed };

static void turn_rings(void)
{
	static struct iovec iov[VRING_CHAIN_MAX];
	struct vring_chain chain;

	for (unsigned int i = 0; i < VU_RINGS; i++) {
		struct vu_queue *queue = &device.queues[i];

		for (unsigned int n = 0; vu_queue_usable(queue) && n < 4; n++) {
			if (vring_take(&queue->ring, i % 2 == 0, &chain, iov) <= 0)
				break;
			vring_put(&queue->ring, &chain, 1);
			vring_publish(&queue->ring);
			vu_queue_call(queue);
		}
		if (queue->running && queue->ring.broken)
			vu_device_break(&device);
	}
}

static bool one_message(const uint8_t **at, const uint8_t *end)
{
	struct vu_header header;
	struct vu_message message;
	int fds[VU_FDS_MAX];
	unsigned int n_fds;
	uint8_t reply[VU_REPLY_MAX];
	size_t reply_len;
	int err;

	if (end - *at < 1 + VU_HEADER_LEN)
		return false;
	n_fds = **at % (VU_FDS_MAX + 1);
	if (!vu_header_decode(*at + 1, &header))
		return false;
	*at += 1 + VU_HEADER_LEN;
	if ((size_t)(end - *at) < header.size ||
	    !vu_payload_decode(&header, *at, header.size, &message))
		return false;
	*at += header.size;
	for (unsigned int i = 0; i < n_fds; i++)
		fds[i] = dup(mem_fd);
	err = vu_device_handle(&device, &message, fds, n_fds, reply, &reply_len);
	if (reply_len > VU_REPLY_MAX)
		abort();
	for (unsigned int i = 0; i < n_fds; i++)
		if (fds[i] >= 0)
			close(fds[i]);
	turn_rings();
	return !err;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const uint8_t *at = data;
	int probe;

	if (mem_fd < 0) {
		mem_fd = memfd_create("fuzz", MFD_CLOEXEC);
		if (mem_fd < 0 || ftruncate(mem_fd, FILE_SIZE) || vu_device_init(&device, &ops))
			abort();
	}
	while (one_message(&at, data + size))
		;
	vu_device_disconnect(&device);
	/* A kick or call "descriptor" may have written to the memory: it starts anew. */
	if (ftruncate(mem_fd, 0) || ftruncate(mem_fd, FILE_SIZE) || lseek(mem_fd, 0, SEEK_SET))
		abort();
	probe = dup(mem_fd);
	if (probe > 64) /* descriptors leak */
		abort();
	close(probe);
	return 0;
}
