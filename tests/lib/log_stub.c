/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The log for unit tests that do not link src/main: nothing is written.
 */
#include "taploom/log.h"

void log_at(enum log_level level, const char *fmt, ...)
{
	(void)level;
	(void)fmt;
}

bool log_wanted(enum log_level level)
{
	(void)level;
	return false;
}

bool log_allowed(struct log_limit *limit, uint32_t *held_back)
{
	(void)limit;
	*held_back = 0;
	return true;
}
