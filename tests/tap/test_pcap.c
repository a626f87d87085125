/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Capture files, read back as a reader of the format would.
 */
#include "taploom/tap.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#define FILE_HEADER   24
#define RECORD_HEADER 16

static char path[] = "/tmp/taploom-pcap-XXXXXX";
static struct pcap *pcap;
static uint8_t file[1 << 18];

static int set_up(void **state)
{
	int fd;

	(void)state;
	memcpy(path + sizeof(path) - 7, "XXXXXX", 6);
	fd = mkstemp(path);
	close(fd);
	return fd < 0 ? -1 : pcap_open(&pcap, path);
}

static int tear_down(void **state)
{
	(void)state;
	pcap_close(pcap);
	pcap = NULL;
	return unlink(path);
}

static size_t read_back(void)
{
	int fd = open(path, O_RDONLY);
	ssize_t n = read(fd, file, sizeof(file));

	close(fd);
	assert_true(n >= 0);
	return (size_t)n;
}

static uint32_t word(size_t off)
{
	uint32_t v;

	memcpy(&v, file + off, sizeof(v));
	return v;
}

static void a_file_begins_with_its_header(void **state)
{
	(void)state;
	assert_int_equal(read_back(), FILE_HEADER);
	assert_int_equal(word(0), 0xa1b23c4d); /* nanoseconds */
	assert_int_equal(word(4), 2 | 4 << 16);
	assert_int_equal(word(20), 1); /* Ethernet */
}

static void a_frame_in_pieces_is_one_record(void **state)
{
	struct iovec iov[] = { { (void *)"abc", 3 }, { (void *)"", 0 }, { (void *)"defgh", 5 } };

	(void)state;
	pcap_write(pcap, iov, 3);
	assert_int_equal(read_back(), FILE_HEADER + RECORD_HEADER + 8);
	assert_true(word(FILE_HEADER) > 1000000000);
	assert_in_range(word(FILE_HEADER + 4), 0, 999999999);
	assert_int_equal(word(FILE_HEADER + 8), 8);
	assert_int_equal(word(FILE_HEADER + 12), 8);
	assert_memory_equal(file + FILE_HEADER + RECORD_HEADER, "abcdefgh", 8);
}

static void a_frame_in_very_many_pieces_is_one_record(void **state)
{
	struct iovec iov[1000];

	(void)state;
	for (int i = 0; i < 1000; i++)
		iov[i] = (struct iovec){ (void *)"xyz", 3 };
	pcap_write(pcap, iov, 1000);
	assert_int_equal(read_back(), FILE_HEADER + RECORD_HEADER + 3000);
	assert_int_equal(word(FILE_HEADER + 12), 3000);
	for (size_t i = 0; i < 1000; i++)
		assert_memory_equal(file + FILE_HEADER + RECORD_HEADER + 3 * i, "xyz", 3);
}

static void *write_records(void *arg)
{
	struct iovec iov[2] = { { arg, 1 }, { arg, 1 } };

	for (int i = 0; i < 1000; i++)
		pcap_write(pcap, iov, 2);
	return NULL;
}

static void records_of_four_threads_do_not_mix(void **state)
{
	static char names[] = "abcd";
	pthread_t threads[4];
	size_t len;

	(void)state;
	for (int i = 0; i < 4; i++)
		pthread_create(&threads[i], NULL, write_records, &names[i]);
	for (int i = 0; i < 4; i++)
		pthread_join(threads[i], NULL);
	len = read_back();
	assert_int_equal(len, FILE_HEADER + 4000 * (RECORD_HEADER + 2));
	for (size_t at = FILE_HEADER; at < len; at += RECORD_HEADER + 2) {
		assert_int_equal(word(at + 12), 2);
		assert_int_equal(file[at + RECORD_HEADER], file[at + RECORD_HEADER + 1]);
	}
}

static void a_capture_is_for_its_owner_alone(void **state)
{
	struct pcap *other;
	struct stat st;

	(void)state;
	unlink(path);
	assert_int_equal(pcap_open(&other, path), 0);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 077, 0);
	pcap_close(other);
}

static void a_path_that_cannot_be_written_is_refused(void **state)
{
	struct pcap *other;

	(void)state;
	assert_int_equal(pcap_open(&other, "/nonexistent/capture"), -ENOENT);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(a_file_begins_with_its_header, set_up, tear_down),
		cmocka_unit_test_setup_teardown(a_frame_in_pieces_is_one_record, set_up, tear_down),
		cmocka_unit_test_setup_teardown(a_frame_in_very_many_pieces_is_one_record, set_up,
						tear_down),
		cmocka_unit_test_setup_teardown(records_of_four_threads_do_not_mix, set_up,
						tear_down),
		cmocka_unit_test_setup_teardown(a_capture_is_for_its_owner_alone, set_up,
						tear_down),
		cmocka_unit_test(a_path_that_cannot_be_written_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
