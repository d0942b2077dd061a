/* samples.c: allocations as they happen, sampled, and each sampled block followed to its death.
 *
 * Poisson sampling by bytes with Horvitz-Thompson weights (as tcmalloc and Go do). */
#include "sampler_state.h"

#include "residency.h"

#include <time.h>

#define IDLE_GAP (INT64_C(1) << 20) /* between two looks at `sampling` while it is off */
#define FLUSH_NS UINT64_C(500000000)

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
                      .kind = (uint16_t)kind,
                      .reallocs = sample->reallocs};
    pw_log_put(&pw_sampler->log, PW_LOG_DEATHS, &death, sizeof(death));
    if (kind != PW_ALIVE) {
        pw_table_remove(&pw_sampler->table, sample);
    }
}

void
pw_record_living(uint64_t now_ns)
{
    for (uint32_t i = 0; i < PW_TABLE_SLOTS; i++) {
        if (pw_sampler->table.slots[i].address != 0) {
            record_death(&pw_sampler->table.slots[i], now_ns, PW_ALIVE);
        }
    }
}

static void
drop_by_thinning(pw_sample *sample, uint64_t now_ns)
{
    record_death(sample, now_ns, PW_THINNED);
}

static void
thin(uint64_t now_ns)
{
    pw_thin(&pw_sampler->table, &pw_sampler->rates, &pw_self, drop_by_thinning, now_ns);
    /* Survivors: a thinning marker is a death of no birth; readers double all that live then, by
     * the births before it in the file: those of this buffer must be there, and no later ones. */
    pw_log_flush(&pw_sampler->log);
    pw_death marker = {.birth = UINT64_MAX, .death_ns = now_ns, .kind = PW_THINNED};
    pw_log_put(&pw_sampler->log, PW_LOG_DEATHS, &marker, sizeof(marker));
    pw_log_flush(&pw_sampler->log);
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
                      .flags = (pw_self.zeroed == block ? PW_BIRTH_ZEROED : 0u) |
                               (pw_self.resized ? PW_BIRTH_RESIZED : 0u)};
    pw_log_put(&pw_sampler->log, PW_LOG_BIRTHS, &birth, sizeof(birth));
    pw_table_insert(&pw_sampler->table, (pw_sample){.address = (uintptr_t)block,
                                                    .bytes = bytes,
                                                    .domain = (unsigned)domain,
                                                    .id = (uint32_t)pw_sampler->totals.samples,
                                                    .resident_pages = (int32_t)resident});
    pw_sampler->totals.samples++;
}

/* A thread's first allocation seen. Its gap is drawn as if just before it. */
static void
set_up_thread(size_t bytes)
{
    pw_self.published = pw_self.volume - bytes; /* what came before is no part of this recording */
    pw_self.id = ++pw_sampler->thread_count;
    if (pw_sampler->rates.rate == 0) {
        pw_set_up_rates(pw_clock_ns());
    }
    pw_self.random = pw_rng_seed(pw_clock_ns() ^ (uint64_t)pw_self.id << 48);
    pw_draw_gap(&pw_sampler->rates, &pw_self);
    pw_self.left -= pw_span(bytes);
}

void
pw_lose_samples(uint64_t now_ns)
{
    for (uint32_t i = 0; i < PW_TABLE_SLOTS; i++) {
        while (pw_sampler->table.slots[i].address != 0) {
            record_death(&pw_sampler->table.slots[i], now_ns, PW_LOST);
        }
    }
}

void
pw_forget_samples(void)
{
    for (uint32_t i = 0; i < PW_TABLE_SLOTS; i++) {
        while (pw_sampler->table.slots[i].address != 0) {
            pw_table_remove(&pw_sampler->table, &pw_sampler->table.slots[i]);
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
    if (pw_self.left < 0 && !pw_is_sampling() &&
        !(pw_is_unrecorded_child() && pw_recording_begin_in_child())) {
        idle(); /* the recording may have ended while we waited */
    }
    if (pw_self.left < 0) {
        pw_publish_volume();
        pw_rates *rates = &pw_sampler->rates;
        record_birth(block, bytes, domain, pw_weight(rates, &pw_self, bytes), start_ns);
        pw_next_sample(rates, &pw_self, start_ns);
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
                if (pw_self.rate != 0) {
                    pw_publish_volume();
                }
                record_death(sample, now_ns, pw_sampler->collecting ? PW_COLLECTED : PW_FREED);
            }
        }
        pw_sampler->totals.overhead_ns += pw_clock_ns() - now_ns;
    }
    pw_sampler_unlock();
}

bool
pw_sample_moving(void *block, pw_sample *sample, uint32_t *thinnings)
{
    if (!pw_is_sampling()) {
        return false;
    }
    pw_sampler_lock();
    pw_sample *found = pw_table_find(&pw_sampler->table, (uintptr_t)block);
    if (found != NULL) {
        *sample = *found;
        *thinnings = pw_sampler->rates.thinnings;
        pw_table_remove(&pw_sampler->table, found);
    }
    pw_sampler_unlock();
    return found != NULL;
}

void
pw_sample_moved(pw_sample sample, void *moved, size_t bytes, int64_t touched, uint32_t thinnings)
{
    pw_sampler_lock();
    if (!pw_is_sampling()) { /* the recording has ended meanwhile */
        pw_sampler_unlock();
        return;
    }
    if (moved != NULL) {
        sample.address = (uintptr_t)moved;
        sample.bytes = bytes;
        sample.reallocs += sample.reallocs < PW_REALLOCS_MAX;
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
    if (!pw_outlives(&pw_self, pw_sampler->rates.thinnings - thinnings)) {
        record_death(pw_table_find(&pw_sampler->table, sample.address), pw_clock_ns(), PW_THINNED);
    }
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
    return pw_sampler->rates.call_factor;
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
        pw_sampler->rates.window_calls++;
        pw_adapt_rates(&pw_sampler->rates, now_ns);
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
            pw_keep_account(now_ns);
        }
        pw_sampler->totals.overhead_ns += pw_clock_ns() - now_ns;
    }
    pw_sampler_unlock();
}
