/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Capture files: the classic pcap format with time stamps in nanoseconds, in the machine's byte
 * order, which readers tell by the magic number (draft-ietf-opsawg-pcap). A record is written at
 * once and unbuffered, so that what led to a crash is in the file.
 */
#include "taploom/tap.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#define PCAP_MAGIC_NS	   0xa1b23c4du
#define PCAP_SNAPLEN	   262144u
#define PCAP_LINK_ETHERNET 1u
#define PIECES_MAX	   64 /* of a record in one system call */

struct pcap {
	pthread_mutex_t lock;
	int fd;
	bool failed; /* under lock: a record was cut short, what follows would be unreadable */
};

struct pcap_file_header {
	uint32_t magic;
	uint16_t major, minor;
	uint32_t zone, accuracy, snaplen, link;
};

struct pcap_record_header {
	uint32_t seconds, nanoseconds;
	uint32_t captured, len;
};

int pcap_open(struct pcap **out, const char *path)
{
	const struct pcap_file_header header = {
		.magic = PCAP_MAGIC_NS,
		.major = 2,
		.minor = 4,
		.snaplen = PCAP_SNAPLEN,
		.link = PCAP_LINK_ETHERNET,
	};
	struct pcap *pcap = calloc(1, sizeof(*pcap));
	int err;

	if (!pcap)
		return -ENOMEM;
	pcap->fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (pcap->fd < 0)
		goto fail;
	if (write(pcap->fd, &header, sizeof(header)) != (ssize_t)sizeof(header))
		goto fail;
	pthread_mutex_init(&pcap->lock, NULL);
	*out = pcap;
	return 0;
fail:
	err = errno ? -errno : -EIO;
	if (pcap->fd >= 0)
		close(pcap->fd);
	free(pcap);
	return err;
}

/* Writes all of n pieces, n at most PIECES_MAX + 1; a file or a pipe takes part of them only on
 * failure. */
static bool write_pieces(struct pcap *pcap, const struct iovec *iov, int n)
{
	size_t want = 0;

	for (int i = 0; i < n; i++)
		want += iov[i].iov_len;
	return writev(pcap->fd, iov, n) == (ssize_t)want;
}

static bool write_record(struct pcap *pcap, const struct iovec *iov, unsigned int n_iov)
{
	struct pcap_record_header header = { 0 };
	struct iovec pieces[PIECES_MAX + 1] = { { &header, sizeof(header) } };
	unsigned int n = 1; /* pieces filled */
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	header.seconds = (uint32_t)now.tv_sec;
	header.nanoseconds = (uint32_t)now.tv_nsec;
	for (unsigned int i = 0; i < n_iov; i++)
		header.len += (uint32_t)iov[i].iov_len;
	header.captured = header.len;
	for (unsigned int i = 0; i < n_iov; i++) {
		pieces[n++] = iov[i];
		if (n <= PIECES_MAX)
			continue;
		if (!write_pieces(pcap, pieces, (int)n))
			return false;
		n = 0;
	}
	return n == 0 || write_pieces(pcap, pieces, (int)n);
}

void pcap_write(struct pcap *pcap, const struct iovec *iov, unsigned int n_iov)
{
	pthread_mutex_lock(&pcap->lock);
	if (!pcap->failed && !write_record(pcap, iov, n_iov)) {
		pcap->failed = true;
		log_warning("capture: cannot write on, the file ends here; is the disk full?");
	}
	pthread_mutex_unlock(&pcap->lock);
}

void pcap_close(struct pcap *pcap)
{
	if (!pcap)
		return;
	close(pcap->fd);
	pthread_mutex_destroy(&pcap->lock);
	free(pcap);
}
