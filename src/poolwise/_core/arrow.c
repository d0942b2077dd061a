/* arrow.c: tables made of Python's buffers, and the capsules in which their streams are handed out.
 *
 * The shapes that are taken here are those of poolwise.profile.arrow, its only caller. */
#include "module.h"

#include "arrow_table.h"

#define TABLE_CAPSULE "poolwise._core.arrow_table"
#define STREAM_CAPSULE "arrow_array_stream" /* by the Arrow PyCapsule interface */

static char *
copy_of(const void *bytes, Py_ssize_t count)
{
    char *copy = malloc((size_t)count + 1); /* never 0, and a text ends in one */
    if (copy == NULL) {
        PyErr_NoMemory();
        return NULL;
    }
    memcpy(copy, bytes, (size_t)count);
    copy[count] = 0;
    return copy;
}

static void *
zeroed_array(Py_ssize_t count, size_t size)
{
    void *array = calloc((size_t)count + 1, size);
    if (array == NULL) {
        PyErr_NoMemory();
    }
    return array;
}

static int
check_tuple(PyObject *given)
{
    if (PyTuple_Check(given)) {
        return 0;
    }
    PyErr_SetString(PyExc_TypeError, "arrow_table(): fields and columns are tuples");
    return -1;
}

/* (name, format, flags, metadata or None, children) */
static int
take_field(PyObject *from, pw_arrow_field *field)
{
    const char *name, *format;
    long long flags;
    PyObject *metadata, *children;
    if (check_tuple(from) < 0 || !PyArg_ParseTuple(from, "ssLOO!", &name, &format, &flags,
                                                   &metadata, &PyTuple_Type, &children)) {
        return -1;
    }
    field->flags = flags;
    field->name = copy_of(name, (Py_ssize_t)strlen(name));
    field->format = copy_of(format, (Py_ssize_t)strlen(format));
    if (field->name == NULL || field->format == NULL) {
        return -1;
    }
    if (metadata != Py_None) {
        char *bytes;
        Py_ssize_t count;
        if (PyBytes_AsStringAndSize(metadata, &bytes, &count) < 0 ||
            (field->metadata = copy_of(bytes, count)) == NULL) {
            return -1;
        }
    }
    Py_ssize_t count = PyTuple_GET_SIZE(children);
    field->children = zeroed_array(count, sizeof(*field->children));
    if (field->children == NULL) {
        return -1;
    }
    field->child_count = count;
    for (Py_ssize_t i = 0; i < count; i++) {
        if (take_field(PyTuple_GET_ITEM(children, i), &field->children[i]) < 0) {
            return -1;
        }
    }
    return 0;
}

/* (length, number of nulls, buffers, children); a buffer that is None is absent */
static int
take_column(PyObject *from, pw_arrow_column *column, const pw_arrow_field *field)
{
    long long length, null_count;
    PyObject *buffers, *children;
    if (check_tuple(from) < 0 ||
        !PyArg_ParseTuple(from, "LLO!O!", &length, &null_count, &PyTuple_Type, &buffers,
                          &PyTuple_Type, &children)) {
        return -1;
    }
    if (PyTuple_GET_SIZE(buffers) > PW_ARROW_BUFFERS ||
        PyTuple_GET_SIZE(children) != field->child_count) {
        PyErr_SetString(PyExc_ValueError, "arrow_table(): a batch is not of the table's shape");
        return -1;
    }
    column->length = length;
    column->null_count = null_count;
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(buffers); i++) {
        PyObject *given = PyTuple_GET_ITEM(buffers, i);
        if (given != Py_None) {
            Py_buffer view;
            if (PyObject_GetBuffer(given, &view, PyBUF_SIMPLE) < 0) {
                return -1;
            }
            column->buffers[i] = copy_of(view.buf, view.len);
            PyBuffer_Release(&view);
            if (column->buffers[i] == NULL) {
                return -1;
            }
        }
        column->buffer_count = i + 1;
    }
    column->children = zeroed_array(field->child_count, sizeof(*column->children));
    if (column->children == NULL) {
        return -1;
    }
    column->child_count = field->child_count;
    for (Py_ssize_t i = 0; i < field->child_count; i++) {
        if (take_column(PyTuple_GET_ITEM(children, i), &column->children[i], &field->children[i]) <
            0) {
            return -1;
        }
    }
    return 0;
}

static void
free_table(PyObject *capsule)
{
    pw_arrow_table_release(PyCapsule_GetPointer(capsule, TABLE_CAPSULE));
}

static PyObject *
arrow_table(PyObject *Py_UNUSED(module), PyObject *args)
{
    PyObject *field, *batches, *capsule = NULL;
    if (!PyArg_ParseTuple(args, "O!O!:arrow_table", &PyTuple_Type, &field, &PyTuple_Type,
                          &batches)) {
        return NULL;
    }
    pw_arrow_table *table = pw_arrow_table_new();
    if (table == NULL) {
        return PyErr_NoMemory();
    }
    Py_ssize_t count = PyTuple_GET_SIZE(batches);
    if (take_field(field, &table->field) < 0 ||
        (table->batches = zeroed_array(count, sizeof(*table->batches))) == NULL) {
        goto fail;
    }
    for (Py_ssize_t i = 0; i < count; i++) {
        table->batch_count = i + 1;
        if (take_column(PyTuple_GET_ITEM(batches, i), &table->batches[i], &table->field) < 0) {
            goto fail;
        }
    }
    capsule = PyCapsule_New(table, TABLE_CAPSULE, free_table);
    if (capsule != NULL) {
        return capsule;
    }
fail:
    pw_arrow_table_release(table);
    return NULL;
}

/* A consumer that takes the stream sets its release to NULL; one that does not leaves it to us. */
static void
free_stream(PyObject *capsule)
{
    struct ArrowArrayStream *stream = PyCapsule_GetPointer(capsule, STREAM_CAPSULE);
    if (stream->release != NULL) {
        stream->release(stream);
    }
    free(stream);
}

static PyObject *
arrow_stream(PyObject *Py_UNUSED(module), PyObject *table_capsule)
{
    pw_arrow_table *table = PyCapsule_GetPointer(table_capsule, TABLE_CAPSULE);
    if (table == NULL) {
        return NULL;
    }
    struct ArrowArrayStream *stream = pw_arrow_stream_new(table);
    if (stream == NULL) {
        return PyErr_NoMemory();
    }
    PyObject *capsule = PyCapsule_New(stream, STREAM_CAPSULE, free_stream);
    if (capsule == NULL) {
        stream->release(stream);
        free(stream);
    }
    return capsule;
}

static PyMethodDef arrow_methods[] = {
    {"arrow_table", arrow_table, METH_VARARGS,
     "arrow_table(field, batches, /)\n--\n\n"
     "A table in memory of its own, for arrow_stream; see poolwise.profile.arrow."},
    {"arrow_stream", arrow_stream, METH_O,
     "arrow_stream(table, /)\n--\n\nA new stream of a table: a capsule \"arrow_array_stream\"."},
    {NULL, NULL, 0, NULL},
};

int
pw_add_arrow(PyObject *module)
{
    return PyModule_AddFunctions(module, arrow_methods);
}
