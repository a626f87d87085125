/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Frames from the guest. A turn takes chains under the queue's lock, copies each frame's headers
 * once into the slab, and describes the payload by pieces of the guest's own memory. The chains go
 * back to the guest when the last batch of the slab is done, on whatever thread that is: under the
 * same lock, which nobody holds for long.
 *
 * A kick is read only when the ring is empty: until then the level-triggered epoll calls again.
 */
#include "vhost.h"

#include "taploom/frame_fields.h"

#include <unistd.h>

#define SMALL_FRAME 512u  /* bytes; copied whole */
#define HEADER_COPY 256u  /* of a longer frame: all headers that are not made to annoy */
#define WHOLE_COPY  2048u /* what control_post_frame() takes; long chains of extension headers */
#define COPY_ALIGN  16u
#define IP_ALIGN    2u /* before the Ethernet header, to align what follows */

static size_t vnet_len(uint64_t features)
{
	return features & (VU_FEATURE(VIRTIO_F_VERSION_1) | VU_FEATURE(VIRTIO_NET_F_MRG_RXBUF))
		       ? sizeof(struct virtio_net_hdr_v1)
		       : sizeof(struct virtio_net_hdr);
}

void vhost_clear(int fd)
{
	uint64_t n;
	ssize_t got = read(fd, &n, sizeof(n));

	(void)got;
}

/* Gives a slab's chains back. With the queue's lock held. */
static void return_chains(struct vu_slab *slab)
{
	struct vu_queue *queue = slab->port->queue;

	for (unsigned int i = 0; i < slab->n_chains; i++)
		vring_put(&queue->ring, &slab->chains[i], 0);
	slab->n_chains = 0;
	slab->next = queue->free_slabs;
	queue->free_slabs = slab;
	vu_queue_slab_back(queue);
}

static void slab_lists_take(struct vu_queue *queue, struct vu_slab *slab)
{
	queue->free_slabs = slab->next;
	slab->next = NULL;
	if (queue->newest)
		queue->newest->next = slab;
	else
		queue->oldest = slab;
	queue->newest = slab;
	queue->slabs_out++;
}

/*
 * The last batch of a slab is done. Any thread. Chains go back in the order in which they came,
 * also without IN_ORDER: then the used index alone says where the ring goes on, for the daemon that
 * is started in place of one that was killed.
 */
static void slab_release(struct slab *base)
{
	struct vu_slab *slab = (struct vu_slab *)(void *)base;
	struct vu_queue *queue = slab->port->queue;

	pthread_mutex_lock(&queue->lock);
	slab->done = true;
	while (queue->oldest && queue->oldest->done) {
		slab = queue->oldest;
		queue->oldest = slab->next;
		if (!queue->oldest)
			queue->newest = NULL;
		return_chains(slab);
	}
	vring_publish(&queue->ring);
	vu_queue_call(queue);
	if (queue->starved) {
		queue->starved = false;
		vu_eventfd_add(queue->kick_fd);
	}
	pthread_mutex_unlock(&queue->lock);
}

void vu_rx_init(struct vu_port *port, struct vu_slab *slabs)
{
	for (unsigned int i = 0; i < VU_SLABS; i++) {
		struct vu_slab *slab = &slabs[i];

		slab->slab.release = slab_release;
		slab->slab.owner = port;
		slab->slab.bytes = slab->bytes;
		slab->slab.size = VU_SLAB_BYTES;
		slab->slab.frames = slab->frames;
		slab->slab.max_frames = VU_TURN_CHAINS;
		slab->slab.index = i;
		slab->port = port;
		slab->next = port->queue->free_slabs;
		port->queue->free_slabs = slab;
	}
}

/* Copies len bytes out of the guest's memory and moves the pieces on. Returns what there was. */
static size_t gather(uint8_t *to, size_t len, struct iovec **iov, unsigned int *n_iov)
{
	size_t done = 0;

	while (done < len && *n_iov) {
		struct iovec *piece = *iov;
		size_t n = len - done < piece->iov_len ? len - done : piece->iov_len;

		read_once(to + done, piece->iov_base, n);
		done += n;
		piece->iov_base = (uint8_t *)piece->iov_base + n;
		piece->iov_len -= n;
		if (!piece->iov_len) {
			(*iov)++;
			(*n_iov)--;
		}
	}
	return done;
}

static void note_guest(struct vu_port *port, const struct frame *frame)
{
	struct runtime *rt = port->vhost->rt;
	struct ip_addr src;

	guest_mac_note(rt, frame->data + ETH_ADDR_LEN);
	if (frame->l4_off == frame->l3_off) /* ARP */
		return;
	src = frame_src(frame);
	known_addrs_note(rt, &port->known, &src);
}

/* Where a frame's bytes and the rest of its pieces are. */
struct raw_frame {
	const struct virtio_net_hdr_v1 *hdr;
	uint8_t *data;
	size_t linear;
	size_t len;
	struct iovec *iov;
	unsigned int n_iov;
};

