/* buffer_pool.c: the life, settings, trims and figures of a BufferPool. */
#include "buffer.h"

#include <structmember.h>
#include <string.h>

enum { SPARE_BUFFERS_MAX = 64, COOL_BATCH_BYTES = 16 << 20 };

/* The classes, and for each index of pw_class_index() the first that may serve its sizes. */
static int
make_classes(pw_buffer_pool *self, const pw_buffer_settings *given)
{
    size_t indices = pw_class_index(given->max_size - 1) + 1;
    self->classes = calloc(given->count, sizeof(pw_class));
    self->by_index = calloc(indices, sizeof(pw_class *));
    if (self->classes == NULL || self->by_index == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    self->class_count = given->count;
    for (size_t i = 0; i < given->count; i++) {
        self->classes[i].capacity = given->capacities[i];
        self->classes[i].huge = given->huge && given->capacities[i] >= PW_HUGE_BYTES;
    }
    pw_class *cls = self->classes;
    for (size_t i = 0; i < indices; i++) {
        size_t smallest = i == 0 ? 1 : pw_class_capacity(i - 1) + 1;
        while (cls->capacity < smallest) {
            cls++;
        }
        self->by_index[i] = cls;
    }
    return 0;
}

static PyObject *
buffer_pool_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    pw_buffer_settings given;
    if (pw_buffer_settings_read(&given, args, kwargs) < 0) {
        pw_buffer_settings_free(&given);
        return NULL;
    }
    pw_buffer_pool *self = (pw_buffer_pool *)type->tp_alloc(type, 0);
    if (self == NULL || make_classes(self, &given) < 0) {
        Py_XDECREF(self);
        pw_buffer_settings_free(&given);
        return NULL;
    }
    pw_fronts_begin(self);
#if PW_ATOMICS
    pw_fork_lock_add(&self->fork_lock, &self->ob_base.ob_mutex);
#endif
    self->clear = (pw_clear_when)given.clear;
    self->checks = (pw_checks)given.checks;
    self->when_full = (pw_when_full)given.when_full;
    bool careful = self->clear == PW_CLEAR_ACQUIRE || self->checks == PW_CHECKS_STRICT;
    self->max_size = given.max_size;
    self->size_limit = careful ? 0 : given.max_size;
    self->max_bytes = given.max_bytes;
    self->check_at = self->checks == PW_CHECKS_SAMPLE ? 0 : UINT64_MAX;
    self->wait_seconds = given.wait_seconds;
    self->trim_seconds = given.trim_seconds;
    self->watched = given.trim_seconds == 0.0;
    self->outside.careful = true;
    self->special.careful = true;
    pw_set_careful(self);
    self->name = Py_NewRef(given.name);
    pw_buffer_settings_free(&given);
    return (PyObject *)self;
}

/* The kernel takes about a millisecond for a batch: let other threads run in between. The
 * structure is whole whenever they do. */
static size_t
cool_all_doomed(pw_buffer_pool *self)
{
    size_t cooled = 0, batch;
    do {
        Py_BEGIN_CRITICAL_SECTION(self);
        batch = pw_cool_doomed(self, COOL_BATCH_BYTES);
        Py_END_CRITICAL_SECTION();
        cooled += batch;
        Py_BEGIN_ALLOW_THREADS;
        Py_END_ALLOW_THREADS;
    } while (batch > 0);
    return cooled;
}

static void
doom_all(pw_buffer_pool *self)
{
    pw_fronts_empty(self);
    for (size_t i = 0; i < self->class_count; i++) {
        pw_class_doom_all(&self->classes[i]);
    }
}

/* From now on every block that comes back goes to the kernel. */
static void
close_classes(pw_buffer_pool *self)
{
    self->closed = true;
    pw_store_relaxed(&self->size_limit, 0);
    pw_set_careful(self);
    pw_waiters_wake_all(&self->waiters);
    doom_all(self);
}

/* Frees all spare Buffers but `keep`: counting them at each death would cost the hot path. */
static void
free_spares(pw_buffer_pool *self, size_t keep)
{
    pw_buffer **end = &self->spare;
    for (; *end != NULL && keep > 0; keep--) {
        end = &(*end)->next;
    }
    pw_buffer *spare = *end;
    *end = NULL;
    while (spare != NULL) {
        pw_buffer *next = spare->next;
        pw_free_buffer(spare);
        self->buffers--;
        spare = next;
    }
}

