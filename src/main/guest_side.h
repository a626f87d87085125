/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The guest's side by the program's mode: opened while the program still has its first user's
 * rights, made into a transport afterwards. Main thread.
 */
#pragma once

#include "owned_file.h"

#include "taploom/config.h"
#include "taploom/runtime.h"
#include "taploom/tap.h"

struct guest_side {
	const struct config *config;
	int listen_fd; /* owned until the transport is made; -1: none */
	char path[108];
	struct owned_file socket;
	struct pcap *pcap;
};

/* Opens the socket and the capture file. 0 or -errno, logged. */
int guest_side_open(struct guest_side *side, const struct config *config);

/* Makes the transport of a virtual machine; sets rt->n_readers. 0 or -errno, logged. */
int guest_side_transport(struct guest_side *side, struct runtime *rt, struct transport **out);

/* Removes the socket if it is still ours, closes the capture. */
void guest_side_close(struct guest_side *side);
