/* SPDX-License-Identifier: Apache-2.0 */
/* What a guest's frames may leave to us, what they may not, and what a lie about it costs. */
#include "vhost_rig.h"

#define LEN (HDRS + 1001u)

static const struct offload_case {
	const char *name;
	uint64_t features;
	struct virtio_net_hdr_v1 hdr;
	uint16_t checksum; /* of UDP, as sent; 0: none. RIGHT: as it must be */
	enum drop drop;
} cases[] = {
#define RIGHT 0xfffe
#define CSUM  VIRTIO_NET_HDR_F_NEEDS_CSUM
#define UDP   VIRTIO_NET_HDR_GSO_UDP_L4
	{ "no checksum of UDP is taken", BASE, { 0 }, 0, DROP_NONE },
	{ "a right checksum is taken", BASE, { 0 }, RIGHT, DROP_NONE },
	{ "a wrong checksum is not", BASE, { 0 }, 1, DROP_L4_CHECKSUM },
	{ "a wrong checksum is not, with offloads", BASE | OFFLOADS, { 0 }, 1, DROP_L4_CHECKSUM },
	{ "a partial checksum is taken",
	  BASE | OFFLOADS,
	  { .flags = CSUM, .csum_start = 34, .csum_offset = 6 },
	  1,
	  DROP_NONE },
	{ "a partial checksum is refused if not negotiated",
	  BASE,
	  { .flags = CSUM, .csum_start = 34, .csum_offset = 6 },
	  1,
	  DROP_VRING },
	{ "a partial checksum of something else is refused",
	  BASE | OFFLOADS,
	  { .flags = CSUM, .csum_start = 38, .csum_offset = 6 },
	  1,
	  DROP_VRING },
	{ "a partial checksum at TCP's place is refused for UDP",
	  BASE | OFFLOADS,
	  { .flags = CSUM, .csum_start = 34, .csum_offset = 16 },
	  1,
	  DROP_VRING },
	{ "a partial checksum outside the frame is refused",
	  BASE | OFFLOADS,
	  { .flags = CSUM, .csum_start = 0xffff, .csum_offset = 0xffff },
	  1,
	  DROP_VRING },
	{ "a run of datagrams is taken",
	  BASE | OFFLOADS,
	  { .flags = CSUM, .csum_start = 34, .csum_offset = 6, .gso_type = UDP, .gso_size = 500 },
	  1,
	  DROP_NONE },
	{ "a run of datagrams is refused if not negotiated",
	  BASE | F(VIRTIO_NET_F_CSUM),
	  { .flags = CSUM, .csum_start = 34, .csum_offset = 6, .gso_type = UDP, .gso_size = 500 },
	  1,
	  DROP_VRING },
	{ "a run without a size is refused",
	  BASE | OFFLOADS,
	  { .flags = CSUM, .csum_start = 34, .csum_offset = 6, .gso_type = UDP },
	  1,
	  DROP_VRING },
	{ "a run of TCP is refused for UDP",
	  BASE | OFFLOADS,
	  { .flags = CSUM,
	    .csum_start = 34,
	    .csum_offset = 6,
	    .gso_type = VIRTIO_NET_HDR_GSO_TCPV4,
	    .gso_size = 500 },
	  1,
	  DROP_VRING },
	{ "an unknown kind of run is refused",
	  BASE | OFFLOADS,
	  { .flags = CSUM, .csum_start = 34, .csum_offset = 6, .gso_type = 0x33, .gso_size = 500 },
	  1,
	  DROP_VRING },
};

static uint16_t right_checksum(const uint8_t *f)
{
	struct ip_addr src = { .w = { 0, 0, htonl(0xffff), htonl(0x0a000002) } };
	struct ip_addr dst = { .w = { 0, 0, htonl(0xffff), htonl(0x08080808) } };
	uint32_t len = LEN - ETH_HEADER_LEN - 20;
	uint64_t sum = checksum_pseudo(&src, &dst, IPPROTO_UDP, len);

	return checksum_finish(checksum_add(sum, f + 34, len));
}

/* The device goes on whatever a frame says: the next one comes back. */
static void offload_is_judged(void **state)
{
	const struct offload_case *c = *state;
	struct rig *rig = rig_new(c->features, 1, 1, 9100);
	uint8_t *f = frame_make(rig, 0, 7, LEN);
	uint16_t sum = c->checksum;
	uint32_t id, used;

	memcpy(f - VNET, &c->hdr, VNET);
	if (sum == RIGHT)
		sum = right_checksum(f);
	memcpy(f + 40, &sum, sizeof(sum));
	frame_send(rig, 0, f, LEN);
	if (c->drop == DROP_NONE) {
		assert_int_equal(frame_receive(rig, 0), LEN);
		assert_memory_equal(rig->got, f, LEN);
	}
	wait_used(rig, 1, &id, &used);
	if (c->drop != DROP_NONE)
		assert_int_equal(rig->shards[0].counters.drop[c->drop], 1);
	round_trip(rig, 0, 8, 300);
	rig_free(rig);
}

int main(void)
{
	struct CMUnitTest rows[sizeof(cases) / sizeof(cases[0])];

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		rows[i] = (struct CMUnitTest){ cases[i].name, offload_is_judged, NULL, NULL,
					       (void *)(uintptr_t)&cases[i] };
	return cmocka_run_group_tests(rows, NULL, NULL);
}
