/* buffer.c: BufferPool and Buffer. Blocks live in blocks.h; this file knows what a view is.
 *
 * A block is out as long as its Buffer has it: until release(), else until the last reference and
 * the last view (a view holds a reference) are gone. Neither type is known to the collector: a
 * Buffer refers to its pool alone, a pool to an exact str alone, so no cycle can pass through. */
#include "module.h"

#include <structmember.h>
#include <string.h>

#include "blocks.h"
#include "reason.h"
#include "scope.h"

enum { SPARE_BUFFERS_MAX = 64, COOL_BATCH_BYTES = 16 << 20 };

typedef enum { CLEAR_NEVER, CLEAR_ACQUIRE, CLEAR_RELEASE } ClearPolicy;

typedef struct BufferObject BufferObject;

/* Guard of the fields without one: the GIL, or the pool's critical section. */
typedef struct {
    PyObject_HEAD size_t
        size_limit;      /* max_size; 0 where acquire has more to do: clear, or closed */
    BufferObject *spare; /* dead Buffers, linked by `next` */
    uint64_t hits;
    bool clears_at_acquire; /* constant */
    bool careful_release;   /* a release has more to do: clear, or closed */
    bool closed, watched;
    uint64_t misses;
    size_t class_count, max_size, max_bytes; /* constant */
    size_t warm_bytes;                       /* out, idle and doomed: never above max_bytes */
    uint64_t too_big, over_budget, trimmed;
    uint64_t trims[PW_REASONS];
    size_t fallbacks_out, fallbacks_high_water, fallback_bytes; /* beside the budget */
    double trim_seconds;                                        /* constant */
    PyObject *name;                                             /* constant, an exact str */
    PyObject *weakrefs;
    ClearPolicy clear; /* constant */
    pw_class *classes;
} BufferPoolObject;

struct BufferObject {
    PyObject_HEAD pw_block *block; /* NULL: released */
    size_t size;
    Py_ssize_t views;
    BufferPoolObject *pool; /* owned by a live Buffer, not by a spare one */
    BufferObject *next;
};

/* ---- blocks of a pool ---- */

static void
cool_block(BufferPoolObject *self, pw_block *block)
{
    self->warm_bytes -= block->capacity;
    pw_block_cool(block);
}

/* Cools doomed blocks until `bytes` are given back; how many bytes were. */
static size_t
cool_doomed(BufferPoolObject *self, size_t bytes)
{
    size_t cooled = 0;
    for (size_t i = self->class_count; i-- > 0 && cooled < bytes;) {
        pw_class *cls = &self->classes[i];
        while (cls->doomed != NULL && cooled < bytes) {
            self->trimmed++;
            cooled += cls->capacity;
            pw_block *block = cls->doomed;
            cls->doomed = block->next;
            cool_block(self, block);
        }
    }
    return cooled;
}

/* The kernel takes about a millisecond for a batch: let other threads run in between. The
 * structure is whole whenever they do. */
static size_t
cool_all_doomed(BufferPoolObject *self)
{
    size_t cooled = 0, batch;
    do {
        Py_BEGIN_CRITICAL_SECTION(self);
        batch = cool_doomed(self, COOL_BATCH_BYTES);
        Py_END_CRITICAL_SECTION();
        cooled += batch;
        Py_BEGIN_ALLOW_THREADS;
        Py_END_ALLOW_THREADS;
    } while (batch > 0);
    return cooled;
}

/* Makes room for `bytes` more in the budget at the cost of other classes, largest first. */
static bool
make_room(BufferPoolObject *self, size_t bytes)
{
    if (bytes > self->max_bytes) {
        return false;
    }
    size_t goal = self->max_bytes - bytes;
    for (size_t i = self->class_count; i-- > 0 && self->warm_bytes > goal;) {
        pw_block *block;
        while (self->warm_bytes > goal &&
               (block = pw_class_pop_any_owner(&self->classes[i])) != NULL) {
            self->trimmed++;
            cool_block(self, block);
        }
    }
    return self->warm_bytes <= goal;
}

