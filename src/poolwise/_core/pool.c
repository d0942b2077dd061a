/* pool.c: Pool and Lease. What is idle lies in local.h; this file knows what a Python object is.
 *
 * Python code can run at every call of the factory, of reset, and at every decref. So the local is
 * whole again before any of these: detach first, release outside. */
#include "module.h"

#include <structmember.h>

#include "local.h"
#include "upcall.h"

enum { KNOWN_TYPES_MAX = 16, SPARE_LEASES_MAX = 8, BATCH = 64 };

typedef struct LeaseObject LeaseObject;

/* Guard of the fields without one: the GIL, or the pool's critical section. */
typedef struct {
    PyObject_HEAD pw_local local;
    uint64_t hits;
    PyTypeObject *made;    /* the type last seen; borrowed from known_types */
    PyTypeObject *accepts; /* made, or NULL where put has more to do than to keep the object */
    bool careful;          /* put has: a reset, a tiny max_idle, or the timer to start */
    bool any_type;         /* the factory makes too many types to tell a foreign one */
    bool watched;          /* the timer knows us */
    size_t max_idle;       /* constant until tp_clear */
    double trim_seconds;   /* constant; 0: no timer */
    LeaseObject *spare;    /* dead leases, linked by `next` */
    unsigned spare_count;
    uint64_t misses;
    /* Made by us and not dropped: out = circulating - idle - held. It rises only at misses, when
     * nothing is free: so its peak is that of what was out, or put and still held. */
    int64_t circulating, high_water;
    uint64_t full, rejected, failed, abandoned, pinned_dropped, trimmed, cleared, trims;
    uint64_t gets_at_trim;
    uint64_t pinned;                  /* held at the last trim */
    PyObject *factory, *reset, *name; /* constant until tp_clear */
    PyObject *known_types;            /* list */
    PyObject *pinned_types;           /* dict: class name to how many were dropped; or NULL */
    PyObject *weakrefs;
} PoolObject;

struct LeaseObject {
    PyObject_HEAD PoolObject *pool;
    PyObject *object; /* NULL: not entered */
    LeaseObject *next;
};

/* The ownership test. Weak references count as somebody: they could revive it for another. */
static inline bool
is_free(void *item)
{
    return Py_REFCNT((PyObject *)item) == 1 && !pw_has_weakrefs(item);
}

/* Items that have left the local, and wait to be released outside. */
typedef struct {
    size_t count;
    PyObject *items[BATCH];
} Batch;

static void
batch_release(Batch *batch)
{
    for (size_t i = 0; i < batch->count; i++) {
        Py_DECREF(batch->items[i]);
    }
    batch->count = 0;
}

/* Counts the classes of pinned objects by name, and releases them. */
static void
batch_release_pinned(PoolObject *self, Batch *batch)
{
    for (size_t i = 0; i < batch->count; i++) {
        if (self->pinned_types == NULL) {
            self->pinned_types = PyDict_New();
        }
        const char *class_name = Py_TYPE(batch->items[i])->tp_name;
        PyObject *seen = self->pinned_types == NULL
                             ? NULL
                             : PyDict_GetItemString(self->pinned_types, class_name);
        PyObject *count = PyLong_FromLong(seen == NULL ? 1 : PyLong_AsLong(seen) + 1);
        if (count != NULL && self->pinned_types != NULL) {
            PyDict_SetItemString(self->pinned_types, class_name, count);
        }
        Py_XDECREF(count);
    }
    PyErr_Clear(); /* no memory for a name: the count below is still right */
    self->pinned_dropped += batch->count;
    self->circulating -= (int64_t)batch->count;
    batch_release(batch);
}

/* Everything idle and held, in batches; `items` of them at most, so that finalizers which put
 * cannot keep us here for ever. */
static Py_ssize_t
release_all(PoolObject *self, size_t items)
{
    Py_ssize_t released = 0;
    Batch batch = {0};
    do {
        pw_local *local = &self->local;
        while (batch.count < BATCH && items > 0) {
            PyObject *item = pw_local_take_oldest_owner(local);
            if (item == NULL && local->held_count > 0) {
                item = pw_local_unhold_owner(local, local->held_count - 1).item;
            }
            if (item == NULL) {
                items = 0;
                break;
            }
            batch.items[batch.count++] = item;
            items--;
        }
        released += (Py_ssize_t)batch.count;
        self->cleared += batch.count;
        self->circulating -= (int64_t)batch.count;
        batch_release(&batch);
    } while (items > 0);
    return released;
}

