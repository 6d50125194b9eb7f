// modes: static dynamic musl
// O_APPEND from two descriptors and two processes never overwrites.
#include "../common.h"

int main(void) {
    int a = open("log", O_WRONLY | O_CREAT | O_APPEND, 0644), b = open("log", O_WRONLY | O_APPEND);
    SHOW(write(a, "one\n", 4));
    SHOW(write(b, "two\n", 4));
    SHOW(pwrite(a, "end\n", 4, 0)); /* Linux appends all the same */
    show_file("log");
    pid_t p[3];
    for (int k = 0; k < 3; k++)
        if ((p[k] = fork()) == 0) {
            int fd = open("log", O_WRONLY | O_APPEND);
            for (int i = 0; i < 200; i++)
                MUST(write(fd, "12345678\n", 9) == 9);
            _exit(0);
        }
    for (int k = 0; k < 3; k++)
        wait_show("writer", p[k]);
    SHOW(lseek(a, 0, SEEK_END));
    SHOW(fcntl(a, F_SETFL, 0));
    lseek(a, 0, SEEK_SET);
    SHOW(write(a, "ONE", 3));
    SHOW(lseek(b, 0, SEEK_END));
    return done();
}
