// modes: static dynamic musl
// System V message queues: types, order, truncation, limits, waiting, removal.
#include "../common.h"
#include <sys/ipc.h>
#include <sys/msg.h>
#ifndef MSG_COPY
#define MSG_COPY 040000
#endif

struct msg { long type; char text[64]; };
static int put(int id, long type, const char *text) {
    struct msg m = {.type = type};
    strcpy(m.text, text);
    return msgsnd(id, &m, strlen(text), IPC_NOWAIT);
}
static void get(int id, long type, size_t room, int flags) {
    struct msg m = {0};
    ssize_t n = msgrcv(id, &m, room, type, flags);
    if (n < 0)
        printf("type %ld: %s\n", type, err_name(errno));
    else
        printf("type %ld: [%s] of type %ld\n", type, m.text, m.type);
}

int main(void) {
    int id = msgget(IPC_PRIVATE, IPC_CREAT | 0600);
    CHECK(id >= 0);
    SHOW(put(id, 1, "one"));
    SHOW(put(id, 5, "five"));
    SHOW(put(id, 3, "three"));
    SHOW(put(id, 1, "one again"));
    struct msqid_ds ds;
    SHOW(msgctl(id, IPC_STAT, &ds));
    printf("%lu messages\n", (unsigned long)ds.msg_qnum);
    get(id, 5, 64, 0);
    get(id, -3, 64, 0);
    get(id, -3, 64, 0);
    get(id, -2, 64, IPC_NOWAIT);
    get(id, 0, 2, 0);
    get(id, 0, 2, MSG_NOERROR);
    get(id, 0, 64, IPC_NOWAIT);
    SHOW(put(id, 0, "x"));
    SHOW(put(id, -1, "x"));
    SHOW(put(id, 7, "seven"));
    get(id, 7, 64, MSG_EXCEPT | IPC_NOWAIT);
    get(id, 6, 64, MSG_EXCEPT | IPC_NOWAIT);
    pid_t p = fork();
    if (p == 0) {
        get(id, 9, 64, 0);
        child_exit(0);
    }
    SHOW(put(id, 8, "not this"));
    MUST(put(id, 9, "for the child") == 0);
    wait_show("child", p);
    int n = 0;
    while (put(id, 1, "0123456789012345678901234567890123456789") == 0)
        n++;
    printf("full: %s\n", err_name(errno));
    CHECK(n > 100);
    volatile int *about = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    p = fork();
    if (p == 0) {
        *about = 1;
        get(id, 1000, 64, 0);
        child_exit(0);
    }
    await_state(about, p, p, "S");
    MUST(msgctl(id, IPC_RMID, NULL) == 0);
    wait_show("waiter", p);
    SHOW(put(id, 1, "x"));
    return done();
}
