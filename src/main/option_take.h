/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The values of options: each function checks one and stores it in the configuration, as
 * option_row.take says.
 */
#pragma once

#include "options.h"

#define TAKE(name)                                                                                 \
	bool take_##name(struct options *o, const struct option_row *row, const char *value)

TAKE(help);
TAKE(version);
TAKE(capabilities);
TAKE(mode_namespace);
TAKE(mode_vhost_user);
TAKE(flag);	       /* sets a bool */
TAKE(seen);	       /* stores nothing: what counts is that it was given */
TAKE(ignored);	       /* warns that it has no effect */
TAKE(string);	       /* a char array; empty and too long values are refused */
TAKE(ifname);	       /* a name that the kernel accepts for an interface */
TAKE(domain);	       /* a domain name, RFC 1035 2.3.4 */
TAKE(unsigned);	       /* an unsigned int from low to high */
TAKE(size);	       /* a size_t from low to high bytes; K, M and G are powers of 1024 */
TAKE(on_off_inverted); /* on clears a bool, off sets it */
TAKE(cpus);
TAKE(addr);	    /* an address into an array by IP version */
TAKE(addr_or_none); /* the same; none clears both */
TAKE(guest_side);   /* an address that the guest is to use, so none of a loopback */
TAKE(guest_side_or_none);
TAKE(address); /* ADDR or ADDR/LEN */
TAKE(netmask);
TAKE(map_host_loopback);
TAKE(our_mac);
TAKE(ns_mac);
TAKE(mtu);
TAKE(dns);
TAKE(search);
TAKE(ports);
TAKE(fd);
TAKE(repair_path); /* refused but for none: migration is not there */
TAKE(conf_path);   /* noted: changes at run time are not there */
TAKE(netns);