static void
set_made(PoolObject *self, PyTypeObject *type)
{
    self->made = type;
    self->accepts = self->careful ? NULL : type;
}

static int64_t
count_out(const PoolObject *self)
{
    return self->circulating - (int64_t)(pw_local_idle(&self->local) + self->local.held_count);
}

/* Whether objects of this type may be in the pool; the first that is seen settles it. */
static int
type_is_known(PoolObject *self, PyTypeObject *type)
{
    Py_ssize_t count = PyList_GET_SIZE(self->known_types);
    for (Py_ssize_t i = 0; i < count; i++) {
        if (PyList_GET_ITEM(self->known_types, i) == (PyObject *)type) {
            set_made(self, type);
            return 1;
        }
    }
    return self->any_type || count == 0;
}

static int
type_learn(PoolObject *self, PyTypeObject *type)
{
    Py_ssize_t count = PyList_GET_SIZE(self->known_types);
    for (Py_ssize_t i = 0; i < count; i++) {
        if (PyList_GET_ITEM(self->known_types, i) == (PyObject *)type) {
            set_made(self, type);
            return 0;
        }
    }
    if (count == KNOWN_TYPES_MAX) {
        self->any_type = true;
        return 0;
    }
    if (PyList_Append(self->known_types, (PyObject *)type) < 0) {
        return -1;
    }
    set_made(self, type);
    return 0;
}

static PyObject *
get_new(PoolObject *self)
{
    if (self->factory == NULL) {
        return pw_raise("PoolClosed", "get(): this pool has been collected: make a new one");
    }
    PyObject *factory = Py_NewRef(self->factory);
    PyObject *object = PyObject_CallNoArgs(factory);
    Py_DECREF(factory);
    if (object == NULL) {
        return NULL;
    }
    if (object == Py_None) {
        Py_DECREF(object);
        return pw_raise("UsageTypeError",
                        "the factory of pool %R returned None: let it return a new object",
                        self->name);
    }
    if (Py_TYPE(object) != self->made && type_learn(self, Py_TYPE(object)) < 0) {
        Py_DECREF(object);
        return NULL;
    }
    self->misses++;
    if (++self->circulating > self->high_water) {
        self->high_water = self->circulating;
    }
    return object;
}

/* Neither private item is free: look deeper, but not without a bound. */
static PyObject *
take_deeper(PoolObject *self, Batch *pinned)
{
    pw_local *local = &self->local;
    if (local->second != NULL) {
        PyObject *held = local->second;
        local->second = NULL;
        if (!pw_local_hold_owner(local, held, 0)) {
            pinned->items[pinned->count++] = held;
        }
    }
    for (int look = 0; look < PW_LOOK_MAX; look++) {
        PyObject *item = pw_local_pop_shared_owner(local);
        if (item == NULL) {
            break;
        }
        if (is_free(item)) {
            return item;
        }
        if (!pw_local_hold_owner(local, item, 0)) {
            pinned->items[pinned->count++] = item;
        }
    }
    for (size_t i = 0; i < local->held_count; i++) {
        if (is_free(local->held[i].item)) {
            return pw_local_unhold_owner(local, i).item;
        }
    }
    return NULL;
}

static __attribute__((noinline)) PyObject *
get_deeper(PoolObject *self)
{
    Batch pinned = {0};
    PyObject *object = NULL;
    Py_BEGIN_CRITICAL_SECTION(self);
    object = take_deeper(self, &pinned);
    self->hits += object != NULL;
    Py_END_CRITICAL_SECTION();
    if (pinned.count > 0) {
        batch_release_pinned(self, &pinned);
    }
    return object != NULL ? object : get_new(self);
}

static PyObject *
pool_get(PoolObject *self, PyObject *Py_UNUSED(ignored))
{
    PyObject *object = NULL;
    Py_BEGIN_CRITICAL_SECTION(self);
    object = pw_local_pop_private_owner(&self->local, is_free);
    self->hits += object != NULL;
    Py_END_CRITICAL_SECTION();
    if (PW_LIKELY(object != NULL)) {
        return object;
    }
    return get_deeper(self);
}

