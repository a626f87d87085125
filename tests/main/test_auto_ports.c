/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Forwarding what is listened on, in a network namespace of the test's own; the other side is a
 * note of what was opened and closed. links: tap shard services
 */
#include "main/auto_ports.h"
#include "main/ports.h"

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
	struct auto_port last;
	int answer;
};

static int note_open(void *arg, const struct auto_port *port)
{
	struct fixture *f = arg;

	f->n_open++;
	f->last = *port;
	return f->answer;
}

static void note_close(void *arg, const struct auto_port *port)
{
	struct fixture *f = arg;

	f->n_closed++;
	f->last = *port;
}

static void rule(struct port_rules *rules, const char *spec)
{
	static const struct port_range ephemeral = { 32768, 60999 };
	char error[256];

	assert_true(ports_parse(rules, spec, ephemeral, error, sizeof(error)));
}

static int set_up_with(void **state, const char *tcp, const char *more, const char *udp)
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

	rule(&f->tcp, tcp);
	if (more)
		rule(&f->tcp, more);
	rule(&f->udp, udp);
	assert_int_equal(port_scan_open(&f->sockets, true), 0);
	direction.sockets = f->sockets;
	assert_int_equal(auto_ports_new(&f->ports, &direction), 0);
	*state = f;
	return 0;
}

static int set_up(void **state)
{
	return set_up_with(state, "auto", NULL, "auto");
}

static int set_up_tcp(void **state)
{
	return set_up_with(state, "auto", NULL, "none");
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
	assert_int_equal(f->last.port, PORT);
	assert_int_equal(f->last.proto, IPPROTO_TCP);
	assert_true(port_set_has(&auto_ports_forwarded(f->ports)->tcp, PORT));
	close(fd);
}

static void test_a_udp_socket_is_opened_as_udp(void **state)
{
	struct fixture *f = *state;
	int fd = listener(SOCK_DGRAM);

	role_is_control();
	auto_ports_look(f->ports);
	assert_int_equal(f->last.proto, IPPROTO_UDP);
	close(fd);
}

/* What the UDP side makes of a listener of TCP on PORT, by one or two specs of -t. */
static const struct udp_case {
	const char *name;
	const char *specs[2];
	const char *udp;
	uint16_t port; /* opened of UDP; 0: none */
} udp_cases[] = {
	{ "a TCP port that is forwarded opens that of UDP too", { "auto" }, "auto", PORT },
	{ "one that was given does so too", { "4711" }, "auto", PORT },
	{ "one that leads elsewhere does not", { "80:4711,auto" }, "auto", 0 },
	{ "one that was given with a target does not", { "4711:80" }, "auto", 0 },
	{ "one that is not forwarded does not", { "auto,~4711" }, "auto", 0 },
	{ "an exclusion of UDP holds", { "auto" }, "auto,~4711", 0 },
	{ "without UDP there is none", { "auto" }, "none", 0 },
};

static void run_udp_case(void **state)
{
	const struct udp_case *c = *state;
	struct fixture *f;
	int fd = listener(SOCK_STREAM);

	role_is_control();
	set_up_with(state, c->specs[0], c->specs[1], c->udp);
	f = *state;
	auto_ports_look(f->ports);
	assert_int_equal(port_set_has(&auto_ports_forwarded(f->ports)->udp, PORT), c->port != 0);
	assert_int_equal(f->last.proto == IPPROTO_UDP ? f->last.port : 0, c->port);
	close(fd);
	f->last.proto = 0;
	auto_ports_look(f->ports);
	assert_false(port_set_has(&auto_ports_forwarded(f->ports)->udp, PORT));
	assert_int_equal(f->last.proto == IPPROTO_UDP ? f->last.port : 0, c->port);
	tear_down(state);
}

static void test_our_own_udp_port_is_no_listener_of_tcp(void **state)
{
	struct fixture *f = *state;
	int fd = listener(SOCK_STREAM);

	role_is_control();
	port_set_add(&f->own.udp, PORT);
	auto_ports_set_own(f->ports, &f->own);
	auto_ports_look(f->ports);
	assert_int_equal(f->n_open, 1);
	assert_int_equal(f->last.proto, IPPROTO_TCP);
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
	assert_false(port_set_has(&auto_ports_forwarded(f->ports)->tcp, PORT));
}

