/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Any text as resolv.conf, and the guest's configuration built from it.
 * links: services
 */
#include "taploom/services.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
	static const struct config config;
	static const struct host_net host;
	struct resolv_conf resolv;
	struct netconf net;

	resolv_conf_parse(&resolv, (const char *)bytes, len);
	if (resolv.n_dns > 2 * MAX_DNS || resolv.n_search > MAX_SEARCH)
		abort();
	for (unsigned int i = 0; i < resolv.n_search; i++)
		if (strnlen(resolv.search[i].name, MAX_DOMAIN) == MAX_DOMAIN)
			abort();
	netconf_build(&net, &config, &host, &resolv, NULL);
	for (int v = 0; v < IP_VERSIONS; v++)
		for (unsigned int i = 0; i < net.v[v].n_dns; i++)
			if (ip_is_loopback(&net.v[v].dns[i]))
				abort(); /* it would be the guest's own */
	return 0;
}
