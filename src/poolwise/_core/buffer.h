/* buffer.h: what the files of BufferPool share.
 *
 *   buffer.c          Buffer, acquire and release: the hot paths
 *   buffer_blocks.c   where a block comes from when none is idle, and what a careful return does
 *   buffer_front.c    what each thread keeps at hand, without the GIL
 *   buffer_wait.c     waiting for a block, at most so long
 *   buffer_settings.c the arguments of a pool
 *   buffer_pool.c     the life, trims and figures of a pool
 *
 * Guard of every field without another one: the GIL, or the pool's critical section. */
#ifndef PW_BUFFER_H
#define PW_BUFFER_H

#include "module.h"
#include "reason.h"

#include "blocks.h"
#include "waiters.h"

#if PW_ATOMICS
#include "owners.h"
#endif

typedef enum { PW_CLEAR_NEVER, PW_CLEAR_ACQUIRE, PW_CLEAR_RELEASE } pw_clear_when;
typedef enum { PW_CHECKS_OFF, PW_CHECKS_SAMPLE, PW_CHECKS_STRICT } pw_checks;
typedef enum { PW_FULL_FALLBACK, PW_FULL_RAISE, PW_FULL_WAIT } pw_when_full;

typedef struct pw_buffer pw_buffer;
typedef struct pw_front pw_front;

enum { PW_BAD_STREAK = 8 }; /* leases in a row that make a class badly used */

#define PW_ALL_USED SIZE_MAX /* nothing was told: all of it */

/* What a hit needs is on the first line. */
typedef struct {
    PyObject_HEAD size_t
        size_limit;      /* max_size; 0 where acquire has more to do: clear, check, or closed */
    pw_class **by_index; /* constant: the first class that may serve a size of this index */
    pw_buffer *spare;    /* dead Buffers, linked by `next` */
    uint64_t hits;
    uint64_t check_at; /* checks="sample": from this many hits on, acquire looks */
    bool orphaned;     /* no reference is left: memory goes with the last Buffer */
    bool closed, watched, change_warned, advice_warned;

    pw_class *classes;          /* constant, as the next three are */
    size_t class_count;         /* of `classes`, by rising capacity */
    size_t max_size, max_bytes; /* bytes */
    size_t warm_bytes;          /* out, idle and doomed: never above max_bytes */
    size_t buffers;             /* alive, spare ones included */
    uint64_t misses, too_big, over_budget, trimmed, waits, refused, corrupted;
    uint64_t trims[PW_REASONS];
    size_t fallbacks_out, fallbacks_high_water, fallback_bytes; /* beside the budget */

    unsigned tries;   /* looks left for a poisoned block */
    pw_class outside; /* the class of all fallbacks; always careful */
    pw_class special; /* what a block out is of, where its return needs care; always careful */
    pw_waiters waiters;

    /* constant */
    double trim_seconds, wait_seconds;
    PyObject *name; /* an exact str */
    pw_clear_when clear;
    pw_checks checks;
    pw_when_full when_full;

    PyObject *weakrefs;
#if PW_ATOMICS
    uint64_t serial; /* of all pools that ever were; constant */
    pw_front *fronts;
    pw_fork_lock fork_lock;
#endif
} pw_buffer_pool;

struct pw_buffer {
    PyObject_HEAD pw_block *block; /* NULL: released */
    size_t size;
    Py_ssize_t views;
    pw_buffer_pool *pool; /* its memory, not a reference */
    pw_buffer *next;
    size_t used; /* PW_ALL_USED, or told: then the block's class is careful */
};

static inline void
pw_hand_out(pw_buffer *buffer, pw_block *block, size_t n)
{
    if (PW_UNLIKELY(block->capacity < n)) {
        Py_FatalError("poolwise: a block is smaller than what is asked of it");
    }
    buffer->block = block;
    buffer->size = n;
}

/* ---- buffer_settings.c ---- */

typedef struct {
    size_t max_size, max_bytes; /* bytes */
    size_t *capacities, count;  /* rising */
    double trim_seconds, wait_seconds;
    PyObject *name;
    int clear, checks, when_full; /* pw_clear_when, pw_checks, pw_when_full */
    bool huge;
} pw_buffer_settings;