static PyObject *
foreign(PoolObject *self, PyObject *object)
{
    if (object == Py_None) {
        return pw_raise("ForeignPut", "put(None): None is not from pool %R; put what get() gave",
                        self->name);
    }
    return pw_raise("ForeignPut",
                    "put(): this %.200s is not from pool %R, which makes %.200s; put "
                    "it where it was got",
                    Py_TYPE(object)->tp_name, self->name,
                    self->made == NULL ? "nothing yet" : self->made->tp_name);
}

/* The general way to keep an object. */
static __attribute__((noinline)) PyObject *
keep(PoolObject *self, PyObject *object)
{
    bool kept = true;
    Py_BEGIN_CRITICAL_SECTION(self);
    if (pw_local_idle(&self->local) >= self->max_idle) {
        self->full++;
        self->circulating--;
    } else {
        kept = pw_local_push_owner(&self->local, object);
        if (kept) {
            Py_INCREF(object);
        }
    }
    Py_END_CRITICAL_SECTION();
    return kept ? Py_NewRef(Py_None) : PyErr_NoMemory();
}

/* 1: keep it; 0: reset said no; -1: it raised. */
static int
run_reset(PoolObject *self, PyObject *object)
{
    PyObject *reset = Py_NewRef(self->reset);
    PyObject *answer = PyObject_CallOneArg(reset, object);
    Py_DECREF(reset);
    if (answer == NULL) {
        self->circulating--;
        self->failed++;
        return -1;
    }
    bool rejected = answer == Py_False;
    Py_DECREF(answer);
    if (rejected) {
        self->circulating--;
        self->rejected++;
    }
    return !rejected;
}

static __attribute__((noinline)) PyObject *
put_carefully(PoolObject *self, PyObject *object)
{
    if (Py_TYPE(object) != self->made) {
        if (object == Py_None || !type_is_known(self, Py_TYPE(object))) {
            return foreign(self, object);
        }
        if (type_learn(self, Py_TYPE(object)) < 0) {
            return NULL;
        }
    }
    if (!self->watched) {
        self->watched = true;
        self->careful = self->reset != NULL || self->max_idle < 2;
        set_made(self, self->made);
        if (pw_watch((PyObject *)self, self->trim_seconds) < 0) {
            return NULL;
        }
    }
    if (self->reset != NULL) {
        int verdict = run_reset(self, object);
        if (verdict < 0) {
            return NULL;
        }
        if (verdict == 0) {
            Py_RETURN_NONE;
        }
    }
    return keep(self, object);
}

static PyObject *
pool_put(PoolObject *self, PyObject *object)
{
    if (PW_UNLIKELY(Py_TYPE(object) != self->accepts)) {
        return put_carefully(self, object);
    }
    bool kept = false;
    Py_BEGIN_CRITICAL_SECTION(self);
    kept = pw_local_push_private_owner(&self->local, object);
    Py_END_CRITICAL_SECTION();
    if (PW_UNLIKELY(!kept)) {
        return keep(self, object);
    }
    Py_INCREF(object);
    Py_RETURN_NONE;
}

/* Looks again at everything idle or held: what is free goes back or stays, what is held is
 * counted, and after PW_PINS_MAX trims dropped. One batch of drops at most. */
static void
sort_held(PoolObject *self, bool resting, Batch *pinned)
{
    pw_local *local = &self->local;
    size_t i = 0;
    while (i < local->held_count) {
        if (is_free(local->held[i].item)) {
            pw_held held = pw_local_unhold_owner(local, i);
            if (!pw_local_push_oldest_owner(local, held.item)) {
                pw_local_hold_owner(local, held.item, held.pins); /* no memory: next time */
                break;
            }
        } else if (++local->held[i].pins >= PW_PINS_MAX) {
            pinned->items[pinned->count++] = pw_local_unhold_owner(local, i).item;
        } else {
            i++;
        }
    }
    self->pinned = local->held_count;
    /* The newest may be held by the variable of a running loop: it is pinned only at rest. */
    void *private[] = {local->second, resting ? local->newest : NULL};
    for (int which = 0; which < 2; which++) {
        if (private[which] == NULL || is_free(private[which])) {
            continue;
        }
        *(which == 0 ? &local->second : &local->newest) = NULL;
        self->pinned++;
        if (!pw_local_hold_owner(local, private[which], 1)) {
            pinned->items[pinned->count++] = private[which];
        }
    }
    size_t write = local->tail;
    for (size_t read = local->tail; read != local->head; read++) {
        void *item = local->ring[read & (local->cap - 1)];
        bool moved = false;
        if (!is_free(item)) {
            self->pinned++;
            moved = pw_local_hold_owner(local, item, 1);
        }
        if (!moved) {
            local->ring[write++ & (local->cap - 1)] = item;
        }
    }
    local->head = write;
    pw_local_note_low(local);
}