/* A block for n bytes that is not idle: doomed, cold, carved, or the fallback. */
static pw_block *
find_block(BufferPoolObject *self, size_t n)
{
    if (n <= self->max_size) {
        pw_class *cls = &self->classes[pw_class_index(n == 0 ? 0 : n - 1)];
        pw_block *block = pw_class_pop_any_owner(cls);
        if (block != NULL) {
            self->hits++;
            return block;
        }

        if (make_room(self, cls->capacity)) {
            block = pw_class_warm_one(cls, self->max_bytes);
            if (block == NULL) { /* the kernel has no more: give it all that is idle, once */
                make_room(self, self->max_bytes);
                block = pw_class_warm_one(cls, self->max_bytes);
            }
            if (block == NULL) {
                return NULL;
            }
            self->warm_bytes += block->capacity;
            self->misses++;
            return block;
        }
    }
    pw_block *block = pw_fallback_new(n);
    if (block != NULL) {
        self->misses++;
        *(n <= self->max_size ? &self->over_budget : &self->too_big) += 1;
        self->fallback_bytes += block->capacity;
        if (++self->fallbacks_out > self->fallbacks_high_water) {
            self->fallbacks_high_water = self->fallbacks_out;
        }
    }
    return block;
}

static __attribute__((noinline)) void
return_block_carefully(BufferPoolObject *self, pw_block *block, size_t used)
{
    if (block->cls == NULL) {
        self->fallbacks_out--;
        self->fallback_bytes -= block->capacity;
        pw_fallback_free(block);
        return;
    }
    if (self->closed) {
        cool_block(self, block);
        return;
    }
    memset(block->start, 0, used);
    pw_class_push_owner(block->cls, block);
}

/* False: return_block_carefully() must do it. */
static inline bool
return_block(BufferPoolObject *self, pw_block *block)
{
    pw_class *cls = block->cls;
    if (PW_UNLIKELY(cls == NULL || self->careful_release)) {
        return false;
    }
    pw_class_push_owner(cls, block);
    return true;
}

/* ---- Buffer ---- */

static inline void
hand_out(BufferPoolObject *self, BufferObject *buffer, pw_block *block, size_t n)
{
    if (PW_UNLIKELY(block->capacity < n)) {
        Py_FatalError("poolwise: a block is smaller than what is asked of it");
    }

    buffer->block = block;
    buffer->size = n;
    Py_INCREF(self);
}

static BufferObject *
new_buffer(BufferPoolObject *self)
{
    BufferObject *buffer = self->spare;
    if (buffer != NULL) {
        self->spare = buffer->next;
        Py_SET_REFCNT(buffer, 1);
        return buffer;
    }
    pw_state *state = PyType_GetModuleState(Py_TYPE(self));
    buffer = PyObject_New(BufferObject, state->buffer_type);
    if (buffer != NULL) {
        buffer->block = NULL;
        buffer->views = 0;
        buffer->pool = self;
    }
    return buffer;
}

static __attribute__((noinline)) PyObject *
acquire_carefully(BufferPoolObject *self, PyObject *size)
{
    if (!PyIndex_Check(size)) {
        return pw_raise("UsageTypeError", "acquire(%R): a size is an int of bytes", size);
    }
    PyObject *integer = PyNumber_Index(size);
    if (integer == NULL) {
        return NULL;
    }
    Py_ssize_t n = PyLong_AsSsize_t(integer);
    Py_DECREF(integer);
    if (n == -1 && PyErr_Occurred()) {
        PyErr_Clear();
        return pw_raise("UsageError", "acquire(%R): no block has this size; give 0 to %zd bytes",
                        size, PY_SSIZE_T_MAX);
    }
    if (n < 0) {
        return pw_raise("UsageError", "acquire(%zd): a size cannot be negative; give 0 or more", n);
    }
    if (self->closed) {
        return pw_raise("PoolClosed", "acquire(%zd): buffer pool %R is closed; make a new one", n,
                        self->name);
    }
    if (!self->watched) {
        self->watched = true;
        if (pw_watch((PyObject *)self, self->trim_seconds) < 0) {
            return NULL;
        }
    }
    BufferObject *buffer = NULL;
    pw_block *block = NULL;
    bool hit;
    Py_BEGIN_CRITICAL_SECTION(self);
    uint64_t hits = self->hits;
    block = find_block(self, (size_t)n);
    hit = self->hits > hits;
    if (block != NULL) {
        buffer = new_buffer(self);
        if (buffer != NULL) {
            hand_out(self, buffer, block, (size_t)n);
        } else {
            return_block_carefully(self, block, 0);
        }
    }
    Py_END_CRITICAL_SECTION();
    if (block == NULL) {
        return pw_raise("OutOfMemory",
                        "acquire(%zd): the system has no memory for this block; "
                        "release buffers, or ask for less",
                        n);
    }
    if (buffer == NULL) {
        return NULL;
    }
    if (pw_scopes_open > 0) {
        pw_scope_add(Py_TYPE(self), hit ? PW_SCOPE_HITS : PW_SCOPE_MISSES);
        if (block->cls == NULL) {
            pw_scope_add(Py_TYPE(self), PW_SCOPE_FALLBACKS);
        }
    }
    if (self->clears_at_acquire) {
        memset(block->start, 0, (size_t)n);
    }
    return (PyObject *)buffer;
}

