/* pool.c: Pool: get, put, and its life. pool.h has the map. */
#include "pool.h"

#include <structmember.h>

#include "scope.h"

enum { KNOWN_TYPES_MAX = 16, MAX_AGE_MAX = 1000 };

/* ---- locals ---- */

#if PW_ATOMICS

enum { RECENT = 4 }; /* 64 bytes: a late dlopen has little static thread-local storage */

static _Thread_local struct {
    uint64_t serial;
    pw_local *local;
} recent[RECENT] __attribute__((tls_model("initial-exec")));

static uint64_t last_serial; /* of the process */

/* What the private part of a local without a thread holds; in the section. */
static void
adopt_private(pw_pool *self, pw_local *local, pw_batch *leaving)
{
    while (pw_local_private(local) > 0 && leaving->count < PW_BATCH) {
        pw_pool_set_aside(self, pw_local_take_private(local), 0, leaving);
    }
}

static pw_local *
find_local_in_section(pw_pool *self, pw_owner *owner, pw_batch *leaving)
{
    size_t count = 1;
    pw_local *orphan = NULL;
    for (pw_local *local = self->locals; local != NULL; local = local->next, count++) {
        pw_owner *its = pw_owner_of(&local->owned);
        if (its == owner) {
            return local;
        }
        orphan = its == NULL ? local : orphan;
    }
    if (orphan != NULL) {
        adopt_private(self, orphan, leaving);
        pw_give_to(&orphan->owned, owner);
        return orphan;
    }
    pw_local *local = aligned_alloc(_Alignof(pw_local), sizeof(pw_local));
    if (local == NULL) {
        return NULL;
    }
    memset(local, 0, sizeof(*local));
    local->narrow = self->max_idle < 2 * count;
    local->next = self->locals;
    pw_plan_check(self, local);
    pw_give_to(&local->owned, owner);
    pw_store_release(&self->locals, local);
    pw_pool_tell_locals(self);
    return local;
}

static __attribute__((noinline)) pw_local *
find_local(pw_pool *self)
{
    pw_owner *owner = pw_owner_current();
    if (owner == NULL) {
        return NULL;
    }
    pw_local *local;
    pw_batch leaving = {0};
    Py_BEGIN_CRITICAL_SECTION(self);
    local = find_local_in_section(self, owner, &leaving);
    Py_END_CRITICAL_SECTION();
    pw_batch_release_pinned(self, &leaving);
    if (local != NULL) {
        recent[self->serial % RECENT].serial = self->serial;
        recent[self->serial % RECENT].local = local;
    }
    return local;
}

/* The calling thread's; NULL: no memory. */
static inline pw_local *
local_of(pw_pool *self)
{
    if (PW_LIKELY(recent[self->serial % RECENT].serial == self->serial)) {
        return recent[self->serial % RECENT].local;
    }
    return find_local(self);
}

/* What dead threads left; in the section. Their queues are stolen from as any. */
static void
adopt_from_the_dead(pw_pool *self, pw_batch *leaving)
{
    uint64_t deaths = pw_load_acquire(&pw_owner_deaths);
    if (deaths == self->deaths_seen) {
        return;
    }
    self->deaths_seen = deaths;
    for (pw_local *local = self->locals; local != NULL; local = local->next) {
        if (pw_owner_of(&local->owned) == NULL) {
            adopt_private(self, local, leaving);
        }
    }
}

#else

static inline pw_local *
local_of(pw_pool *self)
{
    return &self->local;
}

static inline void
adopt_from_the_dead(pw_pool *Py_UNUSED(self), pw_batch *Py_UNUSED(leaving))
{
}

#endif

void
pw_pool_tell_locals(pw_pool *self)
{
    bool looking = self->every == 1 || self->put_due || self->tracked_filter != 0;
    const void *accepts = self->careful || looking ? NULL : self->made;
    for (pw_local *local = pw_first_local(self); local != NULL; local = local->next) {
        pw_store_relaxed(&local->accepts, local->narrow ? NULL : accepts);
    }
}

/* ---- types: a pool refuses what its factory cannot have made ---- */

static void
set_made(pw_pool *self, PyTypeObject *type)
{
    self->made = type;
    pw_pool_tell_locals(self);
}

static bool
is_among_known(pw_pool *self, PyTypeObject *type)
{
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(self->known_types); i++) {
        if (PyList_GET_ITEM(self->known_types, i) == (PyObject *)type) {
            return true;
        }
    }
    return false;
}

