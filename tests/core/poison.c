/* poison.c: the first changed byte, wherever it is. */
#include "check.h"
#include "poison.h"

static void
run(void)
{
    static char bytes[3000];
    for (at.step = 0; at.step < 20000; at.step++) {
        size_t size = below(sizeof(bytes));
        unsigned char pattern = below(2) ? PW_POISON : 0;
        memset(bytes, pattern, size);
        CHECK(pw_first_changed(bytes, size, pattern) == size);
        if (size > 0) {
            size_t first = below(size), later = first + below(size - first);
            bytes[later] = (char)(pattern + 1 + below(255));
            bytes[first] = (char)(pattern + 1 + below(255));
            CHECK(pw_first_changed(bytes, size, pattern) == first);
        }
    }
}

int
main(int argc, char **argv)
{
    return drive(argc, argv, 2, run);
}
