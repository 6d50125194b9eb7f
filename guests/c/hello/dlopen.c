// modes: dynamic nopie
// Libraries at run time: a symbol of libm, a missing library, a missing symbol, dladdr, dl_iterate_phdr.
#include "../common.h"
#include <dlfcn.h>
#include <link.h>

static int count(struct dl_phdr_info *info, size_t size, void *data) {
    (void)size;
    if (strstr(info->dlpi_name, "libc.so"))
        *(int *)data += 100;
    ++*(int *)data;
    return 0;
}

int main(void) {
    void *m = dlopen("libz.so.1", RTLD_NOW);
    if (!m)
        m = dlopen("libm.so.6", RTLD_NOW);
    CHECK(m != NULL);
    void *libm = dlopen("libm.so.6", RTLD_LAZY);
    double (*cosine)(double) = dlsym(libm, "cos");
    MUST(cosine);
    printf("cos 0 = %g\n", cosine(0));
    CHECK(dlsym(libm, "no_such_symbol") == NULL);
    CHECK(dlerror() != NULL);
    CHECK(dlopen("libnosuch.so", RTLD_NOW) == NULL);
    printf("%s\n", dlerror());
    Dl_info info;
    CHECK(dladdr((void *)cosine, &info) != 0 && strstr(info.dli_fname, "libm"));
    int n = 0;
    dl_iterate_phdr(count, &n);
    CHECK(n > 101 && n < 200);
    SHOW(dlclose(m));
    SHOW(dlclose(libm));
    return done();
}
