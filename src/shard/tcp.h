/* SPDX-License-Identifier: Apache-2.0 */
/*
 * TCP translation. Towards the guest we are a TCP endpoint without buffers of its own: what the
 * guest has not acknowledged stays in the host socket's receive buffer (it is peeked at), and what
 * the guest sends goes straight to the socket's send buffer; only what the socket does not take,
 * and what came out of order, is kept in chunks of the shard's pool. docs/tcp.md tells the whole
 * story.
 *
 *   rx (guest to socket)   irs  host_nxt           rcv_nxt        rcv_adv
 *                           | given | queued in order | may come    |
 *   tx (socket to guest)   iss  sock_seq  snd_una     snd_nxt       snd_una + snd_wnd
 *                           | dropped from the socket | in flight   | may go |
 */
#pragma once

#include "list.h"
#include "tcp_options.h"

#include "taploom/counters.h"
#include "taploom/flow_key.h"

#include <stdbool.h>
#include <stdint.h>

struct flow;
struct frame;
struct shard;

enum tcp_state {
	TCPS_CONNECTING, /* the guest's SYN is here, the host's socket connects: SYN retransmissions
			    are dropped */
	TCPS_SYN_SENT,	 /* accepted from the host; our SYN is on its way to the guest */
	TCPS_SYN_RCVD,	 /* our SYN-ACK is on its way to the guest */
	TCPS_OPEN,	 /* data both ways; how far each half is closed is in the flags */
	TCPS_TIME_WAIT,	 /* both FINs acknowledged, the guest closed second or together: ACKs are
			    repeated */
};

enum tcp_bits {
	TCPB_ACK_NOW = 1 << 0,	 /* an ACK must go out with this run */
	TCPB_PROMPT = 1 << 27,	 /* the host answers the guest within TCP_ACK_DELAY_US */
	TCPB_DRAINED = 1 << 1,	 /* the last peek found nothing more: wait for EPOLLIN */
	TCPB_HOST_FULL = 1 << 2, /* the socket took less than offered: wait for EPOLLOUT */
	TCPB_HOST_EOF = 1 << 3,	 /* the peer's FIN was read: fin_seq is valid */
	TCPB_FIN_SENT = 1 << 4,	 /* our FIN went to the guest at least once */
	TCPB_FIN_ACKED = 1 << 5, /* the guest acknowledged it */
	TCPB_GUEST_FIN = 1 << 6, /* the guest's FIN is in order; rcv_nxt is behind it */
	TCPB_HOST_SHUT = 1 << 7, /* the socket's sending half is shut down */
	TCPB_FIN_HELD =
		1
		<< 8, /* the guest's FIN is not acknowledged until the peer has acknowledged ours */
	TCPB_SACK = 1 << 9, /* negotiated with the guest */
	TCPB_TS = 1 << 10,
	TCPB_RECOVERY = 1 << 11,   /* until recovery_end is acknowledged */
	TCPB_RTO_TRIED = 1 << 12,  /* in recovery because of a time-out that may prove spurious */
	TCPB_TLP_SENT = 1 << 13,   /* one probe per tail */
	TCPB_SYN_DUE = 1 << 14,	   /* our SYN or SYN-ACK is to be sent when there is room */
	TCPB_RX_URGENT = 1 << 15,  /* rx_urgent is ahead of what the socket has been given */
	TCPB_TX_URGENT = 1 << 16,  /* tx_urgent is ahead of snd_una */
	TCPB_DSACK = 1 << 17,	   /* dsack is to be reported with the next ACK */
	TCPB_ECN = 1 << 18,	   /* negotiated with the guest */
	TCPB_ECE = 1 << 19,	   /* CE was seen, ECE is sent until CWR */
	TCPB_ABORT = 1 << 20,	   /* a RST to the guest is due, then the flow ends */
	TCPB_WND_UPDATE = 1 << 21, /* the window may have opened: look at it in this run */
	TCPB_DEAD = 1 << 22,	   /* to be freed at the end of this run */
	TCPB_HOST_RDHUP = 1 << 24, /* the peer's FIN is in the receive buffer: a short peek is
				      followed by the end */
	TCPB_NO_LOSS = 1 << 28,	   /* in recovery because of the guest's ECE alone */
	TCPB_WIDE = 1 << 30,	   /* more was offered than a SYN can say */
	TCPB_FIN_TOLD = 1 << 29, /* it is acknowledged though it is held: the guest would give up */
	TCPB_CWR = 1 << 26, /* the next new data tells a guest that knows ECN that we reduced */
	TCPB_HOST_PRI = 1 << 25,  /* the socket has urgent data that was not met yet */
	TCPB_TIME_WAIT = 1 << 23, /* after the close, stay for the guest's FIN to be repeated */
};

