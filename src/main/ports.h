/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The grammar of -t, -u, -T and -U:
 *
 *	spec    = "none" | [where "/"] item *("," item)
 *	where   = address | address "%" interface | "%" interface      (IPv6 may stand in brackets)
 *	item    = "all" | "auto" | "~" range | range [":" range]
 *	range   = port ["-" port]
 *
 * A range behind a colon is the guest's and as long as the one before it. Exclusions hold for the
 * whole spec. "all" takes what can be bound and passes over the rest, "auto" takes what is listened
 * on: of the ranges beside them, else of all ports outside the ephemeral range, and of all ports.
 * With exclusions alone "all" is meant.
 */
#pragma once

#include "taploom/config.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct port_range {
	uint16_t first;
	uint16_t last;
};

/*
 * Adds one spec to rules, which several may be added to; zeroed rules are PORTS_UNSET.
 *
 * rules->maps then holds all ranges, exclusions already cut out; the mode is that of the spec that
 * asks for most, PORTS_LIST, PORTS_ALL (some maps are weak) or PORTS_AUTO (some are to be scanned).
 * Ranges that would bind the same address and port twice are refused, but for ports given beside
 * auto; "none" is refused after ports, and forgotten if ports follow.
 *
 * ephemeral: the ports that "all" leaves out
 * error:     room for the reason, which names the part of spec that is wrong
 * Returns false if the spec is refused; rules are not to be used then.
 */
bool ports_parse(struct port_rules *rules, const char *spec, struct port_range ephemeral,
		 char *error, size_t error_size);

/* Whether two maps name the same address and interface. */
bool ports_equal_place(const struct port_map *a, const struct port_map *b);

/* Whether two maps bind the same address, their ports apart. */
bool ports_same_place(const struct port_map *a, const struct port_map *b);

/* The ephemeral ports of this network namespace (net.ipv4.ip_local_port_range), 32768 to 60999 if
 * they cannot be read. */
struct port_range ports_ephemeral(void);
