/* recorder.c: a recording's beginning, account and end, in this process and in the child of a fork.
 */
#include "sampler_state.h"

#include <malloc.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/resource.h>

#define ACCOUNT_NS UINT64_C(50000000) /* between two looks at what the process used */
#define MOST_LOGS 1000                /* of processes that had the same number one after another */

static pw_sampler_state nothing;
pw_sampler_state *pw_sampler = &nothing;
pw_recording_plan pw_plan;
_Atomic uint8_t pw_filter[1u << PW_FILTER_BITS];

static bool wiped_by_kernel; /* pw_sampler, in the child of a fork */
static int log_fd = -1;      /* its number again, for the child to close */

/* ---- the account -------------------------------------------------------------------------- */

static uint64_t
nanoseconds(struct timeval time)
{
    return (uint64_t)time.tv_sec * UINT64_C(1000000000) + (uint64_t)time.tv_usec * 1000;
}

static uint64_t
minor_faults(void)
{
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return (uint64_t)usage.ru_minflt;
}

static void
take_account(uint64_t now_ns)
{
    pw_summary *totals = &pw_sampler->totals;
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    totals->now_ns = now_ns;
    totals->user_ns = nanoseconds(usage.ru_utime);
    totals->system_ns = nanoseconds(usage.ru_stime);
    totals->minor_faults = (uint64_t)usage.ru_minflt;
    totals->major_faults = (uint64_t)usage.ru_majflt;
    totals->peak_rss_bytes = (uint64_t)usage.ru_maxrss * 1024;
    totals->rate = pw_sampler->rates.rate;
    pw_sampler->accounted_ns = now_ns;
}

void
pw_keep_account(uint64_t now_ns)
{
    if (now_ns > pw_sampler->accounted_ns + ACCOUNT_NS) {
        take_account(now_ns);
    }
    pw_sampler->totals.now_ns = now_ns;
    pw_tail_account(&pw_sampler->log.tail, &pw_sampler->totals, sizeof(pw_sampler->totals));
}

void
pw_write_samples(uint64_t now_ns)
{
    take_account(now_ns);
    pw_objects_write(now_ns);
    pw_log_flush_with(&pw_sampler->log, PW_CHUNK_SUMMARY, &pw_sampler->totals,
                      sizeof(pw_sampler->totals));
    pw_sampler->flushed_ns = now_ns;
    pw_sampler->summarised_bytes = pw_sampler->log.written_bytes;
    log_fd = pw_sampler->log.fd; /* -1 if the program has closed it */
    if (pw_sampler->log.error) {
        atomic_store(&pw_sampler->sampling, 0);
    }
}

void
pw_flush(void)
{
    if (pw_is_sampling() && getpid() == pw_plan.process) { /* not in the child of a vfork */
        pw_sampler_lock();
        pw_write_samples(pw_clock_ns());
        pw_sampler_unlock();
    }
}

/* ---- beginning and end -------------------------------------------------------------------- */

static int
name_file(char *path, int number, const char *kind)
{
    char which[32] = "";
    if (pw_plan.is_child && number == 0) {
        snprintf(which, sizeof(which), "-%d", (int)pw_plan.process);
    } else if (pw_plan.is_child) {
        snprintf(which, sizeof(which), "-%d-%d", (int)pw_plan.process, number + 1);
    }
    int bytes = snprintf(path, PATH_MAX, "%s/samples%s.%s", pw_plan.directory, which, kind);
    if (bytes >= PATH_MAX) {
        errno = ENAMETOOLONG;
        return -1;
    }
    return 0;
}

/* A child's log is a new file: its number may have been that of another before it. */
static int
open_log(char *path)
{
    int fresh = pw_plan.is_child ? O_EXCL : 0, number = 0, fd = -1;
    while (fd < 0) {
        if (name_file(path, number, "log") < 0) {
            return -1;
        }
        fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC | fresh, 0600);
        if (fd < 0 && (errno != EEXIST || ++number >= MOST_LOGS)) {
            return -1;
        }
    }
    char *tail_path = pw_sampler->tail_path;
    int tail_fd = name_file(tail_path, number, "tail") < 0
                      ? -1
                      : open(tail_path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    int opened = pw_log_open(&pw_sampler->log, fd, tail_fd);
    int error = errno;
    close(fd);
    if (tail_fd >= 0) {
        close(tail_fd);
    }
    if (!pw_sampler->log.tail.shared) {
        unlink(tail_path);
    }
    errno = error;
    return opened;
}

static void
close_log(void)
{
    if (pw_sampler->log.error == 0) { /* otherwise it holds what could not be written */
        unlink(pw_sampler->tail_path);
    }
    pw_log_close(&pw_sampler->log);
    pw_sampler->open = false;
    log_fd = -1;
}

