/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The only door to liburcu: its QSBR flavour, with the small functions inlined. A thread that looks
 * up is registered, announces one quiescent state per loop and is offline while it blocks; only the
 * control thread waits for a grace period.
 *
 * ThreadSanitizer does not see through liburcu's barriers (they are built from atomics in a library
 * that it did not compile), hence the notes: publish before making a thing reachable, lookup after
 * finding it, reclaim before using its memory again, done at the end of a callback of call_rcu().
 * The readers' half of a grace period, that they announced having let go of everything, needs no
 * notes: under ThreadSanitizer the announcements themselves leave one at liburcu's own word for
 * grace periods. rcu_barrier() finds there what the callbacks have done.
 */
#pragma once

#define RCU_QSBR		    1
#define URCU_INLINE_SMALL_FUNCTIONS 1
#include <urcu-qsbr.h>
#include <urcu/rculfhash.h>
#include <urcu/wfcqueue.h>

#if defined(__SANITIZE_THREAD__)
#define RCU_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define RCU_TSAN 1
#endif
#endif

#ifdef RCU_TSAN
extern struct urcu_gp urcu_qsbr_gp; /* liburcu's headers hide it without its inline functions */
void __tsan_acquire(void *addr);
void __tsan_release(void *addr);
#define RCU_NOTE_PUBLISH(addr) __tsan_release((void *)(addr))
#define RCU_NOTE_LOOKUP(addr)  __tsan_acquire((void *)(addr))
#define RCU_NOTE_RECLAIM(addr) (__tsan_acquire(&urcu_qsbr_gp), __tsan_acquire((void *)(addr)))
#define RCU_NOTE_DONE()	       __tsan_release(&urcu_qsbr_gp)
#undef rcu_assign_pointer
#undef rcu_barrier
#undef rcu_quiescent_state
#undef rcu_thread_offline
#define rcu_assign_pointer(p, v) __atomic_store_n(&(p), (v), __ATOMIC_RELEASE)
#define rcu_barrier()		 (urcu_qsbr_barrier(), __tsan_acquire(&urcu_qsbr_gp))
#define rcu_quiescent_state()	 (__tsan_release(&urcu_qsbr_gp), urcu_qsbr_quiescent_state())
#define rcu_thread_offline()	 (__tsan_release(&urcu_qsbr_gp), urcu_qsbr_thread_offline())
#else
#define RCU_NOTE_PUBLISH(addr) ((void)(addr))
#define RCU_NOTE_LOOKUP(addr)  ((void)(addr))
#define RCU_NOTE_RECLAIM(addr) ((void)(addr))
#define RCU_NOTE_DONE()	       ((void)0)
#endif
