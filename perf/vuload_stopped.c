/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One connection that sends, among others to a port on which nobody reads. Those are filled until
 * their windows are shut, kept so for a while, reset and opened anew, so that there is always
 * payload that no socket takes. Meanwhile rings are stopped and the device is reset, while frames
 * are under way.
 *
 * What is looked for is chains that the back-end keeps: how old the oldest is, time and again, and
 * whether all that it took are back when a ring has stopped.
 */
#include "vuload_tcp.h"

#include <stdio.h>
#include <stdlib.h>

#define FIRST_PORT 20000u
#define LAST_PORT  60000u
#define START_NS   (10 * NS_PER_S)
#define DRAIN_NS   (20 * NS_PER_S)
#define TIMER_NS   (20 * 1000 * 1000LL)
#define FULL_NS	   (100 * 1000 * 1000LL) /* for so long a connection stays full */
#define STOP_NS	   (30 * 1000 * 1000LL)	 /* between stops */
#define RESETS	   16u			 /* one stop in so many is a reset */
#define LATE_NS	   (10 * 1000 * 1000LL)
#define ENDLESS	   (UINT64_MAX / 2)
#define NUMBERS	   1024u /* frames of a ring that can be out */

_Static_assert(NUMBERS >= DRV_NUM_MAX, "each frame that is out has its time");

struct unread {
	struct vl_tcp tcp;
	int64_t full_ns; /* 0: it isn't */
};

struct stopped {
	int64_t begin_ns, open_ns, timer_ns, stop_ns;
	struct vl_tcp runner;
	uint16_t port; /* the last used */
	unsigned int n_unread, n_filled, n_stops, n_resets, n_kept;
	uint64_t n_looks, n_late;
	int64_t oldest_ns;
	uint64_t timed[VFE_PAIRS]; /* frames whose time was noted */
	int64_t times[VFE_PAIRS][NUMBERS];
	struct unread unread[LOAD_FLOWS_MAX];
};

static void open_unread(struct vl *vl, unsigned int i, int64_t now)
{
	struct stopped *stopped = vl->state;
	struct unread *unread = &stopped->unread[i];

	stopped->port =
		(uint16_t)(stopped->port < LAST_PORT ? stopped->port + 1u : FIRST_PORT + 1u);
	unread->full_ns = 0;
	vl_tcp_open(vl, &unread->tcp, stopped->port, (uint16_t)(vl->options->traffic.port + 1),
		    i % vl->options->pairs, now);
}

static void start(struct vl *vl)
{
	struct stopped *stopped = calloc(1, sizeof(*stopped));

	if (!stopped)
		load_die("memory");
	vl->state = stopped;
	stopped->port = FIRST_PORT;
	stopped->n_unread = vl->options->traffic.n_flows - 1;
	stopped->begin_ns = stopped->timer_ns = load_now_ns();
	vl_tcp_open(vl, &stopped->runner, FIRST_PORT, vl->options->traffic.port, 0,
		    stopped->begin_ns);
	for (unsigned int i = 0; i < stopped->n_unread; i++)
		open_unread(vl, i, stopped->begin_ns);
}

static void take(struct vl *vl, const struct vl_frame *frame, int64_t now)
{
	struct stopped *stopped = vl->state;

	if (frame->dst_port == FIRST_PORT) {
		vl_tcp_take(vl, &stopped->runner, frame, now);
		return;
	}
	for (unsigned int i = 0; i < stopped->n_unread; i++)
		if (stopped->unread[i].tcp.port == frame->dst_port)
			vl_tcp_take(vl, &stopped->unread[i].tcp, frame, now);
}

static bool time_is_over(const struct vl *vl, int64_t now)
{
	const struct stopped *stopped = vl->state;

	return (double)(now - stopped->open_ns) > vl->options->traffic.seconds * 1e9;
}

static void drive_runner(struct vl *vl, int64_t now)
{
	struct stopped *stopped = vl->state;
	struct vl_tcp *tcp = &stopped->runner;

	if (tcp->state != VL_TCP_OPEN || tcp->fin_wanted)
		return;
	if (!stopped->open_ns)
		stopped->open_ns = stopped->stop_ns = now;
	tcp->written = ENDLESS;
	if (time_is_over(vl, now)) {
		tcp->written = tcp->max;
		tcp->fin_wanted = true;
	}
}