static void capture(const struct vu_port *port, const struct raw_frame *raw)
{
	struct iovec iov[VRING_CHAIN_MAX + 1];

	iov[0] = (struct iovec){ raw->data, raw->linear };
	memcpy(iov + 1, raw->iov, raw->n_iov * sizeof(*iov));
	pcap_write(port->vhost->pcap, iov, raw->n_iov + 1);
}

static enum drop parse(struct vu_port *port, struct vu_slab *slab, struct frame *frame,
		       const struct raw_frame *raw, struct frame_offload offload)
{
	const struct hash_secret *secret = &port->vhost->rt->secret;

	if (!raw->n_iov)
		return frame_parse(frame, raw->data, raw->linear, offload, secret);
	return frame_parse_iov(frame, raw->data, raw->linear, raw->iov, raw->n_iov,
			       slab->iov + slab->n_iov, offload, secret);
}

/* Extension headers reached past the copy, or somebody needs the whole frame: copies more and
 * parses again. */
static bool wants_more(const struct frame *frame, const struct raw_frame *raw, enum drop drop)
{
	if (!raw->n_iov || raw->linear >= WHOLE_COPY)
		return false;
	return drop == DROP_NONE ? frame->kind == FRAME_CONTROL
				 : drop == DROP_SHORT || drop == DROP_IP_OPTION;
}

/* Copies the headers and parses. The frame is the slab's next; whether it is used. */
static bool take_frame(struct vu_port *port, struct vu_slab *slab, struct frame *frame,
		       struct raw_frame *raw, struct frame_offload offload)
{
	struct runtime *rt = port->vhost->rt;
	enum drop drop;

	raw->linear = gather(raw->data, raw->len <= SMALL_FRAME ? SMALL_FRAME : HEADER_COPY,
			     &raw->iov, &raw->n_iov);
	if (port->vhost->pcap)
		capture(port, raw);
	drop = parse(port, slab, frame, raw, offload);
	if (wants_more(frame, raw, drop)) {
		raw->linear += gather(raw->data + raw->linear, WHOLE_COPY - raw->linear, &raw->iov,
				      &raw->n_iov);
		drop = parse(port, slab, frame, raw, offload);
	}
	if (drop == DROP_NONE) {
		frame->queue = port->queue->index / 2;
		note_guest(port, frame);
		drop = frame->kind == FRAME_CONTROL ? control_post_frame(rt->control, frame)
						    : vu_offload_check(raw->hdr, frame);
	}
	if (drop != DROP_NONE)
		count_drop(port->counters, drop);
	return drop == DROP_NONE && frame->kind != FRAME_CONTROL;
}

/* One chain, whose pieces are in port->raw. False: it is too short for its header, which is a lie.
 */
static bool take_chain(struct vu_port *port, struct vu_slab *slab, struct vu_turn *turn,
		       const struct vring_chain *chain)
{
	struct virtio_net_hdr_v1 hdr = { 0 };
	struct raw_frame raw = { .hdr = &hdr, .iov = port->raw, .n_iov = chain->n_iov };
	size_t hdr_len = vnet_len(port->queue->features);
	struct frame_offload offload;
	struct frame *frame = &slab->frames[turn->n_frames];

	if (gather((uint8_t *)&hdr, hdr_len, &raw.iov, &raw.n_iov) < hdr_len)
		return false;
	raw.len = chain->len - hdr_len;
	raw.data = slab->bytes + slab->n_bytes + IP_ALIGN;
	count_add(port->counters, COUNT_RX_FRAMES, 1);
	count_add(port->counters, COUNT_RX_BYTES, raw.len);
	if (!vu_offload_of(&hdr, port->queue->features, &offload) || raw.len > FRAME_MAX) {
		count_drop(port->counters, raw.len > FRAME_MAX ? DROP_L4_LENGTH : DROP_VRING);
		return true;
	}
	if (!take_frame(port, slab, frame, &raw, offload))
		return true;
	turn->n_frames++;
	slab->n_bytes += (IP_ALIGN + raw.linear + COPY_ALIGN - 1) & ~(size_t)(COPY_ALIGN - 1);
	slab->n_iov += raw.n_iov ? raw.n_iov + 1 : 0;
	return true;
}

static unsigned int turn_limit(const struct vu_queue *queue)
{
	unsigned int quarter = queue->ring.setup.num / 4;

	if (quarter > VU_TURN_CHAINS)
		return VU_TURN_CHAINS;
	return quarter ? quarter : 1;
}

static bool slab_has_room(const struct vu_slab *slab)
{
	return slab->n_bytes + WHOLE_COPY + IP_ALIGN <= VU_SLAB_BYTES &&
	       slab->n_iov + VRING_CHAIN_MAX + 1 <= VU_SLAB_IOV;
}

