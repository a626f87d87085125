/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which ports are being listened on in a network namespace, for `auto`: by socket diagnosis
 * (sock_diag(7)), never by the text of /proc. The kernel filters to TCP listeners and unconnected
 * UDP sockets, of both IP versions.
 *
 * New listeners are told by nobody: port_scan_run() is to be called once a second. Closed sockets
 * are (SKNLGRP_INET_TCP_DESTROY and its like): port_scan_closed() says whether one was on a port of
 * interest, and then a scan is due at once, as another socket may still be there.
 *
 * The codec (port_set_*, diag_*) is pure. The rest is the control thread's; the sockets may have
 * been made on another thread, in another namespace, which is the one that they tell of.
 */
#pragma once

#include "taploom/thread.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct port_set {
	uint64_t bits[65536 / 64];
};

struct listening {
	struct port_set tcp;
	struct port_set udp;
};

static inline void port_set_add(struct port_set *set, uint16_t port)
{
	set->bits[port / 64] |= UINT64_C(1) << (port % 64);
}

static inline void port_set_remove(struct port_set *set, uint16_t port)
{
	set->bits[port / 64] &= ~(UINT64_C(1) << (port % 64));
}

static inline bool port_set_has(const struct port_set *set, uint16_t port)
{
	return (set->bits[port / 64] >> (port % 64)) & 1;
}

/* Takes out of a set all ports of another: our own listeners, excluded ports. */
void port_set_subtract(struct port_set *set, const struct port_set *other);

/* The first port of a set from a number on, or -1; from may be 65536. */
int port_set_next(const struct port_set *set, unsigned int from);

/* The first port from a number on that is in one set and not in the other, or -1; from may be
 * 65536. */
int port_set_next_change(const struct port_set *before, const struct port_set *now,
			 unsigned int from);

#define DIAG_REQUEST_LEN 72 /* struct nlmsghdr and struct inet_diag_req_v2 */

/*
 * Writes a request for a dump of the sockets of one IP version that are listening (TCP) or not
 * connected (UDP).
 *
 * request: DIAG_REQUEST_LEN bytes. family: AF_INET or AF_INET6; proto: IPPROTO_TCP or IPPROTO_UDP.
 */
void diag_request(uint8_t *request, uint32_t seq, uint8_t family, uint8_t proto);

enum diag_result {
	DIAG_MORE, /* the dump goes on in the next datagram */
	DIAG_DONE,
	DIAG_INTERRUPTED, /* done, but the tables changed meanwhile: ask again */
	DIAG_ABSENT,	  /* the kernel has no diagnosis of such sockets */
	DIAG_ERROR,	  /* refused, broken off, or not understood */
};

/*
 * Adds the local ports of a dump's datagram to a set.
 *
 * bytes, len: whole netlink messages; any bytes at all. Messages of another seq are passed over.
 */
enum diag_result diag_parse(const uint8_t *bytes, size_t len, uint32_t seq, struct port_set *ports);

/* Whether a datagram of destroy events tells of a socket without a peer, on a port of a set. proto
 * IPPROTO_*. */
bool diag_event_matters(const uint8_t *bytes, size_t len, const struct port_set *tcp,
			const struct port_set *udp);

struct port_scan;

/*
 * Makes the netlink sockets in the calling thread's namespace: by ns_thread_call() in the guest's.
 * events_fd may be NULL where destroy events are not wanted. 0 or -errno.
 */
struct port_scan_sockets {
	int dump_fd;
	int events_fd; /* -1: the kernel has no destroy events */
};
int port_scan_open(struct port_scan_sockets *sockets, bool with_events);

/* Makes a scan of these sockets, which are its own from now on. NULL: no memory. */
struct port_scan *port_scan_new(const struct port_scan_sockets *sockets);
void port_scan_free(struct port_scan *scan);

/* Fills in what is listened on now: four dumps. On an error *out is as it was. 0 or -errno. */
int port_scan_run(struct port_scan *scan, struct listening *out) ON_CONTROL;

/* To wait for: readable when port_scan_closed() is to be called; -1 without events. */
int port_scan_events_fd(const struct port_scan *scan);

/* Takes pending events; whether a scan is due because a listener in *known may have closed. Never
 * blocks. */
bool port_scan_closed(struct port_scan *scan, const struct listening *known) ON_CONTROL;
