/* sampler.c: samples allocations as they happen, and follows each sampled block to its death.
 *
 * Poisson sampling by bytes with Horvitz-Thompson weights (as tcmalloc and Go do). The hooks wrap
 * the `obj`, `mem` and `raw` domains (PEP 445) with the same context pointer and are never taken
 * out: a thread that read half of the allocator's five words while we changed them must still call
 * something that works. Nothing here calls Python, takes a reference (but one a code object, so
 * that its address keeps its meaning), or allocates.
 *
 * Guard of everything below that is not the thread's own: `lock`. */
#include "sampler.h"

#include "module.h"
#include "pystack.h"
#include "recording.h"
#include "residency.h"
#include "rng.h"
#include "stack_table.h"
#include "typeprobe.h"

#include <malloc.h>
#include <pthread.h>
#include <sched.h>
#include <sys/resource.h>
#include <time.h>

#define IDLE_GAP (INT64_C(64) << 20) /* between two looks at `sampling` while it is off */
#define FLUSH_NS UINT64_C(500000000)
#define WINDOW_NS UINT64_C(50000000)

/* The object of a timed class call and its block may both be samples: blocks are aligned, so the
 * object's entry in the table is told by a bit of its address. */
#define CONSTRUCTION_TAG 1u

enum { DEATH_FREE, DEATH_THINNED, DEATH_LOST, DEATH_ALIVE, DEATH_COLLECTED };

/* The record written with every flush; the last one in the log counts. */
typedef struct {
    uint64_t start_ns, now_ns, user_ns, system_ns, minor_faults, major_faults, peak_rss_bytes;
    uint64_t samples, constructions, thinned, lost, truncated_stacks, unknown_stacks;
    uint64_t overhead_ns, own_faults, hook_removals, forks, volume;
    uint64_t collections[3], collection_ns[3], collected[3];
    double rate;
    uint64_t heap_bytes, heap_free_bytes, heap_mapped_bytes; /* glibc, at stop */
    uint64_t finished;
} summary;

typedef struct {
    PyMemAllocatorEx original;
    PyMemAllocatorDomain domain;
} hooked_domain;

__thread pw_thread pw_self __attribute__((tls_model("initial-exec")));
_Atomic uint8_t pw_filter[1u << PW_FILTER_BITS];

static _Atomic int sampling;
static atomic_flag lock = ATOMIC_FLAG_INIT;

static hooked_domain object_domain = {.domain = PYMEM_DOMAIN_OBJ};
static hooked_domain memory_domain = {.domain = PYMEM_DOMAIN_MEM};
static hooked_domain raw_domain = {.domain = PYMEM_DOMAIN_RAW};
/* Larger requests to the object and memory domains, and those for nothing, reach the raw one and
 * are sampled there: over 512 where the small-object allocator is in use, none where all three are
 * malloc. */
static size_t small_bytes = SIZE_MAX;

static pw_table table;
static pw_stack_table stacks;
static pw_type_table *types;
static pw_log recording = {.fd = -1};
static summary totals;

static double rate, least_rate; /* mean span between samples */
static double call_factor;
static double ceiling_per_second;
static int exact;
static pid_t process; /* whose recording it is */
static uint32_t thread_count, collections;
static bool collecting;           /* under the GIL: set and read by the thread that collects */
static uint64_t summarised_bytes; /* of the log, at the last summary */
static uint64_t window_start_ns, window_samples, window_calls, flushed_ns, collection_start_ns;

static void
lock_take(void)
{
    while (atomic_flag_test_and_set_explicit(&lock, memory_order_acquire)) {
        sched_yield();
    }
}

static void
lock_release(void)
{
    atomic_flag_clear_explicit(&lock, memory_order_release);
}

/* ---- names of what is recorded ------------------------------------------------------------ */

