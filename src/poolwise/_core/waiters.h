/* waiters.h: threads that wait for a block.
 *
 * Each waits on a lock of its own; whoever gives a block back opens them all, and each looks
 * again. Guard of the list: as of the pool. The locks are only ever opened under it, and a waiter
 * leaves the list under it, so that none is opened after its waiter is gone. */
#ifndef PW_WAITERS_H
#define PW_WAITERS_H

#include "compat.h"

#include <stdbool.h>
#include <time.h>
#include <unistd.h>

typedef struct pw_waiter pw_waiter;

struct pw_waiter {
    PyThread_type_lock woken; /* held until somebody wakes us */
    bool queued;
    pw_waiter *next;
};

typedef struct {
    pw_waiter *first;
    pid_t process; /* after a fork, the waiters of the parent's threads are nobody */
} pw_waiters;

static inline void
pw_waiters_forget_those_of_a_parent(pw_waiters *self)
{
    if (self->process != getpid()) {
        self->first = NULL;
        self->process = getpid();
    }
}

static inline void
pw_waiters_add(pw_waiters *self, pw_waiter *waiter)
{
    pw_waiters_forget_those_of_a_parent(self);
    waiter->next = self->first;
    waiter->queued = true;
    self->first = waiter;
}

/* All, since what is too small for one may serve another. */
static inline void
pw_waiters_wake_all(pw_waiters *self)
{
    pw_waiters_forget_those_of_a_parent(self);
    for (pw_waiter *waiter; (waiter = self->first) != NULL;) {
        self->first = waiter->next;
        waiter->queued = false;
        PyThread_release_lock(waiter->woken);
    }
}

/* Out of the list, if it is still in there. */
static inline void
pw_waiters_remove(pw_waiters *self, pw_waiter *waiter)
{
    if (waiter->queued) {
        pw_waiter **at = &self->first;
        while (*at != waiter) {
            at = &(*at)->next;
        }
        *at = waiter->next;
        waiter->queued = false;
    }
}

static inline double
pw_monotonic_seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

#endif
