// modes: static dynamic musl
// needs: threads
// TCP on loopback between two threads: a conversation, then megabytes both ways.
#include "../common.h"
#include "../net.h"
#include <pthread.h>

static void *server(void *p) {
    int l = *(int *)p, s = accept(l, NULL, NULL);
    static char b[65536];
    ssize_t n;
    MUST(s >= 0);
    while ((n = read(s, b, sizeof b)) > 0)
        for (ssize_t at = 0; at < n;) {
            ssize_t w = write(s, b + at, n - at);
            MUST(w > 0);
            at += w;
        }
    close(s);
    return NULL;
}
static int sock;
static void *sender(void *p) {
    (void)p;
    static char b[10000];
    for (int i = 0; i < 400; i++) {
        memset(b, i, sizeof b);
        for (size_t at = 0; at < sizeof b;) {
            ssize_t w = write(sock, b + at, sizeof b - at);
            MUST(w > 0);
            at += (size_t)w;
        }
    }
    MUST(shutdown(sock, SHUT_WR) == 0);
    return NULL;
}

int main(void) {
    int l = listener4();
    pthread_t t, u;
    pthread_create(&t, NULL, server, &l);
    sock = dial4(port_of(l));
    char b[64] = {0};
    for (int i = 0; i < 200; i++) {
        int n = snprintf(b, sizeof b, "message %d", i);
        MUST(write(sock, b, n) == n);
        char r[64];
        MUST(recv(sock, r, n, MSG_WAITALL) == n && memcmp(b, r, n) == 0);
    }
    puts("200 messages");
    pthread_create(&u, NULL, sender, NULL);
    static unsigned char big[30000];
    long total = 0, wrong = 0;
    ssize_t n;
    while ((n = read(sock, big, sizeof big)) > 0)
        for (ssize_t i = 0; i < n; i++)
            wrong += big[i] != (unsigned char)(total++ / 10000);
    printf("%ld bytes, %ld wrong\n", total, wrong);
    pthread_join(u, NULL);
    pthread_join(t, NULL);
    return done();
}
