/* SPDX-License-Identifier: Apache-2.0 */
#include "network.h"

#include "shard/map.h"
#include "taploom/log.h"

#include <arpa/inet.h>
#include <errno.h>
#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/inotify.h>
#include <unistd.h>

#define RESOLV_CONF "/etc/resolv.conf"

#define ADDR_TEXT INET6_ADDRSTRLEN

static const char *text_of(const struct ip_addr *addr, char text[ADDR_TEXT])
{
	if (ip_is_v4(addr))
		return inet_ntop(AF_INET, addr->b + 12, text, ADDR_TEXT);
	return inet_ntop(AF_INET6, addr->b, text, ADDR_TEXT);
}

/* Watches the folder of a file, or the nearest one above it that is there. */
static void watch_folder_of(int inotify_fd, const char *path)
{
	const uint32_t mask = IN_CLOSE_WRITE | IN_MOVED_TO | IN_DELETE | IN_CREATE;
	char copy[PATH_MAX];
	char *folder;

	snprintf(copy, sizeof(copy), "%s", path);
	folder = dirname(copy);
	while (inotify_add_watch(inotify_fd, folder, mask) < 0 && errno == ENOENT &&
	       strchr(folder + 1, '/'))
		folder = dirname(folder);
}

/* What resolv.conf is a link to, if only by name: who makes that file may start after us. */
static bool resolv_conf_target(char path[PATH_MAX])
{
	static const char folder[] = "/etc/";
	char link[PATH_MAX - sizeof(folder)];
	ssize_t len;

	if (realpath(RESOLV_CONF, path))
		return true;
	len = readlink(RESOLV_CONF, link, sizeof(link) - 1);
	if (len <= 0)
		return false;
	link[len] = '\0';
	snprintf(path, PATH_MAX, "%s%s", link[0] == '/' ? "" : folder, link);
	return true;
}

/*
 * resolv.conf is replaced rather than written, and often a link: the folders of both are watched.
 * To be called again after each event, as a link may lead elsewhere since, and a folder that was
 * missing may be there. What is watched already is not watched twice.
 */
static void watch_resolv_conf(int inotify_fd)
{
	char target[PATH_MAX];

	if (inotify_fd < 0)
		return;
	watch_folder_of(inotify_fd, RESOLV_CONF);
	/* The file too: where it alone is mounted over, its folder tells nothing of it. */
	inotify_add_watch(inotify_fd, RESOLV_CONF, IN_CLOSE_WRITE);
	if (resolv_conf_target(target))
		watch_folder_of(inotify_fd, target);
}

static void read_resolv_conf(struct network *network)
{
	int error = resolv_conf_read(&network->resolv, RESOLV_CONF);

	if (error && error != -ENOENT)
		log_warning("%s: %s", RESOLV_CONF, strerror(-error));
}

/* An interface that was named must be there: a misspelt one would otherwise be waited for. */
static int check_interfaces(const struct config *config)
{
	const struct {
		const char *option, *name;
	} named[] = {
		{ "--interface", config->ifname },
		{ "--outbound-if4", config->outbound_if[IP4] },
		{ "--outbound-if6", config->outbound_if[IP6] },
	};

	for (size_t i = 0; i < sizeof(named) / sizeof(named[0]); i++) {
		if (named[i].name[0] && !if_nametoindex(named[i].name)) {
			log_error("%s %s: %s", named[i].option, named[i].name, strerror(errno));
			return -ENODEV;
		}
	}
	return 0;
}

int network_init(struct network *network, struct runtime *rt)
{
	struct netconf *net = calloc(1, sizeof(*net));
	int error;

	*network = (struct network){ .rt = rt, .inotify_fd = -1 };
	if (!net)
		return -ENOMEM;
	rt->netconf_rcu = net;
	error = check_interfaces(rt->config);
	if (error)
		return error;
	error = discovery_open(&network->discovery, rt->config);
	if (error) {
		log_error("Couldn't ask the kernel for the host's network: %s", strerror(-error));
		return error;
	}
	network->inotify_fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
	watch_resolv_conf(network->inotify_fd);
	read_resolv_conf(network);
	error = discovery_get(network->discovery, &network->host);
	if (error)
		log_warning("The host's network isn't known yet: %s", strerror(-error));
	netconf_build(net, rt->config, &network->host, &network->resolv, NULL);
	return 0;
}

void network_free(struct network *network)
{
	if (network->discovery)
		discovery_close(network->discovery);
	if (network->inotify_fd >= 0)
		close(network->inotify_fd);
	free(network->rt->netconf_rcu);
	network->rt->netconf_rcu = NULL;
}

/* Makes it the one in force; returns the one before, which nobody reads any more. */
static struct netconf *publish(struct runtime *rt, struct netconf *net)
{
	struct netconf *before = rt->netconf_rcu;

	RCU_NOTE_PUBLISH(net);
	rcu_assign_pointer(rt->netconf_rcu, net);
	synchronize_rcu();
	RCU_NOTE_RECLAIM(before);
	return before;
}

