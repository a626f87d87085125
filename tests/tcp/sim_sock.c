/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The host's socket as the kernel has it, and the application at the connection's other end.
 */
#include "sim.h"

#include <errno.h>
#include <sys/epoll.h>

void sock_reset(struct sim_sock *sock)
{
	*sock = (struct sim_sock){ .fd = 7,
				   .reset_at_us = NEVER,
				   .connect_at_us = NEVER,
				   .turn_at_us = NEVER,
				   .out_at_us = NEVER,
				   .urgent_at = UINT64_MAX,
				   .room_percent = 50,
				   .sndbuf = 65536,
				   .rcvbuf = 65536,
				   .read_chunk = 65536,
				   .step_us = 100 };
}

void sock_raise(struct sim_sock *sock, uint32_t events)
{
	/* The kernel reports what stands now with each edge. */
	if (sock->sndbuf > sock->written - sock->taken)
		events |= EPOLLOUT;
	if (sock->arrived > sock->consumed || sock->eof)
		events |= EPOLLIN;
	if (sock->urgent_at < sock->arrived)
		events |= EPOLLPRI;
	if (sock->eof)
		events |= EPOLLRDHUP;
	if (sock->eof && sock->shut)
		events |= EPOLLHUP;
	if (sock->error)
		events |= EPOLLERR;
	if (sock->reset)
		events |= EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLHUP;
	sock->events |= events;
}

static struct sim_sock *sock_of(int fd)
{
	struct sim_sock *sock = &sim_world->sock;

	if (fd != sock->fd || !sock->open)
		world_fail(sim_world, "a call on descriptor %d, which is not open", fd);
	return sock;
}

static uint64_t free_room(const struct sim_sock *sock)
{
	uint64_t used = sock->written - sock->taken;

	return used < sock->sndbuf ? sock->sndbuf - used : 0;
}

ssize_t hostsock_send(int fd, const struct iovec *iov, unsigned int n_iov, bool more)
{
	struct world *w = sim_world;
	struct sim_sock *sock = sock_of(fd);
	uint64_t room = free_room(sock);
	ssize_t n = 0;

	(void)more;
	if (sock->reset)
		return -EPIPE;
	if (sock->shut) {
		world_fail(w, "a write after the sending half was shut down");
		return -EPIPE;
	}
	if (!room || (sock->eagain && rng_chance(&w->rng, sock->eagain))) {
		sock->want_out = true;
		if (room) /* as if it had been full for a moment */
			sock->out_at_us = w->shard->now_us + rng_below(&w->rng, 3000);
		return -EAGAIN;
	}
	if (sock->eagain && rng_chance(&w->rng, sock->eagain)) {
		room = 1 + rng_below(&w->rng, (uint32_t)room);
		sock->want_out = true;
		sock->out_at_us = w->shard->now_us + rng_below(&w->rng, 3000);
	}
	for (unsigned int i = 0; i < n_iov && room; i++) {
		size_t part = iov[i].iov_len < room ? iov[i].iov_len : room;

		if (!pattern_matches(FROM_GUEST, sock->written, iov[i].iov_base, part))
			world_fail(w,
				   "wrong bytes written to the socket at offset %llu, %zu of them",
				   (unsigned long long)sock->written, part);
		sock->written += part;
		room -= part;
		n += (ssize_t)part;
		if (part < iov[i].iov_len)
			sock->want_out = true;
	}
	world_note(w, "socket takes %zd bytes, %llu in all", n, (unsigned long long)sock->written);
	if (w->on_sock)
		w->on_sock(w, "write", sock->written);
	if (!sock->scripted && sock->turn_at_us == NEVER)
		sock->turn_at_us = w->shard->now_us + 1 + rng_below(&w->rng, sock->step_us);
	return n;
}

ssize_t hostsock_send_urgent(int fd, uint8_t byte)
{
	struct iovec iov = { &byte, 1 };
	ssize_t n = hostsock_send(fd, &iov, 1, false);

	if (n == 1) {
		if (!sim_world->no_guest && sim_world->sock.written > sim_world->guest.urgent_last)
			world_fail(sim_world, "an urgent byte at %llu that the guest did not mark",
				   (unsigned long long)sim_world->sock.written);
		sim_world->sock.urgent_sent = sim_world->sock.written;
		if (sim_world->on_sock)
			sim_world->on_sock(sim_world, "urgent", sim_world->sock.written);
	}
	return n;
}

/* Bytes readable from offset from on, no farther than the urgent byte's beginning unless it is the
 * first. */
static uint64_t readable(const struct sim_sock *sock, uint64_t from, uint64_t want)
{
	uint64_t n = sock->arrived > from ? sock->arrived - from : 0;

	n = n < want ? n : want;
	if (sock->urgent_at != UINT64_MAX && from < sock->urgent_at && from + n > sock->urgent_at)
		n = sock->urgent_at - from;
	return n;
}

