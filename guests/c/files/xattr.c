// modes: static dynamic musl
// Extended attributes of user space: set, get, list, remove.
#include "../common.h"
#include <sys/xattr.h>

int main(void) {
    put_file("f", "");
    char b[64] = {0};
    SHOW(setxattr("f", "user.a", "one", 3, 0));
    SHOW(getxattr("f", "user.a", b, sizeof b));
    puts(b);
    SHOW(getxattr("f", "user.a", NULL, 0));
    SHOW(getxattr("f", "user.a", b, 2));
    SHOW(getxattr("f", "user.none", b, sizeof b));
    SHOW(setxattr("f", "user.a", "x", 1, XATTR_CREATE));
    SHOW(setxattr("f", "user.b", "x", 1, XATTR_REPLACE));
    SHOW(setxattr("f", "user.b", "two", 3, XATTR_CREATE));
    SHOW(listxattr("f", b, sizeof b));
    SHOW(removexattr("f", "user.a"));
    SHOW(removexattr("f", "user.a"));
    SHOW(listxattr("f", b, sizeof b));
    puts(b);
    SHOW(setxattr("f", "nonsense", "x", 1, 0));
    SHOW(getxattr("none", "user.b", b, sizeof b));
    return done();
}
