/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The tun transport on a real device, in a network namespace of the test's own, with shards that
 * only note what they are given. What the guest's kernel says is raw frames on a packet socket.
 */
#include "tap/tun.h"

#include "taploom/checksum.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/if_tun.h>
#include <poll.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#define DEVICE	 "tuntest0"
#define N_SHARDS 2
#define HEADERS	 (ETH_HEADER_LEN + 20 + 20)

struct shard {
	unsigned int id;
	struct counters counters;
	struct ring ring;
	_Atomic unsigned int n_run; /* frames run in this shard's context */
	_Atomic unsigned int n_wakes;
	bool busy;
};

struct control {
	unsigned int n_frames;
	unsigned int n_gone;
};

static struct shard shards[N_SHARDS];
static struct control control;

enum drop control_post_frame(struct control *c, const struct frame *frame)
{
	(void)frame;
	c->n_frames++;
	return DROP_NONE;
}

bool control_guest_address(struct control *c, const struct ip_addr *addr)
{
	(void)c;
	(void)addr;
	return true;
}

void control_guest_event(struct control *c, enum guest_event event)
{
	c->n_gone += event == GUEST_GONE;
}

struct counters *shard_counters(struct shard *shard)
{
	return &shard->counters;
}

int shard_add_source(struct shard *shard, struct shard_source *source)
{
	(void)shard;
	(void)source;
	return 0;
}

void shard_remove_source(struct shard *shard, struct shard_source *source)
{
	(void)shard;
	(void)source;
}

void shard_finish_source(struct shard *shard, struct shard_source *source)
{
	source->read(source, shard);
}

void shard_run_batch(struct shard *shard, struct batch *batch)
{
	atomic_fetch_add(&shard->n_run, batch->n_frames);
	batch_done(batch);
}

bool shard_try_enter(struct shard *shard)
{
	return !shard->busy;
}

void shard_leave(struct shard *shard)
{
	(void)shard;
}

struct ring *shard_ring(struct shard *shard, unsigned int producer)
{
	assert_int_equal(producer, 0);
	return &shard->ring;
}

void shard_drain_ring(struct shard *shard, unsigned int producer)
{
	struct batch batch;

	while (ring_pop(shard_ring(shard, producer), &batch))
		shard_run_batch(shard, &batch);
}

void shard_wake(struct shard *shard, struct counters *waker)
{
	(void)waker;
	atomic_fetch_add(&shard->n_wakes, 1);
}

struct fixture {
	struct config config;
	struct runtime rt;
	struct steering steering;
	struct transport *transport;
	int fds[4];
	int packet_fd; /* the guest's kernel, as it were */
};

static int queue_open(void)
{
	struct ifreq ifr = { .ifr_flags = (short)(IFF_TAP | IFF_NO_PI | IFF_MULTI_QUEUE |
						  IFF_VNET_HDR) };
	int size = TUN_VNET_HDR_SIZE;
	int fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);

	assert_true(fd >= 0);
	snprintf(ifr.ifr_name, IFNAMSIZ, "%s", DEVICE);
	assert_int_equal(ioctl(fd, TUNSETIFF, &ifr), 0);
	assert_int_equal(ioctl(fd, TUNSETVNETHDRSZ, &size), 0);
	return fd;
}

static int packet_open(void)
{
	struct sockaddr_ll to = { .sll_family = AF_PACKET,
				  .sll_protocol = htons(ETH_P_ALL),
				  .sll_ifindex = (int)if_nametoindex(DEVICE) };
	int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, htons(ETH_P_ALL));
	int one = 1;

	assert_true(fd >= 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&to, sizeof(to)), 0);
	setsockopt(fd, SOL_PACKET, PACKET_IGNORE_OUTGOING, &one, sizeof(one));
	return fd;
}

