/* SPDX-License-Identifier: Apache-2.0 */
#include "socket_path.h"

#include "taploom/log.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#define BACKLOG 8

static int unix_socket(int type)
{
	int fd = socket(AF_UNIX, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	return fd < 0 ? -errno : fd;
}

/*
 * Whether a socket that nobody holds is at this address: 0 if so, -EADDRINUSE if somebody does,
 * -EEXIST if it is no socket at all. Asked with a socket of another type: the kernel looks for the
 * owner first (ECONNREFUSED) and at the type then (EPROTOTYPE), so that a process which waits for
 * its one guest does not take the question for that.
 */
static int check_stale(const struct sockaddr_un *addr)
{
	struct stat st;
	int fd;
	int error;

	if (lstat(addr->sun_path, &st))
		return errno == ENOENT ? 0 : -errno;
	if (!S_ISSOCK(st.st_mode))
		return -EEXIST;
	fd = unix_socket(SOCK_DGRAM);
	if (fd < 0)
		return fd;
	error = connect(fd, (const struct sockaddr *)addr, sizeof(*addr)) ? errno : EPROTOTYPE;
	close(fd);
	if (error == ECONNREFUSED || error == ENOENT)
		return 0;
	return error == EPROTOTYPE ? -EADDRINUSE : -error;
}

static int bind_fd(int fd, const struct sockaddr_un *addr)
{
	int error;

	if (bind(fd, (const struct sockaddr *)addr, sizeof(*addr)) == 0)
		return 0;
	if (errno != EADDRINUSE)
		return -errno;
	error = check_stale(addr);
	if (error)
		return error;
	if (unlink(addr->sun_path) && errno != ENOENT)
		return -errno;
	return bind(fd, (const struct sockaddr *)addr, sizeof(*addr)) ? -errno : 0;
}

/* Returns a listening descriptor or -errno; leaves nothing behind if it fails. */
static int listen_at(const char *path, struct owned_file *owned)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	int fd = unix_socket(SOCK_STREAM);
	int error;

	if (fd < 0)
		return fd;
	strcpy(addr.sun_path, path);
	error = bind_fd(fd, &addr);
	if (error)
		goto fail;
	error = owned_file_note(owned, path);
	if (error)
		goto fail;
	if (listen(fd, BACKLOG)) {
		error = -errno;
		owned_file_remove(owned);
		goto fail;
	}
	return fd;
fail:
	close(fd);
	return error;
}

static int listen_at_given(const char *path, struct owned_file *owned)
{
	int fd = listen_at(path, owned);

	if (fd == -EADDRINUSE)
		log_error("UNIX socket %s is in use by another process: end that one, or give "
			  "another "
			  "path with --socket",
			  path);
	else if (fd == -EEXIST)
		log_error("%s exists and is not a socket: give another path with --socket", path);
	else if (fd < 0)
		log_error("Couldn't listen on UNIX socket %s: %s", path, strerror(-fd));
	return fd;
}

int socket_path_listen(const char *given, char path[SOCKET_PATH_SIZE], struct owned_file *owned)
{
	int fd = -ENAMETOOLONG;

	owned_file_init(owned);
	if (given[0]) {
		if (strlen(given) >= SOCKET_PATH_SIZE)
			return -ENAMETOOLONG;
		strcpy(path, given);
		return listen_at_given(path, owned);
	}
	for (int n = 1; n <= SOCKET_PATH_DEFAULTS; n++) {
		snprintf(path, SOCKET_PATH_SIZE, "/tmp/passt_%d.socket", n);
		fd = listen_at(path, owned);
		if (fd >= 0)
			return fd;
	}
	log_error("None of /tmp/passt_1.socket to /tmp/passt_%d.socket can be used (the last one: "
		  "%s): "
		  "give a path with --socket",
		  SOCKET_PATH_DEFAULTS, strerror(-fd));
	return fd;
}
