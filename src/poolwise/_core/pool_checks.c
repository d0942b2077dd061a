/* pool_checks.c: which gets and puts are shown to the checker of a pool, and what comes of it.
 * poolwise.pools.checks says what the calls mean. Without checks none of this runs: the private
 * hits, which are counted anyway, never come to check_at. */
#include "pool.h"

static uint64_t
filter_bit(PyObject *object)
{
    return UINT64_C(1) << (((uintptr_t)object >> 4) * UINT64_C(0x9e3779b97f4a7c15) >> 58);
}

/* How many gets until the next is looked at: few while there have been few, later `every` in the
 * mean; and irregular, or a program with a rhythm of its own would be seen at one beat only. */
static unsigned
next_interval(pw_pool *self)
{
    uint64_t mean = 1 + pw_pool_gets(self) / 64;
    mean = mean < self->every ? mean : self->every;
    self->interval_state =
        self->interval_state * UINT64_C(6364136223846793005) + 1442695040888963407;
    return 1 + (unsigned)((self->interval_state >> 33) % (2 * mean - 1));
}

/* Sets the private hit that will be shown; in the section. */
void
pw_plan_check(pw_pool *self, pw_local *local)
{
    local->check_at =
        self->checker == NULL ? UINT64_MAX : local->hits_private + next_interval(self) - 1;
}

/* Whether this get is to be shown: private hits are counted already, of the deeper ones and the
 * misses we keep count. */
bool
pw_check_is_due(pw_pool *self, pw_local *local, bool private)
{
    bool due;
    Py_BEGIN_CRITICAL_SECTION(self);
    if (private) {
        due = local->hits_private == local->check_at;
    } else {
        due = --self->until_got == 0;
        if (due) {
            self->until_got = next_interval(self);
        }
    }
    Py_END_CRITICAL_SECTION();
    return due;
}

/* Shows the checker an object that get is about to give; -1 with an exception set. The filter is
 * set afterwards: a put of another thread that finds nothing tracked may have cleared it before. */
int
pw_check_got(pw_pool *self, PyObject *object, bool hit)
{
    PyObject *done =
        PyObject_CallMethod(self->checker, "got", "OO", object, hit ? Py_True : Py_False);
    Py_XDECREF(done);
    Py_BEGIN_CRITICAL_SECTION(self);
    self->tracked_filter |= filter_bit(object);
    self->filter_sets++;
    self->put_due = true;
    pw_pool_tell_locals(self);
    Py_END_CRITICAL_SECTION();
    return done == NULL ? -1 : 0;
}

static bool
queue_has(const pw_queue *queue, PyObject *object)
{
    for (size_t i = queue->tail; i != queue->head; i++) {
        if (queue->ring->slots[i & (queue->ring->cap - 1)] == object) {
            return true;
        }
    }
    return false;
}

/* Whether the object is idle already: in the depot, aside, or in the caller's own local. */
static bool
is_idle(pw_pool *self, pw_local *local, PyObject *object)
{
    if (local->newest == object || local->second == object || queue_has(&local->shared, object) ||
        queue_has(&self->depot, object) || queue_has(&self->victim, object)) {
        return true;
    }
    for (size_t i = 0; i < self->held_count; i++) {
        if (self->held[i].item == object) {
            return true;
        }
    }
    return false;
}

static bool
is_tracked(pw_pool *self, PyObject *object)
{
    if ((self->tracked_filter & filter_bit(object)) == 0) {
        return false;
    }
    PyObject *id = PyLong_FromVoidPtr(object);
    int found = id == NULL ? -1 : PyDict_Contains(self->tracked, id);
    Py_XDECREF(id);
    PyErr_Clear(); /* no memory to ask: it may be */
    return found != 0;
}

/* Whether this put is to be shown: one of a tracked object, or the first after a get that was
 * shown. */
