/* SPDX-License-Identifier: Apache-2.0 */
#include "vu_device.h"

#include <errno.h>
#include <linux/virtio_config.h>
#include <linux/virtio_net.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#define USER  0x7f0000000000u
#define GUEST 0x100000u
#define SIZE  0x10000u

/* A device with its front-end's memory. */
struct rig {
	struct vu_device device;
	int mem_fd;
	unsigned int n_changes, n_detached;
	uint8_t reply[VU_REPLY_MAX];
	size_t reply_len;
};

static struct rig *rig_of(struct vu_device *device)
{
	return (struct rig *)(void *)device;
}

static void detach(struct vu_device *device, struct vu_queue *queue)
{
	(void)queue;
	rig_of(device)->n_detached++;
}

static void changed(struct vu_device *device)
{
	rig_of(device)->n_changes++;
}

static const struct vu_device_ops ops = { detach, changed };

static int setup(void **state)
{
	struct rig *rig = calloc(1, sizeof(*rig));

	rig->mem_fd = memfd_create("memory", MFD_CLOEXEC);
	*state = rig;
	return ftruncate(rig->mem_fd, SIZE) || vu_device_init(&rig->device, &ops);
}

static int teardown(void **state)
{
	struct rig *rig = *state;

	vu_device_destroy(&rig->device);
	close(rig->mem_fd);
	free(rig);
	return 0;
}

/* Carries a request out; a descriptor that isn't kept is closed, as the connection's owner does. */
static int ask_fd(struct rig *rig, struct vu_message message, int fd)
{
	int err = vu_device_handle(&rig->device, &message, &fd, fd >= 0 ? 1 : 0, rig->reply,
				   &rig->reply_len);

	if (fd >= 0)
		close(fd);
	return err;
}

static uint64_t reply_value(const struct rig *rig)
{
	uint64_t value;

	assert_int_equal(rig->reply_len, VU_HEADER_LEN + 8);
	memcpy(&value, rig->reply + VU_HEADER_LEN, sizeof(value));
	return value;
}

/* As ask_fd(), with acknowledgement: whether it was accepted. */
static bool accepted_fd(struct rig *rig, struct vu_message message, int fd)
{
	message.need_reply = true;
	rig->device.protocol_features |= VU_FEATURE(VU_PROTOCOL_REPLY_ACK);
	assert_int_equal(ask_fd(rig, message, fd), 0);
	return reply_value(rig) == 0;
}

static bool accepted(struct rig *rig, struct vu_message message)
{
	return accepted_fd(rig, message, -1);
}

static uint64_t get(struct rig *rig, uint32_t request)
{
	assert_int_equal(ask_fd(rig, (struct vu_message){ .request = request }, -1), 0);
	return reply_value(rig);
}

static bool features(struct rig *rig, uint64_t bits)
{
	return accepted(rig, (struct vu_message){ .request = VU_SET_FEATURES, .u64 = bits });
}

static bool state_of(struct rig *rig, uint32_t request, uint32_t index, uint32_t num)
{
	return accepted(rig, (struct vu_message){ .request = request, .state = { index, num } });
}

static bool memory(struct rig *rig)
{
	struct vu_message message = { .request = VU_SET_MEM_TABLE };

	message.n_regions = 1;
	message.regions[0] = (struct vu_region){ GUEST, SIZE, USER, 0 };
	return accepted_fd(rig, message, dup(rig->mem_fd));
}

static bool addresses(struct rig *rig, uint32_t index)
{
	struct vu_message message = { .request = VU_SET_VRING_ADDR };

	message.addr = (struct vu_vring_addr){ index, 0, USER, USER + 0x2000, USER + 0x1000, 0 };
	return accepted(rig, message);
}

static bool kick(struct rig *rig, uint32_t index)
{
	return accepted_fd(rig, (struct vu_message){ .request = VU_SET_VRING_KICK, .u64 = index },
			   eventfd(0, EFD_CLOEXEC));
}

