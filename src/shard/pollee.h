/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a descriptor in a shard's epoll belongs to; the first member of each such struct.
 */
#pragma once

enum pollee_kind {
	POLL_WAKE,
	POLL_TIMER,
	POLL_SOURCE,
	POLL_LISTENER,
	POLL_UDP_LISTENER,
	POLL_FLOW,
	POLL_SPLICE, /* one of the two sockets of a spliced connection */
};

struct pollee {
	enum pollee_kind kind;
};
