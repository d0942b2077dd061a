/* rng.c: the exponential stream against its distribution; every bound is five sigma wide. */
#include "check.h"
#include "rng.h"

enum { DRAWS = 1000000 };

static void
run(void)
{
    static const double tails[] = {0.1, 1, 3, 6, 9};
    enum { TAILS = sizeof(tails) / sizeof(tails[0]) };
    const double mean = 512 * 1024;
    uint64_t state = pw_rng_seed(at.seed), beyond[TAILS] = {0};
    double sum = 0, products = 0, last = 1;
    for (at.step = 0; at.step < DRAWS; at.step++) {
        double x = pw_rng_exponential(&state, mean) / mean;
        CHECK(x >= 0 && x < 40); /* -log(2^-53) is 36.7 */
        sum += x;
        products += (x - 1) * (last - 1);
        last = x;
        for (int i = 0; i < TAILS; i++) {
            beyond[i] += x > tails[i];
        }
    }
    CHECK(fabs(sum / DRAWS - 1) < 5 / sqrt(DRAWS));
    CHECK(fabs(products / DRAWS) < 5 / sqrt(DRAWS)); /* neighbours do not correlate */
    for (int i = 0; i < TAILS; i++) {
        double p = exp(-tails[i]);
        CHECK(fabs((double)beyond[i] / DRAWS - p) < 5 * sqrt(p * (1 - p) / DRAWS));
    }
    for (at.step = 0; at.step < DRAWS; at.step++) {
        double unit = pw_rng_unit(&state);
        CHECK(unit > 0 && unit <= 1);
    }
}

int
main(int argc, char **argv)
{
    CHECK(pw_rng_seed(0) == UINT64_C(0xe220a8397b1dcdaf));  /* SplitMix64's first from seed 0 */
    CHECK(pw_rng_seed(-UINT64_C(0x9e3779b97f4a7c15)) == 1); /* the one seed that mixes to 0 */
    return drive(argc, argv, 2, run);
}
