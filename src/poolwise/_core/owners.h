/* owners.h: which thread owns which locals, on builds without the GIL.
 *
 * A thread that ends has no Python any more when we hear of it: so it only says that its locals
 * have no owner now (owner = NULL), and whoever next looks through the pool takes what they hold,
 * or the whole local. The same for the threads that a fork leaves behind.
 * The registry is static, since threads and forks are the process's own. Its lock is a leaf:
 * nothing is called while it is held. */
#ifndef PW_OWNERS_H
#define PW_OWNERS_H

#include "local.h"

/* How many threads have left locals behind; read without the lock. */
extern uint64_t pw_owner_deaths;

/* The calling thread; NULL: no memory. */
pw_owner *pw_owner_current(void);

pw_owner *pw_local_owner(pw_local *local);
void pw_local_give_to(pw_local *local, pw_owner *owner);

/* Its pool ends. */
void pw_local_disown(pw_local *local);

/* A pool's lock, one byte. At a fork a thread that waits for it may have been handed it, without
 * having begun: in the child that thread is no more, and the child opens the lock. */
typedef struct pw_fork_lock pw_fork_lock;

struct pw_fork_lock {
    void *lock; /* NULL: not known here */
    pw_fork_lock *prev, *next;
};

void pw_fork_lock_add(pw_fork_lock *self, void *lock);
void pw_fork_lock_remove(pw_fork_lock *self);

#endif
