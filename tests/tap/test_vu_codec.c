/* SPDX-License-Identifier: Apache-2.0 */
#include "vu_codec.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

static uint8_t bytes[VU_HEADER_LEN + VU_PAYLOAD_MAX];

/* Encodes a request and decodes it again. */
static bool round_trip(const struct vu_message *in, struct vu_message *out)
{
	size_t len = vu_request_encode(bytes, sizeof(bytes), in);
	struct vu_header header;

	assert_true(len >= VU_HEADER_LEN);
	assert_true(vu_header_decode(bytes, &header));
	assert_int_equal(header.request, in->request);
	assert_int_equal(header.size, len - VU_HEADER_LEN);
	assert_int_equal(header.need_reply, in->need_reply);
	return vu_payload_decode(&header, bytes + VU_HEADER_LEN, header.size, out);
}

static struct shape_case {
	const char *name;
	struct vu_message message;
	size_t payload; /* bytes */
} shapes[] = {
	{ "a request without payload is read", { .request = VU_GET_FEATURES }, 0 },
	{ "a number is read", { .request = VU_SET_FEATURES, .u64 = 0x1122334455667788 }, 8 },
	{ "a ring's state is read", { .request = VU_SET_VRING_NUM, .state = { 3, 256 } }, 8 },
	{ "a ring's addresses are read",
	  { .request = VU_SET_VRING_ADDR, .need_reply = true, .addr = { 1, 1, 2, 3, 4, 5 } },
	  40 },
	{ "one region is read", { .request = VU_ADD_MEM_REG, .region = { 1, 2, 3, 4 } }, 40 },
	{ "a log is read", { .request = VU_SET_LOG_BASE, .log = { 0x1000, 0x2000 } }, 16 },
	{ "a table of two regions is read",
	  { .request = VU_SET_MEM_TABLE,
	    .n_regions = 2,
	    .regions = { { 1, 2, 3, 4 }, { 5, 6, 7, 8 } } },
	  72 },
};

static void shape_is_read(void **state)
{
	const struct shape_case *c = *state;
	struct vu_message out;

	assert_true(round_trip(&c->message, &out));
	assert_memory_equal(&out, &c->message, sizeof(out));
}

static void shape_is_refused_when_cut(void **state)
{
	const struct shape_case *c = *state;
	struct vu_header header = { .request = c->message.request };
	struct vu_message out;

	vu_request_encode(bytes, sizeof(bytes), &c->message);
	for (size_t len = 0; len < c->payload; len++)
		if (c->message.request != VU_SET_LOG_BASE || len != 8) /* see below */
			assert_false(vu_payload_decode(&header, bytes + VU_HEADER_LEN, len, &out));
}

/* From who has not negotiated LOG_SHMFD: a number alone, which says nothing to us. */
static void log_without_shared_memory_is_read_as_none(void **state)
{
	struct vu_header header = { .request = VU_SET_LOG_BASE };
	struct vu_message out;

	(void)state;
	memset(bytes, 0x77, 8);
	assert_true(vu_payload_decode(&header, bytes, 8, &out));
	assert_int_equal(out.log.size, 0);
}

static void answer_without_a_configuration_has_no_bytes(void **state)
{
	struct vu_header header;

	(void)state;
	assert_int_equal(vu_reply_encode_no_config(bytes, sizeof(bytes)), VU_HEADER_LEN + 12);
	assert_true(vu_header_decode(bytes, &header));
	assert_true(header.reply);
	assert_int_equal(header.request, VU_GET_CONFIG);
	assert_int_equal(bytes[VU_HEADER_LEN + 4], 0);
}

static void reply_carries_the_flag(void **state)
{
	struct vu_header header;
	uint64_t value;

	(void)state;
	assert_int_equal(vu_reply_encode_u64(bytes, sizeof(bytes), VU_GET_FEATURES, 77), 20);
	assert_true(vu_header_decode(bytes, &header));
	assert_true(header.reply);
	memcpy(&value, bytes + VU_HEADER_LEN, 8);
	assert_int_equal(value, 77);
}

static void reply_that_does_not_fit_is_empty(void **state)
{
	(void)state;
	assert_int_equal(vu_reply_encode_u64(bytes, 19, VU_GET_FEATURES, 77), 0);
}

static void other_version_is_refused(void **state)
{
	struct vu_header header;

	(void)state;
	memset(bytes, 0, VU_HEADER_LEN);
	bytes[4] = 2;
	assert_false(vu_header_decode(bytes, &header));
	bytes[4] = 1;
	assert_true(vu_header_decode(bytes, &header));
}

static void payload_that_is_too_long_is_refused(void **state)
{
	uint32_t size = VU_PAYLOAD_MAX + 1;
	struct vu_header header;

	(void)state;
	memset(bytes, 0, VU_HEADER_LEN);
	bytes[4] = 1;
	memcpy(bytes + 8, &size, 4);
	assert_false(vu_header_decode(bytes, &header));
	size--;
	memcpy(bytes + 8, &size, 4);
	assert_true(vu_header_decode(bytes, &header));
}

static void table_of_too_many_regions_is_refused(void **state)
{
	struct vu_header header = { .request = VU_SET_MEM_TABLE };
	struct vu_message out;

	(void)state;
	memset(bytes, 0, sizeof(bytes));
	bytes[0] = VU_REGIONS_PER_MESSAGE + 1;
	assert_false(vu_payload_decode(&header, bytes, VU_PAYLOAD_MAX, &out));
}

static void unknown_request_is_read_without_payload(void **state)
{
	struct vu_header header = { .request = 4711 };
	struct vu_message out;

	(void)state;
	assert_true(vu_payload_decode(&header, bytes, 0, &out));
	assert_int_equal(out.request, 4711);
}

#define N_SHAPES (sizeof(shapes) / sizeof(shapes[0]))

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(log_without_shared_memory_is_read_as_none),
		cmocka_unit_test(answer_without_a_configuration_has_no_bytes),
		cmocka_unit_test(reply_carries_the_flag),
		cmocka_unit_test(reply_that_does_not_fit_is_empty),
		cmocka_unit_test(other_version_is_refused),
		cmocka_unit_test(payload_that_is_too_long_is_refused),
		cmocka_unit_test(table_of_too_many_regions_is_refused),
		cmocka_unit_test(unknown_request_is_read_without_payload),
	};
	struct CMUnitTest rows[2 * N_SHAPES];
	int failed = cmocka_run_group_tests(tests, NULL, NULL);

	for (size_t i = 0; i < N_SHAPES; i++) {
		rows[i] = (struct CMUnitTest){ shapes[i].name, shape_is_read, NULL, NULL,
					       &shapes[i] };
		rows[N_SHAPES + i] =
			(struct CMUnitTest){ "a payload that is cut is refused",
					     shape_is_refused_when_cut, NULL, NULL, &shapes[i] };
	}
	return failed + cmocka_run_group_tests(rows, NULL, NULL);
}
