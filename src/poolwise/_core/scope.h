/* scope.h: what `with poolwise.statistics()` counts. */
#ifndef PW_SCOPE_H
#define PW_SCOPE_H

#include "module.h"

typedef enum {
    PW_SCOPE_HITS,
    PW_SCOPE_MISSES,
    PW_SCOPE_FALLBACKS,
    PW_SCOPE_PUTS,
    PW_SCOPE_COUNTS
} pw_scope_count;

/* How many scopes are open, in any context: hot paths read it, and nothing else of this. */
extern unsigned pw_scopes_open;

/* Counts in the scopes of the calling context, if it has any. */
void pw_scope_add(PyTypeObject *caller, pw_scope_count what);

#endif
