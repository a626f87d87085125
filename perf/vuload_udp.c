/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Datagrams. Every slot of the rings is prepared with the pattern once; a datagram then takes its
 * headers and its mark.
 */
#include "pattern.h"
#include "vuload.h"

#include "taploom/bytes.h"

#include <stdio.h>
#include <stdlib.h>

#define FIRST_PORT 20000u
#define PAYLOAD	   (sizeof(struct virtio_net_hdr_v1) + VL_ETH + VL_IP + VL_UDP)
#define HELLO_NS   (100 * 1000 * 1000LL)
#define IDLE_NS	   (2 * NS_PER_S)
#define START_NS   (10 * NS_PER_S)
#define RUN	   32u /* datagrams of one flow in a row */

struct udp {
	int64_t begin_ns, hello_ns, first_ns, last_ns;
	uint64_t n_sent, n_recv, n_window, n_strayed;
	unsigned int next;
	uint64_t numbers[LOAD_FLOWS_MAX];
	struct mark_seen seen[LOAD_FLOWS_MAX];
};

static void prepare(struct vl *vl)
{
	const struct vl_options *options = vl->options;

	for (unsigned int pair = 0; pair < options->pairs; pair++)
		for (unsigned int i = 0; i < options->ring_size; i++)
			memcpy(vl->pairs[pair].slots + i * vl->slot_size + PAYLOAD, vl->pattern,
			       options->traffic.size);
}

static void start(struct vl *vl)
{
	struct udp *udp = calloc(1, sizeof(*udp));

	if (!udp || !vl->options->traffic.size ||
	    VL_IP + VL_UDP + vl->options->traffic.size > vl->options->mtu)
		load_die("size of a datagram");
	vl->state = udp;
	prepare(vl);
	udp->begin_ns = load_now_ns();
}

/* Sends one. False: the ring is full. */
static bool send_one(struct vl *vl, unsigned int flow, char kind, size_t size)
{
	struct udp *udp = vl->state;
	unsigned int pair = flow % vl->options->pairs;
	struct mark mark = { .kind = kind, .flow = flow, .number = udp->numbers[flow] + 1 };
	uint8_t *slot = vl_tx_begin(vl, pair), *l4;

	if (!slot)
		return false;
	l4 = vl_build_ip(vl, slot, IPPROTO_UDP, VL_UDP + size);
	store_be16(l4, (uint16_t)(FIRST_PORT + flow));
	store_be16(l4 + 2, vl->options->traffic.port);
	store_be16(l4 + 4, (uint16_t)(VL_UDP + size));
	memcpy(l4 + VL_UDP, &mark, size < sizeof(mark) ? size : sizeof(mark));
	vl_seal(vl, slot, 6, VL_UDP + size, NULL, 0);
	vl_tx_commit(vl, pair, VL_ETH + VL_IP + VL_UDP + size, NULL, 0);
	return true;
}

static int64_t send_hellos(struct vl *vl, int64_t now)
{
	struct udp *udp = vl->state;

	if (!udp->first_ns && now - udp->hello_ns >= HELLO_NS) {
		for (unsigned int i = 0; i < vl->options->traffic.n_flows; i++)
			send_one(vl, i, 'H', 1);
		udp->hello_ns = now;
	}
	return now + HELLO_NS;
}

/* Whether the rate allows another run. */
static bool may_send(const struct vl *vl, int64_t now)
{
	const struct udp *udp = vl->state;

	return (double)udp->n_sent <=
	       (double)(now - udp->begin_ns) / 1e9 * vl->options->traffic.rate;
}

/* A run of one flow. False: its ring is full. */
static bool send_run(struct vl *vl, unsigned int flow)
{
	struct udp *udp = vl->state;

	for (unsigned int i = 0; i < RUN; i++) {
		if (!send_one(vl, flow, 'L', vl->options->traffic.size))
			return false;
		udp->numbers[flow]++;
		udp->n_sent++;
	}
	return true;
}

