/* SPDX-License-Identifier: Apache-2.0 */
#include "option_take.h"

#include "ports.h"
#include "values.h"

#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static bool __attribute__((format(printf, 2, 3))) refuse(struct options *o, const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	vsnprintf(o->error, sizeof(o->error), fmt, args);
	va_end(args);
	return false;
}

static void *field_of(struct options *o, const struct option_row *row)
{
	return (char *)o->config + row->offset;
}

TAKE(help)
{
	(void)row;
	(void)value;
	options_print_help(stdout, o->config->program);
	o->done = true;
	return true;
}

TAKE(version)
{
	(void)row;
	(void)value;
	options_print_version(stdout, o->config->program);
	o->done = true;
	return true;
}

/* The form that the vhost-user specification gives in "Backend program conventions". */
TAKE(capabilities)
{
	(void)row;
	(void)value;
	puts("{\n  \"type\": \"net\"\n}");
	o->config->print_capabilities = true;
	o->done = true;
	return true;
}

TAKE(mode_namespace)
{
	(void)row;
	(void)value;
	o->config->mode = MODE_NAMESPACE;
	return true;
}

TAKE(mode_vhost_user)
{
	(void)row;
	(void)value;
	if (o->config->mode !=
	    MODE_NAMESPACE) /* where it does not belong: options_parse() says so */
		o->config->mode = MODE_VHOST_USER;
	return true;
}

TAKE(flag)
{
	(void)value;
	*(bool *)field_of(o, row) = true;
	return true;
}

TAKE(seen)
{
	(void)o;
	(void)row;
	(void)value;
	return true;
}

TAKE(ignored)
{
	(void)value;
	fprintf(stderr, "%s: --%s has no effect and may be left out\n", o->config->program,
		row->name);
	return true;
}

TAKE(string)
{
	size_t len = strlen(value);

	if (len == 0)
		return refuse(o, "is empty");
	if (len >= row->size)
		return refuse(o, "is longer than %zu bytes", row->size - 1);
	memcpy(field_of(o, row), value, len + 1);
	return true;
}

TAKE(ifname)
{
	return value_ifname(value, field_of(o, row)) || refuse(o, "is not an interface's name");
}

TAKE(domain)
{
	if (!value_domain(value, strlen(value)))
		return refuse(o, "is not a domain name");
	return take_string(o, row, value);
}

static bool take_range(struct options *o, const struct option_row *row, bool parsed,
		       uint64_t number)
{
	if (parsed && number >= row->low && number <= row->high)
		return true;
	return refuse(o, "is not a number from %llu to %llu", (unsigned long long)row->low,
		      (unsigned long long)row->high);
}

TAKE(unsigned)
{
	uint64_t number = 0;
	bool parsed = value_number(value, row->high, &number);

	if (!take_range(o, row, parsed, number))
		return false;
	*(unsigned int *)field_of(o, row) = (unsigned int)number;
	return true;
}

TAKE(size)
{
	uint64_t number = 0;
	bool parsed = value_size(value, row->high, &number);

	if (!take_range(o, row, parsed, number))
		return false;
	*(size_t *)field_of(o, row) = (size_t)number;
	return true;
}

TAKE(on_off_inverted)
{
	bool off = strcmp(value, "off") == 0;

	if (!off && strcmp(value, "on") != 0)
		return refuse(o, "is neither on nor off");
	*(bool *)field_of(o, row) = off;
	return true;
}

TAKE(cpus)
{
	struct config *config = o->config;
	cpu_set_t allowed;

	(void)row;
	if (!value_list(value, config->cpus, MAX_SHARDS + 2, &config->n_cpus))
		return refuse(o, "is not a list of at most %d CPUs such as 0,2-5", MAX_SHARDS + 2);
	if (sched_getaffinity(0, sizeof(allowed), &allowed))
		return refuse(o, "cannot be compared with the CPUs allowed: %m");
	for (unsigned int i = 0; i < config->n_cpus; i++)
		if (!CPU_ISSET((size_t)config->cpus[i], &allowed)) /* false beyond CPU_SETSIZE */
			return refuse(
				o, "names CPU %d, which this process may not use; see taskset -p",
				config->cpus[i]);
	return true;
}

