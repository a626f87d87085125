/* SPDX-License-Identifier: Apache-2.0 */
/*
 * UDP between a guest of raw frames and sockets on loopback. links: shard tap
 */
#include "dgram_world.h"

#define GUEST_PORT 40123

static uint8_t big[65507];

static const struct version {
	bool v4;
} versions[] = { { true }, { false } };

static int setup(void **state)
{
	void *version = *state;
	int ret = world_setup(state);

	*state = version;
	for (size_t i = 0; i < sizeof(big); i++)
		big[i] = (uint8_t)(i * 7 + i / 251);
	return ret;
}

static void say(bool v4, uint16_t sport, uint16_t dport, const void *data, size_t len)
{
	static uint8_t bytes[FRAME_MAX];
	struct ip_addr gateway = world_gateway(v4);

	world_run(bytes, world_udp(bytes, &gateway, sport, dport, data, len));
}

/* Says one word to a server, and returns where the answer must go. */
static struct sockaddr_storage open_with(bool v4, int server, uint16_t port)
{
	struct sockaddr_storage sa = { 0 };
	socklen_t len = sizeof(sa);
	char word[16];

	say(v4, GUEST_PORT, port, "word", 4);
	assert_int_equal(recvfrom(server, word, sizeof(word), 0, (struct sockaddr *)&sa, &len), 4);
	assert_memory_equal(word, "word", 4);
	return sa;
}

static void reply(int server, const struct sockaddr_storage *to, const void *data, size_t len)
{
	assert_int_equal(sendto(server, data, len, 0, (const struct sockaddr *)to,
				to->ss_family == AF_INET ? sizeof(struct sockaddr_in)
							 : sizeof(struct sockaddr_in6)),
			 (ssize_t)len);
}

static void a_datagram_and_its_answer_pass(void **state)
{
	bool v4 = ((const struct version *)*state)->v4;
	uint16_t port;
	int server = world_server(v4, &port);
	struct sockaddr_storage from = open_with(v4, server, port);
	size_t off;

	reply(server, &from, "answer", 6);
	world_expect(1);
	off = world_check(&world.frames[0], IPPROTO_UDP);
	assert_int_equal(load_be16(world.frames[0].bytes + off), port);
	assert_int_equal(load_be16(world.frames[0].bytes + off + 2), GUEST_PORT);
	assert_memory_equal(world.frames[0].bytes + off + 8, "answer", 6);
	close(server);
}

static void an_empty_datagram_passes_both_ways(void **state)
{
	bool v4 = ((const struct version *)*state)->v4;
	uint16_t port;
	int server = world_server(v4, &port);
	struct sockaddr_storage from = open_with(v4, server, port);
	char byte;

	say(v4, GUEST_PORT, port, "", 0);
	assert_int_equal(recv(server, &byte, 1, 0), 0);
	reply(server, &from, "", 0);
	world_expect(1);
	assert_int_equal(world.frames[0].len, v4 ? 42 : 62);
	world_check(&world.frames[0], IPPROTO_UDP);
	close(server);
}

static void a_stranger_is_not_heard(void **state)
{
	bool v4 = ((const struct version *)*state)->v4;
	uint16_t port, other;
	int server = world_server(v4, &port), stranger = world_server(v4, &other);
	struct sockaddr_storage from = open_with(v4, server, port);

	reply(stranger, &from, "let me in", 9);
	world_wait();
	assert_int_equal(world.n, 0);
	assert_int_equal(world_drops(DROP_UDP_FILTER), 1);
	close(server);
	close(stranger);
}

static void a_closed_port_is_told_to_the_guest(void **state)
{
	bool v4 = ((const struct version *)*state)->v4;
	const uint8_t *bytes;
	uint16_t port;
	size_t off;

	close(world_server(v4, &port));
	say(v4, GUEST_PORT, port, "anyone?", 7);
	world_expect(1);
	off = world_check(&world.frames[0], v4 ? IPPROTO_ICMP : IPPROTO_ICMPV6);
	bytes = world.frames[0].bytes + off;
	assert_int_equal(bytes[0], v4 ? 3 : 1);
	assert_int_equal(bytes[1], v4 ? 3 : 4);
	bytes += 8 + (v4 ? 20 : 40); /* the quoted UDP header */
	assert_int_equal(load_be16(bytes), GUEST_PORT);
	assert_int_equal(load_be16(bytes + 2), port);
}

