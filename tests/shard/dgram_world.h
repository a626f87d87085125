/* SPDX-License-Identifier: Apache-2.0 */
/*
 * For the tests of the datagram side: one shard without its thread, a guest's side that keeps the
 * frames it is given, and real sockets on the loopback interface, which the guest reaches by its
 * gateway's address.
 */
#pragma once

#include "shard/dgram_internal.h"

#include "taploom/checksum.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <unistd.h>

#ifdef WORLD_IS_FUZZED
#define assert_true(x)                                                                             \
	do {                                                                                       \
		if (!(x))                                                                          \
			abort();                                                                   \
	} while (0)
#define assert_int_equal(a, b) assert_true((a) == (b))
#define assert_non_null(x)     assert_true(x)
#else
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#endif

#define WORLD_FRAMES 256

struct sent_frame {
	size_t len;
	struct tx_offload offload;
	uint8_t *bytes;
};

static struct world {
	struct config config;
	struct netconf net;
	struct steering steering;
	struct runtime rt;
	struct shard *shard;
	struct tx tx;
	unsigned int caps;
	unsigned int room; /* frames that the guest's side still takes */
	unsigned int n;
	struct sent_frame frames[WORLD_FRAMES];
	uint8_t buf[FRAME_MAX];
	bool checked; /* the guest's checksums are verified */
} world;

static const uint8_t guest4[4] = { 192, 0, 2, 15 }, gateway4[4] = { 192, 0, 2, 1 };
static const uint8_t guest6[16] = { 0x20, 1, 0xd, 0xb8, [15] = 0x15 },
		     gateway6[16] = { 0xfe, 0x80, [15] = 1 };
static const uint8_t mac_guest[6] = { 2, 0, 0, 0, 0, 15 };

/* What the shard asks of the rest of the program. */

enum drop control_post_frame(struct control *control, const struct frame *frame)
{
	(void)control;
	(void)frame;
	return DROP_NONE;
}

bool control_guest_address(struct control *control, const struct ip_addr *addr)
{
	(void)control;
	(void)addr;
	return true;
}

/* The guest's side. */

static inline uint8_t *world_begin(struct tx *tx, uint16_t queue, size_t size)
{
	(void)queue;
	assert_true(size <= FRAME_MAX);
	tx->blocked = !world.room;
	return world.room ? world.buf : NULL;
}

static inline void world_commit(struct tx *tx, size_t len, const struct tx_offload *offload)
{
	struct sent_frame *f = &world.frames[world.n++];

	(void)tx;
	assert_true(world.n <= WORLD_FRAMES);
	f->len = len;
	f->offload = offload ? *offload : (struct tx_offload){ 0 };
	f->bytes = malloc(len);
	assert_non_null(f->bytes);
	memcpy(f->bytes, world.buf, len);
	world.room--;
}

static inline bool world_flush(struct tx *tx)
{
	(void)tx;
	return true;
}

static inline unsigned int world_caps(const struct tx *tx, uint16_t queue)
{
	(void)tx;
	(void)queue;
	return world.caps;
}

static const struct tx_ops world_tx = {
	.frame_begin = world_begin,
	.frame_commit = world_commit,
	.flush = world_flush,
	.caps = world_caps,
};

static inline void world_forget(void)
{
	for (unsigned int i = 0; i < world.n; i++)
		free(world.frames[i].bytes);
	world.n = 0;
}

static inline int world_setup_shards(unsigned int n_shards)
{
	memset(&world, 0, sizeof(world));
	world.room = UINT32_MAX;
	world.tx.ops = &world_tx;
	world.config = (struct config){ .flows = 256, .pool_bytes = 1 << 20, .mtu = 1500 };
	for (int v = 0; v < IP_VERSIONS; v++)
		world.net.v[v].on = true;
	world.net.v[IP4].addr = ip4_addr_of(guest4);
	world.net.v[IP4].prefix_len = 24;
	world.net.v[IP4].gateway = world.net.v[IP4].map_host_loopback = ip4_addr_of(gateway4);
	world.net.v[IP6].addr = ip6_addr_of(guest6);
	world.net.v[IP6].gateway = world.net.v[IP6].map_host_loopback = ip6_addr_of(gateway6);
	world.rt = (struct runtime){ .config = &world.config,
				     .n_shards = n_shards,
				     .netconf_rcu = &world.net,
				     .steering_rcu = &world.steering };
	guest_mac_note(&world.rt, mac_guest);
	rcu_register_thread();
	for (unsigned int i = 0; i < n_shards; i++) {
		if (shard_new(&world.rt.shards[i], &world.rt, i, &world.tx))
			return -1;
	}
	world.shard = world.rt.shards[0];
	return 0;
}

static inline int world_setup(void **state)
{
	(void)state;
	return world_setup_shards(1);
}

static inline int world_teardown(void **state)
{
	(void)state;
	for (unsigned int i = 0; i < world.rt.n_shards; i++) {
		struct list *owned = &world.rt.shards[i]->owned;

		while (!list_is_empty(owned))
			dgram_close(world.rt.shards[i],
				    LIST_ENTRY(owned->next, struct flow, owned));
	}
	rcu_barrier();
	for (unsigned int i = 0; i < world.rt.n_shards; i++)
		shard_free(world.rt.shards[i]);
	world_forget();
	rcu_unregister_thread();
	return 0;
}

