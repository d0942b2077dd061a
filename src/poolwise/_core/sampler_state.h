/* sampler_state.h: what the sampler's own files share, and no other file sees.
 *
 * samples.c           births and deaths, at what rate, and their threads
 * sample_names.c      stacks, code and types, named once and numbered
 * allocator_hooks.c   where allocations are seen
 * sampler.c           start, stop, fork: Python's face
 *
 * Nothing in the first three calls Python, takes a reference (but one a code object, so that its
 * address keeps its meaning), or allocates. */
#ifndef PW_SAMPLER_STATE_H
#define PW_SAMPLER_STATE_H

#include "sampler.h"

#include "recording.h"
#include "stack_table.h"
#include "typeprobe.h"

#include <sched.h>

/* The object of a timed class call and its block may both be samples: blocks are aligned, so the
 * object's entry in the table is told by a bit of its address. */
#define PW_CONSTRUCTION_TAG 1u

enum { PW_FREED, PW_THINNED, PW_LOST, PW_ALIVE, PW_COLLECTED }; /* how a sample ended */

/* The record written with every flush; the last one in the log counts. */
typedef struct {
    uint64_t start_ns, now_ns, user_ns, system_ns, minor_faults, major_faults, peak_rss_bytes;
    uint64_t samples, constructions, thinned, lost, truncated_stacks, unknown_stacks;
    uint64_t overhead_ns, own_faults, hook_removals, forks, volume;
    uint64_t collections[3], collection_ns[3], collected[3];
    double rate;
    uint64_t heap_bytes, heap_free_bytes, heap_mapped_bytes; /* glibc, at stop */
    uint64_t finished;
} pw_summary;

/* One for the process, as its allocator hooks are. Guard: `lock`, unless a line says otherwise. */
extern struct pw_sampler {
    _Atomic int sampling; /* atomic */
    atomic_flag lock;
    pw_table table;
    pw_stack_table stacks;
    pw_type_table *types;
    pw_log log;
    pw_summary totals;
    double rate, least_rate; /* mean span between samples */
    double call_factor;
    double ceiling_per_second;
    int exact;
    pid_t process; /* whose recording it is */
    uint32_t thread_count, collections;
    bool collecting;              /* the GIL: set and read by the thread that collects */
    uint64_t collection_start_ns; /* the GIL */
    uint64_t summarised_bytes;    /* of the log, at the last summary */
    uint64_t flushed_ns;
    uint64_t window_start_ns, window_samples, window_calls;
} pw_sampler;

static inline void
pw_sampler_lock(void)
{
    while (atomic_flag_test_and_set_explicit(&pw_sampler.lock, memory_order_acquire)) {
        sched_yield();
    }
}

static inline void
pw_sampler_unlock(void)
{
    atomic_flag_clear_explicit(&pw_sampler.lock, memory_order_release);
}

/* ---- sample_names.c: with the lock -------------------------------------------------------- */

/* The node of the running stack; 0 for none (no Python frame). */
uint32_t pw_current_stack(void);
/* The type's number, from 1; 0 if unknown. */
uint32_t pw_type_id(uintptr_t type, const char *name, unsigned long flags);
uint32_t pw_block_type(const pw_sample *sample);

/* ---- samples.c ---------------------------------------------------------------------------- */

/* Every sample that is alive ends this way. With the lock. */
void pw_end_samples(uint64_t now_ns, int kind);
/* Writes the buffers and the account. With the lock. */
void pw_write_samples(uint64_t now_ns);
/* Adds to the process's volume what this thread allocated since it last did. With the lock. */
void pw_publish_volume(void);
/* A sampled block leaves the table while realloc has it, since its old address may be somebody
 * else's before we are back; false if it is none. */
bool pw_sample_moving(void *block, pw_sample *sample);
/* Where it is now; NULL: it stayed. `touched` pages were its own before. */
void pw_sample_moved(pw_sample sample, void *moved, size_t bytes, int64_t touched);

/* ---- allocator_hooks.c: with the GIL, without the lock ------------------------------------ */

void pw_hook_allocators(void);
bool pw_allocators_hooked(void);
/* Puts the hooks back where they are gone, and says so in the account. */
void pw_check_hooks(uint64_t now_ns);

#endif