/* Where the ring says that the chains before are used. */
static void used(const struct rig *rig, uint16_t index)
{
	assert_int_equal(pwrite(rig->mem_fd, &index, sizeof(index), 0x2002), sizeof(index));
}

static void start(struct rig *rig, uint32_t index)
{
	assert_true(state_of(rig, VU_SET_VRING_NUM, index, 64));
	assert_true(addresses(rig, index));
	assert_true(kick(rig, index));
	assert_true(rig->device.queues[index].running);
}

static void what_is_offered_can_be_taken(void **state)
{
	struct rig *rig = *state;
	uint64_t offered = get(rig, VU_GET_FEATURES);

	assert_true(offered & VU_FEATURE(VIRTIO_F_VERSION_1));
	assert_true(offered & VU_FEATURE(VIRTIO_F_RING_PACKED));
	assert_true(features(rig, offered));
	assert_int_equal(rig->device.features, offered);
}

static void what_is_not_offered_is_refused(void **state)
{
	struct rig *rig = *state;

	assert_false(features(rig, VU_FEATURE(VIRTIO_F_ACCESS_PLATFORM)));
	assert_int_equal(rig->device.features, 0);
	assert_false(accepted(
		rig, (struct vu_message){ .request = VU_SET_PROTOCOL_FEATURES, .u64 = 1u << 5 }));
}

static void many_queue_pairs_are_offered(void **state)
{
	assert_true(get(*state, VU_GET_QUEUE_NUM) >= 32);
}

static void nothing_is_said_unless_asked_for(void **state)
{
	struct rig *rig = *state;

	assert_int_equal(ask_fd(rig, (struct vu_message){ .request = VU_SET_OWNER }, -1), 0);
	assert_int_equal(rig->reply_len, 0);
	/* Nor before acknowledgements were negotiated. */
	assert_int_equal(
		ask_fd(rig, (struct vu_message){ .request = VU_SET_OWNER, .need_reply = true }, -1),
		0);
	assert_int_equal(rig->reply_len, 0);
}

static void unknown_request_is_refused(void **state)
{
	assert_false(accepted(*state, (struct vu_message){ .request = 33 }));
	assert_false(accepted(*state, (struct vu_message){ .request = 4711 }));
}

static void ring_starts_with_its_kick(void **state)
{
	struct rig *rig = *state;

	features(rig, VU_FEATURE(30));
	assert_true(memory(rig));
	start(rig, 1);
	assert_false(rig->device.queues[1].enabled);
	assert_true(state_of(rig, VU_SET_VRING_ENABLE, 1, 1));
	assert_true(rig->device.queues[1].enabled);
}

static void ring_starts_enabled_without_protocol_features(void **state)
{
	struct rig *rig = *state;

	assert_true(memory(rig));
	start(rig, 0);
	assert_true(rig->device.queues[0].enabled);
}

static void order_of_set_up_does_not_matter(void **state)
{
	struct rig *rig = *state;

	assert_true(kick(rig, 0));
	assert_true(state_of(rig, VU_SET_VRING_NUM, 0, 64));
	addresses(rig, 0); /* not yet translatable */
	assert_false(rig->device.queues[0].running);
	assert_true(memory(rig));
	assert_true(rig->device.queues[0].running);
}

static void pair_is_active_when_both_rings_are_enabled(void **state)
{
	struct rig *rig = *state;

	features(rig, VU_FEATURE(30));
	memory(rig);
	start(rig, 2);
	start(rig, 3);
	state_of(rig, VU_SET_VRING_ENABLE, 2, 1);
	assert_false(vu_device_pair_active(&rig->device, 1));
	state_of(rig, VU_SET_VRING_ENABLE, 3, 1);
	assert_true(vu_device_pair_active(&rig->device, 1));
	state_of(rig, VU_SET_VRING_ENABLE, 2, 0);
	assert_false(vu_device_pair_active(&rig->device, 1));
}