static PyObject *
buffer_pool_acquire(BufferPoolObject *self, PyObject *size)
{
    BufferObject *buffer = NULL;
    Py_BEGIN_CRITICAL_SECTION(self);
    size_t last = (size_t)pw_small_int(size) - 1; /* not a small int, or 0: beyond every limit */
    if (PW_LIKELY(last < self->size_limit)) {
        pw_class *cls = &self->classes[pw_class_index(last)];
        if (PW_LIKELY(cls->idle != NULL && self->spare != NULL && pw_scopes_open == 0)) {
            buffer = self->spare;
            self->spare = buffer->next;
            self->hits++;
            Py_SET_REFCNT(buffer, 1);
            hand_out(self, buffer, pw_class_pop_owner(cls), last + 1);
        }
    }
    Py_END_CRITICAL_SECTION();
    return PW_LIKELY(buffer != NULL) ? (PyObject *)buffer : acquire_carefully(self, size);
}

static void buffer_dealloc(BufferObject *self);

static PyObject *
views_alive(BufferObject *self)
{
    return pw_raise("ViewsAlive",
                    "release(): this buffer still has %zd view%s; drop them first, or let the last "
                    "one give the block back",
                    self->views, self->views == 1 ? "" : "s");
}

static PyObject *
released(void)
{
    return pw_raise("BufferReleased", "this buffer has been released: acquire another");
}

static PyObject *
buffer_release(BufferObject *self, PyObject *Py_UNUSED(ignored))
{
    bool viewed;
    Py_BEGIN_CRITICAL_SECTION2(self, self->pool);
    viewed = self->views > 0;
    pw_block *block = self->block;
    if (PW_LIKELY(!viewed && block != NULL)) {
        self->block = NULL;
        if (PW_UNLIKELY(!return_block(self->pool, block))) {
            return_block_carefully(self->pool, block, self->size);
        }
    }
    Py_END_CRITICAL_SECTION2();
    if (PW_UNLIKELY(viewed)) {
        return views_alive(self);
    }
    Py_RETURN_NONE;
}

static PyObject *
buffer_enter(BufferObject *self, PyObject *Py_UNUSED(ignored))
{
    return self->block == NULL ? released() : Py_NewRef(self);
}

static PyObject *
buffer_exit(BufferObject *self, PyObject *const *args, Py_ssize_t nargs)
{
    bool failing = nargs > 0 && args[0] != Py_None;
    if (failing && self->views > 0) {
        Py_RETURN_NONE; /* the error under way matters more; the block goes with the last view */
    }
    return buffer_release(self, NULL);
}

static __attribute__((noinline)) void
buffer_dealloc_carefully(BufferObject *self)
{
    pw_block *block = self->block;
    self->block = NULL;
    Py_BEGIN_CRITICAL_SECTION(self->pool);
    return_block_carefully(self->pool, block, self->size);
    Py_END_CRITICAL_SECTION();
    buffer_dealloc(self);
}

static void
buffer_dealloc(BufferObject *self)
{
    BufferPoolObject *pool = self->pool;
    pw_block *block = self->block;
    bool done = true;
    Py_BEGIN_CRITICAL_SECTION(pool);
    if (block != NULL) {
        done = return_block(pool, block);
    }
    if (PW_LIKELY(done)) {
        self->next = pool->spare;
        pool->spare = self;
    }
    Py_END_CRITICAL_SECTION();
    if (PW_UNLIKELY(!done)) {
        buffer_dealloc_carefully(self);
        return;
    }
    Py_DECREF(pool);
}

static void
buffer_releasebuffer(BufferObject *self, Py_buffer *Py_UNUSED(view))
{
    Py_BEGIN_CRITICAL_SECTION(self);
    self->views--;
    Py_END_CRITICAL_SECTION();
}

