# Reads LeakSanitizer's reports and prints those that are ours; exit status 1 if there are any.
#
# The interpreter itself leaks at exit (3.12, 3.13), and the sampler's hooks stand in the stack of
# everything it allocates: a leak is ours if a function of the core that is no such hook does.
BEGIN { RS = ""; FS = "\n" }
/ERROR: AddressSanitizer|runtime error:/ { print; ours++ }
/leak of/ {
    for (i = 1; i <= NF; i++)
        if ($i ~ /poolwise\/_core[.\/]/ &&
            $i !~ / in ((object|memory|raw)_(malloc|calloc|realloc)|hook_[a-z_]+|moved_block) /) {
            print
            ours++
            break
        }
}
END {
    print "leaks and errors of our own: " ours + 0
    exit ours > 0
}
