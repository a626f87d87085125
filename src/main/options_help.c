/* SPDX-License-Identifier: Apache-2.0 */
#include "options.h"

static const char *const titles[] = {
	[SECTION_GENERAL] = "General",
	[SECTION_THREADS] = "Threads and memory",
	[SECTION_ADDRESSES] = "Addresses",
	[SECTION_NAMES] = "Names",
	[SECTION_PROTOCOLS] = "Protocols",
	[SECTION_PORTS] = "Ports and mapping",
	[SECTION_MACHINE] = "Virtual machines only",
	[SECTION_NAMESPACE] = "Namespaces only",
	[SECTION_IGNORED] = "For compatibility",
};

static void print_row(FILE *out, const struct option_row *row)
{
	if (row->letter)
		fprintf(out, "  -%c, --%s", row->letter, row->name);
	else
		fprintf(out, "      --%s", row->name);
	fprintf(out, "%s%s\n          %s\n", row->argument ? " " : "",
		row->argument ? row->argument : "", row->help);
}

void options_print_help(FILE *out, const char *program)
{
	fprintf(out,
		"Usage: %s [OPTION]...\n"
		"       %s --namespace [OPTION]... [COMMAND [ARG]...]\n"
		"       %s --namespace [OPTION]... PID\n"
		"       %s --namespace [OPTION]... --netns PATH|NAME\n"
		"Connects a virtual machine or a network namespace to the host's network, without "
		"privileges.\n"
		"Called as pasta it takes namespaces without --namespace.\n",
		program, program, program, program);
	for (enum option_section section = SECTION_GENERAL; section < SECTION_HIDDEN; section++) {
		fprintf(out, "\n%s:\n", titles[section]);
		for (unsigned int i = 0; i < n_option_rows; i++)
			if (option_rows[i].section == section)
				print_row(out, &option_rows[i]);
	}
	fprintf(out,
		"\nSPEC: none, all, auto, or a list such as 22,8080:80,2000-2010,~2005 behind an "
		"optional\n"
		"ADDRESS/, ADDRESS%%INTERFACE/ or %%INTERFACE/; it may be given several times.\n");
}

void options_print_version(FILE *out, const char *program)
{
	fprintf(out,
		"%s %s\n"
		"Licensed under the Apache License, Version 2.0 "
		"<https://www.apache.org/licenses/LICENSE-2.0>.\n"
		"There is no warranty, to the extent permitted by law.\n",
		program, TAPLOOM_VERSION);
}
