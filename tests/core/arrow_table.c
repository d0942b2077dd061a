/* arrow_table.c: random tables, read as a consumer may, with allocations that fail now and then. */
#include "check.h"

static long blocks;           /* allocated and not freed */
static long until_short = -1; /* allocations until one fails; below 0: none does */

static bool
is_short(void)
{
    return until_short >= 0 && until_short-- == 0;
}

static void *
some_malloc(size_t bytes)
{
    void *block = is_short() ? NULL : malloc(bytes);
    blocks += block != NULL;
    return block;
}

static void *
some_calloc(size_t count, size_t bytes)
{
    void *block = is_short() ? NULL : calloc(count, bytes);
    blocks += block != NULL;
    return block;
}

static void
some_free(void *block)
{
    blocks -= block != NULL;
    free(block);
}

#define malloc some_malloc
#define calloc some_calloc
#define free some_free
#include "arrow_table.h"

enum { DEPTH = 3, CHILDREN = 4, BATCHES = 3, HELD = 200 };

static char *
text(const char *of)
{
    char *copy = malloc(strlen(of) + 1);
    CHECK(copy != NULL);
    strcpy(copy, of);
    return copy;
}

static void
make_field(pw_arrow_field *field, int depth)
{
    field->name = text("name");
    field->format = text("+s");
    field->metadata = below(2) ? text("meta") : NULL;
    field->flags = (int64_t)below(3);
    field->child_count = depth == DEPTH ? 0 : (int64_t)below(CHILDREN);
    field->children = calloc((size_t)field->child_count + 1, sizeof(*field->children));
    for (int64_t i = 0; i < field->child_count; i++) {
        make_field(&field->children[i], depth + 1);
    }
}

static void
make_column(pw_arrow_column *column, const pw_arrow_field *field)
{
    column->length = (int64_t)below(1000);
    column->null_count = (int64_t)below(10);
    column->buffer_count = 1 + (int64_t)below(PW_ARROW_BUFFERS);
    for (int64_t i = below(2) ? 1 : 0; i < column->buffer_count; i++) {
        column->buffers[i] = text("a buffer");
    }
    column->child_count = field->child_count;
    column->children = calloc((size_t)column->child_count + 1, sizeof(*column->children));
    for (int64_t i = 0; i < column->child_count; i++) {
        make_column(&column->children[i], &field->children[i]);
    }
}

static void
check_schema(const struct ArrowSchema *schema, const pw_arrow_field *field)
{
    CHECK(schema->release != NULL);
    CHECK(strcmp(schema->name, field->name) == 0 && strcmp(schema->format, field->format) == 0);
    CHECK(schema->metadata == field->metadata && schema->flags == field->flags);
    CHECK(schema->n_children == field->child_count && schema->dictionary == NULL);
    for (int64_t i = 0; i < schema->n_children; i++) {
        check_schema(schema->children[i], &field->children[i]);
    }
}

static void
check_array(const struct ArrowArray *array, const pw_arrow_column *column)
{
    CHECK(array->release != NULL && array->offset == 0 && array->dictionary == NULL);
    CHECK(array->length == column->length && array->null_count == column->null_count);
    CHECK(array->n_buffers == column->buffer_count && array->n_children == column->child_count);
    for (int64_t i = 0; i < array->n_buffers; i++) {
        CHECK(array->buffers[i] == column->buffers[i]);
        CHECK(array->buffers[i] == NULL || strcmp(array->buffers[i], "a buffer") == 0);
    }
    for (int64_t i = 0; i < array->n_children; i++) {
        check_array(array->children[i], &column->children[i]);
    }
}

/* What the consumer holds, moved out of where it was. */
static struct ArrowArray arrays[HELD];
static int held;

static void
take(struct ArrowArray *from)
{
    if (held < HELD) {
        arrays[held++] = *from;
        from->release = NULL;
    }
}

static void
take_children(struct ArrowArray *array)
{
    for (int64_t i = 0; i < array->n_children; i++) {
        take_children(array->children[i]);
        if (below(3) == 0) {
            take(array->children[i]);
        }
    }
}

static void
check_buffers(const struct ArrowArray *array)
{
    for (int64_t i = 0; i < array->n_buffers; i++) {
        CHECK(array->buffers[i] == NULL || strcmp(array->buffers[i], "a buffer") == 0);
    }
    for (int64_t i = 0; i < array->n_children; i++) {
        if (array->children[i]->release != NULL) {
            check_buffers(array->children[i]);
        }
    }
}

static void
read_stream(pw_arrow_table *table)
{
    struct ArrowArrayStream *stream = pw_arrow_stream_new(table);
    if (stream == NULL) {
        return;
    }
    struct ArrowSchema schema;
    int error = stream->get_schema(stream, &schema);
    CHECK(error == 0 || (error == ENOMEM && schema.release == NULL));
    CHECK((stream->get_last_error(stream) != NULL) == (error != 0));
    if (!error) {
        check_schema(&schema, &table->field);
        if (schema.n_children > 0 && below(2)) {
            struct ArrowSchema child = *schema.children[0];
            schema.children[0]->release = NULL;
            schema.release(&schema);
            check_schema(&child, &table->field.children[0]);
            child.release(&child);
        } else {
            schema.release(&schema);
            CHECK(schema.release == NULL);
        }
    }
    for (int64_t batch = 0; batch <= table->batch_count; batch++) {
        struct ArrowArray array;
        error = stream->get_next(stream, &array);
        if (error) {
            CHECK(error == ENOMEM && array.release == NULL);
            CHECK(stream->get_last_error(stream) != NULL);
            batch--; /* the same once more */
            continue;
        }
        CHECK((array.release == NULL) == (batch == table->batch_count));
        if (array.release != NULL) {
            check_array(&array, &table->batches[batch]);
            take_children(&array);
            take(&array);
            if (array.release != NULL) {
                array.release(&array);
            }
        }
    }
    stream->release(stream);
    CHECK(stream->release == NULL);
    free(stream);
}

static void
run(void)
{
    until_short = -1;
    pw_arrow_table *table = pw_arrow_table_new();
    make_field(&table->field, 0);
    table->batch_count = (int64_t)below(BATCHES + 1);
    table->batches = calloc((size_t)table->batch_count + 1, sizeof(*table->batches));
    for (int64_t i = 0; i < table->batch_count; i++) {
        make_column(&table->batches[i], &table->field);
    }
    for (int i = 0; i < 4; i++) {
        until_short = below(2) ? (long)below(40) : -1;
        read_stream(table);
    }
    until_short = -1;
    pw_arrow_table_release(table); /* the consumer still holds parts of it */
    while (held > 0) {
        size_t which = below((size_t)held);
        check_buffers(&arrays[which]);
        arrays[which].release(&arrays[which]);
        arrays[which] = arrays[--held];
    }
    CHECK(blocks == 0);
}

int
main(int argc, char **argv)
{
    return drive(argc, argv, 2000, run);
}
