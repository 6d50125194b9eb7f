"""The program under test: every behaviour of a socket that a peer on another host can bring about. What it prints
must be the same natively and under `ftvm run --net IF,ip=...`. The peer is peer.py.

    guest.py OWN PEER [SECTION...]
"""
import errno
import fcntl
import hashlib
import select
import socket
import struct
import sys
import termios
import time

OWN, PEER = sys.argv[1:3]
V6 = ":" in PEER
AF = socket.AF_INET6 if V6 else socket.AF_INET
CONTROL = 7000
# How long an event may take, in ms: a link that loses frames makes a SYN go again after 1, 3 and 7 s.
PATIENCE = 20_000
NAMES = {v: k for k, v in vars(select).items() if k.startswith("POLL") and isinstance(v, int)}


def say(*what):
    print(*what, flush=True)


def name(e):
    return errno.errorcode.get(e, str(e)) if e else "ok"


def tell(*words):
    """Asks the peer for something; its answer."""
    with socket.socket(AF) as s:
        s.connect((PEER, CONTROL))
        s.sendall((" ".join(map(str, words)) + "\n").encode())
        return s.makefile().readline().strip()


def attempt(what, f):
    try:
        r = f()
        say(what, "->", len(r) if isinstance(r, bytes) and len(r) > 20 else r)
        return r
    except OSError as e:
        say(what, "->", type(e).__name__ if e.errno is None else name(e.errno))


def flags(s, wait_ms=0, what=select.POLLIN | select.POLLOUT | select.POLLRDHUP):
    p = select.poll()
    p.register(s, what)
    bits = sum(b for _, b in p.poll(wait_ms))
    return "|".join(sorted(n for v, n in NAMES.items() if bits & v and v & (v - 1) == 0 and n in (
        "POLLIN", "POLLOUT", "POLLERR", "POLLHUP", "POLLRDHUP"))) or "-"


def until(f, seconds=60):
    end = time.monotonic() + seconds
    while not f() and time.monotonic() < end:
        time.sleep(0.005)
    return f()


def state(s):
    return s.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 8)[0]


def queue(s, which):
    return struct.unpack("i", fcntl.ioctl(s, which, b"\0\0\0\0"))[0]


def dial(port=None, mode=None, **options):
    """A connection to a peer in `mode`."""
    port = port or int(tell("serve", mode))
    s = socket.socket(AF)
    s.connect((PEER, port))
    return s


def take(s, n):
    data = b""
    while len(data) < n:
        part = s.recv(n - len(data))
        if not part:
            break
        data += part
    return data


def names():
    s = dial(mode="echo")
    own, peer = s.getsockname(), s.getpeername()
    say("names", own[0] == OWN, own[1] != 0, peer[0] == PEER)
    s.sendall(b"hello")
    say("echo", take(s, 5), "state", state(s))
    s.close()
    t = socket.socket(AF)
    t.bind((OWN, 0))
    say("bound", t.getsockname()[0] == OWN)
    attempt("bind to the peer's address", lambda: socket.socket(AF).bind((PEER, 0)))


def refused():
    s = socket.socket(AF)
    attempt("connect to a closed port", lambda: s.connect((PEER, 9)))
    s = socket.socket(AF)
    s.setblocking(False)
    say("non-blocking", name(s.connect_ex((PEER, 9))))
    say("polled", flags(s, PATIENCE))
    say("SO_ERROR", name(s.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)),
        name(s.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)))
    s = socket.socket(AF)
    attempt("getpeername unconnected", s.getpeername)
    attempt("send unconnected", lambda: s.send(b"x"))
    attempt("recv unconnected", lambda: s.recv(1))


def connecting():
    port = int(tell("serve", "echo"))
    s = socket.socket(AF)
    s.setblocking(False)
    say("non-blocking", name(s.connect_ex((PEER, port))))
    say("polled", flags(s, PATIENCE, select.POLLOUT))
    say("SO_ERROR", name(s.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)))
    say("again", name(s.connect_ex((PEER, port))))
    attempt("nothing to read", lambda: s.recv(10))
    s.send(b"abc")
    say("readable", flags(s, PATIENCE, select.POLLIN))
    say("SIOCINQ", until(lambda: queue(s, termios.FIONREAD) == 3))
    say("peek", s.recv(2, socket.MSG_PEEK), s.recv(10))
    say("SIOCOUTQ", until(lambda: queue(s, termios.TIOCOUTQ) == 0))


