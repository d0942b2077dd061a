/* recording.c: what was logged is in the file, whatever write(2) does, and nothing after an error.
 *
 * The parser here is independent of the one in Python. It also checks the order: in every prefix
 * of the file a record refers only to records before it. And at any moment, even in the middle of a
 * flush, the file and its tail together hold each record once: so much is left of a process that is
 * killed then. */
#include "check.h"

#include <pthread.h>
#include <unistd.h>

static bool writes_stumble;
static void killed_here(void);

/* A write that is interrupted, or takes a part only, as those to pipes and full disks are. */
static ssize_t
some_write(int fd, const void *bytes, size_t count)
{
    if (writes_stumble && below(4) == 0) {
        errno = EINTR;
        return -1;
    }
    if (writes_stumble && below(400) == 0) {
        killed_here();
    }
    return write(fd, bytes, writes_stumble ? 1 + below(count) : count);
}

#define write some_write
#include "recording.h"
#undef write

typedef struct {
    uint8_t *bytes;
    size_t used, cap;
} growing;

static void
append(growing *to, const void *bytes, size_t count)
{
    if (to->used + count > to->cap) {
        to->cap = 2 * (to->used + count);
        to->bytes = realloc(to->bytes, to->cap);
        CHECK(to->bytes != NULL);
    }
    if (count > 0) {
        memcpy(to->bytes + to->used, bytes, count);
    }
    to->used += count;
}

static void
forget(growing *what)
{
    free(what->bytes);
    *what = (growing){0};
}

static const uint32_t chunk_kinds[PW_LOGS] = {'T', 'N', 'B', 'D', 'C', 'O'};

static growing expected[PW_LOGS], parsed[PW_LOGS];
static uint32_t codes, nodes, births;

static uint32_t
crc_bit_by_bit(uint32_t crc, const uint8_t *bytes, size_t count)
{
    crc = ~crc;
    for (size_t i = 0; i < 8 * count; i++) {
        uint32_t bit = (crc ^ (uint32_t)(bytes[i / 8] >> i % 8)) & 1;
        crc = crc >> 1 ^ (bit ? 0xedb88320u : 0);
    }
    return ~crc;
}

/* ---- log: random records, and the same into the model ---- */

static void
log_text(pw_log *log, uint32_t bytes)
{
    uint8_t *text = malloc(bytes + 1);
    CHECK(text != NULL);
    for (uint32_t i = 0; i < bytes; i++) {
        text[i] = (uint8_t)next_random();
    }
    uint32_t cut = (uint32_t)below(bytes + 1), head[2] = {PW_TEXT_CODE, bytes};
    pw_piece pieces[3] = {{text, cut}, {"", 0}, {text + cut, bytes - cut}};
    pw_log_text(log, PW_TEXT_CODE, pieces, 3);
    append(&expected[PW_LOG_TEXTS], head, sizeof(head));
    append(&expected[PW_LOG_TEXTS], text, bytes);
    free(text);
    codes++;
}

static void
log_record(pw_log *log, int buffer, const void *record, uint32_t bytes)
{
    pw_log_put(log, buffer, record, bytes);
    append(&expected[buffer], record, bytes);
}

static void
log_something(pw_log *log)
{
    switch (below(6)) {
    case 0:
        log_text(log, (uint32_t)below(300));
        break;
    case 1:
        if (codes > 0) {
            pw_node node = {(uint32_t)below(nodes + 1), (uint32_t)below(codes), 2};
            log_record(log, PW_LOG_NODES, &node, sizeof(node));
            nodes++;
        }
        break;
    case 2:
    case 3:
        if (nodes > 0) {
            pw_birth birth = {
                .birth_ns = next_random(), .weight = 1, .stack = 1 + (uint32_t)below(nodes)};
            log_record(log, PW_LOG_BIRTHS, &birth, sizeof(birth));
            births++;
        }
        break;
    default:
        if (births > 0) {
            pw_death death = {.birth = births - 1, .death_ns = next_random()};
            pw_construction made = {.birth = below(births)};
            log_record(log, PW_LOG_DEATHS, &death, sizeof(death));
            log_record(log, PW_LOG_CONSTRUCTIONS, &made, sizeof(made));
        }
    }
}

static void
start(pw_log *log, int fd, int tail_fd)
{
    codes = nodes = births = 0;
    for (int i = 0; i < PW_LOGS; i++) {
        forget(&expected[i]);
    }
    CHECK(pw_log_open(log, fd, tail_fd) == 0);
}

/* ---- parse: and check that nothing refers forward ---- */

static uint32_t
texts_in(const growing *texts)
{
    uint32_t count = 0, head[2];
    for (size_t i = 0; i < texts->used; i += sizeof(head) + head[1], count++) {
        CHECK(texts->used - i >= sizeof(head));
        memcpy(head, texts->bytes + i, sizeof(head));
        CHECK(texts->used - i - sizeof(head) >= head[1]);
    }
    return count;
}

