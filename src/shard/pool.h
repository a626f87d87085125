/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Buffer pool of one shard: chunks of POOL_CHUNK bytes for payload that outlives its batch. Mapped
 * at start and touched as used. Windows are promises of chunks: what a flow may still send is
 * reserved, so that payload inside an offered window always finds room.
 */
#pragma once

#include "list.h"

#include <stdatomic.h>
#include <stdint.h>
#include <sys/types.h>

#define POOL_CHUNK 4096u
#define POOL_DATA  (POOL_CHUNK - 32u)

/* A piece of a byte stream; position is the owner's to give a meaning (a TCP sequence number). */
struct chunk {
	struct list link;
	uint32_t seq;
	uint16_t off;	   /* first byte still wanted */
	uint16_t len;	   /* bytes from off on */
	struct pool *home; /* where it goes back to: its flow may have moved to another shard */
	uint8_t data[POOL_DATA];
};

_Static_assert(sizeof(struct chunk) == POOL_CHUNK, "a chunk is one page");

struct pool {
	uint8_t *base;
	uint32_t n_chunks;
	uint32_t n_fresh; /* chunks never used are at base + n_fresh * POOL_CHUNK and up */
	uint32_t n_used;
	uint64_t reserved; /* bytes promised and not used yet */
	struct list free;
	/* Chunks that other shards are done with, by link.next; they push with release, the pool's
	 * own shard takes all with acquire. */
	_Atomic(struct list *) returned;
};

/* bytes: rounded down to chunks. 0 or -errno. */
int pool_init(struct pool *pool, size_t bytes);
void pool_free(struct pool *pool);

/* A chunk, owned by the caller, with off and len 0; NULL if none is left. */
struct chunk *pool_take(struct pool *pool);
/* pool: the caller's own; the chunk may be of another. */
void pool_give(struct pool *pool, struct chunk *chunk);
/* Takes in what other shards have given back; once a loop. */
void pool_collect(struct pool *pool);

/* Bytes that are neither used nor promised. */
static inline uint64_t pool_unpromised(const struct pool *pool)
{
	uint64_t all = (uint64_t)pool->n_chunks * POOL_DATA;
	uint64_t gone = (uint64_t)pool->n_used * POOL_DATA + pool->reserved;

	return gone < all ? all - gone : 0;
}
