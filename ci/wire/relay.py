"""A link between two interfaces of this network namespace that loses, repeats, reorders and delays frames by a seed.

    relay.py IF1 IF2 SEED LOSS TWICE LATE DELAY_US      (in parts of 1000; LATE frames wait eight times as long)

Both far ends must send whole frames: checksums filled in, no large segments (lab.plain does that).
"""
import heapq
import random
import select
import socket
import sys
import time


def main():
    names, (seed, loss, twice, late, delay) = sys.argv[1:3], map(int, sys.argv[3:8])
    rng = random.Random(seed)
    socks = []
    for name in names:
        s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        s.setsockopt(263, 23, 1)  # PACKET_IGNORE_OUTGOING
        s.setsockopt(263, 1, socket.if_nametoindex(name).to_bytes(4, "little") + b"\1\0\0\0" + bytes(8))  # promiscuous
        s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        s.bind((name, 3))
        s.setblocking(False)
        socks.append(s)
    poll = select.poll()
    for s in socks:
        poll.register(s, select.POLLIN)
    other = {socks[0].fileno(): (socks[0], socks[1]), socks[1].fileno(): (socks[1], socks[0])}
    waiting, serial = [], 0

    def send(to, frame):
        try:
            to.send(frame)
        except OSError:
            pass

    print("up", flush=True)
    while True:
        now = time.monotonic()
        while waiting and waiting[0][0] <= now:
            _, _, to, frame = heapq.heappop(waiting)
            send(to, frame)
        timeout = None if not waiting else max(0, (waiting[0][0] - now) * 1000)
        for fd, _ in poll.poll(timeout):
            source, to = other[fd]
            for _ in range(64):
                try:
                    frame = source.recv(70000)
                except OSError:
                    break
                if rng.randrange(1000) < loss:
                    continue
                wait = delay * (8 if rng.randrange(1000) < late else 1)
                for _ in range(2 if rng.randrange(1000) < twice else 1):
                    if wait == 0:
                        send(to, frame)
                    else:
                        serial += 1
                        heapq.heappush(waiting, (time.monotonic() + wait / 1e6, serial, to, frame))
                    wait = wait * 2


main()