/* A run of sent bytes with one fate: the scoreboard of RFC 6675, with RACK's times (RFC 8985). */
struct tcp_run {
	uint32_t start;
	uint32_t end;
	uint32_t sent_us; /* low bits of the shard's clock, of the last transmission */
	uint8_t flags;
};

enum tcp_run_flags { RUN_SACKED = 1, RUN_LOST = 2, RUN_RETRANS = 4 };

#define TCP_RUNS 128

struct tcp {
	uint8_t state; /* enum tcp_state */
	uint8_t retries;
	uint8_t snd_shift; /* the guest's window scale */
	uint8_t rcv_shift; /* ours */
	uint32_t bits;	   /* enum tcp_bits */
	uint16_t mss; /* payload bytes per segment to the guest, options of data segments taken off
		       */

	/* To the guest. */
	uint32_t iss;
	uint32_t sock_seq; /* sequence number of the first byte in the socket's receive buffer */
	uint32_t peek_seq; /* that at which the kernel's peek offset stands */
	uint32_t snd_una;
	uint32_t snd_nxt;     /* behind all that was ever sent */
	uint32_t snd_wnd;     /* in bytes */
	uint32_t snd_wnd_max; /* the largest seen: for silly windows */
	uint32_t snd_wl1, snd_wl2;
	uint32_t fin_seq;
	uint32_t cwnd;		 /* bytes; at most twice snd_wnd_max */
	uint32_t ssthresh;	 /* what it was after the last loss; 0: there was none */
	uint32_t prior_ssthresh; /* before that loss, which may prove needless */
	uint32_t recovery_end;
	uint32_t tx_urgent;
	uint32_t buffer;  /* bytes that the socket's receive buffer is known to hold */
	uint32_t run_len; /* bytes that the last run found in the socket: the next asks for as many
			   */
	uint8_t dup_acks;
	uint8_t n_runs;
	struct tcp_run runs[TCP_RUNS]; /* sorted, without gaps, from snd_una to snd_nxt */

	/* Round trips to the guest, RFC 6298, in microseconds; srtt 0: none measured. */
	uint32_t srtt_us;
	uint32_t rttvar_us;
	uint32_t min_rtt_us;
	uint32_t rto_us;
	uint32_t rack_sent_us; /* when the most recently sent of the delivered was sent */
	uint32_t rack_end;
	uint32_t rack_rtt_us;
	bool rack_valid;
	bool no_room; /* what was lost found the guest's side full when it was tried last */
	bool put_off; /* the time-out was late, once since something was acknowledged */
	bool reordering_seen;
	uint8_t reo_steps;   /* reordering window in quarters of min_rtt */
	uint8_t pto_steps;   /* doublings of the least time to a tail-loss probe */
	uint32_t tlp_end;    /* of the segment that was the last probe */
	uint32_t tlp_ts;     /* the timestamp that it had, or one just before it */
	uint32_t retrans_ts; /* timestamp of the first retransmission of this recovery, for Eifel */

	/* Deadlines, 0: none. The flow's one timer is armed for the nearest. */
	uint64_t rto_due_us;
	uint64_t tlp_due_us;
	uint64_t reo_due_us;
	uint64_t persist_due_us;
	uint64_t poll_us;
	uint64_t idle_due_us;
	uint64_t state_due_us; /* of TIME_WAIT, of connecting */
	uint64_t ack_due_us;   /* an acknowledgement waits for data to go with */
	uint32_t poll_step_us;
	uint16_t
		keepalive_s; /* what the host's socket was told, as the guest does it; 0: nothing */
	uint32_t persist_step_us;

	/* From the guest. */
	uint32_t irs;
	uint32_t host_nxt; /* the next to be given to the socket */
	uint32_t rcv_nxt;
	uint32_t rcv_adv;	/* behind the window as offered */
	uint32_t last_ack;	/* the last acknowledgement sent */
	uint32_t last_wnd;	/* and the window with it, in bytes */
	uint32_t guest_fin_seq; /* of a FIN that came ahead of data; valid with fin_ahead */
	bool fin_ahead;
	bool deaf; /* the guest has reset, but the peer has still to get what was acknowledged */
	uint8_t fin_repeats; /* of the guest's FIN while it is held */
	uint32_t rx_urgent;
	uint32_t reserved;  /* bytes of the pool that rcv_adv promises */
	uint32_t share;	    /* bytes of it that it may promise; grows with the path to the guest */
	uint32_t round_seq; /* rcv_nxt and the time when the last look at that path began */
	uint32_t round_us;
	uint32_t send_room;    /* as hostsock_room() said when last asked ... */
	uint32_t given;	       /* ... and bytes given to the socket since */
	uint32_t bulk_period;  /* in which it was last counted as sending much */
	uint32_t delivered_ce; /* segments that the peer said met congestion, as last told */
	struct list queue;     /* struct chunk, sorted: in order up to rcv_nxt, then islands */
	uint32_t queued;       /* bytes in it */
	uint32_t n_chunks;
	uint32_t
		island_recent; /* start of the island that changed last, for the first SACK block */
	struct sack_block dsack;
	uint32_t ts_recent;
	uint64_t ts_recent_us;
	uint32_t ts_offset;

