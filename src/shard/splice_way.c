/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One way of a spliced connection. splice() stops for ever at an urgent byte, so while one may be
 * ahead bytes are received and sent, and that byte is sent as an urgent one.
 */
#include "hostsock.h"
#include "splice_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#define ROUNDS	      8 /* reads of a run, so that no connection keeps the others waiting */
#define SPLICE_MAX    (1u << 24) /* asked for at a time: as much as the pipe takes */
#define SPLICE_LITTLE 16384u	 /* not worth a pipe */
#define PIPE_BEST                                                                                  \
	(1 << 20)	      /* the limit for ordinary users, see pipe-max-size in proc_sys_fs(5) \
			       */
#define PIPE_LEAST (64 << 10) /* what a pipe has where the user's quota isn't used up */

#define PIPE_RETRY_US 1000000u /* after a refusal */

/* Chunks of a read, by stage; behind the last one a pipe is used. */
static const uint8_t stages[STAGE_SPLICE] = { 1, 4, 16 };
#define CHUNKS_MAX 16

/* Pipes. */

static int make_pipe(int fds[2])
{
	int size = PIPE_BEST;

	if (pipe2(fds, O_NONBLOCK | O_CLOEXEC))
		return -errno;
	while (size >= PIPE_LEAST && fcntl(fds[1], F_SETPIPE_SZ, size) < 0)
		size /= 2;
	if (size >= PIPE_LEAST || fcntl(fds[1], F_GETPIPE_SZ) >= PIPE_LEAST)
		return 0;
	close(fds[0]);
	close(fds[1]);
	return -EPERM;
}

/* False: there is none to be had now. */
static bool pipe_take(struct shard *shard, int fds[2])
{
	struct splicer *splicer = shard->splicer;

	if (splicer->n_pipes) {
		const int *top = splicer->pipes[--splicer->n_pipes];

		fds[0] = top[0];
		fds[1] = top[1];
		return true;
	}
	if (splicer->n_pipes_made >= PIPES_MAX || shard->now_us < splicer->next_pipe_us)
		return false;
	if (make_pipe(fds)) {
		splicer->next_pipe_us = shard->now_us + PIPE_RETRY_US;
		return false;
	}
	splicer->n_pipes_made++;
	return true;
}

/* Only an empty one may be used again. */
static void pipe_give(struct splicer *splicer, const int fds[2], bool empty)
{
	if (empty && splicer->n_pipes < PIPES_KEPT) {
		splicer->pipes[splicer->n_pipes][0] = fds[0];
		splicer->pipes[splicer->n_pipes++][1] = fds[1];
		return;
	}
	close(fds[0]);
	close(fds[1]);
	splicer->n_pipes_made--;
}

/* Sending. Each returns 1 if nothing is left, 0 if the socket is full, or -errno; for what the
 * whole way returns, RECEIVER_LOST is more to do. */
#define RECEIVER_LOST 2

static int flush_pipe(struct shard *shard, struct splice_way *way, struct splice_side *to)
{
	ssize_t n = splice(way->pipe[0], NULL, to->fd, NULL, way->in_pipe,
			   SPLICE_F_NONBLOCK | SPLICE_F_MOVE);

	if (n < 0 && errno != EAGAIN)
		return -errno;
	if (n > 0) {
		way->in_pipe -= (uint32_t)n;
		count_add(&shard->counters, COUNT_SPLICED_BYTES, (uint64_t)n);
	}
	if (way->in_pipe) {
		to->writable = false;
		return 0;
	}
	pipe_give(shard->splicer, way->pipe, true);
	return 1;
}

static void drop_sent(struct shard *shard, struct splice_way *way, size_t n)
{
	while (!list_is_empty(&way->chunks)) {
		struct chunk *chunk = LIST_ENTRY(way->chunks.next, struct chunk, link);

		if (n < chunk->len) {
			chunk->off = (uint16_t)(chunk->off + n);
			chunk->len = (uint16_t)(chunk->len - n);
			return;
		}
		n -= chunk->len;
		pool_give(&shard->pool, chunk);
	}
}

