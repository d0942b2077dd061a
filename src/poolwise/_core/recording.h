/* recording.h: the append-only log of a recording, written as it happens.
 *
 * A file is a magic line, then chunks: { kind, bytes, crc32 of these two and the payload, 0 } +
 * payload.
 * Each kind of record has a buffer of its own, and all are written together in one order
 * (texts, nodes, births, deaths, constructions, objects), so that in every prefix of the file a
 * record refers only to records before it. What is still in the buffers when a process is killed is
 * in the tail (recording_tail.h); a cut chunk fails its checksum and everything before it stands.
 *
 * write(2) from a populated buffer makes no page faults in the program that is measured. After an
 * error nothing more is taken: the numbers of later records would be wrong. */
#ifndef PW_RECORDING_H
#define PW_RECORDING_H

#include "recording_tail.h"

#include <stdbool.h>
#include <sys/stat.h>

#define PW_RECORDING_MAGIC "poolwise recording 1\n"

typedef enum {
    PW_CHUNK_TEXTS = 'T',
    PW_CHUNK_NODES = 'N',
    PW_CHUNK_BIRTHS = 'B',
    PW_CHUNK_DEATHS = 'D',
    PW_CHUNK_CONSTRUCTIONS = 'C',
    PW_CHUNK_OBJECTS = 'O',
    PW_CHUNK_SUMMARY = 'S',
} pw_chunk_kind;

typedef struct {
    uint32_t kind, bytes, crc, reserved;
} pw_chunk_header;

#define PW_CRC_HEADER_BYTES (2 * sizeof(uint32_t))

typedef struct {
    uint64_t birth_ns, thread_volume, volume, bytes;
    double weight;
    uint32_t stack, thread, nonresident_pages, domain, collections, flags;
} pw_birth;

/* From calloc; by the realloc of a block that no one had sampled. */
enum { PW_BIRTH_ZEROED = 1, PW_BIRTH_RESIZED = 2 };

typedef struct {
    uint64_t birth; /* index of the birth record in the whole log */
    uint64_t death_ns, thread_volume, volume, bytes;
    uint32_t stack, thread, type, touched_pages, collections;
    uint16_t kind, reallocs; /* how often since its birth, up to PW_REALLOCS_MAX */
} pw_death;

typedef struct {
    uint64_t birth, arguments; /* hash of the arguments: equal for equal constants */
    uint32_t type, duration_ns;
} pw_construction;

/* All of a type so far; `created` is the time of an event that has no counts. */
typedef struct {
    uint64_t created, reused; /* of them from a free list */
    uint32_t type, event;
} pw_objects;

enum { PW_OBJECTS_CREATED, PW_OBJECTS_LOST /* the tracer: counts stand still */ };

/* A stack is a node; its parent is the caller. Nodes are numbered from 1 in order of appearance. */
typedef struct {
    uint32_t parent, code, instruction_bytes;
} pw_node;

enum { PW_TEXT_CODE = 1, PW_TEXT_TYPE = 2 };

#define PW_LOG_LEAST_FD 200

typedef struct {
    int fd;
    int error; /* errno of what failed; nothing is written any more */
    dev_t device;
    ino_t file;
    uint64_t written_bytes;
    pw_tail tail;
} pw_log;

static inline uint32_t
pw_crc32(uint32_t crc, const void *data, size_t count)
{
    const uint8_t *bytes = data;
    static uint32_t table[256];
    if (table[1] == 0) {
        for (uint32_t i = 0; i < 256; i++) {
            uint32_t c = i;
            for (int k = 0; k < 8; k++) {
                c = (c & 1) ? 0xedb88320u ^ (c >> 1) : c >> 1;
            }
            table[i] = c;
        }
    }
    crc = ~crc;
    for (size_t i = 0; i < count; i++) {
        crc = table[(crc ^ bytes[i]) & 0xff] ^ (crc >> 8);
    }
    return ~crc;
}

static inline void
pw_log_write(pw_log *log, const void *bytes, size_t count)
{
    const uint8_t *next = bytes;
    while (count > 0 && log->error == 0) {
        ssize_t written = write(log->fd, next, count);
        if (written < 0) {
            if (errno != EINTR) {
                log->error = errno;
            }
            continue;
        }
        log->written_bytes += (uint64_t)written;
        next += written;
        count -= (size_t)written;
    }
}

static inline void
pw_log_chunk(pw_log *log, pw_chunk_kind kind, const void *bytes, uint32_t count)
{
    pw_chunk_header header = {kind, count, 0, 0};
    header.crc = pw_crc32(pw_crc32(0, &header, PW_CRC_HEADER_BYTES), bytes, count);
    pw_log_write(log, &header, sizeof(header));
    pw_log_write(log, bytes, count);
}

static inline void
pw_log_close(pw_log *log)
{
    if (log->fd >= 0) {
        close(log->fd);
    }
    log->fd = -1;
    pw_tail_close(&log->tail);
}

/* Writes to a copy of `fd`, with a number that no program counts on; the tail goes to `tail_fd`, if
 * it can. Both may be closed then. */
