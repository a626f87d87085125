/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A file that this process made and may remove again: only if it is still the same one, and also
 * from a sandbox in which its path leads nowhere, as the directory is held open. Main and control
 * thread.
 */
#pragma once

#include <limits.h>
#include <stdint.h>
#include <sys/types.h>

struct owned_file {
	int dir_fd; /* owned; -1: no file */
	dev_t dev;
	ino_t ino;
	int keeper_fd; /* borrowed: who removes it where we may not, by this number; -1: nobody */
	uint8_t keeper_index;
	char name[NAME_MAX + 1]; /* in that directory */
};

/* No file: the other functions then do nothing. */
static inline void owned_file_init(struct owned_file *file)
{
	file->dir_fd = -1;
	file->keeper_fd = -1;
}

/* Remembers the file that is at path now. 0 or -errno. */
int owned_file_note(struct owned_file *file, const char *path);

/* Removes it if it is still there, and forgets it. 0 or -errno; -ESTALE if another file has taken
 * its name. */
int owned_file_remove(struct owned_file *file);

/* Forgets it, and leaves it where it is. */
void owned_file_forget(struct owned_file *file);
