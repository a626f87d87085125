/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The threads as clang capabilities: a declaration that ends in ON_SHARD may only be called by code
 * that is known to run in a shard's context (its own thread, or a reader that has entered the
 * shard), and so on. gcc sees nothing of this; clang's -Wthread-safety refuses a call on the wrong
 * thread. Thread entry points and handlers that are called through a table state their role with
 * role_is_*().
 */
#pragma once

#if defined(__clang__)
#define THREAD_ATTR(x) __attribute__((x))
#else
#define THREAD_ATTR(x)
#endif

struct THREAD_ATTR(capability("role")) thread_role {
	char unused;
};

/* Declared for the attributes alone: never defined, never referenced by code. */
extern struct thread_role role_shard, role_reader, role_control;

#define ON_SHARD   THREAD_ATTR(requires_capability(role_shard))
#define ON_READER  THREAD_ATTR(requires_capability(role_reader))
#define ON_CONTROL THREAD_ATTR(requires_capability(role_control))

static inline void role_is_shard(void) THREAD_ATTR(assert_capability(role_shard))
{
}

static inline void role_is_reader(void) THREAD_ATTR(assert_capability(role_reader))
{
}

static inline void role_is_control(void) THREAD_ATTR(assert_capability(role_control))
{
}
