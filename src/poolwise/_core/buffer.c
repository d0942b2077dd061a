/* buffer.c: Buffer, acquire and release: the hot paths.
 *
 * A block is out as long as its Buffer has it: until release(), else until the last reference and
 * the last view (a view holds a reference) are gone. Neither type is known to the collector: a
 * Buffer refers to its pool alone, a pool to an exact str alone, so no cycle can pass through.
 *
 * A Buffer needs its pool's memory, but no reference to the pool: counting one at each acquire and
 * taking it back cost 4 % of the pair. A pool whose last reference goes while Buffers live is
 * orphaned: it gives its idle blocks back at once, and its own memory with the last Buffer. */
#include "buffer.h"

#include "scope.h"

/* False: pw_return_carefully() must do it. */
static inline bool
return_block(pw_buffer_pool *pool, pw_block *block)
{
#if PW_ATOMICS
    return pw_front_return(pool, block, NULL);
#else
    (void)pool;
    pw_class *cls = block->cls;
    if (PW_UNLIKELY(cls->careful)) {
        return false;
    }
    pw_class_push_owner(cls, block);
    return true;
#endif
}

static inline void
push_spare(pw_buffer_pool *self, pw_buffer *buffer)
{
    buffer->next = self->spare;
    self->spare = buffer;
}

/* Not yet handed out: given a block, or pushed back. */
static pw_buffer *
new_buffer(pw_buffer_pool *self)
{
    pw_buffer *buffer = self->spare;
    if (buffer != NULL) {
        self->spare = buffer->next;
        pw_revive((PyObject *)buffer);
        return buffer;
    }
    pw_state *state = PyType_GetModuleState(Py_TYPE(self));
    buffer = PyObject_New(pw_buffer, state->buffer_type);
    if (buffer != NULL) {
        buffer->block = NULL;
        buffer->views = 0;
        buffer->used = PW_ALL_USED;
        buffer->pool = self;
        self->buffers++;
    }
    return buffer;
}

/* The innocent acquirer is warned, once a pool, and served all the same. */
static void
warn(pw_buffer_pool *self, const char *module, const char *category, PyObject *message)
{
    PyObject *type = message == NULL ? NULL : pw_python_attribute(module, category);
    if (type == NULL || PyErr_WarnEx(type, PyUnicode_AsUTF8(message), 1) < 0) {
        PyErr_WriteUnraisable(self->name);
    }
    Py_XDECREF(type);
    Py_XDECREF(message);
}

static void
warn_of_change(pw_buffer_pool *self, const pw_block *block, size_t offset)
{
    if (!self->change_warned) {
        self->change_warned = true;
        warn(self, "poolwise.errors", "PoolMisuseWarning",
             PyUnicode_FromFormat("use after release: byte %zu of a block of %zu bytes of buffer "
                                  "pool %R was written while nobody had the block: something "
                                  "kept its address without a view; keep a memoryview instead",
                                  offset, block->capacity, self->name));
    }
}

static void
warn_of_advice(pw_buffer_pool *self, int error)
{
    if (!self->advice_warned) {
        self->advice_warned = true;
        warn(self, "builtins", "RuntimeWarning",
             PyUnicode_FromFormat("huge_pages=True: the kernel would not hear of it (%s): buffer "
                                  "pool %R goes on with ordinary pages",
                                  strerror(error), self->name));
    }
}

/* The bytes that are asked for; -1 with an exception set. */
static Py_ssize_t
size_argument(PyObject *size)
{
    if (!PyIndex_Check(size)) {
        pw_raise("UsageTypeError", "acquire(%R): a size is an int of bytes", size);
        return -1;
    }
    PyObject *integer = PyNumber_Index(size);
    if (integer == NULL) {
        return -1;
    }
    Py_ssize_t n = PyLong_AsSsize_t(integer);
    Py_DECREF(integer);
    if (n == -1 && PyErr_Occurred()) {
        PyErr_Clear();
        pw_raise("UsageError", "acquire(%R): no block has this size; give 0 to %zd bytes", size,
                 PY_SSIZE_T_MAX);
        return -1;
    }
    if (n < 0) {
        pw_raise("UsageError", "acquire(%zd): a size cannot be negative; give 0 or more", n);
        return -1;
    }
    return n;
}

static PyObject *
no_block(pw_buffer_pool *self, Py_ssize_t n, pw_found found)
{
    if (PyErr_Occurred()) { /* a signal's handler raised while we waited */
        return NULL;
    }
    if (self->closed) {
        return pw_raise("PoolClosed", "acquire(%zd): buffer pool %R is closed; make a new one", n,
                        self->name);
    }
    if (found == PW_NO_MEMORY) {
        return pw_raise("OutOfMemory",
                        "acquire(%zd): the system has no memory for this block; "
                        "release buffers, or ask for less",
                        n);
    }
    self->refused++;
    return pw_raise("OutOfMemory",
                    "acquire(%zd): buffer pool %R is full%s: %zu of max_bytes=%zu are out; release "
                    "buffers sooner, or raise max_bytes",
                    n, self->name, self->when_full == PW_FULL_WAIT ? " after wait_seconds" : "",
                    self->warm_bytes, self->max_bytes);
}

