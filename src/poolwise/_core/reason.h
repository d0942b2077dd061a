/* reason.h: who called for a trim. */
#ifndef PW_REASON_H
#define PW_REASON_H

#include "upcall.h"

typedef enum { PW_BY_CALL, PW_BY_TIMER, PW_BY_COLLECTION, PW_BY_PRESSURE, PW_REASONS } pw_reason;

static const char *const pw_reason_names[PW_REASONS] = {"call", "timer", "collection", "pressure"};

/* The one argument of trim(), if it has any; 0, or -1 with an exception set. */
static inline int
pw_reason_argument(PyObject *const *args, Py_ssize_t count, pw_reason *reason)
{
    *reason = PW_BY_CALL;
    if (count == 0) {
        return 0;
    }
    for (int i = 0; i < PW_REASONS && count == 1 && PyUnicode_Check(args[0]); i++) {
        if (PyUnicode_CompareWithASCIIString(args[0], pw_reason_names[i]) == 0) {
            *reason = (pw_reason)i;
            return 0;
        }
    }
    pw_raise("UsageError",
             "trim(%R): no such reason: give 'call', 'timer', 'collection' or 'pressure', or "
             "nothing",
             args[0]);
    return -1;
}

/* A dict of each reason's count; NULL with an exception set. */
static inline PyObject *
pw_by_reason(const uint64_t counts[PW_REASONS])
{
    return Py_BuildValue("{s:K,s:K,s:K,s:K}", "call", (unsigned long long)counts[PW_BY_CALL],
                         "timer", (unsigned long long)counts[PW_BY_TIMER], "collection",
                         (unsigned long long)counts[PW_BY_COLLECTION], "pressure",
                         (unsigned long long)counts[PW_BY_PRESSURE]);
}

#endif