static void base_is_given_and_the_ring_stops(void **state)
{
	struct rig *rig = *state;

	memory(rig);
	used(rig, 17);
	state_of(rig, VU_SET_VRING_BASE, 5, 17);
	start(rig, 5);
	assert_int_equal(
		ask_fd(rig, (struct vu_message){ .request = VU_GET_VRING_BASE, .state = { 5, 0 } },
		       -1),
		0);
	assert_int_equal(reply_value(rig), 17ull << 32 | 5);
	assert_false(rig->device.queues[5].running);
	assert_int_equal(rig->device.queues[5].kick_fd, -1);
	assert_true(kick(rig, 5)); /* and it starts again where it was */
	assert_int_equal(vring_base(&rig->device.queues[5].ring), 17);
}

/* Front-ends that say where the driver stands: what it has posted by then is still to be used. */
static void a_split_ring_goes_on_where_its_used_index_stands(void **state)
{
	struct rig *rig = *state;

	memory(rig);
	used(rig, 1000);
	state_of(rig, VU_SET_VRING_BASE, 4, 1064);
	start(rig, 4);
	assert_int_equal(vring_base(&rig->device.queues[4].ring), 1000);
	used(rig, 1000); /* of a ring that is far from it nothing is believed */
	state_of(rig, VU_SET_VRING_BASE, 2, 1065);
	start(rig, 2);
	assert_int_equal(vring_base(&rig->device.queues[2].ring), 1065);
}

static void ring_stops_when_its_memory_goes(void **state)
{
	struct rig *rig = *state;
	struct vu_message message = { .request = VU_REM_MEM_REG };

	memory(rig);
	start(rig, 0);
	message.region = (struct vu_region){ GUEST, SIZE, USER, 0 };
	assert_true(accepted(rig, message));
	assert_false(rig->device.queues[0].running);
	message.request = VU_ADD_MEM_REG;
	assert_true(accepted_fd(rig, message, dup(rig->mem_fd)));
	assert_true(rig->device.queues[0].running);
}

static void ring_goes_on_when_memory_is_added(void **state)
{
	struct rig *rig = *state;
	struct vu_message message = { .request = VU_ADD_MEM_REG };

	memory(rig);
	start(rig, 0);
	message.region = (struct vu_region){ GUEST + SIZE, SIZE, USER + SIZE, 0 };
	assert_true(accepted_fd(rig, message, dup(rig->mem_fd)));
	assert_true(rig->device.queues[0].running);
}

static void memory_without_descriptors_is_refused(void **state)
{
	struct vu_message message = { .request = VU_SET_MEM_TABLE };

	message.n_regions = 1;
	message.regions[0] = (struct vu_region){ GUEST, SIZE, USER, 0 };
	assert_false(accepted(*state, message));
}

static void slots_are_told(void **state)
{
	assert_int_equal(get(*state, VU_GET_MAX_MEM_SLOTS), VU_MEM_SLOTS);
}

static void ring_outside_memory_is_refused(void **state)
{
	struct rig *rig = *state;
	struct vu_message message = { .request = VU_SET_VRING_ADDR };

	memory(rig);
	state_of(rig, VU_SET_VRING_NUM, 0, 1024);
	message.addr = (struct vu_vring_addr){ 0, 0, USER + SIZE - 16, USER, USER, 0 };
	assert_false(accepted(rig, message));
	message.addr = (struct vu_vring_addr){ 0, 0, USER + 8, USER, USER, 0 };
	assert_false(accepted(rig, message)); /* not aligned */
	assert_true(kick(rig, 0));
	assert_false(rig->device.queues[0].running);
}

static void split_ring_of_an_odd_size_does_not_start(void **state)
{
	struct rig *rig = *state;

	memory(rig);
	state_of(rig, VU_SET_VRING_NUM, 0, 48);
	assert_false(addresses(rig, 0));
	kick(rig, 0);
	assert_false(rig->device.queues[0].running);
}

