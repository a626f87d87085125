/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Spliced connections: between the host's loopback and the namespace's, bytes go from socket to
 * socket, without frames. One flow entry has both descriptors; it is in no table, as no frame
 * ever belongs to it.
 *
 * What a socket has is read through chunks of the shard's pool while it is little, and through a
 * pipe by splice() once reads are long. A way holds a pipe or chunks only while they contain
 * bytes: the other socket is full. Then nothing more is read, and the sender's window closes.
 *
 * Descriptors are edge-triggered: what epoll tells is remembered until a call says EAGAIN.
 */
#pragma once

#include "list.h"
#include "pollee.h"

#include "taploom/addr.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct flow;
struct shard;
struct ticket;

enum splice_end { SPLICE_ACCEPTED, SPLICE_OPENED, SPLICE_ENDS };

/* One of the two sockets. */
struct splice_side {
	struct pollee pollee;
	int fd;			 /* owned; -1: none */
	bool readable, writable; /* nothing said otherwise since the last event */
	bool urgent;		 /* an urgent byte may be ahead: no splice() can pass it */
	bool hangup; /* a FIN or a reset is in the queue: only a read of 0 or an error is the end */
	bool opened; /* connected */
	bool broken; /* writing failed: what it still has to read goes on, then all ends */
	uint8_t end; /* its own index */
};

/* From the side of the same index to the other one. */
struct splice_way {
	int pipe[2];	    /* owned while in_pipe > 0 */
	uint32_t in_pipe;   /* bytes */
	struct list chunks; /* owned; not empty only while in_pipe is 0 */
	uint8_t stage;	    /* how much is read at a time */
	bool ended;	    /* the sender's FIN was read */
	bool done;	    /* and passed on */
};

struct splice {
	struct splice_side side[SPLICE_ENDS];
	struct splice_way way[SPLICE_ENDS];
	struct endpoint dst; /* to be connected with */
	bool outward;	     /* dst is on the host, not in the namespace */
	bool heavy;	     /* counts in shard->splices_heavy */
	uint32_t runs;
};

int splicer_init(struct shard *shard);
/* Closes what is left. No shard runs any more. */
void splicer_free(struct shard *shard);

/*
 * Whether what came from a loopback source goes socket to socket, and where.
 *
 * outward: it came to a listener in the namespace. Returns false if it takes the way of frames.
 */
bool splice_wanted(const struct shard *shard, const struct ip_addr *src, uint16_t target,
		   bool outward, struct endpoint *dst);

/* Begins a connection from one that was accepted, which is the flow's from now on; or resets it. */
void splice_accept(struct shard *shard, int fd, const struct endpoint *dst, bool outward,
		   const struct ticket *ticket);
/* Its turn has come: connects the other one. */
void splice_begin(struct shard *shard, struct flow *flow);

/* Something was reported for one of the two sockets. */
void splice_event(struct shard *shard, struct splice_side *side, uint32_t events);

void splice_run(struct shard *shard, struct flow *flow);
/* It came from another shard. */
void splice_adopt(struct shard *shard, struct flow *flow);
/* Ends both connections with a reset. */
void splice_abort(struct shard *shard, struct flow *flow);
/* The namespace is gone, or we end. What was said to the end is in a socket, which is left to
 * deliver it; all else is cut off by a reset. */
void splice_guest_gone(struct shard *shard, struct flow *flow);

/* Its wait for a buffer is over. */
void splice_timer(struct shard *shard, struct flow *flow);

/* Once a turn, before its events: sockets that were waited for, entries to be used again. */
void splice_turn(struct shard *shard);
/* Whether splice_turn() has something to do that no event tells of. */
bool splice_has_work(const struct shard *shard);

/* splice_way.c */

/*
 * Moves what is there, within limits. 1: there may be more to do, 0: an event will tell, -ENOBUFS:
 * there is neither a chunk nor a pipe now, another -errno: the socket that is read is broken, and
 * all that came before is passed on. A receiver that is broken is noted in its side.
 */
int splice_way_run(struct shard *shard, struct splice_way *way, struct splice_side *from,
		   struct splice_side *to);
void splice_way_init(struct splice_way *way);
/* Lets go of what is held. */
void splice_way_drop(struct shard *shard, struct splice_way *way);

static inline bool splice_way_is_empty(const struct splice_way *way)
{
	return !way->in_pipe && list_is_empty(&way->chunks);
}
