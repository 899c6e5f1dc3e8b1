#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>
/* The clock of the wall jumps by a day ahead, and later by two back, for who is started with this library. */
static long jump(void) {
    const char *flag = getenv("NAS_TEST_CLOCK");
    static int state; static long calls;
    if (flag && (state < 2) && (calls++ % 64 == 0)) {
        char back[4096]; int n = 0; const char *p = flag;
        while (*p && n < 4090) back[n++] = *p++;
        back[n++] = '2'; back[n] = 0;
        if (access(back, F_OK) == 0) state = 2; else if (access(flag, F_OK) == 0) state = 1;
    }
    return state == 0 ? 0 : state == 1 ? 86400 : -86400;
}
int clock_gettime(clockid_t id, struct timespec *t) {
    static int (*real)(clockid_t, struct timespec *);
    if (!real) real = dlsym(RTLD_NEXT, "clock_gettime");
    int code = real(id, t);
    if (id == CLOCK_REALTIME) t->tv_sec += jump();
    return code;
}
int gettimeofday(struct timeval *restrict t, void *restrict zone) {
    static int (*real)(struct timeval *, void *);
    if (!real) real = dlsym(RTLD_NEXT, "gettimeofday");
    int code = real(t, zone);
    t->tv_sec += jump();
    return code;
}