static void
check_references(int kind, const uint8_t *bytes, size_t count)
{
    pw_node node;
    pw_birth birth;
    pw_death death;
    uint32_t texts = kind == PW_LOG_NODES ? texts_in(&parsed[PW_LOG_TEXTS]) : 0;
    size_t nodes_before = parsed[PW_LOG_NODES].used / sizeof(node);
    size_t births_before = parsed[PW_LOG_BIRTHS].used / sizeof(birth);
    if (kind == PW_LOG_NODES) {
        for (size_t i = 0; i < count; i += sizeof(node), nodes_before++) {
            memcpy(&node, bytes + i, sizeof(node));
            CHECK(node.parent <= nodes_before && node.code < texts);
        }
    } else if (kind == PW_LOG_BIRTHS) {
        for (size_t i = 0; i < count; i += sizeof(birth)) {
            memcpy(&birth, bytes + i, sizeof(birth));
            CHECK(birth.stack <= nodes_before);
        }
    } else if (kind == PW_LOG_DEATHS) {
        for (size_t i = 0; i < count; i += sizeof(death)) {
            memcpy(&death, bytes + i, sizeof(death));
            CHECK(death.birth < births_before);
        }
    }
}

/* Takes whole chunks; how many bytes they were. */
static size_t
parse(const growing *file)
{
    size_t i = sizeof(PW_RECORDING_MAGIC) - 1;
    for (int k = 0; k < PW_LOGS; k++) {
        forget(&parsed[k]);
    }
    CHECK(file->used >= i && memcmp(file->bytes, PW_RECORDING_MAGIC, i) == 0);
    while (file->used - i >= sizeof(pw_chunk_header)) {
        pw_chunk_header header;
        memcpy(&header, file->bytes + i, sizeof(header));
        const uint8_t *payload = file->bytes + i + sizeof(header);
        if (file->used - i - sizeof(header) < header.bytes) {
            break;
        }
        uint32_t crc = crc_bit_by_bit(0, file->bytes + i, PW_CRC_HEADER_BYTES);
        CHECK(crc_bit_by_bit(crc, payload, header.bytes) == header.crc);
        CHECK(header.bytes > 0 && header.reserved == 0);
        int kind = 0;
        while (chunk_kinds[kind] != header.kind) {
            CHECK(++kind < PW_LOGS);
        }
        check_references(kind, payload, header.bytes);
        append(&parsed[kind], payload, header.bytes);
        i += sizeof(header) + header.bytes;
    }
    return i;
}

static void
check_parsed(void)
{
    for (int k = 0; k < PW_LOGS; k++) {
        CHECK(parsed[k].used == expected[k].used);
        CHECK(parsed[k].used == 0 ||
              memcmp(parsed[k].bytes, expected[k].bytes, parsed[k].used) == 0);
    }
}

static void
check_file(const growing *file)
{
    CHECK(parse(file) == file->used);
    check_parsed();
}

static void
read_all(int fd, growing *into)
{
    uint8_t some[5000];
    ssize_t count;
    while ((count = read(fd, some, sizeof(some))) > 0) {
        append(into, some, (size_t)count);
    }
    CHECK(count == 0);
}

/* ---- the cases ---- */

static pw_log a_log;
static int log_file = -1, tail_file = -1; /* what a reader would open */
static uint64_t kills;

/* Reads what is in the two files now, as their reader does. */
static void
killed_here(void)
{
    if (tail_file < 0) {
        return;
    }
    static uint8_t tail_bytes[PW_TAIL_BYTES];
    CHECK(pread(tail_file, tail_bytes, sizeof(tail_bytes), 0) == (ssize_t)sizeof(tail_bytes));
    pw_tail tail = {(pw_tail_head *)tail_bytes, tail_bytes + PW_TAIL_HEAD_BYTES, 1};
    growing log = {0};
    uint64_t bytes = pw_tail_now(&tail)->log_bytes;
    log.bytes = malloc(bytes);
    log.used = log.cap = bytes;
    CHECK(log.bytes != NULL && pread(log_file, log.bytes, bytes, 0) == (ssize_t)bytes);
    CHECK(parse(&log) == bytes);
    for (int k = 0; k < PW_LOGS; k++) {
        check_references(k, pw_tail_buffer(&tail, k), pw_tail_used(&tail, k));
        append(&parsed[k], pw_tail_buffer(&tail, k), pw_tail_used(&tail, k));
    }
    check_parsed();
    forget(&log);
    kills++;
}

