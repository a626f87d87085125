/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The network configuration in force: built from the options, from what the host has (netlink) and
 * from resolv.conf, published by RCU, and built anew when the host changes or the guest is seen to
 * use another address. Control thread, and main before the threads.
 */
#pragma once

#include "taploom/netconf.h"
#include "taploom/runtime.h"
#include "taploom/services.h"

struct network {
	struct runtime *rt;
	struct discovery *discovery;
	int inotify_fd; /* of the folders in which resolv.conf and what it points to are; -1: none
			 */
	struct host_net host;
	struct resolv_conf resolv;
};

/* Reads the host's state and publishes the first configuration. 0 or -errno, logged. */
int network_init(struct network *network, struct runtime *rt);
void network_free(struct network *network);

/* What a caller that was told of a change does with it; before is freed when it returns. */
typedef void network_changed(void *arg, const struct netconf *before, const struct netconf *now);

/* Takes pending news of the host and publishes what follows from it. Never blocks but for RCU. */
void network_update(struct network *network, network_changed *changed, void *arg) ON_CONTROL;

/* The guest uses this address; or with NULL it is gone, and what was seen of it is forgotten.
 * Whether that was news. */
bool network_guest_address(struct network *network, const struct ip_addr *addr) ON_CONTROL;

/* The guest has this address no longer: what was seen of it is forgotten. */
void network_address_gone(struct network *network, const struct ip_addr *addr) ON_CONTROL;

/* One line an item: what the guest will be given. */
void network_log(const struct network *network);
