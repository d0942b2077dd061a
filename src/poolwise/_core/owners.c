/* owners.c: see owners.h. Without a Python call, so that a driver can include it alone. */
#ifndef PW_ATOMICS
#include <pyconfig.h> /* Py_GIL_DISABLED, and no more of Python */
#endif

#include "owners.h"

#if PW_ATOMICS

#include <pthread.h>
#include <stdlib.h>

struct pw_owner {
    pw_owned *parts;
    pw_owner *prev, *next;
};

static pthread_mutex_t owners_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_once_t owners_once = PTHREAD_ONCE_INIT;
static pthread_key_t owners_key;
static pw_owner *owners;
static pw_fork_lock *fork_locks;
uint64_t pw_owner_deaths; /* written under the lock, read without */

/* The lock is held. */
static void
leave(pw_owner *owner)
{
    while (owner->parts != NULL) {
        pw_owned *part = owner->parts;
        owner->parts = part->next_of_owner;
        part->owner = NULL;
    }
    if (owner->prev != NULL) {
        owner->prev->next = owner->next;
    } else {
        owners = owner->next;
    }
    if (owner->next != NULL) {
        owner->next->prev = owner->prev;
    }
    pw_store_release(&pw_owner_deaths, pw_owner_deaths + 1);
    free(owner);
}

static void
thread_ends(void *owner)
{
    pthread_mutex_lock(&owners_lock);
    leave(owner);
    pthread_mutex_unlock(&owners_lock);
}

static void
before_fork(void)
{
    pthread_mutex_lock(&owners_lock);
}

static void
after_fork_parent(void)
{
    pthread_mutex_unlock(&owners_lock);
}

static void
after_fork_child(void)
{
    pw_owner *self = pthread_getspecific(owners_key);
    for (pw_owner *owner = owners, *next; owner != NULL; owner = next) {
        next = owner->next;
        if (owner != self) {
            leave(owner);
        }
    }
    for (pw_fork_lock *each = fork_locks; each != NULL; each = each->next) {
        *(unsigned char *)each->lock = 0;
    }
    pthread_mutex_unlock(&owners_lock);
}

static void
start(void)
{
    if (pthread_key_create(&owners_key, thread_ends) != 0) {
        abort(); /* 1,024 keys: nothing else in the process would work either */
    }
    pthread_atfork(before_fork, after_fork_parent, after_fork_child);
}

pw_owner *
pw_owner_current(void)
{
    pthread_once(&owners_once, start);
    pw_owner *owner = pthread_getspecific(owners_key);
    if (owner != NULL) {
        return owner;
    }
    owner = calloc(1, sizeof(*owner));
    if (owner == NULL || pthread_setspecific(owners_key, owner) != 0) {
        free(owner);
        return NULL;
    }
    pthread_mutex_lock(&owners_lock);
    owner->next = owners;
    if (owners != NULL) {
        owners->prev = owner;
    }
    owners = owner;
    pthread_mutex_unlock(&owners_lock);
    return owner;
}

void
pw_give_to(pw_owned *part, pw_owner *owner)
{
    pthread_mutex_lock(&owners_lock);
    part->owner = owner;
    part->next_of_owner = owner->parts;
    owner->parts = part;
    pthread_mutex_unlock(&owners_lock);
}

pw_owner *
pw_owner_of(pw_owned *part)
{
    pthread_mutex_lock(&owners_lock);
    pw_owner *owner = part->owner;
    pthread_mutex_unlock(&owners_lock);
    return owner;
}

void
pw_disown(pw_owned *part)
{
    pthread_mutex_lock(&owners_lock);
    if (part->owner != NULL) {
        pw_owned **link = &part->owner->parts;
        while (*link != part) {
            link = &(*link)->next_of_owner;
        }
        *link = part->next_of_owner;
        part->owner = NULL;
    }
    pthread_mutex_unlock(&owners_lock);
}

void
pw_fork_lock_add(pw_fork_lock *self, void *lock)
{
    pthread_once(&owners_once, start);
    pthread_mutex_lock(&owners_lock);
    *self = (pw_fork_lock){.lock = lock, .next = fork_locks};
    if (fork_locks != NULL) {
        fork_locks->prev = self;
    }
    fork_locks = self;
    pthread_mutex_unlock(&owners_lock);
}

void
pw_fork_lock_remove(pw_fork_lock *self)
{
    pthread_mutex_lock(&owners_lock);
    if (self->lock != NULL) {
        *(self->prev != NULL ? &self->prev->next : &fork_locks) = self->next;
        if (self->next != NULL) {
            self->next->prev = self->prev;
        }
        self->lock = NULL;
    }
    pthread_mutex_unlock(&owners_lock);
}

#endif
