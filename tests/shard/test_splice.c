/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Spliced connections: real sockets on loopback, one shard without its thread, and a namespace that
 * is this one.
 * links: tap
 */
#include "dgram_world.h"
#include "splice_internal.h"

#include "taploom/ns_sockets.h"

#include <dirent.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <poll.h>

static struct splice_world {
	struct ns_sockets ns;
	bool empty; /* the namespace has no socket now */
	int server; /* in the namespace */
	int fds;
	struct listener *listener;
	struct sockaddr_in port; /* the forwarded one */
} sw;

static int fake_take(void *arg, unsigned int shard, enum ns_socket kind)
{
	(void)arg;
	(void)shard;
	if (sw.empty)
		return -EAGAIN;
	return socket(kind == NS_TCP4 ? AF_INET : AF_INET6,
		      SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
}

static int count_fds(void)
{
	DIR *dir = opendir("/proc/self/fd");
	int n = 0;

	assert_non_null(dir);
	while (readdir(dir))
		n++;
	closedir(dir);
	return n;
}

static int listen_somewhere(struct sockaddr_in *sa)
{
	int fd = shards_ns_socket(IPPROTO_TCP, IP4, 0);
	socklen_t len = sizeof(*sa);

	assert_true(fd >= 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)sa, &len), 0);
	return fd;
}

static int splice_setup(void **state)
{
	struct sockaddr_in target;
	int fd;

	if (world_setup(state))
		return -1;
	memset(&sw, 0, sizeof(sw));
	sw.ns.take = fake_take;
	world.rt.ns_sockets = &sw.ns;
	world.config.host_lo_to_ns_lo = true;
	sw.server = listen_somewhere(&target);
	fd = listen_somewhere(&sw.port);
	role_is_control();
	assert_int_equal(
		shards_listen_ns(&world.rt, IPPROTO_TCP, fd, ntohs(target.sin_port), &sw.listener),
		0);
	sw.fds = count_fds();
	return 0;
}

static int splice_teardown(void **state)
{
	struct list *node;

	role_is_control();
	shards_unlisten(&world.rt, sw.listener);
	while ((node = list_take(&world.shard->owned)))
		splice_abort(world.shard, LIST_ENTRY(node, struct flow, owned));
	close(sw.server);
	shards_free_listeners(&world.rt);
	return world_teardown(state);
}

static bool is_busy(void)
{
	return !list_is_empty(&world.shard->again);
}

/* One turn of the shard, which waits so long for an event; returns the number of events. */
static int turn_for(int wait_ms)
{
	struct epoll_event ev[64];
	struct list *node;
	int n = epoll_wait(world.shard->epoll_fd, ev, 64, is_busy() ? 0 : wait_ms);

	splice_turn(world.shard);
	list_splice(&world.shard->touched, &world.shard->again);
	for (int i = 0; i < n; i++) {
		struct pollee *pollee = ev[i].data.ptr;

		if (pollee->kind == POLL_LISTENER)
			listener_accept(world.shard, (struct listener *)(void *)pollee);
		else if (pollee->kind == POLL_SPLICE)
			splice_event(world.shard, (struct splice_side *)(void *)pollee,
				     ev[i].events);
	}
	while ((node = list_take(&world.shard->touched)))
		splice_run(world.shard, LIST_ENTRY(node, struct flow, touched));
	return n;
}

static int turn(void)
{
	return turn_for(20);
}

/* Until nothing is left to be done. The number of turns. */
static unsigned int settle(void)
{
	unsigned int n = 0;

	while (turn() > 0 || is_busy())
		n++;
	return n;
}

struct pair {
	int client, server;
};

static struct pair join(void)
{
	struct pair p = { .client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0) };
	struct pollfd waiting = { .fd = sw.server, .events = POLLIN };

	assert_int_equal(connect(p.client, (struct sockaddr *)&sw.port, sizeof(sw.port)), 0);
	while (poll(&waiting, 1, 0) == 0)
		turn();
	p.server = accept4(sw.server, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	assert_true(p.server >= 0);
	fcntl(p.client, F_SETFL, O_NONBLOCK);
	return p;
}

