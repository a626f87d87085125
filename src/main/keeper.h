/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The keeper: whoever starts as root in a folder of root's cannot remove its socket there once it
 * has become nobody. A process forked before that change keeps the right to, and no other: it holds
 * the folders and one end of a socket pair, takes no byte but the number of a file that we made,
 * and ends with us.
 */
#pragma once

#include "owned_file.h"

#define KEEPER_FILES 4

struct keeper {
	int fd; /* owned; -1: none was needed */
	pid_t pid;
	struct owned_file *files[KEEPER_FILES]; /* lent until keeper_stop() */
	unsigned int n_files;
};

static inline void keeper_init(struct keeper *keeper)
{
	keeper->fd = -1;
}

/*
 * Starts a keeper if a user could not remove one of the files; owned_file_remove() then asks it.
 * Main thread, before another one and before the user changes.
 *
 * uid, gid: the user to come
 * Returns 0 or -errno after one logged line.
 */
int keeper_start(struct keeper *keeper, struct owned_file *const files[], unsigned int n, uid_t uid,
		 gid_t gid);

/* Ends it if this is the only file left to remove, and the present user may. */
void keeper_relieve(struct keeper *keeper, const struct owned_file *last);

/* Ends it, if there is one: from then on nothing is removed but what the user may remove. */
void keeper_stop(struct keeper *keeper);
