/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The device. A slot belongs to the id of the chain that it is sent by, a buffer to the id of the
 * one that it is received by, so that neither is ever searched for.
 */
#include "pattern.h"
#include "vuload.h"

#include <poll.h>
#include <time.h>

#define VNET_LEN      sizeof(struct virtio_net_hdr_v1)
#define PATTERN_BYTES (3 * PATTERN_PERIOD)
#define SLOT_ALIGN    512u

static size_t pair_bytes(const struct vl *vl)
{
	return (size_t)vl->options->ring_size * (vl->slot_size + vl->options->buffer_size);
}

static void post(struct vl *vl, struct vl_pair *pair)
{
	uint16_t id = pair->rx->free_head;
	size_t size = vl->options->buffer_size;
	struct drv_desc d = { vfe_guest(&vl->fe, pair->buffers + id * size), (uint32_t)size,
			      DRV_WRITE };

	drv_add(pair->rx, &d, 1);
	pair->added[0] = true;
}

static void start_pair(struct vl *vl, unsigned int i, uint8_t *memory)
{
	struct vl_pair *pair = &vl->pairs[i];
	uint16_t num = (uint16_t)vl->options->ring_size;

	if (vfe_ring_start(&vl->fe, 2 * i, num) || vfe_ring_start(&vl->fe, 2 * i + 1, num))
		load_die("the back-end does not start a ring");
	pair->rx = &vl->fe.rings[2 * i];
	pair->tx = &vl->fe.rings[2 * i + 1];
	pair->slots = memory;
	pair->buffers = memory + num * vl->slot_size;
	memset(pair->buffers, 0, (size_t)num * vl->options->buffer_size); /* touched now */
	drv_want_call(pair->rx, false);
	drv_want_call(pair->tx, false);
	for (unsigned int n = 0; n < num; n++)
		post(vl, pair);
	if (vfe_ring_enable(&vl->fe, 2 * i, true) || vfe_ring_enable(&vl->fe, 2 * i + 1, true))
		load_die("the back-end does not enable a ring");
	vfe_kick(&vl->fe, 2 * i);
}

static void start_pairs(struct vl *vl)
{
	if (vfe_negotiate(&vl->fe, vl->options->features))
		load_die("the back-end does not negotiate");
	for (unsigned int i = 0; i < vl->options->pairs; i++)
		start_pair(vl, i, vl->pattern + PATTERN_BYTES + i * pair_bytes(vl));
}

void vl_dev_open(struct vl *vl)
{
	const struct vl_options *options = vl->options;
	int fd = vfe_connect(options->socket);
	size_t size;

	if (fd < 0)
		load_die(options->socket);
	vl->slot_size =
		(VNET_LEN + VL_ETH + options->mtu + VL_TABLE + SLOT_ALIGN) & ~(SLOT_ALIGN - 1);
	size = PATTERN_BYTES + options->pairs * pair_bytes(vl);
	if (vfe_open(&vl->fe, fd, size))
		load_die("shared memory");
	vl->pattern = vl->fe.mem + VFE_BUFFERS;
	pattern_fill(vl->pattern, PATTERN_BYTES);
	start_pairs(vl);
}

/* Transmit. */

static void reclaim(struct vl_pair *pair)
{
	uint32_t id, len;

	while (drv_used(pair->tx, &id, &len))
		pair->tx_done++;
}

uint64_t vl_tx_done(struct vl *vl, unsigned int pair)
{
	reclaim(&vl->pairs[pair]);
	return vl->pairs[pair].tx_done;
}

uint8_t *vl_tx_begin(struct vl *vl, unsigned int pair)
{
	struct vl_pair *p = &vl->pairs[pair];

	if (p->tx->n_free < 2)
		reclaim(p);
	p->blocked = p->tx->n_free < 2;
	if (p->blocked)
		return NULL;
	return p->slots + p->tx->free_head * vl->slot_size;
}

void vl_tx_commit(struct vl *vl, unsigned int pair, size_t head_len, const void *body,
		  size_t body_len)
{
	struct vl_pair *p = &vl->pairs[pair];
	uint8_t *slot = p->slots + p->tx->free_head * vl->slot_size;
	uint8_t *table = slot + vl->slot_size - VL_TABLE;
	struct drv_desc d[2] = { { vfe_guest(&vl->fe, slot), (uint32_t)(VNET_LEN + head_len), 0 } };

	p->tx_frames++;
	p->tx_bytes += head_len + body_len;
	if (body_len && !vl_has(vl, VIRTIO_NET_F_CSUM)) {
		memcpy(slot + VNET_LEN + head_len, body, body_len);
		d[0].len += (uint32_t)body_len;
	} else if (body_len) {
		d[1] = (struct drv_desc){ vfe_guest(&vl->fe, body), (uint32_t)body_len, 0 };
	}
	if (d[1].len && vl_has(vl, VIRTIO_RING_F_INDIRECT_DESC)) {
		drv_write_table(p->tx, table, d, 2);
		d[0] = (struct drv_desc){ vfe_guest(&vl->fe, table), 2 * 16, DRV_INDIRECT };
		d[1].len = 0;
	}
	drv_add(p->tx, d, d[1].len ? 2 : 1);
	p->added[1] = true;
}

/* Stops. */

bool vl_dev_stop(struct vl *vl)
{
	bool all_back = true;

	for (unsigned int i = 0; i < 2 * vl->options->pairs; i++) {
		const struct drv_ring *ring = &vl->fe.rings[i];
		uint16_t used;
		uint32_t base;

		if (vfe_ring_stop(&vl->fe, i, &base))
			load_die("the back-end does not stop a ring");
		if (i % 2 == 0)
			continue;
		reclaim(&vl->pairs[i / 2]);
		used = (uint16_t)(ring->last_used | (ring->packed && ring->used_wrap ? 0x8000 : 0));
		all_back &= (uint16_t)base == used;
	}
	return all_back;
}