static void ring_numbers_outside_are_refused(void **state)
{
	static const uint32_t requests[] = { VU_SET_VRING_NUM, VU_SET_VRING_BASE,
					     VU_SET_VRING_ENABLE };
	struct rig *rig = *state;

	for (size_t i = 0; i < sizeof(requests) / sizeof(requests[0]); i++) {
		assert_false(state_of(rig, requests[i], VU_RINGS, 1));
		assert_false(state_of(rig, requests[i], UINT32_MAX, 1));
	}
	assert_false(kick(rig, VU_RINGS));
	assert_false(addresses(rig, VU_RINGS));
	assert_false(state_of(rig, VU_SET_VRING_NUM, 0, 0));
	assert_false(state_of(rig, VU_SET_VRING_NUM, 0, 65536));
}

static void base_of_no_ring_ends_the_connection(void **state)
{
	assert_int_equal(ask_fd(*state,
				(struct vu_message){ .request = VU_GET_VRING_BASE,
						     .state = { VU_RINGS, 0 } },
				-1),
			 -EPROTO);
}

static void kick_needs_a_descriptor_or_the_flag(void **state)
{
	struct vu_message message = { .request = VU_SET_VRING_KICK, .u64 = 0 };

	assert_false(accepted(*state, message));
}

static void ring_without_a_kick_is_polled(void **state)
{
	struct rig *rig = *state;
	struct vu_message message = { .request = VU_SET_VRING_KICK, .u64 = VU_VRING_FD_NONE };
	struct pollfd pfd = { .events = POLLIN };

	memory(rig);
	assert_true(state_of(rig, VU_SET_VRING_NUM, 0, 64));
	assert_true(addresses(rig, 0));
	assert_true(accepted(rig, message));
	assert_true(rig->device.queues[0].running);
	pfd.fd = rig->device.queues[0].kick_fd;
	for (unsigned int i = 0; i < 3; i++) {
		uint64_t n;

		assert_int_equal(poll(&pfd, 1, -1), 1);
		assert_int_equal(read(pfd.fd, &n, sizeof(n)), sizeof(n));
	}
}

static void call_of_a_running_ring_is_signalled_at_once(void **state)
{
	struct rig *rig = *state;
	struct vu_message message = { .request = VU_SET_VRING_CALL, .u64 = 0 };
	int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	uint64_t n;

	memory(rig);
	assert_true(accepted_fd(rig, message, dup(fd)));
	assert_int_equal(read(fd, &n, sizeof(n)), -1);
	start(rig, 0);
	assert_true(accepted_fd(rig, message, dup(fd)));
	assert_int_equal(read(fd, &n, sizeof(n)), sizeof(n));
	close(fd);
}

static void used_index_that_cannot_be_is_not_believed(void **state)
{
	struct rig *rig = *state;
	struct vring *ring = &rig->device.queues[0].ring;

	memory(rig);
	used(rig, 11);
	assert_true(state_of(rig, VU_SET_VRING_BASE, 0, 10));
	start(rig, 0);
	assert_int_equal(ring->used_pos, 10);
}

static void call_may_be_without_a_descriptor(void **state)
{
	struct vu_message message = { .request = VU_SET_VRING_CALL, .u64 = VU_VRING_FD_NONE };

	assert_true(accepted(*state, message));
}

static void reset_forgets_rings_but_keeps_memory(void **state)
{
	struct rig *rig = *state;

	features(rig, VU_FEATURE(VIRTIO_F_VERSION_1));
	memory(rig);
	start(rig, 0);
	assert_true(accepted(rig, (struct vu_message){ .request = VU_RESET_DEVICE }));
	assert_false(rig->device.queues[0].running);
	assert_int_equal(rig->device.features, 0);
	assert_int_equal(rig->device.memory.n_mappings, 1);
	start(rig, 0);
}

static void status_is_kept(void **state)
{
	struct rig *rig = *state;

	assert_true(accepted(rig, (struct vu_message){ .request = VU_SET_STATUS, .u64 = 15 }));
	assert_int_equal(get(rig, VU_GET_STATUS), 15);
}