/* Policy `demand`: of those that were idle all the time since the last trim, drop half: nobody
 * would have missed them. The private part counts only at rest, when nobody has called get. */
static PyObject *
pool_trim(PoolObject *self, PyObject *Py_UNUSED(ignored))
{
    Batch batch = {0};
    size_t surplus = 0;
    Py_BEGIN_CRITICAL_SECTION(self);
    uint64_t gets = self->hits + self->misses;
    bool resting = gets == self->gets_at_trim;
    self->gets_at_trim = gets;
    sort_held(self, resting, &batch);
    size_t low = resting ? pw_local_idle(&self->local) : self->local.shared_low;
    surplus = (low + 1) / 2;
    self->local.shared_low = pw_local_shared(&self->local);
    self->trims++;
    Py_END_CRITICAL_SECTION();
    batch_release_pinned(self, &batch);

    size_t dropped = 0;
    while (dropped < surplus) {
        Py_BEGIN_CRITICAL_SECTION(self);
        while (batch.count < BATCH && dropped + batch.count < surplus) {
            PyObject *oldest = pw_local_take_oldest_owner(&self->local);
            if (oldest == NULL) {
                surplus = dropped + batch.count;
                break;
            }
            batch.items[batch.count++] = oldest;
        }
        self->trimmed += batch.count;
        self->circulating -= (int64_t)batch.count;
        Py_END_CRITICAL_SECTION();
        dropped += batch.count;
        batch_release(&batch);
    }
    return PyLong_FromSize_t(dropped);
}

static PyObject *
pool_clear_idle(PoolObject *self, PyObject *Py_UNUSED(ignored))
{
    return PyLong_FromSsize_t(
        release_all(self, pw_local_idle(&self->local) + self->local.held_count));
}

static PyObject *
pool_stats(PoolObject *self, PyObject *Py_UNUSED(ignored))
{
    const pw_local *local = &self->local;
    unsigned long long gets = self->hits + self->misses;
    long long puts = (long long)(gets - self->abandoned) - count_out(self);
    PyObject *pinned_types =
        self->pinned_types == NULL ? PyDict_New() : PyDict_Copy(self->pinned_types);
    if (pinned_types == NULL) {
        return NULL;
    }
    PyObject *values = Py_BuildValue(
        "{s:O,s:K,s:K,s:K,s:L,s:L,s:n,s:n,s:n,s:K,s:K,s:K,s:K,s:K,s:K,s:K,s:K,s:K,s:N}", "name",
        self->name, "gets", gets, "hits", (unsigned long long)self->hits, "misses",
        (unsigned long long)self->misses, "puts", puts, "high_water", (long long)self->high_water,
        "idle_private", (Py_ssize_t)pw_local_private(local), "idle_shared",
        (Py_ssize_t)pw_local_shared(local), "held", (Py_ssize_t)local->held_count, "pinned",
        (unsigned long long)self->pinned, "trims", (unsigned long long)self->trims,
        "dropped_trimmed", (unsigned long long)self->trimmed, "dropped_cleared",
        (unsigned long long)self->cleared, "dropped_full", (unsigned long long)self->full,
        "dropped_rejected", (unsigned long long)self->rejected, "dropped_failed",
        (unsigned long long)self->failed, "dropped_abandoned", (unsigned long long)self->abandoned,
        "dropped_pinned", (unsigned long long)self->pinned_dropped, "pinned_types", pinned_types);
    return pw_report("PoolStats", values);
}