/* The factory makes such objects. In the section; 0, or -1 with an exception set. */
static int
learn_type(pw_pool *self, PyTypeObject *type)
{
    if (!is_among_known(self, type)) {
        if (PyList_GET_SIZE(self->known_types) == KNOWN_TYPES_MAX) {
            self->any_type = true;
            return 0;
        }
        if (PyList_Append(self->known_types, (PyObject *)type) < 0) {
            return -1;
        }
    }
    set_made(self, type);
    return 0;
}

/* Whether the factory can have made the object: 1, 0, or -1 with an exception set. What is put
 * first settles it. In the section. */
static int
can_be_ours(pw_pool *self, PyObject *object)
{
    PyTypeObject *type = Py_TYPE(object);
    if (type == self->made) {
        return 1;
    }
    bool known =
        self->any_type || PyList_GET_SIZE(self->known_types) == 0 || is_among_known(self, type);
    if (object == Py_None || !known) {
        return 0;
    }
    return learn_type(self, type) < 0 ? -1 : 1;
}

/* ---- get ---- */

static void
count_miss(pw_pool *self)
{
    Py_BEGIN_CRITICAL_SECTION(self);
    *(self->held_count > 0 || pw_pool_idle(self) > 0 ? &self->misses_held : &self->misses_empty) +=
        1;
    if (++self->circulating > self->high_water) {
        self->high_water = self->circulating;
    }
    if (self->regrettable > 0) {
        self->regrettable--;
        self->regret++;
    }
    Py_END_CRITICAL_SECTION();
}

static PyObject *
get_new(pw_pool *self)
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
    int learned = 0;
    Py_BEGIN_CRITICAL_SECTION(self);
    if (Py_TYPE(object) != self->made) {
        learned = learn_type(self, Py_TYPE(object));
    }
    Py_END_CRITICAL_SECTION();
    if (learned < 0) {
        Py_DECREF(object);
        return NULL;
    }
    count_miss(self);
    return object;
}

/* An item of the queue that nobody holds; NULL: none among the next few. */
static PyObject *
take_sole(pw_pool *self, pw_queue *queue, void *(*take)(pw_queue *), pw_batch *leaving)
{
    for (int look = 0; look < PW_LOOK_MAX; look++) {
        PyObject *item = take(queue);
        if (item == NULL || pw_is_sole(item)) {
            return item;
        }
        Py_BEGIN_CRITICAL_SECTION(self);
        pw_pool_set_aside(self, item, 0, leaving);
        Py_END_CRITICAL_SECTION();
    }
    return NULL;
}

#if PW_ATOMICS
static PyObject *
steal(pw_pool *self, pw_local *own, pw_batch *leaving)
{
    PyObject *item = NULL;
    for (pw_local *local = own->next != NULL ? own->next : pw_first_local(self);
         item == NULL && local != own && leaving->count < PW_BATCH / 2;
         local = local->next != NULL ? local->next : pw_first_local(self)) {
        item = take_sole(self, &local->shared, pw_queue_steal, leaving);
    }
    if (item != NULL) {
        pw_count(&own->hits_stolen);
    }
    return item;
}
#endif

/* In the section. */
static PyObject *
take_from_pool(pw_pool *self, pw_batch *leaving)
{
    adopt_from_the_dead(self, leaving);
    PyObject *item = take_sole(self, &self->depot, pw_queue_pop_owner, leaving);
    self->hits_depot += item != NULL;
    for (size_t i = 0; item == NULL && i < self->held_count; i++) {
        if (pw_is_sole(self->held[i].item)) {
            item = pw_pool_unhold(self, i).item;
            self->hits_held++;
        }
    }
    if (item == NULL) {
        item = take_sole(self, &self->victim, pw_queue_pop_owner, leaving);
        self->hits_victim += item != NULL;
    }
    return item;
}

/* Neither private item is free: look deeper, but not without a bound. */
static __attribute__((noinline)) PyObject *
get_deeper(pw_pool *self, pw_local *local)
{
    pw_batch leaving = {0};
    if (local->second != NULL) {
        PyObject *held = local->second;
        pw_store_relaxed(&local->second, NULL);
        Py_BEGIN_CRITICAL_SECTION(self);
        pw_pool_set_aside(self, held, 0, &leaving);
        Py_END_CRITICAL_SECTION();
    }
    PyObject *object = take_sole(self, &local->shared, pw_queue_pop_owner, &leaving);
    if (object != NULL) {
        pw_count(&local->hits_shared);
    }
#if PW_ATOMICS
    if (object == NULL) {
        object = steal(self, local, &leaving);
    }
#endif
    if (object == NULL) {
        Py_BEGIN_CRITICAL_SECTION(self);
        object = take_from_pool(self, &leaving);
        Py_END_CRITICAL_SECTION();
    }
    pw_batch_release_pinned(self, &leaving);
    return object;
}

