/* SPDX-License-Identifier: Apache-2.0 */
#include "vu_codec.h"

#include "taploom/bytes.h"

#define FLAGS_VERSION	   0x1u
#define FLAGS_VERSION_MASK 0x3u
#define FLAGS_REPLY	   0x4u
#define FLAGS_NEED_REPLY   0x8u

/* What a request's payload looks like. */
enum shape {
	SHAPE_NONE,
	SHAPE_U64,
	SHAPE_STATE,
	SHAPE_ADDR,
	SHAPE_MEMORY,
	SHAPE_REGION,
	SHAPE_LOG
};

static const uint8_t shapes[VU_REQUESTS] = {
	[VU_SET_FEATURES] = SHAPE_U64,
	[VU_SET_MEM_TABLE] = SHAPE_MEMORY,
	[VU_SET_LOG_BASE] = SHAPE_LOG,
	[VU_SET_VRING_NUM] = SHAPE_STATE,
	[VU_SET_VRING_ADDR] = SHAPE_ADDR,
	[VU_SET_VRING_BASE] = SHAPE_STATE,
	[VU_GET_VRING_BASE] = SHAPE_STATE,
	[VU_SET_VRING_KICK] = SHAPE_U64,
	[VU_SET_VRING_CALL] = SHAPE_U64,
	[VU_SET_VRING_ERR] = SHAPE_U64,
	[VU_SET_PROTOCOL_FEATURES] = SHAPE_U64,
	[VU_SET_VRING_ENABLE] = SHAPE_STATE,
	[VU_NET_SET_MTU] = SHAPE_U64,
	[VU_SEND_RARP] = SHAPE_U64,
	[VU_ADD_MEM_REG] = SHAPE_REGION,
	[VU_REM_MEM_REG] = SHAPE_REGION,
	[VU_SET_STATUS] = SHAPE_U64,
};

static enum shape shape_of(uint32_t request)
{
	return request < VU_REQUESTS ? (enum shape)shapes[request] : SHAPE_NONE;
}

static uint32_t in_native32(struct bytes_in *in)
{
	uint32_t v;

	in_copy(in, &v, sizeof(v));
	return v;
}

static uint64_t in_native64(struct bytes_in *in)
{
	uint64_t v;

	in_copy(in, &v, sizeof(v));
	return v;
}

static void out_native32(struct bytes_out *out, uint32_t v)
{
	out_copy(out, &v, sizeof(v));
}

static void out_native64(struct bytes_out *out, uint64_t v)
{
	out_copy(out, &v, sizeof(v));
}

bool vu_header_decode(const uint8_t bytes[VU_HEADER_LEN], struct vu_header *header)
{
	struct bytes_in in = in_of(bytes, VU_HEADER_LEN);
	uint32_t flags;

	header->request = in_native32(&in);
	flags = in_native32(&in);
	header->size = in_native32(&in);
	header->reply = flags & FLAGS_REPLY;
	header->need_reply = flags & FLAGS_NEED_REPLY;
	return (flags & FLAGS_VERSION_MASK) == FLAGS_VERSION && header->size <= VU_PAYLOAD_MAX;
}

static struct vu_region take_region(struct bytes_in *in)
{
	struct vu_region region;

	region.guest_addr = in_native64(in);
	region.size = in_native64(in);
	region.user_addr = in_native64(in);
	region.mmap_offset = in_native64(in);
	return region;
}

static bool take_memory(struct bytes_in *in, struct vu_message *message)
{
	message->n_regions = in_native32(in);
	in_skip(in, 4);
	if (message->n_regions > VU_REGIONS_PER_MESSAGE)
		return false;
	for (uint32_t i = 0; i < message->n_regions; i++)
		message->regions[i] = take_region(in);
	return true;
}

static void take_addr(struct bytes_in *in, struct vu_vring_addr *addr)
{
	addr->index = in_native32(in);
	addr->flags = in_native32(in);
	addr->desc = in_native64(in);
	addr->used = in_native64(in);
	addr->avail = in_native64(in);
	addr->log = in_native64(in);
}

bool vu_payload_decode(const struct vu_header *header, const uint8_t *bytes, size_t len,
		       struct vu_message *message)
{
	struct bytes_in in = in_of(bytes, len);