static int flush_chunks(struct shard *shard, struct splice_way *way, struct splice_side *to)
{
	struct iovec iov[CHUNKS_MAX];
	unsigned int n_iov = 0;
	ssize_t n;

	for (struct list *l = way->chunks.next; l != &way->chunks && n_iov < CHUNKS_MAX;
	     l = l->next) {
		struct chunk *chunk = LIST_ENTRY(l, struct chunk, link);

		iov[n_iov++] = (struct iovec){ chunk->data + chunk->off, chunk->len };
	}
	n = hostsock_send(to->fd, iov, n_iov, false);
	if (n < 0 && n != -EAGAIN)
		return (int)n;
	if (n > 0) {
		drop_sent(shard, way, (size_t)n);
		count_add(&shard->counters, COUNT_SPLICED_BYTES, (uint64_t)n);
	}
	if (list_is_empty(&way->chunks))
		return 1;
	to->writable = false;
	return 0;
}

/*
 * The receiver is gone: what the way holds reaches nobody. What that side has sent before is still
 * to be read, as its reset has thrown away only what it had not sent yet.
 */
static int lose_receiver(struct shard *shard, struct splice_way *way, struct splice_side *to)
{
	splice_way_drop(shard, way);
	way->ended = way->done = true;
	to->broken = to->readable = to->hangup = true;
	return RECEIVER_LOST;
}

static int flush(struct shard *shard, struct splice_way *way, struct splice_side *to)
{
	int ret;

	if (splice_way_is_empty(way))
		return 1;
	if (!to->writable)
		return 0;
	ret = way->in_pipe ? flush_pipe(shard, way, to) : flush_chunks(shard, way, to);
	return ret < 0 ? lose_receiver(shard, way, to) : ret;
}

/* Reading. Each returns bytes, 0 at the end of the stream, or -errno. */

static void cut_chunks(struct shard *shard, struct chunk **chunks, unsigned int n_chunks,
		       struct splice_way *way, size_t n)
{
	for (unsigned int i = 0; i < n_chunks; i++) {
		size_t part = n < POOL_DATA ? n : POOL_DATA;

		chunks[i]->len = (uint16_t)part;
		n -= part;
		if (part)
			list_append(&way->chunks, &chunks[i]->link);
		else
			pool_give(&shard->pool, chunks[i]);
	}
}

/* *room: bytes that were asked for. */
static ssize_t read_chunks(struct shard *shard, struct splice_way *way, int fd, size_t *room)
{
	unsigned int wanted = way->stage < STAGE_SPLICE ? stages[way->stage] : CHUNKS_MAX,
		     n_chunks = 0;
	struct chunk *chunks[CHUNKS_MAX];
	struct iovec iov[CHUNKS_MAX];
	struct msghdr msg = { .msg_iov = iov };
	uint64_t most = pool_unpromised(&shard->pool) / 16 / POOL_DATA;
	ssize_t n;

	/* What windows promise is not for who holds it as long as a receiver doesn't read. */
	if (wanted > most)
		wanted = (unsigned int)most;
	while (n_chunks < wanted && (chunks[n_chunks] = pool_take(&shard->pool))) {
		iov[n_chunks] = (struct iovec){ chunks[n_chunks]->data, POOL_DATA };
		n_chunks++;
	}
	*room = n_chunks * POOL_DATA;
	if (!n_chunks)
		return -ENOBUFS;
	msg.msg_iovlen = n_chunks;
	n = recvmsg(fd, &msg, MSG_DONTWAIT);
	if (n < 0)
		n = -errno;
	cut_chunks(shard, chunks, n_chunks, way, n > 0 ? (size_t)n : 0);
	return n;
}

/* The pipe is taken and kept only if something came. */
static ssize_t read_pipe(struct shard *shard, struct splice_way *way, int fd)
{
	ssize_t n =
		splice(fd, NULL, way->pipe[1], NULL, SPLICE_MAX, SPLICE_F_NONBLOCK | SPLICE_F_MOVE);

	if (n < 0)
		n = -errno;
	if (n > 0)
		way->in_pipe = (uint32_t)n;
	else
		pipe_give(shard->splicer, way->pipe, true);
	if (n > 0 && n < (ssize_t)SPLICE_LITTLE)
		way->stage = STAGE_SPLICE - 1;
	return n;
}

/* A longer read if this one was full, a shorter one if little came. */
static void adapt(struct splice_way *way, size_t room, ssize_t n)
{
	if ((size_t)n == room) {
		if (way->stage < STAGE_SPLICE)
			way->stage++;
	} else if (way->stage > 0 && (size_t)n < room / 8) {
		way->stage--;
	}
}

static bool may_splice(const struct splice_way *way, const struct splice_side *from)
{
	return way->stage == STAGE_SPLICE && !from->urgent;
}