static void
fill(pw_log *log, int steps)
{
    for (int i = 0; i < steps; i++) {
        at.step++;
        log_something(log);
        if (below(200) == 0) {
            killed_here();
        }
        if (below(2000) == 0) {
            pw_log_flush(log);
        }
        if (below(2000) == 0) { /* around the size of a buffer, and far above */
            log_text(log, PW_LOG_BUFFER_BYTES - 16 + (uint32_t)below(17));
            log_text(log, (uint32_t)below(4 * PW_LOG_BUFFER_BYTES));
        }
    }
    pw_log_flush(log);
}

static void
to_a_file(void)
{
    FILE *file = tmpfile();
    CHECK(file != NULL);
    CHECK(fputs("what an earlier recording left", file) >= 0 && fflush(file) == 0);
    rewind(file);
    FILE *beside = tmpfile();
    CHECK(beside != NULL);
    log_file = fileno(file);
    start(&a_log, log_file, fileno(beside));
    CHECK(a_log.fd >= PW_LOG_LEAST_FD && a_log.tail.shared);
    tail_file = fileno(beside);
    writes_stumble = true;
    fill(&a_log, 20000);
    writes_stumble = false;
    CHECK(a_log.error == 0);
    CHECK(kills > 10);
    tail_file = -1;

    growing whole = {0};
    rewind(file);
    read_all(fileno(file), &whole);
    CHECK(whole.used == a_log.written_bytes);
    check_file(&whole);
    size_t end = whole.used;
    for (int i = 0; i < 20; i++) { /* a process killed at any byte */
        whole.used = sizeof(PW_RECORDING_MAGIC) - 1 + below(end);
        whole.used = whole.used < end ? whole.used : end;
        CHECK(parse(&whole) <= whole.used);
    }
    forget(&whole);
    pw_log_close(&a_log);
    CHECK(a_log.fd == -1);
    fclose(beside);
    fclose(file);
}

typedef struct {
    int fd;
    growing got;
} reader;

static void *
read_to_the_end(void *arg)
{
    reader *self = arg;
    read_all(self->fd, &self->got);
    return NULL;
}

static void
to_a_pipe(void)
{
    int ends[2];
    pthread_t thread;
    CHECK(pipe(ends) == 0);
    reader other = {.fd = ends[0]};
    CHECK(pthread_create(&thread, NULL, read_to_the_end, &other) == 0);
    start(&a_log, ends[1], -1);
    close(ends[1]);
    fill(&a_log, 20000);
    CHECK(a_log.error == 0);
    pw_log_close(&a_log);
    CHECK(pthread_join(thread, NULL) == 0);
    check_file(&other.got);
    forget(&other.got);
    close(ends[0]);
}

/* The program goes on after an error: the log takes and drops what comes. */
static void
check_it_stopped(pw_log *log, int error)
{
    uint64_t written = log->written_bytes;
    CHECK(log->error == error);
    fill(log, 5000);
    log_text(log, 2 * PW_LOG_BUFFER_BYTES);
    CHECK(log->error == error && log->written_bytes == written);
    pw_log_close(log);
}

static void
errors(void)
{
    int full = open("/dev/full", O_WRONLY);
    CHECK(full >= 0);
    start(&a_log, full, full); /* no tail on a device, or a full disk */
    CHECK(!a_log.tail.shared);
    fill(&a_log, 1000);
    check_it_stopped(&a_log, ENOSPC);
    close(full);

    FILE *file = tmpfile(), *innocent = tmpfile();
    CHECK(file != NULL && innocent != NULL);
    start(&a_log, fileno(file), -1);
    CHECK(close(a_log.fd) == 0);
    fill(&a_log, 1000);
    check_it_stopped(&a_log, EBADF);

    /* closed by the program, and the number given to its own file */
    start(&a_log, fileno(file), -1);
    int number = a_log.fd;
    CHECK(dup2(fileno(innocent), number) == number);
    fill(&a_log, 1000);
    check_it_stopped(&a_log, EBADF);
    CHECK(lseek(number, 0, SEEK_END) == 0);
    CHECK(close(number) == 0); /* still open: it was not ours to close */
    fclose(innocent);
    fclose(file);

    CHECK(pw_log_open(&a_log, -1, -1) == -1 && a_log.fd == -1);
}

static void
run(void)
{
    CHECK(pw_crc32(0, "123456789", 9) == 0xcbf43926u); /* the check value of CRC-32 */
    CHECK(pw_crc32(pw_crc32(0, "1234", 4), "56789", 5) == 0xcbf43926u);
    to_a_file();
    to_a_pipe();
    errors();
    for (int i = 0; i < PW_LOGS; i++) {
        forget(&expected[i]);
        forget(&parsed[i]);
    }
}

int
main(int argc, char **argv)
{
    return drive(argc, argv, 4, run);
}