static PyObject *
pool_check(PoolObject *self, PyObject *Py_UNUSED(ignored))
{
    return PyBool_FromLong(pw_local_check(&self->local));
}

/* ---- Lease ---- */

static PyObject *
pool_lease(PoolObject *self, PyObject *Py_UNUSED(ignored))
{
    LeaseObject *lease = self->spare;
    if (PW_LIKELY(lease != NULL)) {
        self->spare = lease->next;
        self->spare_count--;
        Py_SET_REFCNT(lease, 1);
    } else {
        pw_state *state = PyType_GetModuleState(Py_TYPE(self));
        lease = PyObject_GC_New(LeaseObject, state->lease_type);
        if (lease == NULL) {
            return NULL;
        }
        lease->object = NULL;
    }
    lease->pool = (PoolObject *)Py_NewRef(self);
    PyObject_GC_Track(lease);
    return (PyObject *)lease;
}

static PyObject *
lease_enter(LeaseObject *self, PyObject *Py_UNUSED(ignored))
{
    if (self->object != NULL) {
        return pw_raise("LeaseError",
                        "this lease of pool %R has been entered and not left: take "
                        "another by lease()",
                        self->pool->name);
    }
    PyObject *object = pool_get(self->pool, NULL);
    if (object == NULL) {
        return NULL;
    }
    if (self->object != NULL) { /* the factory entered this very lease */
        Py_DECREF(object);
        return pw_raise("LeaseError",
                        "this lease of pool %R was entered by its own factory: take "
                        "another by lease()",
                        self->pool->name);
    }
    self->object = object;
    return Py_NewRef(object);
}

static PyObject *
lease_exit(LeaseObject *self, PyObject *const *Py_UNUSED(args), Py_ssize_t Py_UNUSED(nargs))
{
    PyObject *object = self->object;
    if (object == NULL) {
        return pw_raise("LeaseError",
                        "this lease of pool %R has not been entered: use it in a with "
                        "statement",
                        self->pool->name);
    }
    self->object = NULL;
    PyObject *done = pool_put(self->pool, object);
    Py_DECREF(object); /* ours: the pool's own is the one that is left */
    return done;
}

static int
lease_traverse(LeaseObject *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(self->pool);
    Py_VISIT(self->object);
    return 0;
}

static void
lease_dealloc(LeaseObject *self)
{
    PyObject_GC_UnTrack(self);
    PoolObject *pool = self->pool;
    PyObject *object = self->object;
    self->object = NULL;
    if (PW_LIKELY(pool->spare_count < SPARE_LEASES_MAX)) {
        self->next = pool->spare;
        pool->spare = self;
        pool->spare_count++;
    } else {
        PyTypeObject *type = Py_TYPE(self);
        PyObject_GC_Del(self);
        Py_DECREF(type);
    }
    if (object != NULL) { /* entered and never left */
        pool->circulating--;
        pool->abandoned++;
        Py_DECREF(object);
    }
    Py_DECREF(pool);
}

/* ---- life of a Pool ---- */

