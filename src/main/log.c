/* SPDX-License-Identifier: Apache-2.0 */
#include "log.h"

#include "log_file.h"
#include "taploom/log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <syslog.h>
#include <time.h>
#include <unistd.h>

#define LINE_MAX_LEN 1024 /* bytes with prefix and newline; longer lines are cut */
#define BURST	     10	  /* lines that log_allowed() lets through at once */

/* The log sink: set by the main thread before others start, then constant but for the file's own
 * lock. */
static struct {
	enum log_level level;
	const char *program;
	bool stderr_gone;
	int syslog_fd; /* -1: none */
	struct log_file file;
} sink = { .level = LOG_LEVEL_INFO,
	   .syslog_fd = -1,
	   .file = { PTHREAD_MUTEX_INITIALIZER, -1, 0, 0 } };

static const struct {
	int priority;
	const char *name;
} levels[] = {
	[LOG_LEVEL_ERROR] = { LOG_ERR, "error" },
	[LOG_LEVEL_WARNING] = { LOG_WARNING, "warning" },
	[LOG_LEVEL_ANSWER] = { LOG_NOTICE, "info" },
	[LOG_LEVEL_INFO] = { LOG_INFO, "info" },
	[LOG_LEVEL_DEBUG] = { LOG_DEBUG, "debug" },
	[LOG_LEVEL_TRACE] = { LOG_DEBUG, "trace" },
};

static enum log_level level_of(const struct config *config)
{
	if (config->trace)
		return LOG_LEVEL_TRACE;
	if (config->debug)
		return LOG_LEVEL_DEBUG;
	return config->quiet ? LOG_LEVEL_ANSWER : LOG_LEVEL_INFO;
}

/* Datagrams to /dev/log, as syslog(3) sends them, but without its lock and its memory. */
static bool syslog_connect(int fd)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX, .sun_path = "/dev/log" };

	return connect(fd, (struct sockaddr *)&addr, sizeof(addr)) == 0;
}

/* A descriptor, or -1. That nobody listens yet may change. */
static int syslog_open(void)
{
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd >= 0)
		syslog_connect(fd);
	return fd;
}

int log_open(const struct config *config)
{
	sink.level = level_of(config);
	sink.program = config->program;
	if (config->log_file[0])
		return log_file_open(&sink.file, config->log_file, config->log_size);
	if (!config->foreground)
		sink.syslog_fd = syslog_open();
	return 0;
}

void log_detach(void)
{
	sink.stderr_gone = true;
}

void log_close(void)
{
	if (sink.file.fd >= 0)
		log_file_close(&sink.file);
	if (sink.syslog_fd >= 0)
		close(sink.syslog_fd);
	sink.syslog_fd = -1;
	sink.stderr_gone = false;
}

bool log_wanted(enum log_level level)
{
	return level <= sink.level;
}

/* RFC 3164 4.1 as the local daemons expect it: no host name. */
static size_t prefix_syslog(char *line, size_t size, enum log_level level, const struct tm *now)
{
	char stamp[32];

	strftime(stamp, sizeof(stamp), "%b %e %H:%M:%S", now);
	return (size_t)snprintf(line, size, "<%d>%s %s[%d]: ", LOG_DAEMON | levels[level].priority,
				stamp, sink.program, (int)getpid());
}

static size_t prefix_file(char *line, size_t size, enum log_level level, const struct tm *now,
			  long nsec)
{
	char stamp[32];

	strftime(stamp, sizeof(stamp), "%F %T", now);
	return (size_t)snprintf(line, size, "%s.%03ld %s: ", stamp, nsec / 1000000,
				levels[level].name);
}

/* Appends message and newline behind a prefix of len bytes. Returns the length in sum. */
static size_t finish_line(char line[LINE_MAX_LEN], size_t len, const char *message)
{
	size_t room = LINE_MAX_LEN - len - 1;
	size_t message_len = strnlen(message, room);

	memcpy(line + len, message, message_len);
	line[len + message_len] = '\n';
	return len + message_len + 1;
}

static void to_stderr(const char *message)
{
	char line[LINE_MAX_LEN];

	if (write(STDERR_FILENO, line, finish_line(line, 0, message)) < 0)
		return; /* nobody is left to be told */
}

static void to_file(enum log_level level, const char *message, const struct tm *now, long nsec)
{
	char line[LINE_MAX_LEN];
	size_t len = prefix_file(line, sizeof(line) / 2, level, now, nsec);

	log_file_write(&sink.file, line, finish_line(line, len, message));
}

static void to_syslog(enum log_level level, const char *message, const struct tm *now)
{
	char line[LINE_MAX_LEN];
	size_t len = prefix_syslog(line, sizeof(line) / 2, level, now);

	if (len >= sizeof(line) / 2)
		return;
	len = finish_line(line, len, message) - 1; /* a datagram is a line */
	if (send(sink.syslog_fd, line, len, MSG_NOSIGNAL | MSG_DONTWAIT) >= 0)
		return;
	/* The log daemon was started, or started anew. */
	if ((errno == ECONNREFUSED || errno == ENOTCONN || errno == ECONNRESET) &&
	    syslog_connect(sink.syslog_fd))
		send(sink.syslog_fd, line, len, MSG_NOSIGNAL | MSG_DONTWAIT);
}

void log_at(enum log_level level, const char *fmt, ...)
{
	char message[LINE_MAX_LEN];
	int saved = errno; /* %m, and callers that log before they return it */
	struct timespec now;
	struct tm local;
	va_list args;

	if (!log_wanted(level))
		return;
	va_start(args, fmt);
	vsnprintf(message, sizeof(message), fmt, args);
	va_end(args);
	clock_gettime(CLOCK_REALTIME, &now);
	localtime_r(&now.tv_sec, &local);
	if (sink.file.fd >= 0)
		to_file(level, message, &local, now.tv_nsec);
	if (!sink.stderr_gone && (sink.file.fd < 0 || level == LOG_LEVEL_ERROR))
		to_stderr(message);
	else if (sink.stderr_gone && sink.syslog_fd >= 0)
		to_syslog(level, message, &local);
	errno = saved;
}

/* A bucket of BURST lines that empties by one a second. Threads that race may let a line more
 * through. */
bool log_allowed(struct log_limit *limit, uint32_t *held_back)
{
	struct timespec now;
	uint64_t before = atomic_load_explicit(&limit->second, memory_order_relaxed);
	uint64_t second;

	clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
	second = (uint64_t)now.tv_sec;
	*held_back = 0;
	if (second > before && atomic_compare_exchange_strong(&limit->second, &before, second)) {
		uint32_t level = atomic_load_explicit(&limit->in_window, memory_order_relaxed);
		uint64_t passed = second - before;

		atomic_store_explicit(&limit->in_window,
				      passed > level ? 0 : level - (uint32_t)passed,
				      memory_order_relaxed);
	}
	if (atomic_load_explicit(&limit->in_window, memory_order_relaxed) >= BURST) {
		atomic_fetch_add_explicit(&limit->held_back, 1, memory_order_relaxed);
		return false;
	}
	atomic_fetch_add_explicit(&limit->in_window, 1, memory_order_relaxed);
	*held_back = atomic_exchange_explicit(&limit->held_back, 0, memory_order_relaxed);
	return true;
}