static int set_up(void **state, unsigned int n_queues, unsigned int offloads)
{
	struct fixture *f = calloc(1, sizeof(*f));

	for (unsigned int i = 0; i < n_queues; i++)
		f->fds[i] = queue_open();
	assert_int_equal(ioctl(f->fds[0], TUNSETOFFLOAD, offloads), 0);
	assert_int_equal(system("echo 1 > /proc/sys/net/ipv6/conf/" DEVICE "/disable_ipv6;"
				"ip link set " DEVICE " up mtu 1500"),
			 0);
	memset(shards, 0, sizeof(shards));
	control = (struct control){ 0 };
	f->rt.config = &f->config;
	f->rt.n_shards = N_SHARDS;
	f->rt.control = &control;
	f->rt.steering_rcu = &f->steering;
	for (unsigned int i = 0; i < N_SHARDS; i++)
		f->rt.shards[i] = &shards[i];
	assert_int_equal(tun_transport_new(&f->transport, &f->rt, f->fds, n_queues, offloads, NULL),
			 0);
	for (unsigned int i = 0; i <= N_SHARDS; i++)
		f->transport->ops->tx(f->transport, i)->counters = &shards[0].counters;
	f->packet_fd = packet_open();
	*state = f;
	return 0;
}

static int set_up_queues(void **state)
{
	return set_up(state, N_SHARDS, TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6 | TUN_F_TSO_ECN);
}

static int set_up_plain(void **state)
{
	return set_up(state, N_SHARDS, 0);
}

static int set_up_one(void **state)
{
	return set_up(state, 1, TUN_F_CSUM | TUN_F_TSO4);
}

static int tear_down(void **state)
{
	struct fixture *f = *state;

	close(f->packet_fd);
	f->transport->ops->free(f->transport);
	free(f);
	return 0;
}

/* A TCP segment with payload_len bytes of payload; addresses are the device's and 192.0.2.0/24. */
static size_t tcp_frame(uint8_t *frame, size_t payload_len)
{
	static const uint8_t eth[] = { 2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0 };
	uint8_t *ip = frame + ETH_HEADER_LEN, *tcp = ip + 20;
	uint16_t sum;

	memset(frame, 0, HEADERS + payload_len);
	memcpy(frame, eth, sizeof(eth));
	ip[0] = 0x45;
	store_be16(ip + 2, (uint16_t)(40 + payload_len));
	ip[8] = 64;
	ip[9] = IPPROTO_TCP;
	memcpy(ip + 12, (uint8_t[]){ 192, 0, 2, 1, 192, 0, 2, 2 }, 8);
	sum = checksum_finish(checksum_add(0, ip, 20));
	memcpy(ip + 10, &sum, 2);
	store_be16(tcp, 1000);
	store_be16(tcp + 2, 2000);
	tcp[12] = 0x50;
	tcp[13] = 0x10;
	return HEADERS + payload_len;
}

static void guest_sends(struct fixture *f, const uint8_t *frame, size_t len)
{
	assert_int_equal(send(f->packet_fd, frame, len, 0), len);
}

static struct tun_queue *queue_of(struct fixture *f, unsigned int i)
{
	return &((struct tun_transport *)(void *)f->transport)->queues[i];
}

/* Frames read by the shards themselves; the kernel chooses the queue. */
static unsigned int shards_read(struct fixture *f)
{
	role_is_shard();
	for (unsigned int i = 0; i < N_SHARDS; i++)
		while (tun_source_read(&queue_of(f, i)->source, &shards[i]))
			;
	return shards[0].n_run + shards[1].n_run;
}

static void test_each_shard_reads_its_queue_to_the_end(void **state)
{
	struct fixture *f = *state;
	uint8_t frame[2000];

	f->transport->ops->start(f->transport);
	assert_int_equal(f->rt.n_readers, 0);
	for (int i = 0; i < 100; i++)
		guest_sends(f, frame, tcp_frame(frame, 1000));
	assert_int_equal(shards_read(f), 100);
	assert_int_equal(counter_get(&shards[0].counters, COUNT_RX_FRAMES) +
				 counter_get(&shards[1].counters, COUNT_RX_FRAMES),
			 100);
}

static void test_the_guests_ethernet_address_is_noted(void **state)
{
	struct fixture *f = *state;
	uint8_t frame[2000];
	struct eth_addr mac;

	f->transport->ops->start(f->transport);
	guest_sends(f, frame, tcp_frame(frame, 10));
	shards_read(f);
	mac = guest_mac_get(&f->rt);
	assert_int_equal(mac.b[5], 2);
}

static void test_control_frames_go_to_the_control_thread(void **state)
{
	struct fixture *f = *state;
	uint8_t arp[42] = { 255, 255, 255, 255, 255, 255, 2, 0, 0, 0, 0,
			    2,	 8,   6,   0,	1,   8,	  0, 6, 4, 0, 1 };

	f->transport->ops->start(f->transport);
	guest_sends(f, arp, sizeof(arp));
	assert_int_equal(shards_read(f), 0);
	assert_int_equal(control.n_frames, 1);
}

