/* SPDX-License-Identifier: Apache-2.0 */
#include "guest_addrs.h"

#include <time.h>

#define SILENT_TICKS 2

uint32_t guest_addrs_tick(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC_COARSE, &ts);
	return (uint32_t)ts.tv_sec + 1;
}

bool guest_addrs_lately(struct guest_addrs *addrs, const struct ip_addr *addr, uint32_t tick)
{
	uint64_t mix = (addr->q[0] ^ addr->q[1] * 0x9e3779b97f4a7c15u) * 0xff51afd7ed558ccdu;
	uint64_t word = (mix & ~UINT64_C(0xffff)) | (tick & 0xffff);
	uint32_t slot;

	for (slot = 0; slot < GUEST_ADDRS_POSTED; slot++)
		if (atomic_load_explicit(&addrs->posted[slot], memory_order_relaxed) == word)
			return true;
	slot = atomic_fetch_add_explicit(&addrs->next_posted, 1, memory_order_relaxed);
	atomic_store_explicit(&addrs->posted[slot % GUEST_ADDRS_POSTED], word,
			      memory_order_relaxed);
	return false;
}

void guest_addrs_heard(struct guest_addrs *addrs, enum ip_version version, uint32_t tick)
{
	if (atomic_load_explicit(&addrs->heard[version], memory_order_relaxed) != tick)
		atomic_store_explicit(&addrs->heard[version], tick, memory_order_relaxed);
}

bool guest_addrs_waits(struct guest_addrs *addrs, const struct netconf_version *net,
		       const struct ip_addr *addr, uint32_t tick)
{
	enum ip_version version = ip_version_of(addr);
	uint32_t *challenged = &addrs->challenged[version];
	uint32_t heard = atomic_load_explicit(&addrs->heard[version], memory_order_relaxed);

	if (ip_is_unset(&net->addr) || !ip_eq(&net->seen, &net->addr) || ip_eq(addr, &net->addr) ||
	    (version == IP6 && ip_is_link_local(addr)))
		return false;
	if (!*challenged || (int32_t)(heard - *challenged) >= 0) {
		*challenged = tick;
		return true;
	}
	if (tick - *challenged < SILENT_TICKS)
		return true;
	*challenged = 0;
	return false;
}

void guest_addrs_forget(struct guest_addrs *addrs)
{
	for (unsigned int i = 0; i < GUEST_ADDRS_POSTED; i++)
		atomic_store_explicit(&addrs->posted[i], 0, memory_order_relaxed);
	for (unsigned int v = 0; v < IP_VERSIONS; v++)
		addrs->challenged[v] = 0;
}
