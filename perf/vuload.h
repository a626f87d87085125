/* SPDX-License-Identifier: Apache-2.0 */
/*
 * taploom-vuload: a load generator in the place of a virtual machine. It shares memory with a
 * vhost-user back-end, fills the rings of one or several queue pairs with frames whose payload lies
 * prepared, and checks what comes back. Its other end is a taploom-load on the host's side.
 *
 *   vuload.c         options, the loop, the report
 *   vuload_dev.c     memory, rings, buffers: frames in pieces, both ways
 *   vuload_frame.c   Ethernet, ARP, IPv4, UDP and TCP headers, checksums
 *   vuload_udp.c     datagrams of one size over one or several flows
 *   vuload_tcp.c     a TCP peer that keeps to windows and sends again what is lost
 *   vuload_bulk.c, vuload_trans.c, vuload_stopped.c   what it is used for
 *
 * One thread: a frame costs a fraction of what it costs the back-end.
 */
#pragma once

#include "load_common.h"
#include "tools/vu_frontend.h"
#include "vu_features.h"

#include <netinet/in.h>

#define VL_ETH	  14u
#define VL_IP	  20u
#define VL_TCP	  20u
#define VL_UDP	  8u
#define VL_TABLE  64u  /* at a slot's end: an indirect table */
#define VL_PIECES 640u /* buffers that one frame can be merged of */

struct vl_options {
	struct load_traffic traffic;
	const char *socket;
	unsigned int pairs, ring_size, buffer_size;
	uint64_t features;
	uint32_t addr, gateway, peer; /* host byte order */
	unsigned int mtu;
	unsigned int tick_us; /* how long to sleep when the rate is ahead */
};

/* What is wrong with what came; all of it, none of it expected. */
struct vl_errors {
	uint64_t header;   /* virtio, Ethernet, IP or L4 header makes no sense */
	uint64_t offload;  /* uses what was not negotiated */
	uint64_t checksum; /* wrong, or missing */
	uint64_t payload;
	uint64_t order; /* datagrams overtaken or repeated; segments that are not the next */
	uint64_t stray; /* for no flow of ours */
	uint64_t reset; /* connections reset by the other side */
};

struct vl_pair {
	struct drv_ring *rx, *tx;
	uint8_t *slots, *buffers; /* slots hold a frame's headers, or a linear frame */
	bool blocked;		  /* its transmit ring was found full */
	bool added[2];		  /* to rx and tx, since a kick was last decided on */
	uint64_t tx_done;	  /* frames that the back-end has taken */
	uint64_t tx_frames, tx_bytes, rx_frames, rx_bytes, kicks, calls;
};

/* A frame from the back-end. Its pieces are valid until the callback returns. */
struct vl_frame {
	unsigned int pair;
	struct virtio_net_hdr_v1 hdr;
	struct iovec iov[VL_PIECES]; /* from the Ethernet header on */
	unsigned int n_iov;
	size_t len;
	const uint8_t *l4;
	uint8_t proto;
	uint16_t src_port, dst_port;
	size_t payload_off, payload_len;
};

struct vl;

/* What is done with the device. */
struct vl_app {
	void (*start)(struct vl *vl);
	/* A frame of TCP or UDP for us. */
	void (*frame)(struct vl *vl, const struct vl_frame *frame, int64_t now);
	/* Sends what may be sent. Returns when to be called again at the latest. */
	int64_t (*run)(struct vl *vl, int64_t now);
	bool (*over)(struct vl *vl, int64_t now);
	/* Prints its part of the JSON object; returns whether all went well. */
	bool (*report)(struct vl *vl);
};

struct vl {
	const struct vl_options *options;
	const struct vl_app *app;
	struct vfe fe;
	struct vl_pair pairs[VFE_PAIRS];
	uint8_t *pattern; /* two periods and a frame, in the shared memory */
	uint8_t gateway_mac[6];
	bool gateway_known;
	uint16_t ip_id;
	size_t slot_size;
	struct vl_errors errors;
	void *state; /* the application's */
};

extern const struct vl_app vl_udp_app, vl_bulk_app, vl_trans_app, vl_stopped_app;

static inline bool vl_has(const struct vl *vl, unsigned int feature)
{
	return vl->fe.features >> feature & 1;
}

/* vuload_dev.c */
void vl_dev_open(struct vl *vl);
/* Stops all rings. False: the back-end keeps a frame that it has taken. */
bool vl_dev_stop(struct vl *vl);
/* Starts them again where they stopped. */
void vl_dev_go_on(struct vl *vl);
/* Resets the device and sets it up anew; frames that are under way are lost. */
void vl_dev_reset(struct vl *vl);
/* Where the next frame's bytes go: the virtio header, then a frame of up to the MTU. NULL: the ring
 * is full. */
uint8_t *vl_tx_begin(struct vl *vl, unsigned int pair);
/*
 * head_len: bytes in the slot behind the virtio header; body: more of the shared memory. Without
 * checksum offload it is copied behind them, as Linux scatters no frames then.
 */
void vl_tx_commit(struct vl *vl, unsigned int pair, size_t head_len, const void *body,
		  size_t body_len);
/* How many of the frames that were sent on a pair the back-end has taken. */
uint64_t vl_tx_done(struct vl *vl, unsigned int pair);
/* Hands up to limit received frames of each pair to take. Returns how many there were. */
unsigned int vl_rx(struct vl *vl, unsigned int limit,
		   void (*take)(struct vl *vl, struct vl_frame *frame, int64_t now), int64_t now);
void vl_kick(struct vl *vl);
/* Sleeps until the back-end has something, or until then. */
void vl_rest(struct vl *vl, int64_t until);

/* vuload_frame.c. Those that build write behind the virtio header of a slot. */
void vl_build_arp(struct vl *vl, uint8_t *slot);
/*
 * Ethernet, IPv4 and, in *l4, where the transport's header belongs; its checksum is done by
 * vl_seal(), when everything else is there. len: of IP's payload.
 */
uint8_t *vl_build_ip(struct vl *vl, uint8_t *slot, uint8_t proto, size_t len);
/*
 * The checksum: partial if that was negotiated. csum_off: in the L4 header; head_len: bytes of L4
 * in the slot; body: the rest.
 */
void vl_seal(struct vl *vl, uint8_t *slot, size_t csum_off, size_t head_len, const void *body,
	     size_t body_len);
/* Checks and takes a frame apart. False: it is not for the application. */
bool vl_parse(struct vl *vl, struct vl_frame *frame);
/* Copies from the payload; offset and len are inside it. */
void vl_payload_copy(const struct vl_frame *frame, size_t offset, void *to, size_t len);
/*
 * Whether len bytes of payload, behind the first skip, are the pattern's at offset; of each piece
 * only its ends are looked at unless all is asked for.
 */
bool vl_payload_ok(const struct vl *vl, const struct vl_frame *frame, size_t skip, size_t len,
		   uint64_t offset);
