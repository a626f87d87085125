/* SPDX-License-Identifier: Apache-2.0 */
#include "ns_ports.h"

#include "port_tally.h"

#include "taploom/log.h"
#include "taploom/ns_sockets.h"
#include "taploom/shard.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define PORTS 65536u

/* A port may have a listener of each IP version. */
struct opened {
	struct listener *listeners[IP_VERSIONS];
};

struct ns_ports {
	struct runtime *rt;
	struct ns_thread *thread;
	struct ns_sockets sockets;
	struct auto_ports *following; /* -T and -U auto; NULL: not asked for */
	struct listening in_ns;	      /* our own listeners there, and on the host */
	struct listening on_host;
	struct opened *opened[2]; /* by port: those that following has open, of TCP and UDP */
};

static int take(void *arg, unsigned int shard, enum ns_socket kind)
{
	role_is_shard();
	return ns_thread_take(arg, shard, kind);
}

void ns_ports_refilled(void *arg, unsigned int shard)
{
	const struct runtime *rt = arg;

	if (rt->shards[shard])
		shard_ns_refilled(rt->shards[shard]);
}

static void note(struct listening *own, uint8_t proto, uint16_t port, bool open)
{
	struct port_set *set = proto == IPPROTO_TCP ? &own->tcp : &own->udp;

	if (open)
		port_set_add(set, port);
	else
		port_set_remove(set, port);
}

static void note_rules(struct listening *own, uint8_t proto, const struct port_rules *rules)
{
	for (unsigned int i = 0; i < rules->n_maps; i++) {
		if (rules->maps[i].scan)
			continue;
		for (uint32_t port = rules->maps[i].first; port <= rules->maps[i].last; port++)
			note(own, proto, (uint16_t)port, true);
	}
}

void ns_ports_note_host(struct ns_ports *ports, uint8_t proto, uint16_t port, bool open)
{
	const struct config *config = ports->rt->config;

	note(&ports->on_host, proto, port, open);
	if (!open) /* on another address it may be open all the same */
		note_rules(&ports->on_host, proto,
			   proto == IPPROTO_TCP ? &config->tcp_in : &config->udp_in);
}

const struct listening *ns_ports_own(const struct ns_ports *ports)
{
	return &ports->in_ns;
}

struct socket_call {
	uint8_t proto;
	enum ip_version version;
	uint16_t port;
};

static int make_socket(void *arg)
{
	const struct socket_call *call = arg;

	return shards_ns_socket(call->proto, call->version, call->port);
}

static int listen_version(struct ns_ports *ports, const struct socket_call *call, uint16_t target,
			  struct listener **out) ON_CONTROL
{
	int fd = ns_thread_call(ports->thread, make_socket, (void *)call);

	return fd < 0 ? fd : shards_listen_ns(ports->rt, call->proto, fd, target, out);
}

static void close_opened(struct runtime *rt, struct opened *opened) ON_CONTROL
{
	for (unsigned int i = 0; i < IP_VERSIONS; i++) {
		if (opened->listeners[i])
			shards_unlisten(rt, opened->listeners[i]);
		opened->listeners[i] = NULL;
	}
}

/* Opens a port for the IP versions that the namespace's loopback has. */
static int open_both(struct ns_ports *ports, uint8_t proto, uint16_t port, uint16_t target,
		     const struct ip_addr *addr, struct opened *opened) ON_CONTROL
{
	int error = 0;

	for (unsigned int i = 0; i < IP_VERSIONS && !error; i++) {
		struct socket_call call = { proto, (enum ip_version)i, port };

		if (ports->rt->config->family_off[i] ||
		    (!ip_is_unset(addr) && ip_version_of(addr) != i))
			continue;
		error = listen_version(ports, &call, target, &opened->listeners[i]);
		if (error == -EAFNOSUPPORT || (error == -EADDRNOTAVAIL && i == IP6))
			error = 0; /* no IPv6 in there */
	}
	if (error)
		close_opened(ports->rt, opened);
	else
		note(&ports->in_ns, proto, port, true);
	return error;
}

