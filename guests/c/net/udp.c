// modes: static dynamic musl
// UDP: addresses, connect and unconnect, borders and truncation, peek, refusal by ICMP, limits.
#include "../common.h"
#include "../net.h"

int main(void) {
    int a = socket(AF_INET, SOCK_DGRAM, 0), b = socket(AF_INET, SOCK_DGRAM, 0), c = socket(AF_INET, SOCK_DGRAM, 0);
    struct sockaddr_in any = loop4(0), to, from;
    socklen_t len = sizeof from;
    char buf[64] = {0};
    MUST(bind(a, (void *)&any, sizeof any) == 0);
    to = loop4(port_of(a));
    SHOW(sendto(b, "hello", 5, 0, (void *)&to, sizeof to));
    SHOW(recvfrom(a, buf, sizeof buf, 0, (void *)&from, &len));
    CHECK(ntohs(from.sin_port) == port_of(b) && from.sin_addr.s_addr == htonl(INADDR_LOOPBACK));
    SHOW(sendto(a, "back", 4, 0, (void *)&from, len));
    SHOW(recv(b, buf, 64, 0));
    SHOW(send(b, "x", 1, 0));
    SHOW(connect(b, (void *)&to, sizeof to));
    SHOW(send(b, "connected", 9, 0));
    SHOW(recv(a, buf, 4, MSG_TRUNC));
    SHOW(send(b, "", 0, 0));
    SHOW(recv(a, buf, 4, 0));
    SHOW(send(b, "peek", 4, 0));
    SHOW(recv(a, buf, 64, MSG_PEEK));
    SHOW(recv(a, buf, 64, 0));
    SHOW(recv(a, buf, 64, MSG_DONTWAIT));
    from = loop4(port_of(b));
    MUST(sendto(c, "stranger", 8, 0, (void *)&from, sizeof from) == 8);
    SHOW(recv(b, buf, 64, MSG_DONTWAIT)); /* connected: only its peer */
    struct sockaddr_in none = {.sin_family = AF_UNSPEC};
    SHOW(connect(b, (void *)&none, sizeof none));
    SHOW(send(b, "x", 1, 0));
    static char big[70000];
    SHOW(sendto(c, big, 65507, 0, (void *)&to, sizeof to));
    MUST(wait_for(a, POLLIN));
    SHOW(recv(a, big, sizeof big, 0));
    SHOW(sendto(c, big, 65508, 0, (void *)&to, sizeof to));
    close(a);
    MUST(connect(c, (void *)&to, sizeof to) == 0);
    SHOW(send(c, "x", 1, 0));
    MUST(wait_for(c, POLLIN));
    SHOW(recv(c, buf, 64, 0));
    SHOW(shutdown(c, SHUT_RD));
    SHOW(recv(c, buf, 64, MSG_DONTWAIT));
    SHOW(accept(c, NULL, NULL));
    SHOW(sendto(b, "x", 1, 0, (void *)&to, 3));
    return done();
}