TAKE(addr)
{
	struct ip_addr *per_version = field_of(o, row);
	struct ip_addr addr;

	if (!value_addr(value, &addr))
		return refuse(o, "is not an IPv4 or IPv6 address");
	if (ip_is_any(&addr) || ip_is_multicast(&addr) || ip_is_broadcast(&addr))
		return refuse(o, "is not the address of a host");
	per_version[ip_version_of(&addr)] = addr;
	return true;
}

/* An address that the guest can use: its kernel keeps packets to loopback addresses to itself. */
TAKE(guest_side)
{
	struct ip_addr addr;

	if (value_addr(value, &addr) && ip_is_loopback(&addr))
		return refuse(o, "is a loopback address, which no guest can use");
	return take_addr(o, row, value);
}

TAKE(addr_or_none)
{
	if (strcmp(value, "none") != 0)
		return take_addr(o, row, value);
	memset(field_of(o, row), 0, row->size);
	return true;
}

TAKE(guest_side_or_none)
{
	return strcmp(value, "none") == 0 ? take_addr_or_none(o, row, value)
					  : take_guest_side(o, row, value);
}

static bool prefix_of(const char *text, enum ip_version version, uint8_t *out)
{
	uint64_t len;

	if (!value_number(text, version == IP4 ? 32 : 128, &len) || len == 0)
		return false;
	*out = (uint8_t)len;
	return true;
}

TAKE(address)
{
	const char *slash = strchr(value, '/');
	char text[64];
	struct ip_addr addr;

	if (!slash)
		slash = value + strlen(value);
	if ((size_t)(slash - value) >= sizeof(text))
		return refuse(o, "is not an IPv4 or IPv6 address");
	memcpy(text, value, (size_t)(slash - value));
	text[slash - value] = '\0';
	if (!take_guest_side(o, row, text))
		return false;
	value_addr(text, &addr);
	o->last_address = ip_version_of(&addr);
	if (*slash &&
	    !prefix_of(slash + 1, o->last_address, &o->config->prefix_len[o->last_address]))
		return refuse(o, "has no prefix length from 1 to %d behind the slash",
			      o->last_address == IP4 ? 32 : 128);
	if (*slash && o->prefix_in_netmask[o->last_address])
		return refuse(o, "contradicts --netmask before it");
	if (!*slash && !o->prefix_in_netmask[o->last_address])
		o->config->prefix_len[o->last_address] = 0; /* an earlier address's */
	o->prefix_in_address[o->last_address] = *slash != '\0';
	return true;
}

/* IPv4's, as the option's name says, unless it can only be that of the IPv6 address before it. */
static enum ip_version netmask_version(const struct options *o, const char *value)
{
	bool ip4_waits = !ip_is_unset(&o->config->addr[IP4]) && !o->prefix_in_address[IP4] &&
			 !o->prefix_in_netmask[IP4];
	uint64_t len;

	if (strchr(value, '.') || (ip4_waits && value_number(value, 32, &len)))
		return IP4;
	if (!ip_is_unset(&o->config->addr[IP6]) && !value_number(value, 32, &len))
		return IP6;
	return o->last_address;
}

TAKE(netmask)
{
	enum ip_version version = netmask_version(o, value);
	uint8_t *prefix_len = &o->config->prefix_len[version];

	(void)row;
	if (o->prefix_in_address[version])
		return refuse(o, "contradicts the prefix length in --address before it");
	o->prefix_in_netmask[version] = true;
	if ((version == IP4 && value_mask(value, prefix_len)) ||
	    prefix_of(value, version, prefix_len))
		return true;
	return refuse(o, "is neither a prefix length from 1 to %d nor a mask such as 255.255.255.0",
		      version == IP4 ? 32 : 128);
}

TAKE(map_host_loopback)
{
	struct config *config = o->config;
	struct ip_addr addr;

	if (!take_guest_side_or_none(o, row, value))
		return false;
	if (value_addr(value, &addr))
		config->map_host_loopback_set[ip_version_of(&addr)] = true;
	else
		config->map_host_loopback_set[IP4] = config->map_host_loopback_set[IP6] = true;
	return true;
}

TAKE(our_mac)
{
	o->config->our_mac_set = true;
	return value_mac(value, field_of(o, row)) || refuse(o, "is not a unicast MAC address");
}

TAKE(ns_mac)
{
	o->config->ns_mac_set = true;
	return value_mac(value, field_of(o, row)) || refuse(o, "is not a unicast MAC address");
}

