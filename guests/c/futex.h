/* Raw futex calls; musl has no linux/futex.h in its path. */
#ifndef FTL_FUTEX_H
#define FTL_FUTEX_H
enum {
    FUTEX_WAIT = 0, FUTEX_WAKE = 1, FUTEX_REQUEUE = 3, FUTEX_CMP_REQUEUE = 4, FUTEX_WAKE_OP = 5,
    FUTEX_WAIT_BITSET = 9, FUTEX_WAKE_BITSET = 10, PRIVATE = 128, FUTEX_CLOCK_REALTIME = 256,
};
static inline long futex(int *word, int op, int value, const void *timeout, int *word2, int value3) {
    return syscall(SYS_futex, word, op, value, timeout, word2, value3);
}
#endif