void vl_dev_go_on(struct vl *vl)
{
	for (unsigned int i = 0; i < 2 * vl->options->pairs; i++) {
		if (vfe_ring_fd(&vl->fe, VU_SET_VRING_KICK, i, &vl->fe.kick[i]))
			load_die("the back-end does not start a ring again");
		eventfd_write(vl->fe.kick[i], 1);
	}
}

void vl_dev_reset(struct vl *vl)
{
	if (vfe_do(&vl->fe, (struct vu_message){ .request = VU_RESET_DEVICE }))
		load_die("the back-end does not reset");
	for (unsigned int i = 0; i < vl->options->pairs; i++)
		vl->pairs[i].tx_done = vl->pairs[i].tx_frames;
	start_pairs(vl);
}

/* Receive. */

/* Adds a used buffer to the frame, without its first skip bytes. */
static bool append(const struct vl *vl, const struct vl_pair *pair, struct vl_frame *frame,
		   uint32_t id, uint32_t len, size_t skip)
{
	if (len < skip || len > vl->options->buffer_size || frame->n_iov == VL_PIECES)
		return false;
	frame->iov[frame->n_iov++] =
		(struct iovec){ pair->buffers + (size_t)id * vl->options->buffer_size + skip,
				len - skip };
	frame->len += len - skip;
	return true;
}

/* The used buffers of one frame. False if there is none, or it is not complete. */
static bool collect(struct vl *vl, struct vl_pair *pair, struct vl_frame *frame, bool *ok)
{
	unsigned int n = 1;
	uint32_t id, len;

	if (!drv_used(pair->rx, &id, &len))
		return false;
	frame->n_iov = 0;
	frame->len = 0;
	memcpy(&frame->hdr, pair->buffers + (size_t)id * vl->options->buffer_size, VNET_LEN);
	*ok = append(vl, pair, frame, id, len, VNET_LEN);
	for (; n < frame->hdr.num_buffers; n++) {
		if (!drv_used(pair->rx, &id, &len)) {
			*ok = false; /* a frame's buffers become used at once */
			break;
		}
		*ok = append(vl, pair, frame, id, len, 0) && *ok;
	}
	*ok = *ok && (frame->hdr.num_buffers == 1 || vl_has(vl, VIRTIO_NET_F_MRG_RXBUF));
	return true;
}

unsigned int vl_rx(struct vl *vl, unsigned int limit,
		   void (*take)(struct vl *vl, struct vl_frame *frame, int64_t now), int64_t now)
{
	struct vl_frame frame;
	unsigned int n_all = 0;

	for (unsigned int i = 0; i < vl->options->pairs; i++) {
		struct vl_pair *pair = &vl->pairs[i];
		unsigned int n = 0;
		bool ok;

		frame.pair = i;
		while (n < limit && collect(vl, pair, &frame, &ok)) {
			n++;
			pair->rx_frames++;
			pair->rx_bytes += frame.len;
			if (ok)
				take(vl, &frame, now);
			else
				vl->errors.header++;
			while (pair->rx->n_free)
				post(vl, pair);
		}
		n_all += n;
	}
	return n_all;
}

/* Notifications. */

void vl_kick(struct vl *vl)
{
	for (unsigned int i = 0; i < 2 * vl->options->pairs; i++) {
		bool *added = &vl->pairs[i / 2].added[i % 2];

		if (!*added)
			continue;
		*added = false;
		if (!drv_kick_wanted(&vl->fe.rings[i]))
			continue;
		vl->pairs[i / 2].kicks++;
		eventfd_write(vl->fe.kick[i], 1);
	}
}

/* Asks for calls; whether there is something already. */
static bool ask(struct vl *vl)
{
	bool any = false;

	for (unsigned int i = 0; i < vl->options->pairs; i++) {
		struct vl_pair *pair = &vl->pairs[i];

		drv_want_call(pair->rx, true);
		any |= drv_pending(pair->rx);
		if (!pair->blocked)
			continue;
		/* Half of the ring at once, as it is worth the wake-up. */
		drv_want_call_after(pair->tx, (uint16_t)(pair->tx->num / 2));
		reclaim(pair);
		any |= pair->tx->n_free >= pair->tx->num / 2;
	}
	return any;
}

static void sleep_until(struct vl *vl, int64_t until)
{
	struct pollfd fds[2 * VFE_PAIRS + 1];
	unsigned int n = 0, n_rings = 2 * vl->options->pairs;
	int64_t left = until - load_now_ns();
	struct timespec wait = { left / NS_PER_S, left % NS_PER_S };
	eventfd_t value;

	if (left <= 0)
		return;
	for (; n < n_rings; n++)
		fds[n] = (struct pollfd){ .fd = vl->fe.call[n], .events = POLLIN };
	fds[n] = (struct pollfd){ .fd = vl->fe.fd, .events = POLLRDHUP };
	if (ppoll(fds, n + 1, &wait, NULL) <= 0)
		return;
	if (fds[n].revents)
		load_die("the back-end has gone");
	for (n = 0; n < n_rings; n++)
		if (fds[n].revents && !eventfd_read(fds[n].fd, &value))
			vl->pairs[n / 2].calls += value;
}

void vl_rest(struct vl *vl, int64_t until)
{
	if (!ask(vl))
		sleep_until(vl, until);
	for (unsigned int i = 0; i < vl->options->pairs; i++) {
		drv_want_call(vl->pairs[i].rx, false);
		if (vl->pairs[i].blocked)
			drv_want_call(vl->pairs[i].tx, false);
	}
}
