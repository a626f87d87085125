/* SPDX-License-Identifier: Apache-2.0 */
/*
 * UDP and echo translation, reassembly of the guest's fragments, and ICMP errors to the guest.
 */
#pragma once

#include "flow.h"

struct shard;
struct frame;

/* Maps memory at start. 0 or -errno. */
int dgrams_init(struct shard *shard);
void dgrams_free(struct shard *shard);

/* A UDP datagram or echo request from the guest: finds or opens its flow, gathers it for the
 * socket. */
void dgram_frame(struct shard *shard, struct frame *frame);
/* Ends a batch: what was gathered goes to the sockets. */
void dgram_batch_end(struct shard *shard);
/* A flow's socket has something (flow->events), or it waited for room. False if the guest's side is
 * full. */
bool dgram_run(struct shard *shard, struct flow *flow);
/* The guest's side has room again: what was received, and not sent for want of room, goes first.
 * True if there was anything. */
bool dgram_resume(struct shard *shard);
void dgram_timer(struct shard *shard, struct flow *flow);
void dgram_close(struct shard *shard, struct flow *flow);

/* A fragment from the guest; when its datagram is whole, that is run like a frame. */
void fragment_frame(struct shard *shard, struct frame *frame);
/* Drops what waited too long, and tells the guest (RFC 1122 3.3.2); within a turn, by the shard's
 * clock. */
void fragment_expire(struct shard *shard);

/* Forgets all that waits: the guest is gone. */
void fragments_forget(struct shard *shard);

/* When fragment_expire() has something to do next; UINT64_MAX: nothing waits. */
uint64_t fragment_next_us(const struct shard *shard);

/* An ICMP error from the guest about something we sent: relayed where a host socket can express it,
 * else dropped. */
void icmp_error_frame(struct shard *shard, struct frame *frame);

/*
 * Sends the guest an ICMP or ICMPv6 error that quotes one of its packets (RFC 792, 1812 4.3.2.3,
 * 4443).
 *
 * quoted, len: the guest's packet from its IP header on. type, code: of the version of that packet.
 * info: the 32 bits behind the checksum (MTU). from: the router or host that speaks.
 */
void icmp_send_error(struct shard *shard, const uint8_t *quoted, size_t len, uint8_t type,
		     uint8_t code, uint32_t info, const struct ip_addr *from);

struct udp_listener;
struct port_map;
struct runtime;

/* A bound UDP port: owned by the shard of the guest's port. Control thread, or main before the
 * threads. 0 or -errno. */
int udp_listen(struct runtime *rt, const struct port_map *map, uint16_t port,
	       struct udp_listener **out);
/* A bound socket of the namespace, for the host's port; fd is the shards' from now on, also if this
 * fails. */
int udp_listen_ns(struct runtime *rt, int fd, uint16_t target, struct udp_listener **out);
void udp_unlisten(struct runtime *rt, struct udp_listener *listener);
/* Its socket is readable; level-triggered. */
void udp_listener_event(struct shard *shard, struct udp_listener *listener);
