/* SPDX-License-Identifier: Apache-2.0 */
/*
 * taploom-load: the load generator of perf/compare. One process listens, one connects; either may
 * send. Each prints one JSON object with what it saw, and the receiver's word counts.
 *
 * One thread a process, so that the daemon under test and the load share two cores in a known way.
 */
#pragma once
#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define LOAD_FLOWS_MAX 4096
#define NS_PER_S       1000000000LL

struct load_options {
	bool listen;
	bool send, recv;	  /* bulk, udp: which way; both is full duplex */
	bool reconnect;		  /* trans: a new connection for each request */
	bool verify;		  /* bulk: compare every byte, not just some */
	bool gro;		  /* udp: let the kernel join what is received */
	struct sockaddr_in6 addr; /* to connect to; listeners take any address */
	unsigned int n_flows;
	double seconds, omit; /* measured time, and what is left out before it */
	double rate;	      /* bytes or datagrams a second over all flows; 0 for no limit */
	size_t size;	      /* udp: payload of a datagram; trans: request */
	size_t response_size;
	const char *bins_path; /* bulk: bytes of each 10 ms go here; NULL for nowhere */
};

/* What one of the three kinds of load does; returns the exit status. */
int load_bulk(const struct load_options *options);
int load_udp(const struct load_options *options);
int load_trans(const struct load_options *options);
/* Opens n_flows connections and holds them, idle, for the time given. */
int load_hold(const struct load_options *options);

/* The monotonic clock in nanoseconds. */
int64_t load_now_ns(void);
/* Ends the process with status 1 after one line that names what failed, with errno's text. */
_Noreturn void load_die(const char *what);
/* A non-blocking listening TCP socket on the port of the options, for both IP versions. */
int load_listen(const struct load_options *options);
/* A TCP socket that connects (non-blocking: EINPROGRESS is no failure). */
int load_connect(const struct load_options *options);
/* Adds a descriptor to an epoll instance, with a number that comes back in data.u32. */
void load_watch(int epoll_fd, int fd, uint32_t events, uint32_t number);