/* The general way: `object` is what the private part had, or NULL. */
static __attribute__((noinline)) PyObject *
get_carefully(pw_pool *self, pw_local *local, PyObject *object)
{
    if (local == NULL) {
        return PyErr_NoMemory();
    }
    bool shown = self->checker != NULL && pw_check_is_due(self, local, object != NULL);
    if (object != NULL) {
        pw_count(&local->hits_private);
        if (shown) {
            pw_plan_check(self, local);
        }
    } else {
        object = get_deeper(self, local);
    }
    bool hit = object != NULL;
    if (!hit) {
        object = get_new(self);
        if (object == NULL) {
            return NULL;
        }
    }
    if (pw_scopes_open > 0) {
        pw_scope_add(Py_TYPE(self), hit ? PW_SCOPE_HITS : PW_SCOPE_MISSES);
    }
    if (shown && pw_check_got(self, object, hit) < 0) {
        Py_BEGIN_CRITICAL_SECTION(self);
        self->circulating--;
        self->failed++;
        Py_END_CRITICAL_SECTION();
        Py_CLEAR(object);
    }
    return object;
}

PyObject *
pw_pool_get(pw_pool *self, PyObject *Py_UNUSED(ignored))
{
    pw_local *local = local_of(self);
    PyObject *object = NULL;
    if (PW_LIKELY(!PW_ATOMICS || local != NULL)) {
        object = pw_local_pop_private_owner(local, pw_is_sole);
        if (PW_LIKELY(object != NULL && local->hits_private != local->check_at &&
                      pw_scopes_open == 0)) {
            pw_count(&local->hits_private);
            return object;
        }
    }
    return get_carefully(self, local, object);
}

/* ---- put ---- */

static PyObject *
foreign(pw_pool *self, PyObject *object)
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

static void
count_drop(pw_pool *self, uint64_t *reason)
{
    Py_BEGIN_CRITICAL_SECTION(self);
    self->circulating--;
    *reason += 1;
    Py_END_CRITICAL_SECTION();
}

/* The general way to keep an object. */
static __attribute__((noinline)) PyObject *
keep(pw_pool *self, pw_local *local, PyObject *object)
{
    if (self->max_idle != SIZE_MAX && pw_pool_idle(self) >= self->max_idle) {
        count_drop(self, &self->full);
        Py_RETURN_NONE;
    }
    Py_INCREF(object);
    bool kept = local->narrow ? pw_queue_push_owner(&local->shared, object)
                              : pw_local_push_owner(local, object);
    if (!kept) {
        Py_DECREF(object);
        count_drop(self, &self->failed);
        return PyErr_NoMemory();
    }
    Py_RETURN_NONE;
}

/* 1: keep it; 0: reset said no; -1: it raised. */
static int
run_reset(pw_pool *self, PyObject *object)
{
    PyObject *reset = Py_NewRef(self->reset);
    PyObject *answer = PyObject_CallOneArg(reset, object);
    Py_DECREF(reset);
    if (answer == NULL) {
        count_drop(self, &self->failed);
        return -1;
    }
    bool rejected = answer == Py_False;
    Py_DECREF(answer);
    if (rejected) {
        count_drop(self, &self->rejected);
    }
    return !rejected;
}

/* Has the pool known to the timer from its first put on; 0, or -1 with an exception set. */
static int
watch_once(pw_pool *self)
{
    bool first;
    Py_BEGIN_CRITICAL_SECTION(self);
    first = !self->watched;
    self->watched = true;
    self->careful = self->reset != NULL || self->max_idle < 2;
    pw_pool_tell_locals(self);
    Py_END_CRITICAL_SECTION();
    return first ? pw_watch((PyObject *)self, self->trim_seconds) : 0;
}

