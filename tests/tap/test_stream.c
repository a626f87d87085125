/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The stream transport with its thread: guests that come and go, and what the reader does for them.
 */
#include "stream_fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <sys/un.h>

#include <cmocka.h>

static uint8_t wire[1 << 17];
static struct sockaddr_un path; /* an abstract name, chosen by the kernel */
static socklen_t path_len;

static void start(int listen_fd, int given_fd)
{
	struct transport *transport;

	assert_int_equal(stream_transport_new(&transport, &rt, listen_fd, given_fd, NULL), 0);
	stream = (struct stream *)(void *)transport; /* its first member */
	assert_int_equal(transport->ops->start(transport), 0);
}

static int give_guest(unsigned int busy_poll_us)
{
	int pair[2];

	make_shards();
	config.busy_poll_us = busy_poll_us;
	if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair))
		return -1;
	guest_fd = pair[1];
	start(-1, pair[0]);
	return 0;
}

static int set_up_polling(void **state)
{
	(void)state;
	return give_guest(50);
}

static int set_up_given(void **state)
{
	(void)state;
	return give_guest(0);
}

static int set_up_listening(void **state)
{
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	(void)state;
	make_shards();
	path = (struct sockaddr_un){ .sun_family = AF_UNIX };
	path_len = sizeof(path);
	/* An address of the family alone has the kernel choose a free name. */
	if (bind(fd, (struct sockaddr *)&path, sizeof(sa_family_t)) ||
	    getsockname(fd, (struct sockaddr *)&path, &path_len) || listen(fd, 8))
		return -1;
	start(fd, -1);
	return 0;
}

static int connect_guest(void)
{
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	assert_int_equal(connect(fd, (struct sockaddr *)&path, path_len), 0);
	return fd;
}

static void send_frame(int fd, uint16_t port)
{
	size_t len = make_wire(wire, port, 100);

	assert_int_equal(send(fd, wire, len, 0), (ssize_t)len);
}

static void wait_for(sem_t *sem)
{
	while (sem_wait(sem))
		;
}

/* Waits until the transport has closed its end. */
static void wait_for_close(int fd)
{
	uint8_t byte;

	while (recv(fd, &byte, 1, 0) > 0)
		;
}

static void a_guest_given_as_a_descriptor_is_connected_at_once(void **state)
{
	(void)state;
	wait_for(&control.connected);
	send_frame(guest_fd, 5);
	wait_for(&rt.shards[0]->awake);
	stream->transport.ops->stop(&stream->transport);
	assert_int_equal(rt.shards[0]->records[0].port, 5);
}

static void when_a_guest_goes_its_flows_are_reset(void **state)
{
	(void)state;
	send_frame(guest_fd, 5);
	wait_for(&rt.shards[0]->awake);
	close(guest_fd);
	guest_fd = -1;
	wait_for(&control.gone);
	assert_int_equal(control.resets, 1);
	assert_true(atomic_load(&rt.guest_mac) == 0);
}

static void a_guest_that_stops_sending_is_gone(void **state)
{
	(void)state;
	shutdown(guest_fd, SHUT_WR);
	wait_for(&control.gone);
	wait_for_close(guest_fd);
}

static void a_guest_that_connects_is_served(void **state)
{
	(void)state;
	guest_fd = connect_guest();
	wait_for(&control.connected);
	send_frame(guest_fd, 6);
	wait_for(&rt.shards[0]->awake);
}

static void a_second_guest_is_refused_and_the_first_goes_on(void **state)
{
	int second;

	(void)state;
	guest_fd = connect_guest();
	wait_for(&control.connected);
	second = connect_guest();
	wait_for_close(second);
	close(second);
	send_frame(guest_fd, 6);
	wait_for(&rt.shards[0]->awake);
}

static void the_next_guest_is_served_after_a_disconnect(void **state)
{
	(void)state;
	for (int i = 0; i < 20; i++) {
		guest_fd = connect_guest();
		wait_for(&control.connected);
		send_frame(guest_fd, 6);
		wait_for(&rt.shards[0]->awake);
		close(guest_fd);
		guest_fd = -1;
		wait_for(&control.gone);
	}
	assert_int_equal(control.resets, 20);
}

static void a_length_that_lies_ends_the_connection_only(void **state)
{
	static const uint8_t lie[STREAM_PREFIX] = { 0xff, 0xff, 0xff, 0xff };
	int liar;

	(void)state;
	liar = connect_guest();
	wait_for(&control.connected);
	assert_int_equal(send(liar, lie, sizeof(lie), 0), sizeof(lie));
	wait_for_close(liar);
	close(liar);
	wait_for(&control.gone);
	guest_fd = connect_guest();
	wait_for(&control.connected);
	send_frame(guest_fd, 6);
	wait_for(&rt.shards[0]->awake);
}

