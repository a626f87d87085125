/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The stream's transmit batches: what the guest reads is exactly what was committed, in whole
 * frames, however little the socket takes at a time.
 */
#include "stream_fixture.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static const struct tx_offload plain;

static struct tx *tx_of(unsigned int index)
{
	return stream->transport.ops->tx(&stream->transport, index);
}

/* Commits a frame of len bytes: its thread, a number, then a pattern. False: there was no room. */
static bool say(unsigned int index, uint32_t number, size_t len)
{
	uint8_t *frame = tx_frame_begin(tx_of(index), 0, len);

	if (!frame)
		return false;
	frame[0] = (uint8_t)index;
	store_be32(frame + 1, number);
	memset(frame + 5, (uint8_t)number, len - 5);
	tx_frame_commit(tx_of(index), len, &plain);
	return true;
}

static void read_all(void *buf, size_t len)
{
	assert_int_equal(recv(guest_fd, buf, len, MSG_WAITALL), (ssize_t)len);
}

static uint8_t heard[FRAME_MAX];

/* Reads the next frame into heard and returns its length. */
static size_t hear(void)
{
	uint8_t prefix[STREAM_PREFIX];
	size_t len;

	read_all(prefix, sizeof(prefix));
	len = load_be32(prefix);
	assert_in_range(len, FRAME_MIN, FRAME_MAX);
	read_all(heard, len);
	return len;
}

static void assert_heard(unsigned int index, uint32_t number, size_t len)
{
	assert_int_equal(hear(), len);
	assert_int_equal(heard[0], index);
	assert_int_equal(load_be32(heard + 1), number);
	assert_int_equal(heard[len - 1], (uint8_t)number);
}

static void nothing_more_is_heard(void)
{
	uint8_t byte;

	assert_int_equal(recv(guest_fd, &byte, 1, MSG_DONTWAIT), -1);
}

static void a_frame_arrives_behind_its_length(void **state)
{
	(void)state;
	assert_true(say(0, 1, 60));
	assert_true(tx_flush(tx_of(0)));
	assert_heard(0, 1, 60);
}

static void nothing_is_written_before_the_flush(void **state)
{
	(void)state;
	assert_true(say(0, 1, 60));
	nothing_more_is_heard();
}

static void a_frame_may_be_shorter_than_its_room(void **state)
{
	uint8_t *frame = tx_frame_begin(tx_of(0), 0, 1000);

	(void)state;
	memset(frame, 0, 100);
	tx_frame_commit(tx_of(0), 100, &plain);
	assert_true(say(0, 2, 60));
	tx_flush(tx_of(0));
	assert_int_equal(hear(), 100);
	assert_heard(0, 2, 60);
}

static void a_frame_that_is_not_committed_is_not_sent(void **state)
{
	(void)state;
	assert_non_null(tx_frame_begin(tx_of(0), 0, 1000));
	assert_true(say(0, 2, 60));
	tx_flush(tx_of(0));
	assert_heard(0, 2, 60);
	nothing_more_is_heard();
}

static void the_longest_frame_fits(void **state)
{
	(void)state;
	assert_true(say(0, 1, FRAME_MAX));
	assert_true(tx_flush(tx_of(0)));
	assert_heard(0, 1, FRAME_MAX);
}

static void a_batch_takes_one_system_call(void **state)
{
	(void)state;
	for (uint32_t i = 0; i < 20; i++)
		assert_true(say(0, i, 100));
	tx_flush(tx_of(0));
	assert_int_equal(counter_get(tx_of(0)->counters, COUNT_TX_FLUSHES), 1);
	assert_int_equal(counter_get(tx_of(0)->counters, COUNT_TX_FRAMES), 20);
	assert_int_equal(counter_get(tx_of(0)->counters, COUNT_TX_BYTES), 2000);
}

/* Begins a burst and fills it as readv() would. */
static size_t fill_burst(struct tx_burst *burst, size_t seg_len, size_t want, size_t got)
{
	uint8_t next = 0;
	size_t left = got;

	assert_true(tx_burst_begin(tx_of(0), burst, 0, 54, seg_len, want, 0));
	assert_false(burst->gso);
	for (unsigned int i = 0; i < burst->n_iov && left; i++) {
		size_t n = burst->iov[i].iov_len < left ? burst->iov[i].iov_len : left;

		memset(burst->hdr[i], 0xee, 54);
		memset(burst->iov[i].iov_base, next++, n);
		left -= n;
	}
	return burst->room;
}