static void test_a_slab_is_free_again_when_its_batch_is_done(void **state)
{
	struct fixture *f = *state;
	uint8_t frame[2000];

	f->transport->ops->start(f->transport);
	guest_sends(f, frame, tcp_frame(frame, 10));
	shards_read(f);
	for (unsigned int i = 0; i < TUN_SLABS; i++) {
		assert_int_equal(queue_of(f, 0)->slabs[i].refs, 0);
		assert_int_equal(queue_of(f, 1)->slabs[i].refs, 0);
	}
}

static void test_a_device_that_goes_is_told_once_and_its_queue_falls_silent(void **state)
{
	struct fixture *f = *state;
	struct pollfd pfd = { .events = POLLIN };

	role_is_shard();
	f->transport->ops->start(f->transport);
	assert_int_equal(system("ip link del " DEVICE), 0);
	shards_read(f);
	shards_read(f);
	assert_int_equal(control.n_gone, 1);
	pfd.fd = queue_of(f, 0)->source.fd;
	assert_int_equal(poll(&pfd, 1, 0) == 1 && (pfd.revents & POLLIN), 0);
}

static size_t guest_receives(struct fixture *f, uint8_t *frame, size_t size)
{
	ssize_t len = recv(f->packet_fd, frame, size, MSG_DONTWAIT | MSG_TRUNC);

	return len < 0 ? 0 : (size_t)len;
}

static void test_a_committed_frame_reaches_the_guest(void **state)
{
	struct fixture *f = *state;
	struct tx *tx = f->transport->ops->tx(f->transport, 0);
	struct tx_offload complete = { 0 };
	uint8_t got[2000];
	uint8_t *room = tx_frame_begin(tx, 0, 1514);
	size_t len = tcp_frame(room, 100);

	tx_frame_commit(tx, len, &complete);
	assert_true(tx_flush(tx));
	assert_int_equal(guest_receives(f, got, sizeof(got)), len);
	assert_int_equal(counter_get(tx->counters, COUNT_TX_FRAMES), 1);
}

static void test_with_segmentation_a_burst_is_one_frame(void **state)
{
	struct fixture *f = *state;
	struct tx *tx = f->transport->ops->tx(f->transport, 1);
	struct tx_offload offload = { .gso_type = VIRTIO_NET_HDR_GSO_TCPV4,
				      .gso_size = 1000,
				      .hdr_len = HEADERS,
				      .csum_start = ETH_HEADER_LEN + 20,
				      .csum_offset = 16 };
	static uint8_t got[70000];
	struct tx_burst burst;

	assert_true(
		tx_burst_begin(tx, &burst, 0, HEADERS, 1000, 1 << 20, VIRTIO_NET_HDR_GSO_TCPV4));
	assert_true(burst.gso);
	assert_int_equal(burst.room, 65000);
	tcp_frame(burst.hdr[0], 65000);
	tx_burst_commit(tx, &burst, 65000, &offload);
	assert_int_equal(guest_receives(f, got, sizeof(got)), HEADERS + 65000);
	assert_int_equal(counter_get(tx->counters, COUNT_TX_FLUSHES), 1);
}

static void test_without_segmentation_a_burst_is_a_frame_per_segment(void **state)
{
	struct fixture *f = *state;
	struct tx *tx = f->transport->ops->tx(f->transport, 0);
	struct tx_offload complete = { 0 };
	uint8_t got[2000];
	struct tx_burst burst;

	assert_true(tx_burst_begin(tx, &burst, 0, HEADERS, 1000, 2500, VIRTIO_NET_HDR_GSO_TCPV4));
	assert_false(burst.gso);
	assert_int_equal(burst.n_segments, 3);
	assert_int_equal(burst.room, 2500);
	for (unsigned int i = 0; i < 3; i++)
		tcp_frame(burst.hdr[i], i < 2 ? 1000 : 200);
	tx_burst_commit(tx, &burst, 2200, &complete);
	assert_int_equal(guest_receives(f, got, sizeof(got)), HEADERS + 1000);
	assert_int_equal(guest_receives(f, got, sizeof(got)), HEADERS + 1000);
	assert_int_equal(guest_receives(f, got, sizeof(got)), HEADERS + 200);
}

