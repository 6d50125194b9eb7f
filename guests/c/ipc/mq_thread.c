// needs: threads
// modes: static dynamic
// POSIX message queues that notify by a thread (SIGEV_THREAD), and notifications that end with their queue.
#include "../common.h"
#include <mqueue.h>
#include <pthread.h>
#include <semaphore.h>

static sem_t told;
static int value;
static void on_message(union sigval v) {
    value = v.sival_int;
    sem_post(&told);
}

int main(void) {
    char name[64], b[64];
    snprintf(name, sizeof name, "/ftl-mqt-%d", getpid());
    struct mq_attr a = {.mq_maxmsg = 4, .mq_msgsize = 32};
    mqd_t q = mq_open(name, O_RDWR | O_CREAT | O_EXCL | O_NONBLOCK, 0600, &a);
    MUST(q != -1);
    sem_init(&told, 0, 0);
    struct sigevent ev = {.sigev_notify = SIGEV_THREAD, .sigev_value.sival_int = 42};
    ev.sigev_notify_function = on_message;
    for (int i = 0; i < 2; i++) {
        ev.sigev_value.sival_int = 42 + i;
        SHOW(mq_notify(q, &ev));
        SHOW(mq_notify(q, &ev));
        SHOW(mq_send(q, "x", 2, 1));
        MUST(sem_wait(&told) == 0);
        printf("told %d\n", value);
        MUST(mq_receive(q, b, sizeof b, NULL) == 2);
    }
    SHOW(mq_notify(q, &ev));
    SHOW(mq_notify(q, NULL));
    SHOW(mq_send(q, "x", 2, 1));
    MUST(mq_receive(q, b, sizeof b, NULL) == 2);
    /* Closing any descriptor of it ends the process' notification, and so does its end. */
    struct sigevent none = {.sigev_notify = SIGEV_NONE};
    mqd_t second = mq_open(name, O_RDWR);
    SHOW(mq_notify(q, &none));
    pid_t pid = fork();
    if (pid == 0)
        child_exit(mq_notify(q, &none) == -1 && errno == EBUSY ? 0 : 1);
    int st;
    MUST(waitpid(pid, &st, 0) == pid);
    CHECK(st == 0);
    SHOW(mq_close(second));
    pid = fork();
    if (pid == 0)
        child_exit(mq_notify(q, &none) == 0 ? 0 : 1);
    MUST(waitpid(pid, &st, 0) == pid);
    CHECK(st == 0);
    SHOW(mq_notify(q, &none));
    mq_close(q);
    mq_unlink(name);
    return done();
}