static void close_both(struct pair p)
{
	close(p.client);
	close(p.server);
}

static void part(struct pair p)
{
	close_both(p);
	settle();
	splice_turn(world.shard);
}

static void expect_text(int fd, const char *text)
{
	char got[64] = "";

	assert_int_equal(recv(fd, got, sizeof(got), 0), strlen(text));
	assert_string_equal(got, text);
}

static void bytes_go_both_ways(void **state)
{
	struct pair p = join();

	(void)state;
	assert_int_equal(send(p.client, "ask", 3, 0), 3);
	settle();
	expect_text(p.server, "ask");
	assert_int_equal(send(p.server, "answer", 6, 0), 6);
	settle();
	expect_text(p.client, "answer");
	part(p);
}

static void half_close_leaves_the_other_way_open(void **state)
{
	struct pair p = join();
	char byte;

	(void)state;
	assert_int_equal(send(p.client, "last", 4, 0), 4);
	shutdown(p.client, SHUT_WR);
	settle();
	expect_text(p.server, "last");
	assert_int_equal(recv(p.server, &byte, 1, 0), 0);
	assert_int_equal(send(p.server, "more", 4, 0), 4);
	settle();
	expect_text(p.client, "more");
	part(p);
	assert_int_equal(world.shard->flows_in_use, 0);
}