static int open_map(struct ns_ports *ports, uint8_t proto, const struct port_rules *rules,
		    unsigned int number, struct port_tally *tally) ON_CONTROL
{
	const struct port_map *map = &rules->maps[number];
	const char *name = proto == IPPROTO_TCP ? "TCP" : "UDP";
	int error;

	for (uint32_t port = map->first; port <= map->last; port++) {
		struct opened opened = { 0 };
		uint16_t target = (uint16_t)(map->target + (port - map->first));

		error = open_both(ports, proto, (uint16_t)port, target, &map->addr, &opened);
		error = port_tally_add(tally, map, error);
		if (!error)
			continue;
		log_error("Listen failed for NAMESPACE %s port %u: %s", name, port,
			  strerror(-error));
		return error;
	}
	error = port_tally_end(tally, rules, number);
	if (error)
		log_error("Listen failed for NAMESPACE %s: none of all ports could be bound: %s",
			  name, strerror(-error));
	return error;
}

static int open_rules(struct ns_ports *ports, uint8_t proto,
		      const struct port_rules *rules) ON_CONTROL
{
	const struct config *config = ports->rt->config;
	struct port_tally tally = { 0 };
	bool any = false;
	int error = 0;

	for (unsigned int i = 0; i < rules->n_maps && !error; i++) {
		if (rules->maps[i].scan)
			continue;
		any = true;
		error = open_map(ports, proto, rules, i, &tally);
	}
	if (error == -EMFILE || error == -ENFILE) /* one of each IP version */
		port_tally_explain_limit(2 * (port_tally_wanted(&config->tcp_out) +
					      port_tally_wanted(&config->udp_out)));
	if (!error && any)
		port_tally_log(&tally, proto == IPPROTO_TCP ? "Forwarding TCP outward"
							    : "Forwarding UDP outward");
	return error;
}

int ns_ports_new(struct ns_ports **out, struct runtime *rt, struct ns_thread *thread)
{
	const struct config *config = rt->config;
	struct ns_ports *ports = calloc(1, sizeof(*ports));
	int error;

	if (!ports)
		return -ENOMEM;
	ports->rt = rt;
	ports->thread = thread;
	ports->sockets = (struct ns_sockets){ take, thread };
	rt->ns_sockets = &ports->sockets;
	note_rules(&ports->on_host, IPPROTO_TCP, &config->tcp_in);
	note_rules(&ports->on_host, IPPROTO_UDP, &config->udp_in);
	*out = ports;
	error = config->no_tcp ? 0 : open_rules(ports, IPPROTO_TCP, &config->tcp_out);
	if (!error && !config->no_udp)
		error = open_rules(ports, IPPROTO_UDP, &config->udp_out);
	return error;
}

void ns_ports_free(struct ns_ports *ports)
{
	ports->rt->ns_sockets = NULL;
	if (ports->following)
		auto_ports_free(ports->following);
	for (unsigned int i = 0; i < 2; i++)
		free(ports->opened[i]);
	free(ports);
}

/* Of auto. */

static int open_port(void *arg, const struct auto_port *port)
{
	struct ns_ports *ports = arg;

	role_is_control();
	return open_both(ports, port->proto, port->port, port->target, &port->map->addr,
			 &ports->opened[port->proto == IPPROTO_UDP][port->port]);
}

static void close_port(void *arg, const struct auto_port *port)
{
	struct ns_ports *ports = arg;

	role_is_control();
	close_opened(ports->rt, &ports->opened[port->proto == IPPROTO_UDP][port->port]);
	note(&ports->in_ns, port->proto, port->port, false);
}

static void own_udp(void *arg, struct port_set *set)
{
	const struct ns_ports *ports = arg;

	role_is_control();
	shards_own_udp(ports->rt, set->bits);
}

int ns_ports_follow(struct ns_ports *ports, struct control *control)
{
	const struct config *config = ports->rt->config;
	struct auto_direction out = { .tcp = &config->tcp_out,
				      .udp = &config->udp_out,
				      .open = open_port,
				      .close = close_port,
				      .own_udp = own_udp,
				      .arg = ports,
				      .where = "in the namespace" };
	int error;

	if (config->tcp_out.mode != PORTS_AUTO && config->udp_out.mode != PORTS_AUTO)
		return 0;
	for (unsigned int i = 0; i < 2; i++)
		ports->opened[i] = calloc(PORTS, sizeof(*ports->opened[i]));
	if (!ports->opened[0] || !ports->opened[1])
		return -ENOMEM;
	error = port_scan_open(&out.sockets, false);
	error = error ? error : auto_ports_new(&ports->following, &out);
	error = error ? error : auto_ports_hook(ports->following, control);
	if (error) {
		log_error("Couldn't look for listening ports on the host: %s", strerror(-error));
		return error;
	}
	auto_ports_set_own(ports->following, &ports->on_host);
	auto_ports_look(ports->following);
	return 0;
}