/* Mapped at the first recording, emptied for the next: everything is numbered anew. */
static int
empty_tables(void)
{
    pw_stack_table *stacks = &pw_sampler->stacks;
    memset((void *)pw_filter, 0, sizeof(pw_filter));
    if (pw_sampler->types == NULL) {
        pw_sampler->types = pw_map_populated(sizeof(*pw_sampler->types));
        return pw_sampler->types == NULL || pw_table_init(&pw_sampler->table) < 0 ||
                       pw_stack_table_init(stacks) < 0
                   ? -1
                   : 0;
    }
    memset(pw_sampler->table.slots, 0, PW_TABLE_SLOTS * sizeof(*pw_sampler->table.slots));
    pw_sampler->table.used = 0;
    memset(stacks->nodes, 0, PW_NODE_SLOTS * sizeof(*stacks->nodes));
    memset(stacks->stacks, 0, PW_NODE_SLOTS * sizeof(*stacks->stacks));
    memset(stacks->codes, 0, PW_NODE_SLOTS * sizeof(*stacks->codes));
    stacks->node_count = stacks->stack_count = stacks->code_count = 0;
    memset(pw_sampler->types, 0, sizeof(*pw_sampler->types));
    return 0;
}

static void after_fork_in_parent(void);
static void after_fork_in_child(void);

/* Once for the process. */
static int
prepare(void)
{
    if (pw_sampler != &nothing) {
        return 0;
    }
    void *state = mmap(NULL, sizeof(*pw_sampler), PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    if (state == MAP_FAILED) {
        return -1;
    }
    wiped_by_kernel = madvise(state, sizeof(*pw_sampler), MADV_WIPEONFORK) == 0;
    pthread_atfork(NULL, after_fork_in_parent, after_fork_in_child);
    pw_sampler = state;
    return 0;
}

int
pw_recording_begin(char *path)
{
    path[0] = '\0';
    uint64_t faults = minor_faults();
    if (prepare() < 0 || empty_tables() < 0 || open_log(path) < 0) {
        return -1;
    }
    uint64_t now_ns = pw_clock_ns();
    if (pw_sampler->totals.start_ns == 0) { /* not since a fork */
        pw_sampler->totals.start_ns = now_ns;
    }
    log_fd = pw_sampler->log.fd;
    pw_sampler->open = true;
    pw_sampler->summarised_bytes = pw_sampler->log.written_bytes;
    pw_sampler->flushed_ns = now_ns;
    pw_set_up_rates(now_ns);
    pw_sampler->totals.own_faults += minor_faults() - faults;
    pw_keep_account(now_ns);
    atomic_store(&pw_sampler->sampling, 1);
    return 0;
}

int
pw_recording_end(void)
{
    uint64_t now_ns = pw_clock_ns();
    pw_sampler_lock();
    if (pw_self.rate != 0) {
        pw_publish_volume();
    }
    /* A block that is looked at is not freed meanwhile: who would, waits for the lock, unless
     * nothing is sampled any more since the log could not be written. */
    if (pw_is_sampling()) {
        pw_record_living(now_ns);
    }
    pw_forget_samples();
    atomic_store(&pw_sampler->sampling, 0);
#ifdef __GLIBC__
    struct mallinfo2 info = mallinfo2();
    pw_sampler->totals.heap_bytes = info.arena;
    pw_sampler->totals.heap_free_bytes = info.fordblks;
    pw_sampler->totals.heap_mapped_bytes = info.hblkhd;
#endif
    pw_sampler->totals.finished = 1;
    pw_write_samples(now_ns);
    int error = pw_sampler->log.error;
    close_log();
    memset(&pw_sampler->totals, 0, sizeof(pw_sampler->totals));
    pw_sampler->thread_count = pw_sampler->collections = 0;
    pw_sampler->accounted_ns = 0;
    pw_sampler_unlock();
    return error;
}

void
pw_finish(void)
{
    if (pw_is_sampling() && getpid() == pw_plan.process) {
        (void)pw_recording_end();
    }
}

/* ---- fork --------------------------------------------------------------------------------- */

bool
pw_is_unrecorded_child(void)
{
    return pw_plan.children && pw_plan.process != getpid();
}

bool
pw_recording_begin_in_child(void)
{
    char path[PATH_MAX];
    pw_plan.is_child = 1;
    pw_plan.process = getpid();
    if (pw_recording_begin(path) < 0) {
        pw_plan.children = 0; /* not again at every allocation; the reader sees a log missing */
        return false;
    }
    return true;
}

static void
after_fork_in_parent(void)
{
    pw_sampler->totals.forks++;
}

/* No Python. Nothing is opened yet: many a child becomes another program at once. */
static void
after_fork_in_child(void)
{
    if (!wiped_by_kernel) {
        memset(pw_sampler, 0, sizeof(*pw_sampler));
    }
    if (log_fd >= 0) {
        close(log_fd);
        log_fd = -1;
    }
    pw_sampler->totals.start_ns = pw_clock_ns();
    pw_self.rate = 0;
    pw_self.left = 0;
}
