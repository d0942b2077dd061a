/* sampler.h: what the hooks (allocators, numpy, constructions) share with the sampler. */
#ifndef PW_SAMPLER_H
#define PW_SAMPLER_H

#include "compat.h"
#include "sample_table.h"

#include <stdint.h>

/* Added to the size of every allocation before sampling: sampling by bytes alone would starve the
 * small objects that churn. p(size) = 1 - exp(-(size + PW_SIZE_BIAS) / rate). */
#define PW_SIZE_BIAS 256

enum { PW_DOMAIN_OBJECT, PW_DOMAIN_MEMORY, PW_DOMAIN_NUMPY, PW_DOMAIN_CONSTRUCTION };

/* Every thread's own; initial-exec storage, so it must stay small (traps: under 100 bytes). */
typedef struct {
    int64_t left;       /* bytes to the next sample */
    int64_t calls_left; /* class calls to the next timed one */
    int64_t drawn;      /* sum of all gaps drawn: drawn - left = bytes this thread allocated */
    int64_t published;  /* the part of it that is in the global volume */
    uint64_t random;
    double rate; /* mean gap under which `left` was drawn; 0: not set up */
    double call_rate;
    uint32_t id;
    uint32_t probing; /* the next sample is our own look whether the hook is still there */
} pw_thread;

extern __thread pw_thread pw_self __attribute__((tls_model("initial-exec")));

#define PW_LIKELY(x) __builtin_expect(!!(x), 1)
#define PW_UNLIKELY(x) __builtin_expect(!!(x), 0)

void pw_sample_birth(void *block, size_t bytes, int domain);
void pw_sample_death(void *block);

/* One subtract and one branch for an allocation that is not sampled. */
static inline void
pw_allocated(void *block, size_t bytes, int domain)
{
    if (PW_UNLIKELY((pw_self.left -= (int64_t)bytes + PW_SIZE_BIAS) < 0)) {
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

/* constructions.c */
int pw_constructions_install(PyObject *metaclasses);
/* What a timed class call found; called with the GIL. */
void pw_sample_construction(PyObject *object, PyTypeObject *type, uint64_t arguments,
                            double weight, uint64_t start_ns, uint64_t duration_ns);
/* Calls until the next timed one, and the rate it was drawn from; 0 while not sampling. */
int pw_next_construction(void);

/* numpy_hook.c: points the library's PyTraceMalloc_Track and _Untrack at us. 1, or 0 with a
 * sentence in *problem. */
int pw_numpy_install(const char *library, const char **problem);

static inline uint64_t
pw_clock_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * UINT64_C(1000000000) + (uint64_t)now.tv_nsec;
}

#endif
