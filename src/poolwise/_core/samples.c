/* samples.c: allocations as they happen, sampled, and each sampled block followed to its death.
 *
 * Poisson sampling by bytes with Horvitz-Thompson weights (as tcmalloc and Go do). */
#include "sampler_state.h"

#include "residency.h"
#include "rng.h"

#include <time.h>

#define IDLE_GAP (INT64_C(64) << 20) /* between two looks at `sampling` while it is off */
#define FLUSH_NS UINT64_C(500000000)
#define WINDOW_NS UINT64_C(50000000)

__thread pw_thread pw_self __attribute__((tls_model("initial-exec")));

void
pw_publish_volume(void)
{
    pw_sampler->totals.volume += pw_self.volume - pw_self.published;
    pw_self.published = pw_self.volume;
}

static void
record_death(pw_sample *sample, uint64_t now_ns, int kind)
{
    uint32_t type = 0, stack = 0, touched_pages = 0;
    if (kind != PW_THINNED && kind != PW_LOST) { /* the block is still there to be looked at */
        type = pw_block_type(sample);
        stack = kind == PW_ALIVE ? 0 : pw_current_stack();
        if (sample->bytes >= PW_RESIDENCY_MIN_BYTES && sample->domain != PW_DOMAIN_CONSTRUCTION) {
            int64_t touched =
                (int64_t)pw_resident_pages(sample->address, sample->bytes) - sample->resident_pages;
            touched_pages = touched > 0 ? (uint32_t)touched : 0;
        }
    }
    pw_sampler->totals.lost += kind == PW_LOST;
    pw_sampler->totals.thinned += kind == PW_THINNED;
    pw_death death = {.birth = sample->id,
                      .death_ns = now_ns,
                      .thread_volume = pw_self.volume,
                      .volume = pw_sampler->totals.volume,
                      .bytes = sample->bytes,
                      .stack = stack,
                      .thread = pw_self.id,
                      .type = type,
                      .touched_pages = touched_pages,
                      .collections = pw_sampler->collections,
                      .kind = (uint32_t)kind};
    pw_log_put(&pw_sampler->log, PW_LOG_DEATHS, &death, sizeof(death));
    pw_table_remove(&pw_sampler->table, sample);
}

/* Half of the live samples go, and those that stay count double: still unbiased. */
static void
thin(uint64_t now_ns)
{
    /* From behind an empty slot, so that no entry is shifted past the start and gets two coins. */
    uint32_t empty = 0;
    while (pw_sampler->table.slots[empty].address != 0) {
        empty++;
    }
    for (uint32_t k = 1; k < PW_TABLE_SLOTS; k++) {
        pw_sample *slot = &pw_sampler->table.slots[(empty + k) & (PW_TABLE_SLOTS - 1)];
        /* A removal may shift another entry into this slot; it gets its coin as well. */
        while (slot->address != 0 && (pw_rng_next(&pw_self.random) & 1)) {
            record_death(slot, now_ns, PW_THINNED);
        }
    }
    /* Survivors: a thinning marker is a death of no birth; readers double all that live then, by
     * the births before it in the file: those of this buffer must be there, and no later ones. */
    pw_log_flush(&pw_sampler->log);
    pw_death marker = {.birth = UINT64_MAX, .death_ns = now_ns, .kind = PW_THINNED};
    pw_log_put(&pw_sampler->log, PW_LOG_DEATHS, &marker, sizeof(marker));
    pw_log_flush(&pw_sampler->log);
    pw_sampler->rate *= 2;
}

static void
record_birth(void *block, size_t bytes, int domain, double weight, uint64_t now_ns)
{
    if (pw_sampler->table.used >= PW_TABLE_MAX) {
        thin(now_ns);
    }
    pw_sample *stale = pw_table_find(&pw_sampler->table, (uintptr_t)block);
    if (stale != NULL) {
        record_death(stale, now_ns, PW_LOST);
    }
    uint32_t stack = pw_current_stack();
    uint32_t pages = 0, resident = 0;
    if (bytes >= PW_RESIDENCY_MIN_BYTES && domain != PW_DOMAIN_CONSTRUCTION) {
        pages = pw_whole_pages((uintptr_t)block, bytes);
        resident = pw_resident_pages((uintptr_t)block, bytes);
    }
    pw_birth birth = {.birth_ns = now_ns,
                      .thread_volume = pw_self.volume,
                      .volume = pw_sampler->totals.volume,
                      .bytes = bytes,
                      .weight = weight,
                      .stack = stack,
                      .thread = pw_self.id,
                      .nonresident_pages = pages - resident,
                      .domain = (uint32_t)domain,
                      .collections = pw_sampler->collections,
                      .zeroed = pw_self.zeroed == block};
    pw_log_put(&pw_sampler->log, PW_LOG_BIRTHS, &birth, sizeof(birth));
    pw_table_insert(&pw_sampler->table, (pw_sample){.address = (uintptr_t)block,
                                                    .bytes = bytes,
                                                    .domain = (unsigned)domain,
                                                    .id = (uint32_t)pw_sampler->totals.samples,
                                                    .resident_pages = (int32_t)resident});
    pw_sampler->totals.samples++;
}