bool
pw_put_is_due(pw_pool *self, PyObject *object)
{
    return self->checker != NULL && (self->every == 1 || self->put_due || is_tracked(self, object));
}

/* The filter of what is tracked now: bits of what has been put would slow each put of it. */
static int
make_filter(pw_pool *self, uint64_t *filter)
{
    PyObject *ids = PyDict_Keys(self->tracked);
    if (ids == NULL) {
        return -1;
    }
    *filter = 0;
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(ids); i++) {
        *filter |= filter_bit(PyLong_AsVoidPtr(PyList_GET_ITEM(ids, i)));
    }
    Py_DECREF(ids);
    return 0;
}

/* 1: keep the object; 0: drop it; -1: the checker raised. */
int
pw_check_put(pw_pool *self, pw_local *local, PyObject *object)
{
    bool idle;
    uint64_t filter_sets;
    Py_BEGIN_CRITICAL_SECTION(self);
    filter_sets = self->filter_sets;
    self->put_due = false;
    idle = is_idle(self, local, object);
    Py_END_CRITICAL_SECTION();
    PyObject *answer =
        PyObject_CallMethod(self->checker, "putting", "OO", object, idle ? Py_True : Py_False);
    if (answer == NULL) {
        return -1;
    }
    int keep = PyObject_IsTrue(answer);
    Py_DECREF(answer);
    uint64_t filter = 0;
    if (keep < 0 || (self->every != 1 && make_filter(self, &filter) < 0)) {
        return -1;
    }
    Py_BEGIN_CRITICAL_SECTION(self);
    if (filter_sets == self->filter_sets) {
        self->tracked_filter = filter;
    }
    pw_pool_tell_locals(self);
    if (!keep) {
        self->circulating--;
        self->unlucky++;
    }
    Py_END_CRITICAL_SECTION();
    return keep;
}

/* Tells the checker of an object that its reset has dropped; an exception that is set stays. */
void
pw_check_dropped(pw_pool *self, PyObject *object)
{
    PyObject *kind, *error, *traceback;
    PyErr_Fetch(&kind, &error, &traceback);
    PyObject *id = PyLong_FromVoidPtr(object);
    PyObject *done = id == NULL ? NULL : PyObject_CallMethod(self->checker, "forget", "O", id);
    if (done == NULL) {
        PyErr_WriteUnraisable((PyObject *)self);
    }
    Py_XDECREF(id);
    Py_XDECREF(done);
    PyErr_Restore(kind, error, traceback);
}

/* The checker of a new pool: NULL with no exception set where nothing is to be checked. */
static PyObject *
make_checker(PyObject *name, PyObject *checks)
{
    const char *word = getenv("POOLWISE_CHECKS");
    bool off = checks == Py_None ? word == NULL || word[0] == '\0'
                                 : PyUnicode_Check(checks) &&
                                       PyUnicode_CompareWithASCIIString(checks, "off") == 0;
    if (off) {
        return NULL; /* and the module need not be imported */
    }
    PyObject *make = pw_python_attribute("poolwise.pools.checks", "checker");
    PyObject *checker = make == NULL ? NULL : PyObject_CallFunction(make, "OO", name, checks);
    Py_XDECREF(make);
    if (checker == Py_None) {
        Py_CLEAR(checker);
    }
    return checker;
}

int
pw_start_checks(pw_pool *self, PyObject *checks)
{
    self->checker = make_checker(self->name, checks);
    if (self->checker == NULL) {
        return PyErr_Occurred() ? -1 : 0;
    }
    self->tracked = PyObject_GetAttrString(self->checker, "tracked");
    PyObject *every = PyObject_GetAttrString(self->checker, "every");
    long number = every == NULL ? -1 : PyLong_AsLong(every);
    Py_XDECREF(every);
    if (number <= 0 || self->tracked == NULL) {
        return -1;
    }
    self->every = (unsigned)number;
    self->interval_state = (uintptr_t)self;
    self->until_got = next_interval(self);
    return 0;
}
