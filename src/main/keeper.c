/* SPDX-License-Identifier: Apache-2.0 */
#include "keeper.h"

#include "descriptors.h"
#include "privileges.h"
#include "taploom/log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define KEPT (PRIVILEGE(CAP_DAC_OVERRIDE) | PRIVILEGE(CAP_FOWNER))

/* In a folder like /tmp a file is its owner's to remove, and the folder's owner's. */
static bool forbids(const struct owned_file *file, const struct stat *dir, uid_t uid)
{
	struct stat st;

	if (!(dir->st_mode & S_ISVTX) || dir->st_uid == uid)
		return false;
	return fstatat(file->dir_fd, file->name, &st, AT_SYMLINK_NOFOLLOW) || st.st_uid != uid;
}

/* Whether a user may remove the file; groups beyond gid are given up. */
static bool may_remove(const struct owned_file *file, uid_t uid, gid_t gid)
{
	struct stat st;

	if (file->dir_fd < 0)
		return true;
	if (fstat(file->dir_fd, &st) || forbids(file, &st, uid))
		return false;
	if (st.st_uid == uid)
		return (st.st_mode & (S_IWUSR | S_IXUSR)) == (S_IWUSR | S_IXUSR);
	if (st.st_gid == gid)
		return (st.st_mode & (S_IWGRP | S_IXGRP)) == (S_IWGRP | S_IXGRP);
	return (st.st_mode & (S_IWOTH | S_IXOTH)) == (S_IWOTH | S_IXOTH);
}

/* Whoever reads our output to its end does not wait for the keeper's. */
static void leave_all(int fd, struct owned_file *const files[], unsigned int n)
{
	int kept[KEEPER_FILES + 1] = { fd };
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	for (int stream = STDIN_FILENO; stream <= STDERR_FILENO; stream++)
		dup2(null, stream);
	for (unsigned int i = 0; i < n; i++)
		kept[i + 1] = files[i]->dir_fd;
	close_all_but(kept, n + 1);
	if (chdir("/"))
		_exit(1);
}

static _Noreturn void keep(int fd, struct owned_file *const files[], unsigned int n)
{
	uint8_t index;

	prctl(PR_SET_NAME, "keeper");
	leave_all(fd, files, n);
	if (privileges_limit(KEPT))
		_exit(1);
	while (recv(fd, &index, 1, 0) == 1 && index < n) {
		uint8_t refused = owned_file_remove(files[index]) != 0;

		send(fd, &refused, 1, MSG_NOSIGNAL);
	}
	_exit(0);
}

static int fork_keeper(struct keeper *keeper, struct owned_file *const files[], unsigned int n)
{
	int pair[2];
	int error;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair))
		return -errno;
	keeper->pid = fork();
	if (keeper->pid == 0)
		keep(pair[1], files, n);
	error = keeper->pid < 0 ? -errno : 0;
	close(pair[1]);
	if (error) {
		close(pair[0]);
		return error;
	}
	keeper->fd = pair[0];
	for (unsigned int i = 0; i < n; i++) {
		keeper->files[i] = files[i];
		files[i]->keeper_fd = keeper->fd;
		files[i]->keeper_index = (uint8_t)i;
	}
	keeper->n_files = n;
	return 0;
}

int keeper_start(struct keeper *keeper, struct owned_file *const files[], unsigned int n, uid_t uid,
		 gid_t gid)
{
	bool needed = false;
	int error;

	for (unsigned int i = 0; i < n; i++)
		needed |= !may_remove(files[i], uid, gid);
	if (!needed)
		return 0;
	error = fork_keeper(keeper, files, n);
	if (error)
		log_error("Couldn't start the process that removes our files at the end: %s",
			  strerror(-error));
	return error;
}

void keeper_stop(struct keeper *keeper)
{
	if (keeper->fd < 0)
		return;
	shutdown(keeper->fd, SHUT_RDWR); /* a command that waits for its start has a copy */
	close(keeper->fd);
	keeper->fd = -1;
	for (unsigned int i = 0; i < keeper->n_files; i++)
		keeper->files[i]->keeper_fd = -1;
	while (waitpid(keeper->pid, NULL, 0) < 0 && errno == EINTR)
		;
}

void keeper_relieve(struct keeper *keeper, const struct owned_file *last)
{
	if (may_remove(last, geteuid(), getegid()))
		keeper_stop(keeper);
}
