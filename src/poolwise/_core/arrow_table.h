/* arrow_table.h: a table of columns, and streams of it by the Arrow C data interface.
 *
 * A consumer calls release from any thread, without the GIL, perhaps after the interpreter's end:
 * so a table is plain memory without a Python object. It is made once and never changed; all that
 * is handed out holds a reference, and the last release frees it.
 *
 * The three structures are those of the specification, their layout is an ABI:
 * https://arrow.apache.org/docs/format/CDataInterface.html, …/CStreamInterface.html */
#ifndef PW_ARROW_TABLE_H
#define PW_ARROW_TABLE_H

#include <errno.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define ARROW_FLAG_NULLABLE 2

struct ArrowSchema {
    const char *format, *name, *metadata;
    int64_t flags, n_children;
    struct ArrowSchema **children, *dictionary;
    void (*release)(struct ArrowSchema *);
    void *private_data;
};

struct ArrowArray {
    int64_t length, null_count, offset, n_buffers, n_children;
    const void **buffers;
    struct ArrowArray **children, *dictionary;
    void (*release)(struct ArrowArray *);
    void *private_data;
};

struct ArrowArrayStream {
    int (*get_schema)(struct ArrowArrayStream *, struct ArrowSchema *);
    int (*get_next)(struct ArrowArrayStream *, struct ArrowArray *);
    const char *(*get_last_error)(struct ArrowArrayStream *);
    void (*release)(struct ArrowArrayStream *);
    void *private_data;
};

#define PW_ARROW_BUFFERS 3 /* validity, then what the format wants */

typedef struct pw_arrow_field {
    char *name, *format, *metadata; /* metadata: encoded as in the specification, or NULL */
    int64_t flags, child_count;
    struct pw_arrow_field *children;
} pw_arrow_field;

typedef struct pw_arrow_column {
    int64_t length, null_count, buffer_count, child_count;
    void *buffers[PW_ARROW_BUFFERS];
    struct pw_arrow_column *children;
} pw_arrow_column;

typedef struct {
    atomic_size_t references;
    pw_arrow_field field; /* a struct, whose children are the table's columns */
    int64_t batch_count;
    pw_arrow_column *batches; /* of the shape of `field` each */
} pw_arrow_table;

static inline pw_arrow_table *
pw_arrow_table_new(void)
{
    pw_arrow_table *table = calloc(1, sizeof(*table));
    if (table != NULL) {
        atomic_init(&table->references, 1);
    }
    return table;
}

static inline void
pw_arrow_free_field(pw_arrow_field *field)
{
    for (int64_t i = 0; i < field->child_count; i++) {
        pw_arrow_free_field(&field->children[i]);
    }
    free(field->children);
    free(field->name);
    free(field->format);
    free(field->metadata);
}

static inline void
pw_arrow_free_column(pw_arrow_column *column)
{
    for (int64_t i = 0; i < column->child_count; i++) {
        pw_arrow_free_column(&column->children[i]);
    }
    free(column->children);
    for (int64_t i = 0; i < column->buffer_count; i++) {
        free(column->buffers[i]);
    }
}

static inline void
pw_arrow_table_release(pw_arrow_table *table)
{
    if (table == NULL || atomic_fetch_sub(&table->references, 1) > 1) {
        return;
    }
    pw_arrow_free_field(&table->field);
    for (int64_t i = 0; i < table->batch_count; i++) {
        pw_arrow_free_column(&table->batches[i]);
    }
    free(table->batches);
    free(table);
}

static inline pw_arrow_table *
pw_arrow_table_hold(pw_arrow_table *table)
{
    atomic_fetch_add(&table->references, 1);
    return table;
}

/* ---- what is handed out ---------------------------------------------------------------------
 *
 * A consumer may move a child out of its parent (copy the structure, and set its release to NULL)
 * and release the parent first: each node therefore has a reference of its own, and owns the
 * places of its children alone. */

