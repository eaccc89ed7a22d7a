/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */
#ifndef BULKHEAD_LIB_SPINLOCK_H
#define BULKHEAD_LIB_SPINLOCK_H

#include "lib/types.h"

/* A ticket lock: first come, first served. Interrupts are off in host mode, so it needs no
 * variant that turns them off. Order of locks: vm->lock, then mailbox_lock, then the frame
 * allocator's, then the log's. */
struct spinlock {
    u16 next;
    u16 serving;
};

static inline void spin_lock(struct spinlock *lock)
{
    u16 ticket = __atomic_fetch_add(&lock->next, 1, __ATOMIC_RELAXED);

    while (__builtin_expect(__atomic_load_n(&lock->serving, __ATOMIC_ACQUIRE) != ticket, 0))
        __asm__ volatile("pause");
}

static inline void spin_unlock(struct spinlock *lock)
{
    __atomic_store_n(&lock->serving, (u16)(lock->serving + 1), __ATOMIC_RELEASE);
}

#endif