/* A frame of the guest: version's guest address to dst, with an L4 header and payload. */
static inline size_t world_frame(uint8_t *bytes, const struct ip_addr *dst, uint8_t proto,
				 const uint8_t l4[8], const void *payload, size_t len)
{
	struct l3 l3 = { .dst = *dst,
			 .proto = proto,
			 .ttl = 64,
			 .src = ip_is_v4(dst) ? ip4_addr_of(guest4) : ip6_addr_of(guest6) };
	size_t off = l3_write(bytes, &l3, 8 + len);

	memcpy(bytes + 6, mac_guest, 6);
	memcpy(bytes + off, l4, 8);
	memcpy(bytes + off + 8, payload, len);
	return off + 8 + len;
}

static inline size_t world_udp(uint8_t *bytes, const struct ip_addr *dst, uint16_t sport,
			       uint16_t dport, const void *payload, size_t len)
{
	uint8_t udp[8] = { 0 };

	store_be16(udp, sport);
	store_be16(udp + 2, dport);
	store_be16(udp + 4, (uint16_t)(8 + len));
	return world_frame(bytes, dst, IPPROTO_UDP, udp, payload, len);
}

/* Adds a frame to a batch; frame must stay until it was run. */
static inline void world_add(struct batch *batch, struct frame *frame, const uint8_t *bytes,
			     size_t len)
{
	const struct frame_offload offload = { .csum_unchecked = !world.checked };

	assert_int_equal(frame_parse(frame, bytes, len, offload, &world.rt.secret), DROP_NONE);
	frame->queue = 0;
	batch_add(batch, frame);
}

static inline void world_run(const uint8_t *bytes, size_t len)
{
	static struct slab slab = { .refs = 1 };
	struct batch batch = { .slab = &slab };
	struct frame frame;

	slab_get(&slab);
	world_add(&batch, &frame, bytes, len);
	role_is_shard();
	shard_run_batch(world.shard, &batch);
	/* What belongs to another one is with it before the frame is gone. */
	for (unsigned int i = 0; world.rt.n_shards > 1 && i < world.rt.n_shards; i++) {
		for (unsigned int p = 0; p < world.shard->n_rings; p++)
			shard_drain_ring(world.rt.shards[i], p);
	}
}

/* Waits until a flow's socket has something, and runs that. */
static inline void world_wait(void)
{
	struct epoll_event ev[8];
	int n = epoll_wait(world.shard->epoll_fd, ev, 8, 5000);

	assert_true(n > 0);
	for (int i = 0; i < n; i++) {
		struct pollee *pollee = ev[i].data.ptr;

		if (pollee->kind == POLL_FLOW) {
			struct flow *flow = (struct flow *)(void *)pollee;

			flow->events |= ev[i].events;
			if (!dgram_run(world.shard, flow) && list_is_empty(&flow->touched))
				list_append(&world.shard->waiting, &flow->touched);
		} else if (pollee->kind == POLL_UDP_LISTENER) {
			udp_listener_event(world.shard, (struct udp_listener *)(void *)pollee);
		}
	}
}

/* Waits until the guest has got n frames. */
static inline void world_expect(unsigned int n)
{
	while (world.n < n)
		world_wait();
	assert_int_equal(world.n, n);
}

static inline uint64_t world_drops(enum drop reason)
{
	return atomic_load(&world.shard->counters.drop[reason]);
}

/* A UDP socket of the host on loopback; *port is its port. */
static inline int world_server(bool v4, uint16_t *port)
{
	struct endpoint e = { .addr = ip6_addr_of(&in6addr_loopback) };
	struct sockaddr_storage sa = { 0 };
	socklen_t len = sizeof(sa);
	int fd = socket(v4 ? AF_INET : AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	if (v4)
		e.addr = ip4_addr_of("\x7f\0\0\1");
	assert_true(fd >= 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&sa, sockaddr_of(&e, 0, &sa)), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&sa, &len), 0);
	assert_true(endpoint_of(&sa, &e));
	*port = e.port;
	return fd;
}

static inline struct ip_addr world_gateway(bool v4)
{
	return v4 ? ip4_addr_of(gateway4) : ip6_addr_of(gateway6);
}

/* Whether a frame to the guest has right checksums; its L4 header's offset. */
static inline size_t world_check(const struct sent_frame *f, uint8_t proto)
{
	bool v4 = load_be16(f->bytes + 12) == 0x0800;
	size_t off = v4 ? 34 : 54;
	struct ip_addr src = v4 ? ip4_addr_of(f->bytes + 26) : ip6_addr_of(f->bytes + 22);
	struct ip_addr dst = v4 ? ip4_addr_of(f->bytes + 30) : ip6_addr_of(f->bytes + 38);
	uint64_t sum = proto == IPPROTO_ICMP
			       ? 0
			       : checksum_pseudo(&src, &dst, proto, (uint32_t)(f->len - off));

	assert_int_equal(f->bytes[v4 ? 23 : 20], proto);
	assert_int_equal(checksum_finish(checksum_add(sum, f->bytes + off, f->len - off)), 0);
	return off;
}
