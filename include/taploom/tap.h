/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The guest side as the main and control threads see it: a transport delivers frames to the shards
 * and gives each of them, and the control thread, a transmit batch.
 */
#pragma once

#include "taploom/runtime.h"
#include "taploom/shard.h"
#include "taploom/tx.h"

struct transport;
struct pcap;

struct transport_ops {
	/* The transmit batch of a shard (0 to n_shards - 1), or with n_shards the control thread's.
	 */
	struct tx *(*tx)(struct transport *transport, unsigned int index);
	/* Gives the shards their sources or starts the reader's thread; after all shards exist. 0
	 * or -errno. */
	int (*start)(struct transport *transport);
	/* Ends the reader's thread and closes the guest's side. */
	void (*stop)(struct transport *transport);
	void (*free)(struct transport *transport);
};

struct transport {
	const struct transport_ops *ops;
	struct counters *reader_counters; /* NULL where there is no reader */
};

/* Events that the control thread waits for: the guest connected, or is gone (one-off then ends). */
enum guest_event { GUEST_CONNECTED, GUEST_GONE };

/* Posts an event to the control thread. Any thread. */
void control_guest_event(struct control *control, enum guest_event event);

/* The guest's side has room again: the control thread flushes its transmit batch. Any thread. */
void control_wake_tx(struct control *control);

/*
 * The UNIX stream transport (and -F).
 *
 * listen_fd: a listening socket, or -1 with connected_fd given. Both are owned from now on. pcap
 * may be NULL. n_shards transmit batches are made, and one for control. 0 or -errno.
 */
int stream_transport_new(struct transport **out, struct runtime *rt, int listen_fd,
			 int connected_fd, struct pcap *pcap);

/*
 * The tun transport: queues of a tap device, made with IFF_TAP, IFF_NO_PI, IFF_MULTI_QUEUE,
 * IFF_VNET_HDR and a header of TUN_VNET_HDR_SIZE bytes, non-blocking.
 *
 * queue_fds: n_queues (1 to MAX_QUEUES) descriptors, owned from now on if this succeeds. With
 * n_shards of them or more each shard reads its own; with fewer a reader does, and rt->n_readers is
 * set to 1 (else to 0): hence before shard_new(). offloads:  what TUNSETOFFLOAD accepted. pcap may
 * be NULL. 0 or -errno.
 */
int tun_transport_new(struct transport **out, struct runtime *rt, const int *queue_fds,
		      unsigned int n_queues, unsigned int offloads, struct pcap *pcap);

/* struct virtio_net_hdr without num_buffers: with Ethernet's 14 bytes IP headers come to lie
 * aligned. */
#define TUN_VNET_HDR_SIZE 10

/*
 * The vhost-user transport; the descriptors are as for stream_transport_new(). rt->n_readers is set
 * to 1: hence before shard_new(). Must be stopped while the shards still run. 0 or -errno; the
 * descriptors are owned in any case.
 */
int vhost_transport_new(struct transport **out, struct runtime *rt, int listen_fd, int connected_fd,
			struct pcap *pcap);

/* Capture of what the guest side sees (pcap format, nanoseconds). Writers are serialised. */
int pcap_open(struct pcap **out, const char *path);
void pcap_write(struct pcap *pcap, const struct iovec *iov, unsigned int n_iov);
void pcap_close(struct pcap *pcap);