	/* This batch's in-order frames, not yet given to the socket; lent by the batch. */
	struct frame *gather_first;
	struct frame *gather_last;
	uint32_t gathered;
};

#define SEQ_LT(a, b) ((int32_t)((a) - (b)) < 0)
#define SEQ_LE(a, b) ((int32_t)((a) - (b)) <= 0)
#define SEQ_GT(a, b) SEQ_LT(b, a)
#define SEQ_GE(a, b) SEQ_LE(b, a)

/* Begins a flow for a SYN from the guest, without a socket: the caller connects one and sets
 * flow->fd. */
void tcp_open_guest(struct shard *shard, struct flow *flow, const struct frame *frame);

/* Prepares a flow for a connection accepted on the host, flow->fd. */
void tcp_open_host(struct shard *shard, struct flow *flow);
/* Begins it: sends a SYN to the guest. */
void tcp_begin_host(struct shard *shard, struct flow *flow);

/* What connect() said, at once or later: 0, or a positive errno, which the guest learns as a host
 * would. */
void tcp_connected(struct shard *shard, struct flow *flow, int error);

/* Whether a SYN may begin a new flow in the place of this one, which is in TIME_WAIT (RFC
 * 9293 3.10.7.4, RFC 6191). */
bool tcp_may_reuse(const struct tcp *tcp, const struct frame *frame);

/* Whether a flow may go to another shard: it is open, and no frame of a batch under way is lent to
 * it. What it has in the pool goes with it. */
bool tcp_may_move(const struct tcp *tcp);
/* Gives back what the flow has been promised by the shard that it leaves. */
void tcp_leave(struct shard *shard, struct flow *flow);
/* Promises the same at the shard that it comes to. */
void tcp_join(struct shard *shard, struct flow *flow);

/* Takes one segment of the flow; the frame's payload is given to the socket by tcp_run() before the
 * batch ends. */
void tcp_segment(struct shard *shard, struct flow *flow, struct frame *frame);

/* Acts on flow->events, gives payload to the socket, acknowledges, sends what may be sent, sets the
 * timer. The flow may be closed afterwards. False if the guest's side is full and the flow must be
 * run again when there is room. */
bool tcp_run(struct shard *shard, struct flow *flow);

/* An event or a deadline: the flow is run within this turn, but if it waits for room on the guest's
 * side and has nothing else to do. */
void tcp_touch(struct shard *shard, struct flow *flow);

/* The flow's timer fired: notes what is due for the next tcp_run(). */
void tcp_timer(struct shard *shard, struct flow *flow);

/* Ends the flow at once: resets the host's side, and the guest's with a RST if tell_guest. */
void tcp_abort(struct shard *shard, struct flow *flow, bool tell_guest);

/* The guest is gone. What it closed before is in the socket, which is left to deliver it; all else
 * is cut off by a reset. */
void tcp_guest_gone(struct shard *shard, struct flow *flow);

/* Answers a segment of no flow with a RST (RFC 9293 3.10.7.1). */
void tcp_refuse(struct shard *shard, const struct frame *frame);

/* Makes room for a new flow, if few entries are left, by ending the flow that has waited longest in
 * TIME_WAIT, or else longest for its connect(). */
void tcp_recycle(struct shard *shard);
/* The same for a flow of datagrams, for which no connect() ends. Whether one was ended. */
bool tcp_recycle_ended(struct shard *shard);

/* Whether one more of the guest's attempts to connect may begin; the longest of them may end for
 * it. Half of all places are the most for one address and port.
 */
bool tcp_may_connect(struct shard *shard, const struct flow_key *to);
/* Whether so many attempts are under way that further ones take the place of others. */
bool tcp_is_crowded(const struct shard *shard);
/* An attempt begins: the flow leaves the shard's owned ones for its connecting ones. */
void tcp_connecting(struct shard *shard, struct flow *flow);

/* Ends the attempt to connect that has lasted longest, without a word to the guest. False if none
 * has lasted for long. */
bool tcp_drop_connecting(struct shard *shard);
