/* scope.c: Statistics: counts what the pools do for one block of code, in its context.
 *
 * Scopes nest: what is counted in the inner is counted in the outer. The context is Python's own
 * (contextvars): a task that was started inside counts, a task that merely runs in between does
 * not. Without an open scope a pool pays for one look at pw_scopes_open. */
#include "scope.h"

#include "upcall.h"

unsigned pw_scopes_open; /* the process's own: see scope.h */

typedef struct pw_scope pw_scope;

struct pw_scope {
    PyObject_HEAD pw_scope *outer;
    PyObject *token; /* NULL: not entered */
    uint64_t counts[PW_SCOPE_COUNTS];
};

static PyObject *
scope_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {NULL};
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, ":statistics", names)) {
        return NULL;
    }
    return type->tp_alloc(type, 0);
}

static PyObject *
scope_enter(pw_scope *self, PyObject *Py_UNUSED(ignored))
{
    pw_state *state = PyType_GetModuleState(Py_TYPE(self));
    if (self->token != NULL) {
        return pw_raise("UsageError", "statistics(): this scope is open: make another");
    }
    PyObject *outer;
    if (PyContextVar_Get(state->scope_variable, Py_None, &outer) < 0) {
        return NULL;
    }
    self->token = PyContextVar_Set(state->scope_variable, (PyObject *)self);
    if (self->token == NULL) {
        Py_DECREF(outer);
        return NULL;
    }
    if (outer == Py_None) {
        Py_CLEAR(outer);
    }
    Py_XSETREF(self->outer, (pw_scope *)outer);
    pw_add_atomically(&pw_scopes_open, 1);
    return Py_NewRef(self);
}

static PyObject *
scope_exit(pw_scope *self, PyObject *const *Py_UNUSED(args), Py_ssize_t Py_UNUSED(count))
{
    pw_state *state = PyType_GetModuleState(Py_TYPE(self));
    if (self->token == NULL) {
        return pw_raise("UsageError", "statistics(): this scope is not open: use it in a with "
                                      "statement");
    }
    PyObject *token = self->token;
    self->token = NULL;
    pw_add_atomically(&pw_scopes_open, -1);
    int done = PyContextVar_Reset(state->scope_variable, token);
    Py_DECREF(token);
    Py_CLEAR(self->outer);
    if (done < 0) {
        return NULL; /* left in another context than entered: contextvars' own sentence */
    }
    Py_RETURN_NONE;
}

void
pw_scope_add(PyTypeObject *caller, pw_scope_count what)
{
    pw_state *state = PyType_GetModuleState(caller);
    PyObject *found;
    if (state == NULL || PyContextVar_Get(state->scope_variable, Py_None, &found) < 0) {
        PyErr_Clear();
        return;
    }
    if (found != Py_None) {
        for (pw_scope *scope = (pw_scope *)found; scope != NULL; scope = scope->outer) {
            pw_add_atomically(&scope->counts[what], 1);
        }
    }
    Py_DECREF(found);
}

static int
scope_traverse(pw_scope *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(self->outer);
    Py_VISIT(self->token);
    return 0;
}

static int
scope_clear(pw_scope *self)
{
    if (self->token != NULL) {
        pw_add_atomically(&pw_scopes_open, -1); /* entered and never left */
    }
    Py_CLEAR(self->token);
    Py_CLEAR(self->outer);
    return 0;
}

static void
scope_dealloc(pw_scope *self)
{
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    scope_clear(self);
    type->tp_free(self);
    Py_DECREF(type);
}

static PyObject *
get_count(pw_scope *self, void *closure)
{
    return PyLong_FromUnsignedLongLong(self->counts[(uintptr_t)closure]);
}

static PyObject *
get_gets(pw_scope *self, void *Py_UNUSED(closure))
{
    return PyLong_FromUnsignedLongLong(self->counts[PW_SCOPE_HITS] + self->counts[PW_SCOPE_MISSES]);
}

