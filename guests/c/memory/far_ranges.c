// modes: static dynamic
// Addresses whose end does not fit into 64 bits.
#include "../common.h"
#include <sys/syscall.h>
#include <sys/uio.h>

int main(void) {
    void *page = (void *)-1L;
    int status = 0;
    long r = syscall(SYS_move_pages, 0, 1L, &page, NULL, &status, 0);
    printf("move_pages %ld, status %d\n", r, status);
    char near[4096];
    struct iovec l = {near, sizeof near}, f = {(void *)-11L, sizeof near};
    r = process_vm_readv(getpid(), &l, 1, &f, 1, 0);
    printf("process_vm_readv %ld %s\n", r, r < 0 ? strerror(errno) : "");
    return 0;
}
