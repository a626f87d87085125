/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Every option of the program, once. The list makes the table that getopt and the parser use, the
 * text of --help, and what a test compares docs/taploom.1 with.
 *
 * X(section, letter, name, argument, modes, take, field, low, high, help)
 *
 * - section: where --help shows it; HIDDEN is not shown
 * - letter: the short form, or 0
 * - argument: what --help calls the argument, or NULL if there is none
 * - modes: where it may be given: ANY, VM (UNIX socket and vhost-user), NS (namespace)
 * - take: the function in option_take.c that checks and stores the value, without take_
 * - field: the member of struct config that it fills; mode where take knows by itself
 * - low, high: the range of a number
 */
#pragma once

#include "taploom/config.h"

#define OPTION_SIZE_MAX (1ULL << 40) /* bytes: more is a slip of the pen */

#define OPTIONS(X)                                                                                 \
	/* Program */                                                                              \
	X(GENERAL, 'h', "help", NULL, ANY, help, mode, 0, 0, "show this text and exit")            \
	X(GENERAL, 0, "version", NULL, ANY, version, mode, 0, 0, "show the version and exit")      \
	X(GENERAL, 0, "print-capabilities", NULL, ANY, capabilities, mode, 0, 0,                   \
	  "show what the vhost-user back-end can do, as JSON, and exit")                           \
	X(GENERAL, 0, "namespace", NULL, ANY, mode_namespace, mode, 0, 0,                          \
	  "connect a network namespace, as when called pasta")                                     \
	X(GENERAL, 'f', "foreground", NULL, ANY, flag, foreground, 0, 0, "stay in the foreground") \
	X(GENERAL, 'd', "debug", NULL, ANY, flag, debug, 0, 0, "log more")                         \
	X(GENERAL, 0, "trace", NULL, ANY, flag, trace, 0, 0, "log every step; implies --debug")    \
	X(GENERAL, 'q', "quiet", NULL, ANY, flag, quiet, 0, 0, "log warnings and errors only")     \
	X(GENERAL, 'l', "log-file", "PATH", ANY, string, log_file, 0, 0,                           \
	  "log to this file instead of stderr or the system log")                                  \
	X(GENERAL, 0, "log-size", "BYTES", ANY, size, log_size, 4096, OPTION_SIZE_MAX,             \
	  "limit of the log file, whose oldest part is dropped; default 1M")                       \
	X(GENERAL, 'P', "pid", "PATH", ANY, string, pid_file, 0, 0,                                \
	  "write the process ID here when all is ready")                                           \
	X(GENERAL, 'p', "pcap", "PATH", ANY, string, pcap_file, 0, 0,                              \
	  "write what the guest's side sees to this file, in pcap format")                         \
	X(GENERAL, 0, "runas", "USER[:GROUP]", ANY, string, runas, 0, 0,                           \
	  "names or numbers to run as; default nobody if started as root, 0 stays root")           \
	X(GENERAL, 'c', "conf-path", "PATH", ANY, conf_path, conf_path, 0, 0,                      \
	  "control socket for changes at run time: no effect in this build")                       \
	/* Threads and memory */                                                                   \
	X(THREADS, 0, "shards", "N", ANY, unsigned, shards, 1, MAX_SHARDS,                         \
	  "data plane threads; default by the CPUs that may be used, at most 8")                   \
	X(THREADS, 0, "cpus", "LIST", ANY, cpus, mode, 0, 0,                                       \
	  "pin threads to these CPUs, such as 0,2-5: reader, control, then shards")                \
	X(THREADS, 0, "inline", "on|off", ANY, on_off_inverted, inline_off, 0, 0,                  \
	  "let the reader run small batches of an idle shard in place; default on")                \
	X(THREADS, 0, "busy-poll", "USEC", ANY, unsigned, busy_poll_us, 0, 1000000,                \
	  "poll for so many microseconds before sleeping; default 0")                              \
	X(THREADS, 0, "huge-pages", NULL, ANY, flag, huge_pages, 0, 0,                             \
	  "map the pools in huge pages")                                                           \
	X(THREADS, 0, "flows", "N", ANY, unsigned, flows, 64, 16777216,                            \
	  "flow entries in sum; default 131072")                                                   \
	X(THREADS, 0, "pool", "SIZE", ANY, size, pool_bytes, 1048576, OPTION_SIZE_MAX,             \
	  "memory for queued payload in sum, such as 512M; default 256M")                          \
	/* Addresses */                                                                            \
	X(ADDRESSES, '4', "ipv4-only", NULL, ANY, flag, family_off[IP6], 0, 0, "no IPv6")          \
	X(ADDRESSES, '6', "ipv6-only", NULL, ANY, flag, family_off[IP4], 0, 0, "no IPv4")          \
	X(ADDRESSES, 'i', "interface", "NAME", ANY, ifname, ifname, 0, 0,                          \
	  "host interface that gives addresses and routes; default: of the default route")         \
	X(ADDRESSES, 'o', "outbound", "ADDR", ANY, addr, outbound_addr, 0, 0,                      \
	  "source address of what leaves, once per IP version")                                    \
	X(ADDRESSES, 0, "outbound-if4", "NAME", ANY, ifname, outbound_if[IP4], 0, 0,               \
	  "interface that IPv4 leaves by; gives addresses too without --interface")                \
	X(ADDRESSES, 0, "outbound-if6", "NAME", ANY, ifname, outbound_if[IP6], 0, 0,               \
	  "interface that IPv6 leaves by; gives addresses too without --interface")                \
	X(ADDRESSES, 'a', "address", "ADDR[/LEN]", ANY, address, addr, 0, 0,                       \
	  "the guest's address, once per IP version; default: the host's")                         \
	X(ADDRESSES, 'n', "netmask", "MASK", ANY, netmask, prefix_len, 0, 0,                       \
	  "prefix length, or IPv4 mask with dots, of the address")                                 \
	X(ADDRESSES, 'g', "gateway", "ADDR", ANY, guest_side, gateway, 0, 0,                       \
	  "the guest's gateway, once per IP version; default: the host's")                         \
	X(ADDRESSES, 'M', "mac-addr", "ADDR", ANY, our_mac, our_mac, 0, 0,                         \
	  "link-layer address that the guest sees us by; default 9a:55:9a:55:9a:55")               \
	X(ADDRESSES, 'm', "mtu", "MTU", ANY, mtu, mtu, 68, 65535,                                  \
	  "MTU announced to the guest, 0 for none; default 65520")                                 \
	/* Names */                                                                                \
	X(NAMES, 'D', "dns", "ADDR|none", ANY, dns, dns, 0, 0,                                     \
	  "nameserver for the guest, up to three per IP version; default: resolv.conf")            \
	X(NAMES, 0, "dns-forward", "ADDR|none", ANY, guest_side_or_none, dns_forward, 0, 0,        \
	  "what the guest sends to this address, port 53 or 853, goes to the host's resolver")     \
	X(NAMES, 0, "dns-host", "ADDR|none", ANY, addr_or_none, dns_host, 0, 0,                    \
	  "the resolver for --dns-forward; default: the first of resolv.conf")                     \
	X(NAMES, 'S', "search", "LIST|none", ANY, search, search, 0, 0,                            \
	  "search domains for the guest, separated by spaces; default: resolv.conf")               \
	X(NAMES, 0, "no-dhcp-dns", NULL, ANY, flag, no_dhcp_dns, 0, 0,                             \
	  "announce no nameservers by DHCP, DHCPv6 and NDP; default in a namespace")               \
	X(NAMES, 0, "dhcp-dns", NULL, ANY, seen, mode, 0, 0, "announce them; default for a VM")    \
	X(NAMES, 0, "no-dhcp-search", NULL, ANY, flag, no_dhcp_search, 0, 0,                       \
	  "announce no search domains; default in a namespace")                                    \
	X(NAMES, 0, "dhcp-search", NULL, ANY, seen, mode, 0, 0, "announce them; default for a VM") \
	X(NAMES, 'H', "hostname", "NAME", ANY, domain, hostname, 0, 0,                             \
	  "host name for the guest, by DHCP")                                                      \
	X(NAMES, 0, "fqdn", "NAME", ANY, domain, fqdn, 0, 0,                                       \
	  "full name for the guest, by DHCP and DHCPv6")                                           \
	/* Protocols */                                                                            \
	X(PROTOCOLS, 0, "no-tcp", NULL, ANY, flag, no_tcp, 0, 0, "no TCP")                         \
	X(PROTOCOLS, 0, "no-udp", NULL, ANY, flag, no_udp, 0, 0, "no UDP")                         \
	X(PROTOCOLS, 0, "no-icmp", NULL, ANY, flag, no_icmp, 0, 0, "no ICMP and ICMPv6 echo")      \
	X(PROTOCOLS, 0, "no-dhcp", NULL, ANY, flag, no_dhcp, 0, 0, "no DHCP server")               \
	X(PROTOCOLS, 0, "no-ndp", NULL, ANY, flag, no_ndp, 0, 0, "no answers to NDP")              \
	X(PROTOCOLS, 0, "no-dhcpv6", NULL, ANY, flag, no_dhcp6, 0, 0, "no DHCPv6 server")          \
	X(PROTOCOLS, 0, "no-ra", NULL, ANY, flag, no_ra, 0, 0, "no router advertisements")         \
	/* Mapping and ports */                                                                    \
	X(PORTS, 0, "no-map-gw", NULL, ANY, flag, no_map_gw, 0, 0,                                 \
	  "the gateway's address does not lead to the host's loopback")                            \
	X(PORTS, 0, "map-host-loopback", "ADDR|none", ANY, map_host_loopback, map_host_loopback,   \
	  0, 0, "this address leads to the host's loopback; default: the gateway's")               \
	X(PORTS, 0, "map-guest-addr", "ADDR|none", ANY, guest_side_or_none, map_guest_addr, 0, 0,  \
	  "this address leads to the host's own; default none")                                    \
	X(PORTS, 0, "freebind", NULL, ANY, flag, freebind, 0, 0,                                   \
	  "bind forwarded ports to addresses not there yet")                                       \
	X(PORTS, 't', "tcp-ports", "SPEC", ANY, ports, tcp_in, 0, 0,                               \
	  "TCP ports that lead to the guest; default none for a VM, auto for a namespace")         \
	X(PORTS, 'u', "udp-ports", "SPEC", ANY, ports, udp_in, 0, 0, "UDP ports, likewise")        \
	/* VM */                                                                                   \
	X(MACHINE, 's', "socket", "PATH", VM, string, socket_path, 0, 0,                           \
	  "UNIX socket that the VM connects to; default: the first free /tmp/passt_N.socket")      \
	X(MACHINE, 0, "socket-path", "PATH", VM, string, socket_path, 0, 0, "the same")            \
	X(MACHINE, 'F', "fd", "FD", VM, fd, fd, 0, 0,                                              \
	  "use this connected socket; implies --one-off")                                          \
	X(MACHINE, '1', "one-off", NULL, VM, flag, one_off, 0, 0,                                  \
	  "exit when the first VM has gone")                                                       \
	X(MACHINE, 0, "vhost-user", NULL, VM, mode_vhost_user, mode, 0, 0,                         \
	  "speak vhost-user on the socket")                                                        \
	X(MACHINE, 0, "repair-path", "PATH|none", VM, repair_path, repair_path, 0, 0,              \
	  "socket of a helper for migration; this build knows only none")                          \
	/* Namespace */                                                                            \
	X(NAMESPACE, 'I', "ns-ifname", "NAME", NS, ifname, ns_ifname, 0, 0,                        \
	  "name of the interface in the namespace; default: as on the host")                       \
	X(NAMESPACE, 0, "ns-mac-addr", "ADDR", NS, ns_mac, ns_mac, 0, 0,                           \
	  "its link-layer address; default: random")                                               \
	X(NAMESPACE, 0, "queues", "N", NS, unsigned, queues, 1, MAX_QUEUES,                        \
	  "queues of the interface; default one for each shard")                                   \
	X(NAMESPACE, 'T', "tcp-ns", "SPEC", NS, ports, tcp_out, 0, 0,                              \
	  "TCP ports of the namespace that lead to the host; default auto")                        \
	X(NAMESPACE, 'U', "udp-ns", "SPEC", NS, ports, udp_out, 0, 0, "UDP ports, likewise")       \
	X(NAMESPACE, 0, "host-lo-to-ns-lo", NULL, NS, flag, host_lo_to_ns_lo, 0, 0,                \
	  "connections from the host's loopback reach the namespace's loopback")                   \
	X(NAMESPACE, 0, "splice-only", NULL, NS, flag, splice_only, 0, 0,                          \
	  "loopback to loopback only, no interface")                                               \
	X(NAMESPACE, 0, "no-splice", NULL, ANY, flag, no_splice, 0, 0,                             \
	  "no short way from loopback to loopback")                                                \
	X(NAMESPACE, 0, "userns", "PATH", NS, string, userns, 0, 0, "user namespace to join")      \
	X(NAMESPACE, 0, "netns", "PATH|NAME", NS, netns, netns, 0, 0, "network namespace to join") \
	X(NAMESPACE, 0, "netns-only", NULL, NS, flag, netns_only, 0, 0,                            \
	  "join no user namespace and create none")                                                \
	X(NAMESPACE, 0, "no-netns-quit", NULL, NS, flag, no_netns_quit, 0, 0,                      \
	  "stay when the path of the namespace is gone")                                           \
	X(NAMESPACE, 0, "config-net", NULL, NS, flag, config_net, 0, 0,                            \
	  "set up addresses and routes in the namespace")                                          \
	X(NAMESPACE, 0, "no-copy-routes", NULL, NS, flag, no_copy_routes, 0, 0,                    \
	  "with --config-net: only the default route, not all of the host's")                      \
	X(NAMESPACE, 0, "no-copy-addrs", NULL, NS, flag, no_copy_addrs, 0, 0,                      \
	  "with --config-net: only the first address, not all of the host's")                      \
	/* Accepted so that command lines written for other programs work */                       \
	X(IGNORED, 'e', "stderr", NULL, ANY, ignored, mode, 0, 0, "no effect")                     \
	X(IGNORED, 0, "stats", "DELAY", ANY, ignored, mode, 0, 0,                                  \
	  "no effect: send SIGUSR1 for counters")                                                  \
	X(IGNORED, 0, "chroot-fallback", NULL, ANY, seen, mode, 0, 0, "no effect")                 \
	X(IGNORED, 0, "migrate-exit", NULL, VM, seen, mode, 0, 0, "no effect")                     \
	X(IGNORED, 0, "migrate-no-linger", NULL, VM, seen, mode, 0, 0, "no effect")                \
	X(HIDDEN, 0, "no-peek-off", NULL, ANY, flag, no_peek_off, 0, 0,                            \
	  "work as on a kernel without SO_PEEK_OFF for TCP")
