/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The guest's addresses that a reader has told the control thread of, so that it doesn't for each
 * frame. What control forgets, as the guest goes, is told anew. A struct known_addrs is its
 * reader's alone.
 */
#pragma once

#include "taploom/runtime.h"

#define KNOWN_ADDRS 8u

struct known_addrs {
	uint32_t forgotten; /* rt->addrs_forgotten as of when they were told */
	struct ip_addr addr[KNOWN_ADDRS];
};

/* Tells control of a frame's source if it is not among the last ones told. */
static inline void known_addrs_note(struct runtime *rt, struct known_addrs *known,
				    const struct ip_addr *src)
{
	uint32_t forgotten = atomic_load_explicit(&rt->addrs_forgotten, memory_order_acquire);
	struct ip_addr *slot = &known->addr[src->b[15] % KNOWN_ADDRS];

	if (forgotten != known->forgotten)
		*known = (struct known_addrs){ .forgotten = forgotten };
	if (ip_eq(slot, src) || ip_is_any(src))
		return;
	if (control_guest_address(rt->control, src))
		*slot = *src;
}
