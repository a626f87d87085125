/* SPDX-License-Identifier: Apache-2.0 */
#include "options.h"

#include "option_take.h"
#include "options_table.h"
#include "ports.h"
#include "values.h"

#include <getopt.h>
#include <limits.h>
#include <stdarg.h>
#include <string.h>
#include <sys/stat.h>

#define ROW(section_, letter_, name_, argument_, modes_, check_, field_, low_, high_, help_)       \
	{                                                                                          \
		.name = (name_),                                                                   \
		.argument = (argument_),                                                           \
		.take = take_##check_,                                                             \
		.offset = offsetof(struct config, field_),                                         \
		.size = sizeof(((struct config *)0)->field_),                                      \
		.low = (low_),                                                                     \
		.high = (high_),                                                                   \
		.help = (help_),                                                                   \
		.section = SECTION_##section_,                                                     \
		.modes = MODES_##modes_,                                                           \
		.letter = (letter_),                                                               \
	},

const struct option_row option_rows[] = { OPTIONS(ROW) };

#define N_ROWS (sizeof(option_rows) / sizeof(option_rows[0]))
/*
 * -c is --conf-path with a path, and --config-net without: both have been in use. A path is what
 * has a slash and is no program that could be executed.
 */
#define TWO_MEANINGS 'c'

#define LONG_ONLY 256 /* getopt's value for row 0's long form; letters are below */

const unsigned int n_option_rows = N_ROWS;

/* Options that do not go together. */
static const struct {
	const char *one;
	const char *other;
	const char *why;
} conflicts[] = {
	{ "ipv4-only", "ipv6-only", "nothing would be left" },
	{ "fd", "socket", "the guest joins either way, not both" },
	{ "namespace", "vhost-user", "the guest is either a namespace or a VM" },
	{ "dhcp-dns", "no-dhcp-dns", "choose one" },
	{ "dhcp-search", "no-dhcp-search", "choose one" },
	{ "splice-only", "no-splice", "nothing would be left" },
	{ "netns-only", "userns", "choose one" },
};

/* The option's row and whether it was given, while parsing. */
struct parse {
	struct options options;
	bool given[N_ROWS];
	struct option longs[N_ROWS + 1];
	char letters[2 * N_ROWS + 3];
};

/*
 * What getopt gives for a row's long form. Names of the same thing share a value, so that what they
 * begin with is no ambiguous abbreviation.
 */
static int value_of_long(unsigned int row)
{
	for (unsigned int i = 0; i < row; i++)
		if (option_rows[i].take == take_string && option_rows[row].take == take_string &&
		    option_rows[i].offset == option_rows[row].offset)
			return LONG_ONLY + (int)i;
	return LONG_ONLY + (int)row;
}

static void parse_init(struct parse *p)
{
	char *at = p->letters;

	*at++ = '+'; /* what follows a command is the command's */
	for (unsigned int i = 0; i < N_ROWS; i++) {
		const struct option_row *row = &option_rows[i];

		p->longs[i] =
			(struct option){ row->name, row->argument ? required_argument : no_argument,
					 NULL, value_of_long(i) };
		if (!row->letter)
			continue;
		*at++ = row->letter;
		if (row->argument)
			*at++ = ':';
		if (row->letter == TWO_MEANINGS)
			*at++ = ':'; /* what follows decides: see resolve_letter() */
	}
	*at = '\0';
}

static unsigned int row_of(int opt)
{
	if (opt >= LONG_ONLY)
		return (unsigned int)(opt - LONG_ONLY);
	for (unsigned int i = 0; i < N_ROWS; i++)
		if (option_rows[i].letter == opt)
			return i;
	return N_ROWS;
}

static bool is_socket_path(const char *text)
{
	struct stat st;

	return text && text[0] != '-' && strchr(text, '/') &&
	       (stat(text, &st) != 0 || S_ISSOCK(st.st_mode));
}

/* Decides on a letter that has two meanings; optarg and optind are getopt's. */
static unsigned int resolve_letter(const struct config *config, unsigned int i, int argc,
				   char **argv)
{
	bool vm = config->mode != MODE_NAMESPACE; /* which has no --config-net */

	if (optarg)
		return i;
	if (optind < argc && (is_socket_path(argv[optind]) || (vm && argv[optind][0] != '-'))) {
		optarg = argv[optind++];
		return i;
	}
	for (i = 0; strcmp(option_rows[i].name, "config-net") != 0;)
		i++;
	return i;
}

