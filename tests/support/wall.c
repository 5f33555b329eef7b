/* The wall clock of the program that this is preloaded into: so many seconds off, and so many times as fast, as a mapped file
 * says. The monotonic clock, and whoever waits, are left alone. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define SECOND INT64_C(1000000000)

static const volatile int64_t *wall; /* off (s), rate, since when (ns) */

__attribute__((constructor)) static void map(void) {
    int file = open(getenv("WALL_CLOCK"), O_RDONLY);
    void *at = mmap(NULL, 3 * sizeof *wall, PROT_READ, MAP_SHARED, file, 0);
    if (at == MAP_FAILED) abort();
    wall = at;
    close(file);
}

int clock_gettime(clockid_t clock, struct timespec *out) {
    int failed = syscall(SYS_clock_gettime, clock, out);
    if (failed || !wall || (clock != CLOCK_REALTIME && clock != CLOCK_REALTIME_COARSE)) return failed;
    int64_t real = out->tv_sec * SECOND + out->tv_nsec;
    int64_t shown = real + wall[0] * SECOND + (real - wall[2]) * (wall[1] - 1);
    out->tv_sec = shown / SECOND;
    out->tv_nsec = shown % SECOND;
    return 0;
}

int gettimeofday(struct timeval *restrict out, void *restrict zone) {
    struct timespec now;
    (void)zone;
    if (clock_gettime(CLOCK_REALTIME, &now)) return -1;
    out->tv_sec = now.tv_sec;
    out->tv_usec = now.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *out) {
    struct timespec now;
    if (clock_gettime(CLOCK_REALTIME, &now)) return -1;
    if (out) *out = now.tv_sec;
    return now.tv_sec;
}
