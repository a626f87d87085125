/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Counters and drop reasons. Each thread has its own block, written by it alone; whoever shows them
 * adds them up. The lists make the enums, the table printed on SIGUSR1 and the manual's table.
 */
#pragma once

#include <stdatomic.h>
#include <stdint.h>

/* name, counter, what the user reads */
#define DROP_REASONS(X)                                                                            \
	X(SHORT, "short", "the frame ends inside a header")                                        \
	X(ETHERTYPE, "ethertype", "neither ARP, IPv4 nor IPv6")                                    \
	X(ETH_ADDR, "eth-addr", "the source is a group address")                                   \
	X(IP_VERSION, "ip-version", "the version field does not fit the EtherType")                \
	X(IP_LENGTH, "ip-length", "a length in the IP header is a lie")                            \
	X(IP_CHECKSUM, "ip-checksum", "wrong IPv4 header checksum")                                \
	X(IP_SOURCE, "ip-source",                                                                  \
	  "a source that no guest may use: loopback, multicast, unspecified")                      \
	X(IP_DEST, "ip-dest", "a destination that cannot be reached from a guest")                 \
	X(IP_OPTION, "ip-option", "an IPv6 extension header that is malformed or not supported")   \
	X(IP_PROTOCOL, "ip-protocol", "neither TCP, UDP nor ICMP")                                 \
	X(FAMILY_OFF, "family-off", "this IP version is switched off or has no address")           \
	X(PROTO_OFF, "proto-off", "this protocol is switched off by an option")                    \
	X(L4_LENGTH, "l4-length", "a length in the TCP, UDP or ICMP header is a lie")              \
	X(L4_CHECKSUM, "l4-checksum", "wrong checksum of TCP, UDP, ICMP or a service")             \
	X(FRAGMENT, "fragment", "a fragment that is malformed, overlaps or came too late")         \
	X(FRAGMENT_FULL, "fragment-full", "no room for one more datagram in reassembly")           \
	X(FLOWS_FULL, "flows-full", "no free flow entry is left")                                  \
	X(CONNECT_CROWDED, "connect-crowded",                                                      \
	  "an attempt to connect that lasted longest gave way to a newer flow")                    \
	X(POOL_EMPTY, "pool-empty", "no buffer is left in the shard's pool")                       \
	X(FD_LIMIT, "fd-limit", "the limit on open files is reached")                              \
	X(SOCKET, "socket", "the host refused a socket, or what was asked of it")                  \
	X(NO_FLOW, "no-flow", "a segment of no known connection")                                  \
	X(TCP_FLAGS, "tcp-flags", "a combination of TCP flags that means nothing here")            \
	X(TCP_SEQUENCE, "tcp-sequence", "a segment outside the window, or with an impossible ACK") \
	X(TCP_PAWS, "tcp-paws", "an old duplicate, told by its timestamp")                         \
	X(TCP_IN_WINDOW, "tcp-in-window", "payload inside the offered window that was dropped")    \
	X(TCP_UNSACKED, "tcp-unsacked",                                                            \
	  "out-of-order payload, never SACKed, dropped as the pool was empty")                     \
	X(UDP_SEND, "udp-send", "the host did not take a datagram")                                \
	X(UDP_LOOP, "udp-loop", "what the guest sent to a group, come back")                       \
	X(UDP_FILTER, "udp-filter", "a datagram from a peer that the guest never wrote to")        \
	X(ICMP_TYPE, "icmp-type", "an ICMP message that is not translated")                        \
	X(ICMP_DENIED, "icmp-denied", "ping sockets are not permitted; see ping_group_range")      \
	X(TX_BLOCKED, "tx-blocked", "the guest does not read, and nothing holds this frame")       \
	X(TX_NO_GUEST, "tx-no-guest", "no guest is connected")                                     \
	X(TX_TOO_BIG, "tx-too-big", "the frame does not fit the guest's buffers")                  \
	X(TX_ERROR, "tx-error", "the guest side refused a frame")                                  \
	X(CONTROL_FULL, "control-full", "the control thread's ring is full")                       \
	X(RING_FULL, "ring-full", "a shard's ring is full")                                        \
	X(ARP, "arp", "a malformed ARP packet, or one that gets no answer")                        \
	X(DHCP, "dhcp", "a malformed DHCP message, or one that is not for this server")            \
	X(DHCP6, "dhcp6", "a malformed DHCPv6 message, or one that is not for this server")        \
	X(NDP, "ndp", "an NDP message that RFC 4861 has a node discard")                           \
	X(MULTICAST_GROUP, "group",                                                                \
	  "an IGMP or MLD message that is malformed or beyond the limit")                          \
	X(STREAM_LENGTH, "stream-length", "a frame length on the stream that ends the connection") \
	X(VRING, "vring", "a virtqueue that lies; the device was reset")                           \
	X(TUN_READ, "tun-read", "the tap device refused a read")

enum drop {
	DROP_NONE,
#define X(id, name, text) DROP_##id,
	DROP_REASONS(X)
#undef X
		DROP_COUNT
};