static __attribute__((noinline)) PyObject *
put_carefully(pw_pool *self, pw_local *local, PyObject *object)
{
    if (local == NULL) {
        count_drop(self, &self->failed);
        return PyErr_NoMemory();
    }
    bool shown = pw_put_is_due(self, object);
    if (!shown && !self->careful && Py_TYPE(object) == self->made && pw_scopes_open == 0 &&
        !local->narrow) {
        return keep(self, local, object); /* something else is tracked */
    }
    int known;
    Py_BEGIN_CRITICAL_SECTION(self);
    known = can_be_ours(self, object);
    Py_END_CRITICAL_SECTION();
    if (known <= 0) {
        return known < 0 ? NULL : foreign(self, object);
    }
    if (!self->watched && watch_once(self) < 0) {
        return NULL;
    }
    if (pw_scopes_open > 0) {
        pw_scope_add(Py_TYPE(self), PW_SCOPE_PUTS);
    }
    int verdict = self->reset == NULL ? 1 : run_reset(self, object);
    if (shown && verdict > 0) {
        verdict = pw_check_put(self, local, object);
    } else if (shown) {
        pw_check_dropped(self, object);
    }
    if (verdict <= 0) {
        return verdict < 0 ? NULL : Py_NewRef(Py_None);
    }
    return keep(self, local, object);
}

PyObject *
pw_pool_put(pw_pool *self, PyObject *object)
{
    pw_local *local = local_of(self);
    if (PW_UNLIKELY((PW_ATOMICS && local == NULL) || Py_TYPE(object) != local->accepts ||
                    pw_scopes_open > 0)) {
        return put_carefully(self, local, object);
    }
    Py_INCREF(object);
    if (PW_UNLIKELY(!pw_local_push_private_owner(local, object))) {
        Py_DECREF(object); /* the caller has it: this frees nothing */
        return keep(self, local, object);
    }
    Py_RETURN_NONE;
}

static PyObject *
pool_check(pw_pool *self, PyObject *Py_UNUSED(ignored))
{
    bool whole = pw_queue_check(&self->depot) && pw_queue_check(&self->victim) &&
                 self->held_count <= PW_HELD_MAX;
    for (pw_local *local = pw_first_local(self); local != NULL; local = local->next) {
        whole = whole && pw_local_check(local);
    }
    return PyBool_FromLong(whole);
}

/* ---- life of a Pool ---- */

static int
max_idle_argument(PyObject *value, size_t *limit)
{
    *limit = SIZE_MAX;
    if (value == Py_None) {
        return 0;
    }
    if (!PyIndex_Check(value)) {
        pw_raise("UsageTypeError", "max_idle=%R is not an int: give 0 or more, or None", value);
        return -1;
    }
    Py_ssize_t number = PyNumber_AsSsize_t(value, NULL); /* clipped, not refused */
    if (number == -1 && PyErr_Occurred()) {
        return -1;
    }
    if (number < 0) {
        pw_raise("UsageError", "max_idle=%R cannot be kept: give 0 or more, or None for no limit",
                 value);
        return -1;
    }
    *limit = (size_t)number;
    return 0;
}

static int
max_age_argument(PyObject *value, size_t *age)
{
    *age = 3;
    if (value == NULL) {
        return 0;
    }
    Py_ssize_t number = PyIndex_Check(value) ? PyNumber_AsSsize_t(value, NULL) : 0;
    if (number == -1 && PyErr_Occurred()) {
        return -1;
    }
    if (number < 1 || number > MAX_AGE_MAX) {
        pw_raise("UsageError", "max_age=%R is no age: give 1 to %d trims", value, MAX_AGE_MAX);
        return -1;
    }
    *age = (size_t)number;
    return 0;
}

static int
trim_argument(PyObject *value, pw_policy *policy)
{
    static const char *const names[] = {"demand", "victim", "aged", "clear"};
    *policy = PW_DEMAND;
    if (value == NULL || value == Py_None) {
        return 0;
    }
    for (int i = 0; i < 4 && PyUnicode_Check(value); i++) {
        if (PyUnicode_CompareWithASCIIString(value, names[i]) == 0) {
            *policy = (pw_policy)i;
            return 0;
        }
    }
    pw_raise("UsageError",
             "trim=%R is no policy: give 'demand', 'victim', 'aged' or 'clear', or None for no "
             "timer",
             value);
    return -1;
}

