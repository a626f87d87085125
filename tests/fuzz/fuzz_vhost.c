/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A queue pair of the whole transport from the fuzzer: the first bytes say what was negotiated and
 * what is done, the rest is the guest's memory, with both rings in it, which changes on the way.
 * Whatever stands there, the pieces that a shard gets lie in that memory, and after a lie and a new
 * set-up the device works.
 *
 * links: tap
 */
#include "tap/vhost.h"

#include <linux/virtio_config.h>
#include <linux/virtio_net.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#define MEM_SIZE   0x10000u
#define GUEST	   0x10000u
#define USER	   0x700000000u
#define RING_AREA  0x400u /* small, as the fuzzer has to find its way in it */
#define DRIVER_OFF 0x200u
#define DEVICE_OFF 0x280u
#define OPS	   24u /* bytes of them before the memory */
#define PREFIX	   (3u + OPS)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct shard {
	struct counters counters;
	struct tx *tx;
	struct shard_source *sources[2 * MAX_QUEUES];
};

static struct shard shard;
static struct config config;
static struct steering steering;
static struct runtime rt;
static struct vhost *vhost;
static uint8_t *mem; /* as the guest sees it */
static int mem_fd;
static uint8_t sum; /* keeps the reads of payload alive */

/* The shard, which reads whatever it is lent. */

int shard_add_source(struct shard *s, struct shard_source *source)
{
	for (unsigned int i = 0; i < 2 * MAX_QUEUES; i++)
		if (!s->sources[i]) {
			s->sources[i] = source;
			return 0;
		}
	abort();
}

void shard_remove_source(struct shard *s, struct shard_source *source)
{
	for (unsigned int i = 0; i < 2 * MAX_QUEUES; i++)
		if (s->sources[i] == source)
			s->sources[i] = NULL;
}

struct counters *shard_counters(struct shard *s)
{
	return &s->counters;
}

struct tx *shard_tx(struct shard *s)
{
	return s->tx;
}

bool shard_try_enter(struct shard *s)
{
	(void)s;
	return true;
}

void shard_leave(struct shard *s)
{
	tx_flush(s->tx);
}

static void read_frame(const struct frame *f)
{
	const uint8_t *base = vhost->device.memory.mappings[0].base;
	uint32_t len = 0;

	for (uint32_t i = 0; i < f->n_payload; i++) {
		const uint8_t *at = f->payload[i].iov_base;
		size_t n = f->payload[i].iov_len;
		bool linear = at >= f->data && at + n <= f->data + f->linear_len;
		bool shared = at >= base && n <= MEM_SIZE && at + n <= base + MEM_SIZE;

		if (!linear && !shared)
			abort();
		len += (uint32_t)n;
		sum ^= n ? (uint8_t)(at[0] ^ at[n - 1]) : 0;
	}
	if (len != f->payload_len)
		abort();
}

void shard_run_batch(struct shard *s, struct batch *batch)
{
	(void)s;
	for (const struct frame *f = batch->first; f; f = f->next)
		read_frame(f);
	batch_done(batch);
}

struct ring *shard_ring(struct shard *s, unsigned int producer)
{
	(void)s;
	(void)producer;
	abort(); /* the only shard reads its own queues */
}

void shard_drain_ring(struct shard *s, unsigned int producer)
{
	(void)s;
	(void)producer;
}

void shard_wake(struct shard *s, struct counters *waker)
{
	(void)s;
	(void)waker;
}

void shard_wake_tx(struct shard *s)
{
	(void)s;
}

void shards_reset_flows(struct runtime *runtime)
{
	(void)runtime;
}

enum drop control_post_frame(struct control *control, const struct frame *frame)
{
	(void)control;
	read_frame(frame);
	return DROP_NONE;
}

bool control_guest_address(struct control *control, const struct ip_addr *addr)
{
	(void)control;
	(void)addr;
	return true;
}

void control_guest_event(struct control *control, enum guest_event event)
{
	(void)control;
	(void)event;
}

