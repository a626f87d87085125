/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where the log of taploom/log.h goes. Until log_detach() lines go to stderr, or to the log file
 * with errors on stderr as well, so that whoever starts the program reads why it failed; afterwards
 * to the system log or the file alone.
 */
#pragma once

#include "taploom/config.h"

/*
 * Opens the log as configured: log_file, log_size, quiet, debug, trace; an existing file is
 * continued. Also connects to the system log, which cannot be reached from a sandbox later. Main
 * thread, before others. Before it, what is logged goes to stderr from level info on. 0 or -errno
 * if the log file cannot be opened.
 */
int log_open(const struct config *config);

/* The standard streams are gone, or will be at once: only the file or the system log is left. Main
 * thread. */
void log_detach(void);

/* Closes what log_open() opened; later lines go to stderr. No other thread may log. */
void log_close(void);
