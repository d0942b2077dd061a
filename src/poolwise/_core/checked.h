/* checked.h: size arithmetic that cannot wrap. */
#ifndef PW_CHECKED_H
#define PW_CHECKED_H

#include <stdbool.h>
#include <stddef.h>

#define PW_LIKELY(x) __builtin_expect(!!(x), 1)
#define PW_UNLIKELY(x) __builtin_expect(!!(x), 0)

/* Each stores the result and says whether it fits. */
static inline bool
pw_add_size(size_t a, size_t b, size_t *sum)
{
    return !__builtin_add_overflow(a, b, sum);
}

static inline bool
pw_mul_size(size_t a, size_t b, size_t *product)
{
    return !__builtin_mul_overflow(a, b, product);
}

#endif