/* 0, or -1 with an exception set; to be freed in either case. */
int pw_buffer_settings_read(pw_buffer_settings *self, PyObject *args, PyObject *kwargs);
void pw_buffer_settings_free(pw_buffer_settings *self);

/* ---- buffer_blocks.c: all under the guard ---- */

/* The class that serves sizes whose last offset is `last`. */
static inline pw_class *
pw_class_for(const pw_buffer_pool *self, size_t last)
{
    pw_class *cls = self->by_index[pw_class_index(last)];
    while (PW_UNLIKELY(cls->capacity <= last)) {
        cls++;
    }
    return cls;
}

typedef enum { PW_FOUND, PW_FULL, PW_NO_MEMORY } pw_found;

/* A block for n bytes: idle, doomed, cold, carved, or the fallback. `hit`: it was idle. */
pw_found pw_find_block(pw_buffer_pool *self, size_t n, pw_block **block, bool *hit);

/* Returns a block of a careful class. `buffer` tells how it was used; NULL: it never was out. */
void pw_return_carefully(pw_buffer_pool *self, pw_block *block, pw_buffer *buffer);

/* Where a block that is handed out was written to while it was idle, if that is known and so;
 * else its capacity. */
size_t pw_inspect_block(pw_buffer_pool *self, pw_block *block);

/* Cools doomed blocks until `bytes` are given back; how many bytes were. */
size_t pw_cool_doomed(pw_buffer_pool *self, size_t bytes);

/* Sets every class's `careful` as the pool's state asks. */
void pw_set_careful(pw_buffer_pool *self);

/* ---- buffer_front.c: with the GIL the pool itself is the only front ---- */

#if PW_ATOMICS
/* A hit of `last` + 1 bytes; NULL: there is more to do. */
pw_buffer *pw_front_acquire(pw_buffer_pool *self, size_t last);
/* Keeps a block that comes back, and a Buffer that died (either may be NULL). False: there is more
 * to do, and nothing has changed. */
bool pw_front_return(pw_buffer_pool *self, pw_block *block, pw_buffer *spare);

/* In the pool's section: halves what the caller's front has of this class, if it is full; fills
 * it up to a half. */
void pw_front_make_room(pw_buffer_pool *self, pw_class *cls);
void pw_front_refill(pw_buffer_pool *self, pw_class *cls);
/* In the pool's section: a block from any front, or all that they have. */
pw_block *pw_fronts_steal(pw_buffer_pool *self, const pw_class *cls);
void pw_fronts_empty(pw_buffer_pool *self);
size_t pw_fronts_idle(pw_buffer_pool *self, size_t class_index);
uint64_t pw_fronts_hits(pw_buffer_pool *self);
void pw_fronts_begin(pw_buffer_pool *self);
void pw_fronts_free(pw_buffer_pool *self);
#else
#define pw_front_make_room(self, cls) ((void)(self), (void)(cls))
#define pw_front_refill(self, cls) ((void)(self), (void)(cls))
#define pw_fronts_steal(self, cls) ((void)(self), (void)(cls), (pw_block *)NULL)
#define pw_fronts_empty(self) ((void)(self))
#define pw_fronts_idle(self, class_index) ((void)(self), (void)(class_index), (size_t)0)
#define pw_fronts_hits(self) ((void)(self), UINT64_C(0))
#define pw_fronts_begin(self) ((void)(self))
#define pw_fronts_free(self) ((void)(self))
#endif

/* ---- buffer_wait.c ---- */

/* As pw_find_block, and not under the guard: waits for a block, wait_seconds at most. PW_FULL
 * with an exception set: a signal's handler raised, or no lock could be had. */
pw_found pw_wait_for_block(pw_buffer_pool *self, size_t n, pw_block **block, bool *hit);

/* ---- buffer.c ---- */

extern PyType_Spec pw_buffer_spec;
PyObject *pw_acquire(pw_buffer_pool *self, PyObject *size);
void pw_free_buffer(pw_buffer *self);

/* ---- buffer_pool.c ---- */

/* Neither a reference nor a Buffer is left. */
void pw_free_buffer_pool(pw_buffer_pool *self);

#endif
