/* pool.h: what the files of Pool share: pool.c (get, put, life), pool_checks.c, pool_trim.c,
 * pool_lease.c, pool_report.c.
 *
 *   get looks in   own local: private, shared > other locals: steal > depot > held > victim
 *   depot          what belongs to no thread: moved here by a trim, or left by a dead thread
 *   held           met while somebody else still held it; looked at again before a miss, at trims
 *   victim         what was idle at the last trim of policy `victim`
 * Hits touch the caller's local alone. All else happens in the pool's critical section (with the
 * GIL there is none to enter). Python code can run at every call of the factory, of reset, of a
 * checker and at every decref: so the structure is whole before any of these, which come outside
 * the section: detach first, release outside. */
#ifndef PW_POOL_H
#define PW_POOL_H

#include "module.h"
#include "reason.h"

#if PW_ATOMICS
#include "owners.h"
#endif

enum { PW_HELD_MAX = 32, PW_LOOK_MAX = 8, PW_PINS_MAX = 3, PW_BATCH = 64, PW_SPARE_LEASES_MAX = 8 };

typedef enum { PW_DEMAND, PW_VICTIM, PW_AGED, PW_CLEAR } pw_policy;

typedef struct {
    PyObject *item;
    unsigned pins; /* trims that found it held */
} pw_held;

typedef struct pw_lease pw_lease;
typedef struct pw_pool pw_pool;

struct pw_pool {
    PyObject_HEAD
#if PW_ATOMICS
        uint64_t serial; /* of all pools that ever were; constant */
    pw_local *locals;    /* linked by `next`; only ever grows */
    uint64_t deaths_seen;
    pw_fork_lock fork_lock;
#else
        pw_local local;
#endif
    PyTypeObject *made; /* the type last seen; borrowed from known_types */
    bool careful;       /* put has more to do: a reset, a tiny max_idle, or the timer to start */
    bool any_type;      /* the factory makes too many types to tell a foreign one */
    bool watched;       /* the timer knows us */
    size_t max_idle;    /* constant until tp_clear */
    pw_lease *spare;    /* dead leases, linked by `next`; with the GIL only */
    unsigned spare_count;

    pw_queue depot, victim; /* their owner is whoever is in the critical section */
    size_t held_count;
    pw_held held[PW_HELD_MAX];

    uint64_t hits_depot, hits_held, hits_victim, misses_empty, misses_held;
    /* Made by us and not dropped: out = circulating - idle - held. It rises only at misses, when
     * nothing is free: so its peak is that of what was out, or put and still held. */
    int64_t circulating, high_water;
    uint64_t full, rejected, failed, abandoned, unlucky, pinned_dropped, cleared;
    uint64_t trims[PW_REASONS], evictions[PW_REASONS];
    uint64_t gets_at_trim;
    uint64_t pinned; /* held at the last trim */
    uint64_t regret, waste;
    uint64_t regrettable; /* evictions of the last trim that no miss has yet followed */

    pw_policy policy;    /* constant */
    double trim_seconds; /* constant; 0: no timer */
    size_t max_age;      /* constant; trims */
    size_t *lows;        /* policy `aged`: what was idle all through each of the last max_age */

    PyObject *checker;         /* or NULL; constant until tp_clear */
    PyObject *tracked;         /* the checker's dict of what it tracks, by id */
    unsigned every, until_got; /* one get in how many; how many until the next deeper one */
    bool put_due;              /* the next put is shown to the checker, whatever it puts */
    uint64_t interval_state;
    uint64_t tracked_filter; /* a bit for each object the checker tracks, by address */
    uint64_t filter_sets;    /* how often it was added to */

    PyObject *factory, *reset, *name; /* constant until tp_clear */
    PyObject *known_types;            /* list */
    PyObject *pinned_types;           /* dict: class name to how many were dropped; or NULL */
    PyObject *weakrefs;
};

struct pw_lease {
    PyObject_HEAD pw_pool *pool;
    PyObject *object; /* NULL: not entered */
    pw_lease *next;
};

/* Items that have left the pool, and wait to be released outside. */
typedef struct {
    size_t count;
    PyObject *items[PW_BATCH];
} pw_batch;

/* The ownership test. Weak references count as somebody: they could revive it for another. The
 * count comes first: an object that only we refer to can get no new weak reference. */
static inline bool
pw_is_sole(void *item)
{
    return pw_has_one_reference((PyObject *)item) && !pw_has_weakrefs(item);
}

/* ---- locals ---- */

#if PW_ATOMICS

static inline pw_local *
pw_first_local(const pw_pool *self)
{
    return pw_load_acquire(&self->locals);
}

/* Whether the calling thread may touch the private part. */
static inline bool
pw_may_touch(pw_local *local)
{
    pw_owner *owner = pw_owner_of(&local->owned);
    return owner == NULL || owner == pw_owner_current();
}

#else

static inline pw_local *
pw_first_local(pw_pool *self)
{
    return &self->local;
}

static inline bool
pw_may_touch(pw_local *Py_UNUSED(local))
{
    return true;
}

#endif

static inline uint64_t
pw_pool_misses(const pw_pool *self)
{
    return self->misses_empty + self->misses_held;
}

uint64_t pw_pool_gets(pw_pool *self);
size_t pw_pool_idle(pw_pool *self);

/* ---- pool.c ---- */

PyObject *pw_pool_get(pw_pool *self, PyObject *ignored);
PyObject *pw_pool_put(pw_pool *self, PyObject *object);

/* Tells every local what put and get have to do. In the critical section. */
void pw_pool_tell_locals(pw_pool *self);

/* ---- pool_checks.c ---- */

/* Gives the pool its checker, if it is to have one; 0, or -1 with an exception set. */
int pw_start_checks(pw_pool *self, PyObject *checks);
/* Sets the private hit that will be shown; in the critical section. */
void pw_plan_check(pw_pool *self, pw_local *local);
bool pw_check_is_due(pw_pool *self, pw_local *local, bool private);
int pw_check_got(pw_pool *self, PyObject *object, bool hit);
bool pw_put_is_due(pw_pool *self, PyObject *object);
int pw_check_put(pw_pool *self, pw_local *local, PyObject *object);
void pw_check_dropped(pw_pool *self, PyObject *object);

/* ---- pool_trim.c ---- */

/* In the critical section: keeps an item that belongs to no thread; what somebody holds is put
 * aside. Where there is no room it joins the batch, which must have some. */
void pw_pool_set_aside(pw_pool *self, PyObject *item, unsigned pins, pw_batch *leaving);
pw_held pw_pool_unhold(pw_pool *self, size_t at);
void pw_batch_release(pw_batch *batch);
/* Counts the classes of pinned objects by name, and releases them. */
void pw_batch_release_pinned(pw_pool *self, pw_batch *batch);
/* Everything idle and held that the caller may touch; how many. */
size_t pw_pool_release_all(pw_pool *self, bool nobody_else);
PyObject *pw_pool_trim(pw_pool *self, PyObject *const *args, Py_ssize_t count);
PyObject *pw_pool_clear(pw_pool *self, PyObject *ignored);

/* ---- pool_lease.c ---- */

PyObject *pw_pool_lease(pw_pool *self, PyObject *ignored);
void pw_pool_free_spare_leases(pw_pool *self);

/* ---- pool_report.c ---- */

PyObject *pw_pool_stats(pw_pool *self, PyObject *ignored);
PyObject *pw_pool_locals(pw_pool *self, PyObject *ignored);

#endif
