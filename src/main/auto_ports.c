/* SPDX-License-Identifier: Apache-2.0 */
#include "auto_ports.h"

#include "taploom/log.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/timerfd.h>
#include <unistd.h>

enum { AUTO_TIMER, AUTO_EVENTS, AUTO_HOOKS };

struct auto_ports {
	struct auto_direction direction;
	struct port_scan *scan; /* owned */
	int timer_fd;
	struct control_hook hooks[AUTO_HOOKS];
	const struct listening *own; /* lent; or NULL */
	struct listening open;	     /* on the other side, by us */
	struct listening refused;    /* could not be opened, and that was logged */
};

static void subtract_excluded(struct port_set *set, const struct port_rules *rules)
{
	for (unsigned int port = 0; port < 65536; port++)
		if (rules->excluded[port / 8] & (1u << (port % 8)))
			port_set_remove(set, (uint16_t)port);
}

/* What should be open for one protocol. */
static void want(struct port_set *found, const struct port_rules *rules, const struct port_set *own)
{
	if (rules->mode != PORTS_AUTO) {
		memset(found, 0, sizeof(*found));
		return;
	}
	if (own)
		port_set_subtract(found, own);
	subtract_excluded(found, rules);
}

static const char *proto_name(uint8_t proto)
{
	return proto == IPPROTO_TCP ? "TCP" : "UDP";
}

static void open_port(struct auto_ports *ports, uint8_t proto, uint16_t port, struct port_set *open,
		      struct port_set *refused) ON_CONTROL
{
	int error = ports->direction.open(ports->direction.arg, proto, port);

	if (error == 0) {
		port_set_add(open, port);
		port_set_remove(refused, port);
		log_debug("%s port %u is forwarded %s", proto_name(proto), port,
			  ports->direction.where);
	} else if (!port_set_has(refused, port)) {
		port_set_add(refused, port);
		log_info("%s port %u cannot be opened %s: %s", proto_name(proto), port,
			 ports->direction.where, strerror(-error));
	}
}

/* Closes first: a port may have to be free before another can be opened. */
static void follow(struct auto_ports *ports, uint8_t proto, const struct port_set *wanted,
		   struct port_set *open, struct port_set *refused) ON_CONTROL
{
	struct port_set before = *open;
	int port;

	port_set_subtract(&before, wanted);
	for (port = -1; (port = port_set_next(&before, (unsigned int)(port + 1))) >= 0;) {
		ports->direction.close(ports->direction.arg, proto, (uint16_t)port);
		port_set_remove(open, (uint16_t)port);
	}
	for (port = -1; (port = port_set_next_change(open, wanted, (unsigned int)(port + 1))) >= 0;)
		open_port(ports, proto, (uint16_t)port, open, refused);
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
	port_set_subtract(&found.udp, &own);
	want(&found.tcp, ports->direction.tcp, ports->own ? &ports->own->tcp : NULL);
	want(&found.udp, ports->direction.udp, ports->own ? &ports->own->udp : NULL);
	follow(ports, IPPROTO_TCP, &found.tcp, &ports->open.tcp, &ports->refused.tcp);
	follow(ports, IPPROTO_UDP, &found.udp, &ports->open.udp, &ports->refused.udp);
}

void auto_ports_events(struct auto_ports *ports)
{
	if (port_scan_closed(ports->scan, &ports->open))
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
	if (ports->timer_fd < 0 || !ports->scan) {
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
	free(ports);
}

const struct listening *auto_ports_open(const struct auto_ports *ports)
{
	return &ports->open;
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