/* A change of resolv.conf; other files in its folder are no news. */
static bool resolv_conf_changed(struct network *network)
{
	struct resolv_conf before = network->resolv;
	char events[4096] __attribute__((aligned(8)));
	bool any = false;

	if (network->inotify_fd < 0)
		return false;
	while (read(network->inotify_fd, events, sizeof(events)) > 0)
		any = true;
	if (!any)
		return false;
	watch_resolv_conf(network->inotify_fd);
	read_resolv_conf(network);
	return memcmp(&before, &network->resolv, sizeof(before)) != 0;
}

static bool host_changed(struct network *network) ON_CONTROL
{
	struct host_net now;

	if (!discovery_read(network->discovery) || discovery_get(network->discovery, &now) ||
	    memcmp(&now, &network->host, sizeof(now)) == 0)
		return false;
	network->host = now;
	return true;
}

void network_update(struct network *network, network_changed *changed, void *arg)
{
	bool host = host_changed(network), resolv = resolv_conf_changed(network);
	struct netconf *net, *before;

	if (!host && !resolv)
		return;
	net = calloc(1, sizeof(*net));
	if (!net)
		return;
	netconf_build(net, network->rt->config, &network->host, &network->resolv,
		      network->rt->netconf_rcu);
	if (memcmp(net, network->rt->netconf_rcu, sizeof(*net)) == 0) {
		free(net);
		return;
	}
	before = publish(network->rt, net);
	log_info("The host's network has changed");
	network_log(network);
	changed(arg, before, net);
	free(before);
}

/* Where an address of the guest is noted. NULL: it tells nothing. */
static struct ip_addr *place_of(struct netconf *net, const struct ip_addr *addr)
{
	struct netconf_version *v = &net->v[ip_version_of(addr)];

	if (ip_is_any(addr) || map_is_group(v, addr) || ip_is_loopback(addr))
		return NULL;
	if (!ip_is_v4(addr) && ip_is_link_local(addr))
		return &v->seen_local;
	return &v->seen;
}

bool network_guest_address(struct network *network, const struct ip_addr *addr)
{
	struct netconf *net = malloc(sizeof(*net));
	struct ip_addr *place;
	bool news;

	if (!net)
		return false;
	*net = *network->rt->netconf_rcu;
	if (addr) {
		place = place_of(net, addr);
		if (place)
			*place = *addr;
	} else {
		for (unsigned int v = 0; v < IP_VERSIONS; v++)
			net->v[v].seen = net->v[v].seen_local = (struct ip_addr){ 0 };
	}
	news = memcmp(net, network->rt->netconf_rcu, sizeof(*net)) != 0;
	free(news ? publish(network->rt, net) : net);
	return news;
}

void network_address_gone(struct network *network, const struct ip_addr *addr)
{
	struct netconf *net = malloc(sizeof(*net));
	struct ip_addr *place;

	if (!net)
		return;
	*net = *network->rt->netconf_rcu;
	place = place_of(net, addr);
	if (place && ip_eq(place, addr)) {
		*place = (struct ip_addr){ 0 };
		net = publish(network->rt, net);
	}
	free(net);
}

static void log_version(const struct netconf_version *v, const char *name, const char *ifname)
{
	char addr[ADDR_TEXT], gateway[ADDR_TEXT], dns[ADDR_TEXT];

	if (!v->on) {
		log_info("%s: off", name);
		return;
	}
	log_info("%s: interface %s, address %s/%u, gateway %s", name, ifname[0] ? ifname : "none",
		 ip_is_unset(&v->addr) ? "none" : text_of(&v->addr, addr), v->prefix_len,
		 ip_is_unset(&v->gateway) ? "none" : text_of(&v->gateway, gateway));
	for (unsigned int i = 0; i < v->n_dns; i++)
		log_info("%s: nameserver %s", name, text_of(&v->dns[i], dns));
	if (!ip_is_unset(&v->map_host_loopback))
		log_info("%s: %s is the host's loopback", name,
			 text_of(&v->map_host_loopback, addr));
}

/* A guest that resolves no names looks broken in many ways: so the reason is said, unless it was
 * the user's wish. */
static void log_missing_resolver(const struct config *config, const struct netconf *net)
{
	if (net->v[IP4].n_dns || net->v[IP6].n_dns || config->no_dhcp_dns || config->dns_set)
		return;
	log_info("No nameserver: %s has none that the guest could reach; see --dns and "
		 "--dns-forward",
		 RESOLV_CONF);
}

void network_log(const struct network *network)
{
	const struct netconf *net = network->rt->netconf_rcu;

	log_version(&net->v[IP4], "IPv4", network->host.v[IP4].ifname);
	log_version(&net->v[IP6], "IPv6", network->host.v[IP6].ifname);
	log_missing_resolver(network->rt->config, net);
	for (unsigned int i = 0; i < net->n_search; i++)
		log_info("Search domain: %s", net->search[i].name);
}
