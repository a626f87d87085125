/* SPDX-License-Identifier: Apache-2.0 */
#include "forward.h"

#include "taploom/log.h"
#include "taploom/shard.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <sys/resource.h>

/* How the ports of one protocol went. */
struct tally {
	unsigned int bound;
	unsigned int refused[3]; /* of weak ones: taken, not permitted, other reasons */
};

static const char *const refusals[] = { "in use by others", "not permitted", "refused" };

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

static void explain_limit(uint64_t ports)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) == 0)
		log_error("The limit on open files is %llu: these ports alone take %llu; raise it "
			  "(ulimit -n), or forward fewer ports",
			  (unsigned long long)limit.rlim_cur, (unsigned long long)ports);
}

static int bind_port(struct runtime *rt, uint8_t proto, const struct port_map *map, uint16_t port,
		     struct tally *tally) ON_CONTROL
{
	struct listener *listener;
	char text[80];
	int error = shards_listen(rt, proto, map, port, &listener);

	if (!error) {
		tally->bound++;
		return 0;
	}
	if (map->weak && error != -EMFILE && error != -ENFILE) {
		tally->refused[error == -EADDRINUSE ? 0 : error == -EACCES ? 1 : 2]++;
		return 0;
	}
	log_error("Listen failed for HOST %s port %s/%u: %s", proto_name(proto),
		  where(map, text, sizeof(text)), port, strerror(-error));
	if (error == -EACCES)
		log_error("Ports below net.ipv4.ip_unprivileged_port_start need "
			  "CAP_NET_BIND_SERVICE");
	if (error == -EINVAL && ip_is_link_local(&map->addr) && !map->ifname[0])
		log_error("A link-local address takes its interface too, as in [fe80::1]%%eth0/22");
	return error;
}

static uint64_t count_ports(const struct port_rules *rules)
{
	uint64_t n = 0;

	for (unsigned int i = 0; i < rules->n_maps; i++)
		n += rules->maps[i].scan ? 0u : 1u + rules->maps[i].last - rules->maps[i].first;
	return n;
}

static void log_map(uint8_t proto, const struct port_map *map)
{
	char text[80];

	if (!map->weak)
		log_info("Forwarding %s %s/%u-%u to the guest's %u-%u", proto_name(proto),
			 where(map, text, sizeof(text)), map->first, map->last, map->target,
			 map->target + (map->last - map->first));
}

static void log_tally(uint8_t proto, const struct tally *tally)
{
	log_info("Forwarding %s: %u ports bound", proto_name(proto), tally->bound);
	for (unsigned int i = 0; i < 3; i++) {
		if (tally->refused[i])
			log_info("Forwarding %s: %u ports left out, %s", proto_name(proto),
				 tally->refused[i], refusals[i]);
	}
}

static int forward(struct runtime *rt, uint8_t proto, const struct port_rules *rules) ON_CONTROL
{
	struct tally tally = { 0 };
	bool bound = false;
	int error = 0;

	for (unsigned int i = 0; i < rules->n_maps && !error; i++) {
		const struct port_map *map = &rules->maps[i];

		if (map->scan)
			continue; /* namespace mode follows those */
		bound = true;
		log_map(proto, map);
		for (uint32_t port = map->first; port <= map->last && !error; port++)
			error = bind_port(rt, proto, map, (uint16_t)port, &tally);
	}
	if (error == -EMFILE || error == -ENFILE)
		explain_limit(count_ports(&rt->config->tcp_in) + count_ports(&rt->config->udp_in));
	if (error)
		log_error("Couldn't listen on requested ports");
	else if (bound)
		log_tally(proto, &tally);
	return error;
}

int forward_all(struct runtime *rt)
{
	const struct config *config = rt->config;
	int error = config->no_tcp ? 0 : forward(rt, IPPROTO_TCP, &config->tcp_in);

	return error || config->no_udp ? error : forward(rt, IPPROTO_UDP, &config->udp_in);
}