static ssize_t read_some(struct shard *shard, struct splice_way *way, struct splice_side *from)
{
	size_t room;
	ssize_t n;

	if (may_splice(way, from) && pipe_take(shard, way->pipe))
		return read_pipe(shard, way, from->fd);
	n = read_chunks(shard, way, from->fd, &room);
	if (n <= 0)
		return n;
	adapt(way, room, n);
	/* A short read has emptied the socket, or has met an urgent byte; then an event says so. */
	if ((size_t)n < room && !from->urgent && !from->hangup)
		from->readable = false;
	return n;
}

/* Whether the next byte is urgent: then it was sent (1), or could not be (0); -EAGAIN: it is not.
 */
static int pass_urgent(struct shard *shard, struct splice_way *way, struct splice_side *from,
		       struct splice_side *to)
{
	uint8_t byte;
	ssize_t n;

	if (!hostsock_at_mark(from->fd) || recv(from->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) != 1)
		return -EAGAIN;
	if (!to->writable)
		return 0;
	n = hostsock_send_urgent(to->fd, byte);
	if (n == -EAGAIN) {
		to->writable = false;
		return 0;
	}
	if (n < 0)
		return lose_receiver(shard, way, to);
	return recv(from->fd, &byte, 1, MSG_DONTWAIT) == 1 ? 1 : -EIO;
}

/* What the receiver takes at once, where no chunk may be held: as take(). */
static int pass_some(struct shard *shard, struct splice_way *way, struct splice_side *from,
		     struct splice_side *to, const struct iovec *iov)
{
	ssize_t n;

	if (!to->writable)
		return 0;
	n = hostsock_send(to->fd, iov, 1, false);
	if (n == -EAGAIN) {
		to->writable = false;
		return 0;
	}
	if (n < 0)
		return lose_receiver(shard, way, to);
	return hostsock_discard(from->fd, (size_t)n) == n ? 1 : -EIO;
}

/* Takes something from the socket. 1: it went well, 0: nothing more now, or -errno. */
static int take(struct shard *shard, struct splice_way *way, struct splice_side *from,
		struct splice_side *to)
{
	int urgent = from->urgent ? pass_urgent(shard, way, from, to) : -EAGAIN;
	uint8_t bytes[POOL_DATA];
	struct iovec iov = { .iov_base = bytes };
	ssize_t n;

	if (urgent != -EAGAIN)
		return urgent;
	n = read_some(shard, way, from);
	if (n == -ENOBUFS) {
		n = recv(from->fd, bytes, sizeof(bytes), MSG_PEEK | MSG_DONTWAIT);
		iov.iov_len = n > 0 ? (size_t)n : 0;
		if (n > 0)
			return pass_some(shard, way, from, to, &iov);
		n = n < 0 ? -errno : 0;
	}
	if (n > 0)
		return 1;
	/* splice() says 0 before an urgent byte too if the FIN is in the queue. */
	if (n == 0 && may_splice(way, from)) {
		from->urgent = true;
		return 1;
	}
	if (n == 0) {
		way->ended = true;
		/* Behind a FIN a read hides the reset that followed. */
		from->broken |= from->hangup && hostsock_error(from->fd) != 0;
		return 1;
	}
	if (n != -EAGAIN)
		return (int)n;
	from->readable = false;
	from->urgent = false;
	return 0;
}

int splice_way_run(struct shard *shard, struct splice_way *way, struct splice_side *from,
		   struct splice_side *to)
{
	for (unsigned int i = 0; i < ROUNDS; i++) {
		int ret = flush(shard, way, to);

		if (ret != 1)
			return ret;
		if (way->ended || !from->readable || !to->opened)
			return 0;
		ret = take(shard, way, from, to);
		if (ret != 1)
			return ret;
	}
	return 1;
}

void splice_way_init(struct splice_way *way)
{
	*way = (struct splice_way){ .pipe = { -1, -1 } };
	list_init(&way->chunks);
}

void splice_way_drop(struct shard *shard, struct splice_way *way)
{
	struct list *node;

	if (way->in_pipe)
		pipe_give(shard->splicer, way->pipe, false);
	way->in_pipe = 0;
	while ((node = list_take(&way->chunks)))
		pool_give(&shard->pool, LIST_ENTRY(node, struct chunk, link));
}

void splice_pipes_free(struct splicer *splicer)
{
	while (splicer->n_pipes) {
		const int *top = splicer->pipes[--splicer->n_pipes];

		close(top[0]);
		close(top[1]);
	}
}