static __attribute__((noinline)) PyObject *
acquire_carefully(pw_buffer_pool *self, PyObject *size)
{
    Py_ssize_t n = size_argument(size);
    if (n < 0) {
        return NULL;
    }
    bool unwatched;
    Py_BEGIN_CRITICAL_SECTION(self);
    unwatched = !self->watched && !self->closed;
    self->watched = self->watched || unwatched;
    Py_END_CRITICAL_SECTION();
    if (unwatched && pw_watch((PyObject *)self, self->trim_seconds) < 0) {
        return NULL;
    }
    pw_block *block = NULL;
    bool hit = false;
    pw_found found = PW_FULL;
    Py_BEGIN_CRITICAL_SECTION(self);
    if (!self->closed) {
        found = pw_find_block(self, (size_t)n, &block, &hit);
        self->waits += found == PW_FULL && self->when_full == PW_FULL_WAIT;
    }
    Py_END_CRITICAL_SECTION();
    if (found == PW_FULL && self->when_full == PW_FULL_WAIT) {
        found = pw_wait_for_block(self, (size_t)n, &block, &hit);
    }
    if (found != PW_FOUND) {
        return no_block(self, n, found);
    }

    pw_buffer *buffer;
    size_t changed = block->capacity;
    Py_BEGIN_CRITICAL_SECTION(self);
    buffer = new_buffer(self);
    if (buffer != NULL) {
        changed = pw_inspect_block(self, block);
        pw_hand_out(buffer, block, (size_t)n);
        if (block->slab != NULL) {
            pw_front_refill(self, block->slab->cls);
        }
    } else {
        pw_return_carefully(self, block, NULL);
    }
    Py_END_CRITICAL_SECTION();
    if (buffer == NULL) {
        return NULL;
    }
    if (changed < block->capacity) {
        warn_of_change(self, block, changed);
    }
    if (block->slab != NULL && block->slab->cls->advice_errno != 0) {
        warn_of_advice(self, block->slab->cls->advice_errno);
    }
    if (pw_scopes_open > 0) {
        pw_scope_add(Py_TYPE(self), hit ? PW_SCOPE_HITS : PW_SCOPE_MISSES);
        if (block->slab == NULL) {
            pw_scope_add(Py_TYPE(self), PW_SCOPE_FALLBACKS);
        }
    }
    if (self->clear == PW_CLEAR_ACQUIRE) {
        memset(block->start, 0, (size_t)n);
    }
    return (PyObject *)buffer;
}

/* A hit of `last` + 1 bytes; NULL: acquire has more to do. */
static inline pw_buffer *
take_idle(pw_buffer_pool *self, size_t last)
{
#if PW_ATOMICS
    return pw_front_acquire(self, last);
#else
    if (PW_UNLIKELY(last >= self->size_limit)) {
        return NULL;
    }
    pw_class *cls = pw_class_for(self, last);
    pw_buffer *buffer = self->spare;
    if (PW_UNLIKELY(cls->idle == NULL || buffer == NULL || self->hits >= self->check_at)) {
        return NULL;
    }
    self->spare = buffer->next;
    self->hits++;
    pw_revive((PyObject *)buffer);
    pw_hand_out(buffer, pw_class_pop_owner(cls), last + 1);
    return buffer;
#endif
}

PyObject *
pw_acquire(pw_buffer_pool *self, PyObject *size)
{
    size_t last = (size_t)pw_small_int(size) - 1; /* not a small int, or 0: beyond every limit */
    pw_buffer *buffer = pw_scopes_open == 0 ? take_idle(self, last) : NULL;
    return PW_LIKELY(buffer != NULL) ? (PyObject *)buffer : acquire_carefully(self, size);
}

static PyObject *
views_alive(pw_buffer *self)
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
buffer_release(pw_buffer *self, PyObject *Py_UNUSED(ignored))
{
    bool viewed;
    pw_block *block;
    Py_BEGIN_CRITICAL_SECTION(self);
    viewed = self->views > 0;
    block = self->block;
    if (PW_LIKELY(!viewed)) {
        self->block = NULL;
    }
    Py_END_CRITICAL_SECTION();
    if (PW_UNLIKELY(viewed)) {
        return views_alive(self);
    }
    if (PW_LIKELY(block != NULL) && PW_UNLIKELY(!return_block(self->pool, block))) {
        Py_BEGIN_CRITICAL_SECTION(self->pool);
        pw_return_carefully(self->pool, block, self);
        Py_END_CRITICAL_SECTION();
    }
    Py_RETURN_NONE;
}

static PyObject *
buffer_enter(pw_buffer *self, PyObject *Py_UNUSED(ignored))
{
    return self->block == NULL ? released() : Py_NewRef(self);
}

