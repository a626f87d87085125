/* SPDX-License-Identifier: Apache-2.0 */
/*
 * With --config-net the namespace follows the host: addresses and routes that come or go on the
 * template interface come or go in the namespace, and a start without a network ends when there is
 * one. What others have set up in there is left alone.
 *
 * Changes come in bursts, and an address that is replaced is gone for a moment: so it is looked a
 * tenth of a second after the first news. Where the host has no usable interface at all, the
 * namespace keeps what it has.
 *
 * Control thread; the namespace thread carries the changes out.
 */
#pragma once

#include "control.h"
#include "netns_plan.h"
#include "network.h"
#include "ns_thread.h"

struct ns_follow;

/*
 * plan: what the namespace has been given; the callee's from now on, from malloc(), also if this
 * fails. ifindex: of the device in the namespace. 0 or -errno.
 */
int ns_follow_new(struct ns_follow **out, struct netns_plan *plan, unsigned int ifindex,
		  struct network *network, struct ns_thread *thread);
void ns_follow_free(struct ns_follow *follow);

/* Adds the host's news to the control thread's loop. 0 or -errno. */
int ns_follow_hook(struct ns_follow *follow, struct control *control);
