/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the parts of the TCP translation share: arrival (tcp_in.c, tcp_payload.c), the queue towards
 * the socket (tcp_queue.c), the window offered to the guest (tcp_window.c), sending to the guest
 * (tcp_out.c), loss recovery towards it (tcp_recovery.c), and the life of a flow (tcp.c,
 * tcp_timers.c).
 */
#pragma once

#include "flow.h"
#include "hostsock.h"
#include "shard_internal.h"
#include "tcp.h"

/* Towards the guest, after RFC 6298 and 8985 but fit for a link that ends in the same machine. */
#define TCP_RTO_MIN_US	 200000u /* above Linux' delayed acknowledgement */
#define TCP_RTO_MAX_US	 60000000u
#define TCP_RTO_FIRST_US 1000000u
#define TCP_PTO_MIN_US                                                                             \
	40000u		     /* a busy machine keeps a guest waiting for longer than a wire would */
#define TCP_FIN_REPEATS	   4 /* of a FIN that is held: then it is acknowledged all the same */
#define TCP_LATE_US	   20000u  /* no timer is as late unless processors are lacking */
#define TCP_PTO_STEPS_MAX  3u	   /* its doublings: beyond, the time-out comes first */
#define TCP_DELAYED_ACK_US 200000u /* what a guest may wait for a second segment: RFC 8985 7.2 */
#define TCP_ACK_DELAY_US   1000u   /* ours: an answer on the way is worth so much patience */
#define TCP_RETRIES	   15	   /* as Linux' tcp_retries2 */
#define TCP_SYN_RETRIES	   6
#define TCP_IDLE_US	   (7440ull * 1000000) /* RFC 5382 REQ-5: at least 2 h 4 min */
/* Attempts to connect at a time, of all shards. With more than half of the local ports in use
 * towards one address, each connect() searches them one by one: a millisecond and more. */
#define TCP_CONNECTING_MAX   8192u
#define CONNECTING_SEARCH    256u    /* attempts looked at for one to a given address */
#define CONNECTING_LOOK	     16u     /* ... and of which the one to give way is chosen */
#define TCP_CONNECT_LEAST_US 250000u /* before a newer flow may take an attempt's place */
#define TCP_CONNECT_US	     (140ull * 1000000) /* beyond what the host's own retries take */
/* Long enough for five repetitions of a FIN: nothing else can be late on a link within one machine.
 */
#define TCP_TIME_WAIT_US   (10ull * 1000000)
#define TCP_BUFFER_LEAST   65536u /* what the usual tcp_rmem gives a socket at first */
#define TCP_BUFFER_MAX	   (8u << 20)
#define TCP_BUFFER_FAST	   512u /* bytes per microsecond */
#define TCP_POLL_MIN_US	   1000u
#define TCP_POLL_MAX_US	   1000000u
#define TCP_PERSIST_MIN_US 200000u

#define TCP_MSS_LEAST	 88  /* a lower one would only be a way to make us send headers */
#define TCP_TS_LEN	 12  /* the timestamps, padded, in each segment */
#define TCP_DEFAULT_MSS	 536 /* RFC 9293 3.7.1 */
#define TCP_DEFAULT_MSS6 1220
#define TCP_WSCALE	 8	      /* windows up to 16 MiB */
#define TCP_WINDOW_MAX	 (1u << 20)   /* with the least share, and as much more as that grows */
#define TCP_SHARE_LEAST	 (256u << 10) /* bytes of the pool that one flow may be promised */
#define TCP_SHARE_MAX	 (4u << 20)   /* by one whose guest is far */
#define TCP_CHUNKS_MAX	 2048u	      /* of one flow's islands: each may hold but one byte */
#define TCP_FAR_US	 2000u	      /* a round trip that no guest on this machine has */

/* tcp_queue.c: from the guest towards the socket. */

/* Takes in-order payload of a segment (seq == rcv_nxt): gathers the frame or, if the socket is
 * full, queues a copy. False if the pool had no room: nothing was taken. */
bool tcp_queue_in_order(struct shard *shard, struct flow *flow, struct frame *frame);
/* Keeps a frame's payload, which begins at seq, as far as it lies at or behind from, which is ahead
 * of rcv_nxt. False if the pool had no room. */
bool tcp_queue_island(struct shard *shard, struct flow *flow, const struct frame *frame,
		      uint32_t seq, uint32_t from);
/* The first island, or NULL. */
const struct chunk *tcp_queue_first_island(const struct tcp *tcp);
/* Whether part of [seq, end) is kept already, and its first contiguous part (RFC 2883 4.3). */
bool tcp_queue_overlap(struct tcp *tcp, uint32_t seq, uint32_t end, struct sack_block *dup);
/* Gives what is in order to the socket. 0, or -errno if the connection is broken. */
int tcp_queue_flush(struct shard *shard, struct flow *flow);
/* Copies what is still lent by the batch. */
void tcp_queue_settle(struct shard *shard, struct flow *flow);
void tcp_queue_drop(struct shard *shard, struct flow *flow);
/* Fills SACK blocks from the islands, the most recent first (RFC 2018 4). Returns their number. */
unsigned int tcp_queue_sack(const struct tcp *tcp, struct sack_block *blocks, unsigned int max);
/* Cuts bytes off a frame's payload: front from its beginning, and all behind keep. */
void tcp_trim(struct frame *frame, uint32_t front, uint32_t keep);

