/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From the guest towards the socket. In-order payload of a batch is gathered as frames that the
 * batch lends, and written with one sendmsg(). What the socket does not take is copied into chunks,
 * and so is what came out of order. The list of chunks is sorted: those in order first, up to
 * rcv_nxt, then islands. All chunks in order are older than what is gathered: islands that become
 * contiguous are only taken over after the gathered frames were written or copied.
 */
#include "tcp_internal.h"

#include <errno.h>

#define FLUSH_IOV 256

#define CHUNK_OF(node) LIST_ENTRY(node, struct chunk, link)

static uint32_t chunk_end(const struct chunk *c)
{
	return c->seq + c->len;
}

/* Where the gathered frames begin: all chunks in order end there. A FIN takes a number, but has no
 * byte. */
static uint32_t gather_seq(const struct tcp *tcp)
{
	return tcp->rcv_nxt - tcp->gathered - (tcp_is(tcp, TCPB_GUEST_FIN) ? 1 : 0);
}

static uint32_t chunk_room(const struct chunk *c)
{
	return POOL_DATA - c->off - c->len;
}

void tcp_trim(struct frame *frame, uint32_t front, uint32_t keep)
{
	/* The iovecs are the batch's scratch memory, lent to us until it is done. */
	struct iovec *iov = (struct iovec *)frame->payload;
	uint32_t n = frame->n_payload;

	if (front >= frame->payload_len)
		front = frame->payload_len;
	frame->payload_len -= front;
	while (n && front >= iov->iov_len) {
		front -= (uint32_t)iov->iov_len;
		iov++;
		n--;
	}
	if (n) {
		iov->iov_base = (uint8_t *)iov->iov_base + front;
		iov->iov_len -= front;
	}
	frame->payload = iov;
	if (keep < frame->payload_len)
		frame->payload_len = keep;
	frame->n_payload = 0;
	for (uint32_t left = frame->payload_len; left; iov++) {
		if (iov->iov_len > left)
			iov->iov_len = left;
		left -= (uint32_t)iov->iov_len;
		frame->n_payload++;
	}
}

/* Copies len bytes of a frame's payload from off on. */
static void copy_payload(const struct frame *frame, uint32_t off, uint8_t *dst, uint32_t len)
{
	const struct iovec *iov = frame->payload;

	while (off >= iov->iov_len) {
		off -= (uint32_t)iov->iov_len;
		iov++;
	}
	while (len) {
		uint32_t n = (uint32_t)iov->iov_len - off;

		n = n < len ? n : len;
		memcpy(dst, (const uint8_t *)iov->iov_base + off, n);
		dst += n;
		len -= n;
		off = 0;
		iov++;
	}
}

/*
 * Puts a frame's bytes [off, off + len) at seq, right behind a place in the list: into the chunk
 * there if they are contiguous and it has room, else into new ones. Returns the bytes that found
 * room.
 */
static uint32_t insert_after(struct shard *shard, struct tcp *tcp, struct list *place,
			     const struct frame *frame, uint32_t off, uint32_t seq, uint32_t len,
			     bool promised)
{
	uint32_t done = 0;

	while (done < len) {
		struct chunk *c = place == &tcp->queue ? NULL : CHUNK_OF(place);
		uint32_t n = len - done;

		if (!c || chunk_end(c) != seq + done || !chunk_room(c)) {
			if (!promised && (pool_unpromised(&shard->pool) < POOL_DATA ||
					  tcp->n_chunks >= TCP_CHUNKS_MAX))
				break;
			c = pool_take(&shard->pool);
			if (!c)
				break;
			tcp->n_chunks++;
			c->seq = seq + done;
			c->link.prev = place;
			c->link.next = place->next;
			place->next->prev = &c->link;
			place->next = &c->link;
			place = &c->link;
		}
		n = n < chunk_room(c) ? n : chunk_room(c);
		copy_payload(frame, off + done, c->data + c->off + c->len, n);
		c->len = (uint16_t)(c->len + n);
		tcp->queued += n;
		done += n;
	}
	return done;
}

/* The last chunk that is in order, or the list's head. */
static struct list *last_in_order(struct tcp *tcp, uint32_t seq)
{
	struct list *node = tcp->queue.prev;

	while (node != &tcp->queue && SEQ_GE(CHUNK_OF(node)->seq, seq))
		node = node->prev;
	return node;
}

bool tcp_queue_in_order(struct shard *shard, struct flow *flow, struct frame *frame)
{
	struct tcp *tcp = &flow->tcp;
	uint32_t seq = tcp->rcv_nxt;

	if (!tcp_is(tcp, TCPB_HOST_FULL)) {
		frame->next = NULL;
		if (tcp->gather_last)
			tcp->gather_last->next = frame;
		else
			tcp->gather_first = frame;
		tcp->gather_last = frame;
		tcp->gathered += frame->payload_len;
		tcp->rcv_nxt = seq + frame->payload_len;
		return true;
	}
	uint32_t n = insert_after(shard, tcp, last_in_order(tcp, seq), frame, 0, seq,
				  frame->payload_len, true);
	tcp->rcv_nxt = seq + n;
	count_add(&shard->counters, COUNT_TCP_QUEUED, n);
	return n == frame->payload_len;
}

