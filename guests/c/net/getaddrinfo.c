// modes: dynamic musl
// getaddrinfo with numbers and localhost; getnameinfo; inet_pton; errors.
#include "../common.h"
#include "../net.h"
#include <netdb.h>

static void look(const char *host, const char *service, int flags, int family) {
    struct addrinfo h = {.ai_flags = flags, .ai_family = family, .ai_socktype = SOCK_STREAM}, *r;
    int e = getaddrinfo(host, service, &h, &r);
    printf("%s %s: ", host ? host : "-", service ? service : "-");
    if (e) {
        printf("error %d\n", e);
        return;
    }
    char name[64], port[16];
    MUST(getnameinfo(r->ai_addr, r->ai_addrlen, name, sizeof name, port, sizeof port, NI_NUMERICHOST | NI_NUMERICSERV) == 0);
    printf("%s port %s family %d type %d protocol %d\n", name, port, r->ai_family, r->ai_socktype, r->ai_protocol);
    freeaddrinfo(r);
}

int main(void) {
    look("127.0.0.1", "80", AI_NUMERICHOST, AF_UNSPEC);
    look("::1", "8080", AI_NUMERICHOST, AF_UNSPEC);
    look(NULL, "0", AI_PASSIVE, AF_INET);
    look(NULL, "443", 0, AF_INET);
    look("127.1.2.3", NULL, 0, AF_INET);
    look("not-a-number", "80", AI_NUMERICHOST, AF_UNSPEC);
    look("127.0.0.1", "not-a-port", AI_NUMERICSERV, AF_UNSPEC);
    look("localhost", "80", 0, AF_INET);
    unsigned char b[16];
    char t[64];
    SHOW(inet_pton(AF_INET, "1.2.3.4", b));
    SHOW(inet_pton(AF_INET, "1.2.3.400", b));
    SHOW(inet_pton(AF_INET6, "fe80::1", b));
    puts(inet_ntop(AF_INET6, b, t, sizeof t));
    return done();
}