ssize_t hostsock_peek(int fd, const struct iovec *iov, unsigned int n_iov, uint32_t skip,
		      uint8_t *discard)
{
	struct world *w = sim_world;
	struct sim_sock *sock = sock_of(fd);
	bool kernel = w->shard->peek_off;
	uint64_t start = sock->consumed + (kernel ? sock->peek_off : 0), from = start + skip;
	uint64_t met, n, done = 0, want = 0;

	(void)discard;
	if (kernel && skip)
		world_fail(w, "a skip although the kernel knows the peek offset");
	for (unsigned int i = 0; i < n_iov; i++)
		want += iov[i].iov_len;
	met = readable(sock, start, skip + want);
	n = met > skip ? met - skip : 0;
	if (!n && sock->error) {
		int error = sock->error;

		sock->error = 0;
		return -error;
	}
	if (!n)
		return sock->eof && start + met == sock->arrived ? 0 : -EAGAIN;
	if (!sock->scripted && sock->eagain && rng_chance(&w->rng, sock->eagain)) {
		sock->out_at_us = w->shard->now_us + rng_below(&w->rng, 3000);
		return -EAGAIN; /* as if all had come after this call */
	}
	for (unsigned int i = 0; i < n_iov && done < n; i++) {
		uint64_t part = n - done < iov[i].iov_len ? n - done : iov[i].iov_len;

		memcpy(iov[i].iov_base, pattern_at(FROM_HOST, from + done, part), part);
		done += part;
	}
	if (kernel)
		sock->peek_off += (uint32_t)done;
	return (ssize_t)done;
}

int hostsock_set_peek(int fd, uint32_t offset)
{
	struct sim_sock *sock = sock_of(fd);

	if (!sim_world->shard->peek_off)
		return -EOPNOTSUPP;
	sock->peek_off = offset;
	return 0;
}

ssize_t hostsock_discard(int fd, size_t len)
{
	struct world *w = sim_world;
	struct sim_sock *sock = sock_of(fd);
	uint64_t n = readable(sock, sock->consumed, len);

	if (!n)
		return sock->eof ? 0 : -EAGAIN;
	sock->consumed += n;
	sock->peek_off = n < sock->peek_off ? sock->peek_off - (uint32_t)n : 0;
	if (sock->urgent_at != UINT64_MAX && sock->consumed > sock->urgent_at)
		sock->urgent_at = UINT64_MAX;
	/* What the guest has not acknowledged is lost for ever now. */
	if (!w->no_guest && w->guest.state == GUEST_OPEN &&
	    (uint32_t)sock->consumed > w->guest.rcv_nxt - w->guest.irs - 1)
		world_fail(w, "byte %llu was dropped from the socket and never acknowledged",
			   (unsigned long long)sock->consumed);
	if (!sock->scripted && sock->turn_at_us == NEVER)
		sock->turn_at_us = w->shard->now_us + 1 + rng_below(&w->rng, sock->step_us);
	return (ssize_t)n;
}

uint32_t hostsock_pending(int fd)
{
	const struct sim_sock *sock = sock_of(fd);

	return (uint32_t)(sock->arrived - sock->consumed);
}

bool hostsock_at_mark(int fd)
{
	const struct sim_sock *sock = sock_of(fd);

	return sock->urgent_at == sock->consumed && sock->arrived > sock->urgent_at;
}

uint32_t hostsock_room(int fd)
{
	struct sim_sock *sock = sock_of(fd);

	return (uint32_t)(free_room(sock) * sock->room_percent / 100);
}

void hostsock_info(int fd, struct hostsock_info *info)
{
	struct sim_sock *sock = sock_of(fd);

	*info = (struct hostsock_info){ .fin_acked = sock->fin_acked || sock->reset,
					.ended = sock->reset,
					.delivered_ce = sock->delivered_ce };
}

int hostsock_error(int fd)
{
	struct sim_sock *sock = sock_of(fd);
	int error = sock->error;

	sock->error = 0;
	return error;
}

bool hostsock_is_own(int fd, uint16_t port)
{
	(void)fd;
	(void)port;
	return false;
}

int hostsock_shutdown_send(int fd)
{
	struct world *w = sim_world;
	struct sim_sock *sock = sock_of(fd);

	if (sock->shut)
		world_fail(w, "the sending half was shut down twice");
	world_note(w, "socket shut down for sending at %llu", (unsigned long long)sock->written);
	sock->shut = true;
	if (w->on_sock)
		w->on_sock(w, "shutdown", sock->written);
	if (!sock->scripted && sock->turn_at_us == NEVER)
		sock->turn_at_us = w->shard->now_us + 1 + rng_below(&w->rng, sock->step_us);
	return 0;
}

void hostsock_close(int fd)
{
	struct sim_sock *sock = sock_of(fd);

	world_note(sim_world, "socket closed");
	sock->open = false;
	sock->closed = true;
	if (sim_world->on_sock)
		sim_world->on_sock(sim_world, "close", 0);
}

void hostsock_abort(int fd)
{
	struct sim_sock *sock = sock_of(fd);

	world_note(sim_world, "socket aborted");
	sock->open = false;
	sock->aborted = true;
	if (sim_world->on_sock)
		sim_world->on_sock(sim_world, "abort", 0);
}

