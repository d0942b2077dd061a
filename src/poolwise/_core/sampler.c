/* sampler.c: the sampler's start and end, in this process and in the child of a fork, and what of
 * it Python sees. */
#include "sampler_state.h"

#include "module.h"
#include "pystack.h"

#include <malloc.h>
#include <pthread.h>
#include <sys/resource.h>

struct pw_sampler pw_sampler = {.lock = ATOMIC_FLAG_INIT, .log = {.fd = -1}};
_Atomic uint8_t pw_filter[1u << PW_FILTER_BITS];

static void
write_summary(uint64_t now_ns)
{
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    pw_sampler.totals.now_ns = now_ns;
    pw_sampler.totals.user_ns = (uint64_t)usage.ru_utime.tv_sec * UINT64_C(1000000000) +
                                (uint64_t)usage.ru_utime.tv_usec * 1000;
    pw_sampler.totals.system_ns = (uint64_t)usage.ru_stime.tv_sec * UINT64_C(1000000000) +
                                  (uint64_t)usage.ru_stime.tv_usec * 1000;
    pw_sampler.totals.minor_faults = (uint64_t)usage.ru_minflt;
    pw_sampler.totals.major_faults = (uint64_t)usage.ru_majflt;
    pw_sampler.totals.peak_rss_bytes = (uint64_t)usage.ru_maxrss * 1024;
    pw_sampler.totals.rate = pw_sampler.rate;
    pw_log_chunk(&pw_sampler.log, PW_CHUNK_SUMMARY, &pw_sampler.totals, sizeof(pw_sampler.totals));
}

void
pw_write_samples(uint64_t now_ns)
{
    pw_log_flush(&pw_sampler.log);
    write_summary(now_ns);
    pw_sampler.flushed_ns = now_ns;
    pw_sampler.summarised_bytes = pw_sampler.log.written_bytes;
    if (pw_sampler.log.error) {
        atomic_store(&pw_sampler.sampling, 0);
    }
}

void
pw_flush(void)
{
    if (atomic_load(&pw_sampler.sampling) &&
        getpid() == pw_sampler.process) { /* not in the child of a vfork */
        pw_sampler_lock();
        pw_write_samples(pw_clock_ns());
        pw_sampler_unlock();
    }
}

/* The child of a fork shares the log's descriptor: it stops recording, first thing. No Python. */
static void
after_fork_in_child(void)
{
    atomic_store(&pw_sampler.sampling, 0);
    pw_sampler_unlock();
    pw_log_close(&pw_sampler.log);
}

static void
after_fork_in_parent(void)
{
    pw_sampler.totals.forks++;
}

static PyObject *
sampler_start(PyObject *Py_UNUSED(module), PyObject *args)
{
    static bool prepared;
    int fd, want_exact;
    double mean_bytes, per_second;
    if (!PyArg_ParseTuple(args, "iddp:sampler_start", &fd, &mean_bytes, &per_second, &want_exact)) {
        return NULL;
    }
    if (pw_sampler.log.fd >= 0) {
        PyErr_SetString(PyExc_RuntimeError, "the sampler is already running");
        return NULL;
    }
    struct rusage before, after;
    getrusage(RUSAGE_SELF, &before);
    if (pw_sampler.types == NULL) {
        pw_sampler.types = pw_map_populated(sizeof(*pw_sampler.types));
    }
    if (pw_sampler.types == NULL || pw_table_init(&pw_sampler.table) < 0 ||
        pw_stack_table_init(&pw_sampler.stacks) < 0 || pw_log_open(&pw_sampler.log, fd) < 0) {
        return PyErr_NoMemory();
    }
    if (!prepared) {
        pthread_atfork(NULL, after_fork_in_parent, after_fork_in_child);
        prepared = true;
    }
    /* A second recording in one process numbers everything anew. */
    memset(pw_sampler.table.slots, 0, PW_TABLE_SLOTS * sizeof(*pw_sampler.table.slots));
    memset((void *)pw_filter, 0, sizeof(pw_filter));
    pw_sampler.table.used = 0;
    memset(pw_sampler.stacks.nodes, 0, PW_NODE_SLOTS * sizeof(*pw_sampler.stacks.nodes));
    memset(pw_sampler.stacks.stacks, 0, PW_NODE_SLOTS * sizeof(*pw_sampler.stacks.stacks));
    memset(pw_sampler.stacks.codes, 0, PW_NODE_SLOTS * sizeof(*pw_sampler.stacks.codes));
    pw_sampler.stacks.node_count = pw_sampler.stacks.stack_count = pw_sampler.stacks.code_count = 0;
    memset(pw_sampler.types, 0, sizeof(*pw_sampler.types));
    memset(&pw_sampler.totals, 0, sizeof(pw_sampler.totals));
    pw_sampler.rate = pw_sampler.least_rate = mean_bytes;
    pw_sampler.call_factor = 1;
    pw_sampler.ceiling_per_second = per_second;
    pw_sampler.exact = want_exact;
    pw_sampler.process = getpid();
    pw_sampler.summarised_bytes = pw_sampler.log.written_bytes;
    pw_sampler.thread_count = pw_sampler.collections = 0;
    pw_sampler.collecting = false;
    pw_sampler.window_samples = pw_sampler.window_calls = 0;
    pw_sampler.totals.start_ns = pw_sampler.window_start_ns = pw_sampler.flushed_ns = pw_clock_ns();
    getrusage(RUSAGE_SELF, &after);
    pw_sampler.totals.own_faults = (uint64_t)(after.ru_minflt - before.ru_minflt);
    if (!pw_allocators_hooked()) { /* from an earlier recording it may be, below another's hook */
        pw_hook_allocators();
    }
    atomic_store(&pw_sampler.sampling, 1);
    pw_self.rate = 0;
    pw_self.left = 0;
    Py_RETURN_NONE;
}