static void a_burst_becomes_a_frame_per_segment(void **state)
{
	struct tx_burst burst;

	(void)state;
	assert_int_equal(fill_burst(&burst, 1000, 3500, 2500), 3500);
	assert_int_equal(burst.n_segments, 4);
	tx_burst_commit(tx_of(0), &burst, 2500, &plain);
	tx_flush(tx_of(0));
	for (uint8_t i = 0; i < 3; i++) {
		assert_int_equal(hear(), i < 2 ? 1054 : 554);
		assert_int_equal(heard[0], 0xee);
		assert_int_equal(heard[53], 0xee);
		assert_int_equal(heard[54], i);
	}
	nothing_more_is_heard();
}

static void a_burst_of_nothing_sends_nothing(void **state)
{
	struct tx_burst burst;

	(void)state;
	fill_burst(&burst, 1000, 3500, 0);
	tx_burst_commit(tx_of(0), &burst, 0, &plain);
	tx_flush(tx_of(0));
	nothing_more_is_heard();
}

static void a_burst_has_64_segments_at_most(void **state)
{
	struct tx_burst burst;

	(void)state;
	assert_int_equal(fill_burst(&burst, 1000, 1000000, 0), TX_BURST_SEGMENTS * 1000);
}

static void a_burst_of_long_segments_is_as_long_as_the_buffer(void **state)
{
	struct tx_burst burst;
	size_t room = fill_burst(&burst, 65000, 10000000, 0);

	(void)state;
	assert_int_equal(room, 65000 * burst.n_segments);
	assert_in_range(burst.n_segments, 10, 16);
}

/* Says frames of len bytes until no more go out, and returns their number. */
static uint32_t say_until_full(unsigned int index, size_t len)
{
	uint32_t n = 0;

	do
		while (n % 10 != 9 && say(index, n, len))
			n++;
	while (tx_flush(tx_of(index)) && say(index, n, len) && ++n);
	return n;
}

static void when_the_socket_is_full_begin_gives_nothing(void **state)
{
	(void)state;
	say_until_full(0, 3000);
	assert_null(tx_frame_begin(tx_of(0), 0, 60));
	assert_true(tx_of(0)->blocked);
	assert_true(counter_get(tx_of(0)->counters, COUNT_TX_STALLS) > 0);
}

/* What the reader does when the epoll says that there is room. */
static void resume_when_told(void)
{
	struct epoll_event ev;

	assert_int_equal(epoll_wait(stream->epoll_fd, &ev, 1, -1), 1);
	assert_int_equal(ev.data.u32, STREAM_EVENT_OUT);
	role_is_reader();
	stream_tx_resume(stream);
}

static void what_was_committed_arrives_in_order_once_there_is_room(void **state)
{
	uint32_t n, i;

	(void)state;
	n = say_until_full(0, 3001);
	for (i = 0; i < n - 12; i++)
		assert_heard(0, i, 3001);
	resume_when_told();
	assert_int_equal(sem_trywait(&rt.shards[0]->tx_room), 0);
	assert_true(tx_flush(tx_of(0)));
	for (; i < n; i++)
		assert_heard(0, i, 3001);
	nothing_more_is_heard();
}

/* Fills the socket so that a frame of thread 0 is cut; reads a little less than all of it. */
static uint32_t cut_a_frame(void)
{
	uint32_t n = 0;

	while (!stream->cut_len) {
		assert_true(say(0, n++, 60001));
		tx_flush(tx_of(0));
	}
	return n;
}

static void the_rest_of_a_cut_frame_goes_before_another_threads(void **state)
{
	uint32_t n = cut_a_frame(), i;

	(void)state;
	for (i = 0; i + 1 < n; i++)
		assert_heard(0, i, 60001);
	assert_true(say(1, 7, 100));
	assert_true(tx_flush(tx_of(1)));
	assert_heard(0, i, 60001);
	assert_heard(1, 7, 100);
}

static void the_reader_sends_the_rest_of_a_cut_frame(void **state)
{
	uint32_t n = cut_a_frame(), i;

	(void)state;
	for (i = 0; i + 1 < n; i++)
		assert_heard(0, i, 60001);
	resume_when_told();
	assert_int_equal(stream->cut_len, 0);
	assert_heard(0, i, 60001);
}

static void without_a_guest_there_is_no_room_and_nothing_to_wait_for(void **state)
{
	(void)state;
	atomic_store(&stream->generation, 2);
	assert_null(tx_frame_begin(tx_of(0), 0, 60));
	assert_false(tx_of(0)->blocked);
}

static void frames_for_a_guest_that_is_gone_are_not_for_the_next(void **state)
{
	(void)state;
	assert_true(say(0, 1, 60));
	atomic_store(&stream->generation, 3);
	assert_true(tx_flush(tx_of(0)));
	assert_true(say(0, 2, 60));
	tx_flush(tx_of(0));
	assert_heard(0, 2, 60);
}

