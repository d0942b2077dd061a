/* buffer_settings.c: the arguments of BufferPool(). */
#include "buffer.h"

enum { CLASSES_MAX = 1024 };

static int
bytes_argument(PyObject *value, const char *name, size_t *bytes)
{
    if (!PyIndex_Check(value)) {
        pw_raise("UsageTypeError", "%s=%R is not an int: give a number of bytes", name, value);
        return -1;
    }
    PyObject *integer = PyNumber_Index(value);
    if (integer == NULL) {
        return -1;
    }
    Py_ssize_t number = PyLong_AsSsize_t(integer);
    Py_DECREF(integer);
    if (number <= 0 || (size_t)number > (size_t)1 << PW_SIZE_MAX_LOG2) {
        PyErr_Clear();
        pw_raise("UsageError", "%s=%R is out of range: give 1 to 2**%d bytes", name, value,
                 PW_SIZE_MAX_LOG2);
        return -1;
    }
    *bytes = (size_t)number;
    return 0;
}

/* The place of `value` among `names`, as *choice; it is left alone where nothing was given. */
static int
choice_argument(PyObject *value, const char *name, const char *const names[3], int *choice)
{
    for (int i = 0; value != NULL && i < 3; i++) {
        if (PyUnicode_Check(value) && PyUnicode_CompareWithASCIIString(value, names[i]) == 0) {
            *choice = i;
            return 0;
        }
    }
    if (value == NULL) {
        return 0;
    }
    pw_raise("UsageError", "%s=%R is no policy: give '%s', '%s' or '%s'", name, value, names[0],
             names[1], names[2]);
    return -1;
}

/* None: what the environment says. */
static int
checks_argument(PyObject *value, int *checks)
{
    static const char *const names[] = {"off", "sample", "strict"};
    if (value != NULL && value != Py_None) {
        return choice_argument(value, "checks", names, checks);
    }
    const char *asked = getenv("POOLWISE_CHECKS");
    if (asked == NULL || *asked == 0) {
        return 0;
    }
    PyObject *text = PyUnicode_DecodeFSDefault(asked);
    if (text == NULL) {
        return -1;
    }
    int result = choice_argument(text, "POOLWISE_CHECKS", names, checks);
    Py_DECREF(text);
    return result;
}

static int
compare_sizes(const void *a, const void *b)
{
    size_t x = *(const size_t *)a, y = *(const size_t *)b;
    return (x > y) - (x < y);
}

/* The given capacities, aligned, each once, by size, with one for max_size. */
static int
given_classes(PyObject *classes, pw_buffer_settings *self)
{
    PyObject *items = PySequence_Fast(classes, "classes= is not a sequence of ints");
    if (items == NULL) {
        if (PyErr_ExceptionMatches(PyExc_TypeError)) {
            PyErr_Clear();
            pw_raise("UsageTypeError",
                     "classes=%R is not a sequence of ints: give capacities in "
                     "bytes, as fit_classes() makes them",
                     classes);
        }
        return -1;
    }
    Py_ssize_t given = PySequence_Fast_GET_SIZE(items);
    if (given < 1 || given > CLASSES_MAX) {
        pw_raise("UsageError", "classes= has %zd capacities: give 1 to %d", given, CLASSES_MAX);
        Py_DECREF(items);
        return -1;
    }
    size_t *found = self->capacities = calloc((size_t)given + 1, sizeof(size_t));
    if (found == NULL) {
        PyErr_NoMemory();
        Py_DECREF(items);
        return -1;
    }
    size_t largest = 0;
    for (Py_ssize_t i = 0; i < given && i < PySequence_Fast_GET_SIZE(items); i++) {
        PyObject *item = Py_NewRef(PySequence_Fast_GET_ITEM(items, i)); /* its __index__ may run */
        int bad = bytes_argument(item, "a size in classes", &found[i]);
        Py_DECREF(item);
        if (bad) {
            Py_DECREF(items);
            return -1;
        }
        largest = found[i] > largest ? found[i] : largest;
    }
    Py_DECREF(items);
    if (self->max_size == 0) {
        self->max_size = largest;
    }
    if (largest > self->max_size) {
        pw_raise("UsageError", "classes= has %zu, which is above max_size=%zu: leave one out",
                 largest, self->max_size);
        return -1;
    }
    found[given] = self->max_size;
    for (Py_ssize_t i = 0; i <= given; i++) {
        size_t granule = found[i] <= PW_PAGE_BYTES ? PW_LINE_BYTES : PW_PAGE_BYTES;
        found[i] = pw_round_up(found[i] == 0 ? 1 : found[i], granule);
    }
    qsort(found, (size_t)given + 1, sizeof(size_t), compare_sizes);
    for (Py_ssize_t i = 0; i <= given; i++) {
        if (self->count == 0 || found[self->count - 1] != found[i]) {
            found[self->count++] = found[i];
        }
    }
    return 0;
}