static pw_piece
text_piece(PyObject *text, uint8_t *space, uint32_t room, uint32_t *length)
{
    pw_piece piece = {space, 0};
    if (text != NULL && PyUnicode_IS_COMPACT_ASCII(text)) {
        piece.bytes = PyUnicode_DATA(text);
        piece.count = (uint32_t)PyUnicode_GET_LENGTH(text);
    } else if (text != NULL) { /* UTF-8 by hand: PyUnicode_AsUTF8 would allocate */
        for (Py_ssize_t i = 0; i < PyUnicode_GET_LENGTH(text) && piece.count + 4 <= room; i++) {
            Py_UCS4 c = PyUnicode_READ_CHAR(text, i);
            uint8_t *to = space + piece.count;
            if (c < 0x80) {
                *to = (uint8_t)c;
                piece.count += 1;
            } else if (c < 0x800) {
                to[0] = (uint8_t)(0xc0 | c >> 6);
                to[1] = (uint8_t)(0x80 | (c & 0x3f));
                piece.count += 2;
            } else if (c < 0x10000) {
                to[0] = (uint8_t)(0xe0 | c >> 12);
                to[1] = (uint8_t)(0x80 | (c >> 6 & 0x3f));
                to[2] = (uint8_t)(0x80 | (c & 0x3f));
                piece.count += 3;
            } else {
                to[0] = (uint8_t)(0xf0 | c >> 18);
                to[1] = (uint8_t)(0x80 | (c >> 12 & 0x3f));
                to[2] = (uint8_t)(0x80 | (c >> 6 & 0x3f));
                to[3] = (uint8_t)(0x80 | (c & 0x3f));
                piece.count += 4;
            }
        }
    }
    *length = piece.count;
    return piece;
}

/* The code's number, from 1; written with all that is needed to name a line and its columns. */
static uint32_t
code_id(PyCodeObject *code)
{
    pw_code_slot *slot = pw_code_slot_of(&stacks, code);
    if (!slot->held && pw_attached()) {
        Py_INCREF(code); /* so that its address keeps its meaning */
        slot->held = 1;
    }
    if (slot->code == NULL) {
        slot->code = code;
        slot->id = ++stacks.code_count;
        uint8_t file_space[4096], name_space[1024];
        uint32_t head[4] = {(uint32_t)code->co_firstlineno, 0, 0, 0};
        pw_piece pieces[4] = {
            {head, sizeof(head)},
            text_piece(code->co_filename, file_space, sizeof(file_space), &head[1]),
            text_piece(code->co_qualname, name_space, sizeof(name_space), &head[2]),
            {PyBytes_AS_STRING(code->co_linetable), (uint32_t)PyBytes_GET_SIZE(code->co_linetable)},
        };
        head[3] = pieces[3].count;
        pw_log_text(&recording, PW_TEXT_CODE, pieces, 4);
    }
    return slot->id;
}

/* The node of the running stack; 0 for none (no Python frame). */
static uint32_t
current_stack(void)
{
    pw_frame frames[PW_STACK_MAX];
    int truncated = 0;
    int depth = pw_stack_walk(frames, &truncated);
    if (depth == 0) {
        return 0;
    }
    totals.truncated_stacks += (uint64_t)truncated;
    uint64_t hash = (uint64_t)depth;
    for (int i = 0; i < depth; i++) {
        hash = pw_mix(pw_mix(hash, (uintptr_t)frames[i].code), frames[i].instruction_bytes);
    }
    pw_stack_slot *stack = pw_stack_slot_of(&stacks, hash);
    if (stack->id != 0) {
        return stack->id;
    }
    if (stacks.node_count + PW_STACK_MAX > PW_NODE_MAX || stacks.stack_count > PW_NODE_MAX) {
        totals.unknown_stacks++;
        return PW_STACK_OVERFLOW;
    }
    uint32_t parent = 0;
    for (int i = depth - 1; i >= 0; i--) {
        pw_node_slot *node =
            pw_node_slot_of(&stacks, parent, frames[i].code, frames[i].instruction_bytes);
        if (node->id == 0) {
            node->code = frames[i].code;
            node->parent = parent;
            node->instruction_bytes = frames[i].instruction_bytes;
            node->id = ++stacks.node_count;
            uint32_t code = code_id(frames[i].code);
            pw_node *record = pw_log_reserve(&recording, PW_LOG_NODES, sizeof(pw_node));
            *record = (pw_node){parent, code, frames[i].instruction_bytes};
        }
        parent = node->id;
    }
    stack->hash = hash;
    stack->id = parent;
    stacks.stack_count++;
    return parent;
}

/* The type's number, from 1; 0 if unknown. */
static uint32_t
type_id(uintptr_t type, const char *name, unsigned long flags)
{
    pw_type_slot *slot = pw_type_slot_of(types, type);
    if (slot->type == 0) {
        if (types->count >= PW_TYPE_SLOTS / 4 * 3) {
            return 0;
        }
        slot->type = type;
        slot->id = ++types->count;
        uint32_t low_flags = (uint32_t)flags;
        pw_piece pieces[2] = {{&low_flags, sizeof(low_flags)}, {name, (uint32_t)strlen(name)}};
        pw_log_text(&recording, PW_TEXT_TYPE, pieces, 2);
    }
    return slot->id;
}