static PyObject *
pool_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"factory", "reset",        "name",   "max_idle", "trim",
                            "max_age", "trim_seconds", "checks", NULL};
    PyObject *factory, *reset = Py_None, *name = NULL, *max_idle = Py_None, *trim = NULL;
    PyObject *max_age = NULL, *trim_seconds = NULL, *checks = Py_None;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O|$OOOOOOO:Pool", names, &factory, &reset,
                                     &name, &max_idle, &trim, &max_age, &trim_seconds, &checks)) {
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
    size_t idle_limit, age;
    pw_policy policy;
    double seconds = PW_TRIM_SECONDS;
    if (max_idle_argument(max_idle, &idle_limit) < 0 || trim_argument(trim, &policy) < 0 ||
        max_age_argument(max_age, &age) < 0 ||
        (trim_seconds != NULL && pw_seconds_argument(trim_seconds, "trim_seconds", &seconds) < 0)) {
        return NULL;
    }
    pw_pool *self = (pw_pool *)type->tp_alloc(type, 0);
    if (self == NULL) {
        return NULL;
    }
    self->name = pw_name_argument(name, "pool");
    self->known_types = PyList_New(0);
    self->factory = Py_NewRef(factory);
    self->reset = reset == Py_None ? NULL : Py_NewRef(reset);
    self->max_idle = idle_limit;
    self->policy = policy;
    self->max_age = age;
    self->trim_seconds = trim == Py_None ? 0.0 : seconds;
    self->watched = self->trim_seconds == 0.0;
    self->careful = self->reset != NULL || idle_limit < 2 || !self->watched;
    if (policy == PW_AGED && (self->lows = calloc(age, sizeof(*self->lows))) == NULL) {
        PyErr_NoMemory();
    }
#if PW_ATOMICS
    self->serial = __atomic_add_fetch(&last_serial, 1, __ATOMIC_RELAXED);
    pw_fork_lock_add(&self->fork_lock, &self->ob_base.ob_mutex);
#endif
    if (self->name == NULL || self->known_types == NULL || PyErr_Occurred() ||
        pw_start_checks(self, checks) < 0) {
        Py_DECREF(self);
        return NULL;
    }
#if !PW_ATOMICS
    pw_plan_check(self, &self->local);
#endif
    pw_pool_tell_locals(self);
    pw_share_between_threads((PyObject *)self);
    return (PyObject *)self;
}

static int
visit_queue(const pw_queue *queue, visitproc visit, void *arg)
{
    for (size_t i = queue->tail; i != queue->head; i++) {
        Py_VISIT((PyObject *)queue->ring->slots[i & (queue->ring->cap - 1)]);
    }
    return 0;
}

static int
pool_traverse(pw_pool *self, visitproc visit, void *arg)
{
    int stop = visit_queue(&self->depot, visit, arg);
    if (stop == 0) {
        stop = visit_queue(&self->victim, visit, arg);
    }
    for (pw_local *local = pw_first_local(self); stop == 0 && local != NULL; local = local->next) {
        Py_VISIT((PyObject *)local->newest);
        Py_VISIT((PyObject *)local->second);
        stop = visit_queue(&local->shared, visit, arg);
    }
    if (stop != 0) {
        return stop;
    }
    for (size_t i = 0; i < self->held_count; i++) {
        Py_VISIT(self->held[i].item);
    }
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(self->factory);
    Py_VISIT(self->reset);
    Py_VISIT(self->checker);
    Py_VISIT(self->tracked);
    Py_VISIT(self->known_types);
    Py_VISIT(self->pinned_types);
    return 0;
}

static int
pool_tp_clear(pw_pool *self)
{
    self->careful = true; /* no put finds a way round the missing reset */
    self->max_idle = 0;
    pw_pool_tell_locals(self);
    pw_pool_release_all(self, true);
    Py_CLEAR(self->factory);
    Py_CLEAR(self->reset);
    Py_CLEAR(self->checker);
    Py_CLEAR(self->tracked);
    return 0;
}

static void
free_locals(pw_pool *self)
{
    for (pw_local *local = pw_first_local(self), *next; local != NULL; local = next) {
        next = local->next;
        pw_queue_free(&local->shared);
#if PW_ATOMICS
        pw_disown(&local->owned);
        free(local);
#endif
    }
}

static void
pool_dealloc(pw_pool *self)
{
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    if (self->weakrefs != NULL) {
        PyObject_ClearWeakRefs((PyObject *)self);
    }
    pool_tp_clear(self);
    free_locals(self);
#if PW_ATOMICS
    pw_fork_lock_remove(&self->fork_lock);
#endif
    pw_queue_free(&self->depot);
    pw_queue_free(&self->victim);
    free(self->lows);
    pw_pool_free_spare_leases(self);
    Py_XDECREF(self->known_types);
    Py_XDECREF(self->pinned_types);
    Py_XDECREF(self->name);
    type->tp_free(self);
    Py_DECREF(type);
}

