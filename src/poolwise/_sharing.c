/* _sharing.c: what sharing costs plain C threads, for `poolwise bench sharing`.
 *
 * Every thread increments a counter; where the counters lie is the layout, in the order of LAYOUTS
 * in bench/sharing.py. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <pthread.h>
#include <stdint.h>
#include <time.h>

#include "_core/local.h"

enum { THREADS_MAX = 64, PAIR_OF_LINES = 128 };
enum { OWN, PADDED, SUMMED, LINE, ATOMIC, LAYOUTS };

#if PW_ATOMICS
_Static_assert(sizeof(pw_local) % PAIR_OF_LINES == 0, "a pool's locals share no lines");
#endif

typedef struct {
    volatile uint64_t value __attribute__((aligned(PAIR_OF_LINES)));
} padded;

typedef struct {
    int layout;
    uint64_t increments;
    volatile uint64_t *counter; /* NULL: the thread's own */
    double seconds;             /* of its CPU time */
} task;

static padded apart[THREADS_MAX];
static volatile uint64_t together[THREADS_MAX] __attribute__((aligned(PAIR_OF_LINES)));
static uint64_t atomic_counter __attribute__((aligned(PAIR_OF_LINES)));
static int counting __attribute__((aligned(PAIR_OF_LINES)));

static double
thread_seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

static void *
work(void *argument)
{
    task *self = argument;
    volatile uint64_t own = 0;
    volatile uint64_t *counter = self->counter == NULL ? &own : self->counter;
    double start = thread_seconds();
    if (self->layout == ATOMIC) {
        for (uint64_t i = 0; i < self->increments; i++) {
            __atomic_fetch_add(&atomic_counter, 1, __ATOMIC_RELAXED);
        }
    } else {
        for (uint64_t i = 0; i < self->increments; i++) {
            *counter += 1;
        }
    }
    self->seconds = thread_seconds() - start;
    return NULL;
}

/* As stats() reads: all counters, again and again. */
static void *
sum_all(void *argument)
{
    volatile uint64_t *sum = argument;
    while (__atomic_load_n(&counting, __ATOMIC_ACQUIRE)) {
        uint64_t all = 0;
        for (int i = 0; i < THREADS_MAX; i++) {
            all += apart[i].value;
        }
        *sum = all;
        struct timespec pause = {.tv_nsec = 100000};
        nanosleep(&pause, NULL);
    }
    return NULL;
}

/* Seconds of CPU time of all threads together; -1: a thread could not start. */
static double
run(int layout, int threads, uint64_t increments)
{
    pthread_t ids[THREADS_MAX], reader;
    task tasks[THREADS_MAX];
    volatile uint64_t sum = 0;
    int started = 0;
    __atomic_store_n(&counting, 1, __ATOMIC_RELEASE);
    bool reading = layout == SUMMED && pthread_create(&reader, NULL, sum_all, (void *)&sum) == 0;
    for (; started < threads; started++) {
        tasks[started] = (task){
            .layout = layout,
            .increments = increments,
            .counter = layout == LINE                         ? &together[started]
                       : layout == PADDED || layout == SUMMED ? &apart[started].value
                                                              : NULL,
        };
        if (pthread_create(&ids[started], NULL, work, &tasks[started]) != 0) {
            break;
        }
    }
    double seconds = 0.0;
    for (int i = 0; i < started; i++) {
        pthread_join(ids[i], NULL);
        seconds += tasks[i].seconds;
    }
    __atomic_store_n(&counting, 0, __ATOMIC_RELEASE);
    if (reading) {
        pthread_join(reader, NULL);
    }
    return started == threads && reading == (layout == SUMMED) ? seconds : -1.0;
}

static PyObject *
count(PyObject *Py_UNUSED(module), PyObject *args)
{
    int layout, threads;
    unsigned long long increments;
    if (!PyArg_ParseTuple(args, "iiK:count", &layout, &threads, &increments)) {
        return NULL;
    }
    if (layout < 0 || layout >= LAYOUTS || threads < 1 || threads > THREADS_MAX ||
        increments == 0) {
        PyErr_Format(PyExc_ValueError,
                     "count(%d, %d, %llu): give a layout below %d, 1 to %d threads and at least "
                     "one increment",
                     layout, threads, increments, LAYOUTS, THREADS_MAX);
        return NULL;
    }
    double seconds;
    Py_BEGIN_ALLOW_THREADS;
    seconds = run(layout, threads, increments);
    Py_END_ALLOW_THREADS;
    if (seconds < 0.0) {
        PyErr_SetString(PyExc_RuntimeError, "the system has no more threads");
        return NULL;
    }
    return PyFloat_FromDouble(1e9 * seconds / ((double)increments * threads));
}

static PyMethodDef methods[] = {
    {"count", count, METH_VARARGS,
     "count(layout, threads, increments, /)\n--\n\nNanoseconds of CPU time an increment."},
    {NULL, NULL, 0, NULL},
};

static int
module_exec(PyObject *module)
{
    return PyModule_AddIntConstant(module, "LINE_BYTES", PAIR_OF_LINES) < 0
               ? -1
               : PyModule_AddIntConstant(module, "LOCAL_BYTES", sizeof(pw_local));
}

static PyModuleDef_Slot slots[] = {
    {Py_mod_exec, module_exec},
#ifdef Py_mod_gil
    {Py_mod_gil, Py_MOD_GIL_NOT_USED},
#endif
    {0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "poolwise._sharing",
    .m_doc = "Counters of plain C threads, for `poolwise bench sharing`. Internal.",
    .m_methods = methods,
    .m_slots = slots,
};

PyMODINIT_FUNC
PyInit__sharing(void)
{
    return PyModuleDef_Init(&definition);
}
