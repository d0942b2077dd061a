/* sampler.h: what the hooks (allocators, numpy, constructions) share with the sampler. */
#ifndef PW_SAMPLER_H
#define PW_SAMPLER_H

#include "compat.h"
#include "sample_table.h"

#include <stdint.h>

/* How much of the gap to the next sample an allocation uses up; it is sampled with probability
 * 1 - exp(-span / rate). Not its bytes alone: a constant keeps small objects that churn from being
 * starved, and each whole 16 KiB counts 17 times, since blocks of several pages are few, are the
 * ones that fault, and a missed one weighs heavily. Any span is unbiased; this one has no branch.
 */
#define PW_SPAN_CONSTANT 256

static inline int64_t
pw_span(size_t bytes)
{
    return (int64_t)(bytes + PW_SPAN_CONSTANT + ((bytes & ~(size_t)0x3fff) << 4));
}

enum {
    PW_DOMAIN_OBJECT,
    PW_DOMAIN_MEMORY,
    PW_DOMAIN_NUMPY,
    PW_DOMAIN_CONSTRUCTION,
    PW_DOMAIN_NATIVE,
    PW_DOMAIN_RAW,
};

/* Every thread's own; initial-exec storage, so it must stay small (traps: under 100 bytes). */
typedef struct {
    int64_t left;       /* span to the next sample */
    void *zeroed;       /* what this thread's last calloc gave */
    uint64_t volume;    /* bytes this thread allocated */
    uint64_t published; /* the part of it that is in the global volume */
    uint64_t random;
    double rate; /* mean gap under which `left` was drawn; 0: not set up */
    void *fresh; /* what the object domain gave last; kept only while objects are counted */
    uint32_t id;
    uint32_t probing;   /* the next sample is our own look whether the hook is still there */
    uint32_t stackless; /* its stack is being exchanged: there is none to be read */
} pw_thread;

extern __thread pw_thread pw_self __attribute__((tls_model("initial-exec")));

#define PW_LIKELY(x) __builtin_expect(!!(x), 1)
#define PW_UNLIKELY(x) __builtin_expect(!!(x), 0)

void pw_sample_birth(void *block, size_t bytes, int domain);
void pw_sample_death(void *block);

/* A few additions and two branches for an allocation that is not sampled. A refused one is none:
 * its size may be anything. */
static inline void
pw_allocated(void *block, size_t bytes, int domain)
{
    if (PW_UNLIKELY(block == NULL)) {
        return;
    }
    pw_self.volume += bytes;
    if (PW_UNLIKELY((pw_self.left -= pw_span(bytes)) < 0)) {
        pw_sample_birth(block, bytes, domain);
    }
}

/* One byte load for the free of a block that is not sampled. */
static inline void
pw_freeing(void *block)
{
    if (PW_UNLIKELY(pw_filter_maybe(block))) {
        pw_sample_death(block);
    }
}

/* recorder.c: writes what is in the buffers, before the process becomes another. */
void pw_flush(void);
/* recorder.c: ends the recording, before the process does. */
void pw_finish(void);

/* constructions.c */
int pw_constructions_install(PyObject *metaclasses);
/* What a timed class call found; called with the GIL. */
void pw_sample_construction(PyObject *object, PyTypeObject *type, uint64_t arguments, double weight,
                            uint64_t start_ns, uint64_t duration_ns);
/* Whether class calls are timed now, in this thread. */
int pw_sampling_constructions(void);
/* From 1 up: how much more rarely than their cost allows, to keep under the ceiling. */
double pw_construction_factor(void);

/* library_hooks.c: hooks every library loaded since the last call. */
void pw_hook_libraries(void);

static inline uint64_t
pw_clock_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * UINT64_C(1000000000) + (uint64_t)now.tv_nsec;
}

/* What this thread has computed: durations by it do not count waiting for a processor. */
static inline uint64_t
pw_cpu_clock_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (uint64_t)now.tv_sec * UINT64_C(1000000000) + (uint64_t)now.tv_nsec;
}

#endif
