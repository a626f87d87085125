/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The command line. options_table.h lists the options, option_take.c holds what checks and stores
 * their values, and options.c drives getopt_long(3), looks for contradictions, and fills in
 * defaults that do not depend on the host. Main thread only, before any other thread.
 */
#pragma once

#include "ports.h"

#include "taploom/config.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

enum option_section {
	SECTION_GENERAL,
	SECTION_THREADS,
	SECTION_ADDRESSES,
	SECTION_NAMES,
	SECTION_PROTOCOLS,
	SECTION_PORTS,
	SECTION_MACHINE,
	SECTION_NAMESPACE,
	SECTION_IGNORED,
	SECTION_HIDDEN,
};

enum option_modes { MODES_VM = 1, MODES_NS = 2, MODES_ANY = MODES_VM | MODES_NS };

struct options;

/* One row of options_table.h. */
struct option_row {
	const char *name;
	const char *argument; /* NULL: takes none */
	/* Checks value (NULL if there is no argument) and stores it. On false, options->error says
	 * why. */
	bool (*take)(struct options *options, const struct option_row *row, const char *value);
	size_t offset; /* of the member in struct config */
	size_t size;   /* of that member, in bytes */
	uint64_t low, high;
	const char *help;
	enum option_section section;
	enum option_modes modes;
	char letter; /* 0: none */
};

extern const struct option_row option_rows[];
extern const unsigned int n_option_rows;

/* What is known while a command line is parsed. */
struct options {
	struct config *config;
	enum ip_version last_address; /* version of the last --address: --netmask belongs to that */
	bool prefix_in_address[2];    /* by IP version: --address had it behind a slash ... */
	bool prefix_in_netmask[2];    /* ... or --netmask gave it */
	bool done;		      /* --help and the like: nothing is to be started */
	struct port_range ephemeral;  /* the host's */
	char error[256];
};

/*
 * Parses a command line into *config.
 *
 * config:      overwritten; strings and command point into argv, which must outlive it
 * exit_status: set when false is returned
 * Returns true if the program is to go on. False if it is to exit with *exit_status: what there is
 * to say was printed, on stdout for --help, --version and --print-capabilities (status 0), else one
 * line on stderr that names the option (status 1). The mode's defaults of -t, -u, -T and -U are
 * filled in: PORTS_UNSET does not remain.
 *
 * Namespace mode: one argument of digits alone is a process (netns_pid), anything else a command; a
 * name given to
 * --netns has become a path. With neither, command, netns_pid and netns are all unset: a shell is
 * wanted.
 */
bool options_parse(struct config *config, int argc, char **argv, int *exit_status);

/* Prints --help or --version to out; program is the name called by. */
void options_print_help(FILE *out, const char *program);
void options_print_version(FILE *out, const char *program);
