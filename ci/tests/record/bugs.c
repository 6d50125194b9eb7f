// Programs with one bug each, which a plain run does not show. What Linux leaves open does.
#include <arpa/inet.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <errno.h>
#include <unistd.h>

static volatile long balance;

// Reads, does something else, writes back: another thread's update in between is lost.
static void *deposit(void *arg) {
    for (int i = 0; i < 40; i++) {
        long seen = balance;
        (void)!write(1, "", 0);
        balance = seen + 1;
    }
    return arg;
}

static int update(void) {
    pthread_t t[2];
    for (int i = 0; i < 2; i++)
        pthread_create(&t[i], NULL, deposit, NULL);
    for (int i = 0; i < 2; i++)
        pthread_join(t[i], NULL);
    printf("balance %ld\n", balance);
    return balance != 80;
}

// Takes it for granted that what was sent at once comes at once.
static int message(void) {
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof a;
    int l = socket(AF_INET, SOCK_STREAM, 0), c = socket(AF_INET, SOCK_STREAM, 0);
    if (bind(l, (void *)&a, len) || listen(l, 1) || getsockname(l, (void *)&a, &len) || connect(c, (void *)&a, len))
        return 2;
    int s = accept(l, NULL, NULL);
    char out[64] = "a message of 64 bytes", in[64] = "";
    for (int i = 0; i < 8; i++) {
        if (write(c, out, sizeof out) != sizeof out)
            return 2;
        ssize_t n = read(s, in, sizeof in);
        printf("%zd bytes\n", n);
        if (n != sizeof in)
            return 1;
    }
    return 0;
}

static pthread_mutex_t m = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t filled = PTHREAD_COND_INITIALIZER;
static int items, fewest;

// `if` where `while` is needed: who is woken for an item may come after somebody else who takes it.
static void *consume(void *arg) {
    pthread_mutex_lock(&m);
    if (items == 0)
        pthread_cond_wait(&filled, &m);
    if (--items < fewest)
        fewest = items;
    pthread_mutex_unlock(&m);
    return arg;
}

static void produce(void) {
    pthread_mutex_lock(&m);
    items++;
    pthread_cond_signal(&filled);
    pthread_mutex_unlock(&m);
}

static int condition(void) {
    for (int i = 0; i < 8; i++) {
        pthread_t a, b;
        pthread_create(&a, NULL, consume, NULL);
        usleep(2000);
        produce();
        pthread_create(&b, NULL, consume, NULL);
        usleep(2000);
        produce();
        pthread_join(a, NULL);
        pthread_join(b, NULL);
    }
    printf("fewest items %d\n", fewest);
    return fewest < 0;
}

// No look at EINTR.
static int events(void) {
    int e = epoll_create1(0), p[2];
    struct epoll_event ev = {.events = EPOLLIN}, got;
    if (pipe(p) || epoll_ctl(e, EPOLL_CTL_ADD, p[0], &ev))
        return 2;
    for (int i = 0; i < 20; i++) {
        int n = epoll_wait(e, &got, 1, 1);
        printf("%d\n", n);
        if (n < 0)
            return errno == EINTR ? 1 : 2;
    }
    return 0;
}

int main(int argc, char **argv) {
    const char *what = argc > 1 ? argv[1] : "";
    if (!strcmp(what, "update"))
        return update();
    if (!strcmp(what, "message"))
        return message();
    if (!strcmp(what, "condition"))
        return condition();
    if (!strcmp(what, "events"))
        return events();
    return 3;
}
