/* SPDX-License-Identifier: Apache-2.0 */
#include "ns_thread.h"

#include "taploom/log.h"
#include "taploom/ring.h"

#include <errno.h>
#include <linux/capability.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#define POOL_SIZE  64u /* sockets of a kind and shard; a power of two */
#define POOL_FIRST 2u  /* made before anybody asks: descriptors are not free */
#define POOL_LOW   32u /* a pool that is asked is refilled from here on */

/* One kind of sockets for one shard: a ring of descriptors from the namespace thread to the shard.
 */
struct ns_pool {
	_Alignas(CACHE_LINE) _Atomic uint32_t
		head;	   /* release in pool_fill(), acquire in ns_thread_take() */
	_Atomic int error; /* of the last fill, 0 or -errno; written by the thread */
	_Alignas(CACHE_LINE) _Atomic uint32_t
		tail;	      /* release in ns_thread_take(), acquire in pool_fill() */
	_Atomic bool wanted;  /* set by the shard, cleared by the thread: a fill is due */
	_Atomic bool starved; /* set by the shard, cleared by the thread: a wake-up is due */
	int fds[POOL_SIZE];
};

struct ns_thread {
	pthread_t thread;
	const struct netns *ns;
	int cpu;
	int wake_fd; /* an eventfd: something is wanted */
	_Atomic bool stop;
	unsigned int n_shards;
	void (*refilled)(void *arg, unsigned int shard);
	void *refilled_arg;
	struct ns_pool (*pools)[NS_SOCKETS]; /* n_shards */

	pthread_mutex_t lock; /* of the call below */
	pthread_cond_t done;
	int (*function)(void *arg); /* NULL: no call is under way */
	void *function_arg;
	int result;
	bool finished;
};

static const struct {
	int family;
	int type;
} kinds[NS_SOCKETS] = {
	[NS_TCP4] = { AF_INET, SOCK_STREAM },
	[NS_TCP6] = { AF_INET6, SOCK_STREAM },
	[NS_UDP4] = { AF_INET, SOCK_DGRAM },
	[NS_UDP6] = { AF_INET6, SOCK_DGRAM },
};

static void wake(struct ns_thread *thread)
{
	eventfd_write(thread->wake_fd, 1);
}

static void pool_fill(struct ns_pool *pool, enum ns_socket kind, uint32_t want)
{
	uint32_t head = atomic_load_explicit(&pool->head, memory_order_relaxed);
	uint32_t tail = atomic_load_explicit(&pool->tail, memory_order_acquire);
	int error = 0;

	while (head - tail < want) {
		int fd = socket(kinds[kind].family, kinds[kind].type | SOCK_NONBLOCK | SOCK_CLOEXEC,
				0);

		if (fd < 0) {
			error = -errno;
			break;
		}
		pool->fds[head++ % POOL_SIZE] = fd;
	}
	atomic_store_explicit(&pool->error, error, memory_order_relaxed);
	atomic_store_explicit(&pool->head, head, memory_order_release);
}

static void serve_shard(struct ns_thread *thread, unsigned int shard)
{
	bool starved = false;

	for (int kind = 0; kind < NS_SOCKETS; kind++) {
		struct ns_pool *pool = &thread->pools[shard][kind];

		if (!atomic_exchange_explicit(&pool->wanted, false, memory_order_acq_rel))
			continue;
		pool_fill(pool, (enum ns_socket)kind, POOL_SIZE);
		starved |= atomic_exchange_explicit(&pool->starved, false, memory_order_acq_rel);
	}
	if (starved && thread->refilled)
		thread->refilled(thread->refilled_arg, shard);
}

int ns_thread_take(struct ns_thread *thread, unsigned int shard, enum ns_socket kind)
{
	struct ns_pool *pool = &thread->pools[shard][kind];
	uint32_t tail = atomic_load_explicit(&pool->tail, memory_order_relaxed);
	uint32_t used = atomic_load_explicit(&pool->head, memory_order_acquire) - tail;
	int fd = -EAGAIN;

	if (used > 0) {
		fd = pool->fds[tail % POOL_SIZE];
		atomic_store_explicit(&pool->tail, tail + 1, memory_order_release);
	} else {
		int error = atomic_load_explicit(&pool->error, memory_order_relaxed);

		atomic_store_explicit(&pool->starved, true, memory_order_release);
		fd = error < 0 ? error : -EAGAIN;
	}
	if (used <= POOL_LOW &&
	    !atomic_exchange_explicit(&pool->wanted, true, memory_order_acq_rel))
		wake(thread);
	return fd;
}

static void serve_call(struct ns_thread *thread)
{
	pthread_mutex_lock(&thread->lock);
	if (thread->function && !thread->finished) {
		thread->result = thread->function(thread->function_arg);
		thread->finished = true;
		pthread_cond_broadcast(&thread->done);
	}
	pthread_mutex_unlock(&thread->lock);
}

int ns_thread_call(struct ns_thread *thread, int (*function)(void *arg), void *arg)
{
	int result;

	pthread_mutex_lock(&thread->lock);
	while (thread->function) /* another call is under way */
		pthread_cond_wait(&thread->done, &thread->lock);
	thread->function = function;
	thread->function_arg = arg;
	thread->finished = false;
	wake(thread);
	while (!thread->finished)
		pthread_cond_wait(&thread->done, &thread->lock);
	result = thread->result;
	thread->function = NULL;
	pthread_cond_broadcast(&thread->done);
	pthread_mutex_unlock(&thread->lock);
	return result;
}

struct socket_call {
	int family, type, protocol;
};

static int make_socket(void *arg)
{
	const struct socket_call *call = arg;
	int fd = socket(call->family, call->type | SOCK_CLOEXEC, call->protocol);

	return fd < 0 ? -errno : fd;
}