static void a_thread_that_waited_may_go_on_with_the_next_guest(void **state)
{
	(void)state;
	say_until_full(0, 3000);
	atomic_store(&stream->generation, 3);
	assert_true(say(0, 2, 60));
}

static void a_connection_that_broke_is_not_waited_for(void **state)
{
	(void)state;
	close(guest_fd);
	guest_fd = -1;
	assert_true(say(0, 1, 60));
	assert_true(tx_flush(tx_of(0)));
}

static void the_control_threads_batch_is_woken_like_a_shards(void **state)
{
	(void)state;
	role_is_reader();
	say_until_full(TEST_SHARDS, 3000);
	stream_tx_wake_all(stream);
	assert_int_equal(control.tx_wakes, 1);
}

#define FRAMES_EACH 3000

/* A shard's thread that has FRAMES_EACH frames to say and waits when it must. */
static void *talk(void *arg)
{
	struct shard *shard = arg;
	uint32_t n = 0;

	while (n < FRAMES_EACH) {
		while (n < FRAMES_EACH && say(shard->id, n, 60 + n % 2000)) {
			n++;
			if (n % 16 == 0)
				break;
		}
		while (!tx_flush(tx_of(shard->id)))
			sem_wait(&shard->tx_room);
	}
	return NULL;
}

static _Atomic bool all_heard;

static void *resume_until_all_is_heard(void *arg)
{
	struct epoll_event ev;
	eventfd_t n;

	(void)arg;
	role_is_reader();
	while (!atomic_load(&all_heard)) {
		if (epoll_wait(stream->epoll_fd, &ev, 1, -1) != 1)
			continue;
		if (ev.data.u32 == STREAM_EVENT_OUT)
			stream_tx_resume(stream);
		else
			eventfd_read(stream->event_fd, &n);
	}
	return NULL;
}

static void frames_of_four_threads_never_mix(void **state)
{
	pthread_t talkers[TEST_SHARDS], reader;
	uint32_t next[TEST_SHARDS] = { 0 };

	(void)state;
	for (unsigned int i = 0; i < TEST_SHARDS; i++)
		tx_of(i)->counters = &rt.shards[i]->counters;
	atomic_store(&all_heard, false);
	pthread_create(&reader, NULL, resume_until_all_is_heard, NULL);
	for (unsigned int i = 0; i < TEST_SHARDS; i++)
		pthread_create(&talkers[i], NULL, talk, rt.shards[i]);
	for (unsigned int n = 0; n < TEST_SHARDS * FRAMES_EACH; n++) {
		size_t len = hear();
		uint8_t who = heard[0];

		assert_in_range(who, 0, TEST_SHARDS - 1);
		assert_int_equal(load_be32(heard + 1), next[who]);
		assert_int_equal(len, 60 + next[who] % 2000);
		assert_int_equal(heard[len - 1], (uint8_t)next[who]);
		next[who]++;
	}
	atomic_store(&all_heard, true);
	eventfd_write(stream->event_fd, 1);
	for (unsigned int i = 0; i < TEST_SHARDS; i++)
		pthread_join(talkers[i], NULL);
	pthread_join(reader, NULL);
	nothing_more_is_heard();
}

#define TX_TEST(f) cmocka_unit_test_setup_teardown(f, set_up_turns, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TX_TEST(a_frame_arrives_behind_its_length),
		TX_TEST(nothing_is_written_before_the_flush),
		TX_TEST(a_frame_may_be_shorter_than_its_room),
		TX_TEST(a_frame_that_is_not_committed_is_not_sent),
		TX_TEST(the_longest_frame_fits),
		TX_TEST(a_batch_takes_one_system_call),
		TX_TEST(a_burst_becomes_a_frame_per_segment),
		TX_TEST(a_burst_of_nothing_sends_nothing),
		TX_TEST(a_burst_has_64_segments_at_most),
		TX_TEST(a_burst_of_long_segments_is_as_long_as_the_buffer),
		TX_TEST(when_the_socket_is_full_begin_gives_nothing),
		TX_TEST(what_was_committed_arrives_in_order_once_there_is_room),
		TX_TEST(the_rest_of_a_cut_frame_goes_before_another_threads),
		TX_TEST(the_reader_sends_the_rest_of_a_cut_frame),
		TX_TEST(without_a_guest_there_is_no_room_and_nothing_to_wait_for),
		TX_TEST(frames_for_a_guest_that_is_gone_are_not_for_the_next),
		TX_TEST(a_thread_that_waited_may_go_on_with_the_next_guest),
		TX_TEST(a_connection_that_broke_is_not_waited_for),
		TX_TEST(the_control_threads_batch_is_woken_like_a_shards),
		TX_TEST(frames_of_four_threads_never_mix),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