static PyObject *
pool_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"factory", "reset", "name", "max_idle", "trim", "trim_seconds", NULL};
    PyObject *factory, *reset = Py_None, *name = NULL, *max_idle = Py_None, *trim = NULL;
    PyObject *trim_seconds = NULL;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O|$OOOOO:Pool", names, &factory, &reset, &name,
                                     &max_idle, &trim, &trim_seconds)) {
        return NULL;
    }
    if (!PyCallable_Check(factory)) {
        return pw_raise("UsageTypeError",
                        "factory=%R cannot be called: give a class or a function "
                        "without arguments",
                        factory);
    }
    if (reset != Py_None && !PyCallable_Check(reset)) {
        return pw_raise("UsageTypeError",
                        "reset=%R cannot be called: give a function of one "
                        "object, or None",
                        reset);
    }
    size_t idle_limit = SIZE_MAX;
    if (max_idle != Py_None) {
        if (!PyIndex_Check(max_idle)) {
            return pw_raise("UsageTypeError", "max_idle=%R is not an int: give 0 or more, or None",
                            max_idle);
        }
        Py_ssize_t limit = PyNumber_AsSsize_t(max_idle, NULL); /* clipped, not refused */
        if (limit == -1 && PyErr_Occurred()) {
            return NULL;
        }
        if (limit < 0) {
            return pw_raise("UsageError",
                            "max_idle=%R cannot be kept: give 0 or more, or None for "
                            "no limit",
                            max_idle);
        }
        idle_limit = (size_t)limit;
    }
    if (trim != NULL && trim != Py_None &&
        !(PyUnicode_Check(trim) && PyUnicode_CompareWithASCIIString(trim, "demand") == 0)) {
        return pw_raise("UsageError", "trim=%R is no policy: give 'demand', or None for no timer",
                        trim);
    }
    double seconds = PW_TRIM_SECONDS;
    if (trim_seconds != NULL && pw_seconds_argument(trim_seconds, "trim_seconds", &seconds) < 0) {
        return NULL;
    }
    if (trim == Py_None) {
        seconds = 0.0;
    }
    PyObject *pool_name = pw_name_argument(name, "pool");
    PyObject *known_types = PyList_New(0);
    PoolObject *self = NULL;
    if (pool_name != NULL && known_types != NULL) {
        self = (PoolObject *)type->tp_alloc(type, 0);
    }
    if (self == NULL) {
        Py_XDECREF(pool_name);
        Py_XDECREF(known_types);
        return NULL;
    }
    self->name = pool_name;
    self->known_types = known_types;
    self->factory = Py_NewRef(factory);
    self->reset = reset == Py_None ? NULL : Py_NewRef(reset);
    self->max_idle = idle_limit;
    self->trim_seconds = seconds;
    self->watched = seconds == 0.0;
    self->careful = self->reset != NULL || idle_limit < 2 || !self->watched;
    return (PyObject *)self;
}

static int
pool_traverse(PoolObject *self, visitproc visit, void *arg)
{
    const pw_local *local = &self->local;
    Py_VISIT(Py_TYPE(self));
    Py_VISIT((PyObject *)local->newest);
    Py_VISIT((PyObject *)local->second);
    for (size_t i = local->tail; i != local->head; i++) {
        Py_VISIT((PyObject *)local->ring[i & (local->cap - 1)]);
    }
    for (size_t i = 0; i < local->held_count; i++) {
        Py_VISIT((PyObject *)local->held[i].item);
    }
    Py_VISIT(self->factory);
    Py_VISIT(self->reset);
    Py_VISIT(self->known_types);
    Py_VISIT(self->pinned_types);
    return 0;
}

static int
pool_tp_clear(PoolObject *self)
{
    self->careful = true; /* no put finds a way round the missing reset */
    self->accepts = NULL;
    self->max_idle = 0;
    release_all(self, SIZE_MAX);
    Py_CLEAR(self->factory);
    Py_CLEAR(self->reset);
    return 0;
}

static void
pool_dealloc(PoolObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    if (self->weakrefs != NULL) {
        PyObject_ClearWeakRefs((PyObject *)self);
    }
    pool_tp_clear(self);
    free(self->local.ring);
    while (self->spare != NULL) {
        LeaseObject *lease = self->spare;
        PyTypeObject *lease_type = Py_TYPE(lease);
        self->spare = lease->next;
        PyObject_GC_Del(lease);
        Py_DECREF(lease_type);
    }
    Py_XDECREF(self->known_types);
    Py_XDECREF(self->pinned_types);
    Py_XDECREF(self->name);
    type->tp_free(self);
    Py_DECREF(type);
}

static PyObject *
pool_repr(PoolObject *self)
{
    return PyUnicode_FromFormat("<poolwise.Pool %R, %zu idle>", self->name,
                                pw_local_idle(&self->local));
}