/* Policy `demand`, for each class on its own: see pool_trim.c. */
static PyObject *
buffer_pool_trim(pw_buffer_pool *self, PyObject *const *args, Py_ssize_t count)
{
    pw_reason reason;
    if (pw_reason_argument(args, count, &reason) < 0) {
        return NULL;
    }
    Py_BEGIN_CRITICAL_SECTION(self);
    pw_fronts_empty(self);
    for (size_t i = 0; i < self->class_count; i++) {
        pw_class_trim(&self->classes[i]);
    }
    free_spares(self, SPARE_BUFFERS_MAX);
    self->trims[reason]++;
    Py_END_CRITICAL_SECTION();
    return PyLong_FromSize_t(cool_all_doomed(self));
}

static PyObject *
buffer_pool_clear(pw_buffer_pool *self, PyObject *Py_UNUSED(ignored))
{
    Py_BEGIN_CRITICAL_SECTION(self);
    doom_all(self);
    Py_END_CRITICAL_SECTION();
    return PyLong_FromSize_t(cool_all_doomed(self));
}

static PyObject *
buffer_pool_close(pw_buffer_pool *self, PyObject *Py_UNUSED(ignored))
{
    Py_BEGIN_CRITICAL_SECTION(self);
    close_classes(self);
    Py_END_CRITICAL_SECTION();
    cool_all_doomed(self);
    Py_RETURN_NONE;
}

static PyObject *
buffer_pool_enter(pw_buffer_pool *self, PyObject *Py_UNUSED(ignored))
{
    return Py_NewRef(self);
}

static PyObject *
buffer_pool_exit(pw_buffer_pool *self, PyObject *const *Py_UNUSED(args),
                 Py_ssize_t Py_UNUSED(nargs))
{
    return buffer_pool_close(self, NULL);
}

/* A dict of the figures of a class, of whose blocks `idle` are idle. */
static PyObject *
class_values(const pw_class *cls, size_t idle)
{
    return Py_BuildValue("{s:n,s:n,s:n,s:n,s:K,s:K,s:K,s:O}", "capacity", (Py_ssize_t)cls->capacity,
                         "out", (Py_ssize_t)(cls->warm_count - idle), "idle", (Py_ssize_t)idle,
                         "high_water", (Py_ssize_t)cls->high_water, "leases_told",
                         (unsigned long long)cls->reported, "asked_bytes",
                         (unsigned long long)cls->reported_bytes, "used_bytes",
                         (unsigned long long)cls->used_bytes, "badly_used",
                         cls->bad_streak >= PW_BAD_STREAK ? Py_True : Py_False);
}

typedef struct {
    pw_class cls;
    size_t idle;
} pw_class_levels;

/* A tuple of BufferClassStats of those that were ever used. */
static PyObject *
class_reports(const pw_class_levels *levels, size_t count)
{
    PyObject *list = PyList_New(0);
    for (size_t i = 0; list != NULL && i < count; i++) {
        if (levels[i].cls.high_water > 0) {
            PyObject *one = pw_report("poolwise.pools.buffer_report", "BufferClassStats",
                                      class_values(&levels[i].cls, levels[i].idle));
            if (one == NULL || PyList_Append(list, one) < 0) {
                Py_CLEAR(list);
            }
            Py_XDECREF(one);
        }
    }
    PyObject *reports = list == NULL ? NULL : PyList_AsTuple(list);
    Py_XDECREF(list);
    return reports;
}

/* First everything is copied, then Python objects are made: these can start a collection, and
 * that any code. */
