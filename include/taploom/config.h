/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The configuration: what the command line says, checked, with defaults filled in where they do not
 * depend on the host. Made by the main thread before any other starts, constant afterwards.
 */
#pragma once

#include "taploom/addr.h"

#include <net/if.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define MAX_SHARDS    64
#define MAX_QUEUES    64
#define MAX_DNS	      3	   /* nameservers per IP version, as in resolv.conf */
#define MAX_SEARCH    6	   /* search domains, as in resolv.conf */
#define MAX_DOMAIN    256  /* bytes with the terminating NUL */
#define MAX_PORT_MAPS 1024 /* ranges per protocol and direction */

enum program_mode { MODE_STREAM, MODE_VHOST_USER, MODE_NAMESPACE };

enum port_mode {
	PORTS_UNSET, /* the mode's default: none for VMs, auto for namespaces */
	PORTS_NONE,
	PORTS_LIST,
	PORTS_ALL,
	PORTS_AUTO, /* namespace mode only */
};

/* One range of forwarded ports: host ports first to last go to target and those after it. */
struct port_map {
	struct ip_addr addr;   /* bind address; unset: both versions */
	bool v6_only;	       /* addr is "::": IPv6 only, not both versions */
	char ifname[IFNAMSIZ]; /* bind to this interface; "": any */
	uint16_t first;
	uint16_t last;
	uint16_t target;
	bool weak; /* from "all" or an exclusion list: a port that cannot be bound is skipped */
	bool scan; /* from "auto": bound while somebody listens on the target */
};

/* One of -t, -u, -T, -U. */
struct port_rules {
	enum port_mode mode;
	struct port_map maps[MAX_PORT_MAPS];
	unsigned int n_maps;
};

struct domain {
	char name[MAX_DOMAIN];
};

struct config {
	enum program_mode mode;
	const char *program; /* the name it was called by: taploom, passt or pasta */
	bool as_passt;	     /* that is passt: who starts it knows nothing of ours */

	/* What is switched on; indices are enum ip_version. */
	bool family_off[IP_VERSIONS];
	bool no_tcp, no_udp, no_icmp, no_dhcp, no_ndp, no_dhcp6, no_ra;

	/* The guest's addresses and the host's interface: unset means from the host. */
	struct ip_addr addr[IP_VERSIONS];
	uint8_t prefix_len[IP_VERSIONS]; /* 0: by the host or the address' class */
	struct ip_addr gateway[IP_VERSIONS];
	char ifname[IFNAMSIZ];			   /* -i: template interface */
	char outbound_if[IP_VERSIONS][IFNAMSIZ];   /* --outbound-if4, --outbound-if6 */
	struct ip_addr outbound_addr[IP_VERSIONS]; /* -o */
	struct eth_addr our_mac;
	bool our_mac_set;
	uint32_t mtu; /* 0: not announced; default 65520 */

	/* Names. */
	struct ip_addr dns[2 * MAX_DNS];
	unsigned int n_dns;
	bool dns_set; /* -D was given, "none" included: resolv.conf is not read for addresses */
	struct domain search[MAX_SEARCH];
	unsigned int n_search;
	bool search_set; /* -S was given, "none" included */
	bool no_dhcp_dns, no_dhcp_search;
	struct ip_addr dns_forward[IP_VERSIONS]; /* the guest asks here ... */
	struct ip_addr dns_host[IP_VERSIONS];	 /* ... and the host's resolver is there; unset: the
						    first of resolv.conf */
	char hostname[MAX_DOMAIN];
	char fqdn[MAX_DOMAIN];

	/* Mapping of the host's own addresses. Unset with map_*_set: "none". */
	bool no_map_gw;
	struct ip_addr map_host_loopback[IP_VERSIONS];
	bool map_host_loopback_set[IP_VERSIONS];
	struct ip_addr map_guest_addr[IP_VERSIONS];

	/* Ports. */
	struct port_rules tcp_in, udp_in;   /* -t, -u: host to guest */
	struct port_rules tcp_out, udp_out; /* -T, -U: namespace to host */
	bool freebind;
	bool host_lo_to_ns_lo;
	bool splice_only;
	bool no_splice;

	/* The guest's side. */
	char socket_path[108]; /* "": the first free default */
	int fd;		       /* -F, -1: none */
	bool one_off;
	bool print_capabilities;
	char repair_path[108];
	bool repair_path_set;

	/* Namespace mode. */
	char **command;	    /* argv of the command to run, NULL terminated; NULL: none given */
	bool own_namespace; /* none is named: one is made for the command, or for a shell */
	pid_t netns_pid;
	char netns[4096];
	char userns[4096];
	bool netns_only;
	bool no_netns_quit;
	bool config_net;
	bool no_copy_routes, no_copy_addrs;
	char ns_ifname[IFNAMSIZ]; /* "": the template interface's name */
	struct eth_addr ns_mac;
	bool ns_mac_set;
	unsigned int queues; /* of the tap device; 0: as many as shards */

	/* Operation. */
	bool foreground;
	bool quiet, debug, trace;
	char log_file[4096];
	size_t log_size; /* bytes; default 1 MiB */
	char pid_file[4096];
	char pcap_file[4096];
	char runas[256];     /* "USER[:GROUP]"; "": nobody when started as root */
	char conf_path[108]; /* -c of newer passt in VM and namespace mode: the control socket */

	/* Threads and memory. */
	unsigned int shards;	  /* 0: by CPUs */
	int cpus[MAX_SHARDS + 2]; /* reader, control, then shards */
	unsigned int n_cpus;	  /* 0: not pinned */
	bool inline_off;
	unsigned int busy_poll_us;
	bool huge_pages;
	uint32_t flows;	   /* flow entries in sum; default 131072 */
	size_t pool_bytes; /* for queued payload in sum; default 256 MiB of address space, touched
			      as used */
	bool no_peek_off;  /* hidden: behave as on a kernel without SO_PEEK_OFF for TCP */
};
