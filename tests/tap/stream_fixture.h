/* SPDX-License-Identifier: Apache-2.0 */
/*
 * For the tests of the stream transport: a shard layer and a control thread that only take notes,
 * and a guest at the other end of a socket pair. Nothing here waits for a time: what threads do is
 * announced by semaphores.
 */
#pragma once

#include "stream.h"

#include <fcntl.h>
#include <semaphore.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#define TEST_SHARDS  4
#define TEST_RECORDS 1000

/* A frame that a shard has run: its guest port says which one it was. */
struct record {
	uint16_t port;
	bool in_place; /* by the reader, not out of the ring */
	uint32_t payload_len;
	uint8_t first_byte;
};

struct shard {
	unsigned int id;
	bool busy; /* shard_try_enter() fails */
	unsigned int wakes;
	bool draining;
	sem_t awake;   /* posted by shard_wake() and shard_run_batch() */
	sem_t tx_room; /* posted by shard_wake_tx() */
	struct counters counters;
	struct ring ring;
	unsigned int n_records;
	struct record records[TEST_RECORDS];
};

struct control {
	unsigned int n_frames, n_addrs, tx_wakes;
	bool full;
	struct ip_addr last_addr;
	unsigned int resets; /* of all flows */
	sem_t connected, gone;
};

static struct config config;
static struct steering steering;
static struct control control;
static struct runtime rt;
static struct stream *stream;
static int guest_fd = -1; /* the guest's end */

void shard_drain_ring(struct shard *shard, unsigned int producer)
{
	struct batch batch;

	(void)producer;
	shard->draining = true;
	while (ring_pop(&shard->ring, &batch))
		shard_run_batch(shard, &batch);
	shard->draining = false;
}

bool shard_try_enter(struct shard *shard)
{
	return !shard->busy;
}

void shard_leave(struct shard *shard)
{
	(void)shard;
}

void shard_run_batch(struct shard *shard, struct batch *batch)
{
	for (const struct frame *f = batch->first; f; f = f->next) {
		const uint8_t *payload = f->n_payload ? f->payload[0].iov_base : NULL;

		if (shard->n_records == TEST_RECORDS)
			break;
		shard->records[shard->n_records++] =
			(struct record){ f->key.guest_port, !shard->draining, f->payload_len,
					 payload ? payload[0] : 0 };
	}
	batch_done(batch);
	sem_post(&shard->awake);
}

struct ring *shard_ring(struct shard *shard, unsigned int producer)
{
	(void)producer;
	return &shard->ring;
}

void shard_wake(struct shard *shard, struct counters *waker)
{
	(void)waker;
	shard->wakes++;
	sem_post(&shard->awake);
}

void shard_wake_tx(struct shard *shard)
{
	sem_post(&shard->tx_room);
}

struct counters *shard_counters(struct shard *shard)
{
	return &shard->counters;
}

void shards_reset_flows(struct runtime *runtime)
{
	runtime->control->resets++;
}

enum drop control_post_frame(struct control *c, const struct frame *frame)
{
	(void)frame;
	if (c->full)
		return DROP_CONTROL_FULL;
	c->n_frames++;
	return DROP_NONE;
}

bool control_guest_address(struct control *c, const struct ip_addr *addr)
{
	c->n_addrs++;
	c->last_addr = *addr;
	return true;
}

void control_guest_event(struct control *c, enum guest_event event)
{
	sem_post(event == GUEST_CONNECTED ? &c->connected : &c->gone);
}

void control_wake_tx(struct control *c)
{
	c->tx_wakes++;
}

/* An Ethernet and an IPv4 header for len bytes of a protocol. Returns the place behind them. */
static inline uint8_t *make_ip(uint8_t *out, uint8_t proto, size_t len)
{
	static const uint8_t eth[ETH_HEADER_LEN] = { 2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 9, 8, 0 };
	static const uint8_t addrs[8] = { 10, 0, 2, 15, 192, 0, 2, 1 };
	uint8_t *ip = out + ETH_HEADER_LEN;
	uint32_t sum = 0;

	memcpy(out, eth, sizeof(eth));
	memset(ip, 0, 20);
	ip[0] = 0x45;
	store_be16(ip + 2, (uint16_t)(20 + len));
	ip[8] = 64;
	ip[9] = proto;
	memcpy(ip + 12, addrs, sizeof(addrs));
	for (int i = 0; i < 20; i += 2)
		sum += load_be16(ip + i);
	store_be16(ip + 10, (uint16_t) ~(sum % 65535));
	return ip + 20;
}