static void a_reset_is_passed_on(void **state)
{
	struct pair p = join();
	struct linger linger = { 1, 0 };
	char byte;

	(void)state;
	setsockopt(p.client, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
	close(p.client);
	settle();
	assert_int_equal(recv(p.server, &byte, 1, 0), -1);
	assert_int_equal(errno, ECONNRESET);
	close(p.server);
	splice_turn(world.shard);
	assert_int_equal(world.shard->flows_in_use, 0);
}

/* Fills the connection while nobody reads. Bytes that it took. */
static size_t fill(int fd)
{
	static uint8_t bytes[1 << 16];
	size_t total = 0, idle = 0;

	while (idle < 3) {
		ssize_t n;

		for (size_t i = 0; i < sizeof(bytes); i++)
			bytes[i] = (uint8_t)((total + i) % 251);
		n = send(fd, bytes, sizeof(bytes), 0);
		idle = n > 0 ? 0 : idle + 1;
		total += n > 0 ? (size_t)n : 0;
		if (n > 0)
			turn_for(0);
		else
			settle();
	}
	return total;
}

/* The last socket closes, and the entry of its connection is free again. */
static void expect_nothing_left(int fd)
{
	close(fd);
	splice_turn(world.shard);
	assert_int_equal(world.shard->flows_in_use, 0);
}

/* The server answers and closes with bytes that it did not read: a reset behind the answer. */
static void answer_and_reset(struct pair p)
{
	char byte;

	assert_int_equal(recv(p.server, &byte, 1, 0), 1);
	assert_int_equal(send(p.server, "answer", 6, 0), 6);
	close(p.server);
}

static void expect_answer_and_reset(struct pair p)
{
	char byte;

	settle();
	expect_text(p.client, "answer");
	assert_int_equal(recv(p.client, &byte, 1, 0), -1);
	assert_int_equal(errno, ECONNRESET);
	expect_nothing_left(p.client);
	assert_int_equal(world.shard->pool.n_used, 0);
}

static void what_was_sent_before_a_reset_arrives(void **state)
{
	struct pair p = join();

	(void)state;
	assert_int_equal(send(p.client, "question", 8, 0), 8);
	settle();
	answer_and_reset(p);
	expect_answer_and_reset(p);
}

static void what_was_sent_before_a_reset_arrives_though_more_cannot_be_written(void **state)
{
	struct pair p = join();

	(void)state;
	assert_int_equal(send(p.client, "question", 8, 0), 8);
	settle();
	answer_and_reset(p);
	assert_int_equal(send(p.client, "more", 4, 0), 4); /* is read first, and has no receiver */
	expect_answer_and_reset(p);
}

static void what_follows_the_end_of_a_server_that_is_gone_is_refused(void **state)
{
	struct pair p = join();
	char byte;

	(void)state;
	close(p.server);
	settle();
	assert_int_equal(recv(p.client, &byte, 1, 0), 0);
	assert_int_equal(send(p.client, "more", 4, 0), 4);
	settle();
	assert_int_equal(send(p.client, "more", 4, MSG_NOSIGNAL), -1);
	assert_int_equal(errno, EPIPE);
	expect_nothing_left(p.client);
}

/* The reset that follows a FIN of one that left something unread. */
static void an_end_comes_before_the_reset_behind_it(void **state)
{
	struct pair p = join();
	char byte;

	(void)state;
	assert_int_equal(send(p.server, "greeting", 8, 0), 8);
	settle();
	assert_int_equal(send(p.client, "ask", 3, 0), 3);
	shutdown(p.client, SHUT_WR);
	close(p.client);
	settle();
	expect_text(p.server, "ask");
	assert_int_equal(recv(p.server, &byte, 1, 0), 0);
	assert_int_equal(send(p.server, "x", 1, MSG_NOSIGNAL), -1);
	assert_int_equal(errno, EPIPE);
	expect_nothing_left(p.server);
}

/* Nobody reads what fills the connection: it is not waited for. */
static void a_reset_ends_a_connection_whose_receiver_does_not_read(void **state)
{
	struct pair p = join();
	struct linger linger = { 1, 0 };

	(void)state;
	fill(p.server);
	setsockopt(p.server, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
	close(p.server);
	settle();
	send(p.client, "more", 4, 0);
	settle();
	expect_nothing_left(p.client);
}

static void a_refused_connection_is_reset(void **state)
{
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	char byte;

	(void)state;
	close(sw.server);
	assert_int_equal(connect(fd, (struct sockaddr *)&sw.port, sizeof(sw.port)), 0);
	settle();
	assert_int_equal(recv(fd, &byte, 1, 0), -1);
	assert_int_equal(errno, ECONNRESET);
	close(fd);
	sw.server = -1;
}

/* Until the shard or the reader has something to do. */
static void wait_for_either(int fd)
{
	struct pollfd either[] = {
		{ .fd = fd, .events = POLLIN },
		{ .fd = world.shard->epoll_fd, .events = POLLIN },
	};

	assert_true(poll(either, 2, is_busy() ? 0 : -1) >= 0);
}

static void drain(int fd, size_t total)
{
	static uint8_t bytes[1 << 16];
	size_t got = 0;

	while (got < total) {
		ssize_t n = recv(fd, bytes, sizeof(bytes), 0);

		if (n < 0) {
			assert_int_equal(errno, EAGAIN);
			wait_for_either(fd);
		}
		for (ssize_t i = 0; i < n; i++)
			assert_int_equal(bytes[i], (got + (size_t)i) % 251);
		got += n > 0 ? (size_t)n : 0;
		turn_for(0);
	}
}

static void a_slow_reader_stops_the_sender_and_gets_every_byte(void **state)
{
	struct pair p = join();
	size_t total = fill(p.client);

	(void)state;
	assert_true(total > 1 << 20);
	assert_int_equal(settle(), 0);
	drain(p.server, total);
	part(p);
}

static void without_a_pipe_every_byte_arrives(void **state)
{
	struct pair p = join();
	size_t total;

	(void)state;
	world.shard->splicer->next_pipe_us = UINT64_MAX;
	total = fill(p.client);
	assert_int_equal(world.shard->splicer->n_pipes_made, 0);
	drain(p.server, total);
	part(p);
	assert_int_equal(world.shard->pool.n_used, 0);
}

/* All of the pool is promised to windows: nothing may be held, and all goes on all the same. */
static void with_all_of_the_pool_promised_every_byte_arrives(void **state)
{
	struct pool *pool = &world.shard->pool;
	struct pair p;
	size_t total;
	char byte;

	(void)state;
	world.shard->splicer->next_pipe_us = UINT64_MAX;
	pool->reserved += (uint64_t)pool->n_chunks * POOL_DATA;
	p = join();
	assert_int_equal(send(p.client, "a", 1, 0), 1);
	settle();
	expect_text(p.server, "a");
	total = fill(p.client);
	assert_int_equal(pool->n_used, 0);
	drain(p.server, total);
	shutdown(p.client, SHUT_WR);
	settle();
	assert_int_equal(recv(p.server, &byte, 1, 0), 0);
	pool->reserved = 0;
	part(p);
}

static void urgent_bytes_neither_stop_a_connection_nor_cost_turns(void **state)
{
	struct pair p = join();
	unsigned int turns = 0;
	size_t got = 0;
	char bytes[256];
	const int on = 1;

	(void)state;
	setsockopt(p.server, SOL_SOCKET, SO_OOBINLINE, &on, sizeof(on));
	for (unsigned int i = 0; i < 25; i++) {
		assert_int_equal(send(p.client, "before", 6, 0), 6);
		assert_int_equal(send(p.client, "!", 1, MSG_OOB), 1);
		assert_int_equal(send(p.client, "behind", 6, 0), 6);
		turns += settle();
		for (ssize_t n; (n = recv(p.server, bytes, sizeof(bytes), 0)) > 0;)
			got += (size_t)n;
	}
	assert_int_equal(got, 25 * 13);
	assert_true(turns < 250);
	assert_int_equal(settle(), 0);
	part(p);
}

static void an_urgent_byte_stays_urgent(void **state)
{
	struct pair p = join();
	const int off = 0;
	char byte = 0;

	(void)state;
	setsockopt(p.server, SOL_SOCKET, SO_OOBINLINE, &off, sizeof(off));
	assert_int_equal(send(p.client, "!", 1, MSG_OOB), 1);
	settle();
	assert_int_equal(recv(p.server, &byte, 1, MSG_OOB), 1);
	assert_int_equal(byte, '!');
	part(p);
}

static void an_urgent_byte_behind_long_reads_arrives(void **state)
{
	struct pair p = join();
	size_t total = fill(p.client);
	const int on = 1;

	(void)state;
	setsockopt(p.server, SOL_SOCKET, SO_OOBINLINE, &on, sizeof(on));
	drain(p.server, total);
	total = fill(p.client);
	drain(p.server, total);
	assert_int_equal(send(p.client, "!", 1, MSG_OOB), 1);
	settle();
	expect_text(p.server, "!");
	part(p);
}

/* The events of both come after the pipe's last read, as if they had arrived during the turn. */
static void an_urgent_byte_before_the_end_is_not_taken_for_the_end(void **state)
{
	struct pair p = join();
	const int on = 1;
	struct flow *flow;
	struct splice *splice;
	enum splice_end from;

	(void)state;
	setsockopt(p.server, SOL_SOCKET, SO_OOBINLINE, &on, sizeof(on));
	drain(p.server, fill(p.client));
	settle();
	flow = LIST_ENTRY(world.shard->owned.next, struct flow, owned);
	splice = &flow->splice;
	from = SPLICE_ACCEPTED;
	assert_int_equal(send(p.client, "!", 1, MSG_OOB), 1);
	shutdown(p.client, SHUT_WR);
	splice->side[from].readable = true;
	splice->way[from].stage = STAGE_SPLICE;
	while (!splice->way[from].ended)
		assert_true(splice_way_run(world.shard, &splice->way[from], &splice->side[from],
					   &splice->side[!from]) >= 0);
	expect_text(p.server, "!");
	settle();
	part(p);
}

static void a_hundred_connections_leave_no_descriptor(void **state)
{
	struct pair p[100];

	(void)state;
	for (unsigned int i = 0; i < 100; i++) {
		p[i] = join();
		assert_int_equal(send(p[i].client, "ask", 3, 0), 3);
	}
	settle();
	for (unsigned int i = 0; i < 100; i++) {
		expect_text(p[i].server, "ask");
		close_both(p[i]);
	}
	settle();
	splice_turn(world.shard);
	assert_int_equal(count_fds(), sw.fds);
	assert_int_equal(world.shard->flows_in_use, 0);
}

static void only_loopback_sources_are_spliced(void **state)
{
	struct ip_addr lo = ip4_addr_of("\x7f\0\0\2"), far = ip4_addr_of("\xc6\x33\x64\1");
	struct endpoint dst;

	(void)state;
	assert_true(splice_wanted(world.shard, &lo, 80, false, &dst));
	assert_true(ip_is_loopback(&dst.addr) && dst.port == 80);
	assert_false(splice_wanted(world.shard, &far, 80, false, &dst));
	world.config.no_splice = true;
	assert_false(splice_wanted(world.shard, &lo, 80, false, &dst));
}

static void loopback_reaches_the_interface_by_default(void **state)
{
	struct ip_addr lo = ip4_addr_of("\x7f\0\0\1"), guest = ip4_addr_of(guest4);
	struct endpoint dst;

	(void)state;
	world.config.host_lo_to_ns_lo = false;
	assert_true(splice_wanted(world.shard, &lo, 80, false, &dst));
	assert_true(ip_eq(&dst.addr, &guest));
}

/* Accepts as a forwarded port of the host would. */
static int accept_outside(int client)
{
	struct sockaddr_in sa;
	int listening = listen_somewhere(&sa), fd;

	assert_int_equal(connect(client, (struct sockaddr *)&sa, sizeof(sa)), 0);
	fd = accept4(listening, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	assert_true(fd >= 0);
	close(listening);
	return fd;
}

static void a_connection_waits_for_a_socket_of_the_namespace(void **state)
{
	struct pair p = { .client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0) };
	struct endpoint dst = { .addr = ip4_addr_of("\x7f\0\0\1") };
	struct sockaddr_in sa;
	socklen_t len = sizeof(sa);

	(void)state;
	assert_int_equal(getsockname(sw.server, (struct sockaddr *)&sa, &len), 0);
	dst.port = ntohs(sa.sin_port);
	sw.empty = true;
	splice_accept(world.shard, accept_outside(p.client), &dst, false, &(struct ticket){ 0 });
	assert_int_equal(send(p.client, "early", 5, 0), 5);
	settle();
	assert_int_equal(accept(sw.server, NULL, NULL), -1);
	sw.empty = false;
	shard_ns_refilled(world.shard);
	assert_true(splice_has_work(world.shard));
	turn();
	settle();
	p.server = accept(sw.server, NULL, NULL);
	expect_text(p.server, "early");
	part(p);
	assert_int_equal(world.shard->flows_in_use, 0);
}

#define T(name) cmocka_unit_test_setup_teardown(name, splice_setup, splice_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(bytes_go_both_ways),
		T(half_close_leaves_the_other_way_open),
		T(a_reset_is_passed_on),
		T(what_was_sent_before_a_reset_arrives),
		T(what_was_sent_before_a_reset_arrives_though_more_cannot_be_written),
		T(what_follows_the_end_of_a_server_that_is_gone_is_refused),
		T(an_end_comes_before_the_reset_behind_it),
		T(a_reset_ends_a_connection_whose_receiver_does_not_read),
		T(a_refused_connection_is_reset),
		T(a_slow_reader_stops_the_sender_and_gets_every_byte),
		T(without_a_pipe_every_byte_arrives),
		T(with_all_of_the_pool_promised_every_byte_arrives),
		T(urgent_bytes_neither_stop_a_connection_nor_cost_turns),
		T(an_urgent_byte_stays_urgent),
		T(an_urgent_byte_behind_long_reads_arrives),
		T(an_urgent_byte_before_the_end_is_not_taken_for_the_end),
		T(a_hundred_connections_leave_no_descriptor),
		T(only_loopback_sources_are_spliced),
		T(loopback_reaches_the_interface_by_default),
		T(a_connection_waits_for_a_socket_of_the_namespace),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
