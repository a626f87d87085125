/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Frames from the guest, the slabs that hold their bytes, and batches of them. Frames are parsed
 * once, by whoever read them; every length in struct frame has been checked against the bytes, and
 * the rest of the program trusts it.
 *
 * Ownership: a slab is filled by one reader. Each batch that is handed over holds one reference to
 * its slab; whoever has run a batch gives it back with batch_done(), and the last one calls the
 * slab's release function, on its own thread.
 */
#pragma once

#include "taploom/counters.h"
#include "taploom/flow_key.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#define ETH_HEADER_LEN 14
#define FRAME_MAX      (65535 + ETH_HEADER_LEN) /* the longest frame on any transport, in bytes */
#define FRAME_MIN      ETH_HEADER_LEN
/* The longest that frame_parse() takes: a reassembled IPv6 packet is longer than a frame can be
 * (RFC 8200 3). */
#define FRAME_WHOLE_MAX (65535 + 40 + ETH_HEADER_LEN)

enum frame_kind {
	FRAME_CONTROL, /* ARP, DHCP, NDP, DHCPv6, IGMP, MLD: for the control thread */
	FRAME_TCP,
	FRAME_UDP,
	FRAME_ECHO,	  /* ICMP or ICMPv6 echo request */
	FRAME_ICMP_ERROR, /* an error from the guest; the key is the embedded packet's, reversed */
	FRAME_FRAGMENT,	  /* for reassembly; the key has addresses and protocol only */
};

/* What is already known of a frame's checksums and segmentation (virtio_net_hdr, flags and GSO). */
struct frame_offload {
	uint16_t gso_size;   /* payload per segment, 0: a plain frame */
	uint8_t gso_type;    /* VIRTIO_NET_HDR_GSO_* */
	bool csum_unchecked; /* the transport's frames carry no or partial checksums: do not verify
			      */
};

struct slab;

struct frame {
	struct frame *next; /* in its batch, in order of arrival */

	/* Linear bytes from the Ethernet header on: all headers at least, and whole control frames.
	 */
	const uint8_t *data;
	uint32_t linear_len;
	uint32_t len; /* of the whole frame, from the Ethernet header to the end of the IP packet */

	uint16_t l3_off;      /* to the IP header (14) */
	uint16_t l4_off;      /* to the TCP, UDP or ICMP header; past IPv6 extension headers */
	uint16_t payload_off; /* to the payload of TCP or UDP, to the data of an echo */
	uint8_t kind;	      /* enum frame_kind */
	uint8_t version;      /* enum ip_version */
	uint8_t tos;	      /* TOS or traffic class, ECN bits included */
	uint8_t ttl;	      /* or hop limit */
	uint8_t l4_proto;     /* IPPROTO_*, of the header at l4_off */
	bool dont_fragment;   /* IPv4 DF; always true for IPv6 */
	uint16_t queue;	      /* the queue it came from: 0 on the stream */

	/* The payload: one piece inside data, or the guest's own buffers (vhost-user). */
	uint32_t payload_len;
	uint32_t n_payload;
	const struct iovec *payload; /* lent until the batch is done; &payload_one in most cases */
	struct iovec payload_one;

	struct frame_offload offload;
	uint32_t hash; /* flow_steer_hash() of key; selects the shard; 0 in a control frame */
	struct flow_key key;
	struct slab *slab; /* a reference, while the frame outlives its batch; see move.c */
};

/*
 * Parses the headers of one frame and fills all of *frame but next, queue and slab.
 *
 * data, len: the frame from its Ethernet header on; len is what is present, any value.
 * offload:   what the transport says of it.
 * Returns DROP_NONE, or the reason for which the frame must be dropped and counted by the caller.
 * Frames for the services (ARP, and UDP 67, 547, ICMPv6 133-137, 143, IGMP and so on) are classed
 * FRAME_CONTROL whether or not the service is switched on. Pure; any thread. Sources: RFC 791,
 * 8200, 9293, 768, 792, 4443.
 *
 * The payload of a FRAME_ICMP_ERROR is the embedded packet; that of a FRAME_FRAGMENT begins at
 * l4_off, behind the IPv4 header or the 8 bytes of the IPv6 fragment header, and l4_proto is the
 * fragmented packet's (in a fragment of IPv6 maybe a further extension header's).
 */