/* Fills a slab. Returns what the last vring_take() said: 0 if the ring is empty. */
static int fill(struct vu_port *port, struct vu_slab *slab, struct vu_turn *turn)
{
	struct vring *ring = &port->queue->ring;
	unsigned int limit = turn_limit(port->queue);
	size_t bytes = 0;

	while (slab->n_chains < limit && bytes < VU_TURN_BYTES && slab_has_room(slab)) {
		struct vring_chain *chain = &slab->chains[slab->n_chains];
		int got = vring_take(ring, false, chain, port->raw);

		if (got <= 0)
			return got;
		slab->n_chains++;
		bytes += chain->len;
		if (!take_chain(port, slab, turn, chain))
			return vring_lie(ring);
	}
	return 1;
}

/* A disabled ring is processed without effect (vhost-user, "Ring states"). */
static int discard(struct vu_port *port)
{
	struct vring *ring = &port->queue->ring;
	struct vring_chain chain;
	int got = 1;

	for (uint32_t i = 0; got > 0 && i < ring->setup.num; i++) {
		got = vring_take(ring, false, &chain, port->raw);
		if (got > 0)
			vring_put(ring, &chain, 0);
	}
	vring_publish(ring);
	vu_queue_call(port->queue);
	return got;
}

/* The ring is empty: asks for a kick and looks once more. Whether there is something after all. */
static bool rest(struct vu_port *port)
{
	vhost_clear(port->source.fd);
	vring_want_kick(&port->queue->ring, true);
	port->kicks_off = false;
	if (!vring_has_more(&port->queue->ring))
		return false;
	vu_eventfd_add(port->source.fd);
	return true;
}

/* As vu_rx_turn(), with the lock held and the queue usable. */
static int turn_locked(struct vu_port *port, struct vu_turn *turn)
{
	struct vu_queue *queue = port->queue;
	struct vu_slab *slab = queue->free_slabs;
	int got;

	if (!queue->enabled) {
		got = discard(port);
	} else if (!slab) {
		queue->starved = true; /* whoever gives one back kicks */
		vhost_clear(port->source.fd);
		return 0;
	} else {
		if (!port->kicks_off)
			vring_want_kick(&queue->ring, false);
		port->kicks_off = true;
		slab->n_chains = slab->n_iov = 0;
		slab->n_bytes = 0;
		slab->done = false;
		got = fill(port, slab, turn);
		if (slab->n_chains) {
			atomic_store_explicit(&slab->slab.refs, 1, memory_order_relaxed);
			slab_lists_take(queue, slab);
			turn->slab = slab;
		}
	}
	turn->more = got > 0 || (got == 0 && rest(port));
	return got;
}

void vu_rx_turn(struct vu_port *port, struct vu_turn *turn)
{
	struct vu_queue *queue = port->queue;
	int got = 0;

	*turn = (struct vu_turn){ 0 };
	pthread_mutex_lock(&queue->lock);
	if (vu_queue_usable(queue))
		got = turn_locked(port, turn);
	else
		vhost_clear(port->source.fd);
	if (got < 0)
		vhost_clear(port->source.fd);
	pthread_mutex_unlock(&queue->lock);
	if (got < 0)
		vhost_lied(port->vhost, queue, port->counters);
}

void vu_tx_kicked(struct vu_port *port)
{
	struct vu_queue *queue = port->queue;
	uint64_t waiters;
	bool control;

	pthread_mutex_lock(&queue->lock);
	vhost_clear(port->source.fd);
	waiters = queue->waiters;
	control = queue->control_waits;
	queue->waiters = 0;
	queue->control_waits = false;
	if (vu_queue_usable(queue))
		vring_want_kick(&queue->ring, false);
	pthread_mutex_unlock(&queue->lock);
	for (; waiters; waiters &= waiters - 1)
		vu_tx_wake(port->vhost, (unsigned int)__builtin_ctzll(waiters));
	if (control)
		vu_tx_wake(port->vhost, port->vhost->rt->n_shards);
}

bool vu_port_read(struct shard_source *source, struct shard *shard)
{
	struct vu_port *port = (struct vu_port *)(void *)source;
	struct batch batch = { 0 };
	struct vu_turn turn;

	role_is_shard();
	if (!vu_queue_from_guest(port->queue)) {
		vu_tx_leave(
			shard_tx(shard)); /* earlier events of this turn may have begun a batch */
		vu_tx_kicked(port);
		return false;
	}
	vu_rx_turn(port, &turn);
	if (!turn.slab)
		return turn.more;
	for (unsigned int i = 0; i < turn.n_frames; i++)
		batch_add(&batch, &turn.slab->frames[i]);
	if (batch.n_frames) {
		count_add(port->counters, COUNT_FRAMES_OWN, batch.n_frames);
		batch.slab = &turn.slab->slab;
		slab_get(batch.slab);
		shard_run_batch(shard, &batch);
	}
	slab_put(&turn.slab->slab);
	return turn.more;
}
