/* local.h: the part of a pool that one thread owns. With the GIL a pool has one for all threads.
 *
 *   private  newest, second   owner only; two deep, since in the loop that everybody writes the
 *                             caller's variable still holds the newest at the next get
 *   shared   a queue.h        owner pushes and pops the newest; others steal the oldest
 * Take out first, then look: an item is nobody's between the two. Put in last, in this order of
 * stores: what a fork leaves half done in another thread's local may lose an item, never show it
 * twice.
 * Counters of the owner are read by others for reports: hence the relaxed stores. */
#ifndef PW_LOCAL_H
#define PW_LOCAL_H

#include <stdint.h>

#include "owners.h"
#include "queue.h"

typedef struct pw_local pw_local;

struct pw_local {
    void *newest;
    void *second;
    const void *accepts; /* the type of what put keeps as it is; NULL: put has more to do */
    uint64_t hits_private;
    uint64_t check_at; /* which private hit is shown to the checker; UINT64_MAX: none */
    bool narrow;       /* max_idle leaves no room for a private part */
    uint64_t hits_shared, hits_stolen;
    pw_queue shared;
    pw_local *next; /* of the same pool; constant */
    pw_owned owned;
};

/* Whether nobody but the pool has the item. */
typedef bool pw_is_free(void *item);

/* A counter that one thread writes. */
#define pw_count(at) pw_store_relaxed(at, pw_load_relaxed(at) + 1)

static inline size_t
pw_local_private(const pw_local *local)
{
    return (size_t)(pw_load_relaxed(&local->newest) != NULL) +
           (size_t)(pw_load_relaxed(&local->second) != NULL);
}

static inline size_t
pw_local_idle(const pw_local *local)
{
    return pw_local_private(local) + pw_queue_length(&local->shared);
}

static inline bool
pw_local_check(const pw_local *local)
{
    return pw_queue_check(&local->shared);
}

/* The newest that is free, of the two private ones; NULL: neither. */
static inline void *
pw_local_pop_private_owner(pw_local *local, pw_is_free *is_free)
{
    void *item = pw_load_relaxed(&local->newest);
    if (PW_LIKELY(item != NULL)) {
        pw_store_relaxed(&local->newest, NULL);
        if (is_free(item)) {
            return item;
        }
        pw_store_relaxed(&local->newest, item);
    }
    item = pw_load_relaxed(&local->second);
    if (PW_LIKELY(item != NULL)) {
        pw_store_relaxed(&local->second, NULL);
        if (is_free(item)) {
            return item;
        }
        pw_store_relaxed(&local->second, item);
    }
    return NULL;
}

/* Makes `item` the newest, if the private part has room. */
static inline bool
pw_local_push_private_owner(pw_local *local, void *item)
{
    void *newest = pw_load_relaxed(&local->newest);
    if (newest == NULL) {
        pw_store_relaxed(&local->newest, item);
        return true;
    }
    if (pw_load_relaxed(&local->second) != NULL) {
        return false;
    }
    pw_store_relaxed(&local->newest, item);
    pw_store_relaxed(&local->second, newest);
    return true;
}

/* Makes `item` the newest, and the second of a full private part shared. False: no memory, and
 * nothing has changed. */
static inline bool
pw_local_push_owner(pw_local *local, void *item)
{
    if (pw_local_push_private_owner(local, item)) {
        return true;
    }
    void *newest = pw_load_relaxed(&local->newest), *second = pw_load_relaxed(&local->second);
    pw_store_relaxed(&local->second, NULL);
    if (!pw_queue_push_owner(&local->shared, second)) {
        pw_store_relaxed(&local->second, second);
        return false;
    }
    pw_store_relaxed(&local->newest, item);
    pw_store_relaxed(&local->second, newest);
    return true;
}

/* One of the private part, the older first; NULL: it is empty. Only where its owner cannot be at
 * work: with the GIL, or when its thread is dead. */
static inline void *
pw_local_take_private(pw_local *local)
{
    void **from = local->second != NULL ? &local->second : &local->newest;
    void *item = *from;
    pw_store_relaxed(from, NULL);
    return item;
}

#endif
