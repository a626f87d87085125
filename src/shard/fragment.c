/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reassembly of the guest's fragments (RFC 791 3.2, RFC 8200 4.5). A table of datagrams under way,
 * each with room for the longest; one that is whole gets plain headers and runs like a frame that
 * was read. Its entry is used again when the last shard is done with it.
 */
#include "dgram_internal.h"

#include "taploom/frame_fields.h"

#include <errno.h>
#include <netinet/icmp6.h>
#include <netinet/ip_icmp.h>
#include <sys/mman.h>

#define FRAGMENT_ENTRIES 64
#define FRAGMENT_TIME_US (30ull * 1000000) /* RFC 1122 3.3.2 and RFC 8200 4.5 allow up to 60 s */
#define IP_LEN_MAX	 65535u
#define UNITS		 (65536 / 8)
#define FRAGMENT_HEADER	 8 /* of IPv6 */
#define IP4_MORE	 0x2000
#define QUOTED_MAX	 1232 /* of a part, in an error: it is cut to the least MTU */
#define ECN_CE		 3

struct datagram {
	struct slab slab; /* of the frame below, once it is whole */
	struct frame frame;
	_Atomic bool away; /* the frame is with a shard; stored by whoever is done with it, acquire
			      when taken again */
	bool used;
	bool refused;	 /* it had overlapping parts: the rest is dropped as it comes (RFC 5722) */
	struct list age; /* in fragments->age: the oldest first */
	uint64_t due_us;
	struct flow_key key;
	uint32_t id;
	uint8_t version, proto, tos, ttl;
	bool unchecked; /* a part came by a transport whose checksums may be partial, or none */
	bool ce;	/* a part was marked: so is the whole (RFC 3168 5.3) */
	bool not_ect;	/* a part says that it is not capable of ECN */
	uint32_t first; /* length of the part with the headers; 0: not there */
	uint32_t end;	/* of the payload; 0: not known */
	uint32_t units; /* of eight bytes, that are there */
	uint64_t have[UNITS / 64];
	uint8_t bytes[L3_HEADER_MAX + 65536 + 8];
};

struct fragments {
	unsigned int n_used;
	struct list age;
	struct datagram datagrams[FRAGMENT_ENTRIES];
};

/* One part. */
struct part {
	uint32_t id;
	uint32_t off; /* in bytes */
	uint32_t len;
	bool more;
};

static struct fragments *fragments_of(const struct shard *shard)
{
	return shard->fragments;
}

