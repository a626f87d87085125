/* SPDX-License-Identifier: Apache-2.0 */
/*
 * faultwire [OPTION]... END END: a wire with seeded faults between two ends, each of them
 *   tap:NAME[@NETNS]  a tap device, in the network namespace of that name
 *   unix:PATH         a daemon's UNIX stream socket, four bytes of length before each frame
 * --ab FAULTS is for the way from the first end to the second, --ba FAULTS for the way back, and
 * --both FAULTS for either. FAULTS are words with commas between them:
 *   loss=PERCENT dup=PERCENT reorder=PERCENT  chance of a frame to be lost, sent twice, sent late
 *   late=MS   how late (5)              delay=MS   how long a frame takes (0)
 *   rate=MBIT per second (no limit)     queue=KIB  what may wait for that rate (4096)
 *   seed=N    of the random numbers (1); the way back uses another sequence of the same seed
 * Nothing else is lost here. ARP and ICMPv6 pass without faults: a lost neighbour solicitation
 * costs a second, which would hide all that is to be seen of TCP. One thread a way, which goes
 * before all others of the machine if it may (SCHED_FIFO), as a wire waits for nobody; ends with
 * status 0 when the daemon closes the socket or at SIGTERM, and prints then what it did.
 */
#include "ends.h"

#include <arpa/inet.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>
#include <sys/prctl.h>
#include <time.h>

#define SLAB	  (4U << 20) /* bytes read from the socket at once */
#define TURN	  64	     /* frames read between two looks at the clock */
#define NS_PER_MS 1000000.0

struct faults {
	double loss, dup, reorder; /* chances, 0 to 1 */
	double late_ns, delay_ns;
	double ns_per_byte; /* 0 for no limit */
	double queue;	    /* bytes */
	uint64_t seed;
};

struct end {
	int fd;
	bool is_stream;
};

struct held {
	int64_t due_ns;
	uint64_t serial; /* keeps the order of frames due at the same time */
	size_t len;
	uint8_t bytes[];
};

struct way {
	const char *name;
	struct faults faults;
	struct end from, to;
	uint64_t random;
	double free_ns; /* when the last frame admitted will have left, at the rate */
	uint64_t serial;
	struct held **heap; /* the next one due first */
	size_t n_held, heap_room;
	uint8_t *in; /* of a stream: what was read */
	size_t in_used;
	uint8_t *out; /* of a stream: what is to be written */
	size_t out_used;
	_Atomic uint64_t n_passed, n_lost, n_full, n_twice,
		n_late; /* the main thread prints them */
};