static bool was_given(const struct parse *p, const char *name)
{
	for (unsigned int i = 0; i < N_ROWS; i++)
		if (p->given[i] && strcmp(option_rows[i].name, name) == 0)
			return true;
	return false;
}

static void complain(const struct config *config, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));

static void complain(const struct config *config, const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	fprintf(stderr, "%s: ", config->program);
	vfprintf(stderr, fmt, args);
	fputc('\n', stderr);
	va_end(args);
}

static bool is_called(const struct config *config, const char *name)
{
	return strcmp(config->program, name) == 0;
}

/* What a name alone asks for. "Backend program conventions" of vhost-user give neither a mode nor
 * leave to go to the background. */
static void take_name(struct config *config)
{
	config->mode = MODE_STREAM;
	if (is_called(config, "pasta"))
		config->mode = MODE_NAMESPACE;
	config->as_passt = is_called(config, "passt");
	if (is_called(config, "taploom-vhost-user")) {
		config->mode = MODE_VHOST_USER;
		config->foreground = true;
	}
}

static void config_init(struct config *config, const char *argv0)
{
	const char *slash = strrchr(argv0, '/');

	memset(config, 0, sizeof(*config));
	config->program = slash ? slash + 1 : argv0;
	take_name(config);
	config->mtu = 65520;
	config->fd = -1;
	config->log_size = 1 << 20;
	config->flows = 131072;
	config->pool_bytes = 256 << 20;
}

static bool parse_options(struct parse *p, int argc, char **argv)
{
	struct options *o = &p->options;
	int opt;

	optind = 0; /* glibc: start anew, whatever was parsed before */
	while ((opt = getopt_long(argc, argv, p->letters, p->longs, NULL)) != -1) {
		unsigned int i = row_of(opt);

		if (i == N_ROWS) { /* getopt has said why */
			fprintf(stderr, "Usage: %s [OPTION]..., see %s --help\n",
				o->config->program, o->config->program);
			return false;
		}
		if (opt == TWO_MEANINGS)
			i = resolve_letter(o->config, i, argc, argv);
		p->given[i] = true;
		if (!option_rows[i].take(o, &option_rows[i], optarg)) {
			complain(o->config, "--%s %s: %s", option_rows[i].name, optarg, o->error);
			return false;
		}
		if (o->done)
			return true;
	}
	return true;
}

static bool check_conflicts(const struct parse *p)
{
	for (unsigned int i = 0; i < sizeof(conflicts) / sizeof(conflicts[0]); i++) {
		if (!was_given(p, conflicts[i].one) || !was_given(p, conflicts[i].other))
			continue;
		complain(p->options.config, "--%s and --%s contradict each other: %s",
			 conflicts[i].one, conflicts[i].other, conflicts[i].why);
		return false;
	}
	return true;
}

static bool check_modes(const struct parse *p)
{
	const struct config *config = p->options.config;
	bool ns = config->mode == MODE_NAMESPACE;

	for (unsigned int i = 0; i < N_ROWS; i++) {
		if (!p->given[i] || (option_rows[i].modes & (ns ? MODES_NS : MODES_VM)))
			continue;
		complain(config, "--%s is for %s", option_rows[i].name,
			 ns ? "virtual machines, not for namespaces"
			    : "namespaces only: call the program as pasta, or add --namespace");
		return false;
	}
	return true;
}

/* Takes what is behind the options. */
static bool take_target(struct config *config, int argc, char **argv, int first)
{
	uint64_t pid;
	const char *target = first < argc ? argv[first] : NULL;
	bool is_pid = target && first == argc - 1 && value_number(target, INT_MAX, &pid) && pid > 0;

	if (target && config->mode != MODE_NAMESPACE) {
		complain(config,
			 "unexpected argument '%s': a command or process is for namespaces only",
			 target);
		return false;
	}
	if (target && config->netns[0]) {
		complain(config,
			 "--netns %s and the %s '%s' contradict each other: give one of them",
			 config->netns, is_pid ? "process" : "command", target);
		return false;
	}
	if (!is_pid && !config->netns[0] && config->userns[0]) {
		complain(config, "--userns needs a process or --netns as well");
		return false;
	}
	if (is_pid)
		config->netns_pid = (pid_t)pid;
	else if (target)
		config->command = argv + first;
	return true;
}

