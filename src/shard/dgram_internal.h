/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the parts of UDP and echo translation share. A datagram of the guest comes to dgram.c, which
 * finds its flow; peer.c knows whom the flow wrote to and under which address; dgram_send.c gathers
 * datagrams for the sockets. What a socket has is received by dgram_recv.c, and made into frames by
 * dgram_out.c; dgram_error.c relays what the network said of our datagrams. udp.c and echo.c hold
 * what differs between the two protocols, listen_udp.c the forwarded ports.
 *
 * All of it is the shard's, unless marked.
 */
#pragma once

#include "dgram.h"
#include "l3.h"
#include "map.h"
#include "shard_internal.h"

#include "taploom/bytes.h"
#include "taploom/tx.h"

#include <netinet/in.h>
#include <sys/socket.h>

#ifndef VIRTIO_NET_HDR_GSO_UDP_L4 /* the headers of Linux 6.1 lack it */
#define VIRTIO_NET_HDR_GSO_UDP_L4 5
#endif

#define DGRAM_L4_HEADER 8  /* of UDP (RFC 768) and of an echo (RFC 792, RFC 4443 4.1) alike */
#define DGRAM_TTL	64 /* what a socket sends with when it is not told */

#define DGRAM_ONE_WAY_US  (30ull * 1000000) /* nothing came back yet */
#define DGRAM_ANSWERED_US (180ull * 1000000)
#define DGRAM_ECHO_US	  (30ull * 1000000)

#define PEERS_PER_FLOW 2048
#define PEERS_MIN      32768 /* per shard, and one for each of its flows */

/* Somebody that a flow speaks with. */
struct dgram_peer {
	struct list of_flow;		     /* in flow->dgram.peers */
	struct list age;		     /* in peers->age: of the shard */
	uint32_t next_by_view, next_by_host; /* in the chains of a bucket; index + 1, 0: the last */
	struct flow *flow;
	struct endpoint view;	  /* as the guest knows it */
	struct endpoint host;	  /* where the host's sockets reach it */
	struct udp_listener *via; /* it wrote to this forwarded port; NULL: the guest was first */
	uint64_t answering_until_us; /* it answers what went to a group: it is where it writes from
				      */
	struct ip_addr local; /* the address it wrote to, source of the answers; unset: the kernel's
				 choice */
	unsigned int scope;   /* the interface, for link-local addresses; 0: not known */
	uint64_t last_us;
};

/* Where and how one datagram goes out. Compared as bytes: made from a zeroed one. */
struct dgram_route {
	struct endpoint dst;
	struct ip_addr local;
	unsigned int scope; /* of a link-local destination */
	unsigned int oif;   /* 0: by the routing table */
	uint8_t tos;
	uint8_t ttl;
	bool dont_fragment;
};

/* What the control data of a received datagram says. */
struct dgram_meta {
	struct ip_addr local; /* unset: not known, or no unicast address */
	unsigned int ifindex;
	bool group;	  /* it was sent to a group or a broadcast address */
	uint32_t segment; /* size of each datagram of a run; 0: a single one */
	uint8_t tos;
	uint8_t ttl;
	const void *error; /* struct sock_extended_err and the offender's address, for the error
			      queue */
	size_t error_len;
};

/* A datagram for the guest; l4 is its header with a checksum that is still zero. */
struct dgram_packet {
	struct ip_addr src, dst; /* as the guest sees them */
	uint8_t proto;
	uint8_t tos, ttl;
	uint16_t queue;
	uint32_t mtu;	  /* longer ones go in fragments */
	uint16_t segment; /* a run to be cut by the guest's side; 0: a single datagram */
	uint32_t sent;	  /* fragments: bytes of header and payload that are on their way */
	uint32_t id;	  /* of its fragments */
	uint8_t l4[DGRAM_L4_HEADER];
	const uint8_t *payload;
	size_t len;		    /* of the payload, with what is joined */
	const struct iovec *joined; /* the rest of the payload of a run that lies in pieces */
	unsigned int n_joined;
};

struct peers;
struct outboxes;
struct dgram_inbox;
struct udp_port;

struct dgrams {
	struct peers *peers;
	struct outboxes *out;
	struct dgram_inbox *in;
	uint32_t fragment_id;
	struct list stalled; /* listeners that wait for room on the guest's side */
};

static inline struct dgrams *dgrams_of(const struct shard *shard)
{
	return shard->dgrams;
}

/* peer.c. */
int peers_init(struct shard *shard, struct dgrams *d);
void peers_free(struct dgrams *d);
struct dgram_peer *peer_by_view(struct shard *shard, struct flow *flow,
				const struct endpoint *view);
struct dgram_peer *peer_by_host(struct shard *shard, struct flow *flow,
				const struct endpoint *host);
/* A new peer of a flow; takes the place of the oldest where there are too many. */
struct dgram_peer *peer_add(struct shard *shard, struct flow *flow, const struct endpoint *view,
			    const struct endpoint *host);
/* It moved on the host's side: another resolver, say. */
void peer_set_host(struct shard *shard, struct dgram_peer *peer, const struct endpoint *host);
/* It was heard of just now. */
void peer_touch(struct shard *shard, struct dgram_peer *peer);
void peers_drop(struct shard *shard, struct flow *flow);
/* Drops a flow's peers not heard of since a time. */
void peers_expire(struct shard *shard, struct flow *flow, uint64_t since_us);

/* dgram.c. */

/* Opens a flow for a key that has none; its socket too, but with a listener. NULL: refused and
 * counted, or opened by another shard meanwhile (*there). */
struct flow *dgram_open(struct shard *shard, const struct flow_key *key, uint32_t hash,
			struct udp_port *port, struct flow **there);
