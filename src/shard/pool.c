/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Chunks that were given back are used first, so that the pages in use stay few.
 */
#include "pool.h"

#include <errno.h>
#include <sys/mman.h>

int pool_init(struct pool *pool, size_t bytes)
{
	void *base;

	*pool = (struct pool){ .n_chunks = (uint32_t)(bytes / POOL_CHUNK) };
	list_init(&pool->free);
	if (!pool->n_chunks)
		return -EINVAL;
	base = mmap(NULL, (size_t)pool->n_chunks * POOL_CHUNK, PROT_READ | PROT_WRITE,
		    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (base == MAP_FAILED)
		return -errno;
	pool->base = base;
	return 0;
}

void pool_free(struct pool *pool)
{
	if (pool->base)
		munmap(pool->base, (size_t)pool->n_chunks * POOL_CHUNK);
	pool->base = NULL;
}

struct chunk *pool_take(struct pool *pool)
{
	struct list *node = list_take(&pool->free);
	struct chunk *chunk;

	if (node)
		chunk = LIST_ENTRY(node, struct chunk, link);
	else if (pool->n_fresh < pool->n_chunks)
		chunk = (struct chunk *)(void *)(pool->base + (size_t)pool->n_fresh++ * POOL_CHUNK);
	else
		return NULL;
	list_init(&chunk->link);
	chunk->off = chunk->len = 0;
	chunk->flags = 0;
	pool->n_used++;
	return chunk;
}

void pool_give(struct pool *pool, struct chunk *chunk)
{
	list_remove(&chunk->link);
	/* The newest first: its page is warm. */
	chunk->link.next = pool->free.next;
	chunk->link.prev = &pool->free;
	pool->free.next->prev = &chunk->link;
	pool->free.next = &chunk->link;
	pool->n_used--;
}