static void test_a_burst_of_nothing_sends_nothing(void **state)
{
	struct fixture *f = *state;
	struct tx *tx = f->transport->ops->tx(f->transport, 0);
	struct tx_offload complete = { 0 };
	struct tx_burst burst;
	uint8_t got[2000];

	assert_true(tx_burst_begin(tx, &burst, 0, HEADERS, 1000, 2500, 0));
	tx_burst_commit(tx, &burst, 0, &complete);
	assert_int_equal(guest_receives(f, got, sizeof(got)), 0);
}

static void test_a_frame_for_a_device_that_is_down_is_counted(void **state)
{
	struct fixture *f = *state;
	struct tx *tx = f->transport->ops->tx(f->transport, 0);
	struct tx_offload complete = { 0 };

	assert_int_equal(system("ip link set " DEVICE " down"), 0);
	tx_frame_commit(tx, tcp_frame(tx_frame_begin(tx, 0, 100), 10), &complete);
	assert_int_equal(tx->counters->drop[DROP_TX_NO_GUEST], 1);
	assert_int_equal(counter_get(tx->counters, COUNT_TX_FRAMES), 0);
}

static void test_caps_are_what_the_kernel_accepted(void **state)
{
	struct fixture *f = *state;
	struct tx *tx = f->transport->ops->tx(f->transport, 0);

	assert_int_equal(tx_caps(tx, 0), TX_CSUM | TX_TSO4 | TX_TSO6 | TX_ECN);
}

/* Waits until the reader has handed over n frames, in place or by the rings. */
static void await_frames(struct fixture *f, uint64_t n)
{
	const struct counters *c = f->transport->reader_counters;

	while (counter_get(c, COUNT_FRAMES_INLINE) + counter_get(c, COUNT_FRAMES_RING) < n)
		sched_yield();
}

static void test_with_fewer_queues_a_reader_steers_by_the_hash(void **state)
{
	struct fixture *f = *state;
	uint8_t frame[2000];

	memset(f->steering.shard, 1, sizeof(f->steering.shard));
	assert_int_equal(f->rt.n_readers, 1);
	assert_int_equal(f->transport->ops->start(f->transport), 0);
	guest_sends(f, frame, tcp_frame(frame, 100));
	await_frames(f, 1);
	f->transport->ops->stop(f->transport);
	assert_int_equal(shards[1].n_run, 1);
	assert_int_equal(shards[0].n_run, 0);
}

static void test_a_busy_shard_gets_its_batch_by_the_ring(void **state)
{
	struct fixture *f = *state;
	uint8_t frame[2000];

	role_is_shard();
	shards[0].busy = true;
	assert_int_equal(f->transport->ops->start(f->transport), 0);
	guest_sends(f, frame, tcp_frame(frame, 100));
	await_frames(f, 1);
	f->transport->ops->stop(f->transport);
	assert_int_equal(shards[0].n_run, 0);
	assert_int_equal(shards[0].n_wakes, 1);
	shard_drain_ring(&shards[0], 0);
	assert_int_equal(shards[0].n_run, 1);
}

#define TEST(f, set_up) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_each_shard_reads_its_queue_to_the_end, set_up_queues),
		TEST(test_the_guests_ethernet_address_is_noted, set_up_queues),
		TEST(test_control_frames_go_to_the_control_thread, set_up_queues),
		TEST(test_a_slab_is_free_again_when_its_batch_is_done, set_up_queues),
		TEST(test_a_device_that_goes_is_told_once_and_its_queue_falls_silent,
		     set_up_queues),
		TEST(test_a_committed_frame_reaches_the_guest, set_up_queues),
		TEST(test_with_segmentation_a_burst_is_one_frame, set_up_queues),
		TEST(test_without_segmentation_a_burst_is_a_frame_per_segment, set_up_plain),
		TEST(test_a_burst_of_nothing_sends_nothing, set_up_queues),
		TEST(test_a_frame_for_a_device_that_is_down_is_counted, set_up_queues),
		TEST(test_caps_are_what_the_kernel_accepted, set_up_queues),
		TEST(test_with_fewer_queues_a_reader_steers_by_the_hash, set_up_one),
		TEST(test_a_busy_shard_gets_its_batch_by_the_ring, set_up_one),
	};

	if (unshare(CLONE_NEWNET) < 0 && unshare(CLONE_NEWUSER | CLONE_NEWNET) < 0) {
		puts("skipped: no network namespace can be made here");
		return 0;
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
