/* compat.h: every difference between CPython versions, so that none reaches the logic. */
#ifndef PW_COMPAT_H
#define PW_COMPAT_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#if PY_VERSION_HEX < 0x030b0000
#error "poolwise needs CPython 3.11 or newer"
#endif

#ifndef Py_MOD_GIL_NOT_USED
#define PW_MOD_GIL_SLOT
#else
#define PW_MOD_GIL_SLOT {Py_mod_gil, Py_MOD_GIL_NOT_USED},
#endif

#ifdef Py_mod_multiple_interpreters
#define PW_MOD_INTERPRETERS_SLOT                                                                   \
    {Py_mod_multiple_interpreters, Py_MOD_MULTIPLE_INTERPRETERS_SUPPORTED},
#else
#define PW_MOD_INTERPRETERS_SLOT
#endif

#if PY_VERSION_HEX < 0x030d0000
#define Py_BEGIN_CRITICAL_SECTION(op) {
#define Py_END_CRITICAL_SECTION() }
#define Py_BEGIN_CRITICAL_SECTION2(a, b) {
#define Py_END_CRITICAL_SECTION2() }
#define PW_IS_FINALIZING() _Py_IsFinalizing()
#else
#define PW_IS_FINALIZING() Py_IsFinalizing()
#endif

/* The value of an exact int below 2^30, without a call; -1 for all else. */
static inline Py_ssize_t
pw_small_int(PyObject *number)
{
#if PY_VERSION_HEX < 0x030c0000
    if (PyLong_CheckExact(number) && Py_SIZE(number) == 1) {
        return (Py_ssize_t)((PyLongObject *)number)->ob_digit[0];
    }
#else
    if (PyLong_CheckExact(number) && PyUnstable_Long_IsCompact((PyLongObject *)number)) {
        return PyUnstable_Long_CompactValue((PyLongObject *)number);
    }
#endif
    return -1;
}

/* Whether weak references to the object exist. From 3.12 the offset of an ordinary class is
 * negative: its list stands before the object. */
static inline int
pw_has_weakrefs(PyObject *object)
{
    Py_ssize_t at = Py_TYPE(object)->tp_weaklistoffset;
    return at != 0 && *(PyObject **)((char *)object + at) != NULL;
}

/* Whether one reference to the object is all there is, and that is the caller's own.
 *
 * Without the GIL the count is the sum of a word that the object's thread writes and one for all
 * others. Read at once they are right; between two looks a reference could pass from one to the
 * other, so both are read twice: to be wrong, two threads would have to pass a reference there and
 * back twice in step with our four loads. PyUnstable_Object_IsUniquelyReferenced (3.14) would
 * refuse each object that another thread made. */
static inline int
pw_has_one_reference(PyObject *object)
{
#ifdef Py_GIL_DISABLED
    for (int look = 0; look < 2; look++) {
        Py_ssize_t local = __atomic_load_n(&object->ob_ref_local, __ATOMIC_ACQUIRE);
        Py_ssize_t others = __atomic_load_n(&object->ob_ref_shared, __ATOMIC_ACQUIRE);
        if (local + Py_ARITHMETIC_RIGHT_SHIFT(Py_ssize_t, others, _Py_REF_SHARED_SHIFT) != 1) {
            return 0;
        }
    }
    return 1;
#else
    return Py_REFCNT(object) == 1;
#endif
}

/* Gives a dead object, which nobody can know, to the caller: it has the one reference. */
static inline void
pw_revive(PyObject *object)
{
#ifdef Py_GIL_DISABLED
    object->ob_tid = _Py_ThreadId(); /* that of its last life would make each count atomic */
    object->ob_ref_local = 1;
    object->ob_ref_shared = 0;
#else
    Py_SET_REFCNT(object, 1);
#endif
}

/* Spares threads the shared reference count of an object that all of them use. */
static inline void
pw_share_between_threads(PyObject *object)
{
#if defined(Py_GIL_DISABLED) && PY_VERSION_HEX >= 0x030e0000
    PyUnstable_Object_EnableDeferredRefcount(object);
#else
    (void)object;
#endif
}

/* Bytes between the start of an object's block and the object. */
static inline size_t
pw_object_prefix_bytes(PyTypeObject *type)
{
#if PY_VERSION_HEX >= 0x030c0000
    unsigned long preheader = Py_TPFLAGS_MANAGED_DICT | Py_TPFLAGS_MANAGED_WEAKREF;
#else
    unsigned long preheader = Py_TPFLAGS_MANAGED_DICT;
#endif
    return ((type->tp_flags & Py_TPFLAGS_HAVE_GC) ? 2 * sizeof(void *) : 0) +
           ((type->tp_flags & preheader) ? 2 * sizeof(void *) : 0);
}

/* Does this thread hold the GIL (is its thread state attached)? */
static inline int
pw_attached(void)
{
#if PY_VERSION_HEX >= 0x030d0000
    return PyThreadState_GetUnchecked() != NULL;
#elif PY_VERSION_HEX >= 0x030c0000
    return _PyThreadState_UncheckedGet() != NULL;
#else
    PyThreadState *current = _PyThreadState_UncheckedGet();
    return current != NULL && current == PyGILState_GetThisThreadState();
#endif
}

/* This thread's state: the attached one, else the thread's first. They differ in a sub-interpreter;
 * on 3.11, where one word holds the attached state of all threads, its stacks are its caller's. */
static inline PyThreadState *
pw_own_thread_state(void)
{
    PyThreadState *attached = NULL;
#if PY_VERSION_HEX >= 0x030d0000
    attached = PyThreadState_GetUnchecked();
#elif PY_VERSION_HEX >= 0x030c0000
    attached = _PyThreadState_UncheckedGet();
#endif
    return attached != NULL ? attached : PyGILState_GetThisThreadState();
}

/* Whether there is a hook that is told of each object's creation, free lists included. */
#if PY_VERSION_HEX >= 0x030d0000
#define PW_HAS_REFERENCE_TRACER 1
#else
#define PW_HAS_REFERENCE_TRACER 0
#endif

/* From 3.13 on the interpreter calls simple Python classes without their metaclass's tp_call,
 * unless they have an allocator of their own. This one does what theirs did. */
#if PY_VERSION_HEX >= 0x030d0000
static inline PyObject *
pw_plain_alloc(PyTypeObject *type, Py_ssize_t items)
{
    return PyType_GenericAlloc(type, items);
}

static inline void
pw_keep_unspecialized(PyTypeObject *type)
{
    if ((type->tp_flags & Py_TPFLAGS_HEAPTYPE) && type->tp_alloc == PyType_GenericAlloc) {
        type->tp_alloc = pw_plain_alloc;
    }
}
#else
static inline void
pw_keep_unspecialized(PyTypeObject *Py_UNUSED(type))
{
}
#endif

#endif
