// modes: static dynamic musl
// getifaddrs and the SIOC ioctls find the loopback interface, up, with its address.
#include "../common.h"
#include "../net.h"
#include <ifaddrs.h>
#include <net/if.h>
#include <sys/ioctl.h>

int main(void) {
    struct ifaddrs *all;
    bool four = false;
    SHOW(getifaddrs(&all));
    for (struct ifaddrs *i = all; i; i = i->ifa_next)
        if (i->ifa_addr && i->ifa_addr->sa_family == AF_INET && strcmp(i->ifa_name, "lo") == 0) {
            four = ((struct sockaddr_in *)i->ifa_addr)->sin_addr.s_addr == htonl(INADDR_LOOPBACK);
            CHECK(i->ifa_flags & IFF_UP && i->ifa_flags & IFF_LOOPBACK);
            CHECK(((struct sockaddr_in *)i->ifa_netmask)->sin_addr.s_addr == htonl(0xff000000));
        }
    CHECK(four);
    freeifaddrs(all);
    int s = socket(AF_INET, SOCK_DGRAM, 0);
    struct ifreq r;
    memset(&r, 0, sizeof r);
    strcpy(r.ifr_name, "lo");
    SHOW(ioctl(s, SIOCGIFFLAGS, &r));
    CHECK(r.ifr_flags & IFF_LOOPBACK);
    SHOW(ioctl(s, SIOCGIFADDR, &r));
    CHECK(((struct sockaddr_in *)&r.ifr_addr)->sin_addr.s_addr == htonl(INADDR_LOOPBACK));
    SHOW(ioctl(s, SIOCGIFINDEX, &r));
    CHECK(r.ifr_ifindex == (int)if_nametoindex("lo"));
    SHOW(ioctl(s, SIOCGIFMTU, &r));
    char buf[4096];
    struct ifconf c = {.ifc_len = sizeof buf, .ifc_buf = buf};
    SHOW(ioctl(s, SIOCGIFCONF, &c));
    CHECK(c.ifc_len >= (int)sizeof(struct ifreq));
    strcpy(r.ifr_name, "nosuch0");
    SHOW(ioctl(s, SIOCGIFFLAGS, &r));
    SHOW(if_nametoindex("nosuch0"));
    return done();
}
