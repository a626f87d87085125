/* SPDX-License-Identifier: Apache-2.0 */
#include "ports.h"

#include "values.h"

#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define ITEM_MAX 24 /* bytes: 65535-65535:65535-65535 and the NUL */

static const struct port_range ephemeral_default = { 32768, 60999 };

/* A spec while it is parsed. */
struct spec {
	struct port_rules *rules;
	struct port_map where; /* address, interface and kind for all its ranges */
	bool excluded[65536];
	bool any_range; /* exclusions, all and auto apart */
	struct port_range ephemeral;
	char *error;
	size_t error_size;
};

static bool __attribute__((format(printf, 2, 3))) refuse(struct spec *s, const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	vsnprintf(s->error, s->error_size, fmt, args);
	va_end(args);
	return false;
}

bool ports_equal_place(const struct port_map *a, const struct port_map *b)
{
	return ip_eq(&a->addr, &b->addr) && a->v6_only == b->v6_only &&
	       strcmp(a->ifname, b->ifname) == 0;
}

bool ports_same_place(const struct port_map *a, const struct port_map *b)
{
	bool a_both = ip_is_unset(&a->addr) && !a->v6_only;
	bool b_both = ip_is_unset(&b->addr) && !b->v6_only;

	if (a->ifname[0] && b->ifname[0] && strcmp(a->ifname, b->ifname) != 0)
		return false;
	if (a_both || b_both)
		return true;
	if (ip_version_of(&a->addr) != ip_version_of(&b->addr))
		return false;
	return ip_is_any(&a->addr) || ip_is_any(&b->addr) || ip_eq(&a->addr, &b->addr);
}

/* Ports given by themselves beside auto are theirs: see auto_ports_look(). */
static bool collide(const struct port_map *a, const struct port_map *b)
{
	return a->last >= b->first && a->first <= b->last && a->scan == b->scan &&
	       ports_same_place(a, b);
}

static bool add_map(struct spec *s, struct port_range range, uint16_t target)
{
	struct port_rules *rules = s->rules;
	struct port_map map = s->where;

	map.first = range.first;
	map.last = range.last;
	map.target = target;
	for (unsigned int i = 0; i < rules->n_maps; i++) {
		const struct port_map *other = &rules->maps[i];

		/* Said twice, as by a configuration file and the command line, is said once. */
		if (memcmp(&map, other, sizeof(map)) == 0)
			return true;
		if (collide(&map, other))
			return refuse(s, "ports %u-%u overlap with %u-%u, given before", map.first,
				      map.last, other->first, other->last);
	}
	if (rules->n_maps == MAX_PORT_MAPS)
		return refuse(s, "has more than %d ranges, with those before it", MAX_PORT_MAPS);
	rules->maps[rules->n_maps++] = map;
	return true;
}

/* Adds a range as the pieces that exclusions leave of it. */
static bool add_pieces(struct spec *s, struct port_range range, uint16_t target)
{
	for (unsigned int port = range.first; port <= range.last; port++) {
		struct port_range piece = { (uint16_t)port, (uint16_t)port };

		if (s->excluded[port])
			continue;
		while (piece.last < range.last && !s->excluded[piece.last + 1])
			piece.last++;
		if (!add_map(s, piece, (uint16_t)(target + (piece.first - range.first))))
			return false;
		port = piece.last;
	}
	return true;
}

static bool add_same(struct spec *s, unsigned int first, unsigned int last)
{
	struct port_range range = { (uint16_t)first, (uint16_t)last };

	return first > last || add_pieces(s, range, range.first);
}

/* What all and auto mean without a range beside them. */
static bool add_every(struct spec *s)
{
	if (s->where.scan)
		return add_same(s, 1, UINT16_MAX);
	return add_same(s, 1, s->ephemeral.first - 1u) &&
	       add_same(s, s->ephemeral.last + 1u, UINT16_MAX);
}

/* Takes "N" or "N-M" as a whole. */
static bool parse_range(struct spec *s, const char *text, struct port_range *out)
{
	char first[ITEM_MAX];
	const char *last = strchr(text, '-');
	uint64_t value[2];

	snprintf(first, sizeof(first), "%.*s", (int)strcspn(text, "-"), text);
	if (!value_number(first, UINT16_MAX, &value[0]) ||
	    !value_number(last ? last + 1 : first, UINT16_MAX, &value[1]))
		return refuse(s, "'%s' is not a port or a range of ports up to 65535", text);
	if (value[0] == 0)
		return refuse(s, "'%s' begins at port 0, which does not exist", text);
	if (value[0] > value[1])
		return refuse(s, "'%s' ends before it begins", text);
	*out = (struct port_range){ (uint16_t)value[0], (uint16_t)value[1] };
	return true;
}