static int64_t now_ns(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

/* xorshift64*: the same numbers on every machine. */
static bool happens(struct way *way, double chance)
{
	if (chance <= 0)
		return false;
	way->random ^= way->random >> 12;
	way->random ^= way->random << 25;
	way->random ^= way->random >> 27;
	return (double)((way->random * 0x2545f4914f6cdd1dULL) >> 11) < chance * 9007199254740992.0;
}

static bool is_before(const struct held *a, const struct held *b)
{
	return a->due_ns != b->due_ns ? a->due_ns < b->due_ns : a->serial < b->serial;
}

static void heap_push(struct way *way, struct held *held)
{
	if (way->n_held == way->heap_room) {
		way->heap_room = way->heap_room ? way->heap_room * 2 : 1024;
		way->heap = realloc(way->heap, way->heap_room * sizeof(*way->heap));
		if (!way->heap)
			die("memory");
	}
	size_t at = way->n_held++;
	while (at > 0 && is_before(held, way->heap[(at - 1) / 2])) {
		way->heap[at] = way->heap[(at - 1) / 2];
		at = (at - 1) / 2;
	}
	way->heap[at] = held;
}

static struct held *heap_pop(struct way *way)
{
	struct held *first = way->heap[0], *moved = way->heap[--way->n_held];
	size_t at = 0;
	for (;;) {
		size_t child = 2 * at + 1;
		if (child + 1 < way->n_held && is_before(way->heap[child + 1], way->heap[child]))
			child++;
		if (child >= way->n_held || !is_before(way->heap[child], moved))
			break;
		way->heap[at] = way->heap[child];
		at = child;
	}
	way->heap[at] = moved;
	return first;
}

static void hold(struct way *way, const uint8_t *frame, size_t len, double due_ns)
{
	struct held *held = malloc(sizeof(*held) + len);
	if (!held)
		die("memory");
	held->due_ns = (int64_t)due_ns;
	held->serial = way->serial++;
	held->len = len;
	memcpy(held->bytes, frame, len);
	heap_push(way, held);
}

/* Whether a frame is TCP, UDP or the like, which faults may hit. */
static bool may_suffer(const uint8_t *frame, size_t len)
{
	if (len < 34)
		return false;
	unsigned int type = (unsigned int)frame[12] << 8 | frame[13];
	return type == 0x0800 || (type == 0x86dd && frame[20] != 58);
}

/* Decides what becomes of a frame that has come in. */
static void admit(struct way *way, const uint8_t *frame, size_t len, int64_t now)
{
	const struct faults *faults = &way->faults;
	double due = (double)now;
	if (faults->ns_per_byte > 0) {
		double begin = way->free_ns > due ? way->free_ns : due;
		if ((begin - due) > faults->queue * faults->ns_per_byte) {
			way->n_full++;
			return;
		}
		way->free_ns = begin + (double)len * faults->ns_per_byte;
		due = way->free_ns;
	}
	due += faults->delay_ns;
	if (may_suffer(frame, len)) {
		if (happens(way, faults->loss)) {
			way->n_lost++;
			return;
		}
		if (happens(way, faults->reorder)) {
			way->n_late++;
			due += faults->late_ns;
		}
		if (happens(way, faults->dup)) {
			way->n_twice++;
			hold(way, frame, len, due);
		}
	}
	hold(way, frame, len, due);
}

static void write_out(struct way *way)
{
	for (size_t at = 0; at < way->out_used;) {
		ssize_t n = write(way->to.fd, way->out + at, way->out_used - at);
		if (n < 0 && (errno == EPIPE || errno == ECONNRESET))
			exit(0); /* the daemon has ended */
		if (n < 0 && errno != EINTR)
			die("write to the socket");
		at += n > 0 ? (size_t)n : 0;
	}
	way->out_used = 0;
}

/* Gives one frame to the far end; what an interface that is down refuses is lost, as on a wire. */
static void deliver(struct way *way, const uint8_t *frame, size_t len)
{
	if (!way->to.is_stream) {
		while (write(way->to.fd, frame, len) < 0 && (errno == EAGAIN || errno == EINTR)) {
			struct pollfd room = { .fd = way->to.fd, .events = POLLOUT };
			poll(&room, 1, 10);
		}
		return;
	}
	uint32_t prefix = htonl((uint32_t)len);
	if (way->out_used + sizeof(prefix) + len > BATCH)
		write_out(way);
	memcpy(way->out + way->out_used, &prefix, sizeof(prefix));
	memcpy(way->out + way->out_used + sizeof(prefix), frame, len);
	way->out_used += sizeof(prefix) + len;
}

static void deliver_due(struct way *way, int64_t now)
{
	while (way->n_held > 0 && way->heap[0]->due_ns <= now) {
		struct held *held = heap_pop(way);
		deliver(way, held->bytes, held->len);
		free(held);
		way->n_passed++;
	}
	if (way->out_used > 0)
		write_out(way);
}

static void take_from_tap(struct way *way, int64_t now)
{
	uint8_t frame[FRAME_ROOM];
	for (unsigned int i = 0; i < TURN; i++) {
		ssize_t n = read(way->from.fd, frame, sizeof(frame));
		if (n < 0 && errno == EIO)
			usleep(1000); /* the interface is down: POLLERR would spin */
		if (n < 0)
			return;
		admit(way, frame, (size_t)n, now);
	}
}

static void take_from_stream(struct way *way, int64_t now)
{
	ssize_t n = read(way->from.fd, way->in + way->in_used, SLAB);
	if (n == 0 || (n < 0 && errno == ECONNRESET))
		exit(0);
	if (n < 0)
		return;
	way->in_used += (size_t)n;
	size_t at = 0;
	while (way->in_used - at >= 4) {
		uint32_t prefix;
		memcpy(&prefix, way->in + at, sizeof(prefix));
		size_t len = ntohl(prefix);
		if (len > FRAME_ROOM) {
			fprintf(stderr, "faultwire: a frame of %zu bytes\n", len);
			exit(2);
		}
		if (way->in_used - at - 4 < len)
			break;
		admit(way, way->in + at + 4, len, now);
		at += 4 + len;
	}
	memmove(way->in, way->in + at, way->in_used - at);
	way->in_used -= at;
}

/*
 * A sender takes a few milliseconds of lateness for a queue that builds up, and ends its slow
 * start. Where it is not permitted, the wire is as late as all else.
 */
static void be_prompt(void)
{
	struct sched_param priority = { .sched_priority = 1 };
	prctl(PR_SET_TIMERSLACK, 1000UL);
	sched_setscheduler(0, SCHED_FIFO | SCHED_RESET_ON_FORK, &priority);
}

static void *carry(void *arg)
{
	struct way *way = arg;
	be_prompt();
	for (;;) {
		struct pollfd ready = { .fd = way->from.fd, .events = POLLIN };
		struct timespec left = { 0 };
		int64_t now = now_ns();
		if (way->n_held > 0 && way->heap[0]->due_ns > now) {
			left.tv_sec = (way->heap[0]->due_ns - now) / 1000000000;
			left.tv_nsec = (way->heap[0]->due_ns - now) % 1000000000;
		}
		int n = ppoll(&ready, 1, way->n_held > 0 ? &left : NULL, NULL);
		now = now_ns();
		if (n > 0 && way->from.is_stream)
			take_from_stream(way, now);
		else if (n > 0)
			take_from_tap(way, now);
		deliver_due(way, now);
	}
	return NULL;
}

/* Opens a tap device in a namespace; the calling thread is where it was afterwards. */
static int open_tap_in(char *name)
{
	char *netns = strchr(name, '@'), path[256];
	int home = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
	if (netns) {
		*netns++ = '\0';
		snprintf(path, sizeof(path), "/run/netns/%s", netns);
		int there = open(path, O_RDONLY | O_CLOEXEC);
		if (there < 0 || setns(there, CLONE_NEWNET) < 0)
			die(path);
		close(there);
	}
	int fd = open_tap(name, 0);
	if (setns(home, CLONE_NEWNET) < 0)
		die("the first namespace");
	close(home);
	return fd;
}

static struct end open_end(char *text)
{
	if (strncmp(text, "tap:", 4) == 0)
		return (struct end){ .fd = open_tap_in(text + 4) };
	if (strncmp(text, "unix:", 5) == 0)
		return (struct end){ .fd = connect_to(text + 5), .is_stream = true };
	fprintf(stderr, "faultwire: %s: neither tap:NAME nor unix:PATH\n", text);
	exit(1);
}

static const struct fault_word {
	const char *name;
	size_t at;
	double unit;
} words[] = {
	{ "loss", offsetof(struct faults, loss), 0.01 },
	{ "dup", offsetof(struct faults, dup), 0.01 },
	{ "reorder", offsetof(struct faults, reorder), 0.01 },
	{ "late", offsetof(struct faults, late_ns), NS_PER_MS },
	{ "delay", offsetof(struct faults, delay_ns), NS_PER_MS },
	{ "queue", offsetof(struct faults, queue), 1024 },
};

static void take_word(struct faults *faults, const char *name, double value)
{
	if (strcmp(name, "seed") == 0) {
		faults->seed = (uint64_t)value;
		return;
	}
	if (strcmp(name, "rate") == 0) {
		faults->ns_per_byte = value > 0 ? 8000 / value : 0;
		return;
	}
	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
		if (strcmp(name, words[i].name) == 0) {
			double scaled = value * words[i].unit;
			memcpy((uint8_t *)faults + words[i].at, &scaled, sizeof(scaled));
			return;
		}
	}
	fprintf(stderr, "faultwire: no such fault: %s\n", name);
	exit(1);
}

