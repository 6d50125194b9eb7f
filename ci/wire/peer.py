"""The far side of guest.py: the host's own TCP, doing what the guest asks for by its control connection."""
import hashlib
import socket
import struct
import sys
import threading
import time

V6 = sys.argv[1] == "6"
AF = socket.AF_INET6 if V6 else socket.AF_INET
go = threading.Event()
report = [""]
result = [""]
gathered = threading.Event()


def echo(c):
    while data := c.recv(65536):
        c.sendall(data)


def bye(c):
    gathered.clear()
    c.sendall(b"good bye")
    c.shutdown(socket.SHUT_WR)
    data = b""
    while part := c.recv(1000):
        data += part
        report[0] = data.decode()
        gathered.set()


def summed(c):
    h, n = hashlib.sha256(), 0
    while data := c.recv(1 << 20):
        h.update(data)
        n += len(data)
    c.sendall(f"{n} {h.hexdigest()}".encode())


def reset(c):
    c.recv(1)
    c.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def told(c):
    gathered.clear()
    c.sendall(b"bytes")
    try:
        report[0] = "end" if c.recv(10) == b"" else "bytes"
    except OSError as e:
        report[0] = type(e).__name__
    gathered.set()


def reported(c):
    gathered.wait(20)
    c.sendall(report[0].encode())


def slow(c):
    go.clear()
    go.wait(30)
    h = hashlib.sha256()
    while data := c.recv(1 << 20):
        h.update(data)
    c.sendall(h.hexdigest().encode())


def flood(c):
    c.sendall(bytes(range(250)) * 20000)


MODES = {"echo": echo, "bye": bye, "sum": summed, "reset": reset, "told": told, "report": reported, "slow": slow,
         "flood": flood, "gone": lambda c: None}


def serve(mode):
    if mode == "udp":
        u = socket.socket(AF, socket.SOCK_DGRAM)
        u.bind(("", 0))

        def loop():
            while True:
                data, who = u.recvfrom(70000)
                u.sendto(data, who)
        threading.Thread(target=loop, daemon=True).start()
        return u.getsockname()[1]
    s = socket.socket(AF)
    if mode == "slow":
        s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
    s.bind(("", 0))
    s.listen(500)

    def one(c):
        try:
            MODES[mode](c)
        except OSError:
            pass
        c.close()

    def loop():
        while True:
            c, _ = s.accept()
            threading.Thread(target=one, args=(c,), daemon=True).start()
    threading.Thread(target=loop, daemon=True).start()
    return s.getsockname()[1]


crowd = []


def call(host, port, text):
    try:
        with socket.create_connection((host, port), timeout=10) as s:
            s.sendall(text.encode())
            result[0] = s.makefile().read()
    except OSError as e:
        result[0] = type(e).__name__


def command(words):
    match words:
        case ["serve", mode]:
            return serve(mode)
        case ["go"]:
            go.set()
            return "gone"
        case ["call", host, port, text]:
            result[0] = "-"
            t = threading.Thread(target=call, args=(host, int(port), text), daemon=True)
            t.start()
            t.join(0.3)
            return result[0]
        case ["result"]:
            end = time.monotonic() + 20
            while result[0] == "-" and time.monotonic() < end:
                time.sleep(0.01)
            return result[0]
        case ["crowd", host, port, n]:
            for _ in range(int(n)):
                s = socket.socket(AF)
                s.setblocking(False)
                s.connect_ex((host, int(port)))
                crowd.append(s)
            return "there"
        case ["send", host, port, text]:
            socket.socket(AF, socket.SOCK_DGRAM).sendto(text.encode(), (host, int(port)))
            return "sent"
    return "what?"


def main():
    control = socket.socket(AF)
    control.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    control.bind(("", 7000))
    control.listen(50)
    print("up", flush=True)
    while True:
        c, _ = control.accept()
        with c:
            line = c.makefile().readline().split()
            c.sendall(f"{command(line)}\n".encode())


main()