static PyObject *
buffer_pool_stats(pw_buffer_pool *self, PyObject *Py_UNUSED(ignored))
{
    pw_class_levels *levels = PyMem_Calloc(self->class_count, sizeof(pw_class_levels));
    if (levels == NULL) {
        return PyErr_NoMemory();
    }
    pw_buffer_pool now;
    size_t warm = 0, idle = 0, idle_bytes = 0, high_water = self->fallbacks_high_water;
    Py_BEGIN_CRITICAL_SECTION(self);
    memcpy(&now, self, sizeof(now));
    now.hits += pw_fronts_hits(self);
    for (size_t i = 0; i < self->class_count; i++) {
        pw_class *cls = &self->classes[i];
        levels[i].cls = *cls;
        levels[i].idle = pw_list_length(cls->idle) + pw_list_length(cls->doomed);
        levels[i].idle += pw_fronts_idle(self, i);
        if (levels[i].idle > cls->warm_count) { /* one moved between two fronts meanwhile */
            levels[i].idle = cls->warm_count;
        }
        idle += levels[i].idle;
        idle_bytes += levels[i].idle * cls->capacity;
        warm += cls->warm_count;
        high_water += cls->high_water;
    }
    Py_END_CRITICAL_SECTION();
    PyObject *reports = class_reports(levels, self->class_count);
    PyMem_Free(levels);
    PyObject *trims = pw_by_reason(now.trims);
    if (reports == NULL || trims == NULL) {
        Py_XDECREF(reports);
        Py_XDECREF(trims);
        return NULL;
    }
    PyObject *values = Py_BuildValue(
        "{s:O,s:K,s:K,s:K,s:K,s:K,s:K,s:K,s:K,s:K,s:n,s:n,s:n,s:n,s:n,s:n,s:n,s:N,s:K,s:N}", "name",
        self->name, "gets", (unsigned long long)(now.hits + now.misses), "hits",
        (unsigned long long)now.hits, "misses", (unsigned long long)now.misses, "fallbacks",
        (unsigned long long)(now.too_big + now.over_budget), "fallbacks_too_big",
        (unsigned long long)now.too_big, "fallbacks_over_budget",
        (unsigned long long)now.over_budget, "waits", (unsigned long long)now.waits, "refused",
        (unsigned long long)now.refused, "corrupted", (unsigned long long)now.corrupted, "out",
        (Py_ssize_t)(warm - idle + now.fallbacks_out), "high_water", (Py_ssize_t)high_water, "idle",
        (Py_ssize_t)idle, "idle_bytes", (Py_ssize_t)idle_bytes, "out_bytes",
        (Py_ssize_t)(now.warm_bytes - idle_bytes), "fallback_bytes", (Py_ssize_t)now.fallback_bytes,
        "max_bytes", (Py_ssize_t)now.max_bytes, "trims_by_reason", trims, "trimmed",
        (unsigned long long)now.trimmed, "classes", reports);
    return pw_report("poolwise.pools.buffer_report", "BufferPoolStats", values);
}

void
pw_free_buffer_pool(pw_buffer_pool *self)
{
    PyTypeObject *type = Py_TYPE(self);
    free(self->classes); /* nothing is out, so every slab is unmapped */
    free(self->by_index);
    pw_fronts_free(self);
#if PW_ATOMICS
    pw_fork_lock_remove(&self->fork_lock);
#endif
    Py_XDECREF(self->name);
    type->tp_free(self);
    Py_DECREF(type);
}

static void
buffer_pool_dealloc(pw_buffer_pool *self)
{
    bool last;
    if (self->weakrefs != NULL) {
        PyObject_ClearWeakRefs((PyObject *)self);
    }
    Py_BEGIN_CRITICAL_SECTION(self);
    pw_store_relaxed(&self->orphaned, true);
    close_classes(self);
    pw_cool_doomed(self, SIZE_MAX);
    free_spares(self, 0);
    last = self->buffers == 0;
    Py_END_CRITICAL_SECTION();
    if (last) {
        pw_free_buffer_pool(self);
    }
}

static PyObject *
buffer_pool_repr(pw_buffer_pool *self)
{
    return PyUnicode_FromFormat("<poolwise.BufferPool %R, %zu of %zu bytes>", self->name,
                                self->warm_bytes, self->max_bytes);
}

