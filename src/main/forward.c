/* SPDX-License-Identifier: Apache-2.0 */
#include "forward.h"

#include "port_tally.h"

#include "taploom/log.h"
#include "taploom/shard.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>

static const char *where(const struct port_map *map, char *text, size_t size)
{
	char addr[INET6_ADDRSTRLEN] = "*";

	if (!ip_is_unset(&map->addr)) {
		if (ip_is_v4(&map->addr))
			inet_ntop(AF_INET, map->addr.b + 12, addr, sizeof(addr));
		else
			inet_ntop(AF_INET6, map->addr.b, addr, sizeof(addr));
	}
	snprintf(text, size, "%s%s%s", addr, map->ifname[0] ? "%" : "", map->ifname);
	return text;
}

static const char *proto_name(uint8_t proto)
{
	return proto == IPPROTO_TCP ? "TCP" : "UDP";
}

static int bind_port(struct runtime *rt, uint8_t proto, const struct port_map *map, uint16_t port,
		     struct port_tally *tally) ON_CONTROL
{
	struct listener *listener;
	char text[80];
	int error = port_tally_add(tally, map, shards_listen(rt, proto, map, port, &listener));

	if (!error)
		return 0;
	log_error("Listen failed for HOST %s port %s/%u: %s", proto_name(proto),
		  where(map, text, sizeof(text)), port, strerror(-error));
	if (error == -EACCES)
		log_error("Ports below net.ipv4.ip_unprivileged_port_start need "
			  "CAP_NET_BIND_SERVICE");
	if (error == -EINVAL && ip_is_link_local(&map->addr) && !map->ifname[0])
		log_error("A link-local address takes its interface too, as in [fe80::1]%%eth0/22");
	return error;
}

static int bind_map(struct runtime *rt, uint8_t proto, const struct port_rules *rules,
		    unsigned int number, struct port_tally *tally) ON_CONTROL
{
	const struct port_map *map = &rules->maps[number];
	char text[80];
	int error = 0;

	for (uint32_t port = map->first; port <= map->last && !error; port++)
		error = bind_port(rt, proto, map, (uint16_t)port, tally);
	if (error)
		return error;
	error = port_tally_end(tally, rules, number);
	if (error)
		log_error("Listen failed for HOST %s %s: none of all ports could be bound: %s",
			  proto_name(proto), where(map, text, sizeof(text)), strerror(-error));
	return error;
}

static void log_map(uint8_t proto, const struct port_map *map)
{
	char text[80];

	if (!map->weak)
		log_info("Forwarding %s %s/%u-%u to the guest's %u-%u", proto_name(proto),
			 where(map, text, sizeof(text)), map->first, map->last, map->target,
			 map->target + (map->last - map->first));
}

static int forward(struct runtime *rt, uint8_t proto, const struct port_rules *rules) ON_CONTROL
{
	struct port_tally tally = { 0 };
	bool bound = false;
	int error = 0;

	for (unsigned int i = 0; i < rules->n_maps && !error; i++) {
		const struct port_map *map = &rules->maps[i];

		if (map->scan)
			continue; /* namespace mode follows those */
		bound = true;
		log_map(proto, map);
		error = bind_map(rt, proto, rules, i, &tally);
	}
	if (error == -EMFILE || error == -ENFILE)
		port_tally_explain_limit(port_tally_wanted(&rt->config->tcp_in) +
					 port_tally_wanted(&rt->config->udp_in));
	if (error)
		log_error("Couldn't listen on requested ports");
	else if (bound)
		port_tally_log(&tally, proto == IPPROTO_TCP ? "Forwarding TCP" : "Forwarding UDP");
	return error;
}

int forward_all(struct runtime *rt)
{
	const struct config *config = rt->config;
	int error = config->no_tcp ? 0 : forward(rt, IPPROTO_TCP, &config->tcp_in);

	return error || config->no_udp ? error : forward(rt, IPPROTO_UDP, &config->udp_in);
}
