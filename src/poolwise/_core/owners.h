/* owners.h: which thread owns which locals, on builds without the GIL.
 *
 * A thread that ends has no Python any more when we hear of it: so it only says that its locals
 * have no owner now (owner = NULL), and whoever next looks through the pool takes what they hold,
 * or the whole local. The same for the threads that a fork leaves behind.
 * Static, since threads and forks are the process's own. The lock is a leaf: nothing is called
 * while it is held. */
#ifndef PW_OWNERS_H
#define PW_OWNERS_H

#include <pthread.h>
#include <stdlib.h>

#include "local.h"

struct pw_owner {
    pw_local *locals;
    pw_owner *prev, *next;
};

static pthread_mutex_t pw_owners_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_once_t pw_owners_once = PTHREAD_ONCE_INIT;
static pthread_key_t pw_owners_key;
static pw_owner *pw_owners;
static uint64_t pw_owner_deaths; /* written under the lock, read without */

/* The lock is held. */
static inline void
pw_owner_leave(pw_owner *owner)
{
    while (owner->locals != NULL) {
        pw_local *local = owner->locals;
        owner->locals = local->next_of_owner;
        local->owner = NULL;
    }
    if (owner->prev != NULL) {
        owner->prev->next = owner->next;
    } else {
        pw_owners = owner->next;
    }
    if (owner->next != NULL) {
        owner->next->prev = owner->prev;
    }
    pw_store_release(&pw_owner_deaths, pw_owner_deaths + 1);
    free(owner);
}

static inline void
pw_owner_ends(void *owner)
{
    pthread_mutex_lock(&pw_owners_lock);
    pw_owner_leave(owner);
    pthread_mutex_unlock(&pw_owners_lock);
}

static inline void
pw_owners_before_fork(void)
{
    pthread_mutex_lock(&pw_owners_lock);
}

static inline void
pw_owners_after_fork_parent(void)
{
    pthread_mutex_unlock(&pw_owners_lock);
}

static inline void
pw_owners_after_fork_child(void)
{
    pw_owner *self = pthread_getspecific(pw_owners_key);
    for (pw_owner *owner = pw_owners, *next; owner != NULL; owner = next) {
        next = owner->next;
        if (owner != self) {
            pw_owner_leave(owner);
        }
    }
    pthread_mutex_unlock(&pw_owners_lock);
}

static inline void
pw_owners_start(void)
{
    if (pthread_key_create(&pw_owners_key, pw_owner_ends) != 0) {
        abort(); /* 1,024 keys: nothing else in the process would work either */
    }
    pthread_atfork(pw_owners_before_fork, pw_owners_after_fork_parent, pw_owners_after_fork_child);
}

/* The calling thread; NULL: no memory. */
static inline pw_owner *
pw_owner_current(void)
{
    pthread_once(&pw_owners_once, pw_owners_start);
    pw_owner *owner = pthread_getspecific(pw_owners_key);
    if (owner != NULL) {
        return owner;
    }
    owner = calloc(1, sizeof(*owner));
    if (owner == NULL || pthread_setspecific(pw_owners_key, owner) != 0) {
        free(owner);
        return NULL;
    }
    pthread_mutex_lock(&pw_owners_lock);
    owner->next = pw_owners;
    if (pw_owners != NULL) {
        pw_owners->prev = owner;
    }
    pw_owners = owner;
    pthread_mutex_unlock(&pw_owners_lock);
    return owner;
}

static inline void
pw_local_give_to(pw_local *local, pw_owner *owner)
{
    pthread_mutex_lock(&pw_owners_lock);
    local->owner = owner;
    local->next_of_owner = owner->locals;
    owner->locals = local;
    pthread_mutex_unlock(&pw_owners_lock);
}

static inline pw_owner *
pw_local_owner(pw_local *local)
{
    pthread_mutex_lock(&pw_owners_lock);
    pw_owner *owner = local->owner;
    pthread_mutex_unlock(&pw_owners_lock);
    return owner;
}

/* Its pool ends. */
static inline void
pw_local_disown(pw_local *local)
{
    pthread_mutex_lock(&pw_owners_lock);
    if (local->owner != NULL) {
        pw_local **link = &local->owner->locals;
        while (*link != local) {
            link = &(*link)->next_of_owner;
        }
        *link = local->next_of_owner;
        local->owner = NULL;
    }
    pthread_mutex_unlock(&pw_owners_lock);
}

#endif
