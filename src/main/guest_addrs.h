/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which of the addresses that a guest uses is the one that forwarded ports lead to: the one heard
 * last, but the one that it was given as long as that is heard too. Time is in ticks of about a
 * second.
 */
#pragma once

#include "taploom/netconf.h"
#include "taploom/thread.h"

#include <stdatomic.h>

#define GUEST_ADDRS_POSTED 16

struct guest_addrs {
	_Atomic uint64_t posted[GUEST_ADDRS_POSTED]; /* addresses and ticks; any thread, relaxed */
	_Atomic uint32_t next_posted;
	_Atomic uint32_t heard[IP_VERSIONS]; /* when the address given was; any thread, relaxed */
	uint32_t challenged[IP_VERSIONS];    /* when another one was; control's; 0: not */
};

/* The present tick; never 0. */
uint32_t guest_addrs_tick(void);

/* Whether the address was asked for in this tick already: a guest may use several by turns. Any
 * thread. */
bool guest_addrs_lately(struct guest_addrs *addrs, const struct ip_addr *addr, uint32_t tick);

/* The guest has used the address that it was given. Any thread. */
void guest_addrs_heard(struct guest_addrs *addrs, enum ip_version version, uint32_t tick);

/* Whether an address that was heard has to wait for the one that the guest was given to be silent;
 * then it is to be told of again. net: of its version. */
bool guest_addrs_waits(struct guest_addrs *addrs, const struct netconf_version *net,
		       const struct ip_addr *addr, uint32_t tick) ON_CONTROL;

/* The guest is gone, or was given another one. */
void guest_addrs_forget(struct guest_addrs *addrs) ON_CONTROL;
