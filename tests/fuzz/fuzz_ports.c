/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fuzzes the grammar of forwarded ports: specs separated by newlines, added to one set of rules.
 * links: main
 */
#include "main/ports.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* What ports.h promises of rules that were accepted. */
static void check(const struct port_rules *rules)
{
	if (rules->mode == PORTS_UNSET || rules->n_maps > MAX_PORT_MAPS)
		abort();
	for (unsigned int i = 0; i < rules->n_maps; i++) {
		const struct port_map *map = &rules->maps[i];

		if (map->first == 0 || map->first > map->last || map->target == 0 ||
		    map->target + (map->last - map->first) > UINT16_MAX ||
		    !memchr(map->ifname, '\0', sizeof(map->ifname)))
			abort();
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct port_range ephemeral = { 32768, 60999 };
	static struct port_rules rules;
	char text[512];
	char error[64];
	char *rest = text;
	char *spec;

	if (size >= sizeof(text))
		return 0;
	memcpy(text, data, size);
	text[size] = '\0';
	memset(&rules, 0, sizeof(rules));
	while ((spec = strsep(&rest, "\n"))) {
		error[0] = '\0';
		if (!ports_parse(&rules, spec, ephemeral, error, sizeof(error))) {
			if (error[0] == '\0')
				abort();
			return 0;
		}
		check(&rules);
	}
	return 0;
}