static inline int
pw_log_open(pw_log *log, int fd, int tail_fd)
{
    struct stat opened;
    log->fd = fcntl(fd, F_DUPFD_CLOEXEC, PW_LOG_LEAST_FD);
    if (log->fd < 0) {
        log->fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    }
    if (log->fd < 0 || fstat(log->fd, &opened) < 0 || pw_tail_open(&log->tail, tail_fd) < 0) {
        int error = errno;
        pw_log_close(log);
        errno = error;
        return -1;
    }
    (void)!ftruncate(log->fd, 0); /* what was there before, unless it is a pipe */
    log->device = opened.st_dev;
    log->file = opened.st_ino;
    log->error = 0;
    log->written_bytes = 0;
    pw_log_write(log, PW_RECORDING_MAGIC, sizeof(PW_RECORDING_MAGIC) - 1);
    pw_tail_next_turn(&log->tail, log->written_bytes);
    return 0;
}

/* A program may close descriptors that it did not open, and the number be its own file's next. */
static inline void
pw_log_check_file(pw_log *log)
{
    struct stat now;
    if (log->error == 0 &&
        (fstat(log->fd, &now) < 0 || now.st_dev != log->device || now.st_ino != log->file)) {
        log->error = EBADF;
        log->fd = -1; /* not ours to close */
    }
}

/* What was written may count only once the tail says so: nothing, after an error. */
static inline void
pw_log_written(pw_log *log)
{
    if (log->error == 0) {
        pw_tail_next_turn(&log->tail, log->written_bytes);
    }
}

static inline void
pw_log_flush(pw_log *log)
{
    static const pw_chunk_kind kinds[PW_LOGS] = {PW_CHUNK_TEXTS,         PW_CHUNK_NODES,
                                                 PW_CHUNK_BIRTHS,        PW_CHUNK_DEATHS,
                                                 PW_CHUNK_CONSTRUCTIONS, PW_CHUNK_OBJECTS};
    pw_log_check_file(log);
    for (int i = 0; i < PW_LOGS; i++) {
        uint32_t used = pw_tail_used(&log->tail, i);
        if (used > 0) {
            pw_log_chunk(log, kinds[i], pw_tail_buffer(&log->tail, i), used);
        }
    }
    pw_log_written(log);
}

/* The buffers, then a record that is a chunk itself. */
static inline void
pw_log_flush_with(pw_log *log, pw_chunk_kind kind, const void *bytes, uint32_t count)
{
    pw_log_flush(log);
    pw_log_chunk(log, kind, bytes, count);
    pw_log_written(log);
}

/* Room for `bytes` more in one buffer; bytes must not exceed PW_LOG_BUFFER_BYTES. NULL after an
 * error. They count when they are published. */
static inline uint8_t *
pw_log_room(pw_log *log, int buffer, uint32_t bytes)
{
    if (pw_tail_used(&log->tail, buffer) + bytes > PW_LOG_BUFFER_BYTES) {
        pw_log_flush(log);
    }
    return log->error ? NULL
                      : pw_tail_buffer(&log->tail, buffer) + pw_tail_used(&log->tail, buffer);
}

static inline void
pw_log_put(pw_log *log, int buffer, const void *record, uint32_t bytes)
{
    uint8_t *place = pw_log_room(log, buffer, bytes);
    if (place != NULL) {
        memcpy(place, record, bytes);
        pw_tail_publish(&log->tail, buffer, bytes);
    }
}

typedef struct {
    const void *bytes;
    uint32_t count;
} pw_piece;

/* One text record { kind, bytes } + pieces; a record larger than the buffer is a chunk itself. */
static inline void
pw_log_text(pw_log *log, uint32_t kind, const pw_piece *pieces, int piece_count)
{
    uint32_t total = 0;
    for (int i = 0; i < piece_count; i++) {
        total += pieces[i].count;
    }
    uint32_t head[2] = {kind, total};
    if (sizeof(head) + total <= PW_LOG_BUFFER_BYTES) {
        uint8_t *place = pw_log_room(log, PW_LOG_TEXTS, (uint32_t)sizeof(head) + total);
        if (place == NULL) {
            return;
        }
        memcpy(place, head, sizeof(head));
        place += sizeof(head);
        for (int i = 0; i < piece_count; i++) {
            memcpy(place, pieces[i].bytes, pieces[i].count);
            place += pieces[i].count;
        }
        pw_tail_publish(&log->tail, PW_LOG_TEXTS, (uint32_t)sizeof(head) + total);
        return;
    }
    pw_log_flush(log);
    pw_chunk_header header = {PW_CHUNK_TEXTS, (uint32_t)sizeof(head) + total, 0, 0};
    header.crc = pw_crc32(pw_crc32(0, &header, PW_CRC_HEADER_BYTES), head, sizeof(head));
    for (int i = 0; i < piece_count; i++) {
        header.crc = pw_crc32(header.crc, pieces[i].bytes, pieces[i].count);
    }
    pw_log_write(log, &header, sizeof(header));
    pw_log_write(log, head, sizeof(head));
    for (int i = 0; i < piece_count; i++) {
        pw_log_write(log, pieces[i].bytes, pieces[i].count);
    }
    pw_log_written(log);
}

#endif