void hostsock_raise_receive(int fd, uint32_t len)
{
	struct sim_sock *sock = sock_of(fd);

	sock->rcvbuf = len > sock->rcvbuf ? len : sock->rcvbuf;
	if (sim_world->on_sock)
		sim_world->on_sock(sim_world, "raise", len);
}

void hostsock_keepalive(int fd, int idle_s)
{
	sock_of(fd)->keepalive = (uint32_t)idle_s;
	if (sim_world->on_sock)
		sim_world->on_sock(sim_world, "keepalive", 0);
}

static void peer_reads(struct world *w, struct sim_sock *sock)
{
	uint64_t waiting = sock->written - sock->taken;
	uint32_t n;

	if (waiting) {
		n = 1 + rng_below(&w->rng, sock->read_chunk);
		sock->taken += n < waiting ? n : waiting;
	}
	if (sock->shut && sock->written == sock->taken && !sock->fin_acked) {
		sock->fin_acked = true;
		if (sock->fin_event)
			sock_raise(sock, EPOLLOUT);
	}
	/* sk_stream_write_space(): a third of the buffer is free. */
	if (sock->want_out && free_room(sock) >= sock->sndbuf / 3) {
		sock->want_out = false;
		sock_raise(sock, EPOLLOUT);
	}
}

static void peer_writes(struct world *w, struct sim_sock *sock)
{
	uint64_t left = sock->peer_total - sock->arrived;
	uint64_t held = sock->arrived - sock->consumed;
	uint64_t room = held < sock->rcvbuf ? sock->rcvbuf - held : 0;
	uint64_t n = 1 + rng_below(&w->rng, sock->read_chunk);

	n = n < left ? n : left;
	n = n < room ? n : room;
	if (n) {
		sock->arrived += n;
		/* A mark that was not read is forgotten for a newer one. */
		if (rng_chance(&w->rng, sock->urgent)) {
			sock->urgent_at = sock->arrived - 1;
			sock->urgent_last = sock->arrived;
			world_note(w, "host's peer marks byte %llu",
				   (unsigned long long)sock->urgent_at);
			sock_raise(sock, EPOLLPRI);
		}
		sock_raise(sock, EPOLLIN);
	}
	if (sock->peer_fin && !sock->eof && sock->arrived == sock->peer_total &&
	    sock->taken >= sock->close_after) {
		sock->eof = true;
		world_note(w, "host's peer has closed at %llu", (unsigned long long)sock->arrived);
		sock_raise(sock, EPOLLIN | EPOLLRDHUP);
	}
}

/* Whether the peer will do anything by itself. */
static bool peer_has_work(const struct sim_sock *sock)
{
	return sock->written != sock->taken || (sock->shut && !sock->fin_acked) ||
	       (sock->arrived < sock->peer_total &&
		sock->arrived - sock->consumed < sock->rcvbuf) ||
	       (sock->peer_fin && !sock->eof && sock->arrived == sock->peer_total &&
		sock->taken >= sock->close_after);
}

static void connected(struct world *w, struct sim_sock *sock)
{
	sock->connect_at_us = NEVER;
	if (sock->connect_error) {
		sock->error = sock->connect_error;
		sock->reset = true;
		sock_raise(sock, EPOLLERR | EPOLLHUP);
		return;
	}
	sock_raise(sock, EPOLLOUT);
	if (!sock->scripted)
		sock->turn_at_us = w->shard->now_us + 1;
}

void sock_turn(struct world *w)
{
	struct sim_sock *sock = &w->sock;
	uint64_t now = w->shard->now_us;

	if (!sock->open)
		return;
	if (sock->connect_at_us <= now)
		connected(w, sock);
	if (sock->reset_at_us <= now) {
		sock->reset_at_us = NEVER;
		sock->reset = true;
		sock->error = ECONNRESET;
		sock->turn_at_us = NEVER;
		world_note(w, "host's peer resets");
		sock_raise(sock, EPOLLERR);
	}
	if (sock->out_at_us <= now) {
		sock->out_at_us = NEVER;
		sock_raise(sock, EPOLLOUT | EPOLLIN);
	}
	if (sock->turn_at_us <= now) {
		peer_reads(w, sock);
		peer_writes(w, sock);
		sock->turn_at_us = NEVER;
		if (peer_has_work(sock))
			sock->turn_at_us = now + 1 + rng_below(&w->rng, sock->step_us) +
					   (rng_chance(&w->rng, sock->pause) ? sock->pause_us : 0);
	}
}

uint64_t sock_next(const struct world *w)
{
	const struct sim_sock *sock = &w->sock;
	uint64_t next = NEVER;

	if (!sock->open)
		return NEVER;
	next = sock->connect_at_us < next ? sock->connect_at_us : next;
	next = sock->reset_at_us < next ? sock->reset_at_us : next;
	next = sock->out_at_us < next ? sock->out_at_us : next;
	next = sock->turn_at_us < next ? sock->turn_at_us : next;
	return next;
}