int fragments_init(struct shard *shard)
{
	struct fragments *f = mmap(NULL, sizeof(*f), PROT_READ | PROT_WRITE,
				   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (f == MAP_FAILED)
		return -ENOMEM;
	list_init(&f->age);
	shard->fragments = f;
	return 0;
}

void fragments_free(struct shard *shard)
{
	if (shard->fragments)
		munmap(shard->fragments, sizeof(struct fragments));
	shard->fragments = NULL;
}

static void forget(struct fragments *f, struct datagram *d)
{
	list_remove(&d->age);
	d->used = false;
	f->n_used--;
}

static void read_part(const struct frame *frame, struct part *part)
{
	const uint8_t *ip = frame->data + frame->l3_off, *header = frame->data + frame->l4_off - 8;
	uint16_t frag = load_be16(frame->version == IP4 ? ip + 6 : header + 2);

	part->len = frame->payload_len;
	if (frame->version == IP4) {
		part->id = load_be16(ip + 4);
		part->off = (frag & 0x1fff) * 8u;
		part->more = frag & 0x2000;
	} else {
		part->id = load_be32(header + 4);
		part->off = frag & 0xfff8;
		part->more = frag & 1;
	}
}

/* RFC 791: by identification, addresses and protocol; RFC 8200: not by what the next header says.
 */
static struct datagram *find(struct fragments *f, const struct frame *frame,
			     const struct part *part)
{
	for (struct list *l = f->age.next; l != &f->age; l = l->next) {
		struct datagram *d = LIST_ENTRY(l, struct datagram, age);

		if (d->id == part->id && flow_key_eq(&d->key, &frame->key) &&
		    (frame->version == IP6 || d->proto == frame->l4_proto))
			return d;
	}
	return NULL;
}

static struct datagram *free_entry(struct fragments *f)
{
	for (unsigned int i = 0; i < FRAGMENT_ENTRIES; i++) {
		struct datagram *d = &f->datagrams[i];

		if (!d->used && !atomic_load_explicit(&d->away, memory_order_acquire))
			return d;
	}
	return NULL;
}

static struct datagram *begin(struct shard *shard, const struct frame *frame,
			      const struct part *part)
{
	struct fragments *f = fragments_of(shard);
	struct datagram *d = free_entry(f);

	if (!d) {
		count_drop(&shard->counters, DROP_FRAGMENT_FULL);
		if (list_is_empty(&f->age))
			return NULL;
		d = LIST_ENTRY(f->age.next, struct datagram, age);
		forget(f, d);
	}
	d->used = true;
	d->refused = d->unchecked = d->ce = d->not_ect = false;
	d->due_us = shard->now_us + FRAGMENT_TIME_US;
	d->key = frame->key;
	d->id = part->id;
	d->version = frame->version;
	d->proto = frame->l4_proto;
	d->first = d->end = d->units = 0;
	memset(d->have, 0, sizeof(d->have));
	list_append(&f->age, &d->age);
	f->n_used++;
	return d;
}

static uint8_t *payload_of(struct datagram *d)
{
	return d->bytes + L3_HEADER_MAX;
}

/* How many of a part's units are there already. */
static uint32_t count_units(const struct datagram *d, const struct part *part)
{
	uint32_t n = 0;

	for (uint32_t u = part->off / 8; u < (part->off + part->len + 7) / 8; u++)
		n += d->have[u / 64] >> (u % 64) & 1;
	return n;
}

static void mark_units(struct datagram *d, const struct part *part)
{
	for (uint32_t u = part->off / 8; u < (part->off + part->len + 7) / 8; u++)
		d->have[u / 64] |= 1ull << (u % 64);
	d->units += (part->len + 7) / 8;
}

static bool equals(const uint8_t *there, const struct frame *frame)
{
	for (uint32_t i = 0; i < frame->n_payload; i++) {
		if (memcmp(there, frame->payload[i].iov_base, frame->payload[i].iov_len) != 0)
			return false;
		there += frame->payload[i].iov_len;
	}
	return true;
}

static void copy_in(uint8_t *to, const struct frame *frame)
{
	for (uint32_t i = 0; i < frame->n_payload; i++) {
		memcpy(to, frame->payload[i].iov_base, frame->payload[i].iov_len);
		to += frame->payload[i].iov_len;
	}
}

/* The longest payload that a packet of plain headers can have. */
static uint32_t payload_max(const struct datagram *d)
{
	return d->version == IP4 ? IP_LEN_MAX - 20 : IP_LEN_MAX;
}

/* Whether a part fits what is known of the datagram's end. */
static bool fits(const struct datagram *d, const struct part *part)
{
	uint32_t end = part->off + part->len;

	if (end > payload_max(d))
		return false;
	if (!part->more) /* nothing may lie behind the last part, nor may there be two ends */
		return (!d->end || d->end == end) &&
		       count_units(d, &(struct part){ .off = (end + 7) & ~7u,
						      .len = UNITS * 8u - ((end + 7) & ~7u) }) == 0;
	return !d->end || end <= d->end;
}

static void take_headers(struct datagram *d, const struct frame *frame, const struct part *part)
{
	if ((frame->tos & ECN_CE) == ECN_CE)
		d->ce = true;
	if (!(frame->tos & ECN_CE))
		d->not_ect = true;
	if (frame->offload.csum_unchecked)
		d->unchecked = true;
	if (part->off)
		return;
	d->first = part->len;
	d->proto = frame->l4_proto;
	d->tos = frame->tos;
	d->ttl = frame->ttl;
}

/* Takes a part in. False: the datagram is spoilt. */
static bool take(struct shard *shard, struct datagram *d, const struct frame *frame,
		 const struct part *part)
{
	uint32_t units = (part->len + 7) / 8, there;

	if (!fits(d, part))
		return false;
	there = count_units(d, part);
	if (there) { /* the same once more is tolerated (RFC 8200 4.5), an overlap is not (RFC 5722)
		      */
		count_drop(&shard->counters, DROP_FRAGMENT);
		return there == units && equals(payload_of(d) + part->off, frame);
	}
	copy_in(payload_of(d) + part->off, frame);
	mark_units(d, part);
	take_headers(d, frame, part);
	if (!part->more)
		d->end = part->off + part->len;
	return true;
}

/* Any thread: the last that had the frame is done. */
static void release(struct slab *slab)
{
	struct datagram *d = slab->owner;

	atomic_store_explicit(&d->away, false, memory_order_release);
}

/* Plain headers in front of the payload. Returns the frame's first byte. */
static uint8_t *put_headers(struct datagram *d)
{
	struct l3 l3 = { .src = d->key.guest,
			 .dst = d->key.peer,
			 .proto = d->proto,
			 .tos = (uint8_t)(d->tos | (d->ce ? ECN_CE : 0)),
			 .ttl = d->ttl };
	uint8_t *data = payload_of(d) - l3_len(&l3.dst);

	l3_write(data, &l3, d->end);
	return data;
}

/* Not so fragments inside of fragments, and neighbour discovery (RFC 6980 5). */
static bool may_come_in_parts(const struct frame *frame)
{
	return frame->kind != FRAME_FRAGMENT &&
	       !(frame->kind == FRAME_CONTROL && frame->l4_proto == IPPROTO_ICMPV6);
}

/* What only the whole shows. */
static enum drop check_whole(const struct datagram *d)
{
	const struct frame *frame = &d->frame;

	/* RFC 3168 5.3: what says that it is not capable of ECN is not marked by another's mark. */
	if (!may_come_in_parts(frame) || (d->ce && d->not_ect))
		return DROP_FRAGMENT;
	/* Parts of two datagrams may have met (RFC 4963). The services verify what is theirs. */
	if (frame->kind != FRAME_CONTROL && !d->unchecked && !frame_checksum_is_right(frame))
		return DROP_L4_CHECKSUM;
	return DROP_NONE;
}

static void run_whole(struct shard *shard, struct datagram *d, uint16_t queue)
{
	const struct frame_offload offload = { .csum_unchecked = d->unchecked };
	uint8_t *data = put_headers(d);
	struct eth_addr mac = guest_mac_get(shard->rt);
	enum drop drop;

	memcpy(data + ETH_ADDR_LEN, mac.b, ETH_ADDR_LEN);
	forget(fragments_of(shard), d);
	drop = frame_parse(&d->frame, data, (size_t)(payload_of(d) - data) + d->end, offload,
			   &shard->rt->secret);
	if (!drop)
		drop = check_whole(d);
	if (drop) {
		count_drop(&shard->counters, drop);
		return;
	}
	d->frame.next = NULL;
	d->frame.queue = queue;
	d->frame.dont_fragment = false;
	d->slab = (struct slab){ .refs = 1,
				 .release = release,
				 .owner = d,
				 .bytes = d->bytes,
				 .size = sizeof(d->bytes),
				 .frames = &d->frame,
				 .max_frames = 1 };
	atomic_store_explicit(&d->away, true, memory_order_relaxed);
	shard_inject(shard, &d->frame, &d->slab);
}

void fragment_frame(struct shard *shard, struct frame *frame)
{
	/* As a reader steers; where shards read queues, the parts of one may come by several. */
	unsigned int place = steer(shard->rt, frame->key.proto, frame->hash);
	struct datagram *d;
	struct part part;

	if (place != shard->id) {
		shard_forward(shard, frame, place);
		return;
	}
	read_part(frame, &part);
	d = find(fragments_of(shard), frame, &part);
	if (!d)
		d = begin(shard, frame, &part);
	if (!d)
		return;
	if (d->refused || !take(shard, d, frame, &part)) {
		d->refused = true;
		count_drop(&shard->counters, DROP_FRAGMENT);
		return;
	}
	if (d->first && d->end && d->units == (d->end + 7) / 8)
		run_whole(shard, d, frame->queue);
}

/* Writes the first part as the guest sent it, plain headers aside, as far as an error quotes it.
 * Returns its length. */
static size_t put_first_part(struct datagram *d, uint8_t *bytes)
{
	bool v4 = d->version == IP4;
	size_t extra = v4 ? 0 : FRAGMENT_HEADER, off;
	size_t len = d->first < QUOTED_MAX ? d->first : QUOTED_MAX;
	struct l3 l3 = { .src = d->key.guest,
			 .dst = d->key.peer,
			 .proto = v4 ? d->proto : IPPROTO_FRAGMENT,
			 .tos = d->tos,
			 .ttl = d->ttl,
			 .id = (uint16_t)d->id,
			 .frag = IP4_MORE };

	off = l3_write(bytes, &l3, extra + d->first);
	if (!v4) {
		bytes[off] = d->proto;
		bytes[off + 1] = 0;
		store_be16(bytes + off + 2, 1); /* more follow */
		store_be32(bytes + off + 4, d->id);
	}
	memcpy(bytes + off + extra, payload_of(d), len);
	return off + extra + len;
}

/* Whether the packet may have an ICMP error for an answer: not so another error (RFC 1122 3.2.2,
 * RFC 4443 2.4 e), nor neighbour discovery, which is ignored in parts (RFC 6980 5). */
static bool may_be_answered(struct datagram *d)
{
	uint8_t type = payload_of(d)[0];

	if (d->version == IP6 && d->proto == IPPROTO_ICMPV6)
		return type >= ICMP6_ECHO_REQUEST &&
		       (type < ND_ROUTER_SOLICIT || type > ND_REDIRECT);
	return d->version == IP6 || d->proto != IPPROTO_ICMP || type == ICMP_ECHO;
}

/* RFC 1122 3.3.2, RFC 8200 4.5: who sent the first part is told that others didn't come. */
static void tell_late(struct shard *shard, struct datagram *d)
{
	uint8_t bytes[L3_HEADER_MAX + FRAGMENT_HEADER + QUOTED_MAX];
	uint8_t type = d->version == IP4 ? ICMP_TIME_EXCEEDED : ICMP6_TIME_EXCEEDED;
	size_t len;

	if (!d->first || d->refused || !may_be_answered(d))
		return;
	len = put_first_part(d, bytes);
	icmp_send_error(shard, bytes + ETH_HEADER_LEN, len - ETH_HEADER_LEN, type,
			ICMP_EXC_FRAGTIME, 0, &d->key.peer);
}

void fragment_expire(struct shard *shard)
{
	struct fragments *f = fragments_of(shard);

	while (fragment_next_us(shard) <= shard->now_us) {
		struct datagram *d = LIST_ENTRY(f->age.next, struct datagram, age);

		count_drop(&shard->counters, DROP_FRAGMENT);
		tell_late(shard, d);
		forget(f, d);
	}
}

void fragments_forget(struct shard *shard)
{
	struct fragments *f = fragments_of(shard);

	while (!list_is_empty(&f->age))
		forget(f, LIST_ENTRY(f->age.next, struct datagram, age));
}

uint64_t fragment_next_us(const struct shard *shard)
{
	const struct fragments *f = fragments_of(shard);

	if (list_is_empty(&f->age))
		return UINT64_MAX;
	return LIST_ENTRY(f->age.next, struct datagram, age)->due_us;
}
