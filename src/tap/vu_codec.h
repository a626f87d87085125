/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vhost-user messages: the 12-byte header and the payloads that a network back-end needs, as
 * structs. Numbers are in the machine's byte order. Pure; any thread. By QEMU's
 * docs/interop/vhost-user.rst.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define VU_HEADER_LEN	       12
#define VU_REGIONS_PER_MESSAGE 8
#define VU_PAYLOAD_MAX                                                                             \
	288		   /* bytes; a memory table of 8 regions is the longest that is accepted   \
			    */
#define VU_FDS_MAX	 8 /* descriptors beside one message */
#define VU_VRING_FD_NONE 0x100u /* in the number of SET_VRING_KICK and its like: no descriptor */
#define VU_VRING_F_LOG	 1u	/* flag of SET_VRING_ADDR: log writes to the used ring */

enum vu_request {
	VU_GET_FEATURES = 1,
	VU_SET_FEATURES = 2,
	VU_SET_OWNER = 3,
	VU_RESET_OWNER = 4,
	VU_SET_MEM_TABLE = 5,
	VU_SET_LOG_BASE = 6,
	VU_SET_LOG_FD = 7,
	VU_SET_VRING_NUM = 8,
	VU_SET_VRING_ADDR = 9,
	VU_SET_VRING_BASE = 10,
	VU_GET_VRING_BASE = 11,
	VU_SET_VRING_KICK = 12,
	VU_SET_VRING_CALL = 13,
	VU_SET_VRING_ERR = 14,
	VU_GET_PROTOCOL_FEATURES = 15,
	VU_SET_PROTOCOL_FEATURES = 16,
	VU_GET_QUEUE_NUM = 17,
	VU_SET_VRING_ENABLE = 18,
	VU_SEND_RARP = 19,
	VU_NET_SET_MTU = 20,
	VU_GET_CONFIG = 24,
	VU_RESET_DEVICE = 34,
	VU_GET_MAX_MEM_SLOTS = 36,
	VU_ADD_MEM_REG = 37,
	VU_REM_MEM_REG = 38,
	VU_SET_STATUS = 39,
	VU_GET_STATUS = 40,
	VU_REQUESTS,
};

enum vu_protocol_feature {
	VU_PROTOCOL_MQ = 0,
	VU_PROTOCOL_LOG_SHMFD = 1,
	VU_PROTOCOL_RARP = 2,
	VU_PROTOCOL_REPLY_ACK = 3,
	VU_PROTOCOL_MTU = 4,
	VU_PROTOCOL_RESET_DEVICE = 13,
	VU_PROTOCOL_CONFIGURE_MEM_SLOTS = 15,
	VU_PROTOCOL_STATUS = 16,
};

struct vu_header {
	uint32_t request; /* enum vu_request, or one that is not known */
	uint32_t size;	  /* of the payload, in bytes */
	bool reply;
	bool need_reply;
};

struct vu_vring_state {
	uint32_t index;
	uint32_t num;
};

/* Addresses are in the front-end's address space, but log, which is the guest's. */
struct vu_vring_addr {
	uint32_t index;
	uint32_t flags;
	uint64_t desc;
	uint64_t used;
	uint64_t avail;
	uint64_t log;
};

struct vu_region {
	uint64_t guest_addr;
	uint64_t size;
	uint64_t user_addr;
	uint64_t mmap_offset;
};

struct vu_log_area {
	uint64_t size;
	uint64_t offset;
};

struct vu_message {
	uint32_t request;
	bool need_reply;
	union {
		uint64_t u64;
		struct vu_vring_state state;
		struct vu_vring_addr addr;
		struct vu_region region;
		struct vu_log_area log;
		struct {
			uint32_t n_regions;
			struct vu_region regions[VU_REGIONS_PER_MESSAGE];
		};
	};
};

/* Reads a header. False if the version is not 1 or the payload would be longer than VU_PAYLOAD_MAX.
 */
bool vu_header_decode(const uint8_t bytes[VU_HEADER_LEN], struct vu_header *header);

/*
 * Reads the payload of a request into *message; a request without payload may carry one, which is
 * ignored.
 *
 * len: bytes present, which is header->size.
 * False if it is too short for its request or names more regions than there can be.
 */
bool vu_payload_decode(const struct vu_header *header, const uint8_t *bytes, size_t len,
		       struct vu_message *message);

/*
 * Writes header and payload of a request, or of a reply (whose payload may differ from the
 * request's). Returns the length in bytes, or 0 if it does not fit size.
 */
size_t vu_request_encode(uint8_t *bytes, size_t size, const struct vu_message *message);
size_t vu_reply_encode_u64(uint8_t *bytes, size_t size, uint32_t request, uint64_t value);
/* The answer to GET_CONFIG of a device that has no configuration space: no bytes. */
size_t vu_reply_encode_no_config(uint8_t *bytes, size_t size);
size_t vu_reply_encode_state(uint8_t *bytes, size_t size, uint32_t request,
			     struct vu_vring_state state);