static uint32_t
block_type(const pw_sample *sample)
{
    static const uint32_t type_words[] = {1, 3, 5}; /* no prefix; GC or preheader; both */
    if (sample->domain != PW_DOMAIN_OBJECT && sample->domain != PW_DOMAIN_RAW &&
        sample->domain != PW_DOMAIN_CONSTRUCTION) {
        return 0;
    }
    uintptr_t block = sample->address & ~(uintptr_t)CONSTRUCTION_TAG;
    for (size_t i = 0; i < sizeof(type_words) / sizeof(type_words[0]); i++) {
        char name[PW_TYPE_NAME_BYTES];
        unsigned long flags;
        if ((type_words[i] + 1) * sizeof(uintptr_t) > sample->bytes) {
            break;
        }
        uintptr_t word = ((const uintptr_t *)block)[type_words[i]];
        if (word == 0) {
            continue;
        }
        pw_type_slot *slot = pw_type_slot_of(types, word);
        if (slot->type != 0) {
            return slot->id;
        }
        if (pw_read_type(word, name, &flags)) {
            return type_id(word, name, flags);
        }
    }
    return 0;
}

/* ---- writing ------------------------------------------------------------------------------ */

static void
write_summary(uint64_t now_ns)
{
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    totals.now_ns = now_ns;
    totals.user_ns = (uint64_t)usage.ru_utime.tv_sec * UINT64_C(1000000000) +
                     (uint64_t)usage.ru_utime.tv_usec * 1000;
    totals.system_ns = (uint64_t)usage.ru_stime.tv_sec * UINT64_C(1000000000) +
                       (uint64_t)usage.ru_stime.tv_usec * 1000;
    totals.minor_faults = (uint64_t)usage.ru_minflt;
    totals.major_faults = (uint64_t)usage.ru_majflt;
    totals.peak_rss_bytes = (uint64_t)usage.ru_maxrss * 1024;
    totals.rate = rate;
    pw_log_chunk(&recording, PW_CHUNK_SUMMARY, &totals, sizeof(totals));
}

static void
flush(uint64_t now_ns)
{
    pw_log_flush(&recording);
    write_summary(now_ns);
    flushed_ns = now_ns;
    summarised_bytes = recording.written_bytes;
    if (recording.error) {
        atomic_store(&sampling, 0);
    }
}

void
pw_flush(void)
{
    if (atomic_load(&sampling) && getpid() == process) { /* not in the child of a vfork */
        lock_take();
        flush(pw_clock_ns());
        lock_release();
    }
}

/* ---- births and deaths (all with the lock) ------------------------------------------------ */

static void
publish_volume(void)
{
    totals.volume += pw_self.volume - pw_self.published;
    pw_self.published = pw_self.volume;
}

static void
record_death(pw_sample *sample, uint64_t now_ns, int kind)
{
    uint32_t type = 0, stack = 0, touched_pages = 0;
    if (kind != DEATH_THINNED &&
        kind != DEATH_LOST) { /* the block is still there to be looked at */
        type = block_type(sample);
        stack = kind == DEATH_ALIVE ? 0 : current_stack();
        if (sample->bytes >= PW_RESIDENCY_MIN_BYTES && sample->domain != PW_DOMAIN_CONSTRUCTION) {
            int64_t touched =
                (int64_t)pw_resident_pages(sample->address, sample->bytes) - sample->resident_pages;
            touched_pages = touched > 0 ? (uint32_t)touched : 0;
        }
    }
    totals.lost += kind == DEATH_LOST;
    totals.thinned += kind == DEATH_THINNED;
    pw_death *death = pw_log_reserve(&recording, PW_LOG_DEATHS, sizeof(*death));
    *death = (pw_death){.birth = sample->id,
                        .death_ns = now_ns,
                        .thread_volume = pw_self.volume,
                        .volume = totals.volume,
                        .bytes = sample->bytes,
                        .stack = stack,
                        .thread = pw_self.id,
                        .type = type,
                        .touched_pages = touched_pages,
                        .collections = collections,
                        .kind = (uint32_t)kind};
    pw_table_remove(&table, sample);
}