/* From 68: no IPv4 link has less (RFC 791 3.2). */
TAKE(mtu)
{
	uint64_t mtu = 0;
	bool parsed = value_number(value, row->high, &mtu);

	if (!parsed || mtu > row->high || (mtu != 0 && mtu < row->low))
		return refuse(o, "is neither 0 nor a number from %llu to %llu",
			      (unsigned long long)row->low, (unsigned long long)row->high);
	o->config->mtu = (uint32_t)mtu;
	return true;
}

/* As a resolver does that reads more of them in resolv.conf. */
static void leave_out(const struct options *o, const struct option_row *row, const char *value,
		      size_t len, int max)
{
	fprintf(stderr, "%s: --%s: %.*s is left out, as at most %d are announced\n",
		o->config->program, row->name, (int)len, value, max);
}

TAKE(dns)
{
	struct config *config = o->config;
	struct ip_addr addr;
	unsigned int same_version = 0;

	if (strcmp(value, "none") == 0) { /* forgets those before it, gives way to those behind */
		config->n_dns = 0;
		config->dns_set = true;
		return true;
	}
	if (!value_addr(value, &addr) || ip_is_any(&addr) || ip_is_multicast(&addr))
		return refuse(o, "is neither the address of a host nor none");
	for (unsigned int i = 0; i < config->n_dns; i++)
		same_version += ip_version_of(&config->dns[i]) == ip_version_of(&addr);
	config->dns_set = true;
	if (same_version < MAX_DNS)
		config->dns[config->n_dns++] = addr;
	else
		leave_out(o, row, value, strlen(value), MAX_DNS);
	return true;
}

static bool add_search(struct options *o, const struct option_row *row, const char *name,
		       size_t len)
{
	struct config *config = o->config;
	char *into;

	if (!value_domain(name, len))
		return refuse(o, "contains '%.*s', which is not a domain name",
			      (int)(len > 80 ? 80 : len), name);
	if (config->n_search == MAX_SEARCH) {
		leave_out(o, row, name, len, MAX_SEARCH);
		return true;
	}
	into = config->search[config->n_search++].name;
	memcpy(into, name, len);
	into[len] = '\0';
	return true;
}

TAKE(search)
{
	struct config *config = o->config;

	config->search_set = true;
	if (strcmp(value, "none") == 0) { /* as for --dns */
		config->n_search = 0;
		return true;
	}
	for (const char *at = value + strspn(value, " "); *at; at += strspn(at, " ")) {
		size_t len = strcspn(at, " ");

		if (!add_search(o, row, at, len))
			return false;
		at += len;
	}
	return value[strspn(value, " ")] || refuse(o, "is empty; none means no domain");
}

TAKE(ports)
{
	return ports_parse(field_of(o, row), value, o->ephemeral, o->error, sizeof(o->error));
}

/* Nothing could be read from any other, and nobody would be told. */
static bool is_connected_stream(int fd)
{
	struct sockaddr_storage sa;
	socklen_t len = sizeof(int), sa_len = sizeof(sa);
	int type = 0;

	return !getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &len) && type == SOCK_STREAM &&
	       !getpeername(fd, (struct sockaddr *)&sa, &sa_len);
}

TAKE(fd)
{
	uint64_t fd;

	(void)row;
	if (!value_number(value, INT_MAX, &fd) || fd <= STDERR_FILENO)
		return refuse(o, "is not a descriptor above 2");
	if (fcntl((int)fd, F_GETFD) < 0)
		return refuse(o, "is not an open descriptor: was it closed on exec?");
	if (!is_connected_stream((int)fd))
		return refuse(o, "is not a connected stream socket");
	o->config->fd = (int)fd;
	o->config->one_off = true;
	return true;
}

TAKE(repair_path)
{
	if (strcmp(value, "none") != 0)
		return refuse(o, "is not in this build: migration is not supported, only none is");
	o->config->repair_path_set = true;
	return take_string(o, row, value);
}

TAKE(conf_path)
{
	fprintf(stderr,
		"%s: --conf-path %s has no effect in this build: ports are those given at start, "
		"with -t and -u\n",
		o->config->program, value);
	return take_string(o, row, value);
}

/* A bare name is one of ip-netns(8). */
TAKE(netns)
{
	char *netns = field_of(o, row);
	int len =
		snprintf(netns, row->size, "%s%s", strchr(value, '/') ? "" : "/run/netns/", value);

	if (*value == '\0')
		return refuse(o, "is empty");
	return (size_t)len < row->size || refuse(o, "is too long");
}
