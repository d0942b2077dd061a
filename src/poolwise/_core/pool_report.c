/* pool_report.c: what a pool says of itself. Nothing here is counted for the report's sake: hits
 * are counted where they happen, puts follow from the rest. */
#include "pool.h"

uint64_t
pw_pool_gets(pw_pool *self)
{
    uint64_t gets = self->hits_depot + self->hits_held + self->hits_victim + pw_pool_misses(self);
    for (pw_local *local = pw_first_local(self); local != NULL; local = local->next) {
        gets += pw_load_relaxed(&local->hits_private) + pw_load_relaxed(&local->hits_shared) +
                pw_load_relaxed(&local->hits_stolen);
    }
    return gets;
}

size_t
pw_pool_idle(pw_pool *self)
{
    size_t idle = pw_queue_length(&self->depot) + pw_queue_length(&self->victim);
    for (pw_local *local = pw_first_local(self); local != NULL; local = local->next) {
        idle += pw_local_idle(local);
    }
    return idle;
}

typedef struct {
    const char *name;
    uint64_t value;
} Count;

PyObject *
pw_pool_stats(pw_pool *self, PyObject *Py_UNUSED(ignored))
{
    uint64_t private_hits = 0, shared_hits = 0, stolen = 0;
    size_t private = 0, shared = 0;
    for (pw_local *local = pw_first_local(self); local != NULL; local = local->next) {
        private_hits += pw_load_relaxed(&local->hits_private);
        shared_hits += pw_load_relaxed(&local->hits_shared);
        stolen += pw_load_relaxed(&local->hits_stolen);
        private += pw_local_private(local);
        shared += pw_queue_length(&local->shared);
    }
    size_t idle = pw_pool_idle(self);
    int64_t out = self->circulating - (int64_t)(idle + self->held_count);
    uint64_t gets = pw_pool_gets(self);
    const Count counts[] = {
        {"gets", gets},
        {"hits_private", private_hits},
        {"hits_shared", shared_hits},
        {"hits_stolen", stolen},
        {"hits_depot", self->hits_depot},
        {"hits_held", self->hits_held},
        {"hits_victim", self->hits_victim},
        {"misses_empty", self->misses_empty},
        {"misses_held", self->misses_held},
        {"puts", gets - self->abandoned - (uint64_t)out},
        {"high_water", (uint64_t)self->high_water},
        {"idle_private", private},
        {"idle_shared", shared},
        {"idle_depot", pw_queue_length(&self->depot)},
        {"idle_victim", pw_queue_length(&self->victim)},
        {"held", self->held_count},
        {"pinned", self->pinned},
        {"regret", self->regret},
        {"waste", self->waste},
        {"dropped_cleared", self->cleared},
        {"dropped_full", self->full},
        {"dropped_rejected", self->rejected},
        {"dropped_failed", self->failed},
        {"dropped_abandoned", self->abandoned},
        {"dropped_unlucky", self->unlucky},
        {"dropped_pinned", self->pinned_dropped},
    };
    PyObject *pinned_types =
        self->pinned_types == NULL ? PyDict_New() : PyDict_Copy(self->pinned_types);
    PyObject *trims = pw_by_reason(self->trims), *evictions = pw_by_reason(self->evictions);
    PyObject *values = NULL;
    if (pinned_types != NULL && trims != NULL && evictions != NULL) {
        values =
            Py_BuildValue("{s:O,s:O,s:O,s:O}", "name", self->name, "pinned_types", pinned_types,
                          "trims_by_reason", trims, "evictions_by_reason", evictions);
    }
    Py_XDECREF(pinned_types);
    Py_XDECREF(trims);
    Py_XDECREF(evictions);
    for (size_t i = 0; values != NULL && i < sizeof(counts) / sizeof(counts[0]); i++) {
        PyObject *value = PyLong_FromLongLong((long long)counts[i].value);
        if (value == NULL || PyDict_SetItemString(values, counts[i].name, value) < 0) {
            Py_CLEAR(values);
        }
        Py_XDECREF(value);
    }
    return pw_report("poolwise.pools.report", "PoolStats", values);
}

PyObject *
pw_pool_locals(pw_pool *self, PyObject *Py_UNUSED(ignored))
{
    PyObject *list = PyList_New(0);
    for (pw_local *local = pw_first_local(self); list != NULL && local != NULL;
         local = local->next) {
#if PW_ATOMICS
        bool owned = pw_owner_of(&local->owned) != NULL;
#else
        bool owned = true;
#endif
        PyObject *values =
            Py_BuildValue("{s:O,s:n,s:n,s:K,s:K,s:K}", "owned", owned ? Py_True : Py_False,
                          "idle_private", (Py_ssize_t)pw_local_private(local), "idle_shared",
                          (Py_ssize_t)pw_queue_length(&local->shared), "hits_private",
                          (unsigned long long)pw_load_relaxed(&local->hits_private), "hits_shared",
                          (unsigned long long)pw_load_relaxed(&local->hits_shared), "hits_stolen",
                          (unsigned long long)pw_load_relaxed(&local->hits_stolen));
        PyObject *report = pw_report("poolwise.pools.report", "LocalStats", values);
        if (report == NULL || PyList_Append(list, report) < 0) {
            Py_CLEAR(list);
        }
        Py_XDECREF(report);
    }
    return list;
}
