/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A minimal TCP peer that connects. It keeps to the window that it is offered, has no congestion
 * control, acknowledges what it received once per run of frames and every 128 KiB, takes only
 * what is in order, and goes back to what is not acknowledged after three duplicate
 * acknowledgements, or 50 ms after the device took it.
 *
 * Positions are offsets in the stream: 0 is the first byte behind the SYN, and the FIN takes the
 * one behind the last.
 */
#pragma once

#include "vuload.h"

enum vl_tcp_state {
	VL_TCP_CLOSED, /* never opened, refused, reset, or all done */
	VL_TCP_SYN,    /* a SYN is out */
	VL_TCP_OPEN,   /* until both directions are done */
};

struct vl_tcp {
	enum vl_tcp_state state;
	uint16_t port, peer_port;
	unsigned int pair;
	uint32_t iss, irs;
	uint8_t peer_scale;
	size_t segment_len; /* payload of one segment on the wire */

	uint64_t written;	/* by the application, from offset 0 on */
	uint64_t una, nxt, max; /* acknowledged; to be sent next; sent at most */
	uint64_t limit;		/* the first that the peer's window does not take */
	bool fin_wanted, fin_sent, fin_acked;
	unsigned int duplicates;
	uint64_t recover;     /* no further going back before all up to here is acknowledged */
	int64_t progress_ns;  /* una moved, or the first byte went out */
	uint64_t sent_number; /* of its last frame, as the pair counts them */

	uint64_t rcv, acked; /* received in order; as last acknowledged */
	bool fin_received;
	bool ack_due;
};

/* Sends a SYN, or notes that it must be sent again. */
void vl_tcp_open(struct vl *vl, struct vl_tcp *tcp, uint16_t port, uint16_t peer_port,
		 unsigned int pair, int64_t now);
/*
 * Sends one frame of what was written and the window takes, of up to 64 KiB with segmentation
 * offload, or the FIN. False: there is nothing to send now.
 */
bool vl_tcp_push(struct vl *vl, struct vl_tcp *tcp, int64_t now);
/* Acknowledges, if that is due. */
void vl_tcp_ack(struct vl *vl, struct vl_tcp *tcp);
/* Sends a reset and forgets the connection. */
void vl_tcp_abort(struct vl *vl, struct vl_tcp *tcp);
/* A segment for this connection. Returns the bytes that are new and in order; they are the last of
 * the frame's payload. */
size_t vl_tcp_take(struct vl *vl, struct vl_tcp *tcp, const struct vl_frame *frame, int64_t now);
/* Sends again what was not acknowledged for too long. */
void vl_tcp_timer(struct vl *vl, struct vl_tcp *tcp, int64_t now);

/* Segments that were sent again, of all connections. */
uint64_t vl_tcp_resent(void);
/* How often that was as nothing was acknowledged in time, not by duplicate acknowledgements. */
uint64_t vl_tcp_timeouts(void);