static PyObject *
pool_repr(pw_pool *self)
{
    return PyUnicode_FromFormat("<poolwise.Pool %R, %zu idle>", self->name, pw_pool_idle(self));
}

static PyMethodDef pool_methods[] = {
    {"get", (PyCFunction)pw_pool_get, METH_NOARGS,
     "get($self, /)\n--\n\nAn object that nobody else holds: an idle one, else a new one from the "
     "factory.\n"
     "Never blocks. Raises what the factory raises.\n\n"
     ">>> pool = poolwise.Pool(bytearray)\n>>> pool.get()\nbytearray(b'')"},
    {"put", (PyCFunction)pw_pool_put, METH_O,
     "put($self, object, /)\n--\n\nGive an object back, after reset(object). A reset that returns "
     "False\n"
     "drops it; one that raises drops it too, and put raises that error. Raises ForeignPut\n"
     "(a ValueError) for None and for a type that the factory does not make."},
    {"lease", (PyCFunction)pw_pool_lease, METH_NOARGS,
     "lease($self, /)\n--\n\nA context manager: get on entry, put on exit.\n\n"
     ">>> with pool.lease() as buffer:\n...     buffer += b'abc'"},
    {"trim", (PyCFunction)(void (*)(void))pw_pool_trim, METH_FASTCALL,
     "trim($self, reason='call', /)\n--\n\nDrop what the pool's policy calls surplus; how many "
     "that was.\n\n"
     "reason: 'call', 'timer', 'collection' or 'pressure', as stats() counts it. The timer calls\n"
     "it every trim_seconds. Raises UsageError (a ValueError) for another reason.\n\n"
     ">>> pool = poolwise.Pool(list, trim='clear')\n>>> pool.put(pool.get())\n>>> pool.trim()\n1"},
    {"clear", (PyCFunction)pw_pool_clear, METH_NOARGS,
     "clear($self, /)\n--\n\nDrop every idle object; how many that was."},
    {"stats", (PyCFunction)pw_pool_stats, METH_NOARGS,
     "stats($self, /)\n--\n\nEvery counter and level, as a PoolStats."},
    {"locals", (PyCFunction)pw_pool_locals, METH_NOARGS,
     "locals($self, /)\n--\n\nA LocalStats for each thread's part; with the GIL there is one "
     "part."},
    {"__class_getitem__", Py_GenericAlias, METH_O | METH_CLASS, "Pool[T], for annotations."},
    {"_check", (PyCFunction)pool_check, METH_NOARGS,
     "_check($self, /)\n--\n\nWhether the structure's invariants hold (for tests)."},
    {NULL, NULL, 0, NULL},
};

static PyMemberDef pool_members[] = {
    {"name", T_OBJECT, offsetof(pw_pool, name), READONLY, "The pool's name."},
    {"__weaklistoffset__", T_PYSSIZET, offsetof(pw_pool, weakrefs), READONLY, NULL},
    {NULL},
};

static PyType_Slot pool_slots[] = {
    {Py_tp_doc,
     "Pool(factory, *, reset=None, name=None, max_idle=None, trim='demand', max_age=3,\n"
     "     trim_seconds=60.0, checks=None)\n"
     "--\n\n"
     "A set of idle objects, reused only when nobody else holds them.\n\n"
     "factory: called without arguments for a new object. reset: called with each object that is\n"
     "put; False drops the object. name: str, for reports. max_idle: int, how many may be idle\n"
     "(None: no limit). trim: what a trim drops: 'demand' half of what was idle all the time\n"
     "since the trim before, 'aged' what was idle for max_age trims (int, 1 to 1000), 'victim'\n"
     "what was idle at the trim before and not got since, 'clear' all that is idle; None: as\n"
     "'demand', without a timer. trim_seconds: float, the timer's period; None: no timer. checks:\n"
     "'off', 'sample' or 'strict'; None: what the environment variable POOLWISE_CHECKS says, else\n"
     "'off'.\n\n"
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
    .basicsize = sizeof(pw_pool),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = pool_slots,
};

int
pw_add_pool(PyObject *module)
{
    pw_state *state = pw_state_of(module);
    state->pool_type = (PyTypeObject *)PyType_FromModuleAndSpec(module, &pool_spec, NULL);
    return state->pool_type == NULL ? -1 : PyModule_AddType(module, state->pool_type);
}
