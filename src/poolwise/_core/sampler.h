/* sampler.h: what the hooks (allocators, numpy, constructions) share with the sampler. */
#ifndef PW_SAMPLER_H
#define PW_SAMPLER_H

#include "compat.h"
#include "decision.h"

enum {
    PW_DOMAIN_OBJECT,
    PW_DOMAIN_MEMORY,
    PW_DOMAIN_NUMPY,
    PW_DOMAIN_CONSTRUCTION,
    PW_DOMAIN_NATIVE,
    PW_DOMAIN_RAW,
};

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