/* Keeps samples a second under the ceiling: the rate follows the load, and weights follow the
 * rate under which each gap was drawn, so the estimates stay unbiased. */
static void
adapt_rates(uint64_t now_ns)
{
    if (now_ns <=
        pw_sampler->window_start_ns) { /* another thread began this window after our look */
        return;
    }
    double seconds = (double)(now_ns - pw_sampler->window_start_ns) * 1e-9;
    double allowed = pw_plan.per_second * (double)WINDOW_NS * 1e-9;
    bool over = (double)pw_sampler->window_samples > 2 * allowed ||
                (double)pw_sampler->window_calls > 2 * allowed;
    if (now_ns - pw_sampler->window_start_ns < WINDOW_NS && !over) {
        return;
    }
    double samples = (double)pw_sampler->window_samples / (pw_plan.per_second * seconds + 1);
    double calls = (double)pw_sampler->window_calls / (pw_plan.per_second * seconds + 1);
    pw_sampler->rate = samples > 1 ? pw_sampler->rate * 2
                       : samples < 0.4 && pw_sampler->rate > pw_plan.mean_bytes
                           ? pw_sampler->rate / 2
                           : pw_sampler->rate;
    pw_sampler->call_factor = calls > 1 ? pw_sampler->call_factor * 2
                              : calls < 0.4 && pw_sampler->call_factor > 1
                                  ? pw_sampler->call_factor / 2
                                  : pw_sampler->call_factor;
    pw_sampler->window_start_ns = now_ns;
    pw_sampler->window_samples = pw_sampler->window_calls = 0;
}

static void
draw_gap(void)
{
    pw_self.rate = fmax(pw_sampler->rate, pw_plan.mean_bytes); /* 0: a child that has not begun */
    pw_self.left = pw_plan.exact ? 0 : (int64_t)pw_rng_exponential(&pw_self.random, pw_self.rate);
}

/* A thread's first allocation seen. Its gap is drawn as if just before it. */
static void
set_up_thread(size_t bytes)
{
    pw_self.published = pw_self.volume - bytes; /* what came before is no part of this recording */
    pw_self.id = ++pw_sampler->thread_count;
    pw_self.random = pw_rng_seed(pw_clock_ns() ^ (uint64_t)pw_self.id << 48);
    draw_gap();
    pw_self.left -= pw_span(bytes);
}

void
pw_end_samples(uint64_t now_ns, int kind)
{
    for (uint32_t i = 0; i < PW_TABLE_SLOTS; i++) {
        while (pw_sampler->table.slots[i].address != 0) {
            record_death(&pw_sampler->table.slots[i], now_ns, kind);
        }
    }
}

/* Not sampling: the next look is far. */
static void
idle(void)
{
    pw_self.left = IDLE_GAP;
    pw_self.rate = 0;
}

void
pw_sample_birth(void *block, size_t bytes, int domain)
{
    if (pw_self.probing) {
        pw_self.probing = 0;
        return;
    }
    if (!pw_is_sampling() && !pw_is_unrecorded_child()) {
        idle();
        return;
    }
    uint64_t start_ns = pw_clock_ns();
    bool check = false;
    pw_sampler_lock();
    if (pw_self.rate == 0) {
        set_up_thread(bytes);
    }
    if (pw_self.left < 0 && !pw_is_sampling() && !pw_recording_begin_in_child()) {
        idle();
    }
    if (pw_self.left < 0) {
        pw_publish_volume();
        double expected = (double)pw_span(bytes) / pw_self.rate;
        record_birth(block, bytes, domain, pw_plan.exact ? 1 : -1 / expm1(-expected), start_ns);
        pw_sampler->window_samples++;
        if (!pw_plan.exact) {
            adapt_rates(start_ns);
        }
        draw_gap();
        pw_keep_account(start_ns);
    }
    if (pw_is_sampling()) {
        /* Another thread's flush may be the later; a full buffer was written without an account. */
        check = start_ns > pw_sampler->flushed_ns + FLUSH_NS ||
                pw_sampler->log.written_bytes != pw_sampler->summarised_bytes;
        if (check) {
            pw_write_samples(start_ns);
        }
        pw_sampler->totals.overhead_ns += pw_clock_ns() - start_ns;
    }
    pw_sampler_unlock();
    if (check && domain <= PW_DOMAIN_MEMORY) {
        pw_check_hooks(start_ns);
    }
}