/* Half of the live samples go, and those that stay count double: still unbiased. */
static void
thin(uint64_t now_ns)
{
    /* From behind an empty slot, so that no entry is shifted past the start and gets two coins. */
    uint32_t empty = 0;
    while (table.slots[empty].address != 0) {
        empty++;
    }
    for (uint32_t k = 1; k < PW_TABLE_SLOTS; k++) {
        pw_sample *slot = &table.slots[(empty + k) & (PW_TABLE_SLOTS - 1)];
        /* A removal may shift another entry into this slot; it gets its coin as well. */
        while (slot->address != 0 && (pw_rng_next(&pw_self.random) & 1)) {
            record_death(slot, now_ns, DEATH_THINNED);
        }
    }
    /* Survivors: a thinning marker is a death of no birth; readers double all that live then, by
     * the births before it in the file: those of this buffer must be there, and no later ones. */
    pw_log_flush(&recording);
    pw_death *marker = pw_log_reserve(&recording, PW_LOG_DEATHS, sizeof(*marker));
    *marker = (pw_death){.birth = UINT64_MAX, .death_ns = now_ns, .kind = DEATH_THINNED};
    pw_log_flush(&recording);
    rate *= 2;
}

static void
record_birth(void *block, size_t bytes, int domain, double weight, uint64_t now_ns)
{
    if (table.used >= PW_TABLE_MAX) {
        thin(now_ns);
    }
    pw_sample *stale = pw_table_find(&table, (uintptr_t)block);
    if (stale != NULL) {
        record_death(stale, now_ns, DEATH_LOST);
    }
    uint32_t stack = current_stack();
    uint32_t pages = 0, resident = 0;
    if (bytes >= PW_RESIDENCY_MIN_BYTES && domain != PW_DOMAIN_CONSTRUCTION) {
        pages = pw_whole_pages((uintptr_t)block, bytes);
        resident = pw_resident_pages((uintptr_t)block, bytes);
    }
    pw_birth *birth = pw_log_reserve(&recording, PW_LOG_BIRTHS, sizeof(*birth));
    *birth = (pw_birth){.birth_ns = now_ns,
                        .thread_volume = pw_self.volume,
                        .volume = totals.volume,
                        .bytes = bytes,
                        .weight = weight,
                        .stack = stack,
                        .thread = pw_self.id,
                        .nonresident_pages = pages - resident,
                        .domain = (uint32_t)domain,
                        .collections = collections,
                        .zeroed = pw_self.zeroed == block};
    pw_table_insert(&table, (pw_sample){.address = (uintptr_t)block,
                                        .bytes = bytes,
                                        .domain = (unsigned)domain,
                                        .id = (uint32_t)totals.samples,
                                        .resident_pages = (int32_t)resident});
    totals.samples++;
}

/* Keeps samples a second under the ceiling: the rate follows the load, and weights follow the
 * rate under which each gap was drawn, so the estimates stay unbiased. */
static void
adapt_rates(uint64_t now_ns)
{
    if (now_ns <= window_start_ns) { /* another thread began this window after our look */
        return;
    }
    double seconds = (double)(now_ns - window_start_ns) * 1e-9;
    double allowed = ceiling_per_second * (double)WINDOW_NS * 1e-9;
    bool over = (double)window_samples > 2 * allowed || (double)window_calls > 2 * allowed;
    if (now_ns - window_start_ns < WINDOW_NS && !over) {
        return;
    }
    double samples = (double)window_samples / (ceiling_per_second * seconds + 1);
    double calls = (double)window_calls / (ceiling_per_second * seconds + 1);
    rate = samples > 1 ? rate * 2 : samples < 0.4 && rate > least_rate ? rate / 2 : rate;
    call_factor = calls > 1                        ? call_factor * 2
                  : calls < 0.4 && call_factor > 1 ? call_factor / 2
                                                   : call_factor;
    window_start_ns = now_ns;
    window_samples = window_calls = 0;
}

static void
draw_gap(void)
{
    pw_self.rate = rate;
    pw_self.left = exact ? 0 : (int64_t)pw_rng_exponential(&pw_self.random, rate);
}

/* A thread's first allocation seen. Its gap is drawn as if just before it. */
static void
set_up_thread(size_t bytes)
{
    pw_self.published = pw_self.volume - bytes; /* what came before is no part of this recording */
    pw_self.id = ++thread_count;
    pw_self.random = pw_rng_seed(pw_clock_ns() ^ (uint64_t)pw_self.id << 48);
    draw_gap();
    pw_self.left -= pw_span(bytes);
}

