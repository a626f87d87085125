/* SPDX-License-Identifier: Apache-2.0 */
#include "vu_queue.h"

#include <unistd.h>

int vu_queue_init(struct vu_queue *queue, uint16_t index)
{
	int err;

	*queue = (struct vu_queue){ .index = index, .call_fd = -1, .err_fd = -1, .kick_fd = -1 };
	err = pthread_mutex_init(&queue->lock, NULL);
	if (err)
		return -err;
	err = pthread_cond_init(&queue->idle, NULL);
	if (err)
		pthread_mutex_destroy(&queue->lock);
	return -err;
}

void vu_queue_destroy(struct vu_queue *queue)
{
	pthread_cond_destroy(&queue->idle);
	pthread_mutex_destroy(&queue->lock);
}

void vu_queue_hold(struct vu_queue *queue)
{
	pthread_mutex_lock(&queue->lock);
	queue->held = true;
	while (queue->slabs_out)
		pthread_cond_wait(&queue->idle, &queue->lock);
	pthread_mutex_unlock(&queue->lock);
}

void vu_queue_resume(struct vu_queue *queue)
{
	pthread_mutex_lock(&queue->lock);
	queue->held = false;
	pthread_mutex_unlock(&queue->lock);
}

void vu_queue_slab_back(struct vu_queue *queue)
{
	queue->slabs_out--;
	if (queue->held && !queue->slabs_out)
		pthread_cond_signal(&queue->idle);
}

void vu_close_fd(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

void vu_eventfd_add(int fd)
{
	uint64_t one = 1;
	ssize_t n = write(fd, &one, sizeof(one));

	(void)n;
}

bool vu_queue_call(struct vu_queue *queue)
{
	if (!vring_wants_call(&queue->ring) || queue->call_fd < 0)
		return false;
	vu_eventfd_add(queue->call_fd);
	return true;
}

void vu_queue_signal_error(struct vu_queue *queue)
{
	if (queue->err_fd >= 0)
		vu_eventfd_add(queue->err_fd);
}
