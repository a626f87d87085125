/* SPDX-License-Identifier: Apache-2.0 */
#include "port_scan.h"

#include "taploom/log.h"

#include <errno.h>
#include <linux/filter.h>
#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <netinet/in.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#define DUMP_SIZE   32768 /* what the kernel puts into a dump's datagram at most */
#define DUMP_TRIES  3	  /* of a dump that says that the tables changed meanwhile */
#define SOCKET_TYPE (SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK)

struct port_scan {
	struct port_scan_sockets sockets;
	uint32_t seq;
	bool told[2]; /* that TCP's and UDP's tables are not there */
	uint8_t room[DUMP_SIZE];
};

static const int destroy_groups[] = {
	SKNLGRP_INET_TCP_DESTROY,
	SKNLGRP_INET_UDP_DESTROY,
	SKNLGRP_INET6_TCP_DESTROY,
	SKNLGRP_INET6_UDP_DESTROY,
};

/* Each connection that ends makes an event too: the kernel drops those, so that they do not wake
 * us. */
static int filter_connections(int fd)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_H | BPF_ABS,
			 sizeof(struct nlmsghdr) + offsetof(struct inet_diag_msg, id.idiag_dport)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 0, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, UINT32_MAX),
		BPF_STMT(BPF_RET | BPF_K, 0),
	};
	struct sock_fprog program = { sizeof(code) / sizeof(code[0]), code };

	return setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof(program));
}

/* Bound first: a socket without an address of its own is taken for the kernel's and gets no events.
 */
static int join_groups(int fd)
{
	struct sockaddr_nl any = { .nl_family = AF_NETLINK };

	if (bind(fd, (struct sockaddr *)&any, sizeof(any)) < 0)
		return -1;
	for (size_t i = 0; i < sizeof(destroy_groups) / sizeof(destroy_groups[0]); i++)
		if (setsockopt(fd, SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, &destroy_groups[i],
			       sizeof(destroy_groups[i])) < 0)
			return -1;
	return 0;
}

/* A descriptor, or -1: the scans go on once a second all the same. */
static int events_open(void)
{
	int fd = socket(AF_NETLINK, SOCKET_TYPE, NETLINK_SOCK_DIAG);

	if (fd >= 0 && (filter_connections(fd) < 0 || join_groups(fd) < 0)) {
		close(fd);
		return -1;
	}
	return fd;
}

int port_scan_open(struct port_scan_sockets *sockets, bool with_events)
{
	sockets->events_fd = -1;
	sockets->dump_fd = socket(AF_NETLINK, SOCKET_TYPE, NETLINK_SOCK_DIAG);
	if (sockets->dump_fd < 0)
		return -errno;
	if (with_events)
		sockets->events_fd = events_open();
	return 0;
}

struct port_scan *port_scan_new(const struct port_scan_sockets *sockets)
{
	struct port_scan *scan = calloc(1, sizeof(*scan));

	if (scan)
		scan->sockets = *sockets;
	return scan;
}

void port_scan_free(struct port_scan *scan)
{
	if (!scan)
		return;
	close(scan->sockets.dump_fd);
	if (scan->sockets.events_fd >= 0)
		close(scan->sockets.events_fd);
	free(scan);
}

/* The kernel answers within the calls: a dump's next part is ready when this one was taken. */
static enum diag_result dump_once(struct port_scan *scan, uint8_t family, uint8_t proto,
				  struct port_set *ports)
{
	uint8_t request[DIAG_REQUEST_LEN];
	enum diag_result result = DIAG_MORE;

	diag_request(request, ++scan->seq, family, proto);
	if (send(scan->sockets.dump_fd, request, sizeof(request), 0) < 0)
		return DIAG_ERROR;
	while (result == DIAG_MORE) {
		ssize_t len = recv(scan->sockets.dump_fd, scan->room, sizeof(scan->room), 0);

		if (len < 0 && errno == EINTR)
			continue;
		if (len < 0)
			return DIAG_ERROR;
		result = diag_parse(scan->room, (size_t)len, scan->seq, ports);
	}
	return result;
}

/* A kernel without IPv6 is no news; one without the module of a protocol is. */
static void tell_absent(struct port_scan *scan, uint8_t family, uint8_t proto)
{
	bool *told = &scan->told[proto == IPPROTO_UDP];

	if (family == AF_INET && !*told)
		log_warning("the kernel does not tell which %s ports are listened on (it lacks "
			    "%s_diag): auto forwards none of them",
			    proto == IPPROTO_UDP ? "UDP" : "TCP",
			    proto == IPPROTO_UDP ? "udp" : "tcp");
	*told = true;
}

static int dump(struct port_scan *scan, uint8_t family, uint8_t proto, struct port_set *ports)
{
	enum diag_result result = DIAG_INTERRUPTED;

	for (int i = 0; i < DUMP_TRIES && result == DIAG_INTERRUPTED; i++)
		result = dump_once(scan, family, proto, ports);
	if (result == DIAG_ABSENT)
		tell_absent(scan, family, proto);
	/* a table that never rests is taken as it was seen */
	return result == DIAG_ERROR ? -EIO : 0;
}

int port_scan_run(struct port_scan *scan, struct listening *out)
{
	static const uint8_t families[] = { AF_INET, AF_INET6 };
	struct listening now = { 0 };

	for (size_t i = 0; i < sizeof(families) / sizeof(families[0]); i++) {
		int error = dump(scan, families[i], IPPROTO_TCP, &now.tcp);

		error = error ? error : dump(scan, families[i], IPPROTO_UDP, &now.udp);
		if (error < 0)
			return error;
	}
	*out = now;
	return 0;
}

int port_scan_events_fd(const struct port_scan *scan)
{
	return scan->sockets.events_fd;
}

bool port_scan_closed(struct port_scan *scan, const struct listening *known)
{
	bool matters = false;

	for (;;) {
		ssize_t len = recv(scan->sockets.events_fd, scan->room, sizeof(scan->room), 0);

		if (len < 0 && errno == ENOBUFS) { /* events were lost */
			matters = true;
			continue;
		}
		if (len < 0)
			return matters;
		matters |= diag_event_matters(scan->room, (size_t)len, &known->tcp, &known->udp);
	}
}
