// modes: static static-pie dynamic nopie musl
// The auxiliary vector: what must be there and be true.
#include "../common.h"
#include <elf.h>
#include <sys/auxv.h>
#include <link.h>

extern const ElfW(Ehdr) __ehdr_start __attribute__((weak, visibility("hidden")));

int main(void) {
    CHECK(getauxval(AT_PAGESZ) == 4096);
    CHECK(getauxval(AT_UID) == getuid() && getauxval(AT_EUID) == geteuid());
    CHECK(getauxval(AT_GID) == getgid() && getauxval(AT_EGID) == getegid());
    CHECK(getauxval(AT_SECURE) == 0);
    CHECK(getauxval(AT_CLKTCK) == 100);
    CHECK(getauxval(AT_PHENT) == sizeof(ElfW(Phdr)));
    CHECK(getauxval(AT_FLAGS) == 0);
    const ElfW(Phdr) *ph = (void *)getauxval(AT_PHDR);
    size_t n = getauxval(AT_PHNUM);
    CHECK(ph != NULL && n > 3);
    size_t loads = 0;
    for (size_t i = 0; i < n; i++)
        loads += ph[i].p_type == PT_LOAD;
    CHECK(loads >= 2);
    if (&__ehdr_start) {
        CHECK((uintptr_t)ph == (uintptr_t)&__ehdr_start + __ehdr_start.e_phoff);
        CHECK(n == __ehdr_start.e_phnum);
        uintptr_t bias = __ehdr_start.e_type == ET_DYN ? (uintptr_t)&__ehdr_start : 0;
        CHECK(getauxval(AT_ENTRY) == bias + __ehdr_start.e_entry);
    }
    const unsigned char *random = (void *)getauxval(AT_RANDOM);
    CHECK(random != NULL);
    unsigned sum = 0;
    for (int i = 0; random && i < 16; i++)
        sum |= random[i];
    CHECK(sum != 0);
    const char *platform = (void *)getauxval(AT_PLATFORM);
    CHECK(platform && strcmp(platform, "x86_64") == 0);
    const char *execfn = (void *)getauxval(AT_EXECFN);
    CHECK(execfn && access(execfn, X_OK) == 0);
    CHECK(getauxval(AT_MINSIGSTKSZ) == 0 || getauxval(AT_MINSIGSTKSZ) >= 832);
    errno = 0;
    CHECK(getauxval(12345) == 0 && errno == ENOENT);
    return done();
}