/* tracemalloc started before us and stopped after puts its saved allocator back, and our hook is
 * gone. One allocation of our own that the hook sees, or not, tells. */
static void hook_all(void);

static bool
hook_is_there(void)
{
    int64_t left = pw_self.left;
    pw_self.probing = 1;
    pw_self.left = -1;
    void *block = PyObject_Malloc(16);
    bool there = pw_self.probing == 0;
    pw_self.probing = 0;
    PyObject_Free(block);
    pw_self.left = left;
    return there;
}

static void
lose_everything(uint64_t now_ns)
{
    for (uint32_t i = 0; i < PW_TABLE_SLOTS; i++) {
        while (table.slots[i].address != 0) {
            record_death(&table.slots[i], now_ns, DEATH_LOST);
        }
    }
}

/* With the GIL, without the lock. A program whose hooks are gone may reach us by no allocation at
 * all, so collections and the end of the recording look too. */
static void
check_hooks(uint64_t now_ns)
{
    if (!hook_is_there()) {
        lock_take();
        totals.hook_removals++;
        lose_everything(now_ns);
        hook_all();
        lock_release();
    }
}

void
pw_sample_birth(void *block, size_t bytes, int domain)
{
    if (pw_self.probing) {
        pw_self.probing = 0;
        return;
    }
    if (!atomic_load_explicit(&sampling, memory_order_relaxed)) {
        pw_self.left = IDLE_GAP;
        pw_self.rate = 0;
        return;
    }
    uint64_t start_ns = pw_clock_ns();
    lock_take();
    if (pw_self.rate == 0) {
        set_up_thread(bytes);
    }
    if (pw_self.left < 0) {
        publish_volume();
        double expected = (double)pw_span(bytes) / pw_self.rate;
        record_birth(block, bytes, domain, exact ? 1 : -1 / expm1(-expected), start_ns);
        window_samples++;
        if (!exact) {
            adapt_rates(start_ns);
        }
        draw_gap();
    }
    /* Another thread's flush may be the later; a full buffer was written without a summary. */
    bool check = start_ns > flushed_ns + FLUSH_NS || recording.written_bytes != summarised_bytes;
    if (check) {
        flush(start_ns);
    }
    totals.overhead_ns += pw_clock_ns() - start_ns;
    lock_release();
    if (check && domain <= PW_DOMAIN_MEMORY) {
        check_hooks(start_ns);
    }
}

void
pw_sample_death(void *block)
{
    uint64_t now_ns = pw_clock_ns();
    lock_take();
    if (atomic_load_explicit(&sampling, memory_order_relaxed)) {
        const uintptr_t addresses[2] = {(uintptr_t)block, (uintptr_t)block | CONSTRUCTION_TAG};
        for (int i = 0; i < 2; i++) {
            pw_sample *sample = pw_table_find(&table, addresses[i]);
            if (sample != NULL) {
                record_death(sample, now_ns, collecting ? DEATH_COLLECTED : DEATH_FREE);
            }
        }
        totals.overhead_ns += pw_clock_ns() - now_ns;
    }
    lock_release();
}

/* ---- constructions ------------------------------------------------------------------------ */

int
pw_sampling_constructions(void)
{
    /* A thread is set up by its first allocation. */
    return atomic_load_explicit(&sampling, memory_order_relaxed) && pw_self.rate != 0;
}

double
pw_construction_factor(void)
{
    return call_factor;
}

void
pw_sample_construction(PyObject *object, PyTypeObject *type, uint64_t arguments, double weight,
                       uint64_t start_ns, uint64_t duration_ns)
{
    uint64_t now_ns = pw_clock_ns();
    uintptr_t block = (uintptr_t)object - pw_object_prefix_bytes(type);
    block |= CONSTRUCTION_TAG;
    lock_take();
    if (atomic_load_explicit(&sampling, memory_order_relaxed)) {
        window_calls++;
        adapt_rates(now_ns);
        if (pw_table_find(&table, block) == NULL) {
            uint64_t birth = totals.samples;
            uint32_t id = type_id((uintptr_t)type, type->tp_name, type->tp_flags);
            record_birth((void *)block, (size_t)type->tp_basicsize, PW_DOMAIN_CONSTRUCTION, weight,
                         start_ns);
            pw_construction *record =
                pw_log_reserve(&recording, PW_LOG_CONSTRUCTIONS, sizeof(*record));
            *record =
                (pw_construction){birth, arguments, id,
                                  duration_ns < UINT32_MAX ? (uint32_t)duration_ns : UINT32_MAX};
            totals.constructions++;
        }
        totals.overhead_ns += pw_clock_ns() - now_ns;
    }
    lock_release();
}

