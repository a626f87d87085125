/* SPDX-License-Identifier: Apache-2.0 */
#include "log_file.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#define CHUNK 4096

int log_file_open(struct log_file *file, const char *path, size_t size)
{
	int error;

	file->fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (file->fd < 0)
		return -errno;
	file->len = lseek(file->fd, 0, SEEK_END);
	if (file->len < 0) { /* a pipe or terminal cannot be cut at its beginning */
		error = errno;
		log_file_close(file);
		return -error;
	}
	file->size = (off_t)size;
	return 0;
}

void log_file_close(struct log_file *file)
{
	close(file->fd);
	file->fd = -1;
}

/* The first line that begins at or behind from; the file's length if there is none. */
static off_t line_behind(const struct log_file *file, off_t from)
{
	char chunk[CHUNK];
	ssize_t n;

	for (; (n = pread(file->fd, chunk, sizeof(chunk), from)) > 0; from += n) {
		const char *end = memchr(chunk, '\n', (size_t)n);

		if (end)
			return from + (end - chunk) + 1;
	}
	return file->len;
}

/* Moves what is behind from to the beginning of the file. */
static void drop_oldest(struct log_file *file, off_t from)
{
	char chunk[CHUNK];
	off_t to = 0;
	ssize_t n;

	for (; (n = pread(file->fd, chunk, sizeof(chunk), from)) > 0; from += n) {
		if (pwrite(file->fd, chunk, (size_t)n, to) != n)
			break;
		to += n;
	}
	if (ftruncate(file->fd, to) == 0)
		file->len = to;
}

void log_file_write(struct log_file *file, const char *line, size_t len)
{
	off_t end;

	pthread_mutex_lock(&file->lock);
	end = lseek(file->fd, 0, SEEK_END); /* another process of ours may write to it too */
	if (end >= 0)
		file->len = end;
	if (file->len + (off_t)len > file->size)
		drop_oldest(file, line_behind(file, file->len - file->size / 2));
	if (pwrite(file->fd, line, len, file->len) == (ssize_t)len)
		file->len += (off_t)len;
	pthread_mutex_unlock(&file->lock);
}
