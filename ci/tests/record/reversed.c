// Something to go back in with a debugger.
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static struct {
    char name[16];
    volatile long balance;
} account = {.balance = 100};

static volatile int turns, sums[2];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

// A call in the middle of what can be stepped by hand.
__attribute__((noinline)) static long say(const char *text) {
    long n = (long)strlen(text);
    long done;
    __asm__ volatile("syscall" : "=a"(done) : "a"(1), "D"(1), "S"(text), "d"(n) : "rcx", "r11", "memory");
    return done;
}

__attribute__((noinline)) static void first(void) {
    say("first\n");
    turns++;
}

__attribute__((noinline)) static void second(int n) {
    turns += n;
    say("second\n");
    turns += 2;
}

static void *work(void *arg) {
    long me = (long)arg;
    for (int i = 1; i <= 3; i++) {
        pthread_mutex_lock(&lock);
        sums[me] += i;
        pthread_mutex_unlock(&lock);
        usleep(100);
    }
    return NULL;
}

// Forgets how long a name may be.
__attribute__((noinline)) static void set_name(const char *from) {
    for (int i = 0; from[i] != 0; i++)
        account.name[i] = from[i];
}

int main(void) {
    first();
    usleep(1000);
    second(10);
    pthread_t threads[2];
    for (long i = 0; i < 2; i++)
        pthread_create(&threads[i], NULL, work, (void *)i);
    for (int i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
    set_name("sixteen letters and some");
    for (int i = 0; i < 200; i++)
        say("");
    printf("%d %d %d\n", turns, sums[0], sums[1]);
    fflush(stdout);
    if (account.balance != 100)
        abort();
    return 0;
}
