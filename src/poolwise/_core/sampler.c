/* sampler.c: what Python sees of the sampler. */
#include "sampler_state.h"

#include "module.h"
#include "pystack.h"

#include <sys/resource.h>

/* Whether this process records, or will with its first sample. */
static bool
is_recording(void)
{
    return pw_sampler->open || pw_is_unrecorded_child();
}

static PyObject *
sampler_start(PyObject *Py_UNUSED(module), PyObject *args)
{
    pw_recording_plan plan = {.process = getpid()};
    PyObject *directory;
    if (!PyArg_ParseTuple(args, "O&ddppp:sampler_start", PyUnicode_FSConverter, &directory,
                          &plan.mean_bytes, &plan.per_second, &plan.exact, &plan.children,
                          &plan.is_child)) {
        return NULL;
    }
    int length = snprintf(plan.directory, PATH_MAX, "%s", PyBytes_AS_STRING(directory));
    Py_DECREF(directory);
    if (is_recording()) {
        PyErr_SetString(PyExc_RuntimeError, "the sampler is already running");
        return NULL;
    }
    if (length >= PATH_MAX) {
        errno = ENAMETOOLONG;
        return PyErr_SetFromErrnoWithFilename(PyExc_OSError, plan.directory);
    }
    pw_plan = plan;
    memset(&pw_sampler->totals, 0, sizeof(pw_sampler->totals));
    char path[PATH_MAX];
    if (pw_recording_begin(path) < 0) {
        pw_plan.children = 0;
        return PyErr_SetFromErrnoWithFilename(PyExc_OSError, path);
    }
    if (!pw_allocators_hooked()) { /* from an earlier recording they may be, below another's hook */
        pw_hook_allocators();
    }
    pw_self.rate = 0;
    pw_self.left = 0;
    Py_RETURN_NONE;
}

/* For a look at a recording that goes on. */
static PyObject *
sampler_flush(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored))
{
    if (!pw_is_sampling()) { /* none was started, or it has ended or been cut short */
        Py_RETURN_FALSE;
    }
    uint64_t now_ns = pw_clock_ns();
    pw_check_hooks(now_ns);
    pw_sampler_lock();
    pw_record_living(now_ns);
    pw_write_samples(now_ns);
    int error = pw_sampler->log.error;
    pw_sampler->totals.overhead_ns += pw_clock_ns() - now_ns;
    pw_sampler_unlock();
    if (error) {
        errno = error;
        return PyErr_SetFromErrno(PyExc_OSError);
    }
    Py_RETURN_TRUE;
}

/* Gaps are memoryless: a thread that is left out changes nothing about the others. What it frees
 * is seen as before. */
static PyObject *
sampler_leave_thread(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored))
{
    pw_self.left = INT64_MAX / 2;
    pw_self.rate = 0;
    Py_RETURN_NONE;
}

static PyObject *
sampler_stop(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored))
{
    pw_plan.children = 0;
    if (!pw_sampler->open) { /* none was started, it has ended, or it is the parent's */
        Py_RETURN_FALSE;
    }
    if (pw_is_sampling()) {
        pw_check_hooks(pw_clock_ns());
    }
    int error = pw_recording_end();
    pw_objects_stop();
    if (error) {
        errno = error;
        return PyErr_SetFromErrno(PyExc_OSError);
    }
    Py_RETURN_TRUE;
}

/* An entry of gc.callbacks: how often, how long, how much. */
static PyObject *
sampler_collection(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t count)
{
    if (count != 2 || !PyUnicode_Check(args[0]) || !PyDict_Check(args[1])) {
        PyErr_SetString(PyExc_TypeError, "sampler_collection(phase, info) takes a str and a dict");
        return NULL;
    }
    if (PyUnicode_CompareWithASCIIString(args[0], "start") == 0) {
        if (pw_is_sampling()) {
            pw_check_hooks(pw_clock_ns());
        }
        pw_sampler->collection_start_ns = pw_cpu_clock_ns();
        pw_sampler->collecting = true;
        Py_RETURN_NONE;
    }
    pw_sampler->collecting = false;
    PyObject *generation = PyDict_GetItemString(args[1], "generation");
    PyObject *collected = PyDict_GetItemString(args[1], "collected");
    if (generation != NULL && collected != NULL) {
        long index = PyLong_AsLong(generation);
        long found = PyLong_AsLong(collected);
        if (PyErr_Occurred()) {
            return NULL;
        }
        pw_sampler_lock();
        if (index >= 0 && index < 3 && pw_sampler->collection_start_ns != 0) {
            pw_sampler->totals.collections[index]++;
            pw_sampler->totals.collection_ns[index] +=
                pw_cpu_clock_ns() - pw_sampler->collection_start_ns;
            pw_sampler->totals.collected[index] += (uint64_t)found;
            pw_sampler->collections++;
        }
        pw_sampler_unlock();
    }
    Py_RETURN_NONE;
}

