// modes: static dynamic musl
// UNIX stream sockets on paths: bind, listen, connect, accept, names, refusals, unlink, backlog.
#include "../common.h"
#include <sys/socket.h>
#include <sys/un.h>

static struct sockaddr_un addr(const char *path) {
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    strcpy(a.sun_path, path);
    return a;
}

int main(void) {
    struct sockaddr_un a = addr("sock"), b;
    socklen_t len = sizeof b;
    char buf[32] = {0};
    int l = socket(AF_UNIX, SOCK_STREAM, 0), c = socket(AF_UNIX, SOCK_STREAM, 0);
    SHOW(connect(c, (void *)&a, sizeof a));
    SHOW(bind(l, (void *)&a, sizeof a));
    struct stat st;
    MUST(stat("sock", &st) == 0);
    CHECK(S_ISSOCK(st.st_mode));
    SHOW(connect(c, (void *)&a, sizeof a)); /* not listening */
    SHOW(accept(l, NULL, NULL));
    SHOW(listen(l, 2));
    SHOW(connect(c, (void *)&a, sizeof a));
    SHOW(connect(c, (void *)&a, sizeof a));
    SHOW(send(c, "early", 5, 0)); /* before accept */
    int s = accept(l, (void *)&b, &len);
    CHECK(s >= 0);
    printf("peer family %d length %u\n", b.sun_family, len);
    SHOW(recv(s, buf, sizeof buf, 0));
    len = sizeof b;
    SHOW(getsockname(s, (void *)&b, &len));
    printf("%s length %u\n", b.sun_path, len);
    len = sizeof b;
    SHOW(getpeername(c, (void *)&b, &len));
    puts(b.sun_path);
    int d = socket(AF_UNIX, SOCK_STREAM, 0);
    SHOW(bind(d, (void *)&a, sizeof a));
    struct sockaddr_un e = addr("client"), none = addr("none/x"), file = addr("file");
    put_file("file", "");
    SHOW(bind(d, (void *)&none, sizeof none));
    SHOW(bind(d, (void *)&file, sizeof file));
    SHOW(connect(d, (void *)&file, sizeof file));
    SHOW(bind(d, (void *)&e, sizeof e));
    SHOW(bind(d, (void *)&none, sizeof none));
    SHOW(connect(d, (void *)&a, sizeof a));
    len = sizeof b;
    memset(&b, 0, sizeof b);
    s = accept4(l, (void *)&b, &len, SOCK_NONBLOCK | SOCK_CLOEXEC);
    printf("accepted from %s\n", b.sun_path);
    SHOW(fcntl(s, F_GETFD));
    SHOW(recv(s, buf, 1, 0));
    SHOW(unlink("sock"));
    int f = socket(AF_UNIX, SOCK_STREAM, 0);
    SHOW(connect(f, (void *)&a, sizeof a));
    SHOW(bind(f, (void *)&a, sizeof a)); /* the name is free again */
    SHOW(listen(c, 1));
    int n = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
    SHOW(accept(n, NULL, NULL));
    SHOW(send(n, "x", 1, MSG_NOSIGNAL));
    SHOW(getpeername(n, (void *)&b, &len));
    SHOW(shutdown(n, SHUT_RDWR));
    a.sun_family = AF_INET;
    SHOW(connect(n, (void *)&a, sizeof a));
    SHOW(bind(n, (void *)&a, sizeof a));
    a.sun_family = AF_UNIX;
    SHOW(bind(n, (void *)&a, 1));
    SHOW(bind(n, (void *)&a, 500));
    SHOW(bind(0, (void *)&a, sizeof a));
    SHOW(bind(99, (void *)&a, sizeof a));
    close(l);
    int g = socket(AF_UNIX, SOCK_STREAM, 0);
    a = addr("again");
    l = socket(AF_UNIX, SOCK_STREAM, 0);
    MUST(bind(l, (void *)&a, sizeof a) == 0 && listen(l, 0) == 0);
    MUST(connect(g, (void *)&a, sizeof a) == 0);
    int full = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
    SHOW(connect(full, (void *)&a, sizeof a)); /* backlog 0 holds one */
    close(l);
    SHOW(recv(g, buf, 1, 0)); /* never accepted */
    return done();
}
