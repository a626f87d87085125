/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Ports forwarded by themselves: what is listened on in one network namespace is opened in the
 * other, and closed when it is gone there. One of these serves one direction: for -t and -u auto it
 * looks into the guest's namespace and opens ports on the host, for -T and -U auto the other way
 * round.
 *
 * It looks once a second, and at once when an event tells that a listener has closed. Control
 * thread.
 */
#pragma once

#include "control.h"
#include "port_scan.h"

struct auto_ports;

/* One port that auto forwards. */
struct auto_port {
	uint8_t proto;		    /* IPPROTO_TCP or IPPROTO_UDP */
	unsigned int place;	    /* from 0: see auto_places() */
	const struct port_map *map; /* of the place: its address and interface; lent */
	uint16_t port;		    /* to be bound */
	uint16_t target;	    /* what is listened on */
};

/* What a direction consists of; lent to auto_ports_new(), but for the sockets, which it owns from
 * then on. */
struct auto_direction {
	struct port_scan_sockets sockets; /* made where to look */
	const struct port_rules *tcp;	  /* their maps; constant */
	const struct port_rules *udp;
	/*
	 * Opens a port on the other side: 0 or -errno (tried again each second, logged once), and
	 * closes it. Called on the control thread.
	 */
	int (*open)(void *arg, const struct auto_port *port);
	void (*close)(void *arg, const struct auto_port *port);
	/* Adds what else are our own UDP sockets where to look; asked before and after. May be
	 * NULL. */
	void (*own_udp)(void *arg, struct port_set *ports);
	void *arg;
	const char *where; /* for log lines: "on the host", "in the namespace" */
};

/* In how many places, of address and interface, auto opens the ports of these rules: a port may be
 * open once in each. */
unsigned int auto_places(const struct port_rules *rules);

/* 0 or -errno. */
int auto_ports_new(struct auto_ports **out, const struct auto_direction *direction);
/* Closes its sockets, but none of the ports: who ends the program does that. */
void auto_ports_free(struct auto_ports *ports);

/* The ports that somebody listens on where this direction looks and that it forwards. */
const struct listening *auto_ports_forwarded(const struct auto_ports *ports);

/* What we listen on ourselves where this direction looks; lent, read at each look. NULL: nothing.
 */
void auto_ports_set_own(struct auto_ports *ports, const struct listening *own);

/* Adds the timer and the events to the control thread's loop. 0 or -errno. */
int auto_ports_hook(struct auto_ports *ports, struct control *control);

/* Looks now: before readiness, so that what is listened on already is forwarded from the start. */
void auto_ports_look(struct auto_ports *ports) ON_CONTROL;

/* After events: looks if a listener that mattered has closed. */
void auto_ports_events(struct auto_ports *ports) ON_CONTROL;