static bool send_next(struct vl *vl)
{
	struct udp *udp = vl->state;
	bool sent = send_run(vl, udp->next);

	udp->next = (udp->next + 1) % vl->options->traffic.n_flows;
	return sent;
}

/* A run of each flow, then a kick and a look at what has come. */
static int64_t saturate(struct vl *vl, int64_t now)
{
	bool any = false;

	for (unsigned int i = 0; i < vl->options->traffic.n_flows; i++)
		any |= send_next(vl);
	return any ? now : now + NS_PER_S;
}

/* As taploom-load does: the flows have their runs in turn, each when it is due. */
static int64_t keep_rate(struct vl *vl, int64_t now)
{
	while (may_send(vl, now) && send_next(vl))
		;
	return now + (int64_t)vl->options->tick_us * 1000;
}

static int64_t transmit(struct vl *vl, int64_t now)
{
	return vl->options->traffic.rate > 0 ? keep_rate(vl, now) : saturate(vl, now);
}

static int64_t run(struct vl *vl, int64_t now)
{
	return vl->options->traffic.send ? transmit(vl, now) : send_hellos(vl, now);
}

/* One datagram, at offset of the frame's payload. */
static void take_one(struct vl *vl, const struct vl_frame *frame, unsigned int flow, size_t offset,
		     size_t len, int64_t now)
{
	const struct vl_options *options = vl->options;
	struct udp *udp = vl->state;
	struct mark mark;
	double at;

	if (len < MARK_LEN)
		return; /* too small to be numbered */
	vl_payload_copy(frame, offset, &mark, sizeof(mark));
	if (mark.kind != 'L')
		return;
	udp->first_ns = udp->first_ns ? udp->first_ns : now;
	udp->last_ns = now;
	udp->n_recv++;
	udp->n_strayed += frame->pair != flow % options->pairs;
	if (!vl_payload_ok(vl, frame, offset + MARK_LEN, len - MARK_LEN, MARK_LEN))
		vl->errors.payload++;
	else if (!mark_note(&udp->seen[flow], &mark))
		vl->errors.order++;
	at = (double)(now - udp->first_ns) / 1e9;
	udp->n_window += at >= options->traffic.omit &&
			 at < options->traffic.omit + options->traffic.seconds;
}

static void take(struct vl *vl, const struct vl_frame *frame, int64_t now)
{
	unsigned int flow = frame->dst_port - FIRST_PORT;
	size_t segment = frame->hdr.gso_type ? frame->hdr.gso_size : frame->payload_len;

	if (frame->proto != IPPROTO_UDP || flow >= vl->options->traffic.n_flows ||
	    frame->src_port != vl->options->traffic.port) {
		vl->errors.stray++;
		return;
	}
	for (size_t at = 0; segment && at < frame->payload_len; at += segment) {
		size_t left = frame->payload_len - at;

		take_one(vl, frame, flow, at, left < segment ? left : segment, now);
	}
}

static bool over(struct vl *vl, int64_t now)
{
	const struct udp *udp = vl->state;
	double until = (vl->options->traffic.omit + vl->options->traffic.seconds) * 1e9;

	if (vl->options->traffic.send)
		return (double)(now - udp->begin_ns) > until + 0.2e9;
	if (!udp->first_ns)
		return now - udp->begin_ns > START_NS;
	return (double)(now - udp->first_ns) > until || now - udp->last_ns > IDLE_NS;
}

static bool report(struct vl *vl)
{
	const struct udp *udp = vl->state;

	printf("\"sent\": %llu, \"received\": %llu, \"window\": %llu, \"other_pair\": %llu",
	       (unsigned long long)udp->n_sent, (unsigned long long)udp->n_recv,
	       (unsigned long long)udp->n_window, (unsigned long long)udp->n_strayed);
	return (vl->options->traffic.recv ? udp->n_recv : udp->n_sent) > 0;
}

const struct vl_app vl_udp_app = { start, take, run, over, report };
