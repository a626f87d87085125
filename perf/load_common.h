/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What taploom-load and taploom-vuload have in common: the options that say what traffic there is,
 * clock, and end.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define LOAD_FLOWS_MAX 4096
#define NS_PER_S       1000000000LL

struct load_traffic {
	uint16_t port;
	bool send, recv; /* bulk, udp: which way; both is full duplex */
	bool reconnect;	 /* trans: a new connection for each request */
	bool verify;	 /* compare every byte, not just some */
	unsigned int n_flows;
	double seconds, omit; /* measured time, and what is left out before it */
	double rate;	      /* bytes or datagrams a second over all flows; 0 for no limit */
	size_t size;	      /* udp: payload of a datagram; trans: request */
	size_t response_size;
};

/* Of all but the size, which is the kind's. */
#define LOAD_TRAFFIC_DEFAULTS .n_flows = 1, .seconds = 5, .omit = 0.5, .response_size = 1

/* Its options for getopt(), and what they mean. */
#define LOAD_TRAFFIC_LETTERS "p:srn:t:o:R:S:A:xV"
#define LOAD_TRAFFIC_USAGE                                                                         \
	"  -p PORT       port\n"                                                                   \
	"  -s, -r        send, receive (bulk and udp); both for full duplex (bulk)\n"              \
	"  -n N          flows, default 1\n"                                                       \
	"  -t SECONDS    time measured, default 5\n"                                               \
	"  -o SECONDS    time left out before it, default 0.5\n"                                   \
	"  -R RATE       limit of the sender: bytes (bulk) or datagrams (udp) a second\n"          \
	"  -S BYTES      datagram's payload (udp, default 1400), request (trans, default 1)\n"     \
	"  -A BYTES      response (trans, default 1)\n"                                            \
	"  -x            a new connection for each request (trans)\n"                              \
	"  -V            compare every byte received (bulk), not some of each piece\n"

/* Takes an option, if it is one of them. */
bool load_traffic_take(struct load_traffic *traffic, int letter, const char *value);
/* Whether it can be done. */
bool load_traffic_ok(const struct load_traffic *traffic);

/* The monotonic clock in nanoseconds. */
int64_t load_now_ns(void);
/* Ends the process with status 1 after one line that names what failed, with errno's text. */
_Noreturn void load_die(const char *what);