static PyObject *
buffer_exit(pw_buffer *self, PyObject *const *args, Py_ssize_t nargs)
{
    bool failing = nargs > 0 && args[0] != Py_None;
    if (failing && self->views > 0) {
        Py_RETURN_NONE; /* the error under way matters more; the block goes with the last view */
    }
    return buffer_release(self, NULL);
}

void
pw_free_buffer(pw_buffer *self)
{
    PyTypeObject *type = Py_TYPE(self);
    PyObject_Free(self);
    Py_DECREF(type);
}

static __attribute__((noinline)) void
buffer_dealloc_carefully(pw_buffer *self)
{
    pw_buffer_pool *pool = self->pool;
    bool orphan, last;
    Py_BEGIN_CRITICAL_SECTION(pool);
    if (self->block != NULL) {
        pw_return_carefully(pool, self->block, self);
        self->block = NULL;
    }
    orphan = pool->orphaned;
    if (!orphan) {
        push_spare(pool, self);
        pw_front_make_room(pool, NULL);
    }
    last = orphan && --pool->buffers == 0;
    Py_END_CRITICAL_SECTION();
    if (orphan) {
        pw_free_buffer(self);
    }
    if (last) {
        pw_free_buffer_pool(pool);
    }
}

static void
buffer_dealloc(pw_buffer *self)
{
    pw_buffer_pool *pool = self->pool;
#if PW_ATOMICS
    bool done = pw_front_return(pool, self->block, self);
#else
    bool done = !pool->orphaned;
    if (PW_UNLIKELY(self->block != NULL)) {
        done = return_block(pool, self->block);
        self->block = done ? NULL : self->block;
    }
    if (PW_LIKELY(done)) {
        push_spare(pool, self);
    }
#endif
    if (PW_UNLIKELY(!done)) {
        buffer_dealloc_carefully(self);
    }
}

static void
buffer_releasebuffer(pw_buffer *self, Py_buffer *Py_UNUSED(view))
{
    Py_BEGIN_CRITICAL_SECTION(self);
    self->views--;
    Py_END_CRITICAL_SECTION();
}

static int
buffer_getbuffer(pw_buffer *self, Py_buffer *view, int flags)
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
buffer_length(pw_buffer *self)
{
    if (self->block == NULL) {
        released();
        return -1;
    }
    return (Py_ssize_t)self->size;
}

static PyObject *
buffer_released(pw_buffer *self, void *Py_UNUSED(closure))
{
    return PyBool_FromLong(self->block == NULL);
}

static PyObject *
buffer_get_used(pw_buffer *self, void *Py_UNUSED(closure))
{
    size_t size;
    bool out;
    Py_BEGIN_CRITICAL_SECTION(self);
    out = self->block != NULL;
    size = self->used == PW_ALL_USED ? self->size : self->used;
    Py_END_CRITICAL_SECTION();
    return out ? PyLong_FromSize_t(size) : released();
}

/* The block's class becomes the careful one: so its return is counted, and others cost nothing. */
static int
buffer_set_used(pw_buffer *self, PyObject *value, void *Py_UNUSED(closure))
{
    if (value == NULL || !PyIndex_Check(value)) {
        pw_raise("UsageTypeError", "used=%R: give an int of bytes", value ? value : Py_None);
        return -1;
    }
    Py_ssize_t used = PyNumber_AsSsize_t(value, NULL);
    if (used == -1 && PyErr_Occurred()) {
        return -1;
    }
    bool out;
    Py_ssize_t size;
    Py_BEGIN_CRITICAL_SECTION2(self, self->pool);
    out = self->block != NULL;
    size = (Py_ssize_t)self->size;
    if (out && used >= 0 && used <= size) {
        self->used = (size_t)used;
        if (self->block->slab != NULL) {
            self->block->cls = &self->pool->special;
        }
    }
    Py_END_CRITICAL_SECTION2();
    if (!out) {
        released();
        return -1;
    }
    if (used < 0 || used > size) {
        pw_raise("UsageError", "used=%R: this buffer has %zd bytes; give 0 to %zd", value, size,
                 size);
        return -1;
    }
    return 0;
}

static PyObject *
buffer_repr(pw_buffer *self)
{
    if (self->block == NULL) {
        return PyUnicode_FromString("<poolwise.Buffer, released>");
    }
    return PyUnicode_FromFormat("<poolwise.Buffer, %zu bytes of %R>", self->size, self->pool->name);
}

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
    {"used", (getter)buffer_get_used, (setter)buffer_set_used,
     "How many of its bytes were needed, to be told before its release; all unless told.\n\n"
     "The pool keeps the sums of each size class: stats().classes names those whose users ask\n"
     "for much more than they need. It cannot help itself: n bytes are asked for, and n bytes\n"
     "it gives. Raises UsageError (a ValueError) outside of 0 to len(buffer).",
     NULL},
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

PyType_Spec pw_buffer_spec = {
    .name = "poolwise.Buffer",
    .basicsize = sizeof(pw_buffer),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = buffer_slots,
};