	memset(message, 0, sizeof(*message));
	message->request = header->request;
	message->need_reply = header->need_reply;
	switch (shape_of(header->request)) {
	case SHAPE_NONE:
		break;
	case SHAPE_U64:
		message->u64 = in_native64(&in);
		break;
	case SHAPE_STATE:
		message->state.index = in_native32(&in);
		message->state.num = in_native32(&in);
		break;
	case SHAPE_ADDR:
		take_addr(&in, &message->addr);
		break;
	case SHAPE_MEMORY:
		if (!take_memory(&in, message))
			return false;
		break;
	case SHAPE_REGION:
		in_skip(&in, 8);
		message->region = take_region(&in);
		break;
	case SHAPE_LOG:
		if (len == 8) /* an address, from who has no LOG_SHMFD */
			break;
		message->log.size = in_native64(&in);
		message->log.offset = in_native64(&in);
		break;
	}
	return in_ok(&in);
}

static void put_header(struct bytes_out *out, uint32_t request, uint32_t flags)
{
	out_native32(out, request);
	out_native32(out, FLAGS_VERSION | flags);
	out_native32(out, 0); /* the size, when it is known */
}

static size_t finish(struct bytes_out *out)
{
	uint32_t size;

	if (!out_ok(out))
		return 0;
	size = (uint32_t)(out_len(out) - VU_HEADER_LEN);
	memcpy(out->start + 8, &size, sizeof(size));
	return out_len(out);
}

static void put_region(struct bytes_out *out, const struct vu_region *region)
{
	out_native64(out, region->guest_addr);
	out_native64(out, region->size);
	out_native64(out, region->user_addr);
	out_native64(out, region->mmap_offset);
}

static void put_memory(struct bytes_out *out, const struct vu_message *message)
{
	out_native32(out, message->n_regions);
	out_native32(out, 0);
	for (uint32_t i = 0; i < message->n_regions && i < VU_REGIONS_PER_MESSAGE; i++)
		put_region(out, &message->regions[i]);
}

static void put_addr(struct bytes_out *out, const struct vu_vring_addr *addr)
{
	out_native32(out, addr->index);
	out_native32(out, addr->flags);
	out_native64(out, addr->desc);
	out_native64(out, addr->used);
	out_native64(out, addr->avail);
	out_native64(out, addr->log);
}

size_t vu_request_encode(uint8_t *bytes, size_t size, const struct vu_message *message)
{
	struct bytes_out out = out_of(bytes, size);

	put_header(&out, message->request, message->need_reply ? FLAGS_NEED_REPLY : 0);
	switch (shape_of(message->request)) {
	case SHAPE_NONE:
		break;
	case SHAPE_U64:
		out_native64(&out, message->u64);
		break;
	case SHAPE_STATE:
		out_native32(&out, message->state.index);
		out_native32(&out, message->state.num);
		break;
	case SHAPE_ADDR:
		put_addr(&out, &message->addr);
		break;
	case SHAPE_MEMORY:
		put_memory(&out, message);
		break;
	case SHAPE_REGION:
		out_native64(&out, 0);
		put_region(&out, &message->region);
		break;
	case SHAPE_LOG:
		out_native64(&out, message->log.size);
		out_native64(&out, message->log.offset);
		break;
	}
	return finish(&out);
}

size_t vu_reply_encode_u64(uint8_t *bytes, size_t size, uint32_t request, uint64_t value)
{
	struct bytes_out out = out_of(bytes, size);

	put_header(&out, request, FLAGS_REPLY);
	out_native64(&out, value);
	return finish(&out);
}

size_t vu_reply_encode_no_config(uint8_t *bytes, size_t size)
{
	struct bytes_out out = out_of(bytes, size);

	put_header(&out, VU_GET_CONFIG, FLAGS_REPLY);
	out_native32(&out, 0); /* offset */
	out_native64(&out, 0); /* size and flags */
	return finish(&out);
}

size_t vu_reply_encode_state(uint8_t *bytes, size_t size, uint32_t request,
			     struct vu_vring_state state)
{
	struct bytes_out out = out_of(bytes, size);

	put_header(&out, request, FLAGS_REPLY);
	out_native32(&out, state.index);
	out_native32(&out, state.num);
	return finish(&out);
}
