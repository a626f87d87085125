/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Any bytes as a DHCPv6 message, and what is answered: a message that can be read, with one address
 * at most. The first byte picks whether it came by multicast. links: services tap
 */
#include "services/dhcp6.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len);

static const struct netconf net = {
	.v[IP6] = { .on = true,
		    .addr = { .b = { 0x20, 1, 0xd, 0xb8, [15] = 0x10 } },
		    .prefix_len = 64,
		    .dns = { { .b = { 0x20, 1, 0xd, 0xb8, [15] = 0x53 } } },
		    .n_dns = 1 },
	.search = { { "example.org" } },
	.n_search = 1,
	.fqdn = "guest.example.org",
};

/* At most one IA has the address with a lifetime, and nothing else has one. */
static void check(const struct dhcp6_reply *reply)
{
	unsigned int granted = 0;

	for (unsigned int i = 0; i < reply->n_ias; i++) {
		for (unsigned int l = 0; l < reply->ias[i].n_leases; l++) {
			const struct dhcp6_lease *lease = &reply->ias[i].leases[l];

			granted += lease->valid_s != 0;
			if (lease->valid_s && !ip_eq(&lease->addr, &net.v[IP6].addr))
				abort();
		}
	}
	if (granted > 1)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
	static const uint8_t duid[] = { 0, 4, 1, 2, 3, 4 };
	static const struct config config;
	struct dhcp6_bytes id = { duid, sizeof(duid) };
	struct dhcp6_query query;
	struct dhcp6_reply reply;
	uint8_t out[DHCP6_REPLY_MAX];
	size_t out_len;

	if (len == 0 || !dhcp6_decode(bytes + 1, len - 1, &query) ||
	    dhcp6_answer(&config, &net, id, &query, bytes[0] & 1, &reply) != DROP_NONE)
		return 0;
	check(&reply);
	out_len = dhcp6_encode(out, sizeof(out), &reply);
	if (out_len && (!dhcp6_decode(out, out_len, &query) || query.type != reply.type ||
			query.n_ias != reply.n_ias))
		abort();
	return 0;
}
