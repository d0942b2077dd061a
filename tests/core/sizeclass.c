/* sizeclass.c: the classes of all sizes up to 1 MiB, and of random ones up to the largest. */
#include "check.h"
#include "sizeclass.h"

static void
check_size(size_t size)
{
    size_t index = pw_class_index(size - 1);
    size_t capacity = pw_class_capacity(index);
    size_t granule = size <= PW_PAGE_BYTES ? PW_LINE_BYTES : PW_PAGE_BYTES;
    CHECK(capacity >= size);
    CHECK(capacity % granule == 0);
    CHECK(capacity - size < size / 5 + granule); /* the waste */
    CHECK(pw_class_index(capacity - 1) == index);
    CHECK(pw_class_index(capacity) > index); /* the next size needs more */
}

static void
run(void)
{
    const size_t largest = (size_t)1 << PW_SIZE_MAX_LOG2;
    size_t index = 0;
    for (at.step = 1; at.step <= 1 << 20; at.step++) {
        check_size(at.step);
        CHECK(pw_class_index(at.step - 1) >= index);
        index = pw_class_index(at.step - 1);
    }
    for (int k = 20; k < PW_SIZE_MAX_LOG2; k++) { /* a header beside a payload of 2^k */
        size_t power = (size_t)1 << k;
        CHECK(pw_class_capacity(pw_class_index(power + 100)) == power + power / 16);
        CHECK(pw_class_capacity(pw_class_index(power - 1)) == power);
    }
    for (at.step = 0; at.step < 100000; at.step++) {
        size_t size = ((size_t)next_random() >> (64 - PW_SIZE_MAX_LOG2) >> below(40)) + 1;
        size_t other = size + below(size);
        check_size(size);
        if (other <= largest) {
            CHECK(pw_class_index(other - 1) >= pw_class_index(size - 1));
        }
    }
    CHECK(pw_class_capacity(pw_class_index(largest - 1)) == largest);
}

int
main(int argc, char **argv)
{
    return drive(argc, argv, 2, run);
}