static void status_of_zero_stops_rings_at_their_base(void **state)
{
	struct rig *rig = *state;

	memory(rig);
	used(rig, 5);
	assert_true(state_of(rig, VU_SET_VRING_BASE, 0, 5));
	start(rig, 0);
	vu_device_break(&rig->device);
	start(rig, 0);
	assert_true(accepted(rig, (struct vu_message){ .request = VU_SET_STATUS, .u64 = 0x47 }));
	assert_int_equal(get(rig, VU_GET_STATUS), 7); /* NEEDS_RESET is ours to say */
	assert_true(rig->device.queues[0].running);
	assert_true(accepted(rig, (struct vu_message){ .request = VU_SET_STATUS, .u64 = 0 }));
	assert_false(rig->device.queues[0].running);
	assert_int_equal(rig->device.queues[0].base, 5);
}

static void rarp_is_accepted(void **state)
{
	assert_true(accepted(*state, (struct vu_message){ .request = VU_SEND_RARP, .u64 = 1 }));
}

static void broken_device_asks_for_a_reset(void **state)
{
	struct rig *rig = *state;
	int err_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	uint64_t n = 0;

	memory(rig);
	start(rig, 0);
	assert_true(accepted_fd(rig, (struct vu_message){ .request = VU_SET_VRING_ERR, .u64 = 0 },
				dup(err_fd)));
	vu_device_break(&rig->device);
	assert_false(rig->device.queues[0].running);
	assert_int_equal(read(err_fd, &n, sizeof(n)), sizeof(n));
	assert_int_equal(get(rig, VU_GET_STATUS), VIRTIO_CONFIG_S_NEEDS_RESET);
	start(rig, 0);
	assert_int_equal(get(rig, VU_GET_STATUS), 0);
	close(err_fd);
}

static void logging_follows_the_feature(void **state)
{
	struct rig *rig = *state;
	struct vu_message message = { .request = VU_SET_LOG_BASE, .log = { 0x100, 0 } };

	rig->device.protocol_features |= VU_FEATURE(VU_PROTOCOL_LOG_SHMFD);
	assert_int_equal(ask_fd(rig, message, dup(rig->mem_fd)), 0);
	assert_int_equal(reply_value(rig), 0); /* answered, although not asked for */
	features(rig, VU_FEATURE(VHOST_F_LOG_ALL));
	assert_true(rig->device.memory.logging);
	features(rig, 0);
	assert_false(rig->device.memory.logging);
}

static void mtu_must_be_one(void **state)
{
	assert_true(
		accepted(*state, (struct vu_message){ .request = VU_NET_SET_MTU, .u64 = 1500 }));
	assert_false(accepted(*state, (struct vu_message){ .request = VU_NET_SET_MTU, .u64 = 67 }));
}

static void disconnect_forgets_everything(void **state)
{
	struct rig *rig = *state;

	features(rig, VU_FEATURE(VIRTIO_F_VERSION_1));
	memory(rig);
	start(rig, 0);
	vu_device_disconnect(&rig->device);
	assert_int_equal(rig->device.memory.n_mappings, 0);
	assert_int_equal(rig->device.features, 0);
	assert_false(rig->device.queues[0].running);
	assert_int_equal(rig->device.queues[0].call_fd, -1);
}

static uint64_t offered(struct rig *rig)
{
	return get(rig, VU_GET_FEATURES);
}

/* Who has asked for nothing yet may hand the bits to a guest that finds no configuration then. */
static void a_wary_device_offers_what_needs_a_front_end_later(void **state)
{
	const uint64_t front_end = VU_FEATURE(VIRTIO_NET_F_MQ) | VU_FEATURE(VIRTIO_NET_F_CTRL_VQ) |
				   VU_FEATURE(VIRTIO_NET_F_STATUS) | VU_FEATURE(VIRTIO_NET_F_MTU) |
				   VU_FEATURE(VIRTIO_NET_F_GUEST_ANNOUNCE);
	struct rig *rig = *state;

	assert_int_equal(offered(rig) & front_end, front_end);
	rig->device.wary = true;
	assert_int_equal(offered(rig) & front_end, 0);
	assert_true(offered(rig) & VU_FEATURE(VIRTIO_NET_F_MRG_RXBUF));
	ask_fd(rig,
	       (struct vu_message){ .request = VU_SET_PROTOCOL_FEATURES,
				    .u64 = VU_FEATURE(VU_PROTOCOL_MQ) },
	       -1);
	assert_int_equal(offered(rig) & front_end, front_end);
	vu_device_disconnect(&rig->device);
	assert_int_equal(offered(rig) & front_end, 0);
}