static void a_run_keeps_order_and_borders(void **state)
{
	enum { N = 200 };
	static uint8_t bytes[N][128];
	static struct frame frames[N];
	bool v4 = ((const struct version *)*state)->v4;
	struct ip_addr gateway = world_gateway(v4);
	struct batch batch = { 0 };
	uint16_t port;
	int server = world_server(v4, &port), size = 1 << 20;
	uint8_t got[64];

	setsockopt(server, SOL_SOCKET, SO_RCVBUF, &size, sizeof(size));
	for (unsigned int i = 0; i < N; i++) {
		size_t len = i % 50 == 49 ? 10 : 32;

		world_add(&batch, &frames[i], bytes[i],
			  world_udp(bytes[i], &gateway, GUEST_PORT, port, big + i, len));
	}
	role_is_shard();
	shard_run_batch(world.shard, &batch);
	for (unsigned int i = 0; i < N; i++) {
		ssize_t len = i % 50 == 49 ? 10 : 32;

		assert_int_equal(recv(server, got, sizeof(got), MSG_DONTWAIT), len);
		assert_memory_equal(got, big + i, (size_t)len);
	}
	close(server);
}

static void a_run_of_the_guests_is_cut(void **state)
{
	static uint8_t bytes[FRAME_MAX], got[1024];
	bool v4 = ((const struct version *)*state)->v4;
	struct ip_addr gateway = world_gateway(v4);
	struct batch batch = { 0 };
	struct frame frame;
	uint16_t port;
	int server = world_server(v4, &port);

	world_add(&batch, &frame, bytes, world_udp(bytes, &gateway, GUEST_PORT, port, big, 2500));
	frame.offload.gso_size = 1000;
	frame.offload.gso_type = VIRTIO_NET_HDR_GSO_UDP_L4;
	role_is_shard();
	shard_run_batch(world.shard, &batch);
	assert_int_equal(recv(server, got, sizeof(got), MSG_DONTWAIT), 1000);
	assert_int_equal(recv(server, got, sizeof(got), MSG_DONTWAIT), 1000);
	assert_int_equal(recv(server, got, sizeof(got), MSG_DONTWAIT), 500);
	assert_memory_equal(got, big + 2000, 500);
	close(server);
}

static void a_long_datagram_comes_in_fragments(void **state)
{
	bool v4 = ((const struct version *)*state)->v4;
	uint16_t port;
	int server = world_server(v4, &port);
	struct sockaddr_storage from = open_with(v4, server, port);
	size_t have = 0;

	reply(server, &from, big, sizeof(big));
	while (have < sizeof(big) + 8) {
		if (!world.n)
			world_wait();
		have = 0;
		for (unsigned int i = 0; i < world.n; i++) {
			assert_true(world.frames[i].len <= 1514);
			have += world.frames[i].len - (v4 ? 34 : 62);
		}
	}
	assert_int_equal(have, sizeof(big) + 8);
	assert_memory_equal(world.frames[0].bytes + (v4 ? 42 : 70), big, 1400);
	close(server);
}

static void nothing_is_lost_when_the_guest_is_slow(void **state)
{
	bool v4 = ((const struct version *)*state)->v4;
	uint16_t port;
	int server = world_server(v4, &port);
	struct sockaddr_storage from = open_with(v4, server, port);

	world.room = 0;
	for (unsigned int i = 0; i < 40; i++)
		reply(server, &from, big + i, 100);
	world_wait();
	assert_int_equal(world.n, 0);
	for (unsigned int i = 0; i < 40; i++) {
		struct list *node;

		world.room = 1;
		dgram_resume(world.shard);
		while (world.room && (node = list_take(&world.shard->waiting))) {
			struct flow *flow = LIST_ENTRY(node, struct flow, touched);

			if (!dgram_run(world.shard, flow) && list_is_empty(&flow->touched))
				list_append(&world.shard->waiting, &flow->touched);
		}
		assert_int_equal(world.n, i + 1);
		assert_memory_equal(world.frames[i].bytes + (v4 ? 42 : 62), big + i, 100);
	}
	close(server);
}

static void the_checksum_is_left_to_a_guest_that_takes_that(void **state)
{
	bool v4 = ((const struct version *)*state)->v4;
	uint16_t port;
	int server = world_server(v4, &port);
	struct sockaddr_storage from = open_with(v4, server, port);

	world.caps = TX_CSUM;
	reply(server, &from, "answer", 6);
	world_expect(1);
	assert_int_equal(world.frames[0].offload.csum_start, v4 ? 34 : 54);
	assert_int_equal(world.frames[0].offload.csum_offset, 6);
	close(server);
}

static void a_run_goes_whole_to_a_guest_that_cuts(void **state)
{
	bool v4 = ((const struct version *)*state)->v4;
	int segment = 1000, server;
	struct sockaddr_storage from;
	uint16_t port;

	server = world_server(v4, &port);
	from = open_with(v4, server, port);
	world.caps = TX_CSUM | TX_USO;
	setsockopt(server, IPPROTO_UDP, 103, &segment, sizeof(segment)); /* UDP_SEGMENT */
	reply(server, &from, big, 4500);
	world_expect(1);
	assert_int_equal(world.frames[0].offload.gso_type, VIRTIO_NET_HDR_GSO_UDP_L4);
	assert_int_equal(world.frames[0].offload.gso_size, 1000);
	assert_int_equal(world.frames[0].len, (v4 ? 42 : 62) + 4500);
	close(server);
}

