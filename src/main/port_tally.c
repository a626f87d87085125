/* SPDX-License-Identifier: Apache-2.0 */
#include "port_tally.h"

#include "ports.h"

#include "taploom/log.h"

#include <errno.h>
#include <sys/resource.h>

static const char *const refusals[] = { "in use by others", "not permitted", "refused" };

int port_tally_add(struct port_tally *tally, const struct port_map *map, int error)
{
	if (!error) {
		tally->bound++;
		tally->of_all++;
		return 0;
	}
	/* What each of the others would meet too ends it as well. */
	if (!map->weak || error == -EMFILE || error == -ENFILE || error == -ENODEV)
		return error;
	tally->refused[error == -EADDRINUSE ? 0 : error == -EACCES ? 1 : 2]++;
	tally->last_error = error;
	return 0;
}

int port_tally_end(struct port_tally *tally, const struct port_rules *rules, unsigned int map)
{
	const struct port_map *maps = rules->maps;
	bool goes_on = map + 1 < rules->n_maps && maps[map + 1].weak && !maps[map + 1].scan &&
		       ports_equal_place(&maps[map], &maps[map + 1]);
	int error = maps[map].weak && !tally->of_all ? tally->last_error : 0;

	if (maps[map].weak && goes_on)
		return 0;
	tally->of_all = 0;
	tally->last_error = 0;
	return error;
}

void port_tally_log(const struct port_tally *tally, const char *what)
{
	log_info("%s: %u ports bound", what, tally->bound);
	for (unsigned int i = 0; i < 3; i++) {
		if (tally->refused[i])
			log_info("%s: %u ports left out, %s", what, tally->refused[i], refusals[i]);
	}
}

void port_tally_explain_limit(uint64_t sockets)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) == 0)
		log_error("The limit on open files is %llu: these ports alone take %llu; raise it "
			  "(ulimit -n), or forward fewer ports",
			  (unsigned long long)limit.rlim_cur, (unsigned long long)sockets);
}

uint64_t port_tally_wanted(const struct port_rules *rules)
{
	uint64_t n = 0;

	for (unsigned int i = 0; i < rules->n_maps; i++)
		n += rules->maps[i].scan ? 0u : 1u + rules->maps[i].last - rules->maps[i].first;
	return n;
}
