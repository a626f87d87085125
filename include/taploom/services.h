/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The guest's network configuration services: ARP, DHCP, NDP, DHCPv6. They run on the control
 * thread: a frame in, at most a few frames out, and one deadline.
 */
#pragma once

#include "taploom/frame.h"
#include "taploom/netconf.h"
#include "taploom/thread.h"
#include "taploom/tx.h"

struct services;

/* config: constant; must outlive it. secret seeds the server's identifiers. Returns NULL if there
 * is no memory. */
struct services *services_new(const struct config *config, struct tx *tx, struct counters *counters,
			      const struct hash_secret *secret);
void services_free(struct services *services);

/*
 * Answers one frame of kind FRAME_CONTROL through tx (the caller flushes).
 *
 * net: the configuration in force; guest_mac: as learnt; now_us: a monotonic clock.
 */
void services_frame(struct services *services, const struct netconf *net, const struct frame *frame,
		    uint64_t now_us) ON_CONTROL;

/* The address that the last frame showed its sender to use, where it was no IP packet's source:
 * that of ARP, of a DHCPACK, of duplicate address detection. False: none. */
bool services_shown_address(const struct services *services, struct ip_addr *out) ON_CONTROL;

/* Does what is due (periodic RA) and returns the next deadline in the same clock, UINT64_MAX for
 * none. */
uint64_t services_tick(struct services *services, const struct netconf *net,
		       uint64_t now_us) ON_CONTROL;

/* The host's addresses changed, or a guest came: RAs are sent soon (RFC 4861 6.2.4, 6.2.6), old
 * prefixes deprecated. */
void services_netconf_changed(struct services *services, const struct netconf *before,
			      const struct netconf *now, uint64_t now_us) ON_CONTROL;

/* Host discovery over netlink (libmnl). */
struct discovery;

/* Opens the netlink sockets and reads the host's state. config names interfaces. 0 or -errno. */
int discovery_open(struct discovery **out, const struct config *config);
void discovery_close(struct discovery *discovery);
int discovery_fd(const struct discovery *discovery);
/* Reads pending events; true if what discovery_get() gives may have changed. Never blocks. */
bool discovery_read(struct discovery *discovery) ON_CONTROL;
/* Fills in what the host has now: the interface of the first default route per version, and so on.
 */
int discovery_get(struct discovery *discovery, struct host_net *out);

/* Parses resolv.conf text (pure). What does not parse is skipped. */
void resolv_conf_parse(struct resolv_conf *out, const char *text, size_t len);
/* Reads and parses a file; a missing one gives none. 0 or -errno. */
int resolv_conf_read(struct resolv_conf *out, const char *path);