/* As one that the kernel had joined; a shorter one is the last of its run. */
static void datagrams_that_are_alike_go_as_a_run(void **state)
{
	static const size_t lens[] = { 1000, 1000, 1000, 400, 1000, 0, 1200 };
	static const struct {
		size_t len;
		uint16_t gso_size;
	} expected[] = { { 3400, 1000 }, { 1000, 0 }, { 0, 0 }, { 1200, 0 } };
	bool v4 = ((const struct version *)*state)->v4;
	size_t headers = v4 ? 42 : 62, at = 0;
	struct sockaddr_storage from;
	uint16_t port;
	int server = world_server(v4, &port);

	from = open_with(v4, server, port);
	world.caps = TX_CSUM | TX_USO;
	for (size_t i = 0; i < sizeof(lens) / sizeof(lens[0]); i++) {
		reply(server, &from, big + at, lens[i]);
		at += lens[i];
	}
	world_expect(sizeof(expected) / sizeof(expected[0]));
	at = 0;
	for (size_t i = 0; i < world.n; i++) {
		assert_int_equal(world.frames[i].len, headers + expected[i].len);
		assert_int_equal(world.frames[i].offload.gso_size, expected[i].gso_size);
		assert_memory_equal(world.frames[i].bytes + headers, big + at, expected[i].len);
		at += expected[i].len;
	}
	close(server);
}

/* Neither what another peer says nor what is marked otherwise joins a run. */
static void datagrams_that_differ_go_by_themselves(void **state)
{
	bool v4 = ((const struct version *)*state)->v4;
	int tos = 0x20, server, other;
	struct sockaddr_storage from;
	uint16_t port, second;

	server = world_server(v4, &port);
	other = world_server(v4, &second);
	from = open_with(v4, server, port);
	open_with(v4, other, second);
	world.caps = TX_CSUM | TX_USO;
	reply(server, &from, big, 100);
	reply(other, &from, big, 100);
	reply(server, &from, big, 100);
	setsockopt(server, v4 ? IPPROTO_IP : IPPROTO_IPV6, v4 ? IP_TOS : IPV6_TCLASS, &tos,
		   sizeof(tos));
	reply(server, &from, big, 100);
	world_expect(4);
	for (unsigned int i = 0; i < 4; i++)
		assert_int_equal(world.frames[i].offload.gso_size, 0);
	close(server);
	close(other);
}

static void a_silent_flow_ends(void **state)
{
	bool v4 = ((const struct version *)*state)->v4;
	uint16_t port;
	int server = world_server(v4, &port);
	struct flow *flow;

	open_with(v4, server, port);
	flow = LIST_ENTRY(world.shard->owned.next, struct flow, owned);
	world.shard->now_us += DGRAM_ONE_WAY_US - 1;
	dgram_timer(world.shard, flow);
	assert_false(flow->closed);
	world.shard->now_us += 1;
	dgram_timer(world.shard, flow);
	assert_true(flow->closed);
	assert_true(list_is_empty(&world.shard->owned));
	close(server);
}

static void an_answered_flow_lives_longer(void **state)
{
	bool v4 = ((const struct version *)*state)->v4;
	uint16_t port;
	int server = world_server(v4, &port);
	struct sockaddr_storage from = open_with(v4, server, port);
	struct flow *flow = LIST_ENTRY(world.shard->owned.next, struct flow, owned);

	reply(server, &from, "answer", 6);
	world_expect(1);
	world.shard->now_us += DGRAM_ANSWERED_US - 1;
	dgram_timer(world.shard, flow);
	assert_false(flow->closed);
	world.shard->now_us += 1;
	dgram_timer(world.shard, flow);
	assert_true(flow->closed);
	close(server);
}

static void too_many_peers_drop_the_oldest(void **state)
{
	bool v4 = ((const struct version *)*state)->v4;
	struct endpoint e = { .addr = world_gateway(v4), .port = 1 };
	struct flow *flow;

	say(v4, GUEST_PORT, 1, "x", 1);
	flow = LIST_ENTRY(world.shard->owned.next, struct flow, owned);
	for (unsigned int i = 2; i <= PEERS_PER_FLOW + 1; i++) {
		e.port = (uint16_t)i;
		peer_add(world.shard, flow, &e, &e);
	}
	assert_int_equal(flow->dgram.n_peers, PEERS_PER_FLOW);
	assert_non_null(peer_by_view(world.shard, flow, &e));
	e.port = 1;
	assert_null(peer_by_view(world.shard, flow, &e));
}

/* Forwarded ports. */