static int
standard_classes(pw_buffer_settings *self)
{
    self->count = pw_class_index(self->max_size - 1) + 1;
    self->capacities = calloc(self->count, sizeof(size_t));
    if (self->capacities == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    for (size_t i = 0; i < self->count; i++) {
        self->capacities[i] = pw_class_capacity(i);
    }
    return 0;
}

static int
wait_argument(PyObject *seconds, pw_buffer_settings *self)
{
    if (pw_seconds_argument(seconds, "wait_seconds", &self->wait_seconds) < 0) {
        return -1;
    }
    bool given = self->wait_seconds > 0.0, waits = self->when_full == PW_FULL_WAIT;
    if (given == waits) {
        return 0;
    }
    pw_raise("UsageError",
             waits ? "when_full='wait' has no bound: give wait_seconds=, the longest wait"
                   : "wait_seconds= is for when_full='wait': give both, or neither");
    return -1;
}

int
pw_buffer_settings_read(pw_buffer_settings *self, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"max_size",     "max_bytes",  "clear",   "name",
                            "trim_seconds", "checks",     "classes", "when_full",
                            "wait_seconds", "huge_pages", NULL};
    static const char *const clears[] = {"never", "acquire", "release"};
    static const char *const fulls[] = {"fallback", "raise", "wait"};
    PyObject *max_size = NULL, *max_bytes = NULL, *clear = NULL, *name = NULL, *trim = NULL;
    PyObject *checks = NULL, *classes = NULL, *when_full = NULL, *wait = NULL;
    int huge = 0;
    *self = (pw_buffer_settings){.trim_seconds = PW_TRIM_SECONDS};
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|$OOOOOOOOOp:BufferPool", names, &max_size,
                                     &max_bytes, &clear, &name, &trim, &checks, &classes,
                                     &when_full, &wait, &huge)) {
        return -1;
    }
    classes = classes == Py_None ? NULL : classes;
    max_size = max_size == Py_None ? NULL : max_size;
    if ((max_size == NULL && classes == NULL) || max_bytes == NULL) {
        pw_raise("UsageTypeError",
                 "BufferPool() has no bound: give max_size=, the largest buffer, and "
                 "max_bytes=, that of all together");
        return -1;
    }
    self->huge = huge;
    if ((max_size != NULL && bytes_argument(max_size, "max_size", &self->max_size) < 0) ||
        bytes_argument(max_bytes, "max_bytes", &self->max_bytes) < 0 ||
        choice_argument(clear, "clear", clears, &self->clear) < 0 ||
        choice_argument(when_full, "when_full", fulls, &self->when_full) < 0 ||
        checks_argument(checks, &self->checks) < 0 || wait_argument(wait, self) < 0 ||
        (trim != NULL && pw_seconds_argument(trim, "trim_seconds", &self->trim_seconds) < 0) ||
        (classes != NULL ? given_classes(classes, self) : standard_classes(self)) < 0) {
        return -1;
    }
    size_t largest = self->capacities[self->count - 1];
    if (self->max_bytes < largest) {
        pw_raise("UsageError",
                 "max_bytes=%zu cannot hold one block of max_size=%zu: raise max_bytes to %zu or "
                 "more",
                 self->max_bytes, self->max_size, largest);
        return -1;
    }
    self->name = pw_name_argument(name, "buffers");
    return self->name == NULL ? -1 : 0;
}

void
pw_buffer_settings_free(pw_buffer_settings *self)
{
    free(self->capacities);
    Py_CLEAR(self->name);
}
