/* recording_tail.h: the log's buffers, in a file of their own that is mapped and shared, so that
 * the kernel keeps them when the process is killed.
 *
 * A log that is flushed twice a second loses its last half second to SIGKILL, and far more where a
 * program samples, then waits: nobody comes by to flush. A timer thread would be the program's to
 * see, a write(2) a record costs as much as the record. A store into a shared mapping costs
 * nothing, and what was stored is in the page cache, whatever becomes of the process. (A lost
 * machine is another matter: readers check that the records refer to records that are there.)
 *
 * The tail is { head, a buffer for each kind of record }. Records count from the moment that `used`
 * covers them. The head has two turns: what the buffers hold follows the log's first `log_bytes`
 * bytes. A flush writes the buffers to the log, fills the other turn in (longer log, nothing used),
 * and makes it current with one store: killed before, the reader cuts the log back to where the old
 * turn says, and takes the buffers; killed after, there is nothing in them.
 *
 * Guard: the log's. Order of stores is all that matters: the reader comes after the writer's death,
 * or looks at `log_bytes` again after it has read. */
#ifndef PW_RECORDING_TAIL_H
#define PW_RECORDING_TAIL_H

#include "mapped.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

#define PW_TAIL_MAGIC "poolwise tail 1\n"
#define PW_TAIL_HEAD_BYTES 4096u
#define PW_TAIL_ACCOUNT_BYTES 1024u
#define PW_LOG_BUFFER_BYTES (64u << 10)

/* The kinds of records, in the order in which they are written. */
enum {
    PW_LOG_TEXTS,
    PW_LOG_NODES,
    PW_LOG_BIRTHS,
    PW_LOG_DEATHS,
    PW_LOG_CONSTRUCTIONS,
    PW_LOG_OBJECTS,
    PW_LOGS
};

typedef struct {
    uint64_t log_bytes;
    _Atomic uint32_t used[8]; /* of PW_LOGS buffers; the rest is room for more */
} pw_tail_turn;

typedef struct {
    char magic[16];
    uint32_t buffer_bytes;
    _Atomic uint32_t current;
    pw_tail_turn turns[2];
    uint32_t account_bytes;
    uint32_t reserved;
    uint8_t account[PW_TAIL_ACCOUNT_BYTES]; /* as in a summary chunk; a field may be ahead */
} pw_tail_head;

typedef struct {
    pw_tail_head *head;
    uint8_t *buffers;
    int shared; /* whether there is a file behind it */
} pw_tail;

#define PW_TAIL_BYTES (PW_TAIL_HEAD_BYTES + (size_t)PW_LOGS * PW_LOG_BUFFER_BYTES)

_Static_assert(sizeof(pw_tail_head) <= PW_TAIL_HEAD_BYTES, "the head fits in its page");

/* Blocks are allocated first: a store into a page for which the disk has no room is a SIGBUS. */
static inline void *
pw_tail_map_file(int fd)
{
    if (fd < 0 || ftruncate(fd, (off_t)PW_TAIL_BYTES) < 0 ||
        posix_fallocate(fd, 0, (off_t)PW_TAIL_BYTES) != 0) {
        return NULL;
    }
    void *memory = mmap(NULL, PW_TAIL_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (memory == MAP_FAILED) {
        return NULL;
    }
    /* The child of a fork must not reach into this. */
    if (madvise(memory, PW_TAIL_BYTES, MADV_DONTFORK) < 0) {
        munmap(memory, PW_TAIL_BYTES);
        return NULL;
    }
    memset(memory, 0, PW_TAIL_BYTES); /* the faults, now */
    return memory;
}

/* On memory of our own where `fd` cannot be mapped (-1, a full disk, a file system without): then
 * all is as ever, but a killed process loses what it had not flushed. */
static inline int
pw_tail_open(pw_tail *tail, int fd)
{
    uint8_t *memory = pw_tail_map_file(fd);
    tail->shared = memory != NULL;
    if (memory == NULL) {
        memory = pw_map_populated(PW_TAIL_BYTES);
    }
    if (memory == NULL) {
        return -1;
    }
    tail->head = (pw_tail_head *)memory;
    tail->buffers = memory + PW_TAIL_HEAD_BYTES;
    tail->head->buffer_bytes = PW_LOG_BUFFER_BYTES;
    atomic_thread_fence(memory_order_release);
    memcpy(tail->head->magic, PW_TAIL_MAGIC, sizeof(tail->head->magic));
    return 0;
}

static inline void
pw_tail_close(pw_tail *tail)
{
    if (tail->head != NULL) {
        munmap(tail->head, PW_TAIL_BYTES);
    }
    tail->head = NULL;
}

static inline pw_tail_turn *
pw_tail_now(pw_tail *tail)
{
    return &tail->head->turns[atomic_load_explicit(&tail->head->current, memory_order_relaxed)];
}

static inline uint32_t
pw_tail_used(pw_tail *tail, int buffer)
{
    return atomic_load_explicit(&pw_tail_now(tail)->used[buffer], memory_order_relaxed);
}

static inline uint8_t *
pw_tail_buffer(pw_tail *tail, int buffer)
{
    return tail->buffers + (size_t)buffer * PW_LOG_BUFFER_BYTES;
}

/* What stands behind the used bytes counts from now on. */
static inline void
pw_tail_publish(pw_tail *tail, int buffer, uint32_t bytes)
{
    atomic_store_explicit(&pw_tail_now(tail)->used[buffer], pw_tail_used(tail, buffer) + bytes,
                          memory_order_release);
}

/* All that was in the buffers is in the log, which is so long now. */
static inline void
pw_tail_next_turn(pw_tail *tail, uint64_t log_bytes)
{
    uint32_t next = 1 - atomic_load_explicit(&tail->head->current, memory_order_relaxed);
    tail->head->turns[next].log_bytes = log_bytes;
    for (int i = 0; i < PW_LOGS; i++) {
        atomic_store_explicit(&tail->head->turns[next].used[i], 0, memory_order_relaxed);
    }
    atomic_store_explicit(&tail->head->current, next, memory_order_release);
}

/* The program's account so far, for a reader that comes after its death. */
static inline void
pw_tail_account(pw_tail *tail, const void *account, uint32_t bytes)
{
    memcpy(tail->head->account, account, bytes);
    tail->head->account_bytes = bytes;
}

#endif
