/* atomics.h: memory that threads share. With the GIL these are plain loads and stores.
 *
 * A driver that compiles a structure alone says PW_ATOMICS=1 itself. */
#ifndef PW_ATOMICS_H
#define PW_ATOMICS_H

#ifndef PW_ATOMICS
#ifdef Py_GIL_DISABLED
#define PW_ATOMICS 1
#else
#define PW_ATOMICS 0
#endif
#endif

#if !PW_ATOMICS
#define PW_OWN_LINES
#define pw_load_relaxed(at) (*(at))
#define pw_load_acquire(at) (*(at))
#define pw_load_ordered(at) (*(at))
#define pw_store_relaxed(at, value) ((void)(*(at) = (value)))
#define pw_store_release(at, value) ((void)(*(at) = (value)))
#define pw_store_ordered(at, value) ((void)(*(at) = (value)))
#define pw_replace(at, was, value) (*(at) == (was) ? (*(at) = (value), true) : false)
#define pw_add_atomically(at, value) ((void)(*(at) += (value)))
#elif !defined(PW_STEPPED) /* a driver that runs every interleaving brings its own */
/* Two lines: the processor fetches them in pairs. */
#define PW_OWN_LINES __attribute__((aligned(128)))
#define pw_load_relaxed(at) __atomic_load_n(at, __ATOMIC_RELAXED)
#define pw_load_acquire(at) __atomic_load_n(at, __ATOMIC_ACQUIRE)
#define pw_load_ordered(at) __atomic_load_n(at, __ATOMIC_SEQ_CST)
#define pw_store_relaxed(at, value) __atomic_store_n(at, value, __ATOMIC_RELAXED)
#define pw_store_release(at, value) __atomic_store_n(at, value, __ATOMIC_RELEASE)
#define pw_store_ordered(at, value) __atomic_store_n(at, value, __ATOMIC_SEQ_CST)
#define pw_replace(at, was, value)                                                                 \
    __extension__({                                                                                \
        __typeof__(*(at)) pw_was = (was);                                                          \
        __atomic_compare_exchange_n(at, &pw_was, value, false, __ATOMIC_SEQ_CST,                   \
                                    __ATOMIC_RELAXED);                                             \
    })
#define pw_add_atomically(at, value) ((void)__atomic_fetch_add(at, value, __ATOMIC_RELAXED))
#endif

#endif