static PyMethodDef buffer_pool_methods[] = {
    {"acquire", (PyCFunction)pw_acquire, METH_O,
     "acquire($self, n, /)\n--\n\nA writable Buffer of exactly n bytes, contents undefined unless "
     "the\n"
     "pool clears. Larger than max_size: a block outside the pool, counted as a fallback. Over\n"
     "max_bytes, after idle blocks of other sizes made what room they could: as when_full says.\n"
     "Raises UsageError (a ValueError) for a negative or huge n, PoolClosed (a ValueError),\n"
     "OutOfMemory (a MemoryError) where the system or the pool has no more.\n\n"
     ">>> with buffers.acquire(4096) as buffer:\n...     file.readinto(buffer)"},
    {"trim", (PyCFunction)(void (*)(void))buffer_pool_trim, METH_FASTCALL,
     "trim($self, reason='call', /)\n--\n\nGive half of what was idle all the time since the last "
     "trim back to "
     "the\n"
     "kernel; how many bytes that was. The timer calls it every trim_seconds."},
    {"clear", (PyCFunction)buffer_pool_clear, METH_NOARGS,
     "clear($self, /)\n--\n\nGive every idle block back to the kernel; how many bytes that was."},
    {"close", (PyCFunction)buffer_pool_close, METH_NOARGS,
     "close($self, /)\n--\n\nGive every idle block back, and every block that is out when it "
     "returns.\n"
     "Buffers that are out stay valid; acquire raises PoolClosed."},
    {"stats", (PyCFunction)buffer_pool_stats, METH_NOARGS,
     "stats($self, /)\n--\n\nEvery counter and level, as a BufferPoolStats."},
    {"__enter__", (PyCFunction)buffer_pool_enter, METH_NOARGS, "The pool."},
    {"__exit__", (PyCFunction)(void (*)(void))buffer_pool_exit, METH_FASTCALL, "Closes the pool."},
    {NULL, NULL, 0, NULL},
};

static PyMemberDef buffer_pool_members[] = {
    {"name", T_OBJECT, offsetof(pw_buffer_pool, name), READONLY, "The pool's name."},
    {"__weaklistoffset__", T_PYSSIZET, offsetof(pw_buffer_pool, weakrefs), READONLY, NULL},
    {NULL},
};

static PyType_Slot buffer_pool_slots[] = {
    {Py_tp_doc,
     "BufferPool(*, max_size=None, max_bytes, clear='never', name=None, trim_seconds=60.0, "
     "checks=None,\n"
     "    classes=None, when_full='fallback', wait_seconds=None, huge_pages=False)\n--\n\n"
     "Blocks of memory for buffers, reused when the last reference and the last view are gone.\n\n"
     "max_size: int, bytes of the largest buffer that is pooled. max_bytes: int, bytes of all\n"
     "blocks together, idle and out. clear: 'never', or zero the bytes at 'acquire' or 'release'.\n"
     "name: str, for reports. trim_seconds: float, period of the timer trim, None for none.\n"
     "checks: 'off', 'sample', 'strict', or None for what POOLWISE_CHECKS says: a block that "
     "comes\n"
     "back is filled with 0xDB, and a byte that changed until it is handed out again was written\n"
     "through an address kept too long: counted, and warned of once. 'strict' looks at every\n"
     "block, 'sample' at one hand-out in 128 of blocks up to 2 KiB.\n"
     "classes: sequence of int, capacities in bytes (see pools.fit_classes) in place of the\n"
     "standard ones; max_size is then their largest, unless given. when_full: over max_bytes\n"
     "take a block outside the pool ('fallback'), 'raise' OutOfMemory, or 'wait' for a release,\n"
     "at most wait_seconds (float), and then raise. huge_pages: bool, ask the kernel for huge\n"
     "pages in classes of 2 MiB and more.\n"
     "Raises UsageError (a ValueError) and UsageTypeError (a TypeError).\n\n"
     ">>> buffers = poolwise.BufferPool(max_size=1 << 20, max_bytes=64 << 20)\n"
     ">>> buffer = buffers.acquire(1000)\n>>> len(buffer)\n1000"},
    {Py_tp_new, buffer_pool_new},
    {Py_tp_dealloc, buffer_pool_dealloc},
    {Py_tp_repr, buffer_pool_repr},
    {Py_tp_methods, buffer_pool_methods},
    {Py_tp_members, buffer_pool_members},
    {0, NULL},
};

static PyType_Spec buffer_pool_spec = {
    .name = "poolwise.BufferPool",
    .basicsize = sizeof(pw_buffer_pool),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = buffer_pool_slots,
};

int
pw_add_buffer(PyObject *module)
{
    pw_state *state = pw_state_of(module);
    state->buffer_pool_type =
        (PyTypeObject *)PyType_FromModuleAndSpec(module, &buffer_pool_spec, NULL);
    if (state->buffer_pool_type == NULL || PyModule_AddType(module, state->buffer_pool_type) < 0) {
        return -1;
    }
    state->buffer_type = (PyTypeObject *)PyType_FromModuleAndSpec(module, &pw_buffer_spec, NULL);
    if (state->buffer_type == NULL || PyModule_AddType(module, state->buffer_type) < 0) {
        return -1;
    }
    return 0;
}
