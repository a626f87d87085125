/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What shards need of the guest's namespace for connections from loopback to loopback: its
 * sockets, and listeners there for ports of the host (-T, -U). Control thread.
 */
#pragma once

#include "auto_ports.h"
#include "control.h"
#include "ns_thread.h"

#include "taploom/runtime.h"

struct ns_ports;

/* Gives the shards sockets of the namespace, and makes the listeners that -T and -U name. 0 or
 * -errno, logged. */
int ns_ports_new(struct ns_ports **out, struct runtime *rt, struct ns_thread *thread) ON_CONTROL;
/* After the shards have ended, while the thread still runs. */
void ns_ports_free(struct ns_ports *ports);

/* Follows the host's listeners (-T and -U auto). 0 or -errno, logged. */
int ns_ports_follow(struct ns_ports *ports, struct control *control) ON_CONTROL;

/* Our own listeners in the namespace: not to be forwarded there. Lent, kept up to date. */
const struct listening *ns_ports_own(const struct ns_ports *ports);

/* A port of the host that -t or -u auto has opened or closed: not to be forwarded here. */
void ns_ports_note_host(struct ns_ports *ports, uint8_t proto, uint16_t port, bool open) ON_CONTROL;

/* Called by the namespace thread when a shard's pool has been refilled; arg: the runtime. */
void ns_ports_refilled(void *arg, unsigned int shard);
