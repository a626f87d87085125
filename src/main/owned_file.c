/* SPDX-License-Identifier: Apache-2.0 */
#include "owned_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

static int open_dir_of(const char *path, const char *slash)
{
	char dir[PATH_MAX];
	int len;

	if (!slash)
		return open(".", O_PATH | O_DIRECTORY | O_CLOEXEC);
	len = snprintf(dir, sizeof(dir), "%.*s/", (int)(slash - path), path);
	if (len < 0 || (size_t)len >= sizeof(dir)) {
		errno = ENAMETOOLONG;
		return -1;
	}
	return open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
}

int owned_file_note(struct owned_file *file, const char *path)
{
	const char *slash = strrchr(path, '/');
	const char *name = slash ? slash + 1 : path;
	struct stat st;
	int error;

	if (strlen(name) >= sizeof(file->name))
		return -ENAMETOOLONG;
	strcpy(file->name, name);
	file->keeper_fd = -1;
	file->dir_fd = open_dir_of(path, slash);
	if (file->dir_fd < 0)
		return -errno;
	if (fstatat(file->dir_fd, name, &st, AT_SYMLINK_NOFOLLOW)) {
		error = errno;
		owned_file_forget(file);
		return -error;
	}
	file->dev = st.st_dev;
	file->ino = st.st_ino;
	return 0;
}

static int remove_it(const struct owned_file *file)
{
	struct stat st;

	if (fstatat(file->dir_fd, file->name, &st, AT_SYMLINK_NOFOLLOW))
		return -errno;
	if (st.st_dev != file->dev || st.st_ino != file->ino)
		return -ESTALE;
	return unlinkat(file->dir_fd, file->name, 0) ? -errno : 0;
}

static int ask_keeper(const struct owned_file *file)
{
	uint8_t refused = 1;

	if (send(file->keeper_fd, &file->keeper_index, 1, MSG_NOSIGNAL) != 1 ||
	    recv(file->keeper_fd, &refused, 1, 0) != 1)
		return -EACCES;
	return refused ? -EACCES : 0;
}

int owned_file_remove(struct owned_file *file)
{
	int result;

	if (file->dir_fd < 0)
		return 0;
	result = remove_it(file);
	if ((result == -EACCES || result == -EPERM) && file->keeper_fd >= 0)
		result = ask_keeper(file);
	owned_file_forget(file);
	return result;
}

void owned_file_forget(struct owned_file *file)
{
	if (file->dir_fd >= 0)
		close(file->dir_fd);
	file->dir_fd = -1;
}
