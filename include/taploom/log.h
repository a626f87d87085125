/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Logging, for any thread. A line is formatted on the stack and leaves with one system call, so
 * that lines of several threads do not mix. What a guest or a peer can provoke goes through a
 * limit.
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

enum log_level {
	LOG_LEVEL_ERROR,
	LOG_LEVEL_WARNING,
	LOG_LEVEL_ANSWER, /* to a question of the operator's: --quiet does not silence it */
	LOG_LEVEL_INFO,
	LOG_LEVEL_DEBUG,
	LOG_LEVEL_TRACE
};

/* Writes one line (no newline in fmt) to where the log goes, if the level is wanted. */
void log_at(enum log_level level, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

bool log_wanted(enum log_level level);

#define log_error(...)	 log_at(LOG_LEVEL_ERROR, __VA_ARGS__)
#define log_warning(...) log_at(LOG_LEVEL_WARNING, __VA_ARGS__)
#define log_answer(...)	 log_at(LOG_LEVEL_ANSWER, __VA_ARGS__)
#define log_info(...)	 log_at(LOG_LEVEL_INFO, __VA_ARGS__)
#define log_debug(...)	 log_at(LOG_LEVEL_DEBUG, __VA_ARGS__)
#define log_trace(...)	 log_at(LOG_LEVEL_TRACE, __VA_ARGS__)

/* Lets a burst of lines through, then one per second with the number of those kept back. */
struct log_limit {
	_Atomic uint64_t second;    /* of the present window; any thread */
	_Atomic uint32_t in_window; /* lines in it; any thread */
	_Atomic uint32_t held_back;
};

/* Whether a line may go out now; *held_back is the number of lines left out before it. Any thread.
 */
bool log_allowed(struct log_limit *limit, uint32_t *held_back);

#define log_limited(limit, level, fmt, ...)                                                        \
	do {                                                                                       \
		uint32_t log_held_back_;                                                           \
		if (log_allowed(limit, &log_held_back_)) {                                         \
			if (log_held_back_)                                                        \
				log_at(level, fmt " (%u similar lines left out)", ##__VA_ARGS__,   \
				       log_held_back_);                                            \
			else                                                                       \
				log_at(level, fmt, ##__VA_ARGS__);                                 \
		}                                                                                  \
	} while (0)
