/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The UNIX socket that a virtual machine connects to: at a path that was asked for, or at the first
 * free /tmp/passt_N.socket. What a process that is gone has left there is replaced, what a living
 * one listens on never is. Main thread.
 */
#pragma once

#include "owned_file.h"

#include <sys/un.h>

#define SOCKET_PATH_SIZE     (sizeof(((struct sockaddr_un *)0)->sun_path))
#define SOCKET_PATH_DEFAULTS 64 /* /tmp/passt_1.socket to /tmp/passt_64.socket */

/*
 * Binds and listens.
 *
 * given: the path, or "" for the default ones
 * path:  set to the path bound
 * owned: notes the socket, so that it can be removed at the end if it is still this one
 * Returns the descriptor (non-blocking, close-on-exec), or -errno after one logged line.
 */
int socket_path_listen(const char *given, char path[SOCKET_PATH_SIZE], struct owned_file *owned);
