/* SPDX-License-Identifier: Apache-2.0 */
#include "auto_ports.h"

#include "ports.h"

#include "taploom/log.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/timerfd.h>
#include <unistd.h>

enum { AUTO_TIMER, AUTO_EVENTS, AUTO_HOOKS };

/* What is done in one place, of address and interface. */
struct place {
	struct port_map map; /* the first of its maps */
	struct port_set open;
	struct port_set refused; /* could not be opened, and that was logged */
};

/* Of one protocol. */
struct side {
	uint8_t proto;
	const struct port_rules *rules; /* lent */
	struct place *places;		/* owned */
	unsigned int n_places;
};

struct auto_ports {
	struct auto_direction direction;
	struct port_scan *scan; /* owned */
	int timer_fd;
	struct control_hook hooks[AUTO_HOOKS];
	const struct listening *own; /* lent; or NULL */
	struct side tcp, udp;
	struct listening forwarded;
};

/* Whether rules have asked for the place of a map before that map. */
static bool place_known(const struct port_rules *rules, unsigned int map)
{
	for (unsigned int i = 0; i < map; i++)
		if (rules->maps[i].scan && ports_equal_place(&rules->maps[i], &rules->maps[map]))
			return true;
	return false;
}

unsigned int auto_places(const struct port_rules *rules)
{
	unsigned int n = 0;

	for (unsigned int i = 0; i < rules->n_maps; i++)
		n += rules->maps[i].scan && !place_known(rules, i);
	return n;
}

static int side_init(struct side *side, uint8_t proto, const struct port_rules *rules)
{
	unsigned int n = auto_places(rules);

	*side = (struct side){ .proto = proto, .rules = rules };
	if (n == 0)
		return 0;
	side->places = calloc(n, sizeof(*side->places));
	if (!side->places)
		return -ENOMEM;
	for (unsigned int i = 0; i < rules->n_maps; i++)
		if (rules->maps[i].scan && !place_known(rules, i))
			side->places[side->n_places++].map = rules->maps[i];
	return 0;
}

static const char *proto_name(uint8_t proto)
{
	return proto == IPPROTO_TCP ? "TCP" : "UDP";
}

/* What a port of a place leads to. */
static struct auto_port port_of(const struct side *side, const struct place *place, uint16_t port)
{
	struct auto_port out = { side->proto, (unsigned int)(place - side->places), &place->map,
				 port, port };

	for (unsigned int i = 0; i < side->rules->n_maps; i++) {
		const struct port_map *map = &side->rules->maps[i];

		if (map->scan && port >= map->first && port <= map->last &&
		    ports_equal_place(map, &place->map))
			out.target = (uint16_t)(map->target + (port - map->first));
	}
	return out;
}

static void open_port(struct auto_ports *ports, struct side *side, struct place *place,
		      uint16_t number) ON_CONTROL
{
	struct auto_port port = port_of(side, place, number);
	int error = ports->direction.open(ports->direction.arg, &port);

	if (error == 0) {
		port_set_add(&place->open, number);
		port_set_remove(&place->refused, number);
		log_debug("%s port %u is forwarded %s", proto_name(side->proto), number,
			  ports->direction.where);
	} else if (!port_set_has(&place->refused, number)) {
		port_set_add(&place->refused, number);
		log_info("%s port %u cannot be opened %s: %s", proto_name(side->proto), number,
			 ports->direction.where, strerror(-error));
	}
}

/* Closes first: a port may have to be free before another can be opened. */
static void follow(struct auto_ports *ports, struct side *side, struct place *place,
		   const struct port_set *wanted) ON_CONTROL
{
	struct port_set before = place->open;
	int port;

	port_set_subtract(&before, wanted);
	for (port = -1; (port = port_set_next(&before, (unsigned int)(port + 1))) >= 0;) {
		struct auto_port gone = port_of(side, place, (uint16_t)port);

		ports->direction.close(ports->direction.arg, &gone);
		port_set_remove(&place->open, (uint16_t)port);
	}
	for (port = -1;
	     (port = port_set_next_change(&place->open, wanted, (unsigned int)(port + 1))) >= 0;)
		open_port(ports, side, place, (uint16_t)port);
}

/* Adds the ports of a map whose targets are listened on. */
static void want_map(const struct port_map *map, const struct port_set *found,
		     struct port_set *wanted, struct port_set *forwarded)
{
	int last = map->target + (map->last - map->first);

	for (int target = port_set_next(found, map->target); target >= 0 && target <= last;
	     target = port_set_next(found, (unsigned int)target + 1)) {
		port_set_add(wanted, (uint16_t)(map->first + (target - map->target)));
		port_set_add(forwarded, (uint16_t)target);
	}
}

/* Takes out what is forwarded anyway, as it was given by itself. */
static void leave_out_given(const struct port_rules *rules, const struct place *place,
			    struct port_set *wanted)
{
	for (unsigned int i = 0; i < rules->n_maps; i++) {
		const struct port_map *map = &rules->maps[i];

		if (map->scan || !ports_same_place(map, &place->map))
			continue;
		for (uint32_t port = map->first; port <= map->last; port++)
			port_set_remove(wanted, (uint16_t)port);
	}
}

static void look_side(struct auto_ports *ports, struct side *side, const struct port_set *found,
		      struct port_set *forwarded) ON_CONTROL
{
	const struct port_rules *rules = side->rules;

