/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Any bytes as a DHCP message, and what is answered: within the client's limit, never another
 * address. links: services tap
 */
#include "services/dhcp.h"

#include "taploom/bytes.h"

#include <stdlib.h>

#define OPTIONS_OFF 240
#define OPT_END	    255

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len);

#define IP(...)                                                                                    \
	{                                                                                          \
		.b = { [10] = 255, 255, __VA_ARGS__ }                                              \
	}

static const struct netconf net = {
	.v[IP4] = { .on = true,
		    .addr = IP(192, 0, 2, 10),
		    .prefix_len = 24,
		    .gateway = IP(198, 51, 100, 1),
		    .dns = { IP(192, 0, 2, 53), IP(192, 0, 2, 54) },
		    .n_dns = 2 },
	.search = { { "example.org" }, { "lab.example.org" } },
	.n_search = 2,
	.hostname = "guest",
	.fqdn = "guest.example.org",
	.mtu = 65520,
};

/* The options must end before the message does. */
static void check_options(const uint8_t *message, size_t len)
{
	struct bytes_in in = in_of(message, len);
	uint8_t code;

	in_skip(&in, OPTIONS_OFF);
	while ((code = in_u8(&in)) != OPT_END && in_ok(&in))
		in_skip(&in, in_u8(&in));
	if (!in_ok(&in))
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
	static const struct config config;
	struct eth_addr mac = { { 2, 0, 0, 0, 0, 2 } };
	struct dhcp_query query;
	struct dhcp_reply reply;
	uint8_t out[DHCP_MAX_LEN];
	size_t out_len;
	bool send;

	if (!dhcp_decode(bytes, len, &query) ||
	    dhcp_answer(&config, &net, &net.v[IP4].gateway, &query, &reply, &send) != DROP_NONE ||
	    !send)
		return 0;
	dhcp_destination_of(&query, &reply, &net.v[IP4].addr, &mac);
	out_len = dhcp_encode(out, &reply);
	if (out_len < DHCP_MIN_LEN || out_len > reply.max_len)
		abort();
	if (!ip_is_any(&reply.header.yiaddr) && !ip_eq(&reply.header.yiaddr, &net.v[IP4].addr))
		abort();
	if (reply.has_options)
		check_options(out, out_len);
	if (!dhcp_decode(out, out_len, &query) || query.type != reply.type)
		abort();
	return 0;
}
