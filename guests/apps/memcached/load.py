import socket, sys, threading

port = int(sys.argv[1])
bad = []


def client(n):
    s = socket.create_connection(("127.0.0.1", port))
    f = s.makefile("rwb")
    for i in range(1000):
        key, value = f"k{n}:{i % 100}", f"value {n} {i}".encode() * (1 + i % 7)
        f.write(f"set {key} 0 0 {len(value)}\r\n".encode() + value + b"\r\n")
        f.flush()
        if f.readline() != b"STORED\r\n":
            bad.append((n, i, "set"))
        f.write(f"get {key}\r\n".encode())
        f.flush()
        head = f.readline().split()
        got = f.read(int(head[3]) + 2)[:-2]
        f.readline()
        if got != value:
            bad.append((n, i, "get"))
        f.write(b"incr shared 1\r\n")
        f.flush()
        f.readline()
    s.close()


s = socket.create_connection(("127.0.0.1", port))
f = s.makefile("rwb")


def ask(line):
    f.write(line + b"\r\n")
    f.flush()
    return f.readline().decode().strip()


print(ask(b"set shared 0 0 1\r\n0"))
ts = [threading.Thread(target=client, args=(n,)) for n in range(8)]
[t.start() for t in ts]
[t.join() for t in ts]
print("bad", bad[:3])
f.write(b"get shared\r\n")
f.flush()
print([f.readline().strip().decode() for _ in range(3)])
print(ask(b"delete k0:1"), ask(b"delete k0:1"), ask(b"nonsense"))
f.write(b"stats\r\n")
f.flush()
stats = {}
while (line := f.readline().split()) != [b"END"]:
    stats[line[1].decode()] = line[2].decode()
print(stats["threads"], stats["cmd_set"], stats["get_hits"], stats["curr_items"], stats["total_connections"])
