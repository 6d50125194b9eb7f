#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

struct job { const char *name; long words, bytes, digits; int error; };
static void *count(void *p) {
    struct job *j = p;
    FILE *f = strcmp(j->name, "-") ? fopen(j->name, "r") : stdin;
    char w[64];
    if (!f) {
        j->error = errno;
        return NULL;
    }
    while (fscanf(f, "%63s", w) == 1) {
        j->words++;
        j->bytes += (long)strlen(w);
        j->digits += atoi(w);
    }
    if (f != stdin)
        fclose(f);
    return NULL;
}
int main(int argc, char **argv) {
    struct job *jobs = calloc((size_t)argc, sizeof *jobs);
    pthread_t t[16];
    int bad = 0;
    for (int i = 1; i < argc && i < 16; i++) {
        jobs[i].name = argv[i];
        pthread_create(&t[i], NULL, count, &jobs[i]);
    }
    for (int i = 1; i < argc; i++) {
        pthread_join(t[i], NULL);
        if (jobs[i].error)
            bad = printf("%s: %s\n", argv[i], strerror(jobs[i].error));
        else
            printf("%s: %ld words %ld bytes sum %ld\n", argv[i], jobs[i].words, jobs[i].bytes, jobs[i].digits);
    }
    fflush(stdout);
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof a;
    int l = socket(AF_INET, SOCK_STREAM, 0);
    if (bind(l, (void *)&a, sizeof a) || listen(l, 1) || getsockname(l, (void *)&a, &len))
        return 9;
    if (fork() == 0) {
        int c = socket(AF_INET, SOCK_STREAM, 0);
        if (connect(c, (void *)&a, sizeof a))
            _exit(8);
        dprintf(c, "%ld", jobs[1].words);
        _exit(0);
    }
    int s = accept(l, NULL, NULL), st;
    char b[32] = {0};
    (void)!read(s, b, sizeof b - 1);
    wait(&st);
    printf("the child says %s and %d\n", b, WEXITSTATUS(st));
    return bad ? 1 : 0;
}
