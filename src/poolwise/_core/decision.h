/* decision.h: which allocations are sampled, and how many each sample stands for.
 *
 * Points lie on the line of all allocations' spans with exponential gaps (a Poisson process); an
 * allocation that a point falls on is sampled, and stands for 1 / (1 - exp(-span / mean gap)).
 * A gap has no memory: whatever happened before, an allocation's chance is by the mean gap under
 * which its thread's gap was drawn. So the mean may follow the load, and weights stay right.
 *
 * Plain C: tests/core/replay.c puts recorded allocations through what is here, by many seeds. */
#ifndef PW_DECISION_H
#define PW_DECISION_H

#include "rng.h"
#include "sample_table.h"

#include <math.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PW_WINDOW_NS UINT64_C(50000000)

/* How much of the gap to the next sample an allocation uses up. Not its bytes alone: a constant
 * keeps small objects that churn from being starved, and each whole 16 KiB counts 17 times, since
 * blocks of several pages are few, are the ones that fault, and a missed one weighs heavily. Any
 * span is unbiased; this one has no branch. */
#define PW_SPAN_CONSTANT 256

static inline int64_t
pw_span(size_t bytes)
{
    return (int64_t)(bytes + PW_SPAN_CONSTANT + ((bytes & ~(size_t)0x3fff) << 4));
}

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
    uint8_t probing;   /* the next sample is our own look whether the hook is still there */
    uint8_t resized;   /* this is the realloc of a block, not its birth */
    uint8_t stackless; /* its stack is being exchanged: there is none to be read */
} pw_thread;

/* Guard: the sampler's lock. */
typedef struct {
    double rate, least_rate; /* mean span between samples: now, and as asked for */
    double call_factor;      /* from 1 up: how much more rarely than their cost allows calls are */
    double ceiling_per_second;
    int exact; /* every allocation is sampled */
    uint64_t window_start_ns, window_samples, window_calls;
    uint32_t thinnings;
} pw_rates;

static inline void
pw_draw_gap(const pw_rates *rates, pw_thread *thread)
{
    thread->rate = rates->rate;
    thread->left = rates->exact ? 0 : (int64_t)pw_rng_exponential(&thread->random, rates->rate);
}

static inline double
pw_weight(const pw_rates *rates, const pw_thread *thread, size_t bytes)
{
    return rates->exact ? 1 : -1 / expm1(-(double)pw_span(bytes) / thread->rate);
}

/* Keeps samples a second under the ceiling: the rate follows the load. */
static inline void
pw_adapt_rates(pw_rates *rates, uint64_t now_ns)
{
    if (now_ns <= rates->window_start_ns) { /* another thread began this window after our look */
        return;
    }
    double seconds = (double)(now_ns - rates->window_start_ns) * 1e-9;
    double allowed = rates->ceiling_per_second * (double)PW_WINDOW_NS * 1e-9;
    bool over =
        (double)rates->window_samples > 2 * allowed || (double)rates->window_calls > 2 * allowed;
    if (now_ns - rates->window_start_ns < PW_WINDOW_NS && !over) {
        return;
    }
    double samples = (double)rates->window_samples / (rates->ceiling_per_second * seconds + 1);
    double calls = (double)rates->window_calls / (rates->ceiling_per_second * seconds + 1);
    if (samples > 1) {
        rates->rate *= 2;
    } else if (samples < 0.4 && rates->rate > rates->least_rate) {
        rates->rate /= 2;
    }
    if (calls > 1) {
        rates->call_factor *= 2;
    } else if (calls < 0.4 && rates->call_factor > 1) {
        rates->call_factor /= 2;
    }
    rates->window_start_ns = now_ns;
    rates->window_samples = rates->window_calls = 0;
}

/* After each sample: on to the next. */
static inline void
pw_next_sample(pw_rates *rates, pw_thread *thread, uint64_t now_ns)
{
    rates->window_samples++;
    if (!rates->exact) {
        pw_adapt_rates(rates, now_ns);
    }
    pw_draw_gap(rates, thread);
}

/* Half of the live samples go, by fair coins, and those that stay count double: still unbiased.
 * `drop` must take the sample out of the table. */
static inline void
pw_thin(pw_table *table, pw_rates *rates, pw_thread *thread,
        void (*drop)(pw_sample *sample, uint64_t now_ns), uint64_t now_ns)
{
    /* From behind an empty slot, so that no entry is shifted past the start and gets two coins. */
    uint32_t empty = 0;
    while (table->slots[empty].address != 0) {
        empty++;
    }
    for (uint32_t k = 1; k < PW_TABLE_SLOTS; k++) {
        pw_sample *slot = &table->slots[(empty + k) & (PW_TABLE_SLOTS - 1)];
        /* A removal may shift another entry into this slot; it gets its coin as well. */
        while (slot->address != 0 && (pw_rng_next(&thread->random) & 1)) {
            drop(slot, now_ns);
        }
    }
    rates->rate *= 2;
    rates->thinnings++;
}

/* The coins of a sample that was out of the table, for its realloc, during so many thinnings. */
static inline bool
pw_outlives(pw_thread *thread, uint32_t thinnings)
{
    while (thinnings > 0 && (pw_rng_next(&thread->random) & 1) == 0) {
        thinnings--;
    }
    return thinnings == 0;
}

#endif
