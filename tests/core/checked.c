/* checked.c: sums and products of sizes, beside the same in 128 bits. */
#include "check.h"
#include "checked.h"

static size_t
some_size(void)
{
    static const size_t edges[] = {
        0, 1, 2, UINT32_MAX, SIZE_MAX / 2, SIZE_MAX, SIZE_MAX - 1, (size_t)1 << 32};
    return below(2) ? edges[below(sizeof(edges) / sizeof(edges[0]))]
                    : (size_t)next_random() >> below(64);
}

static void
run(void)
{
    for (at.step = 0; at.step < 100000; at.step++) {
        size_t a = some_size(), b = some_size(), result;
        unsigned __int128 sum = (unsigned __int128)a + b, product = (unsigned __int128)a * b;
        CHECK(pw_add_size(a, b, &result) == (sum <= SIZE_MAX));
        CHECK(result == (size_t)sum);
        CHECK(pw_mul_size(a, b, &result) == (product <= SIZE_MAX));
        CHECK(result == (size_t)product);
    }
}

int
main(int argc, char **argv)
{
    return drive(argc, argv, 4, run);
}