/*
 * The first chunk that ends behind a number, or the list's head. Nearly all that comes belongs near
 * the end: from the front, each segment behind a hole would pass all that was kept before it.
 */
static struct list *first_behind(struct tcp *tcp, uint32_t seq)
{
	struct list *node = &tcp->queue;

	while (node->prev != &tcp->queue && SEQ_GT(chunk_end(CHUNK_OF(node->prev)), seq))
		node = node->prev;
	return node;
}

bool tcp_queue_overlap(struct tcp *tcp, uint32_t seq, uint32_t end, struct sack_block *dup)
{
	bool found = false;

	for (struct list *node = first_behind(tcp, seq); node != &tcp->queue; node = node->next) {
		const struct chunk *c = CHUNK_OF(node);
		uint32_t from = SEQ_GT(c->seq, seq) ? c->seq : seq;

		if (SEQ_GE(from, end) || (found && from != dup->end))
			break;
		if (!found)
			dup->start = from;
		found = true;
		dup->end = SEQ_LT(chunk_end(c), end) ? chunk_end(c) : end;
	}
	return found;
}

const struct chunk *tcp_queue_first_island(const struct tcp *tcp)
{
	const struct list *node = tcp->queue.next;

	if (!tcp->queued || SEQ_LE(CHUNK_OF(tcp->queue.prev)->seq, tcp->rcv_nxt))
		return NULL;
	while (SEQ_LE(CHUNK_OF(node)->seq, tcp->rcv_nxt))
		node = node->next;
	return CHUNK_OF(node);
}

bool tcp_queue_island(struct shard *shard, struct flow *flow, const struct frame *frame,
		      uint32_t seq, uint32_t from)
{
	struct tcp *tcp = &flow->tcp;
	uint32_t at = from, end = seq + frame->payload_len;
	struct list *node = first_behind(tcp, from), *before = node->prev;

	tcp->island_recent = from;
	for (; node != &tcp->queue && SEQ_LT(at, end); node = node->next) {
		const struct chunk *c = CHUNK_OF(node);
		uint32_t gap_end = SEQ_LT(c->seq, end) ? c->seq : end;

		if (SEQ_GT(gap_end, at)) {
			uint32_t len = gap_end - at;

			if (insert_after(shard, tcp, before, frame, at - seq, at, len, false) !=
			    len)
				return false;
		}
		at = chunk_end(c);
		before = node;
	}
	if (SEQ_LT(at, end))
		return insert_after(shard, tcp, before, frame, at - seq, at, end - at, false) ==
		       end - at;
	return true;
}

/* Ends a list of iovecs behind max bytes. Returns its new length. */
static unsigned int cut_iov(struct iovec *iov, unsigned int n, uint32_t max)
{
	for (unsigned int i = 0; i < n; i++) {
		if (iov[i].iov_len >= max) {
			iov[i].iov_len = max;
			return i + 1;
		}
		max -= (uint32_t)iov[i].iov_len;
	}
	return n;
}

/* Fills iov with what is in order: chunks, then gathered frames. Returns the number of iovecs. */
static unsigned int fill_iov(const struct tcp *tcp, struct iovec *iov)
{
	uint32_t chunks_end = gather_seq(tcp);
	unsigned int n = 0;

	for (struct list *node = tcp->queue.next; node != &tcp->queue && n < FLUSH_IOV;
	     node = node->next) {
		struct chunk *c = CHUNK_OF(node);

		if (SEQ_GE(c->seq, chunks_end))
			break;
		iov[n++] = (struct iovec){ c->data + c->off, c->len };
	}
	for (const struct frame *f = tcp->gather_first; f; f = f->next) {
		for (uint32_t i = 0; i < f->n_payload && n < FLUSH_IOV; i++)
			iov[n++] = f->payload[i];
	}
	return n;
}

/* Takes n bytes that the socket has accepted out of the chunks and the gathered frames. */
static void consume(struct shard *shard, struct tcp *tcp, uint32_t n)
{
	tcp->host_nxt += n;
	tcp->given += n;
	while (n && !list_is_empty(&tcp->queue) &&
	       SEQ_LT(CHUNK_OF(tcp->queue.next)->seq, tcp->host_nxt)) {
		struct chunk *c = CHUNK_OF(tcp->queue.next);
		uint32_t part = n < c->len ? n : c->len;

		c->seq += part;
		c->off = (uint16_t)(c->off + part);
		c->len = (uint16_t)(c->len - part);
		tcp->queued -= part;
		n -= part;
		if (!c->len) {
			pool_give(&shard->pool, c);
			tcp->n_chunks--;
		}
	}
	while (n) {
		struct frame *f = tcp->gather_first;
		uint32_t part = n < f->payload_len ? n : f->payload_len;

		tcp_trim(f, part, UINT32_MAX);
		tcp->gathered -= part;
		n -= part;
		if (!f->payload_len)
			tcp->gather_first = f->next;
	}
	if (!tcp->gather_first)
		tcp->gather_last = NULL;
}

