/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How the binding of an option's ports went. Where a port was named, its refusal ends the start; of
 * "all", what is taken or not permitted is left out and counted, but something must remain; a limit
 * on open files, or an interface that is not there, is nothing to be passed over. Main thread.
 */
#pragma once

#include "taploom/config.h"

struct port_tally {
	unsigned int bound;
	unsigned int refused[3]; /* taken, not permitted, other reasons */
	unsigned int of_all;	 /* bound of the "all" that is being gone through */
	int last_error;		 /* of its refused ones, negative errno */
};

/* Counts one port of a map, of which binding gave 0 or -errno. Returns 0, or the error if the start
 * is to end. */
int port_tally_add(struct port_tally *tally, const struct port_map *map, int error);

/* All ports of a map were tried. Returns 0, or -errno if it was the last of an "all" of which
 * nothing could be bound. */
int port_tally_end(struct port_tally *tally, const struct port_rules *rules, unsigned int map);

/* Logs the numbers. what: as in "Forwarding TCP". */
void port_tally_log(const struct port_tally *tally, const char *what);

/* Logs that the limit on open files is too low for that many sockets. */
void port_tally_explain_limit(uint64_t sockets);

/* The ports that the rules name themselves, those that auto follows left out. */
uint64_t port_tally_wanted(const struct port_rules *rules);
