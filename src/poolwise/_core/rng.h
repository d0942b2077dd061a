/* rng.h: a small random stream per thread, and exponential gaps from it.
 * xorshift64* (Vigna, "An experimental exploration of Marsaglia's xorshift generators", 2016). */
#ifndef PW_RNG_H
#define PW_RNG_H

#include <math.h>
#include <stdint.h>

static inline uint64_t
pw_rng_next(uint64_t *state)
{
    uint64_t x = *state;
    x ^= x >> 12;
    x ^= x << 25;
    x ^= x >> 27;
    *state = x;
    return x * UINT64_C(2685821657736338717);
}

/* Spreads a small seed over all bits; never 0, which would be the stream's fixed point. */
static inline uint64_t
pw_rng_seed(uint64_t seed)
{
    uint64_t z = seed + UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    z ^= z >> 31;
    return z ? z : 1;
}

/* Uniform on (0, 1]. */
static inline double
pw_rng_unit(uint64_t *state)
{
    return (double)((pw_rng_next(state) >> 11) + 1) * 0x1.0p-53;
}

static inline double
pw_rng_exponential(uint64_t *state, double mean)
{
    return -log(pw_rng_unit(state)) * mean;
}

#endif