int ns_thread_socket(struct ns_thread *thread, int family, int type, int protocol)
{
	struct socket_call call = { family, type, protocol };

	return ns_thread_call(thread, make_socket, &call);
}

/* The calling thread's capabilities: keep of those permitted, the same effective. Threads have
 * their own. */
static void limit_capabilities(uint64_t keep)
{
	struct __user_cap_header_struct header = { _LINUX_CAPABILITY_VERSION_3, 0 };
	struct __user_cap_data_struct caps[2];

	if (syscall(SYS_capget, &header, caps) < 0)
		return;
	for (int i = 0; i < 2; i++) {
		caps[i].permitted &= (uint32_t)(keep >> (32 * i));
		caps[i].effective = caps[i].permitted;
		caps[i].inheritable = 0;
	}
	syscall(SYS_capset, &header, caps);
}

static void prepare_thread(const struct ns_thread *thread)
{
	cpu_set_t cpus;

	pthread_setname_np(pthread_self(), "namespace");
	if (thread->cpu < 0)
		return;
	CPU_ZERO(&cpus);
	CPU_SET((size_t)thread->cpu, &cpus);
	pthread_setaffinity_np(pthread_self(), sizeof(cpus), &cpus);
}

static int enter(struct ns_thread *thread)
{
	int error = 0;

	limit_capabilities(UINT64_MAX); /* what is permitted becomes effective */
	if (setns(thread->ns->net_fd, CLONE_NEWNET) < 0) {
		error = -errno;
		log_error("Couldn't enter the network namespace: %s", strerror(errno));
	}
	limit_capabilities(UINT64_C(1) << CAP_NET_BIND_SERVICE |
			   (thread->ns->configures ? UINT64_C(1) << CAP_NET_ADMIN : 0));
	return error;
}

static void thread_loop(struct ns_thread *thread)
{
	while (!atomic_load_explicit(&thread->stop, memory_order_acquire)) {
		struct pollfd pfd = { .fd = thread->wake_fd, .events = POLLIN };
		eventfd_t count;

		if (poll(&pfd, 1, -1) < 0)
			continue;
		eventfd_read(thread->wake_fd, &count);
		for (unsigned int i = 0; i < thread->n_shards; i++)
			serve_shard(thread, i);
		serve_call(thread);
	}
}

/* The first result is that of entering: ns_thread_start() waits for it like for any call. */
static void *thread_main(void *arg)
{
	struct ns_thread *thread = arg;
	int error;

	prepare_thread(thread);
	error = enter(thread);
	for (unsigned int i = 0; error == 0 && i < thread->n_shards; i++)
		for (int kind = 0; kind < NS_SOCKETS; kind++)
			pool_fill(&thread->pools[i][kind], (enum ns_socket)kind, POOL_FIRST);
	pthread_mutex_lock(&thread->lock);
	thread->result = error;
	thread->finished = true;
	pthread_cond_broadcast(&thread->done);
	pthread_mutex_unlock(&thread->lock);
	if (error == 0)
		thread_loop(thread);
	return NULL;
}

static void pools_close(struct ns_pool *pool)
{
	uint32_t head = atomic_load_explicit(&pool->head, memory_order_acquire);
	uint32_t tail = atomic_load_explicit(&pool->tail, memory_order_acquire);

	while (tail != head)
		close(pool->fds[tail++ % POOL_SIZE]);
}

static void thread_free(struct ns_thread *thread)
{
	for (unsigned int i = 0; thread->pools && i < thread->n_shards; i++)
		for (int kind = 0; kind < NS_SOCKETS; kind++)
			pools_close(&thread->pools[i][kind]);
	if (thread->wake_fd >= 0)
		close(thread->wake_fd);
	pthread_mutex_destroy(&thread->lock);
	pthread_cond_destroy(&thread->done);
	free(thread->pools);
	free(thread);
}

static int launch(struct ns_thread *thread)
{
	sigset_t all, before;
	int error;

	sigfillset(&all); /* signals are the control thread's */
	pthread_sigmask(SIG_SETMASK, &all, &before);
	error = pthread_create(&thread->thread, NULL, thread_main, thread);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (error)
		return -error;
	pthread_mutex_lock(&thread->lock);
	while (!thread->finished)
		pthread_cond_wait(&thread->done, &thread->lock);
	error = thread->result;
	pthread_mutex_unlock(&thread->lock);
	if (error < 0)
		pthread_join(thread->thread, NULL);
	return error;
}

int ns_thread_start(struct ns_thread **out, const struct netns *ns, unsigned int n_shards, int cpu,
		    void (*refilled)(void *arg, unsigned int shard), void *arg)
{
	struct ns_thread *thread = calloc(1, sizeof(*thread));
	int error;

	if (!thread)
		return -ENOMEM;
	thread->ns = ns;
	thread->cpu = cpu;
	thread->n_shards = n_shards;
	thread->refilled = refilled;
	thread->refilled_arg = arg;
	pthread_mutex_init(&thread->lock, NULL);
	pthread_cond_init(&thread->done, NULL);
	thread->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	thread->pools = aligned_alloc(CACHE_LINE, n_shards * sizeof(*thread->pools));
	if (thread->pools)
		memset(thread->pools, 0, n_shards * sizeof(*thread->pools));
	error = thread->pools && thread->wake_fd >= 0 ? launch(thread) : -ENOMEM;
	if (error < 0) {
		thread_free(thread);
		return error;
	}
	*out = thread;
	return 0;
}

void ns_thread_stop(struct ns_thread *thread)
{
	atomic_store_explicit(&thread->stop, true, memory_order_release);
	wake(thread);
	pthread_join(thread->thread, NULL);
	thread_free(thread);
}
