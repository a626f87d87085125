/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Spliced datagrams: between the host's loopback and the namespace's, datagrams go from socket to
 * socket, without frames. A flow is a client's address and port at a listener; it has a connected
 * socket to the service, and answers through the listener. All of a listener's flows are in the
 * listener's shard, and are found by the table under the listener's serial number.
 *
 * What came joined (UDP_GRO) goes joined (UDP_SEGMENT); no datagram's border is lost.
 */
#pragma once

#include "list.h"

#include "taploom/addr.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

struct flow;
struct shard;
struct udp_listener;

struct splice_udp {
	struct udp_listener *listener; /* the client wrote there */
	struct list link;	       /* in listener->splices */
	struct endpoint client;
	struct ip_addr local; /* what the client wrote to last; unset: the listener's own */
	unsigned int ifindex; /* for link-local clients */
	struct endpoint dst;  /* to be connected with */
	bool answered;	      /* something came back: the longer time-out holds */
	uint64_t last_us;
	struct list held; /* chunks of the one message that waits for a socket of the namespace */
	uint32_t held_segment;
};

struct splice_udp_area;

/* Maps the area that datagrams are received into. 0 or -errno. */
int splice_udp_init(struct splice_udp_area **area);
void splice_udp_free(struct splice_udp_area *area);

/*
 * Takes the messages that go socket to socket off the front of what came to a listener.
 *
 * headers, n: as recvmmsg() left them, with name and control data.
 * Returns how many it has taken; the next one, if there is one, is for the guest's interface.
 */
unsigned int splice_udp_take(struct shard *shard, struct udp_listener *listener,
			     struct mmsghdr *headers, unsigned int n);

/* A listener in the namespace is readable; level-triggered. */
void splice_udp_event(struct shard *shard, struct udp_listener *listener);

/* A flow's socket is readable. */
void splice_udp_run(struct shard *shard, struct flow *flow);
/* The namespace has a socket for it. */
void splice_udp_resume(struct shard *shard, struct flow *flow);
void splice_udp_timer(struct shard *shard, struct flow *flow);
void splice_udp_close(struct shard *shard, struct flow *flow);
