// modes: static dynamic musl
// /proc/self/maps knows every mapping made here with its protection, offset and file, sorted and without overlap.
#include "../common.h"

static bool find(const void *addr, char perms[5], unsigned long *off, char *path, unsigned long *start, unsigned long *end) {
    static char all[1 << 17]; /* no stdio: its buffers would be mappings too */
    int fd = open("/proc/self/maps", O_RDONLY);
    ssize_t n, total = 0;
    MUST(fd >= 0);
    while ((n = read(fd, all + total, sizeof all - 1 - total)) > 0)
        total += n;
    close(fd);
    all[total] = 0;
    unsigned long last = 0;
    bool hit = false;
    for (char *line = strtok(all, "\n"); line; line = strtok(NULL, "\n")) {
        unsigned long s, e, o, ino;
        char p[5], dev[16], name[4500] = "";
        MUST(sscanf(line, "%lx-%lx %4s %lx %15s %lu %4499[^\n]", &s, &e, p, &o, dev, &ino, name) >= 6);
        MUST(s < e && s >= last && s % 4096 == 0 && e % 4096 == 0);
        last = e;
        if ((unsigned long)addr >= s && (unsigned long)addr < e) {
            hit = true;
            strcpy(perms, p);
            *off = o, *start = s, *end = e;
            strcpy(path, name + strspn(name, " "));
        }
    }
    return hit;
}

int main(void) {
    char perms[5], path[4600];
    unsigned long off, s, e;
    static int bss[4096];
    int local;
    int fd = open("mapped", O_RDWR | O_CREAT, 0644);
    MUST(ftruncate(fd, 65536) == 0);
    char *a = mmap(NULL, 3 * 4096, PROT_READ, MAP_SHARED, fd, 8192);
    char *b = mmap(NULL, 4 * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    MUST(find(a, perms, &off, path, &s, &e));
    printf("file %s offset %lx size %lx name %s\n", perms, off, e - s, strrchr(path, '/'));
    MUST(find(b + 4096, perms, &off, path, &s, &e));
    printf("anonymous %s\n", perms);
    MUST(mprotect(b + 4096, 4096, PROT_NONE) == 0);
    MUST(find(b + 4096, perms, &off, path, &s, &e));
    printf("after mprotect %s size %lx\n", perms, e - s);
    MUST(munmap(b + 8192, 4096) == 0);
    CHECK(!find(b + 8192, perms, &off, path, &s, &e));
    MUST(find((void *)find, perms, &off, path, &s, &e));
    printf("text %s %s\n", perms, strstr(path, "maps_consistent") ? "by name" : path);
    MUST(find(bss, perms, &off, path, &s, &e));
    printf("bss %s\n", perms);
    MUST(find(&local, perms, &off, path, &s, &e));
    printf("stack %s %s\n", perms, path);
    char *heap = (char *)syscall(SYS_brk, 0);
    MUST(syscall(SYS_brk, heap + 100000) > 0);
    MUST(find(heap + 50000, perms, &off, path, &s, &e));
    printf("heap %s %s\n", perms, path);
    MUST(munmap(a, 4096) == 0);
    MUST(find(a + 4096, perms, &off, path, &s, &e));
    printf("after munmap of its head: offset %lx size %lx\n", off, e - s);
    MUST(unlink("mapped") == 0);
    MUST(find(a + 4096, perms, &off, path, &s, &e));
    CHECK(strstr(path, "/mapped (deleted)") != NULL);
    return done();
}