static void bytes_of_a_cut_frame_are_not_the_next_guests(void **state)
{
	size_t len = make_wire(wire, 1, 100);
	int first = connect_guest();

	(void)state;
	wait_for(&control.connected);
	assert_int_equal(send(first, wire, len - 10, 0), (ssize_t)(len - 10));
	close(first);
	wait_for(&control.gone);
	guest_fd = connect_guest();
	wait_for(&control.connected);
	send_frame(guest_fd, 2);
	wait_for(&rt.shards[0]->awake);
	stream->transport.ops->stop(&stream->transport);
	assert_int_equal(rt.shards[0]->n_records, 1);
	assert_int_equal(rt.shards[0]->records[0].port, 2);
}

static void a_thread_that_found_no_guest_is_woken_when_one_comes(void **state)
{
	struct tx *tx = stream->transport.ops->tx(&stream->transport, 1);

	(void)state;
	assert_null(tx_frame_begin(tx, 0, 100));
	guest_fd = connect_guest();
	wait_for(&rt.shards[1]->tx_room);
	assert_non_null(tx_frame_begin(tx, 0, 100));
}

static void a_thread_that_waits_for_room_is_woken_when_the_guest_goes(void **state)
{
	struct tx *tx = stream->transport.ops->tx(&stream->transport, 1);
	const struct tx_offload plain = { 0 };

	(void)state;
	guest_fd = connect_guest();
	wait_for(&control.connected);
	wait_for(&rt.shards[1]->tx_room); /* the guest is room, too */
	do {
		while (tx_frame_begin(tx, 0, 10000))
			tx_frame_commit(tx, 10000, &plain);
	} while (tx_flush(tx));
	close(guest_fd);
	guest_fd = -1;
	wait_for(&rt.shards[1]->tx_room);
	assert_true(tx_flush(tx));
}

static void a_thread_that_waits_for_room_is_woken_when_the_guest_reads(void **state)
{
	struct tx *tx = stream->transport.ops->tx(&stream->transport, 1);
	const struct tx_offload plain = { 0 };
	size_t n = 0, got = 0;

	(void)state;
	guest_fd = connect_guest();
	wait_for(&control.connected);
	wait_for(&rt.shards[1]->tx_room); /* the guest is room, too */
	do {
		while (tx_frame_begin(tx, 0, 10000)) {
			tx_frame_commit(tx, 10000, &plain);
			n += 10004;
		}
	} while (tx_flush(tx));
	for (bool flushed = false; got < n;) {
		got += (size_t)recv(guest_fd, wire, sizeof(wire), 0);
		if (!flushed && sem_trywait(&rt.shards[1]->tx_room) == 0)
			flushed = tx_flush(tx);
	}
	assert_int_equal(got, n);
}

/* Far more frames than slabs: the reader must wait for the shard, which takes batch by batch. */
static void a_reader_without_slabs_goes_on_when_one_is_given_back(void **state)
{
	struct shard *shard = rt.shards[0];
	const unsigned int n = 100;
	unsigned int i;

	(void)state;
	role_is_shard();
	config.inline_off = true;
	guest_fd = connect_guest();
	wait_for(&control.connected);
	for (i = 0; i < n; i++)
		send_frame(guest_fd, (uint16_t)i);
	while (shard->n_records < n) {
		wait_for(&shard->awake);
		shard_drain_ring(shard, 0);
	}
	for (i = 0; i < n; i++)
		assert_int_equal(shard->records[i].port, i);
}

static void a_reader_that_polls_serves_a_guest(void **state)
{
	(void)state;
	for (uint16_t i = 0; i < 50; i++) {
		send_frame(guest_fd, i);
		wait_for(&rt.shards[0]->awake);
	}
}

#define GIVEN_TEST(f)  cmocka_unit_test_setup_teardown(f, set_up_given, tear_down)
#define LISTEN_TEST(f) cmocka_unit_test_setup_teardown(f, set_up_listening, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		GIVEN_TEST(a_guest_given_as_a_descriptor_is_connected_at_once),
		GIVEN_TEST(when_a_guest_goes_its_flows_are_reset),
		GIVEN_TEST(a_guest_that_stops_sending_is_gone),
		LISTEN_TEST(a_guest_that_connects_is_served),
		LISTEN_TEST(a_second_guest_is_refused_and_the_first_goes_on),
		LISTEN_TEST(the_next_guest_is_served_after_a_disconnect),
		LISTEN_TEST(a_length_that_lies_ends_the_connection_only),
		LISTEN_TEST(bytes_of_a_cut_frame_are_not_the_next_guests),
		LISTEN_TEST(a_thread_that_found_no_guest_is_woken_when_one_comes),
		LISTEN_TEST(a_thread_that_waits_for_room_is_woken_when_the_guest_goes),
		LISTEN_TEST(a_thread_that_waits_for_room_is_woken_when_the_guest_reads),
		LISTEN_TEST(a_reader_without_slabs_goes_on_when_one_is_given_back),
		cmocka_unit_test_setup_teardown(a_reader_that_polls_serves_a_guest, set_up_polling,
						tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