static void take_faults(struct faults *faults, const char *text)
{
	char *copy = strdup(text), *rest = copy, *word;
	while (copy && (word = strsep(&rest, ",")) != NULL) {
		char *value = strchr(word, '=');
		if (!value) {
			fprintf(stderr, "faultwire: no value: %s\n", word);
			exit(1);
		}
		*value++ = '\0';
		take_word(faults, word, strtod(value, NULL));
	}
	free(copy);
}

static void init_way(struct way *way, struct end from, struct end to)
{
	way->from = from;
	way->to = to;
	way->random = (way->faults.seed * 2 + (way->name[0] == 'b')) * 0x9e3779b97f4a7c15ULL + 1;
	way->in = malloc(SLAB + FRAME_ROOM + 4);
	way->out = malloc(BATCH);
	if (!way->in || !way->out)
		die("memory");
	for (int i = 0; i < 16; i++)
		happens(way, 1); /* small seeds are alike at first */
}

static void print_way(const struct way *way)
{
	printf("%s: %llu passed, %llu lost, %llu beyond the queue, %llu twice, %llu late\n",
	       way->name, (unsigned long long)way->n_passed, (unsigned long long)way->n_lost,
	       (unsigned long long)way->n_full, (unsigned long long)way->n_twice,
	       (unsigned long long)way->n_late);
}

