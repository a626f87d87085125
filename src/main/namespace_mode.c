/* SPDX-License-Identifier: Apache-2.0 */
#include "namespace_mode.h"

#include "netns_plan.h"
#include "privileges.h"

#include "taploom/log.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#define PORTS 65536u

static int make_tap(struct namespace_mode *mode, struct network *network)
{
	struct runtime *rt = mode->rt;
	struct netns_plan *plan = calloc(1, sizeof(*plan));
	int error;

	if (!plan)
		return -ENOMEM;
	error = netns_plan_make(plan, rt->config, rt->netconf_rcu, &network->host,
				rt->config->queues ? rt->config->queues : rt->n_shards);
	error = error ? error : netns_make_tap(&mode->ns, plan, &mode->tap);
	if (error) {
		free(plan);
		return error;
	}
	mode->plan = plan;
	guest_mac_note(rt, mode->tap.mac.b);
	return 0;
}

int namespace_open(struct namespace_mode *mode, struct runtime *rt, struct network *network)
{
	struct netns_user user = { 0 };
	int changes = privileges_user(rt->config->runas, &user.uid, &user.gid), error;

	*mode = (struct namespace_mode){
		.rt = rt, .ns = { .net_fd = -1, .user_fd = -1, .command_fd = -1, .go_fd = -1 }
	};
	if (changes < 0)
		return changes;
	user.change = changes;
	user.keep_ns = rt->config->netns_only;
	mode->network = network;
	error = netns_open(&mode->ns, rt->config, &user);
	error = error ? error : make_tap(mode, network);
	return error ? error : netns_watch_new(&mode->watch, &mode->ns, rt->config);
}

int namespace_transport(struct namespace_mode *mode, struct pcap *pcap, struct transport **out)
{
	int error = tun_transport_new(out, mode->rt, mode->tap.fds, mode->tap.n_queues,
				      mode->tap.offloads, pcap);

	if (error)
		log_error("Couldn't set up the guest's side: %s", strerror(-error));
	return error;
}

int namespace_start_thread(struct namespace_mode *mode)
{
	const struct config *config = mode->rt->config;
	int cpu = config->n_cpus ? config->cpus[1 % config->n_cpus] : -1, error = 0;

	mode->ns.configures = mode->plan->configure;
	if (!(privileges_get() & PRIVILEGE(CAP_SYS_ADMIN)))
		error = netns_join_user(&mode->ns);
	error = error ? error
		      : ns_thread_start(&mode->thread, &mode->ns, mode->rt->n_shards, cpu,
					ns_ports_refilled, mode->rt);
	if (!error)
		netns_let_go(&mode->ns);
	return error;
}

/* Where the listener of a port that auto has opened is noted. */
static struct listener **slot_of(struct namespace_mode *mode, const struct auto_port *port)
{
	return &mode->auto_open[port->proto == IPPROTO_UDP][port->place * PORTS + port->port];
}

static int open_port(void *arg, const struct auto_port *port)
{
	struct namespace_mode *mode = arg;
	struct port_map map = *port->map;
	int error;

	role_is_control();
	map.first = map.last = port->port;
	map.target = port->target;
	error = shards_listen(mode->rt, port->proto, &map, port->port, slot_of(mode, port));
	if (!error)
		ns_ports_note_host(mode->ports, port->proto, port->port, true);
	return error;
}

static void close_port(void *arg, const struct auto_port *port)
{
	struct namespace_mode *mode = arg;
	struct listener **slot = slot_of(mode, port);

	role_is_control();
	if (*slot)
		shards_unlisten(mode->rt, *slot);
	*slot = NULL;
	ns_ports_note_host(mode->ports, port->proto, port->port, false);
}

static int open_scan(void *sockets)
{
	return port_scan_open(sockets, true);
}

/* Room for a listener in each place and on each port. */
static struct listener **listeners_new(const struct port_rules *rules)
{
	unsigned int n = auto_places(rules);

	return calloc((size_t)(n ? n : 1) * PORTS, sizeof(struct listener *));
}