void tcp_queue_settle(struct shard *shard, struct flow *flow)
{
	struct tcp *tcp = &flow->tcp;
	uint32_t seq = gather_seq(tcp);
	struct frame *f = tcp->gather_first;

	tcp->gather_first = tcp->gather_last = NULL;
	tcp->gathered = 0;
	for (; f; f = f->next) {
		uint32_t n = insert_after(shard, tcp, last_in_order(tcp, seq), f, 0, seq,
					  f->payload_len, true);

		count_add(&shard->counters, COUNT_TCP_QUEUED, n);
		seq += n;
		if (n < f->payload_len) {
			/* Not acknowledged yet: the guest sends it again. Promises make this
			 * impossible. */
			count_drop(&shard->counters, DROP_TCP_IN_WINDOW);
			tcp->rcv_nxt = seq;
			/* Nor is a FIN behind it. */
			tcp->bits &= ~(uint32_t)(TCPB_GUEST_FIN | TCPB_FIN_HELD | TCPB_TIME_WAIT);
			tcp->fin_ahead = false;
			return;
		}
	}
}

/*
 * Gives the socket what iov holds. An urgent byte ends a send, and goes by itself with its mark; of
 * several marks the last is kept, as in the kernel. Bytes taken or -errno.
 */
static ssize_t give(struct flow *flow, struct iovec *iov, unsigned int n)
{
	struct tcp *tcp = &flow->tcp;
	uint32_t ahead = tcp->rx_urgent - tcp->host_nxt;
	ssize_t taken;

	if (!tcp_is(tcp, TCPB_RX_URGENT) || SEQ_LT(tcp->rx_urgent, tcp->host_nxt))
		return hostsock_send(flow->fd, iov, n, false);
	if (ahead)
		return hostsock_send(flow->fd, iov, cut_iov(iov, n, ahead), false);
	taken = hostsock_send_urgent(flow->fd, *(const uint8_t *)iov[0].iov_base);
	if (taken > 0)
		tcp->bits &= ~(uint32_t)TCPB_RX_URGENT;
	return taken;
}

int tcp_queue_flush(struct shard *shard, struct flow *flow)
{
	struct tcp *tcp = &flow->tcp;
	struct iovec iov[FLUSH_IOV];

	while (!tcp_is(tcp, TCPB_HOST_FULL | TCPB_HOST_SHUT)) {
		unsigned int n = fill_iov(tcp, iov);
		ssize_t taken;

		if (!n)
			return 0;
		taken = give(flow, iov, n);
		if (taken < 0 && taken != -EAGAIN && taken != -ENOBUFS && taken != -ENOMEM)
			return (int)taken;
		if (taken > 0) {
			consume(shard, tcp, (uint32_t)taken);
			count_add(&shard->counters, COUNT_TCP_RX_BYTES, (uint64_t)taken);
		} else {
			tcp->bits |= TCPB_HOST_FULL;
		}
	}
	tcp_queue_settle(shard, flow);
	return 0;
}

void tcp_queue_drop(struct shard *shard, struct flow *flow)
{
	struct tcp *tcp = &flow->tcp;
	struct list *node = tcp->queue.next;

	if (!node) /* closed before it was opened */
		return;
	while (!list_is_empty(&tcp->queue))
		pool_give(&shard->pool, CHUNK_OF(tcp->queue.next));
	tcp->queued = tcp->n_chunks = 0;
	tcp->gather_first = tcp->gather_last = NULL;
	tcp->gathered = 0;
}

/* The island that begins at a node: its end, and the node behind it. */
static struct list *island_end(const struct tcp *tcp, struct list *node, struct sack_block *block)
{
	block->start = CHUNK_OF(node)->seq;
	block->end = chunk_end(CHUNK_OF(node));
	for (node = node->next; node != &tcp->queue && CHUNK_OF(node)->seq == block->end;
	     node = node->next)
		block->end = chunk_end(CHUNK_OF(node));
	return node;
}

unsigned int tcp_queue_sack(const struct tcp *tcp, struct sack_block *blocks, unsigned int max)
{
	struct list *node = tcp->queue.next;
	unsigned int n = 0;

	while (node != &tcp->queue && SEQ_LE(CHUNK_OF(node)->seq, tcp->rcv_nxt))
		node = node->next;
	while (node != &tcp->queue) {
		struct sack_block block;

		node = island_end(tcp, node, &block);
		if (SEQ_LE(block.start, tcp->island_recent) &&
		    SEQ_LT(tcp->island_recent, block.end)) {
			/* The first place is for the block that the last arrival changed. */
			for (unsigned int i = n < max ? n : max - 1; i > 0; i--)
				blocks[i] = blocks[i - 1];
			blocks[0] = block;
			n += n < max;
		} else if (n < max) {
			blocks[n++] = block;
		}
	}
	return n;
}
