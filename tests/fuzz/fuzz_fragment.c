/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Any fragments in any order. The input is a list of parts: one byte of flags (version, more), one
 * of identification, two of offset in units of eight bytes, one of length in such units, one that
 * moves the clock. links: shard tap
 */
#define WORLD_IS_FUZZED
#include "shard/dgram_world.h"

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len);

#define PART_LEN 6

static void stop(void)
{
	void *state = NULL;

	world_teardown(&state);
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	void *state = NULL;

	(void)argc;
	(void)argv;
	if (world_setup(&state))
		abort();
	/* No sockets. */
	world.config.no_udp = world.config.no_icmp = world.config.no_tcp = true;
	atexit(stop); /* what the leak checker can't see is in the shard's mapping */
	return 0;
}

static void run_part(const uint8_t *p)
{
	static uint8_t payload[8 * 256], frame[FRAME_MAX];
	bool v4 = p[0] & 1, more = p[0] & 2;
	uint16_t off = load_be16(p + 2) & 0x1fff;
	size_t len = p[4] * 8u + (more ? 0 : p[0] >> 5), extra = v4 ? 0 : 8, at;
	struct ip_addr dst = world_gateway(v4);
	struct l3 l3 = { .src = v4 ? ip4_addr_of(guest4) : ip6_addr_of(guest6),
			 .dst = dst,
			 .ttl = 64,
			 .proto = v4 ? IPPROTO_UDP : IPPROTO_FRAGMENT,
			 .id = p[1],
			 .frag = (uint16_t)(off | (more ? 0x2000 : 0)) };
	const struct frame_offload offload = { 0 };
	struct batch batch = { 0 };
	struct frame parsed;

	at = l3_write(frame, &l3, extra + len);
	if (!v4) {
		frame[at] = p[0] & 4 ? IPPROTO_UDP : IPPROTO_DSTOPTS;
		frame[at + 1] = 0;
		store_be16(frame + at + 2, (uint16_t)(off << 3 | more));
		store_be32(frame + at + 4, p[1]);
	}
	memset(payload, p[5], len);
	memcpy(frame + at + extra, payload, len);
	if (frame_parse(&parsed, frame, at + extra + len, offload, &world.rt.secret))
		return;
	parsed.queue = 0;
	batch_add(&batch, &parsed);
	role_is_shard();
	shard_run_batch(world.shard, &batch);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
	for (; len >= PART_LEN; bytes += PART_LEN, len -= PART_LEN) {
		run_part(bytes);
		world.shard->now_us += (uint64_t)bytes[5] << 14;
		fragment_expire(world.shard);
	}
	/* Nothing of one input is left for the next. */
	world.shard->now_us += 60000000;
	fragment_expire(world.shard);
	if (fragment_next_us(world.shard) != UINT64_MAX)
		abort();
	world_forget();
	return 0;
}
