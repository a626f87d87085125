/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A log file of bounded size. When it is full its oldest half is dropped in place, from the
 * beginning and at the end of a line, so that whoever holds the file open goes on with the same
 * one. Any thread after log_file_open().
 */
#pragma once

#include <pthread.h>
#include <stddef.h>
#include <sys/types.h>

struct log_file {
	pthread_mutex_t lock;
	int fd;	    /* owned; -1: not open */
	off_t len;  /* bytes in the file; under lock */
	off_t size; /* limit in bytes */
};

/* Opens or creates path (mode 0600) and continues it. size: at least 4096. 0 or -errno. */
int log_file_open(struct log_file *file, const char *path, size_t size);
void log_file_close(struct log_file *file);

/* Appends a line of len bytes, at most size / 2. Errors are dropped: there is nowhere to tell them.
 */
void log_file_write(struct log_file *file, const char *line, size_t len);