/* ---- the allocator hooks ------------------------------------------------------------------ */

static void *
moved_block(hooked_domain *hooked, void *ctx, void *block, size_t bytes, pw_sample sample)
{
    int64_t touched =
        (int64_t)pw_resident_pages(sample.address, sample.bytes) - sample.resident_pages;
    void *moved = hooked->original.realloc(ctx, block, bytes);
    lock_take();
    if (moved != NULL) {
        sample.address = (uintptr_t)moved;
        sample.bytes = bytes;
        if (bytes >= PW_RESIDENCY_MIN_BYTES) {
            sample.resident_pages =
                (int32_t)((int64_t)pw_resident_pages(sample.address, bytes) - touched);
        }
    }
    pw_sample *inner = pw_table_find(&table, sample.address);
    if (inner != NULL) { /* sampled anew on the way, by the domain below: one block, one sample */
        record_death(inner, pw_clock_ns(), DEATH_THINNED);
    }
    if (table.used >= PW_TABLE_MAX) {
        thin(pw_clock_ns());
    }
    pw_table_insert(&table, sample);
    lock_release();
    return moved;
}

/* A sampled block keeps its birth through realloc; it leaves the table while the allocator has it,
 * since its old address may be somebody else's before we are back. */
static inline void *
hook_realloc(hooked_domain *hooked, int domain, void *ctx, void *block, size_t bytes, size_t limit)
{
    if (block != NULL && PW_UNLIKELY(pw_filter_maybe(block))) {
        lock_take();
        pw_sample *found = pw_table_find(&table, (uintptr_t)block);
        if (found != NULL) {
            pw_sample sample = *found;
            pw_table_remove(&table, found);
            lock_release();
            return moved_block(hooked, ctx, block, bytes, sample);
        }
        lock_release();
    }
    void *moved = hooked->original.realloc(ctx, block, bytes);
    if (PW_LIKELY(bytes - 1 < limit)) {
        pw_allocated(moved, bytes, domain);
    }
    return moved;
}

#define DEFINE_HOOKS(prefix, hooked, sampled_domain, limit)                                        \
    static void *prefix##_malloc(void *ctx, size_t bytes)                                          \
    {                                                                                              \
        void *block = hooked.original.malloc(ctx, bytes);                                          \
        if (PW_LIKELY(bytes - 1 < (limit))) {                                                      \
            pw_allocated(block, bytes, sampled_domain);                                            \
        }                                                                                          \
        return block;                                                                              \
    }                                                                                              \
    static void *prefix##_calloc(void *ctx, size_t count, size_t bytes)                            \
    {                                                                                              \
        void *block = hooked.original.calloc(ctx, count, bytes);                                   \
        pw_self.zeroed = block;                                                                    \
        if (PW_LIKELY(count * bytes - 1 < (limit))) { /* CPython has checked the product */        \
            pw_allocated(block, count * bytes, sampled_domain);                                    \
        }                                                                                          \
        return block;                                                                              \
    }                                                                                              \
    static void *prefix##_realloc(void *ctx, void *block, size_t bytes)                            \
    {                                                                                              \
        return hook_realloc(&hooked, sampled_domain, ctx, block, bytes, limit);                    \
    }                                                                                              \
    static void prefix##_free(void *ctx, void *block)                                              \
    {                                                                                              \
        pw_freeing(block);                                                                         \
        hooked.original.free(ctx, block);                                                          \
    }                                                                                              \
    static const PyMemAllocatorEx prefix##_hooks = {NULL, prefix##_malloc, prefix##_calloc,        \
                                                    prefix##_realloc, prefix##_free};

DEFINE_HOOKS(object, object_domain, PW_DOMAIN_OBJECT, small_bytes)
DEFINE_HOOKS(memory, memory_domain, PW_DOMAIN_MEMORY, small_bytes)
DEFINE_HOOKS(raw, raw_domain, PW_DOMAIN_RAW, SIZE_MAX)

static void
hook(hooked_domain *hooked, const PyMemAllocatorEx *hooks)
{
    PyMemAllocatorEx current;
    PyMem_GetAllocator(hooked->domain, &current);
    if (current.malloc == hooks->malloc) {
        return;
    }
    hooked->original = current;
    PyMemAllocatorEx ours = *hooks;
    ours.ctx = current.ctx; /* any mix of old and new words must work */
    PyMem_SetAllocator(hooked->domain, &ours);
}

