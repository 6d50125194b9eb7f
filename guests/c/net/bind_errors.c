// modes: static dynamic musl
// bind and listen: in use, not ours, twice, reuse options, ephemeral ports, wildcard against address.
#include "../common.h"
#include "../net.h"

static int sock(void) { return socket(AF_INET, SOCK_STREAM, 0); }
static int set(int fd, int opt) { return setsockopt(fd, SOL_SOCKET, opt, &(int){1}, sizeof(int)); }

int main(void) {
    int l = listener4(), port = port_of(l), s = sock();
    struct sockaddr_in a = loop4(port), any = a, other = loop4(0);
    any.sin_addr.s_addr = 0;
    CHECK(port >= 1024);
    SHOW(bind(s, (void *)&a, sizeof a));
    SHOW(bind(s, (void *)&any, sizeof any));
    SHOW(set(s, SO_REUSEADDR));
    SHOW(bind(s, (void *)&a, sizeof a)); /* the other listens */
    SHOW(bind(s, (void *)&other, sizeof other));
    SHOW(bind(s, (void *)&other, sizeof other));
    other.sin_addr.s_addr = inet_addr("203.0.113.77");
    int t = sock();
    SHOW(bind(t, (void *)&other, sizeof other));
    SHOW(bind(t, (void *)&a, 8));
    a.sin_family = AF_UNIX;
    SHOW(bind(t, (void *)&a, sizeof a));
    a.sin_family = AF_INET;
    SHOW(bind(t, (void *)BAD, sizeof a));
    SHOW(listen(t, 5)); /* unbound: an ephemeral port */
    CHECK(port_of(t) != 0);
    SHOW(listen(t, 50));
    SHOW(listen(0, 5));
    SHOW(listen(99, 5));
    int u = socket(AF_INET, SOCK_DGRAM, 0);
    SHOW(listen(u, 5));
    /* after a connection was closed by this side the port waits; SO_REUSEADDR takes it */
    int c = dial4(port), k = accept(l, NULL, NULL);
    close(k);
    char b;
    MUST(read(c, &b, 1) == 0);
    close(c);
    close(l);
    l = sock();
    SHOW(set(l, SO_REUSEADDR));
    SHOW(bind(l, (void *)&a, sizeof a));
    SHOW(listen(l, 5));
    int r1 = sock(), r2 = sock();
    struct sockaddr_in p = loop4(0);
    SHOW(set(r1, SO_REUSEPORT));
    SHOW(set(r2, SO_REUSEPORT));
    SHOW(bind(r1, (void *)&p, sizeof p));
    p = loop4(port_of(r1));
    SHOW(bind(r2, (void *)&p, sizeof p));
    SHOW(listen(r1, 5));
    SHOW(listen(r2, 5));
    return done();
}
