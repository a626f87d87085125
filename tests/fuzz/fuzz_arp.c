/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Any bytes as an ARP packet, and what is answered.
 * links: services tap
 */
#include "services/arp.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
	static const struct netconf net = {
		.v[IP4] = { .on = true, .addr = { .b = { [10] = 255, 255, 192, 0, 2, 10 } } },
		.our_mac = { { 2, 0, 0, 0, 0, 1 } },
	};
	struct arp_packet request;
	struct arp_packet reply;
	uint8_t out[ARP_LEN];

	if (!arp_decode(bytes, len, &request))
		return 0;
	if (arp_encode(out, sizeof(out), &request) != ARP_LEN || memcmp(out, bytes, ARP_LEN) != 0)
		abort();
	if (!arp_answer(&net, &request, &reply))
		return 0;
	if (request.op != ARP_REQUEST || reply.op != ARP_REPLY ||
	    ip_eq(&reply.sender, &net.v[IP4].addr) || !ip_eq(&reply.target, &request.sender))
		abort();
	return 0;
}