static int
buffer_getbuffer(BufferObject *self, Py_buffer *view, int flags)
{
    char *start;
    Py_BEGIN_CRITICAL_SECTION(self);
    start = self->block == NULL ? NULL : self->block->start;
    self->views += start != NULL;
    Py_END_CRITICAL_SECTION();
    if (start == NULL) {
        released();
        view->obj = NULL;
        return -1;
    }
    if (PyBuffer_FillInfo(view, (PyObject *)self, start, (Py_ssize_t)self->size, 0, flags) < 0) {
        buffer_releasebuffer(self, view);
        return -1;
    }
    return 0;
}

static Py_ssize_t
buffer_length(BufferObject *self)
{
    if (self->block == NULL) {
        released();
        return -1;
    }
    return (Py_ssize_t)self->size;
}

static PyObject *
buffer_released(BufferObject *self, void *Py_UNUSED(closure))
{
    return PyBool_FromLong(self->block == NULL);
}

static PyObject *
buffer_repr(BufferObject *self)
{
    if (self->block == NULL) {
        return PyUnicode_FromString("<poolwise.Buffer, released>");
    }
    return PyUnicode_FromFormat("<poolwise.Buffer, %zu bytes of %R>", self->size, self->pool->name);
}

/* ---- life of a BufferPool ---- */

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

static int
clear_argument(PyObject *value, ClearPolicy *clear)
{
    static const char *const names[] = {"never", "acquire", "release"};
    for (int i = 0; value != NULL && i < 3; i++) {
        if (PyUnicode_Check(value) && PyUnicode_CompareWithASCIIString(value, names[i]) == 0) {
            *clear = (ClearPolicy)i;
            return 0;
        }
    }
    if (value == NULL) {
        return 0;
    }
    pw_raise("UsageError", "clear=%R is no policy: give 'never', 'acquire' or 'release'", value);
    return -1;
}

static PyObject *
buffer_pool_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"max_size", "max_bytes", "clear", "name", "trim_seconds", NULL};
    PyObject *max_size = NULL, *max_bytes = NULL, *clear_name = NULL, *name = NULL;
    PyObject *trim_seconds = NULL;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|$OOOOO:BufferPool", names, &max_size,
                                     &max_bytes, &clear_name, &name, &trim_seconds)) {
        return NULL;
    }
    if (max_size == NULL || max_bytes == NULL) {
        return pw_raise("UsageTypeError",
                        "BufferPool() has no bound: give max_size=, the largest buffer, and "
                        "max_bytes=, that of all together");
    }
    size_t size_limit, bytes_limit;
    ClearPolicy clear = CLEAR_NEVER;
    double seconds = PW_TRIM_SECONDS;
    if (bytes_argument(max_size, "max_size", &size_limit) < 0 ||
        bytes_argument(max_bytes, "max_bytes", &bytes_limit) < 0 ||
        clear_argument(clear_name, &clear) < 0 ||
        (trim_seconds != NULL && pw_seconds_argument(trim_seconds, "trim_seconds", &seconds) < 0)) {
        return NULL;
    }
    size_t class_count = pw_class_index(size_limit - 1) + 1;
    size_t block_bytes = pw_class_capacity(class_count - 1);
    if (bytes_limit < block_bytes) {
        return pw_raise("UsageError",
                        "max_bytes=%zu cannot hold one block of max_size=%zu: raise max_bytes to "
                        "%zu or more",
                        bytes_limit, size_limit, block_bytes);
    }
    PyObject *pool_name = pw_name_argument(name, "buffers");
    if (pool_name == NULL) {
        return NULL;
    }
    BufferPoolObject *self = (BufferPoolObject *)type->tp_alloc(type, 0);
    if (self == NULL) {
        Py_DECREF(pool_name);
        return NULL;
    }
    self->name = pool_name;
    self->classes = calloc(class_count, sizeof(pw_class));
    if (self->classes == NULL) {
        Py_DECREF(self);
        return PyErr_NoMemory();
    }
    self->class_count = class_count;
    for (size_t i = 0; i < class_count; i++) {
        self->classes[i].capacity = pw_class_capacity(i);
        self->classes[i].index = i;
    }
    self->max_size = size_limit;
    self->size_limit = clear == CLEAR_ACQUIRE ? 0 : size_limit;
    self->max_bytes = bytes_limit;
    self->clear = clear;
    self->clears_at_acquire = clear == CLEAR_ACQUIRE;
    self->careful_release = clear == CLEAR_RELEASE;
    self->trim_seconds = seconds;
    self->watched = seconds == 0.0;
    return (PyObject *)self;
}

