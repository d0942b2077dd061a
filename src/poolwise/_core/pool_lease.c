/* pool_lease.c: a lease: get on entry, put on exit. */
#include "pool.h"

PyObject *
pw_pool_lease(pw_pool *self, PyObject *Py_UNUSED(ignored))
{
    pw_lease *lease = self->spare;
    if (PW_LIKELY(lease != NULL)) {
        self->spare = lease->next;
        self->spare_count--;
        Py_SET_REFCNT(lease, 1);
    } else {
        pw_state *state = PyType_GetModuleState(Py_TYPE(self));
        lease = PyObject_GC_New(pw_lease, state->lease_type);
        if (lease == NULL) {
            return NULL;
        }
        lease->object = NULL;
    }
    lease->pool = (pw_pool *)Py_NewRef(self);
    PyObject_GC_Track(lease);
    return (PyObject *)lease;
}

/* Sets the object; false: there was one. */
static bool
fill(pw_lease *self, PyObject *object)
{
    bool filled;
    Py_BEGIN_CRITICAL_SECTION(self);
    filled = self->object == NULL;
    if (filled) {
        self->object = object;
    }
    Py_END_CRITICAL_SECTION();
    return filled;
}

static PyObject *
lease_enter(pw_lease *self, PyObject *Py_UNUSED(ignored))
{
    if (pw_load_relaxed(&self->object) != NULL) {
        return pw_raise("LeaseError",
                        "this lease of pool %R has been entered and not left: take "
                        "another by lease()",
                        self->pool->name);
    }
    PyObject *object = pw_pool_get(self->pool, NULL);
    if (object == NULL) {
        return NULL;
    }
    if (!fill(self, object)) { /* the factory, or another thread, entered this very lease */
        Py_DECREF(object);
        return pw_raise("LeaseError",
                        "this lease of pool %R was entered meanwhile by its own factory or "
                        "another thread: take another by lease()",
                        self->pool->name);
    }
    return Py_NewRef(object);
}

static PyObject *
lease_exit(pw_lease *self, PyObject *const *Py_UNUSED(args), Py_ssize_t Py_UNUSED(count))
{
    PyObject *object;
    Py_BEGIN_CRITICAL_SECTION(self);
    object = self->object;
    self->object = NULL;
    Py_END_CRITICAL_SECTION();
    if (object == NULL) {
        return pw_raise("LeaseError",
                        "this lease of pool %R has not been entered: use it in a with "
                        "statement",
                        self->pool->name);
    }
    PyObject *done = pw_pool_put(self->pool, object);
    Py_DECREF(object); /* ours: the pool's own is the one that is left */
    return done;
}

static int
lease_traverse(pw_lease *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(self->pool);
    Py_VISIT(self->object);
    return 0;
}

/* Entered and never left. */
static void
abandon(pw_pool *pool, PyObject *object)
{
    Py_BEGIN_CRITICAL_SECTION(pool);
    pool->circulating--;
    pool->abandoned++;
    Py_END_CRITICAL_SECTION();
    if (pool->checker != NULL) {
        PyObject *kind, *error, *traceback;
        PyErr_Fetch(&kind, &error, &traceback);
        PyObject *id = PyLong_FromVoidPtr(object);
        PyObject *done = id == NULL ? NULL : PyObject_CallMethod(pool->checker, "left", "O", id);
        if (done == NULL) {
            PyErr_WriteUnraisable((PyObject *)pool);
        }
        Py_XDECREF(id);
        Py_XDECREF(done);
        PyErr_Restore(kind, error, traceback);
    }
    Py_DECREF(object);
}

static void
lease_dealloc(pw_lease *self)
{
    PyObject_GC_UnTrack(self);
    pw_pool *pool = self->pool;
    PyObject *object = self->object;
    self->object = NULL;
    if (PW_LIKELY(!PW_ATOMICS && pool->spare_count < PW_SPARE_LEASES_MAX)) {
        self->next = pool->spare;
        pool->spare = self;
        pool->spare_count++;
    } else {
        PyTypeObject *type = Py_TYPE(self);
        PyObject_GC_Del(self);
        Py_DECREF(type);
    }
    if (object != NULL) {
        abandon(pool, object);
    }
    Py_DECREF(pool);
}

void
pw_pool_free_spare_leases(pw_pool *self)
{
    while (self->spare != NULL) {
        pw_lease *lease = self->spare;
        PyTypeObject *type = Py_TYPE(lease);
        self->spare = lease->next;
        PyObject_GC_Del(lease);
        Py_DECREF(type);
    }
}

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
    .basicsize = sizeof(pw_lease),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE |
             Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = lease_slots,
};

int
pw_add_lease(PyObject *module)
{
    pw_state *state = pw_state_of(module);
    state->lease_type = (PyTypeObject *)PyType_FromModuleAndSpec(module, &lease_spec, NULL);
    return state->lease_type == NULL ? -1 : PyModule_AddType(module, state->lease_type);
}
