/* SPDX-License-Identifier: Apache-2.0 */
#include "inbox.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

int inbox_init(struct inbox *inbox)
{
	*inbox = (struct inbox){ .event_fd = -1 };
	pthread_mutex_init(&inbox->lock, NULL);
	inbox->frames = calloc(INBOX_FRAMES, sizeof(*inbox->frames));
	inbox->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (!inbox->frames)
		return -ENOMEM;
	return inbox->event_fd < 0 ? -errno : 0;
}

void inbox_free(struct inbox *inbox)
{
	if (inbox->event_fd >= 0)
		close(inbox->event_fd);
	free(inbox->frames);
	pthread_mutex_destroy(&inbox->lock);
}

static void post(struct inbox *inbox)
{
	eventfd_write(inbox->event_fd, 1);
}

enum drop inbox_post_frame(struct inbox *inbox, const struct frame *frame)
{
	struct inbox_frame *slot;

	if (frame->len > INBOX_FRAME_SIZE || frame->linear_len < frame->len)
		return DROP_CONTROL_FULL;
	pthread_mutex_lock(&inbox->lock);
	if (inbox->n_frames == INBOX_FRAMES) {
		pthread_mutex_unlock(&inbox->lock);
		return DROP_CONTROL_FULL;
	}
	slot = &inbox->frames[(inbox->first + inbox->n_frames) % INBOX_FRAMES];
	slot->frame = *frame;
	memcpy(slot->bytes, frame->data, frame->len);
	inbox->n_frames++;
	pthread_mutex_unlock(&inbox->lock);
	post(inbox);
	return DROP_NONE;
}

bool inbox_post_address(struct inbox *inbox, const struct ip_addr *addr)
{
	bool added = false;

	pthread_mutex_lock(&inbox->lock);
	if (inbox->n_addrs < INBOX_ADDRS) {
		inbox->addrs[inbox->n_addrs++] = *addr;
		added = true;
	}
	pthread_mutex_unlock(&inbox->lock);
	if (added)
		post(inbox);
	return added;
}

void inbox_post_event(struct inbox *inbox, enum guest_event event)
{
	pthread_mutex_lock(&inbox->lock);
	if (event == GUEST_GONE) /* what is still here was its own */
		inbox->n_addrs = inbox->n_frames = 0;
	if (inbox->n_events == INBOX_EVENTS) /* a guest that comes and goes: the last word counts */
		inbox->n_events--;
	inbox->events[inbox->n_events++] = event;
	pthread_mutex_unlock(&inbox->lock);
	post(inbox);
}

void inbox_post_tx(struct inbox *inbox)
{
	pthread_mutex_lock(&inbox->lock);
	inbox->tx_ready = true;
	pthread_mutex_unlock(&inbox->lock);
	post(inbox);
}

bool inbox_take_frame(struct inbox *inbox, struct inbox_frame *out)
{
	const struct inbox_frame *slot;
	bool found;

	pthread_mutex_lock(&inbox->lock);
	found = inbox->n_frames > 0;
	if (found) {
		slot = &inbox->frames[inbox->first];
		out->frame = slot->frame;
		memcpy(out->bytes, slot->bytes, slot->frame.len);
		inbox->first = (inbox->first + 1) % INBOX_FRAMES;
		inbox->n_frames--;
	}
	pthread_mutex_unlock(&inbox->lock);
	if (!found)
		return false;
	/* All of the frame is linear, so that what pointed into the reader's slab can be told anew.
	 */
	out->frame.data = out->bytes;
	out->frame.payload_one.iov_base = out->bytes + out->frame.payload_off;
	out->frame.payload_one.iov_len = out->frame.payload_len;
	out->frame.payload = &out->frame.payload_one;
	out->frame.n_payload = out->frame.payload_len ? 1 : 0;
	return true;
}

bool inbox_take_address(struct inbox *inbox, struct ip_addr *out)
{
	bool found;

	pthread_mutex_lock(&inbox->lock);
	found = inbox->n_addrs > 0;
	if (found) {
		*out = inbox->addrs[0];
		inbox->n_addrs--;
		memmove(inbox->addrs, inbox->addrs + 1, inbox->n_addrs * sizeof(*out));
	}
	pthread_mutex_unlock(&inbox->lock);
	return found;
}

bool inbox_take_event(struct inbox *inbox, enum guest_event *out)
{
	bool found;

	pthread_mutex_lock(&inbox->lock);
	found = inbox->n_events > 0;
	if (found) {
		*out = inbox->events[0];
		inbox->n_events--;
		memmove(inbox->events, inbox->events + 1, inbox->n_events * sizeof(*out));
	}
	pthread_mutex_unlock(&inbox->lock);
	return found;
}

bool inbox_take_tx(struct inbox *inbox)
{
	bool ready;

	pthread_mutex_lock(&inbox->lock);
	ready = inbox->tx_ready;
	inbox->tx_ready = false;
	pthread_mutex_unlock(&inbox->lock);
	return ready;
}
