/* owners.h: which thread owns which parts of pools, on builds without the GIL.
 *
 * A thread that ends has no Python any more when we hear of it: so it only says that its parts
 * have no owner now (owner = NULL), and whoever next looks through the pool takes what they hold,
 * or the whole part. The same for the threads that a fork leaves behind.
 * The registry is static, since threads and forks are the process's own. Its lock is a leaf:
 * nothing is called while it is held. */
#ifndef PW_OWNERS_H
#define PW_OWNERS_H

#include <stdint.h>

#include "atomics.h"

typedef struct pw_owner pw_owner;
typedef struct pw_owned pw_owned;

/* In a part of a pool that one thread owns. Guard: the registry's lock. */
struct pw_owned {
    pw_owner *owner; /* NULL: its thread is dead */
    pw_owned *next_of_owner;
};

/* How many threads have left parts behind; read without the lock. */
extern uint64_t pw_owner_deaths;

/* The calling thread; NULL: no memory. */
pw_owner *pw_owner_current(void);

pw_owner *pw_owner_of(pw_owned *part);
void pw_give_to(pw_owned *part, pw_owner *owner);

/* Its pool ends. */
void pw_disown(pw_owned *part);

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
