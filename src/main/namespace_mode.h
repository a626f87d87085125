/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Namespace mode, put together: the guest's namespace and its tap device, the thread that makes
 * sockets there, the ports that follow its listeners, and the namespace's end. Main thread, and the
 * control thread's loop.
 */
#pragma once

#include "auto_ports.h"
#include "control.h"
#include "netns.h"
#include "netns_watch.h"
#include "network.h"
#include "ns_follow.h"
#include "ns_ports.h"
#include "ns_thread.h"

struct namespace_mode {
	struct runtime *rt;
	struct netns ns;
	struct tap_device tap;
	struct network *network;
	struct netns_plan *plan; /* what was set up at start; NULL once it is follow's */
	struct ns_follow *follow;
	struct netns_watch *watch;
	struct ns_thread *thread;
	struct ns_ports *ports;	     /* what shards need of the namespace */
	struct auto_ports *ports_in; /* -t and -u auto */
	struct listener *
		*auto_open[2]; /* by place and port: those that ports_in opened, of TCP and UDP */
	struct control_hook command_hook, watch_hook;
	int status; /* of the command */
};

/*
 * Opens or makes the namespace and the device in it, with the first user's rights. The network is
 * known. 0 or -errno, logged.
 */
int namespace_open(struct namespace_mode *mode, struct runtime *rt, struct network *network);

/* The transport over the device's queues. 0 or -errno, logged. */
int namespace_transport(struct namespace_mode *mode, struct pcap *pcap, struct transport **out);

/* After the user has changed, before any other thread: the namespace thread. 0 or -errno, logged.
 */
int namespace_start_thread(struct namespace_mode *mode);

/* Ports that follow listeners, and the events of the namespace, into the control thread's loop; the
 * shards exist. 0 or -errno, logged. */
int namespace_hook(struct namespace_mode *mode, struct control *control) ON_CONTROL;

/* All is ready: the command executes. 0 or -errno. */
int namespace_ready(struct namespace_mode *mode);

/* Ends the namespace thread: after the shards have ended, before they are freed. */
void namespace_stop_thread(struct namespace_mode *mode);

void namespace_close(struct namespace_mode *mode);