static struct udp_listener *forward(uint16_t *port, uint16_t target)
{
	struct port_map map = { .first = 1, .last = 65535 };
	struct udp_listener *listener = NULL;

	close(world_server(true, port));
	map.first = map.last = *port;
	map.target = target;
	assert_int_equal(udp_listen(&world.rt, &map, *port, &listener), 0);
	return listener;
}

static struct sockaddr_storage loopback_of(bool v4, uint16_t port)
{
	struct endpoint e = { v4 ? ip4_addr_of("\x7f\0\0\1") : ip6_addr_of(&in6addr_loopback),
			      port };
	struct sockaddr_storage sa = { 0 };

	sockaddr_of(&e, 0, &sa);
	return sa;
}

static void a_forwarded_port_is_answered_from_the_port(void **state)
{
	bool v4 = ((const struct version *)*state)->v4;
	uint16_t port, client_port;
	struct udp_listener *listener = forward(&port, 5353);
	int client = world_server(v4, &client_port);
	struct sockaddr_storage to = loopback_of(v4, port), from = { 0 };
	socklen_t len = sizeof(from);
	struct endpoint e;
	size_t off;
	char got[16];

	reply(client, &to, "query", 5);
	world_expect(1);
	off = world_check(&world.frames[0], IPPROTO_UDP);
	assert_int_equal(load_be16(world.frames[0].bytes + off), client_port);
	assert_int_equal(load_be16(world.frames[0].bytes + off + 2), 5353);
	say(v4, 5353, client_port, "reply", 5);
	assert_int_equal(recvfrom(client, got, sizeof(got), 0, (struct sockaddr *)&from, &len), 5);
	assert_true(endpoint_of(&from, &e));
	assert_int_equal(e.port, port);
	udp_unlisten(&world.rt, listener);
	close(client);
}

static void a_port_in_use_is_refused(void **state)
{
	struct port_map map = { 0 };
	struct udp_listener *listener, *second = NULL;
	uint16_t port;

	(void)state;
	listener = forward(&port, 53);
	map.first = map.last = port;
	map.target = 54;
	assert_int_equal(udp_listen(&world.rt, &map, port, &second), -EADDRINUSE);
	udp_unlisten(&world.rt, listener);
}

static void a_closed_listener_frees_its_port(void **state)
{
	struct udp_listener *listener;
	uint16_t port;

	(void)state;
	listener = forward(&port, 53);
	assert_non_null(udp_port_find(&world.rt, 53));
	udp_unlisten(&world.rt, listener);
	assert_null(udp_port_find(&world.rt, 53));
}

/* The guest used the port before it was forwarded: its flow gives way. */
static void a_port_that_the_guest_holds_can_be_forwarded(void **state)
{
	bool v4 = ((const struct version *)*state)->v4;
	struct port_map map = { .first = GUEST_PORT, .last = GUEST_PORT, .target = GUEST_PORT };
	struct udp_listener *listener;
	uint16_t port;
	int server = world_server(v4, &port);

	open_with(v4, server, port);
	assert_int_equal(udp_listen(&world.rt, &map, GUEST_PORT, &listener), 0);
	open_with(v4, server, port);
	udp_unlisten(&world.rt, listener);
	close(server);
}

#define BOTH(f)                                                                                    \
	{ #f " (IPv4)", f, setup, world_teardown, (void *)(uintptr_t)&versions[0] },               \
	{                                                                                          \
#f " (IPv6)", f, setup, world_teardown, (void *)(uintptr_t)&versions[1]            \
	}

int main(void)
{
	const struct CMUnitTest tests[] = {
		BOTH(a_datagram_and_its_answer_pass),
		BOTH(an_empty_datagram_passes_both_ways),
		BOTH(a_stranger_is_not_heard),
		BOTH(a_closed_port_is_told_to_the_guest),
		BOTH(a_run_keeps_order_and_borders),
		BOTH(a_run_of_the_guests_is_cut),
		BOTH(a_long_datagram_comes_in_fragments),
		BOTH(nothing_is_lost_when_the_guest_is_slow),
		BOTH(the_checksum_is_left_to_a_guest_that_takes_that),
		BOTH(a_run_goes_whole_to_a_guest_that_cuts),
		BOTH(datagrams_that_are_alike_go_as_a_run),
		BOTH(datagrams_that_differ_go_by_themselves),
		BOTH(a_silent_flow_ends),
		BOTH(an_answered_flow_lives_longer),
		BOTH(too_many_peers_drop_the_oldest),
		BOTH(a_forwarded_port_is_answered_from_the_port),
		BOTH(a_port_that_the_guest_holds_can_be_forwarded),
		cmocka_unit_test_setup_teardown(a_port_in_use_is_refused, setup, world_teardown),
		cmocka_unit_test_setup_teardown(a_closed_listener_frees_its_port, setup,
						world_teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