/* What becomes of a listener on PORT with one or two specs of -t. */
static const struct spec_case {
	const char *name;
	const char *specs[2];
	unsigned int n_open;
	uint16_t port; /* of the last one opened */
	unsigned int place;
} spec_cases[] = {
	{ "an excluded port stays closed", { "auto,~4711" }, 0, 0, 0 },
	{ "a port of a list is opened", { "4700-4720,auto" }, 1, PORT, 0 },
	{ "a port outside a list stays closed", { "4700,auto" }, 0, 0, 0 },
	{ "a target opens the port that leads to it", { "80:4711,auto" }, 1, 80, 0 },
	{ "a port that leads elsewhere stays closed", { "4711:80,auto" }, 0, 0, 0 },
	{ "a port given by itself is left to that", { "auto", "4711" }, 0, 0, 0 },
	{ "a port given for another address is opened",
	  { "::1/auto", "127.0.0.1/4711" },
	  1,
	  PORT,
	  0 },
	{ "two addresses open it in two places", { "127.0.0.1/auto", "::1/auto" }, 2, PORT, 1 },
	{ "a protocol that is not automatic is left alone", { "4711" }, 0, 0, 0 },
};

static void run_spec_case(void **state)
{
	const struct spec_case *c = *state;
	struct fixture *f;
	int fd = listener(SOCK_STREAM);

	role_is_control();
	set_up_with(state, c->specs[0], c->specs[1], "none");
	f = *state;
	auto_ports_look(f->ports);
	assert_int_equal(f->n_open, c->n_open);
	assert_int_equal(f->last.port, c->port);
	assert_int_equal(f->last.target, c->n_open ? PORT : 0);
	assert_int_equal(f->last.place, c->place);
	close(fd);
	auto_ports_look(f->ports);
	assert_int_equal(f->n_closed, c->n_open);
	tear_down(state);
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

static void test_a_refused_port_is_tried_again_at_the_next_look(void **state)
{
	struct fixture *f = *state;
	int fd = listener(SOCK_STREAM);

	role_is_control();
	f->answer = -EADDRINUSE;
	auto_ports_look(f->ports);
	assert_int_equal(f->n_open, 1);
	f->answer = 0;
	auto_ports_look(f->ports);
	auto_ports_look(f->ports);
	assert_int_equal(f->n_open, 2);
	close(fd);
}

#define TEST(f)	    cmocka_unit_test_setup_teardown(f, set_up, tear_down)
#define TEST_TCP(f) cmocka_unit_test_setup_teardown(f, set_up_tcp, tear_down)

#define N_SPECS (sizeof(spec_cases) / sizeof(spec_cases[0]))
#define N_UDP	(sizeof(udp_cases) / sizeof(udp_cases[0]))

static const struct CMUnitTest plain_tests[] = {
	TEST_TCP(test_a_listener_is_opened_on_the_other_side_once),
	TEST(test_a_udp_socket_is_opened_as_udp),
	TEST(test_our_own_udp_port_is_no_listener_of_tcp),
	TEST_TCP(test_a_closed_listener_is_closed_by_its_event),
	TEST(test_our_own_listener_is_not_forwarded_back),
	TEST_TCP(test_a_refused_port_is_tried_again_at_the_next_look),
};

int main(void)
{
	struct CMUnitTest specs[N_SPECS], udp[N_UDP];
	int failed;

	for (size_t i = 0; i < N_SPECS; i++)
		specs[i] = (struct CMUnitTest){ .name = spec_cases[i].name,
						.test_func = run_spec_case,
						.initial_state = (void *)&spec_cases[i] };
	for (size_t i = 0; i < N_UDP; i++)
		udp[i] = (struct CMUnitTest){ .name = udp_cases[i].name,
					      .test_func = run_udp_case,
					      .initial_state = (void *)&udp_cases[i] };
	if ((unshare(CLONE_NEWNET) < 0 && unshare(CLONE_NEWUSER | CLONE_NEWNET) < 0) ||
	    system("ip link set lo up") != 0) {
		puts("skipped: no network namespace can be made here");
		return 0;
	}
	failed = cmocka_run_group_tests(plain_tests, NULL, NULL);
	failed += cmocka_run_group_tests_name("specs", specs, NULL, NULL);
	return failed + cmocka_run_group_tests_name("udp", udp, NULL, NULL);
}