static PyMethodDef pool_methods[] = {
    {"get", (PyCFunction)pool_get, METH_NOARGS,
     "get($self, /)\n--\n\nAn object that nobody else holds: an idle one, else a new one from the "
     "factory.\n"
     "Never blocks. Raises what the factory raises.\n\n"
     ">>> pool = poolwise.Pool(bytearray)\n>>> pool.get()\nbytearray(b'')"},
    {"put", (PyCFunction)pool_put, METH_O,
     "put($self, object, /)\n--\n\nGive an object back, after reset(object). A reset that returns "
     "False\n"
     "drops it; one that raises drops it too, and put raises that error. Raises ForeignPut\n"
     "(a ValueError) for None and for a type that the factory does not make."},
    {"lease", (PyCFunction)pool_lease, METH_NOARGS,
     "lease($self, /)\n--\n\nA context manager: get on entry, put on exit.\n\n"
     ">>> with pool.lease() as buffer:\n...     buffer += b'abc'"},
    {"trim", (PyCFunction)pool_trim, METH_NOARGS,
     "trim($self, /)\n--\n\nDrop half of what was idle all the time since the last trim; how many "
     "that "
     "was.\n"
     "The timer calls it every trim_seconds."},
    {"clear", (PyCFunction)pool_clear_idle, METH_NOARGS,
     "clear($self, /)\n--\n\nDrop every idle object; how many that was."},
    {"stats", (PyCFunction)pool_stats, METH_NOARGS,
     "stats($self, /)\n--\n\nEvery counter and level, as a PoolStats."},
    {"__class_getitem__", Py_GenericAlias, METH_O | METH_CLASS, "Pool[T], for annotations."},
    {"_check", (PyCFunction)pool_check, METH_NOARGS,
     "_check($self, /)\n--\n\nWhether the structure's invariants hold (for tests)."},
    {NULL, NULL, 0, NULL},
};

static PyMemberDef pool_members[] = {
    {"name", T_OBJECT, offsetof(PoolObject, name), READONLY, "The pool's name."},
    {"__weaklistoffset__", T_PYSSIZET, offsetof(PoolObject, weakrefs), READONLY, NULL},
    {NULL},
};

static PyType_Slot pool_slots[] = {
    {Py_tp_doc,
     "Pool(factory, *, reset=None, name=None, max_idle=None, trim='demand', trim_seconds=60.0)\n"
     "--\n\n"
     "A set of idle objects, reused only when nobody else holds them.\n\n"
     "factory: called without arguments for a new object. reset: called with each object that is\n"
     "put; False drops the object. name: str, for reports. max_idle: int, how many may be idle\n"
     "(None: no limit). trim: 'demand', or None for no timer. trim_seconds: float, its period.\n"
     "Raises UsageError (a ValueError) and UsageTypeError (a TypeError).\n\n"
     ">>> pool = poolwise.Pool(list, reset=list.clear)\n"
     ">>> rows = pool.get()\n>>> pool.put(rows)"},
    {Py_tp_new, pool_new},
    {Py_tp_dealloc, pool_dealloc},
    {Py_tp_traverse, pool_traverse},
    {Py_tp_clear, pool_tp_clear},
    {Py_tp_repr, pool_repr},
    {Py_tp_methods, pool_methods},
    {Py_tp_members, pool_members},
    {0, NULL},
};

static PyType_Spec pool_spec = {
    .name = "poolwise.Pool",
    .basicsize = sizeof(PoolObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = pool_slots,
};

static PyMethodDef lease_methods[] = {
    {"__enter__", (PyCFunction)lease_enter, METH_NOARGS, "The object."},
    {"__exit__", (PyCFunction)(void (*)(void))lease_exit, METH_FASTCALL, "Puts the object back."},
    {"__class_getitem__", Py_GenericAlias, METH_O | METH_CLASS, "Lease[T], for annotations."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot lease_slots[] = {
    {Py_tp_doc, "One object of a pool for the length of a with statement: see Pool.lease()."},
    {Py_tp_dealloc, lease_dealloc},
    {Py_tp_traverse, lease_traverse},
    {Py_tp_methods, lease_methods},
    {0, NULL},
};

static PyType_Spec lease_spec = {
    .name = "poolwise.Lease",
    .basicsize = sizeof(LeaseObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE |
             Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = lease_slots,
};

int
pw_add_pool(PyObject *module)
{
    pw_state *state = pw_state_of(module);
    state->pool_type = (PyTypeObject *)PyType_FromModuleAndSpec(module, &pool_spec, NULL);
    if (state->pool_type == NULL || PyModule_AddType(module, state->pool_type) < 0) {
        return -1;
    }
    state->lease_type = (PyTypeObject *)PyType_FromModuleAndSpec(module, &lease_spec, NULL);
    if (state->lease_type == NULL || PyModule_AddType(module, state->lease_type) < 0) {
        return -1;
    }
    return 0;
}