/* A device with less than 1280 has no IPv6 (RFC 8200 5); a VM knows by itself. */
static bool check_mtu(struct config *config)
{
	if (config->mode != MODE_NAMESPACE || config->mtu == 0 || config->mtu >= 1280 ||
	    config->family_off[IP6])
		return true;
	if (config->family_off[IP4]) {
		complain(config, "--mtu %u is too small for IPv6 (minimum 1280)", config->mtu);
		return false;
	}
	complain(config, "--mtu %u is too small for IPv6 (minimum 1280): IPv6 is off", config->mtu);
	config->family_off[IP6] = true;
	return true;
}

/* Whether all maps of an option can be bound: maps into the namespace are its loopback's. */
static bool check_places(const struct config *config, const char *name,
			 const struct port_rules *rules, bool into_ns)
{
	for (unsigned int i = 0; i < rules->n_maps; i++) {
		const struct port_map *map = &rules->maps[i];
		bool bare = ip_is_unset(&map->addr) && !map->v6_only;
		enum ip_version version = ip_version_of(&map->addr);

		if (into_ns && (!bare || map->ifname[0])) {
			complain(config,
				 "--%s takes no address: these ports are bound to the namespace's "
				 "loopback",
				 name);
			return false;
		}
		if (!bare && config->family_off[version]) {
			complain(config, "--%s has an IPv%c address, but IPv%c is left out", name,
				 version == IP4 ? '4' : '6', version == IP4 ? '4' : '6');
			return false;
		}
	}
	return true;
}

/* One of the four directions in which ports lead. */
struct direction {
	const char *name;
	struct port_rules *rules;
	const char *off; /* the switch that leaves the protocol out, if it was given */
	bool into_ns;
};

static bool check_direction(const struct parse *p, struct config *config, const struct direction *d)
{
	bool ns = config->mode == MODE_NAMESPACE;
	enum port_mode mode = d->rules->mode;

	if (mode == PORTS_AUTO && !ns) {
		complain(config, "--%s auto is for namespaces only: a VM's ports cannot be seen",
			 d->name);
		return false;
	}
	if (d->off && mode != PORTS_UNSET && mode != PORTS_NONE && mode != PORTS_AUTO) {
		complain(config, "--%s and --%s contradict each other: no port can lead there",
			 d->off, d->name);
		return false;
	}
	if (mode == PORTS_UNSET)
		ports_parse(d->rules, ns ? "auto" : "none", p->options.ephemeral, NULL, 0);
	if (d->off)
		*d->rules = (struct port_rules){ .mode = PORTS_NONE };
	return check_places(config, d->name, d->rules, d->into_ns);
}

static bool check_ports(const struct parse *p, struct config *config)
{
	const char *no_tcp = config->no_tcp ? "no-tcp" : NULL;
	const char *no_udp = config->no_udp ? "no-udp" : NULL;
	const struct direction directions[] = {
		{ "tcp-ports", &config->tcp_in, no_tcp, false },
		{ "udp-ports", &config->udp_in, no_udp, false },
		{ "tcp-ns", &config->tcp_out, no_tcp, true },
		{ "udp-ns", &config->udp_out, no_udp, true },
	};

	for (size_t i = 0; i < sizeof(directions) / sizeof(directions[0]); i++) {
		if (!check_direction(p, config, &directions[i]))
			return false;
	}
	return true;
}

static void fill_defaults(const struct parse *p, struct config *config)
{
	bool ns = config->mode == MODE_NAMESPACE;

	config->debug |= config->trace;
	if (ns && !was_given(p, "dhcp-dns"))
		config->no_dhcp_dns = true;
	if (ns && !was_given(p, "dhcp-search"))
		config->no_dhcp_search = true;
	/* The namespace is given the host's addresses as they are: it needs no other way. */
	if (ns && config->config_net)
		config->no_ra = true;
	if (config->netns[0] && !config->userns[0])
		config->netns_only = true;
	config->own_namespace = ns && !config->netns[0] && !config->netns_pid;
}

bool options_parse(struct config *config, int argc, char **argv, int *exit_status)
{
	struct parse p = { .options = { .config = config, .ephemeral = ports_ephemeral() } };

	*exit_status = 1;
	config_init(config, argc > 0 ? argv[0] : "taploom");
	parse_init(&p);
	if (!parse_options(&p, argc, argv))
		return false;
	if (p.options.done) {
		*exit_status = fflush(stdout) ? 1 : 0;
		return false;
	}
	if (!check_conflicts(&p) || !check_modes(&p) || !take_target(config, argc, argv, optind) ||
	    !check_mtu(config) || !check_ports(&p, config))
		return false;
	fill_defaults(&p, config);
	return true;
}
