/* sampler_state.h: what the sampler's own files share, and no other file sees.
 *
 * samples.c           births and deaths, at what rate, and their threads
 * sample_names.c      stacks, code and types, named once and numbered
 * allocator_hooks.c   where allocations are seen
 * objects.c           objects that come from free lists, counted (when asked for)
 * recorder.c          a recording's beginning and end, in this process and in the child of a fork
 * sampler.c           Python's face
 *
 * Nothing in them but sampler.c and objects.c calls Python, takes a reference (but one a code
 * object, so that its address keeps its meaning), or allocates. */
#ifndef PW_SAMPLER_STATE_H
#define PW_SAMPLER_STATE_H

#include "sampler.h"

#include "recording.h"
#include "stack_table.h"
#include "typeprobe.h"

#include <limits.h>
#include <sched.h>

/* The object of a timed class call and its block may both be samples: blocks are aligned, so the
 * object's entry in the table is told by a bit of its address. */
#define PW_CONSTRUCTION_TAG 1u

enum { PW_FREED, PW_THINNED, PW_LOST, PW_ALIVE, PW_COLLECTED }; /* how a sample ended */

/* The record written with every flush; the last one counts. */
typedef struct {
    uint64_t start_ns, now_ns, user_ns, system_ns, minor_faults, major_faults, peak_rss_bytes;
    uint64_t samples, constructions, thinned, lost, truncated_stacks, unknown_stacks;
    uint64_t overhead_ns, own_faults, hook_removals, forks, volume;
    uint64_t collections[3], collection_ns[3], collected[3];
    double rate;
    uint64_t heap_bytes, heap_free_bytes, heap_mapped_bytes; /* glibc, at stop */
    uint64_t finished;
} pw_summary;

/* One for the process, as its allocator hooks are. All zero (but for the tables) means that nothing
 * is recorded, and the kernel makes it so in the child of a fork, before any code runs there: no
 * lock is held by a thread that is no more, nothing is written to the parent's log.
 * Guard: `lock`, unless a line says otherwise. */
typedef struct {
    _Atomic int sampling; /* atomic */
    atomic_flag lock;     /* clear when zero */
    pw_table table;
    pw_stack_table stacks;
    pw_type_table *types;
    bool open; /* the log */
    pw_log log;
    char tail_path[PATH_MAX];
    pw_summary totals;
    pw_rates rates;
    uint32_t thread_count, collections;
    bool collecting;              /* the GIL: set and read by the thread that collects */
    uint64_t collection_start_ns; /* the GIL */
    uint64_t summarised_bytes;    /* of the log, at the last summary */
    uint64_t flushed_ns, accounted_ns;
} pw_sampler_state;

extern pw_sampler_state *pw_sampler;

/* What is recorded, and where. Set with the GIL before sampling begins; outlives a fork. */
typedef struct {
    char directory[PATH_MAX];
    double mean_bytes; /* the least mean span between samples */
    double per_second;
    int exact;
    int children; /* whether those of a fork are recorded, too */
    int is_child; /* whether this process is one: its log bears its number */
    pid_t process;
} pw_recording_plan;

extern pw_recording_plan pw_plan;

static inline void
pw_sampler_lock(void)
{
    while (atomic_flag_test_and_set_explicit(&pw_sampler->lock, memory_order_acquire)) {
        sched_yield();
    }
}

static inline void
pw_sampler_unlock(void)
{
    atomic_flag_clear_explicit(&pw_sampler->lock, memory_order_release);
}

static inline bool
pw_is_sampling(void)
{
    return atomic_load_explicit(&pw_sampler->sampling, memory_order_relaxed) != 0;
}

/* As the plan says; in the child of a fork before its log is open, too. */
static inline void
pw_set_up_rates(uint64_t now_ns)
{
    pw_sampler->rates = (pw_rates){.rate = pw_plan.mean_bytes,
                                   .least_rate = pw_plan.mean_bytes,
                                   .call_factor = 1,
                                   .ceiling_per_second = pw_plan.per_second,
                                   .exact = pw_plan.exact,
                                   .window_start_ns = now_ns};
}

/* ---- sample_names.c: with the lock -------------------------------------------------------- */

/* The node of the running stack; 0 for none (no Python frame). */
uint32_t pw_current_stack(void);
/* The type's number, from 1; 0 if unknown. */
uint32_t pw_type_id(uintptr_t type, const char *name, unsigned long flags);
uint32_t pw_block_type(const pw_sample *sample);

/* ---- samples.c: with the lock, where nothing else is said --------------------------------- */

/* What is alive as it is now: its size, its type. A later record of the same birth replaces it. */
void pw_record_living(uint64_t now_ns);
/* Every sample ends: nobody saw how; or with the recording. */
void pw_lose_samples(uint64_t now_ns);
void pw_forget_samples(void);
/* Adds to the process's volume what this thread allocated since it last did. */
void pw_publish_volume(void);
/* A sampled block leaves the table while realloc has it, since its old address may be somebody
 * else's before we are back; false if it is none. Without the lock. */
bool pw_sample_moving(void *block, pw_sample *sample, uint32_t *thinnings);
/* Where it is now; NULL: it stayed. `touched` pages were its own before, and there had been so many
 * thinnings. Without the lock. */
void pw_sample_moved(pw_sample sample, void *moved, size_t bytes, int64_t touched,
                     uint32_t thinnings);

/* ---- allocator_hooks.c: with the GIL, without the lock ------------------------------------ */

void pw_hook_allocators(void);
bool pw_allocators_hooked(void);
/* Puts the hooks back where they are gone, and says so in the account. */
void pw_check_hooks(uint64_t now_ns);

/* Notes in pw_self what the object domain gave last, from now on. */
void pw_hook_object_blocks(void);

/* ---- objects.c ---------------------------------------------------------------------------- */

/* With the GIL; 0, or -1 with an exception set. */
int pw_objects_start(void);
void pw_objects_stop(void);
/* What was counted since the last time. With the lock. */
void pw_objects_write(uint64_t now_ns);

/* ---- recorder.c --------------------------------------------------------------------------- */

/* Opens the log that the plan says and begins to sample. 0, or -1 with errno and `path` (of
 * PATH_MAX bytes) set to what could not be opened. */
int pw_recording_begin(char *path);
/* What is alive stays known as alive; 0, or the errno of what could not be written. */
int pw_recording_end(void);
/* Whether this is the child of a fork, to be recorded from its first sample on. */
bool pw_is_unrecorded_child(void);
/* With the lock; false if it could not. */
bool pw_recording_begin_in_child(void);
/* Writes the buffers and the account. With the lock. */
void pw_write_samples(uint64_t now_ns);
/* Keeps the account in the tail up to date, as far as that is cheap. With the lock. */
void pw_keep_account(uint64_t now_ns);

#endif