def ends():
    # The peer ends first.
    s = dial(mode="bye")
    say("in", take(s, 100))
    say("flags", flags(s, PATIENCE), "state", state(s))
    say("eof", s.recv(10), s.recv(10))
    attempt("still sends", lambda: s.send(b"more"))
    say("peer got", take(dial(mode="report"), 100))
    s.close()
    # We end first; the peer goes on.
    s = dial(mode="sum")
    s.sendall(b"0123456789" * 1000)
    s.shutdown(socket.SHUT_WR)
    attempt("send after shutdown", lambda: s.send(b"x", socket.MSG_NOSIGNAL))
    say("answer", take(s, 200))
    say("flags", flags(s, PATIENCE), "state", state(s) in (6, 7))
    s.close()
    s = dial(mode="echo")
    s.shutdown(socket.SHUT_RD)
    say("SHUT_RD", s.recv(10), flags(s))
    s.close()


def resets():
    s = dial(mode="reset")
    s.send(b"x")
    say("flags", flags(s, PATIENCE, 0))
    attempt("recv", lambda: s.recv(10))
    attempt("recv again", lambda: s.recv(10))
    attempt("send", lambda: s.send(b"x", socket.MSG_NOSIGNAL))
    # We close with unread bytes: the peer is reset.
    s = dial(mode="told")
    until(lambda: queue(s, termios.FIONREAD) > 0)
    s.close()
    say("peer saw", take(dial(mode="report"), 100))
    s = dial(mode="told")
    s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    take(s, 5)
    s.close()
    say("peer saw", take(dial(mode="report"), 100))


def closes():
    # Closed well: an end, no error.
    s = dial(mode="told")
    take(s, 5)
    s.close()
    say("peer saw", take(dial(mode="report"), 100))
    # Sending to one that has closed: a reset comes back.
    s = dial(mode="gone")
    say("eof", s.recv(10))
    attempt("first send", lambda: s.send(b"x", socket.MSG_NOSIGNAL))
    say("error flags", flags(s, PATIENCE, 0))
    attempt("second send", lambda: s.send(b"x", socket.MSG_NOSIGNAL))


def window():
    # A peer that does not read closes its window; then it reads all.
    s = dial(mode="slow")
    s.setblocking(False)
    sent, h = 0, hashlib.sha256()
    block = bytes(range(256)) * 64
    while True:
        try:
            n = s.send(block)
            h.update(block[:n])
            sent += n
            idle = 0
        except BlockingIOError:
            if flags(s, 700, select.POLLOUT) == "-":
                break
    say("blocked", sent > 60000, "unsent", queue(s, termios.TIOCOUTQ) > 0, flags(s))
    time.sleep(1.5)
    tell("go")
    say("opens", flags(s, PATIENCE, select.POLLOUT))
    s.setblocking(True)
    s.sendall(block * 100)
    h.update(block * 100)
    s.shutdown(socket.SHUT_WR)
    say("hash", take(s, 64).decode() == h.hexdigest())
    s.close()
    # We do not read.
    s = dial(mode="flood")
    say("fills", until(lambda: queue(s, termios.FIONREAD) > 30000))
    time.sleep(1.5)
    h, n = hashlib.sha256(), 0
    while n < 5_000_000:
        part = s.recv(3000 if n < 20000 else 100000)
        h.update(part)
        n += len(part)
    say("flood", n, h.hexdigest() == hashlib.sha256(bytes(range(250)) * 20000).hexdigest(), s.recv(1))
    s.close()


