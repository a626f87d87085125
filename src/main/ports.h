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
 *whole spec; with exclusions alone, all other ports below the ephemeral range are forwarded, as
 *with "all".
 */
#pragma once

#include "taploom/config.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * Adds one spec to rules, which several may be added to; zeroed rules are PORTS_UNSET.
 *
 * rules->maps then holds all ranges to bind, exclusions already cut out, in mode PORTS_LIST,
 * PORTS_ALL (some of them weak) and PORTS_AUTO (given beside auto) alike. rules->excluded is what
 * auto and all leave out. Ranges that would bind the same address and port twice are refused;
 * "none" is refused after ports, and forgotten if ports follow.
 *
 * ephemeral: the first port that "all" leaves out
 * error:     room for the reason, which names the part of spec that is wrong
 * Returns false if the spec is refused; rules are not to be used then.
 */
bool ports_parse(struct port_rules *rules, const char *spec, uint16_t ephemeral, char *error,
		 size_t error_size);

static inline bool ports_excluded(const struct port_rules *rules, uint16_t port)
{
	return rules->excluded[port / 8] & 1 << port % 8;
}

/* The first ephemeral port of this network namespace (net.ipv4.ip_local_port_range), 32768 if it
 * cannot be read. */
uint16_t ports_ephemeral(void);
