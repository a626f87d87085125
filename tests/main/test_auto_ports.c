/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Forwarding what is listened on, in a network namespace of the test's own; the other side is a
 * note of what was opened and closed. links: tap shard services
 */
#include "main/auto_ports.h"

#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#define PORT 4711

struct fixture {
	struct port_rules tcp, udp;
	struct port_scan_sockets sockets;
	struct auto_ports *ports;
	struct listening own;
	unsigned int n_open, n_closed;
	uint16_t last_port;
	uint8_t last_proto;
	int answer;
};

static int note_open(void *arg, uint8_t proto, uint16_t port)
{
	struct fixture *f = arg;

	f->n_open++;
	f->last_port = port;
	f->last_proto = proto;
	return f->answer;
}

static void note_close(void *arg, uint8_t proto, uint16_t port)
{
	struct fixture *f = arg;

	f->n_closed++;
	f->last_port = port;
	f->last_proto = proto;
}

static int set_up(void **state)
{
	struct fixture *f = test_calloc(1, sizeof(*f));
	struct auto_direction direction = {
		.tcp = &f->tcp,
		.udp = &f->udp,
		.open = note_open,
		.close = note_close,
		.arg = f,
		.where = "here",
	};

	f->tcp.mode = f->udp.mode = PORTS_AUTO;
	assert_int_equal(port_scan_open(&f->sockets, true), 0);
	direction.sockets = f->sockets;
	assert_int_equal(auto_ports_new(&f->ports, &direction), 0);
	*state = f;
	return 0;
}

static int tear_down(void **state)
{
	struct fixture *f = *state;

	auto_ports_free(f->ports);
	test_free(f);
	return 0;
}

static int listener(int type)
{
	struct sockaddr_in at = { .sin_family = AF_INET, .sin_port = htons(PORT) };
	int fd = socket(AF_INET, type | SOCK_CLOEXEC, 0);

	assert_int_equal(bind(fd, (struct sockaddr *)&at, sizeof(at)), 0);
	if (type == SOCK_STREAM)
		assert_int_equal(listen(fd, 1), 0);
	return fd;
}

static void test_a_listener_is_opened_on_the_other_side_once(void **state)
{
	struct fixture *f = *state;
	int fd = listener(SOCK_STREAM);

	role_is_control();
	auto_ports_look(f->ports);
	auto_ports_look(f->ports);
	assert_int_equal(f->n_open, 1);
	assert_int_equal(f->last_port, PORT);
	assert_int_equal(f->last_proto, IPPROTO_TCP);
	assert_true(port_set_has(&auto_ports_open(f->ports)->tcp, PORT));
	close(fd);
}

static void test_a_udp_socket_is_opened_as_udp(void **state)
{
	struct fixture *f = *state;
	int fd = listener(SOCK_DGRAM);

	role_is_control();
	auto_ports_look(f->ports);
	assert_int_equal(f->last_proto, IPPROTO_UDP);
	close(fd);
}

static void test_a_closed_listener_is_closed_by_its_event(void **state)
{
	struct fixture *f = *state;
	struct pollfd pfd = { .fd = f->sockets.events_fd, .events = POLLIN };
	int fd = listener(SOCK_STREAM);

	role_is_control();
	auto_ports_look(f->ports);
	close(fd);
	assert_int_equal(poll(&pfd, 1, -1), 1);
	auto_ports_events(f->ports);
	assert_int_equal(f->n_closed, 1);
	assert_false(port_set_has(&auto_ports_open(f->ports)->tcp, PORT));
}

static void test_an_excluded_port_stays_closed(void **state)
{
	struct fixture *f = *state;
	int fd = listener(SOCK_STREAM);

	role_is_control();
	f->tcp.excluded[PORT / 8] = (uint8_t)(1u << (PORT % 8));
	auto_ports_look(f->ports);
	assert_int_equal(f->n_open, 0);
	close(fd);
}

static void test_our_own_listener_is_not_forwarded_back(void **state)
{
	struct fixture *f = *state;
	int fd = listener(SOCK_STREAM);

	role_is_control();
	port_set_add(&f->own.tcp, PORT);
	auto_ports_set_own(f->ports, &f->own);
	auto_ports_look(f->ports);
	assert_int_equal(f->n_open, 0);
	close(fd);
}

static void test_a_protocol_that_is_not_automatic_is_left_alone(void **state)
{
	struct fixture *f = *state;
	int fd = listener(SOCK_STREAM);

	role_is_control();
	f->tcp.mode = PORTS_LIST;
	auto_ports_look(f->ports);
	assert_int_equal(f->n_open, 0);
	close(fd);
}

static void test_a_refused_port_is_tried_again_at_the_next_look(void **state)
{
	struct fixture *f = *state;
	int fd = listener(SOCK_STREAM);

	role_is_control();
	f->answer = -EADDRINUSE;
	auto_ports_look(f->ports);
	assert_false(port_set_has(&auto_ports_open(f->ports)->tcp, PORT));
	f->answer = 0;
	auto_ports_look(f->ports);
	assert_int_equal(f->n_open, 2);
	assert_true(port_set_has(&auto_ports_open(f->ports)->tcp, PORT));
	close(fd);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_a_listener_is_opened_on_the_other_side_once),
		TEST(test_a_udp_socket_is_opened_as_udp),
		TEST(test_a_closed_listener_is_closed_by_its_event),
		TEST(test_an_excluded_port_stays_closed),
		TEST(test_our_own_listener_is_not_forwarded_back),
		TEST(test_a_protocol_that_is_not_automatic_is_left_alone),
		TEST(test_a_refused_port_is_tried_again_at_the_next_look),
	};

	if ((unshare(CLONE_NEWNET) < 0 && unshare(CLONE_NEWUSER | CLONE_NEWNET) < 0) ||
	    system("ip link set lo up") != 0) {
		puts("skipped: no network namespace can be made here");
		return 0;
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