	memset(forwarded, 0, sizeof(*forwarded));
	for (unsigned int n = 0; n < side->n_places; n++) {
		struct place *place = &side->places[n];
		struct port_set wanted = { 0 };

		for (unsigned int i = 0; i < rules->n_maps; i++)
			if (rules->maps[i].scan && ports_equal_place(&rules->maps[i], &place->map))
				want_map(&rules->maps[i], found, &wanted, forwarded);
		leave_out_given(rules, place, &wanted);
		follow(ports, side, place, &wanted);
	}
}

/*
 * Adds the TCP ports that are forwarded to the same number: a protocol that transfers over UDP what
 * it set up over TCP (iperf3's) opens its UDP port when the first datagram is on its way already.
 */
static void add_tcp_ports(const struct side *tcp, const struct port_set *listening,
			  struct port_set *udp)
{
	int port = -1;

	while ((port = port_set_next(listening, (unsigned int)(port + 1))) >= 0) {
		bool forwarded = false;

		for (unsigned int i = 0; i < tcp->n_places && !forwarded; i++)
			forwarded = port_set_has(&tcp->places[i].open, (uint16_t)port) &&
				    port_of(tcp, &tcp->places[i], (uint16_t)port).target == port;
		for (unsigned int i = 0; i < tcp->rules->n_maps && !forwarded; i++)
			forwarded = !tcp->rules->maps[i].scan &&
				    tcp->rules->maps[i].first == tcp->rules->maps[i].target &&
				    port >= tcp->rules->maps[i].first &&
				    port <= tcp->rules->maps[i].last;
		if (forwarded)
			port_set_add(udp, (uint16_t)port);
	}
}

void auto_ports_look(struct auto_ports *ports)
{
	struct port_set own = { 0 };
	struct listening found;

	/* A socket that comes or goes while the kernel lists them is ours before or after. */
	if (ports->direction.own_udp)
		ports->direction.own_udp(ports->direction.arg, &own);
	if (port_scan_run(ports->scan, &found) < 0)
		return;
	if (ports->direction.own_udp)
		ports->direction.own_udp(ports->direction.arg, &own);
	if (ports->own)
		port_set_subtract(&found.tcp, &ports->own->tcp);
	look_side(ports, &ports->tcp, &found.tcp, &ports->forwarded.tcp);
	add_tcp_ports(&ports->tcp, &found.tcp, &found.udp);
	port_set_subtract(&found.udp, &own);
	if (ports->own)
		port_set_subtract(&found.udp, &ports->own->udp);
	look_side(ports, &ports->udp, &found.udp, &ports->forwarded.udp);
}

void auto_ports_events(struct auto_ports *ports)
{
	if (port_scan_closed(ports->scan, &ports->forwarded))
		auto_ports_look(ports);
}

static bool timer_ready(struct control_hook *hook)
{
	struct auto_ports *ports = hook->arg;
	uint64_t expirations;

	role_is_control();
	if (read(hook->fd, &expirations, sizeof(expirations)) == sizeof(expirations))
		auto_ports_look(ports);
	return true;
}

static bool events_ready(struct control_hook *hook)
{
	role_is_control();
	auto_ports_events(hook->arg);
	return true;
}

static int timer_open(void)
{
	const struct itimerspec second = { { 1, 0 }, { 1, 0 } };
	int fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);

	if (fd >= 0)
		timerfd_settime(fd, 0, &second, NULL);
	return fd;
}

int auto_ports_new(struct auto_ports **out, const struct auto_direction *direction)
{
	struct auto_ports *ports = calloc(1, sizeof(*ports));

	if (!ports)
		return -ENOMEM;
	ports->direction = *direction;
	ports->timer_fd = timer_open();
	ports->scan = port_scan_new(&direction->sockets);
	if (ports->timer_fd < 0 || !ports->scan ||
	    side_init(&ports->tcp, IPPROTO_TCP, direction->tcp) ||
	    side_init(&ports->udp, IPPROTO_UDP, direction->udp)) {
		auto_ports_free(ports);
		return -ENOMEM;
	}
	*out = ports;
	return 0;
}

void auto_ports_free(struct auto_ports *ports)
{
	if (!ports)
		return;
	port_scan_free(ports->scan);
	if (ports->timer_fd >= 0)
		close(ports->timer_fd);
	free(ports->tcp.places);
	free(ports->udp.places);
	free(ports);
}

const struct listening *auto_ports_forwarded(const struct auto_ports *ports)
{
	return &ports->forwarded;
}

void auto_ports_set_own(struct auto_ports *ports, const struct listening *own)
{
	ports->own = own;
}

int auto_ports_hook(struct auto_ports *ports, struct control *control)
{
	int error;

	ports->hooks[AUTO_TIMER] = (struct control_hook){ ports->timer_fd, timer_ready, ports };
	error = control_add_hook(control, &ports->hooks[AUTO_TIMER]);
	if (error < 0 || port_scan_events_fd(ports->scan) < 0)
		return error;
	ports->hooks[AUTO_EVENTS] =
		(struct control_hook){ port_scan_events_fd(ports->scan), events_ready, ports };
	return control_add_hook(control, &ports->hooks[AUTO_EVENTS]);
}