static PyObject *
sampler_stack(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored))
{
    pw_frame frames[PW_STACK_MAX];
    int truncated;
    int depth = pw_stack_walk(frames, &truncated);
    PyObject *result = PyList_New(depth);
    for (int i = 0; result != NULL && i < depth; i++) {
        PyObject *item = Py_BuildValue("(OI)", frames[i].code, frames[i].instruction_bytes);
        if (item == NULL) {
            Py_CLEAR(result);
            break;
        }
        PyList_SET_ITEM(result, i, item);
    }
    return result;
}

static PyObject *
sampler_check(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored))
{
    pw_sampler_lock();
    bool sound = pw_sampler->table.slots == NULL || pw_table_check(&pw_sampler->table);
    pw_sampler_unlock();
    return PyBool_FromLong(sound);
}

static PyObject *
sampler_hook_constructions(PyObject *Py_UNUSED(module), PyObject *metaclasses)
{
    if (pw_constructions_install(metaclasses) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyObject *
sampler_count_objects(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored))
{
    if (pw_objects_start() < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyObject *
sampler_hook_libraries(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored))
{
    /* Reading the libraries' tables faults them in: ours, not the program's. */
    struct rusage before, after;
    getrusage(RUSAGE_SELF, &before);
    pw_hook_libraries();
    getrusage(RUSAGE_SELF, &after);
    pw_sampler->totals.own_faults += (uint64_t)(after.ru_minflt - before.ru_minflt);
    Py_RETURN_NONE;
}

static PyMethodDef sampler_methods[] = {
    {"sampler_start", sampler_start, METH_VARARGS,
     "sampler_start(directory, mean_bytes, per_second, exact, children, is_child, /)\n--\n\n"
     "Sample allocations into a log in the directory (an absolute path), on average one every\n"
     "mean_bytes, at most about per_second a second; every one if exact. Children that this "
     "process\n"
     "forks do so, too, if told. The log of a child bears its process's number."},
    {"sampler_stop", sampler_stop, METH_NOARGS,
     "sampler_stop()\n--\n\nRecord what is still alive, and end the log. False if none is open."},
    {"sampler_flush", sampler_flush, METH_NOARGS,
     "sampler_flush()\n--\n\n"
     "Write all that is known so far into the log, and what is alive. False if none is open."},
    {"sampler_leave_thread", sampler_leave_thread, METH_NOARGS,
     "sampler_leave_thread()\n--\n\n"
     "Sample nothing that this thread allocates from now on: it serves the profiler."},
    {"sampler_collection", (PyCFunction)(void (*)(void))sampler_collection, METH_FASTCALL,
     "sampler_collection(phase, info, /)\n--\n\nAn entry for gc.callbacks."},
    {"sampler_stack", sampler_stack, METH_NOARGS,
     "sampler_stack()\n--\n\nThis thread's stack by raw reads: (code, lasti), innermost first."},
    {"sampler_check", sampler_check, METH_NOARGS,
     "sampler_check()\n--\n\nWhether the table of live samples is sound."},
    {"sampler_hook_constructions", sampler_hook_constructions, METH_O,
     "sampler_hook_constructions(metaclasses, /)\n--\n\nTime a sample of all class calls."},
    {"sampler_count_objects", sampler_count_objects, METH_NOARGS,
     "sampler_count_objects()\n--\n\n"
     "Count all creations of objects, and those from free lists, until the recording ends."},
    {"sampler_hook_libraries", sampler_hook_libraries, METH_NOARGS,
     "sampler_hook_libraries()\n--\n\n"
     "See numpy's array buffers, and what other libraries loaded so far malloc."},
    {NULL, NULL, 0, NULL},
};

int
pw_add_sampler(PyObject *module)
{
    return PyModule_AddFunctions(module, sampler_methods);
}