/* tcp_window.c: what the guest may send. */
void tcp_window_init(struct shard *shard, struct flow *flow);
/* Asks the socket, and moves rcv_adv if enough has come free. True if the guest should be told. */
bool tcp_window_update(struct shard *shard, struct flow *flow);
/* What was promised, of the pool of the shard that the flow comes to; and given back to that which
 * it leaves. */
void tcp_window_reserve(struct shard *shard, struct flow *flow);
void tcp_window_release(struct shard *shard, struct flow *flow);

/* tcp_payload.c: the payload and the FIN of an acceptable segment of an open flow. */
void tcp_take_payload(struct shard *shard, struct flow *flow, struct frame *frame,
		      const struct tcp_header *h);
/* [start, end) came twice. */
void tcp_note_duplicate(struct shard *shard, struct flow *flow, uint32_t start, uint32_t end);

/* tcp_in.c: what the guest's SYN says of itself. */
void tcp_answer_syn(struct shard *shard, struct flow *flow, const struct tcp_header *h);

/* tcp_out.c: to the guest. False: the guest's side is full. */
bool tcp_send_control(struct shard *shard, struct flow *flow, uint32_t seq, uint8_t flags);
bool tcp_send_data(struct shard *shard, struct flow *flow);
/* The last of a stream that the peer has reset: what the guest's window still lets go. */
bool tcp_send_rest(struct shard *shard, struct flow *flow);
/* A RST or an ACK that belongs to no flow. */
bool tcp_send_stray(struct shard *shard, const struct frame *frame, uint32_t seq, uint32_t ack,
		    uint8_t flags);

/* tcp_timers.c: sets the flow's timer for its nearest deadline. */
void tcp_arm(struct shard *shard, struct flow *flow);

/* tcp_attempts.c: the guest's attempt to connect is answered or given up. */
void tcp_attempt_over(struct shard *shard, const struct flow *flow);

/* tcp_runs.c: what is in flight to the guest. */
void runs_sent(struct tcp *tcp, uint32_t start, uint32_t end, uint32_t now_us);
/* The next run to be sent again, or NULL. */
struct tcp_run *runs_next_lost(struct tcp *tcp);
/* Part of a lost run was sent again. */
void runs_resent(struct tcp *tcp, uint32_t start, uint32_t end, uint32_t now_us);
void runs_remove(struct tcp *tcp, unsigned int i);
/* Neighbours of one fate become one run. */
void runs_tidy(struct tcp *tcp);
/* Makes place for two more runs by joining the neighbours that are the least loss. */
void runs_make_room(struct tcp *tcp);
/* Splits the run that holds seq, so that a run begins there. Returns its index. */
unsigned int runs_split_at(struct tcp *tcp, uint32_t seq);

/* tcp_recovery.c: what becomes of it. */
/* Takes an acknowledgement: cumulative, and SACK blocks. */
void tcp_recovery_ack(struct shard *shard, struct flow *flow, const struct tcp_header *h,
		      uint32_t acked);
/* The guest has opened its window over what is in flight: times that grew while it was closed say
 * nothing of the path. */
void tcp_recovery_reopened(struct tcp *tcp);
/* The guest said that segments of ours met congestion: reduces, once a window (RFC 3168 6.1.2). */
void tcp_recovery_ecn(struct tcp *tcp);
/* A hop takes packets of this size only: what is in flight goes again in shorter segments. */
void tcp_recovery_shorter(struct shard *shard, struct flow *flow, uint32_t mtu);
void tcp_recovery_timers(struct shard *shard, struct flow *flow);
void tcp_recovery_rto(struct shard *shard, struct flow *flow);
void tcp_recovery_tlp(struct shard *shard, struct flow *flow);
void tcp_recovery_reorder(struct shard *shard, struct flow *flow);
void tcp_rtt_sample(struct tcp *tcp, uint32_t rtt_us);
uint32_t runs_in_flight(const struct tcp *tcp);

/* The timestamp of a segment that leaves at a time. */
static inline uint32_t tcp_ts_at(const struct tcp *tcp, uint64_t at_us)
{
	return (uint32_t)(at_us / 1000) + tcp->ts_offset;
}

static inline uint32_t tcp_ts_now(const struct shard *shard, const struct tcp *tcp)
{
	return tcp_ts_at(tcp, shard->now_us);
}

/* RFC 6928 2. */
static inline uint32_t tcp_initial_window(const struct tcp *tcp)
{
	uint32_t least = 2u * tcp->mss, most = 10u * tcp->mss;

	least = least > 14600 ? least : 14600;
	return most < least ? most : least;
}

static inline bool tcp_is(const struct tcp *tcp, uint32_t bits)
{
	return (tcp->bits & bits) != 0;
}

/* An acknowledgement leaves in this run. */
static inline void tcp_want_ack(struct tcp *tcp)
{
	tcp->bits |= TCPB_ACK_NOW;
}