def bulk():
    n = 20_000_000
    data = hashlib.sha256(b"x").digest() * (n // 32)
    s = dial(mode="sum")
    s.sendall(data)
    s.shutdown(socket.SHUT_WR)
    say("up", take(s, 200).decode() == f"{n} {hashlib.sha256(data).hexdigest()}")
    s = dial(mode="flood")
    say("down", hashlib.sha256(take(s, 6_000_000)).hexdigest() == hashlib.sha256(bytes(range(250)) * 20000).hexdigest())


def accepts():
    a = socket.socket(AF)
    a.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    a.bind(("::" if V6 else "0.0.0.0", 6001))
    a.listen(5)
    say("listening", flags(a, 0, select.POLLIN), state(a))
    say("asked", tell("call", OWN, 6001, "hello"))
    say("ready", flags(a, PATIENCE, select.POLLIN))
    c, peer = a.accept()
    say("peer", peer[0] == PEER, "own", c.getsockname()[:2] == (OWN, 6001))
    say("got", take(c, 5), "nodelay", c.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
    c.send(b"world")
    c.close()
    say("peer got", tell("result"))
    attempt("bind again", lambda: socket.socket(AF).bind((OWN, 6001)))
    # A queue that nobody empties holds no more than the backlog and a little.
    b = socket.socket(AF)
    b.bind((OWN, 6002))
    b.listen(1)
    tell("crowd", OWN, 6002, 6)
    flags(b, PATIENCE, select.POLLIN)
    time.sleep(0.5)
    n = 0
    b.setblocking(False)
    try:
        while True:
            b.accept()[0].close()
            n += 1
    except BlockingIOError:
        pass
    say("queue bounded", n in (1, 2, 3))
    a.close()
    answer = tell("call", OWN, 6001, "x")
    say("closed", answer if answer != "-" else tell("result"))
    # Closed by us first: its port stays in TIME_WAIT.
    d = socket.socket(AF)
    d.bind((OWN, 6003))
    d.listen(1)
    tell("call", OWN, 6003, "hello")
    c, _ = d.accept()
    take(c, 5)
    c.shutdown(socket.SHUT_WR)
    say("peer's end", c.recv(10))
    c.close()
    d.close()
    e = socket.socket(AF)
    attempt("TIME_WAIT bind", lambda: e.bind((OWN, 6003)))
    e.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    attempt("with SO_REUSEADDR", lambda: e.bind((OWN, 6003)))
    attempt("listens", lambda: e.listen(1))


def options():
    s = dial(mode="echo")
    for option in (socket.TCP_NODELAY, socket.TCP_CORK):
        s.setsockopt(socket.IPPROTO_TCP, option, 1)
        say("set", option, s.getsockopt(socket.IPPROTO_TCP, option))
    # A cork holds for 200 ms: what took longer is let go by time.
    for _ in range(50):
        began = time.monotonic()
        s.send(b"held")
        time.sleep(0.05)
        seen = flags(s, 0, select.POLLIN)
        if time.monotonic() - began < 0.15:
            break
        take(s, 4)
    say("corked", seen)
    s.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 0)
    say("uncorked", take(s, 4))
    s.send(b"mo", socket.MSG_MORE)
    s.send(b"re")
    say("more", take(s, 4))
    s.settimeout(0.2)
    attempt("timeout", lambda: s.recv(1))
    s.settimeout(None)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", 0, 100_000))
    attempt("SO_RCVTIMEO", lambda: s.recv(1))
    s.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    s.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 1)
    s.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 1)
    s.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 2)
    time.sleep(2.5)
    say("alive", flags(s), s.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE))
    s.send(b"waitall")
    say("waitall", s.recv(7, socket.MSG_WAITALL))
    t = socket.socket(AF)
    say("defaults", [t.getsockopt(socket.IPPROTO_TCP, o) for o in (
        socket.TCP_NODELAY, socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT, socket.TCP_SYNCNT)])


def datagrams():
    port = int(tell("serve", "udp"))
    s = socket.socket(AF, socket.SOCK_DGRAM)
    for size in (0, 1, 1000, 1472) + (() if V6 else (1473, 5000, 30000)):
        s.sendto(bytes(size), (PEER, port))
        data, peer = s.recvfrom(70000)
        say("udp", size, len(data), peer[:2] == (PEER, port))
    s.sendto(b"abcdef", (PEER, port))
    say("cut", s.recvmsg(3)[0], "next", flags(s, 50, select.POLLIN))
    c = socket.socket(AF, socket.SOCK_DGRAM)
    c.connect((PEER, port))
    say("own", c.getsockname()[0] == OWN)
    c.send(b"connected")
    say(c.recv(100))
    r = socket.socket(AF, socket.SOCK_DGRAM)
    r.connect((PEER, 9))
    r.send(b"x")
    say("nobody there", flags(r, PATIENCE, 0))
    attempt("error", lambda: r.recv(1))
    attempt("too long", lambda: s.sendto(bytes(65536), (PEER, port)))
    b = socket.socket(AF, socket.SOCK_DGRAM)
    b.bind((OWN, 6100))
    tell("send", OWN, 6100, "from-afar")
    say("bound", b.recv(100))


def many():
    port = int(tell("serve", "echo"))
    socks = [dial(port) for _ in range(300)]
    e = select.epoll()
    for s in socks:
        e.register(s, select.EPOLLIN)
    for s in socks:
        s.send(b"ping")
    n = 0
    while n < len(socks):
        for fd, bits in e.poll(5):
            n += 1
            e.unregister(fd)
    say("many", n, all(take(s, 4) == b"ping" for s in socks))
    for s in socks:
        s.close()


def main():
    sections = [names, refused, connecting, ends, resets, closes, window, bulk, accepts, options, datagrams, many]
    wanted = sys.argv[3:]
    for f in sections:
        if wanted and f.__name__ not in wanted:
            continue
        say("==", f.__name__)
        f()


main()