static void
doom_all(BufferPoolObject *self)
{
    for (size_t i = 0; i < self->class_count; i++) {
        pw_class_doom_all(&self->classes[i]);
    }
}

/* Frees all spare Buffers but `keep`: counting them at each death would cost the hot path. */
static void
free_spares(BufferPoolObject *self, size_t keep)
{
    BufferObject **end = &self->spare;
    for (; *end != NULL && keep > 0; keep--) {
        end = &(*end)->next;
    }
    BufferObject *spare = *end;
    *end = NULL;
    while (spare != NULL) {
        BufferObject *next = spare->next;
        PyTypeObject *type = Py_TYPE(spare);
        PyObject_Free(spare);
        Py_DECREF(type);
        spare = next;
    }
}

/* Policy `demand`, for each class on its own: see pool_trim.c. */
static PyObject *
buffer_pool_trim(BufferPoolObject *self, PyObject *const *args, Py_ssize_t count)
{
    pw_reason reason;
    if (pw_reason_argument(args, count, &reason) < 0) {
        return NULL;
    }
    Py_BEGIN_CRITICAL_SECTION(self);
    for (size_t i = 0; i < self->class_count; i++) {
        pw_class_trim(&self->classes[i]);
    }
    free_spares(self, SPARE_BUFFERS_MAX);
    self->trims[reason]++;
    Py_END_CRITICAL_SECTION();
    return PyLong_FromSize_t(cool_all_doomed(self));
}

static PyObject *
buffer_pool_clear(BufferPoolObject *self, PyObject *Py_UNUSED(ignored))
{
    Py_BEGIN_CRITICAL_SECTION(self);
    doom_all(self);
    Py_END_CRITICAL_SECTION();
    return PyLong_FromSize_t(cool_all_doomed(self));
}

static PyObject *
buffer_pool_close(BufferPoolObject *self, PyObject *Py_UNUSED(ignored))
{
    Py_BEGIN_CRITICAL_SECTION(self);
    self->closed = true;
    self->careful_release = true;
    self->size_limit = 0;
    doom_all(self);
    Py_END_CRITICAL_SECTION();
    cool_all_doomed(self);
    Py_RETURN_NONE;
}

static PyObject *
buffer_pool_enter(BufferPoolObject *self, PyObject *Py_UNUSED(ignored))
{
    return Py_NewRef(self);
}

static PyObject *
buffer_pool_exit(BufferPoolObject *self, PyObject *const *Py_UNUSED(args),
                 Py_ssize_t Py_UNUSED(nargs))
{
    return buffer_pool_close(self, NULL);
}

static PyObject *
buffer_pool_stats(BufferPoolObject *self, PyObject *Py_UNUSED(ignored))
{
    size_t warm = 0, idle = 0, idle_bytes = 0, high_water = self->fallbacks_high_water;
    PyObject *trims = pw_by_reason(self->trims);
    if (trims == NULL) {
        return NULL;
    }
    PyObject *values;
    Py_BEGIN_CRITICAL_SECTION(self);
    for (size_t i = 0; i < self->class_count; i++) {
        pw_class *cls = &self->classes[i];
        size_t idle_here = pw_list_length(cls->idle) + pw_list_length(cls->doomed);
        idle += idle_here;
        idle_bytes += idle_here * cls->capacity;
        warm += cls->warm_count;
        high_water += cls->high_water;
    }
    unsigned long long gets = self->hits + self->misses;
    values = Py_BuildValue(
        "{s:O,s:K,s:K,s:K,s:K,s:K,s:K,s:n,s:n,s:n,s:n,s:n,s:n,s:n,s:O,s:K}", "name", self->name,
        "gets", gets, "hits", (unsigned long long)self->hits, "misses",
        (unsigned long long)self->misses, "fallbacks",
        (unsigned long long)(self->too_big + self->over_budget), "fallbacks_too_big",
        (unsigned long long)self->too_big, "fallbacks_over_budget",
        (unsigned long long)self->over_budget, "out",
        (Py_ssize_t)(warm - idle + self->fallbacks_out), "high_water", (Py_ssize_t)high_water,
        "idle", (Py_ssize_t)idle, "idle_bytes", (Py_ssize_t)idle_bytes, "out_bytes",
        (Py_ssize_t)(self->warm_bytes - idle_bytes), "fallback_bytes",
        (Py_ssize_t)self->fallback_bytes, "max_bytes", (Py_ssize_t)self->max_bytes,
        "trims_by_reason", trims, "trimmed", (unsigned long long)self->trimmed);
    Py_END_CRITICAL_SECTION();
    Py_DECREF(trims);
    return pw_report("BufferPoolStats", values);
}

