/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Requests to the kernel by route netlink, one at a time, answered before the call returns. For
 * start-up; run-time events are discovery's.
 */
#pragma once

#include <libmnl/libmnl.h>

#include <stddef.h>
#include <stdint.h>

struct nl {
	struct mnl_socket *socket;
	uint32_t seq;
};

/* Opens a socket in the calling thread's network namespace. 0 or -errno. */
int nl_open(struct nl *nl);
void nl_close(struct nl *nl);

#define NL_REQUEST_SIZE 1024 /* room for any request that is made here */

/* A message of a type with flags (NLM_F_REQUEST is added), and behind it its family's header,
 * zeroed. */
struct nlmsghdr *nl_request(void *room, uint16_t type, unsigned int flags, void **header,
			    size_t header_len);

/* Sends a request and waits for its acknowledgement. 0 or -errno as the kernel says. */
int nl_talk(struct nl *nl, struct nlmsghdr *msg);

/* Sends a request and gives each answer to a function, which returns MNL_CB_OK. 0 or -errno. */
int nl_dump(struct nl *nl, struct nlmsghdr *msg, mnl_cb_t each, void *arg);
