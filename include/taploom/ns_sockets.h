/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sockets of the guest's network namespace, for shards that are outside of it: whoever made the
 * namespace's thread gives them out through this.
 */
#pragma once

enum ns_socket { NS_TCP4, NS_TCP6, NS_UDP4, NS_UDP6, NS_SOCKETS };

struct ns_sockets {
	/*
	 * Takes a socket of a kind, non-blocking and close-on-exec, the caller's from now on; on
	 * the shard's thread. -EAGAIN: there is none now, and shard_ns_refilled() will be called;
	 * another -errno: none can be made.
	 */
	int (*take)(void *arg, unsigned int shard, enum ns_socket kind);
	void *arg;
};