static PyObject *
sampler_stop(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored))
{
    if (pw_sampler.log.fd < 0) { /* none was started, it has ended, or it is the parent's */
        Py_RETURN_FALSE;
    }
    uint64_t now_ns = pw_clock_ns();
    pw_check_hooks(now_ns);
    pw_sampler_lock();
    atomic_store(&pw_sampler.sampling, 0);
    if (pw_self.rate != 0) {
        pw_publish_volume();
    }
    pw_end_samples(now_ns, PW_ALIVE);
#ifdef __GLIBC__
    struct mallinfo2 info = mallinfo2();
    pw_sampler.totals.heap_bytes = info.arena;
    pw_sampler.totals.heap_free_bytes = info.fordblks;
    pw_sampler.totals.heap_mapped_bytes = info.hblkhd;
#endif
    pw_sampler.totals.finished = 1;
    pw_write_samples(now_ns);
    int error = pw_sampler.log.error;
    pw_log_close(&pw_sampler.log);
    pw_sampler_unlock();
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
        if (atomic_load_explicit(&pw_sampler.sampling, memory_order_relaxed)) {
            pw_check_hooks(pw_clock_ns());
        }
        pw_sampler.collection_start_ns = pw_cpu_clock_ns();
        pw_sampler.collecting = true;
        Py_RETURN_NONE;
    }
    pw_sampler.collecting = false;
    PyObject *generation = PyDict_GetItemString(args[1], "generation");
    PyObject *collected = PyDict_GetItemString(args[1], "collected");
    if (generation != NULL && collected != NULL) {
        long index = PyLong_AsLong(generation);
        long found = PyLong_AsLong(collected);
        if (PyErr_Occurred()) {
            return NULL;
        }
        pw_sampler_lock();
        if (index >= 0 && index < 3 && pw_sampler.collection_start_ns != 0) {
            pw_sampler.totals.collections[index]++;
            pw_sampler.totals.collection_ns[index] +=
                pw_cpu_clock_ns() - pw_sampler.collection_start_ns;
            pw_sampler.totals.collected[index] += (uint64_t)found;
            pw_sampler.collections++;
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
    bool sound = pw_sampler.table.slots == NULL || pw_table_check(&pw_sampler.table);
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
sampler_hook_libraries(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored))
{
    /* Reading the libraries' tables faults them in: ours, not the program's. */
    struct rusage before, after;
    getrusage(RUSAGE_SELF, &before);
    pw_hook_libraries();
    getrusage(RUSAGE_SELF, &after);
    pw_sampler.totals.own_faults += (uint64_t)(after.ru_minflt - before.ru_minflt);
    Py_RETURN_NONE;
}

static PyMethodDef sampler_methods[] = {
    {"sampler_start", sampler_start, METH_VARARGS,
     "sampler_start(fd, mean_bytes, per_second, exact, /)\n--\n\n"
     "Sample allocations into the log at fd (a copy of it is kept), on average one every\n"
     "mean_bytes, at most about per_second a second; every one if exact."},
    {"sampler_stop", sampler_stop, METH_NOARGS,
     "sampler_stop()\n--\n\nRecord what is still alive, and end the log. False if none is open."},
    {"sampler_collection", (PyCFunction)(void (*)(void))sampler_collection, METH_FASTCALL,
     "sampler_collection(phase, info, /)\n--\n\nAn entry for gc.callbacks."},
    {"sampler_stack", sampler_stack, METH_NOARGS,
     "sampler_stack()\n--\n\nThis thread's stack by raw reads: (code, lasti), innermost first."},
    {"sampler_check", sampler_check, METH_NOARGS,
     "sampler_check()\n--\n\nWhether the table of live samples is sound."},
    {"sampler_hook_constructions", sampler_hook_constructions, METH_O,
     "sampler_hook_constructions(metaclasses, /)\n--\n\nTime a sample of all class calls."},
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
