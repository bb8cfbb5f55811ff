/* A clock that is wrong by COMITY_TEST_CLOCK_OFF_S seconds, for a process that loads this before the C library (LD_PRELOAD). */
#define _GNU_SOURCE
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

int clock_gettime(clockid_t clock, struct timespec *at) {
    int done = (int)syscall(SYS_clock_gettime, clock, at);
    const char *off = getenv("COMITY_TEST_CLOCK_OFF_S");
    if (done == 0 && clock == CLOCK_REALTIME && off != NULL) {
        at->tv_sec += atol(off);
    }
    return done;
}