/* Full is what has nothing under way and no window. */
static void drive_unread(struct vl *vl, unsigned int i, int64_t now)
{
	struct stopped *stopped = vl->state;
	struct unread *unread = &stopped->unread[i];
	struct vl_tcp *tcp = &unread->tcp;

	if (tcp->state == VL_TCP_CLOSED) {
		open_unread(vl, i, now);
	} else if (tcp->state == VL_TCP_OPEN && !unread->full_ns) {
		tcp->written = ENDLESS;
		if (tcp->una == tcp->nxt && tcp->limit <= tcp->nxt + tcp->segment_len) {
			unread->full_ns = now;
			stopped->n_filled++;
		}
	} else if (unread->full_ns && now - unread->full_ns > FULL_NS) {
		vl_tcp_abort(vl, tcp);
	}
}

/* A frame of each. Whether there was one. */
static bool push(struct vl *vl, int64_t now)
{
	struct stopped *stopped = vl->state;
	bool any = false;

	drive_runner(vl, now);
	any |= vl_tcp_push(vl, &stopped->runner, now);
	vl_tcp_ack(vl, &stopped->runner);
	for (unsigned int i = 0; i < stopped->n_unread; i++) {
		drive_unread(vl, i, now);
		any |= vl_tcp_push(vl, &stopped->unread[i].tcp, now);
		vl_tcp_ack(vl, &stopped->unread[i].tcp);
	}
	return any;
}

/* Notes when frames were sent, and how old the oldest is that the back-end has. */
static void look(struct vl *vl, int64_t now)
{
	struct stopped *stopped = vl->state;
	int64_t oldest = 0;

	for (unsigned int i = 0; i < vl->options->pairs; i++) {
		uint64_t done = vl_tx_done(vl, i), sent = vl->pairs[i].tx_frames;
		int64_t age;

		while (stopped->timed[i] < sent)
			stopped->times[i][++stopped->timed[i] % NUMBERS] = now;
		age = done < sent ? now - stopped->times[i][(done + 1) % NUMBERS] : 0;
		oldest = age > oldest ? age : oldest;
	}
	stopped->n_looks++;
	stopped->n_late += oldest > LATE_NS;
	stopped->oldest_ns = oldest > stopped->oldest_ns ? oldest : stopped->oldest_ns;
}

static void interrupt(struct vl *vl, int64_t now)
{
	struct stopped *stopped = vl->state;

	stopped->stop_ns = now + STOP_NS;
	vl_kick(vl); /* with frames under way */
	if (++stopped->n_stops % RESETS == 0) {
		stopped->n_resets++;
		vl_dev_reset(vl);
	} else {
		stopped->n_kept += !vl_dev_stop(vl);
		vl_dev_go_on(vl);
	}
}

static void timers(struct vl *vl, int64_t now)
{
	struct stopped *stopped = vl->state;

	vl_tcp_timer(vl, &stopped->runner, now);
	for (unsigned int i = 0; i < stopped->n_unread; i++)
		vl_tcp_timer(vl, &stopped->unread[i].tcp, now);
	stopped->timer_ns = now + TIMER_NS;
}

static int64_t run(struct vl *vl, int64_t now)
{
	struct stopped *stopped = vl->state;
	bool any = push(vl, now);

	look(vl, now);
	if (stopped->open_ns && now >= stopped->stop_ns && !stopped->runner.fin_wanted)
		interrupt(vl, now);
	if (now >= stopped->timer_ns)
		timers(vl, now);
	return any ? now : stopped->timer_ns;
}

static bool over(struct vl *vl, int64_t now)
{
	const struct stopped *stopped = vl->state;

	if (!stopped->open_ns)
		return now - stopped->begin_ns > START_NS;
	return stopped->runner.state == VL_TCP_CLOSED ||
	       now - stopped->open_ns > (int64_t)(vl->options->traffic.seconds * 1e9) + DRAIN_NS;
}

static bool report(struct vl *vl)
{
	const struct stopped *stopped = vl->state;
	bool whole = stopped->runner.fin_received && stopped->runner.fin_acked;

	printf("\"whole\": %s, \"sent\": %llu, \"filled\": %u, \"stops\": %u, \"resets\": %u, "
	       "\"kept\": %u, \"looks\": %llu, \"late\": %llu, \"oldest_ms\": %.3f, "
	       "\"resent\": %llu",
	       whole ? "true" : "false", (unsigned long long)stopped->runner.una, stopped->n_filled,
	       stopped->n_stops, stopped->n_resets, stopped->n_kept,
	       (unsigned long long)stopped->n_looks, (unsigned long long)stopped->n_late,
	       (double)stopped->oldest_ns / 1e6, (unsigned long long)vl_tcp_resent());
	return whole && !stopped->n_kept;
}

const struct vl_app vl_stopped_app = { start, take, run, over, report };