static int parse(int argc, char **argv, struct way ways[2])
{
	int at = 1;
	for (; at + 1 < argc && strncmp(argv[at], "--", 2) == 0; at += 2) {
		bool both = strcmp(argv[at], "--both") == 0;
		if (!both && strcmp(argv[at], "--ab") != 0 && strcmp(argv[at], "--ba") != 0)
			break;
		for (int i = 0; i < 2; i++) {
			if (both || strcmp(argv[at] + 2, ways[i].name) == 0)
				take_faults(&ways[i].faults, argv[at + 1]);
		}
	}
	if (at + 2 != argc) {
		fprintf(stderr, "usage: %s [--ab|--ba|--both FAULT=VALUE[,...]]... END END\n",
			argv[0]);
		exit(1);
	}
	return at;
}

int main(int argc, char **argv)
{
	const struct faults none = { .late_ns = 5 * NS_PER_MS, .queue = 4 << 20, .seed = 1 };
	struct way ways[2] = { { .name = "ab", .faults = none }, { .name = "ba", .faults = none } };
	int at = parse(argc, argv, ways), number;
	struct end first = open_end(argv[at]), second = open_end(argv[at + 1]);
	init_way(&ways[0], first, second);
	init_way(&ways[1], second, first);
	sigset_t ends;
	sigemptyset(&ends);
	sigaddset(&ends, SIGTERM);
	sigaddset(&ends, SIGINT);
	pthread_sigmask(SIG_BLOCK, &ends, NULL);
	signal(SIGPIPE, SIG_IGN);
	for (int i = 0; i < 2; i++) {
		pthread_t thread;
		if (pthread_create(&thread, NULL, carry, &ways[i]) != 0)
			die("thread");
	}
	puts("ready");
	fflush(stdout);
	sigwait(&ends, &number);
	print_way(&ways[0]);
	print_way(&ways[1]);
	fflush(stdout);
	_exit(0); /* the threads still use what stands on this stack */
}
