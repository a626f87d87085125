/* SPDX-License-Identifier: Apache-2.0 */
#include "tun.h"

#include "taploom/frame_fields.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/virtio_net.h>
#include <unistd.h>

#define SLAB_ALIGN                                                                                 \
	16 /* with a header of 10 bytes and Ethernet's 14, IP headers are aligned to 8             \
	    */

static_assert(TUN_SLAB_SIZE > TUN_FRAME_ROOM, "a slab holds the largest frame");

/* Takes the first slab that nobody holds; the reference is the reader's. NULL if all are under way.
 */
static struct slab *slab_take(struct tun_queue *queue)
{
	for (unsigned int i = 0; i < TUN_SLABS; i++) {
		struct slab *slab = &queue->slabs[i];

		if (atomic_load_explicit(&slab->refs, memory_order_acquire) != 0)
			continue;
		atomic_store_explicit(&slab->refs, 1, memory_order_relaxed);
		return slab;
	}
	return NULL;
}

bool tun_queue_starved(const struct tun_queue *queue)
{
	for (unsigned int i = 0; i < TUN_SLABS; i++)
		if (atomic_load_explicit(&queue->slabs[i].refs, memory_order_acquire) == 0)
			return false;
	return true;
}

/*
 * The device went with its namespace: reads say EBADFD for ever, and a level-triggered epoll would
 * spin. Closing the queue takes it out of every epoll; its number stays taken, as writers still
 * know it.
 */
static void queue_lost(struct tun_queue *queue)
{
	if (queue->gone)
		return;
	queue->gone = true;
	dup3(queue->tun->idle_fd, queue->source.fd, O_CLOEXEC);
	if (queue->index == 0)
		control_guest_event(queue->tun->rt->control, GUEST_GONE);
}

/* After a failed read: whether to go on reading in this turn. */
static bool read_failed(struct tun_queue *queue, int error)
{
	switch (error) {
	case EAGAIN:
		return false;
	case EINTR:
		return true;
	case EBADFD:
	case ENODEV:
		queue_lost(queue);
		return false;
	default: /* EFAULT, ENOMEM or EINVAL: that one frame is lost */
		count_drop(queue->counters, DROP_TUN_READ);
		return true;
	}
}

static struct frame_offload offload_of(const struct virtio_net_hdr *hdr)
{
	return (struct frame_offload){
		.gso_size = hdr->gso_type == VIRTIO_NET_HDR_GSO_NONE ? 0 : hdr->gso_size,
		.gso_type = hdr->gso_type,
		.csum_unchecked = true, /* the guest's kernel leaves them partial */
	};
}

static void note_guest(struct tun_queue *queue, const struct frame *frame,
		       const struct frame *before)
{
	struct runtime *rt = queue->tun->rt;

	guest_mac_note(rt, frame->data + ETH_ADDR_LEN);
	if (frame->kind == FRAME_ICMP_ERROR ||
	    (before && ip_eq(&before->key.guest, &frame->key.guest)))
		return;
	control_guest_address(rt->control, &frame->key.guest);
}

/* Of a frame that control answers. */
static void note_sender(struct runtime *rt, const struct frame *frame)
{
	struct ip_addr src;

	guest_mac_note(rt, frame->data + ETH_ADDR_LEN);
	if (frame->l4_off == frame->l3_off) /* ARP */
		return;
	src = frame_src(frame);
	/* A kernel says much by its link-local address, at which no service need be bound. */
	if (!ip_is_any(&src) && !ip_is_link_local(&src))
		control_guest_address(rt->control, &src);
}

static void capture(struct tun_queue *queue, const uint8_t *data, size_t len)
{
	struct iovec iov = { (void *)(uintptr_t)data, len };

	if (queue->tun->pcap)
		pcap_write(queue->tun->pcap, &iov, 1);
}

/* Parses one frame and sorts it; frame is the next unused one of the slab. Whether it was used. */
static bool frame_take(struct tun_queue *queue, struct tun_turn *turn, struct frame *frame,
		       const uint8_t *bytes, size_t len)
{
	struct runtime *rt = queue->tun->rt;
	struct virtio_net_hdr hdr;
	enum drop drop;

	memcpy(&hdr, bytes, sizeof(hdr));
	capture(queue, bytes + TUN_HDR_LEN, len - TUN_HDR_LEN);
	drop = frame_parse(frame, bytes + TUN_HDR_LEN, len - TUN_HDR_LEN, offload_of(&hdr),
			   &rt->secret);
	if (drop == DROP_NONE && frame->kind == FRAME_CONTROL) {
		note_sender(rt, frame);
		drop = control_post_frame(rt->control, frame);
		if (drop == DROP_NONE)
			return false;
	}
	if (drop != DROP_NONE) {
		count_drop(queue->counters, drop);
		return false;
	}
	frame->queue = queue->index;
	note_guest(queue, frame, turn->n_frames ? turn->frames[turn->n_frames - 1] : NULL);
	turn->frames[turn->n_frames++] = frame;
	return true;
}

void tun_turn_read(struct tun_queue *queue, struct tun_turn *turn)
{
	uint64_t n_read = 0, bytes = 0;
	size_t at = 0;

	*turn = (struct tun_turn){ .slab = queue->gone ? NULL : slab_take(queue), .more = true };
	if (!turn->slab) {
		turn->more = !queue->gone;
		return;
	}
	while (n_read < TUN_TURN_MAX && at + TUN_FRAME_ROOM <= turn->slab->size) {
		uint8_t *room = turn->slab->bytes + at;
		ssize_t len = read(queue->source.fd, room, TUN_FRAME_ROOM);

		if (len < 0) {
			turn->more = read_failed(queue, errno);
			if (!turn->more)
				break;
			n_read++;
			continue;
		}
		n_read++;
		bytes += (size_t)len;
		if (len < TUN_HDR_LEN)
			count_drop(queue->counters, DROP_SHORT);
		else if (frame_take(queue, turn, &turn->slab->frames[turn->n_frames], room,
				    (size_t)len))
			at += ((size_t)len + SLAB_ALIGN - 1) & ~(size_t)(SLAB_ALIGN - 1);
	}
	count_add(queue->counters, COUNT_RX_FRAMES, n_read);
	count_add(queue->counters, COUNT_RX_BYTES, bytes);
}

bool tun_source_read(struct shard_source *source, struct shard *shard)
{
	struct tun_queue *queue = (struct tun_queue *)(void *)source;
	struct batch batch = { 0 };
	struct tun_turn turn;

	role_is_shard();
	tun_turn_read(queue, &turn);
	if (!turn.slab)
		return turn.more;
	for (unsigned int i = 0; i < turn.n_frames; i++)
		batch_add(&batch, turn.frames[i]);
	if (batch.n_frames) {
		count_add(queue->counters, COUNT_FRAMES_OWN, batch.n_frames);
		batch.slab = turn.slab;
		slab_get(turn.slab);
		shard_run_batch(shard, &batch);
	}
	slab_put(turn.slab);
	return turn.more;
}