void control_wake_tx(struct control *control)
{
	(void)control;
}

/* The front-end. */

static void ask(struct vu_message message, int fd)
{
	uint8_t reply[VU_REPLY_MAX];
	size_t reply_len;

	vu_device_handle(&vhost->device, &message, &fd, fd >= 0 ? 1 : 0, reply, &reply_len);
	if (fd >= 0)
		close(fd);
}

static void start_ring(uint32_t i, uint32_t num, bool packed)
{
	uint64_t at = USER + (uint64_t)i * RING_AREA;

	ask((struct vu_message){ .request = VU_SET_VRING_NUM, .state = { i, num } }, -1);
	ask((struct vu_message){ .request = VU_SET_VRING_BASE,
				 .state = { i, packed ? 0x8000 : 0 } },
	    -1);
	ask((struct vu_message){ .request = VU_SET_VRING_ADDR,
				 .addr = { i, VU_VRING_F_LOG, at, at + DEVICE_OFF, at + DRIVER_OFF,
					   GUEST } },
	    -1);
	ask((struct vu_message){ .request = VU_SET_VRING_CALL, .u64 = i },
	    eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
	ask((struct vu_message){ .request = VU_SET_VRING_KICK, .u64 = i },
	    eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
	ask((struct vu_message){ .request = VU_SET_VRING_ENABLE, .state = { i, 1 } }, -1);
}

/* Bits that a guest may leave out, by the input's first two bytes. */
static uint64_t features_of(const uint8_t *data)
{
	static const uint8_t bits[16] = {
		VIRTIO_F_RING_PACKED,	 VIRTIO_RING_F_EVENT_IDX, VIRTIO_RING_F_INDIRECT_DESC,
		VIRTIO_NET_F_MRG_RXBUF,	 VIRTIO_F_VERSION_1,	  VIRTIO_NET_F_CSUM,
		VIRTIO_NET_F_GUEST_CSUM, VIRTIO_NET_F_HOST_TSO4,  VIRTIO_NET_F_GUEST_TSO4,
		VIRTIO_NET_F_HOST_USO,	 VIRTIO_NET_F_GUEST_USO4, VIRTIO_NET_F_GUEST_USO6,
		VIRTIO_F_IN_ORDER,	 VHOST_F_LOG_ALL,	  VIRTIO_NET_F_GUEST_TSO6,
		VIRTIO_NET_F_HOST_TSO6,
	};
	uint64_t features = VU_FEATURE(30);

	for (unsigned int i = 0; i < 16; i++)
		if (data[i / 8] >> i % 8 & 1)
			features |= VU_FEATURE(bits[i]);
	return features;
}

static void set_up(const uint8_t *data)
{
	uint64_t features = features_of(data);
	bool packed = features & VU_FEATURE(VIRTIO_F_RING_PACKED);
	struct vu_message table = { .request = VU_SET_MEM_TABLE };

	ask((struct vu_message){ .request = VU_SET_FEATURES, .u64 = features }, -1);
	table.n_regions = 1;
	table.regions[0] = (struct vu_region){ GUEST, MEM_SIZE, USER, 0 };
	ask(table, dup(mem_fd));
	ask((struct vu_message){ .request = VU_SET_LOG_BASE, .log = { 0x100, 0xf000 } },
	    dup(mem_fd));
	for (uint32_t i = 0; i < 2; i++)
		start_ring(i, 1u << (data[2] >> 4 * i & 15) % 6, packed);
}

static void prepare(void)
{
	struct transport *transport;

	rt.config = &config;
	rt.steering_rcu = &steering;
	rt.n_shards = 1;
	rt.shards[0] = &shard;
	mem_fd = memfd_create("fuzz", MFD_CLOEXEC);
	if (mem_fd < 0 || ftruncate(mem_fd, MEM_SIZE) ||
	    vhost_transport_new(&transport, &rt, -1, -1, NULL))
		abort();
	mem = mmap(NULL, MEM_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, mem_fd, 0);
	if (mem == MAP_FAILED)
		abort();
	vhost = (struct vhost *)(void *)transport;
	shard.tx = transport->ops->tx(transport, 0);
	shard.tx->counters = &shard.counters;
}

/* What is done, a byte each. */

static void read_rings(void)
{
	for (unsigned int i = 0; i < 2 * MAX_QUEUES; i++)
		if (shard.sources[i])
			shard.sources[i]->read(shard.sources[i], &shard);
}

static void send_frame(uint8_t arg)
{
	size_t len = 60 + (size_t)arg * arg;
	uint8_t *to = tx_frame_begin(shard.tx, 0, len);

	if (!to)
		return;
	memset(to, 0xee, len);
	tx_frame_commit(shard.tx, len - arg % 7, NULL);
}

static void send_burst(uint8_t arg)
{
	static const uint8_t types[] = { 0, VIRTIO_NET_HDR_GSO_TCPV4, VIRTIO_NET_HDR_GSO_TCPV6,
					 VIRTIO_NET_HDR_GSO_UDP_L4 };
	uint8_t type = types[arg & 3];
	struct tx_offload offload = { .gso_type = type, .gso_size = 700, .hdr_len = 54 };
	struct tx_burst burst;
	size_t room = 0;

	if (!tx_burst_begin(shard.tx, &burst, 0, 54, 700, 1 + (size_t)arg * 250, type))
		return;
	for (unsigned int i = 0; i < burst.n_iov; i++) {
		memset(burst.iov[i].iov_base, 0xdd, burst.iov[i].iov_len);
		room += burst.iov[i].iov_len;
	}
	if (room != burst.room)
		abort();
	for (unsigned int i = 0; i < burst.n_segments; i++)
		memset(burst.hdr[i], 0xcc, 54);
	tx_burst_commit(shard.tx, &burst, room - (arg & 8 ? room / 2 : 0),
			burst.gso ? &offload : NULL);
}

static void act(uint8_t op, const uint8_t *setup)
{
	uint8_t arg = op >> 3;

	switch (op & 7) {
	case 0:
	case 1:
		read_rings();
		break;
	case 2:
		send_frame(op);
		break;
	case 3:
		send_burst(op >> 2);
		break;
	case 4:
		tx_flush(shard.tx);
		break;
	case 5: /* the guest makes one more available, in either kind of ring */
		mem[(size_t)(arg & 1) * RING_AREA + DRIVER_OFF + 2]++;
		break;
	case 6: /* it changes a descriptor meanwhile */
		mem[(size_t)(arg & 1) * RING_AREA + (size_t)arg * 8 + 6] ^= op;
		break;
	default:
		tx_flush(shard.tx);
		ask((struct vu_message){ .request = VU_GET_VRING_BASE, .state = { arg & 1, 0 } },
		    -1);
		start_ring(arg & 1, 1u << (setup[2] >> 4 * (arg & 1) & 15) % 6, setup[0] & 1);
	}
	if (atomic_exchange(&vhost->lied, false)) {
		tx_flush(shard.tx);
		vu_device_break(&vhost->device);
	}
}

/* After whatever was done, a new guest with an empty ring finds a device that works. */
static void begin_anew(void)
{
	static const uint8_t plain[] = { 1u << 4, 0, 0x33 };

	tx_flush(shard.tx);
	vu_device_disconnect(&vhost->device);
	memset(mem, 0, MEM_SIZE);
	set_up(plain);
	read_rings();
	if (atomic_load(&vhost->lied) || !vu_device_pair_active(&vhost->device, 0))
		abort();
	vu_device_disconnect(&vhost->device);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (!vhost)
		prepare();
	if (size < PREFIX)
		return 0;
	memset(mem, 0, MEM_SIZE);
	memcpy(mem, data + PREFIX, size - PREFIX < MEM_SIZE ? size - PREFIX : MEM_SIZE);
	set_up(data);
	for (unsigned int i = 0; i < OPS; i++)
		act(data[3 + i], data);
	begin_anew();
	return 0;
}