/* A frame with a UDP datagram. Returns its length. */
static inline size_t make_udp(uint8_t *out, uint16_t port, uint16_t dst_port, size_t payload,
			      uint8_t fill)
{
	uint8_t *udp = make_ip(out, IPPROTO_UDP, 8 + payload);

	memset(udp, 0, 8);
	store_be16(udp, port);
	store_be16(udp + 2, dst_port);
	store_be16(udp + 4, (uint16_t)(8 + payload));
	memset(udp + 8, fill, payload);
	return ETH_HEADER_LEN + 20 + 8 + payload;
}

#define WIRE_HEADERS 40 /* IPv4 and TCP */

/* A TCP segment of the guest's port, with its length before it as on the stream. Returns the bytes
 * written. */
static inline size_t make_wire(uint8_t *out, uint16_t port, size_t payload)
{
	uint8_t *tcp = make_ip(out + STREAM_PREFIX, IPPROTO_TCP, 20 + payload);

	memset(tcp, 0, 20);
	store_be16(tcp, port);
	store_be16(tcp + 2, 9);
	tcp[12] = 5 << 4;
	tcp[13] = 0x10; /* ACK */
	memset(tcp + 20, (uint8_t)port, payload);
	store_be32(out, (uint32_t)(ETH_HEADER_LEN + WIRE_HEADERS + payload));
	return STREAM_PREFIX + ETH_HEADER_LEN + WIRE_HEADERS + payload;
}

static inline void make_shards(void)
{
	rt = (struct runtime){ .config = &config, .n_shards = TEST_SHARDS, .n_readers = 1 };
	rt.secret = (struct hash_secret){ { 1, 2 } };
	rt.control = &control;
	rt.steering_rcu = &steering;
	memset(&steering, 0, sizeof(steering));
	memset(&config, 0, sizeof(config));
	memset(&control, 0, sizeof(control));
	sem_init(&control.connected, 0, 0);
	sem_init(&control.gone, 0, 0);
	for (unsigned int i = 0; i < TEST_SHARDS; i++) {
		rt.shards[i] = aligned_alloc(CACHE_LINE, sizeof(struct shard));
		memset(rt.shards[i], 0, sizeof(struct shard));
		rt.shards[i]->id = i;
		sem_init(&rt.shards[i]->awake, 0, 0);
		sem_init(&rt.shards[i]->tx_room, 0, 0);
	}
}

/* A transport without its thread: the test is the reader, and this end of a socket pair the guest.
 */
static inline int set_up_turns(void **state)
{
	int pair[2];
	struct transport *transport;
	struct epoll_event ev = { .events = EPOLLONESHOT, .data.u32 = STREAM_EVENT_OUT };

	(void)state;
	make_shards();
	if (stream_transport_new(&transport, &rt, -1, -1, NULL) ||
	    socketpair(AF_UNIX, SOCK_STREAM, 0, pair))
		return -1;
	stream = (struct stream *)(void *)transport; /* its first member */
	stream->fd = pair[0];
	stream->out_fd = dup(pair[0]);
	epoll_ctl(stream->epoll_fd, EPOLL_CTL_ADD, stream->out_fd, &ev);
	atomic_store(&stream->generation, 1);
	guest_fd = pair[1];
	return 0;
}

static inline int tear_down(void **state)
{
	(void)state;
	if (stream) {
		stream->transport.ops->stop(&stream->transport);
		if (stream->fd >= 0)
			close(stream->fd);
		if (stream->out_fd >= 0)
			close(stream->out_fd);
		stream->transport.ops->free(&stream->transport);
	}
	stream = NULL;
	if (guest_fd >= 0)
		close(guest_fd);
	guest_fd = -1;
	for (unsigned int i = 0; i < TEST_SHARDS; i++)
		free(rt.shards[i]);
	return 0;
}