void dgram_used(struct shard *shard, struct flow *flow);

/* udp.c, echo.c: the flow's own socket. The descriptor or -errno. */
int udp_socket(struct shard *shard, const struct flow_key *key);
int echo_socket(struct shard *shard, const struct flow_key *key);
/* Switches on what a UDP socket must tell; family AF_INET6 takes both versions' options if dual. */
void udp_socket_options(int fd, int family, bool dual, bool pktinfo);

/* dgram_send.c. */
int outboxes_init(struct dgrams *d);
void outboxes_free(struct dgrams *d);
/* Gathers a frame's payload for a socket; the frame is valid until dgram_batch_end(). fd's DF state
 * is at *df. */
void outbox_add(struct shard *shard, struct flow *flow, int fd, int8_t *df, struct frame *frame,
		const struct dgram_route *route);

/* Appends control data to a message that has room for it: of IPv6 for what len bytes may need. */
void dgram_put_route(struct msghdr *msg, const struct dgram_route *route, size_t len);
void dgram_put_segment(struct msghdr *msg, uint16_t segment);

/* dgram_recv.c. */
int dgram_inbox_init(struct dgrams *d);
void dgram_inbox_free(struct dgrams *d);
/* Gives the guest what was received but could not be sent. False: there still is no room. */
bool dgram_inbox_deliver(struct shard *shard);
/* Whether there is something to deliver. */
bool dgram_inbox_waits(const struct shard *shard);
/* Receives from a flow's socket, or from a listener's. */
enum dgram_inbox_end { INBOX_EMPTY, INBOX_MORE, INBOX_NO_ROOM };
enum dgram_inbox_end dgram_inbox_receive(struct shard *shard, int fd, struct flow *flow,
					 struct udp_listener *listener);
/* Forgets what is meant for a flow that ends. */
void dgram_inbox_forget(struct shard *shard, const struct flow *flow);
void dgram_inbox_forget_listener(struct shard *shard, const struct udp_listener *listener);
/* Reads control data. */
void dgram_meta_of(struct msghdr *msg, struct dgram_meta *meta);

/* dgram_out.c. */

/* Writes a datagram to the guest, cut into fragments if it must be. False: no room now; call again.
 */
bool dgram_write(struct shard *shard, struct dgram_packet *packet);

/* dgram_error.c. */

/*
 * Relays what is in a socket's error queue to the guest. flow: whose socket it is, or of the
 * forwarded port whose socket it is. Returns the MTU that a local EMSGSIZE told of last, 0: none.
 */
uint32_t dgram_relay_errors(struct shard *shard, int fd, struct flow *flow);
/* Tells the guest that a datagram was refused, if there is a way to say it. False: there is none.
 */
bool dgram_refused(struct shard *shard, const struct frame *frame, int error);
void dgram_too_big(struct shard *shard, const struct frame *frame, uint32_t mtu);

/* fragment.c */
int fragments_init(struct shard *shard);
void fragments_free(struct shard *shard);

/* listen_udp.c. */
struct udp_listener {
	struct pollee pollee;
	_Atomic int fd;		       /* written by control inside the shard; -1: closed */
	_Atomic(struct shard *) shard; /* the same; whose epoll it is in */
	bool versions[IP_VERSIONS];
	struct ip_addr addr;  /* bound to; unset: any */
	unsigned int ifindex; /* bound to; 0: any */
	uint16_t target;      /* the guest's port */
	uint16_t port;	      /* the host's; 0: outward */
	bool outward;	      /* it is in the namespace, and target the host's port */
	uint64_t serial;      /* of this use of the entry; the table finds spliced flows by it */
	int8_t df;
	struct list port_link; /* among those of its port */
	struct list splices;   /* its spliced flows */
	struct list stalled;
	struct udp_listener *next;     /* among the spare ones; control's */
	struct udp_listener *next_all; /* among all that were ever made; control's */
};

/* The listeners of a guest's port, and its flows: all in one shard. */
struct udp_port {
	_Atomic(struct shard *)
		shard;	       /* release in udp_listen(), acquire by any; NULL: not forwarded */
	struct list listeners; /* of that shard */
	struct list flows;
};

struct udp_ports {
	struct udp_port port[65536];
	_Atomic uint16_t own[65536]; /* by the host's port: our sockets; written by shards for their
					flows, by control for the listeners */
	struct udp_listener *spare;  /* control's, and so is what follows */
	struct udp_listener *all;
	uint64_t serial;
};

int udp_ports_init(struct runtime *rt);
void udp_ports_free(struct runtime *rt);

/* The entry of a forwarded port, or NULL. Any thread. */
struct udp_port *udp_port_find(const struct runtime *rt, uint16_t port);
/* Whether a datagram that was sent to a group, or that no peer sent, comes from the guest: the
 * kernel gives what we send to a group to the host's members too, and so to us. The guest must not
 * get it back, as no interface does that. scope: of a link-local source, 0: the host's interface.
 */
bool udp_is_guests_own(const struct shard *shard, const struct endpoint *src, unsigned int scope);
/* How the host reaches a destination. */
struct udp_way_out {
	struct ip_addr own;
	unsigned int ifindex;
};
/* The listener through which a flow may write to a host-side destination, or NULL. */
struct udp_listener *udp_port_listener(struct udp_port *port, const struct ip_addr *dst,
				       const struct udp_way_out *out);
/* The flow for what came to a listener, opened if need be, and its peer. NULL: counted. */
struct flow *udp_listener_flow(struct shard *shard, struct udp_listener *listener,
			       const struct endpoint *src, const struct dgram_meta *meta,
			       struct dgram_peer **peer);
