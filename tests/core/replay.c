/* replay.c: puts recorded allocations through the sampler's own decisions, by many seeds.
 *
 * `replay FIRST LAST MEAN_BYTES CEILING SUMMARY_BYTES DIRECTORY < EVENTS` writes a recording for
 * each seed into DIRECTORY/SEED/samples.log; seed 0 samples everything. Driven by
 * tests/profile/test_replay.py, which makes the events and judges what the recordings say. */
#include "check.h"
#include "decision.h"
#include "recording.h"

enum { BIRTH, REALLOC, DEATH };
enum { THREADS = 64, DIED_BY_THINNING = 1 };

typedef struct {
    uint32_t what, block;
    union {
        pw_birth birth; /* a realloc's, too: what it is if this realloc is sampled */
        pw_death death;
    } record;
} event;

_Atomic uint8_t pw_filter[1u << PW_FILTER_BITS];

static pw_table table;
static pw_rates rates;
static pw_thread threads[THREADS];
static pw_log output = {.fd = -1};
static uint64_t samples;

static void
record_death(pw_sample *sample, pw_death death)
{
    death.birth = sample->id;
    death.bytes = sample->bytes;
    death.reallocs = sample->reallocs;
    pw_log_put(&output, PW_LOG_DEATHS, &death, sizeof(death));
    pw_table_remove(&table, sample);
}

static void
drop_by_thinning(pw_sample *sample, uint64_t now_ns)
{
    record_death(sample, (pw_death){.death_ns = now_ns, .kind = DIED_BY_THINNING});
}

static void
thin(pw_thread *thread, uint64_t now_ns)
{
    pw_thin(&table, &rates, thread, drop_by_thinning, now_ns);
    pw_log_flush(&output);
    pw_death marker = {.birth = UINT64_MAX, .death_ns = now_ns, .kind = DIED_BY_THINNING};
    pw_log_put(&output, PW_LOG_DEATHS, &marker, sizeof(marker));
    pw_log_flush(&output);
}

static uintptr_t
address_of(const event *happened)
{
    return (uintptr_t)(happened->block + 1) << 4;
}

/* A birth, or the realloc of a block that is not sampled. */
static void
offer(const event *happened)
{
    pw_birth birth = happened->record.birth;
    pw_thread *thread = &threads[birth.thread];
    if (thread->rate == 0) {
        thread->random = pw_rng_seed(at.seed << 8 | birth.thread);
        pw_draw_gap(&rates, thread);
    }
    if ((thread->left -= pw_span(birth.bytes)) >= 0) {
        return;
    }
    birth.weight = pw_weight(&rates, thread, birth.bytes);
    birth.flags = happened->what == REALLOC ? PW_BIRTH_RESIZED : 0;
    if (table.used >= PW_TABLE_MAX) {
        thin(thread, birth.birth_ns);
    }
    pw_log_put(&output, PW_LOG_BIRTHS, &birth, sizeof(birth));
    pw_table_insert(&table, (pw_sample){.address = address_of(happened),
                                        .bytes = birth.bytes,
                                        .id = (uint32_t)samples++});
    pw_next_sample(&rates, thread, birth.birth_ns);
}

static void
replay(const event *events, size_t count)
{
    for (at.step = 0; at.step < count; at.step++) {
        const event *happened = &events[at.step];
        pw_sample *sample = pw_table_find(&table, address_of(happened));
        if (happened->what == DEATH && sample != NULL) {
            record_death(sample, happened->record.death);
        } else if (happened->what == REALLOC && sample != NULL) {
            sample->bytes = happened->record.birth.bytes;
            sample->reallocs += sample->reallocs < PW_REALLOCS_MAX;
        } else if (happened->what != DEATH) {
            offer(happened);
        }
    }
    CHECK(table.used == 0); /* the trace ends every block, those alive at its end as well */
    CHECK(pw_table_check(&table));
}

static event *
read_events(size_t *count)
{
    size_t room = 1 << 12;
    event *events = malloc(room * sizeof(*events));
    for (*count = 0; events != NULL; (*count)++) {
        if (*count == room) {
            room *= 2;
            events = realloc(events, room * sizeof(*events));
            CHECK(events != NULL);
        }
        if (fread(&events[*count], sizeof(*events), 1, stdin) != 1) {
            break;
        }
    }
    return events;
}

int
main(int argc, char **argv)
{
    CHECK(argc == 7);
    size_t count;
    event *events = read_events(&count);
    CHECK(events != NULL && count > 0 && pw_table_init(&table) == 0);
    uint64_t last = strtoull(argv[2], NULL, 10);
    uint32_t summary_bytes = (uint32_t)strtoul(argv[5], NULL, 10);
    void *summary = calloc(1, summary_bytes);
    for (at.seed = strtoull(argv[1], NULL, 10); at.seed <= last; at.seed++) {
        char path[4096];
        CHECK(snprintf(path, sizeof(path), "%s/%llu", argv[6], (unsigned long long)at.seed) > 0);
        CHECK(mkdir(path, 0700) == 0);
        strcat(path, "/samples.log");
        int fd = open(path, O_WRONLY | O_CREAT, 0600);
        CHECK(fd >= 0 && pw_log_open(&output, fd, -1) == 0);
        close(fd);
        memset(threads, 0, sizeof(threads));
        memset(pw_filter, 0, sizeof(pw_filter));
        rates = (pw_rates){.rate = strtod(argv[3], NULL),
                           .least_rate = strtod(argv[3], NULL),
                           .ceiling_per_second = strtod(argv[4], NULL),
                           .call_factor = 1,
                           .exact = at.seed == 0};
        samples = 0;
        replay(events, count);
        pw_log_flush_with(&output, PW_CHUNK_SUMMARY, summary, summary_bytes);
        CHECK(output.error == 0);
        pw_log_close(&output);
    }
    free(summary);
    free(events);
    return 0;
}