static void
hook_all(void)
{
    hook(&raw_domain, &raw_hooks);
    hook(&object_domain, &object_hooks);
    hook(&memory_domain, &memory_hooks);
    small_bytes = object_domain.original.malloc == raw_domain.original.malloc ? SIZE_MAX : 512;
}

/* The child of a fork shares the log's descriptor: it stops recording, first thing. No Python. */
static void
after_fork_in_child(void)
{
    atomic_store(&sampling, 0);
    atomic_flag_clear(&lock);
    pw_log_close(&recording);
}

static void
after_fork_in_parent(void)
{
    totals.forks++;
}

/* ---- Python's side ------------------------------------------------------------------------ */

static PyObject *
sampler_start(PyObject *Py_UNUSED(module), PyObject *args)
{
    static bool prepared;
    int fd, want_exact;
    double mean_bytes, per_second;
    if (!PyArg_ParseTuple(args, "iddp:sampler_start", &fd, &mean_bytes, &per_second, &want_exact)) {
        return NULL;
    }
    if (recording.fd >= 0) {
        PyErr_SetString(PyExc_RuntimeError, "the sampler is already running");
        return NULL;
    }
    struct rusage before, after;
    getrusage(RUSAGE_SELF, &before);
    if (types == NULL) {
        types = pw_map_populated(sizeof(*types));
    }
    if (types == NULL || pw_table_init(&table) < 0 || pw_stack_table_init(&stacks) < 0 ||
        pw_log_open(&recording, fd) < 0) {
        return PyErr_NoMemory();
    }
    if (!prepared) {
        pthread_atfork(NULL, after_fork_in_parent, after_fork_in_child);
        prepared = true;
    }
    /* A second recording in one process numbers everything anew. */
    memset(table.slots, 0, PW_TABLE_SLOTS * sizeof(*table.slots));
    memset((void *)pw_filter, 0, sizeof(pw_filter));
    table.used = 0;
    memset(stacks.nodes, 0, PW_NODE_SLOTS * sizeof(*stacks.nodes));
    memset(stacks.stacks, 0, PW_NODE_SLOTS * sizeof(*stacks.stacks));
    memset(stacks.codes, 0, PW_NODE_SLOTS * sizeof(*stacks.codes));
    stacks.node_count = stacks.stack_count = stacks.code_count = 0;
    memset(types, 0, sizeof(*types));
    memset(&totals, 0, sizeof(totals));
    rate = least_rate = mean_bytes;
    call_factor = 1;
    ceiling_per_second = per_second;
    exact = want_exact;
    process = getpid();
    summarised_bytes = recording.written_bytes;
    thread_count = collections = 0;
    collecting = false;
    window_samples = window_calls = 0;
    totals.start_ns = window_start_ns = flushed_ns = pw_clock_ns();
    getrusage(RUSAGE_SELF, &after);
    totals.own_faults = (uint64_t)(after.ru_minflt - before.ru_minflt);
    if (!hook_is_there()) { /* from an earlier recording it may be, below another's hook */
        hook_all();
    }
    atomic_store(&sampling, 1);
    pw_self.rate = 0;
    pw_self.left = 0;
    Py_RETURN_NONE;
}

static PyObject *
sampler_stop(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored))
{
    if (recording.fd < 0) { /* none was started, it has ended, or it is the parent's */
        Py_RETURN_FALSE;
    }
    uint64_t now_ns = pw_clock_ns();
    check_hooks(now_ns);
    lock_take();
    atomic_store(&sampling, 0);
    if (pw_self.rate != 0) {
        publish_volume();
    }
    for (uint32_t i = 0; i < PW_TABLE_SLOTS; i++) {
        while (table.slots[i].address != 0) {
            record_death(&table.slots[i], now_ns, DEATH_ALIVE);
        }
    }
#ifdef __GLIBC__
    struct mallinfo2 info = mallinfo2();
    totals.heap_bytes = info.arena;
    totals.heap_free_bytes = info.fordblks;
    totals.heap_mapped_bytes = info.hblkhd;
#endif
    totals.finished = 1;
    flush(now_ns);
    int error = recording.error;
    pw_log_close(&recording);
    lock_release();
    if (error) {
        errno = error;
        return PyErr_SetFromErrno(PyExc_OSError);
    }
    Py_RETURN_TRUE;
}