#define COUNTERS(X)                                                                                \
	X(RX_FRAMES, "rx-frames", "frames from the guest")                                         \
	X(RX_BYTES, "rx-bytes", "bytes of them")                                                   \
	X(TX_FRAMES, "tx-frames", "frames to the guest")                                           \
	X(TX_BYTES, "tx-bytes", "bytes of them")                                                   \
	X(TX_FLUSHES, "tx-flushes", "system calls that wrote a batch to the guest")                \
	X(TX_STALLS, "tx-stalls", "batches that found the guest's side full")                      \
	X(BATCHES_INLINE, "batches-inline", "batches run in place by a reader")                    \
	X(INLINE_BUSY, "inline-busy", "batches not run in place as the shard was at work")         \
	X(BATCHES_RING, "batches-ring", "batches handed over through a ring")                      \
	X(FRAMES_INLINE, "frames-inline", "frames run in place by a reader")                       \
	X(FRAMES_RING, "frames-ring", "frames handed over through a ring")                         \
	X(FRAMES_OWN, "frames-own", "frames read by their own shard")                              \
	X(FRAMES_FORWARDED, "frames-forwarded",                                                    \
	  "frames handed on to another shard, the flow's owner")                                   \
	X(WAKEUPS, "wakeups", "wake-ups sent to a sleeping thread")                                \
	X(LOOPS, "loops", "turns of the event loop")                                               \
	X(FLOWS_OPENED, "flows-opened", "flows begun")                                             \
	X(FLOWS_CLOSED, "flows-closed", "flows ended")                                             \
	X(FLOWS_MOVED, "flows-moved", "flows that moved to another shard")                         \
	X(FLOWS_SPREAD, "flows-spread",                                                            \
	  "busy flows of them that a shard gave to one that had fewer")                            \
	X(FRAMES_HELD, "frames-held", "frames kept until their flow had moved")                    \
	X(BUCKETS_MOVED, "buckets-moved",                                                          \
	  "buckets of the steering table that moved to another shard")                             \
	X(FLOWS_REFUSED, "flows-refused", "flows that could not be begun")                         \
	X(ACCEPTED, "accepted", "connections accepted on forwarded ports")                         \
	X(TCP_RX_BYTES, "tcp-rx-bytes", "TCP payload from the guest given to sockets")             \
	X(TCP_TX_BYTES, "tcp-tx-bytes", "TCP payload from sockets sent to the guest")              \
	X(TCP_QUEUED, "tcp-queued", "bytes that a socket did not take at once")                    \
	X(TCP_OUT_OF_ORDER, "tcp-out-of-order", "segments from the guest kept for later")          \
	X(TCP_RETRANS, "tcp-retrans", "segments sent to the guest again")                          \
	X(TCP_RTO, "tcp-rto", "retransmission time-outs towards the guest")                        \
	X(TCP_TLP, "tcp-tlp", "tail-loss probes towards the guest")                                \
	X(TCP_SPURIOUS, "tcp-spurious", "retransmissions found to be unneeded")                    \
	X(TCP_DUP_RX, "tcp-dup-rx", "bytes that the guest sent twice")                             \
	X(TCP_CHALLENGE, "tcp-challenge", "challenge ACKs sent")                                   \
	X(TCP_RESETS, "tcp-resets", "resets sent to the guest")                                    \
	X(UDP_RX, "udp-rx", "datagrams from the guest given to sockets")                           \
	X(UDP_TX, "udp-tx", "datagrams from sockets sent to the guest")                            \
	X(ICMP_RX, "icmp-rx", "echo requests from the guest")                                      \
	X(ICMP_TX, "icmp-tx", "echo replies to the guest")                                         \
	X(ICMP_ERRORS, "icmp-errors", "ICMP errors sent to the guest")                             \
	X(SPLICED_BYTES, "spliced-bytes", "bytes moved from socket to socket")

enum counter {
#define X(id, name, text) COUNT_##id,
	COUNTERS(X)
#undef X
		COUNTER_COUNT
};

/* One thread's counters. Written by their thread alone, read by the control thread. */
struct counters {
	_Atomic uint64_t count[COUNTER_COUNT];
	_Atomic uint64_t drop[DROP_COUNT];
};

/* A plain add, made of relaxed loads and stores: there is one writer, so no locked instruction. */
static inline void count_add(struct counters *c, enum counter id, uint64_t n)
{
	uint64_t v = atomic_load_explicit(&c->count[id], memory_order_relaxed);
	atomic_store_explicit(&c->count[id], v + n, memory_order_relaxed);
}

static inline void count_drop_n(struct counters *c, enum drop reason, uint64_t n)
{
	uint64_t v = atomic_load_explicit(&c->drop[reason], memory_order_relaxed);
	atomic_store_explicit(&c->drop[reason], v + n, memory_order_relaxed);
}

static inline void count_drop(struct counters *c, enum drop reason)
{
	count_drop_n(c, reason, 1);
}

static inline uint64_t counter_get(const struct counters *c, enum counter id)
{
	return atomic_load_explicit(&c->count[id], memory_order_relaxed);
}
