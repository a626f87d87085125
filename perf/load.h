/* SPDX-License-Identifier: Apache-2.0 */
/*
 * taploom-load: the load generator of perf/compare. One process listens, one connects; either may
 * send. Each prints one JSON object with what it saw, and the receiver's word counts.
 *
 * One thread a process, so that the daemon under test and the load share two cores in a known way.
 */
#pragma once

#include "load_common.h"

#include <netinet/in.h>

struct load_options {
	struct load_traffic traffic;
	bool listen;
	bool gro;		  /* udp: let the kernel join what is received */
	struct sockaddr_in6 addr; /* to connect to; listeners take any address */
	const char *bins_path;	  /* bulk: bytes of each 10 ms go here; NULL for nowhere */
};

/* What one of the three kinds of load does; returns the exit status. */
int load_bulk(const struct load_options *options);
int load_udp(const struct load_options *options);
int load_trans(const struct load_options *options);
/* Opens n_flows connections and holds them, idle, for the time given. */
int load_hold(const struct load_options *options);

/* A non-blocking listening TCP socket on the port of the options, for both IP versions. */
int load_listen(const struct load_options *options);
/* A TCP socket that connects (non-blocking: EINPROGRESS is no failure). */
int load_connect(const struct load_options *options);
/* Adds a descriptor to an epoll instance, with a number that comes back in data.u32. */
void load_watch(int epoll_fd, int fd, uint32_t events, uint32_t number);