static int follow_ports(struct namespace_mode *mode, struct control *control) ON_CONTROL
{
	const struct config *config = mode->rt->config;
	struct auto_direction in = { .tcp = &config->tcp_in,
				     .udp = &config->udp_in,
				     .open = open_port,
				     .close = close_port,
				     .arg = mode,
				     .where = "on the host" };
	int error;

	if (config->tcp_in.mode != PORTS_AUTO && config->udp_in.mode != PORTS_AUTO)
		return 0;
	mode->auto_open[0] = listeners_new(&config->tcp_in);
	mode->auto_open[1] = listeners_new(&config->udp_in);
	if (!mode->auto_open[0] || !mode->auto_open[1])
		return -ENOMEM;
	error = ns_thread_call(mode->thread, open_scan, &in.sockets);
	error = error ? error : auto_ports_new(&mode->ports_in, &in);
	error = error ? error : auto_ports_hook(mode->ports_in, control);
	if (error) {
		log_error("Couldn't look for listening ports in the namespace: %s",
			  strerror(-error));
		return error;
	}
	auto_ports_set_own(mode->ports_in, ns_ports_own(mode->ports));
	auto_ports_look(mode->ports_in);
	return 0;
}

static bool command_ended(struct control_hook *hook)
{
	struct namespace_mode *mode = hook->arg;

	return !netns_command_ended(&mode->ns, &mode->status);
}

static bool namespace_gone(struct control_hook *hook)
{
	struct namespace_mode *mode = hook->arg;

	role_is_control();
	if (!netns_watch_gone(mode->watch))
		return true;
	log_info("The namespace is gone");
	return false;
}

static int follow_host(struct namespace_mode *mode, struct control *control) ON_CONTROL
{
	struct netns_plan *plan = mode->plan;
	int error;

	if (!plan->configure)
		return 0;
	mode->plan = NULL;
	error = ns_follow_new(&mode->follow, plan, mode->tap.ifindex, mode->network, mode->thread);
	error = error ? error : ns_follow_hook(mode->follow, control);
	if (error)
		log_error("Couldn't watch the host's addresses and routes: %s", strerror(-error));
	return error;
}

int namespace_hook(struct namespace_mode *mode, struct control *control)
{
	int error = ns_ports_new(&mode->ports, mode->rt, mode->thread);

	error = error ? error : follow_ports(mode, control);
	error = error ? error : ns_ports_follow(mode->ports, control);
	error = error ? error : follow_host(mode, control);

	if (!error && mode->ns.command_fd >= 0) {
		mode->command_hook =
			(struct control_hook){ mode->ns.command_fd, command_ended, mode };
		error = control_add_hook(control, &mode->command_hook);
		control_set_command(control, &mode->ns);
	}
	if (!error && mode->watch) {
		mode->watch_hook =
			(struct control_hook){ netns_watch_fd(mode->watch), namespace_gone, mode };
		error = control_add_hook(control, &mode->watch_hook);
		/* A mount table tells each reader once, and adding the hook was such a look. */
		if (!error && netns_watch_gone(mode->watch)) {
			log_error("The network namespace is gone already");
			error = -ENOENT;
		}
	}
	return error;
}

int namespace_ready(struct namespace_mode *mode)
{
	return mode->ns.command_fd >= 0 ? netns_command_start(&mode->ns) : 0;
}

void namespace_stop_thread(struct namespace_mode *mode)
{
	if (mode->thread)
		ns_thread_stop(mode->thread);
	mode->thread = NULL;
}

void namespace_close(struct namespace_mode *mode)
{
	if (!mode->rt)
		return;
	if (mode->ns.command_fd >= 0)
		netns_command_signal(&mode->ns, SIGTERM);
	if (mode->ports_in)
		auto_ports_free(mode->ports_in);
	for (unsigned int i = 0; i < 2; i++)
		free(mode->auto_open[i]);
	if (mode->watch)
		netns_watch_free(mode->watch);
	if (mode->ports)
		ns_ports_free(mode->ports);
	ns_follow_free(mode->follow);
	free(mode->plan);
	netns_close(&mode->ns);
}