/* An entry of gc.callbacks: how often, how long, how much. */
static PyObject *
sampler_collection(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t count)
{
    if (count != 2 || !PyUnicode_Check(args[0]) || !PyDict_Check(args[1])) {
        PyErr_SetString(PyExc_TypeError, "sampler_collection(phase, info) takes a str and a dict");
        return NULL;
    }
    if (PyUnicode_CompareWithASCIIString(args[0], "start") == 0) {
        if (atomic_load_explicit(&sampling, memory_order_relaxed)) {
            check_hooks(pw_clock_ns());
        }
        collection_start_ns = pw_cpu_clock_ns();
        collecting = true;
        Py_RETURN_NONE;
    }
    collecting = false;
    PyObject *generation = PyDict_GetItemString(args[1], "generation");
    PyObject *collected = PyDict_GetItemString(args[1], "collected");
    if (generation != NULL && collected != NULL) {
        long index = PyLong_AsLong(generation);
        long found = PyLong_AsLong(collected);
        if (PyErr_Occurred()) {
            return NULL;
        }
        lock_take();
        if (index >= 0 && index < 3 && collection_start_ns != 0) {
            totals.collections[index]++;
            totals.collection_ns[index] += pw_cpu_clock_ns() - collection_start_ns;
            totals.collected[index] += (uint64_t)found;
            collections++;
        }
        lock_release();
    }
    Py_RETURN_NONE;
}

static PyObject *
sampler_stack(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored))
{
    pw_frame frames[PW_STACK_MAX];
    int truncated;
    int depth = pw_stack_walk(frames, &truncated);
    PyObject *result = PyList_New(depth);
    for (int i = 0; result != NULL && i < depth; i++) {
        PyObject *item = Py_BuildValue("(OI)", frames[i].code, frames[i].instruction_bytes);
        if (item == NULL) {
            Py_CLEAR(result);
            break;
        }
        PyList_SET_ITEM(result, i, item);
    }
    return result;
}

static PyObject *
sampler_check(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored))
{
    lock_take();
    bool sound = table.slots == NULL || pw_table_check(&table);
    lock_release();
    return PyBool_FromLong(sound);
}

static PyObject *
sampler_hook_constructions(PyObject *Py_UNUSED(module), PyObject *metaclasses)
{
    if (pw_constructions_install(metaclasses) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyObject *
sampler_hook_libraries(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored))
{
    /* Reading the libraries' tables faults them in: ours, not the program's. */
    struct rusage before, after;
    getrusage(RUSAGE_SELF, &before);
    pw_hook_libraries();
    getrusage(RUSAGE_SELF, &after);
    totals.own_faults += (uint64_t)(after.ru_minflt - before.ru_minflt);
    Py_RETURN_NONE;
}

static PyMethodDef sampler_methods[] = {
    {"sampler_start", sampler_start, METH_VARARGS,
     "sampler_start(fd, mean_bytes, per_second, exact, /)\n--\n\n"
     "Sample allocations into the log at fd (a copy of it is kept), on average one every\n"
     "mean_bytes, at most about per_second a second; every one if exact."},
    {"sampler_stop", sampler_stop, METH_NOARGS,
     "sampler_stop()\n--\n\nRecord what is still alive, and end the log. False if none is open."},
    {"sampler_collection", (PyCFunction)(void (*)(void))sampler_collection, METH_FASTCALL,
     "sampler_collection(phase, info, /)\n--\n\nAn entry for gc.callbacks."},
    {"sampler_stack", sampler_stack, METH_NOARGS,
     "sampler_stack()\n--\n\nThis thread's stack by raw reads: (code, lasti), innermost first."},
    {"sampler_check", sampler_check, METH_NOARGS,
     "sampler_check()\n--\n\nWhether the table of live samples is sound."},
    {"sampler_hook_constructions", sampler_hook_constructions, METH_O,
     "sampler_hook_constructions(metaclasses, /)\n--\n\nTime a sample of all class calls."},
    {"sampler_hook_libraries", sampler_hook_libraries, METH_NOARGS,
     "sampler_hook_libraries()\n--\n\n"
     "See numpy's array buffers, and what other libraries loaded so far malloc."},
    {NULL, NULL, 0, NULL},
};

int
pw_add_sampler(PyObject *module)
{
    return PyModule_AddFunctions(module, sampler_methods);
}
