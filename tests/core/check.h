/* check.h: what the drivers share: a random stream, and a check that says where it failed.
 *
 * A driver is `int main(int argc, char **argv) { return drive(argc, argv, SEEDS, run); }`: it runs
 * the seeds 1 to SEEDS, or the one given on its command line. */
#ifndef CHECK_H
#define CHECK_H

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    uint64_t seed, step, stream;
} progress;

static progress at;

#define CHECK(condition)                                                                           \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            printf("%s:%d: not so: %s\n  step %llu; again: the driver with %llu\n", __FILE__,      \
                   __LINE__, #condition, (unsigned long long)at.step,                              \
                   (unsigned long long)at.seed);                                                   \
            exit(1);                                                                               \
        }                                                                                          \
    } while (0)

/* SplitMix64: not the stream under test. */
static inline uint64_t
next_random(void)
{
    uint64_t z = (at.stream += UINT64_C(0x9e3779b97f4a7c15));
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

static inline size_t
below(size_t bound)
{
    return (size_t)(next_random() % bound);
}

static inline int
drive(int argc, char **argv, uint64_t seeds, void (*run)(void))
{
    uint64_t first = argc > 1 ? strtoull(argv[1], NULL, 10) : 1;
    uint64_t last = argc > 1 ? first : seeds;
    for (uint64_t seed = first; seed <= last; seed++) {
        at = (progress){.seed = seed, .stream = seed};
        run();
    }
    return 0;
}

#endif
