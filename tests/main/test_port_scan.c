/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Scans of a network namespace of the test's own. Skipped where namespaces are not permitted.
 */
#include "main/port_scan.h"

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

static struct port_scan *scan_new(void)
{
	struct port_scan_sockets sockets;
	struct port_scan *scan;

	assert_int_equal(port_scan_open(&sockets, true), 0);
	scan = port_scan_new(&sockets);
	assert_non_null(scan);
	return scan;
}

static int bound(int family, int type)
{
	struct sockaddr_in6 in6 = { .sin6_family = AF_INET6, .sin6_port = htons(PORT) };
	struct sockaddr_in in4 = { .sin_family = AF_INET, .sin_port = htons(PORT) };
	int fd = socket(family, type | SOCK_CLOEXEC, 0);
	int one = 1;

	assert_true(fd >= 0);
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	assert_int_equal(family == AF_INET ? bind(fd, (struct sockaddr *)&in4, sizeof(in4))
					   : bind(fd, (struct sockaddr *)&in6, sizeof(in6)),
			 0);
	if (type == SOCK_STREAM)
		assert_int_equal(listen(fd, 1), 0);
	return fd;
}

static struct scan_case {
	const char *name;
	int family, type;
} cases[] = {
	{ "a TCP listener on IPv4 is found", AF_INET, SOCK_STREAM },
	{ "a TCP listener on IPv6 is found", AF_INET6, SOCK_STREAM },
	{ "a UDP socket on IPv4 is found", AF_INET, SOCK_DGRAM },
	{ "a UDP socket on IPv6 is found", AF_INET6, SOCK_DGRAM },
};

static void test_found(void **state)
{
	const struct scan_case *c = *state;
	struct port_scan *scan = scan_new();
	struct listening now;
	int fd = bound(c->family, c->type);

	role_is_control();
	assert_int_equal(port_scan_run(scan, &now), 0);
	assert_true(port_set_has(c->type == SOCK_STREAM ? &now.tcp : &now.udp, PORT));
	assert_false(port_set_has(c->type == SOCK_STREAM ? &now.udp : &now.tcp, PORT));
	close(fd);
	assert_int_equal(port_scan_run(scan, &now), 0);
	assert_false(port_set_has(c->type == SOCK_STREAM ? &now.tcp : &now.udp, PORT));
	port_scan_free(scan);
}

static void test_closed(void **state)
{
	const struct scan_case *c = *state;
	struct port_scan *scan = scan_new();
	struct listening now;
	int fd = bound(c->family, c->type);
	struct pollfd pfd = { .fd = port_scan_events_fd(scan), .events = POLLIN };

	role_is_control();
	assert_int_equal(port_scan_run(scan, &now), 0);
	assert_false(port_scan_closed(scan, &now));
	close(fd);
	assert_int_equal(poll(&pfd, 1, -1), 1);
	assert_true(port_scan_closed(scan, &now));
	port_scan_free(scan);
}

static void test_a_connected_udp_socket_is_not_listening(void **state)
{
	struct port_scan *scan = scan_new();
	struct listening now;
	struct sockaddr_in to = { .sin_family = AF_INET,
				  .sin_port = htons(9),
				  .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	int fd = bound(AF_INET, SOCK_DGRAM);

	(void)state;
	role_is_control();
	assert_int_equal(connect(fd, (struct sockaddr *)&to, sizeof(to)), 0);
	assert_int_equal(port_scan_run(scan, &now), 0);
	assert_false(port_set_has(&now.udp, PORT));
	close(fd);
	port_scan_free(scan);
}

#define ROW(n, f)                                                                                  \
	{                                                                                          \
		cases[n].name, f, NULL, NULL, &cases[n]                                            \
	}
#define CLOSED(n)                                                                                  \
	{                                                                                          \
		"and when it closes, an event tells", test_closed, NULL, NULL, &cases[n]           \
	}

int main(void)
{
	const struct CMUnitTest tests[] = {
		ROW(0, test_found),
		CLOSED(0),
		ROW(1, test_found),
		CLOSED(1),
		ROW(2, test_found),
		CLOSED(2),
		ROW(3, test_found),
		CLOSED(3),
		cmocka_unit_test(test_a_connected_udp_socket_is_not_listening),
	};

	if ((unshare(CLONE_NEWNET) < 0 && unshare(CLONE_NEWUSER | CLONE_NEWNET) < 0) ||
	    system("ip link set lo up") != 0) {
		puts("skipped: no network namespace can be made here");
		return 0;
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