enum drop frame_parse(struct frame *frame, const uint8_t *data, size_t len,
		      struct frame_offload offload, const struct hash_secret *secret);

/*
 * The same for a frame whose payload is scattered: data holds at least all headers, tail the rest.
 *
 * iov, n_iov: every byte that follows data[linear_len - 1]; lent for the batch's life. scratch
 * receives the payload's iovecs (n_iov + 1 of them are enough) and is lent likewise.
 */
enum drop frame_parse_iov(struct frame *frame, const uint8_t *data, size_t linear_len,
			  const struct iovec *iov, unsigned int n_iov, struct iovec *scratch,
			  struct frame_offload offload, const struct hash_secret *secret);

/*
 * Whether the checksum of a parsed frame of TCP, UDP, ICMP or ICMPv6, that is no FRAME_CONTROL and
 * no FRAME_FRAGMENT, is right, or left out as IPv4's UDP may (RFC 768, RFC 8200 8.1). Any thread.
 */
bool frame_checksum_is_right(const struct frame *frame);

/* Frames of one reader's read, in order. */
struct slab {
	_Atomic uint32_t
		refs; /* batches handed over and not done, and the reader's own; any thread */
	void (*release)(
		struct slab *slab); /* called once refs is 0, by whoever dropped the last one */
	void *owner;
	uint8_t *bytes;
	size_t size;
	struct frame *frames; /* room for max_frames */
	uint32_t max_frames;
	uint32_t index; /* among its owner's */
};

struct flow;

enum batch_kind {
	BATCH_FRAMES,
	BATCH_GIVE,    /* flow: the receiving shard is its owner from now on */
	BATCH_ASK,     /* flow, of hash: the sender would rather own it; a GIVE or a DENY is owed */
	BATCH_DENY,    /* flow: the sender keeps it, or does not have it */
	BATCH_OFFER,   /* flow, of hash: the sender would rather not own it; an ASK or a DECLINE is
			  owed */
	BATCH_DECLINE, /* flow: the sender does not want it */
	BATCH_DRAIN,   /* flow, that was offered and given: once all that waits on the receiver's
			  queues has been read, and what is the flow's was handed on, a DRAINED is
			  owed */
	BATCH_DRAINED, /* flow: nothing of it comes from the sender any more */
	BATCH_GO,      /* flow, of number hash: it need not wait for another any more */
};

/* A run of frames of one slab for one shard, or a word about a flow. */
struct batch {
	uint16_t kind; /* enum batch_kind */
	uint16_t from; /* of BATCH_ASK, OFFER: the sender */
	uint32_t hash; /* of BATCH_ASK, OFFER: the flow's; of BATCH_GO: its number */
	struct frame *first;
	struct frame *last;
	uint32_t n_frames;
	uint32_t bytes;
	struct slab *slab; /* holds one reference; NULL without frames */
	struct flow *flow; /* NULL with frames */
};

static inline void batch_add(struct batch *batch, struct frame *frame)
{
	frame->next = NULL;
	if (batch->last)
		batch->last->next = frame;
	else
		batch->first = frame;
	batch->last = frame;
	batch->n_frames++;
	batch->bytes += frame->len;
}

static inline void slab_get(struct slab *slab)
{
	atomic_fetch_add_explicit(&slab->refs, 1, memory_order_relaxed);
}

static inline void slab_put(struct slab *slab)
{
	if (atomic_fetch_sub_explicit(&slab->refs, 1, memory_order_acq_rel) == 1)
		slab->release(slab);
}

/* Gives a batch's slab back; its frames must not be looked at afterwards. */
static inline void batch_done(struct batch *batch)
{
	if (batch->slab)
		slab_put(batch->slab);
	batch->slab = NULL;
}