static bool add_range(struct spec *s, char *item)
{
	char *colon = strchr(item, ':');
	struct port_range from = { 0, 0 };
	struct port_range to;

	if (colon)
		*colon = '\0';
	if (!parse_range(s, item, &from))
		return false;
	to = from;
	if (colon && !parse_range(s, colon + 1, &to))
		return false;
	if (to.last - to.first != from.last - from.first)
		return refuse(s, "'%s' and '%s' have different numbers of ports", item, colon + 1);
	return add_pieces(s, from, to.first);
}

/* all and auto say how the ranges beside them are meant, wherever they stand. */
static bool is_word(const char *item)
{
	return strcmp(item, "all") == 0 || strcmp(item, "auto") == 0;
}

/* The first pass: words and exclusions hold for what stands before them too. */
static bool take_word(struct spec *s, char *item)
{
	struct port_range range = { 0, 0 };

	s->where.scan |= strcmp(item, "auto") == 0;
	s->where.weak |= is_word(item);
	if (*item != '~') {
		s->any_range |= !is_word(item);
		return true;
	}
	if (!parse_range(s, item + 1, &range))
		return false;
	for (unsigned int port = range.first; port <= range.last; port++)
		s->excluded[port] = true;
	return true;
}

static bool take_range(struct spec *s, char *item)
{
	return *item == '~' || is_word(item) || add_range(s, item);
}

static bool for_each_item(struct spec *s, const char *list,
			  bool (*take)(struct spec *s, char *item))
{
	for (;; list++) {
		char item[ITEM_MAX];
		size_t len;

		list += strspn(list, " ");
		len = strcspn(list, ",");
		if (len == 0)
			return refuse(s, "has an empty item where a port should be");
		if (len >= sizeof(item))
			return refuse(s, "'%.*s' is not a port or a range of ports",
				      (int)(len > 60 ? 60 : len), list);
		memcpy(item, list, len);
		item[len] = '\0';
		if (!take(s, item))
			return false;
		list += len;
		if (*list == '\0')
			return true;
	}
}

/* Takes "address", "address%interface" or "%interface", without the slash. */
static bool parse_where(struct spec *s, char *where)
{
	char *percent = strchr(where, '%');
	size_t len;

	if (percent) {
		*percent = '\0';
		if (!value_ifname(percent + 1, s->where.ifname))
			return refuse(s, "'%s' is not an interface's name", percent + 1);
	}
	len = strlen(where);
	if (len == 0)
		return true;
	if (where[0] == '[' && where[len - 1] == ']') {
		where[len - 1] = '\0';
		where++;
	}
	if (!value_addr(where, &s->where.addr) || ip_is_multicast(&s->where.addr))
		return refuse(s, "'%s' is not an address to bind to", where);
	s->where.v6_only = ip_is_unset(&s->where.addr);
	return true;
}

static bool split_where(struct spec *s, const char **spec)
{
	const char *slash = strchr(*spec, '/');
	char where[INET6_ADDRSTRLEN + IFNAMSIZ + 4];

	if (!slash)
		return true;
	if ((size_t)(slash - *spec) >= sizeof(where))
		return refuse(s, "what stands before the slash is not an address and interface");
	memcpy(where, *spec, (size_t)(slash - *spec));
	where[slash - *spec] = '\0';
	*spec = slash + 1;
	return parse_where(s, where);
}

static bool take_none(struct spec *s)
{
	if (s->rules->mode != PORTS_UNSET && s->rules->mode != PORTS_NONE)
		return refuse(s, "contradicts ports given before");
	s->rules->mode = PORTS_NONE;
	return true;
}

bool ports_parse(struct port_rules *rules, const char *spec, struct port_range ephemeral,
		 char *error, size_t error_size)
{
	struct spec s = {
		.rules = rules, .ephemeral = ephemeral, .error = error, .error_size = error_size
	};
	enum port_mode mode;

	if (strcmp(spec, "none") == 0)
		return take_none(&s);
	if (!split_where(&s, &spec) || !for_each_item(&s, spec, take_word))
		return false;
	s.where.weak |= !s.any_range;
	if (!for_each_item(&s, spec, take_range) || (!s.any_range && !add_every(&s)))
		return false;
	mode = s.where.scan ? PORTS_AUTO : s.where.weak ? PORTS_ALL : PORTS_LIST;
	if (mode > rules->mode)
		rules->mode = mode;
	return true;
}

struct port_range ports_ephemeral(void)
{
	char text[64] = "";
	int fd = open("/proc/sys/net/ipv4/ip_local_port_range", O_RDONLY | O_CLOEXEC);
	unsigned long first, last;
	char *end;

	if (fd < 0)
		return ephemeral_default;
	if (read(fd, text, sizeof(text) - 1) < 0)
		text[0] = '\0';
	close(fd);
	first = strtoul(text, &end, 10);
	last = strtoul(end, NULL, 10);
	if (first < 1 || last < first || last > UINT16_MAX)
		return ephemeral_default;
	return (struct port_range){ (uint16_t)first, (uint16_t)last };
}