/* Who asks all the same waits for an answer. */
static void no_configuration_is_an_answer(void **state)
{
	struct rig *rig = *state;

	assert_int_equal(ask_fd(rig, (struct vu_message){ .request = VU_GET_CONFIG }, -1), 0);
	assert_int_equal(rig->reply_len, VU_HEADER_LEN + 12);
	assert_false(accepted(rig, (struct vu_message){ .request = VU_GET_CONFIG }));
}

/* A reset without GET_VRING_BASE: the same messages once more. */
static void a_ring_may_be_set_up_anew_while_it_runs(void **state)
{
	struct rig *rig = *state;
	struct vu_queue *queue = &rig->device.queues[1];

	memory(rig);
	used(rig, 17);
	state_of(rig, VU_SET_VRING_BASE, 1, 17);
	start(rig, 1);
	used(rig, 0);
	assert_true(state_of(rig, VU_SET_VRING_NUM, 1, 64)); /* as it is: no news */
	assert_true(state_of(rig, VU_SET_VRING_BASE, 1, 17));
	assert_true(queue->running);
	assert_true(state_of(rig, VU_SET_VRING_BASE, 1, 0));
	assert_false(queue->running);
	assert_true(addresses(rig, 1));
	assert_false(queue->running);
	assert_true(kick(rig, 1));
	assert_true(queue->running);
	assert_int_equal(vring_base(&queue->ring), 0);
	assert_true(state_of(rig, VU_SET_VRING_NUM, 1, 32));
	assert_false(queue->running);
	/* The order of others: the address before the base. */
	assert_true(addresses(rig, 1));
	assert_true(kick(rig, 1));
	used(rig, 5);
	assert_true(state_of(rig, VU_SET_VRING_NUM, 1, 32));
	assert_true(addresses(rig, 1));
	assert_true(state_of(rig, VU_SET_VRING_BASE, 1, 5));
	assert_false(queue->running);
	assert_true(kick(rig, 1));
	assert_true(queue->running);
	assert_int_equal(vring_base(&queue->ring), 5);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(what_is_offered_can_be_taken),
		T(what_is_not_offered_is_refused),
		T(many_queue_pairs_are_offered),
		T(nothing_is_said_unless_asked_for),
		T(unknown_request_is_refused),
		T(ring_starts_with_its_kick),
		T(ring_starts_enabled_without_protocol_features),
		T(order_of_set_up_does_not_matter),
		T(pair_is_active_when_both_rings_are_enabled),
		T(base_is_given_and_the_ring_stops),
		T(a_split_ring_goes_on_where_its_used_index_stands),
		T(ring_stops_when_its_memory_goes),
		T(ring_goes_on_when_memory_is_added),
		T(memory_without_descriptors_is_refused),
		T(slots_are_told),
		T(ring_outside_memory_is_refused),
		T(split_ring_of_an_odd_size_does_not_start),
		T(ring_numbers_outside_are_refused),
		T(base_of_no_ring_ends_the_connection),
		T(kick_needs_a_descriptor_or_the_flag),
		T(ring_without_a_kick_is_polled),
		T(call_of_a_running_ring_is_signalled_at_once),
		T(used_index_that_cannot_be_is_not_believed),
		T(call_may_be_without_a_descriptor),
		T(reset_forgets_rings_but_keeps_memory),
		T(status_is_kept),
		T(status_of_zero_stops_rings_at_their_base),
		T(rarp_is_accepted),
		T(broken_device_asks_for_a_reset),
		T(logging_follows_the_feature),
		T(mtu_must_be_one),
		T(disconnect_forgets_everything),
		T(a_wary_device_offers_what_needs_a_front_end_later),
		T(no_configuration_is_an_answer),
		T(a_ring_may_be_set_up_anew_while_it_runs),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
