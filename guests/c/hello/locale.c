// modes: static dynamic musl
// The C locale, UTF-8 conversion, time zones as the environment gives them.
#include "../common.h"
#include <locale.h>
#include <wchar.h>

int main(void) {
    printf("%s\n", setlocale(LC_ALL, NULL));
    time_t t = 86400 * 365;
    struct tm tm;
    char buf[64];
    tzset();
    MUST(localtime_r(&t, &tm));
    strftime(buf, sizeof buf, "%Y-%m-%d %H:%M:%S %A %B", &tm);
    puts(buf);
    SHOW(mktime(&tm));
    printf("%s", asctime(gmtime(&t)));
    wchar_t w[8];
    SHOW(mbstowcs(w, "plain", 8));
    CHECK(w[0] == 'p' && w[5] == 0);
    return done();
}
