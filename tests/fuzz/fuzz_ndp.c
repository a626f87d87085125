/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Any bytes as an NDP message. The first byte picks the source: nobody, or the guest.
 * links: services tap
 */
#include "services/ndp.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len);

static const struct netconf net = {
	.v[IP6] = { .on = true,
		    .addr = { .b = { 0x20, 1, 0xd, 0xb8, [15] = 0x10 } },
		    .prefix_len = 64,
		    .gateway = { .b = { 0xfe, 0x80, [15] = 1 } },
		    .our_local = { .b = { 0xfe, 0x80, [15] = 1 } } },
};

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
	struct ip_addr src = { .b = { [0] = 0xfe, [1] = 0x80, [15] = 2 } };
	struct ip_addr dst = { .b = { 0xff, 2, [11] = 1, [12] = 0xff } };
	struct ndp_query query;
	struct ndp_na na;
	uint8_t out[NDP_NA_LEN];

	if (len == 0)
		return 0;
	if (bytes[0] & 1)
		src = (struct ip_addr){ .q = { 0, 0 } };
	if (!ndp_decode(bytes + 1, len - 1, &query) || !ndp_is_valid(&query, &src, &dst, 255))
		return 0;
	if (query.type != NDP_NS || !ndp_answer_ns(&net, &query, &src, &na))
		return 0;
	if (ip_is_any(&src) || ip_eq(&na.target, &net.v[IP6].addr) ||
	    !ip_eq(&na.target, &query.target))
		abort();
	if (ndp_encode_na(out, sizeof(out), &na) != NDP_NA_LEN ||
	    !ndp_decode(out, sizeof(out), &query) || query.type != NDP_NA)
		abort();
	return 0;
}
