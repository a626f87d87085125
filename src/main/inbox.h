/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What other threads have for the control thread: frames for the services, addresses that the guest
 * uses, events of the guest's side. Bounded; behind one lock, as none of it is frequent on a guest
 * that behaves, and what an unruly one sends too fast is dropped and counted.
 */
#pragma once

#include "taploom/frame.h"
#include "taploom/tap.h"

#include <pthread.h>

#define INBOX_FRAMES	 128
#define INBOX_FRAME_SIZE 2048
#define INBOX_ADDRS	 16
#define INBOX_EVENTS	 16

struct inbox_frame {
	struct frame frame; /* its data points to bytes */
	uint8_t bytes[INBOX_FRAME_SIZE];
};

struct inbox {
	pthread_mutex_t lock;
	int event_fd; /* readable when something was posted */
	/* Under lock. */
	struct inbox_frame *frames; /* a ring */
	unsigned int first, n_frames;
	struct ip_addr addrs[INBOX_ADDRS];
	unsigned int n_addrs;
	enum guest_event events[INBOX_EVENTS];
	unsigned int n_events;
	bool tx_ready;
};

/* 0 or -errno. */
int inbox_init(struct inbox *inbox);
void inbox_free(struct inbox *inbox);

/* Any thread. */
enum drop inbox_post_frame(struct inbox *inbox, const struct frame *frame);
/* False: there was no room. */
bool inbox_post_address(struct inbox *inbox, const struct ip_addr *addr);
void inbox_post_event(struct inbox *inbox, enum guest_event event);
void inbox_post_tx(struct inbox *inbox);

/* The control thread: takes the oldest of each kind. False if there is none. */
bool inbox_take_frame(struct inbox *inbox, struct inbox_frame *out);
bool inbox_take_address(struct inbox *inbox, struct ip_addr *out);
bool inbox_take_event(struct inbox *inbox, enum guest_event *out);
bool inbox_take_tx(struct inbox *inbox);