static void
buffer_pool_dealloc(BufferPoolObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    if (self->weakrefs != NULL) {
        PyObject_ClearWeakRefs((PyObject *)self);
    }
    if (self->classes != NULL) {
        doom_all(self); /* no Buffer lives, so nothing is out, and every slab is unmapped */
        cool_doomed(self, SIZE_MAX);
        free(self->classes);
    }
    free_spares(self, 0);
    Py_XDECREF(self->name);
    type->tp_free(self);
    Py_DECREF(type);
}

static PyObject *
buffer_pool_repr(BufferPoolObject *self)
{
    return PyUnicode_FromFormat("<poolwise.BufferPool %R, %zu of %zu bytes>", self->name,
                                self->warm_bytes, self->max_bytes);
}

static PyMethodDef buffer_pool_methods[] = {
    {"acquire", (PyCFunction)buffer_pool_acquire, METH_O,
     "acquire($self, n, /)\n--\n\nA writable Buffer of exactly n bytes, contents undefined unless "
     "the\n"
     "pool clears. Larger than max_size or over max_bytes: a block outside the pool, counted as\n"
     "a fallback. Raises UsageError (a ValueError) for a negative or huge n, PoolClosed\n"
     "(a ValueError), OutOfMemory (a MemoryError).\n\n"
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
    {"name", T_OBJECT, offsetof(BufferPoolObject, name), READONLY, "The pool's name."},
    {"__weaklistoffset__", T_PYSSIZET, offsetof(BufferPoolObject, weakrefs), READONLY, NULL},
    {NULL},
};

static PyType_Slot buffer_pool_slots[] = {
    {Py_tp_doc,
     "BufferPool(*, max_size, max_bytes, clear='never', name=None, trim_seconds=60.0)\n--\n\n"
     "Blocks of memory for buffers, reused when the last reference and the last view are gone.\n\n"
     "max_size: int, bytes of the largest buffer that is pooled. max_bytes: int, bytes of all\n"
     "blocks together, idle and out. clear: 'never', or zero the bytes at 'acquire' or 'release'.\n"
     "name: str, for reports. trim_seconds: float, period of the timer trim, None for none.\n"
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
    .basicsize = sizeof(BufferPoolObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = buffer_pool_slots,
};

static PyMethodDef buffer_methods[] = {
    {"release", (PyCFunction)buffer_release, METH_NOARGS,
     "release($self, /)\n--\n\nGive the block back now; the buffer cannot be used any more. A "
     "second call\n"
     "does nothing. Raises ViewsAlive (a BufferError) while views live: then nothing changes."},
    {"__enter__", (PyCFunction)buffer_enter, METH_NOARGS, "The buffer."},
    {"__exit__", (PyCFunction)(void (*)(void))buffer_exit, METH_FASTCALL, "Releases the buffer."},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef buffer_getset[] = {
    {"released", (getter)buffer_released, NULL, "Whether the block has gone back.", NULL},
    {NULL},
};

static PyType_Slot buffer_slots[] = {
    {Py_tp_doc, "A writable piece of memory from a BufferPool: see BufferPool.acquire()."},
    {Py_tp_dealloc, buffer_dealloc},
    {Py_tp_repr, buffer_repr},
    {Py_tp_methods, buffer_methods},
    {Py_tp_getset, buffer_getset},
    {Py_sq_length, buffer_length},
    {Py_bf_getbuffer, buffer_getbuffer},
    {Py_bf_releasebuffer, buffer_releasebuffer},
    {0, NULL},
};

static PyType_Spec buffer_spec = {
    .name = "poolwise.Buffer",
    .basicsize = sizeof(BufferObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = buffer_slots,
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
    state->buffer_type = (PyTypeObject *)PyType_FromModuleAndSpec(module, &buffer_spec, NULL);
    if (state->buffer_type == NULL || PyModule_AddType(module, state->buffer_type) < 0) {
        return -1;
    }
    return 0;
}