void
pw_sample_death(void *block)
{
    if (!pw_is_sampling()) {
        return;
    }
    uint64_t now_ns = pw_clock_ns();
    pw_sampler_lock();
    if (pw_is_sampling()) {
        const uintptr_t addresses[2] = {(uintptr_t)block, (uintptr_t)block | PW_CONSTRUCTION_TAG};
        for (int i = 0; i < 2; i++) {
            pw_sample *sample = pw_table_find(&pw_sampler->table, addresses[i]);
            if (sample != NULL) {
                record_death(sample, now_ns, pw_sampler->collecting ? PW_COLLECTED : PW_FREED);
            }
        }
        pw_sampler->totals.overhead_ns += pw_clock_ns() - now_ns;
    }
    pw_sampler_unlock();
}

bool
pw_sample_moving(void *block, pw_sample *sample)
{
    if (!pw_is_sampling()) {
        return false;
    }
    pw_sampler_lock();
    pw_sample *found = pw_table_find(&pw_sampler->table, (uintptr_t)block);
    if (found != NULL) {
        *sample = *found;
        pw_table_remove(&pw_sampler->table, found);
    }
    pw_sampler_unlock();
    return found != NULL;
}

void
pw_sample_moved(pw_sample sample, void *moved, size_t bytes, int64_t touched)
{
    pw_sampler_lock();
    if (moved != NULL) {
        sample.address = (uintptr_t)moved;
        sample.bytes = bytes;
        if (bytes >= PW_RESIDENCY_MIN_BYTES) {
            sample.resident_pages =
                (int32_t)((int64_t)pw_resident_pages(sample.address, bytes) - touched);
        }
    }
    pw_sample *stale = pw_table_find(&pw_sampler->table, sample.address);
    if (stale != NULL) {
        record_death(stale, pw_clock_ns(), PW_LOST);
    }
    if (pw_sampler->table.used >= PW_TABLE_MAX) {
        thin(pw_clock_ns());
    }
    pw_table_insert(&pw_sampler->table, sample);
    pw_sampler_unlock();
}

/* ---- constructions ------------------------------------------------------------------------ */

int
pw_sampling_constructions(void)
{
    /* A thread is set up by its first allocation. */
    return pw_is_sampling() && pw_self.rate != 0;
}

double
pw_construction_factor(void)
{
    return pw_sampler->call_factor;
}

void
pw_sample_construction(PyObject *object, PyTypeObject *type, uint64_t arguments, double weight,
                       uint64_t start_ns, uint64_t duration_ns)
{
    uint64_t now_ns = pw_clock_ns();
    uintptr_t block = (uintptr_t)object - pw_object_prefix_bytes(type);
    block |= PW_CONSTRUCTION_TAG;
    pw_sampler_lock();
    if (pw_is_sampling()) {
        pw_sampler->window_calls++;
        adapt_rates(now_ns);
        if (pw_table_find(&pw_sampler->table, block) == NULL) {
            uint64_t birth = pw_sampler->totals.samples;
            uint32_t id = pw_type_id((uintptr_t)type, type->tp_name, type->tp_flags);
            record_birth((void *)block, (size_t)type->tp_basicsize, PW_DOMAIN_CONSTRUCTION, weight,
                         start_ns);
            pw_construction record = {birth, arguments, id,
                                      duration_ns < UINT32_MAX ? (uint32_t)duration_ns
                                                               : UINT32_MAX};
            pw_log_put(&pw_sampler->log, PW_LOG_CONSTRUCTIONS, &record, sizeof(record));
            pw_sampler->totals.constructions++;
        }
        pw_sampler->totals.overhead_ns += pw_clock_ns() - now_ns;
    }
    pw_sampler_unlock();
}