static PyObject *
get_hit_rate(pw_scope *self, void *Py_UNUSED(closure))
{
    uint64_t gets = self->counts[PW_SCOPE_HITS] + self->counts[PW_SCOPE_MISSES];
    return PyFloat_FromDouble(gets == 0 ? 0.0 : (double)self->counts[PW_SCOPE_HITS] / (double)gets);
}

static PyObject *
scope_repr(pw_scope *self)
{
    return PyUnicode_FromFormat(
        "<poolwise.statistics: %llu gets, %llu hits, %llu puts>",
        (unsigned long long)(self->counts[PW_SCOPE_HITS] + self->counts[PW_SCOPE_MISSES]),
        (unsigned long long)self->counts[PW_SCOPE_HITS],
        (unsigned long long)self->counts[PW_SCOPE_PUTS]);
}

static PyObject *
scopes_open(PyObject *Py_UNUSED(none), PyObject *Py_UNUSED(ignored))
{
    return PyLong_FromUnsignedLong(pw_load_relaxed(&pw_scopes_open));
}

static PyMethodDef scope_methods[] = {
    {"__enter__", (PyCFunction)scope_enter, METH_NOARGS, "The scope, which counts from now on."},
    {"__exit__", (PyCFunction)(void (*)(void))scope_exit, METH_FASTCALL, "Ends the counting."},
    {"_open", scopes_open, METH_NOARGS | METH_STATIC,
     "_open()\n--\n\nHow many scopes are open in all contexts (for tests)."},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef scope_getset[] = {
    {"gets", (getter)get_gets, NULL, "Gets and acquires.", NULL},
    {"hits", (getter)get_count, NULL, "Of these, served by something idle.", (void *)PW_SCOPE_HITS},
    {"misses", (getter)get_count, NULL, "Of these, made anew.", (void *)PW_SCOPE_MISSES},
    {"fallbacks", (getter)get_count, NULL, "Misses that the pool may not hold.",
     (void *)PW_SCOPE_FALLBACKS},
    {"puts", (getter)get_count, NULL, "Objects put, whether kept or dropped.",
     (void *)PW_SCOPE_PUTS},
    {"hit_rate", (getter)get_hit_rate, NULL, "Hits per get, 0 to 1; 0 before the first get.", NULL},
    {NULL},
};

static PyType_Slot scope_slots[] = {
    {Py_tp_doc,
     "statistics()\n--\n\n"
     "Counts what all pools do for a block of code, as a context manager.\n\n"
     "Scopes nest, and belong to the context (contextvars) that opened them: tasks and threads\n"
     "that run beside are not counted. Raises UsageError (a ValueError) where one scope is\n"
     "opened twice.\n\n"
     ">>> pool = poolwise.Pool(list)\n"
     ">>> with poolwise.statistics() as s:\n"
     "...     pool.put(pool.get())\n"
     "...     rows = pool.get()\n"
     ">>> s.gets, s.hits, s.misses, s.puts\n(2, 1, 1, 1)"},
    {Py_tp_new, scope_new},
    {Py_tp_dealloc, scope_dealloc},
    {Py_tp_traverse, scope_traverse},
    {Py_tp_clear, scope_clear},
    {Py_tp_repr, scope_repr},
    {Py_tp_methods, scope_methods},
    {Py_tp_getset, scope_getset},
    {0, NULL},
};

static PyType_Spec scope_spec = {
    .name = "poolwise.statistics",
    .basicsize = sizeof(pw_scope),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = scope_slots,
};

int
pw_add_scope(PyObject *module)
{
    pw_state *state = pw_state_of(module);
    state->scope_variable = PyContextVar_New("poolwise.statistics", NULL);
    if (state->scope_variable == NULL) {
        return -1;
    }
    state->scope_type = (PyTypeObject *)PyType_FromModuleAndSpec(module, &scope_spec, NULL);
    return state->scope_type == NULL ? -1 : PyModule_AddType(module, state->scope_type);
}
