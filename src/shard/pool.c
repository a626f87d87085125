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

	if (!node && pool->n_fresh == pool->n_chunks) {
		pool_collect(pool);
		node = list_take(&pool->free);
	}
	if (node)
		chunk = LIST_ENTRY(node, struct chunk, link);
	else if (pool->n_fresh < pool->n_chunks)
		chunk = (struct chunk *)(void *)(pool->base + (size_t)pool->n_fresh++ * POOL_CHUNK);
	else
		return NULL;
	list_init(&chunk->link);
	chunk->off = chunk->len = 0;
	chunk->home = pool;
	pool->n_used++;
	return chunk;
}

static void return_home(struct chunk *chunk)
{
	_Atomic(struct list *) *returned = &chunk->home->returned;

	chunk->link.next = atomic_load_explicit(returned, memory_order_relaxed);
	while (!atomic_compare_exchange_weak_explicit(returned, &chunk->link.next, &chunk->link,
						      memory_order_release, memory_order_relaxed))
		;
}

void pool_give(struct pool *pool, struct chunk *chunk)
{
	list_remove(&chunk->link);
	if (chunk->home != pool) {
		return_home(chunk);
		return;
	}
	/* The newest first: its page is warm. */
	chunk->link.next = pool->free.next;
	chunk->link.prev = &pool->free;
	pool->free.next->prev = &chunk->link;
	pool->free.next = &chunk->link;
	pool->n_used--;
}

void pool_collect(struct pool *pool)
{
	struct list *node, *next;

	if (!atomic_load_explicit(&pool->returned, memory_order_relaxed))
		return;
	node = atomic_exchange_explicit(&pool->returned, NULL, memory_order_acquire);
	for (; node; node = next) {
		next = node->next;
		list_init(node);
		pool_give(pool, LIST_ENTRY(node, struct chunk, link));
	}
}
