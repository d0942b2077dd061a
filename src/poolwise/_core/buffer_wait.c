/* buffer_wait.c: waiting for a block, at most so long.
 *
 * While somebody waits, every class is careful, so that a release looks for waiters; else a
 * release knows nothing of them. */
#include "buffer.h"

static pw_found
find_or_queue(pw_buffer_pool *self, size_t n, pw_block **block, bool *hit, pw_waiter *waiter)
{
    pw_found found = PW_FULL;
    Py_BEGIN_CRITICAL_SECTION(self);
    if (!self->closed) {
        found = pw_find_block(self, n, block, hit);
    }
    if (found == PW_FULL && !self->closed) {
        pw_waiters_add(&self->waiters, waiter);
        pw_set_careful(self);
        if (PW_ATOMICS) { /* what came back to a front before it heard of us */
            found = pw_find_block(self, n, block, hit);
        }
    }
    if (found == PW_FOUND) {
        pw_waiters_remove(&self->waiters, waiter);
        pw_set_careful(self);
    }
    Py_END_CRITICAL_SECTION();
    return found;
}

static void
leave_queue(pw_buffer_pool *self, pw_waiter *waiter)
{
    Py_BEGIN_CRITICAL_SECTION(self);
    pw_waiters_remove(&self->waiters, waiter);
    pw_set_careful(self);
    Py_END_CRITICAL_SECTION();
}

pw_found
pw_wait_for_block(pw_buffer_pool *self, size_t n, pw_block **block, bool *hit)
{
    pw_waiter waiter = {.woken = PyThread_allocate_lock()};
    if (waiter.woken == NULL) {
        PyErr_NoMemory();
        return PW_FULL;
    }
    PyThread_acquire_lock(waiter.woken, NOWAIT_LOCK);
    double until = pw_monotonic_seconds() + self->wait_seconds;
    pw_found found;
    while ((found = find_or_queue(self, n, block, hit, &waiter)) == PW_FULL && !self->closed) {
        double left = until - pw_monotonic_seconds();
        PyLockStatus status = PY_LOCK_FAILURE;
        if (left > 0) {
            Py_BEGIN_ALLOW_THREADS;
            status = PyThread_acquire_lock_timed(waiter.woken, (PY_TIMEOUT_T)(left * 1e6) + 1, 1);
            Py_END_ALLOW_THREADS;
        }
        leave_queue(self, &waiter);
        PyThread_acquire_lock(waiter.woken, NOWAIT_LOCK); /* woken while we gave up */
        if (left <= 0 || (status == PY_LOCK_INTR && PyErr_CheckSignals() < 0)) {
            break;
        }
    }
    PyThread_release_lock(waiter.woken);
    PyThread_free_lock(waiter.woken);
    return found;
}