#define PW_ARROW_NODE(structure)                                                                   \
    typedef struct {                                                                               \
        pw_arrow_table *table;                                                                     \
        struct structure *children; /* behind this node, and the pointers to them behind them */   \
        const void *buffers[PW_ARROW_BUFFERS];                                                     \
    } pw_node_of_##structure;                                                                      \
                                                                                                   \
    static inline void pw_release_##structure(struct structure *self)                              \
    {                                                                                              \
        pw_node_of_##structure *node = self->private_data;                                         \
        for (int64_t i = 0; i < self->n_children; i++) {                                           \
            if (node->children[i].release != NULL) {                                               \
                node->children[i].release(&node->children[i]);                                     \
            }                                                                                      \
        }                                                                                          \
        pw_arrow_table_release(node->table);                                                       \
        free(node);                                                                                \
        self->release = NULL;                                                                      \
    }                                                                                              \
                                                                                                   \
    /* A node with places for its children, none of them filled; 0 or ENOMEM. */                   \
    static inline int pw_begin_##structure(struct structure *self, pw_arrow_table *table,          \
                                           int64_t child_count)                                    \
    {                                                                                              \
        *self = (struct structure){0};                                                             \
        pw_node_of_##structure *node = calloc(                                                     \
            1, sizeof(*node) + (size_t)child_count * (sizeof(struct structure) + sizeof(void *))); \
        if (node == NULL) {                                                                        \
            return ENOMEM;                                                                         \
        }                                                                                          \
        node->children = (struct structure *)(node + 1);                                           \
        self->children = (struct structure **)(node->children + child_count);                      \
        for (int64_t i = 0; i < child_count; i++) {                                                \
            self->children[i] = &node->children[i];                                                \
        }                                                                                          \
        node->table = pw_arrow_table_hold(table);                                                  \
        self->private_data = node;                                                                 \
        self->n_children = child_count;                                                            \
        self->release = pw_release_##structure;                                                    \
        return 0;                                                                                  \
    }

PW_ARROW_NODE(ArrowSchema)
PW_ARROW_NODE(ArrowArray)

static inline int
pw_arrow_fill_schema(struct ArrowSchema *self, pw_arrow_table *table, const pw_arrow_field *field)
{
    int error = pw_begin_ArrowSchema(self, table, field->child_count);
    if (error) {
        return error;
    }
    self->name = field->name;
    self->format = field->format;
    self->metadata = field->metadata;
    self->flags = field->flags;
    for (int64_t i = 0; i < field->child_count && !error; i++) {
        error = pw_arrow_fill_schema(self->children[i], table, &field->children[i]);
    }
    if (error) {
        self->release(self);
    }
    return error;
}

static inline int
pw_arrow_fill_array(struct ArrowArray *self, pw_arrow_table *table, const pw_arrow_column *column)
{
    int error = pw_begin_ArrowArray(self, table, column->child_count);
    if (error) {
        return error;
    }
    pw_node_of_ArrowArray *node = self->private_data;
    for (int64_t i = 0; i < column->buffer_count; i++) {
        node->buffers[i] = column->buffers[i];
    }
    self->length = column->length;
    self->null_count = column->null_count;
    self->n_buffers = column->buffer_count;
    self->buffers = node->buffers;
    for (int64_t i = 0; i < column->child_count && !error; i++) {
        error = pw_arrow_fill_array(self->children[i], table, &column->children[i]);
    }
    if (error) {
        self->release(self);
    }
    return error;
}

/* ---- the stream ------------------------------------------------------------------------- */

typedef struct {
    pw_arrow_table *table;
    int64_t next; /* batch */
    int error;
} pw_arrow_cursor;

static inline int
pw_arrow_get_schema(struct ArrowArrayStream *stream, struct ArrowSchema *out)
{
    pw_arrow_cursor *cursor = stream->private_data;
    return cursor->error = pw_arrow_fill_schema(out, cursor->table, &cursor->table->field);
}

static inline int
pw_arrow_get_next(struct ArrowArrayStream *stream, struct ArrowArray *out)
{
    pw_arrow_cursor *cursor = stream->private_data;
    pw_arrow_table *table = cursor->table;
    if (cursor->next == table->batch_count) {
        *out = (struct ArrowArray){0}; /* released: the end */
        return cursor->error = 0;
    }
    cursor->error = pw_arrow_fill_array(out, table, &table->batches[cursor->next]);
    cursor->next += !cursor->error;
    return cursor->error;
}

static inline const char *
pw_arrow_get_last_error(struct ArrowArrayStream *stream)
{
    pw_arrow_cursor *cursor = stream->private_data;
    return cursor->error ? "poolwise: no memory for a part of a table" : NULL;
}

static inline void
pw_arrow_release_stream(struct ArrowArrayStream *stream)
{
    pw_arrow_cursor *cursor = stream->private_data;
    pw_arrow_table_release(cursor->table);
    free(cursor);
    stream->release = NULL;
}

/* A stream from the first batch on; NULL without memory. The caller frees it, after release. */
static inline struct ArrowArrayStream *
pw_arrow_stream_new(pw_arrow_table *table)
{
    struct ArrowArrayStream *stream = malloc(sizeof(*stream));
    pw_arrow_cursor *cursor = malloc(sizeof(*cursor));
    if (stream == NULL || cursor == NULL) {
        free(stream);
        free(cursor);
        return NULL;
    }
    *cursor = (pw_arrow_cursor){.table = pw_arrow_table_hold(table)};
    *stream = (struct ArrowArrayStream){pw_arrow_get_schema, pw_arrow_get_next,
                                        pw_arrow_get_last_error, pw_arrow_release_stream, cursor};
    return stream;
}

#endif
