/* setxattrat, getxattrat, listxattrat, removexattrat (Linux 6.13). */
#include "../common.h"
struct args { uint64_t value; uint32_t size, flags; };
#define NR_set 463
#define NR_get 464
#define NR_list 465
#define NR_remove 466

int main(void) {
    MUST(mkdir("d", 0755) == 0);
    int dir = open("d", O_RDONLY | O_DIRECTORY), fd = openat(dir, "f", O_CREAT | O_RDWR, 0644);
    MUST(dir >= 0 && fd >= 0);
    struct args a = {(uintptr_t) "hello", 5, 0};
    if (syscall(NR_set, dir, "f", 0, "user.x", &a, sizeof a) == -1 && errno == EOPNOTSUPP) {
        printf("no user attributes here\n");
        return done();
    }
    SHOW(syscall(NR_set, dir, "f", 0, "user.x", &a, sizeof a));
    a.flags = 1;
    SHOW(syscall(NR_set, dir, "f", 0, "user.x", &a, sizeof a));
    a.flags = 0;
    SHOW(syscall(NR_set, dir, "f", 2, "user.x", &a, sizeof a));
    SHOW(syscall(NR_set, dir, "f", 0, "user.x", &a, 8UL));
    SHOW(syscall(NR_set, dir, "f", 0, "user.x", &a, 5000UL));
    SHOW(syscall(NR_set, dir, "g", 0, "user.x", &a, sizeof a));
    SHOW(syscall(NR_set, 99, "f", 0, "user.x", &a, sizeof a));
    SHOW(syscall(NR_set, fd, "", AT_EMPTY_PATH, "user.y", &a, sizeof a));
    char buf[64] = "";
    struct args g = {(uintptr_t)buf, sizeof buf, 0};
    SHOW(syscall(NR_get, dir, "f", 0, "user.x", &g, sizeof g));
    printf("%s\n", buf);
    g.size = 2;
    SHOW(syscall(NR_get, dir, "f", 0, "user.x", &g, sizeof g));
    g.size = 0;
    SHOW(syscall(NR_get, dir, "f", 0, "user.x", &g, sizeof g));
    g.flags = 1;
    SHOW(syscall(NR_get, dir, "f", 0, "user.x", &g, sizeof g));
    SHOW(syscall(NR_list, dir, "f", 0, buf, 0UL) == syscall(NR_list, fd, "", AT_EMPTY_PATH, NULL, 0UL));
    memset(buf, 0, sizeof buf);
    long n = syscall(NR_list, fd, NULL, AT_EMPTY_PATH, buf, sizeof buf);
    CHECK(n >= 14);
    bool x = false, y = false;
    for (char *p = buf; n > 0 && p < buf + n; p += strlen(p) + 1) {
        x |= strcmp(p, "user.x") == 0;
        y |= strcmp(p, "user.y") == 0;
    }
    CHECK(x && y);
    SHOW(syscall(NR_remove, dir, "f", 0, "user.x"));
    SHOW(syscall(NR_remove, dir, "f", 0, "user.x"));
    MUST(symlinkat("f", dir, "l") == 0);
    SHOW(syscall(NR_remove, dir, "l", AT_SYMLINK_NOFOLLOW, "user.y"));
    SHOW(syscall(NR_remove, dir, "l", 0, "user.y"));
    return done();
}
