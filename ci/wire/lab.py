"""Two hosts in network namespaces, and what runs on them. Needs no root: run it as `unshare -Urn python3 lab.py ...`.

    lab.py conform [4|6] [relay arguments]     guest.py natively and under ftvm: both must print the same
    lab.py tap                                 the same where `va` is a TAP device on a bridge, without any capability
    lab.py replay                              the same under `ftvm record`, then `ftvm replay`
    lab.py conform-bad, loss, idle, load, flood, stalled, only      see the functions

The image's interface is `va` in this namespace; its far end, with or without the bad link between, is `vb` at 10.0.0.1
and fd00::1 in another one.
"""
import fcntl
import glob
import hashlib
import os
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
FTVM = os.environ.get("FTVM_BIN", "ftvm")
PYTHON = "/usr/bin/python3"
OWN, OWN6, PEER, PEER6 = "10.0.0.100", "fd00::100", "10.0.0.1", "fd00::1"
NET = f"va,ip={OWN}/24,ip={OWN6}/64,gw={PEER}"
# The image's interface is a TAP device.
tap_device = False
# Who starts ftvm.
LESS = ()
started = []


def run(*words, **kw):
    return subprocess.run(words, check=True, **kw)


def start(*words, **kw):
    p = subprocess.Popen(words, **kw)
    started.append(p)
    return p


def up(p):
    """Waits for a helper's word that it is there."""
    if p.stdout.readline().strip() != b"up":
        raise SystemExit("a helper did not start")


class Space:
    """Another network namespace."""

    def __init__(self):
        self.holder = start("unshare", "-n", "cat", stdin=subprocess.PIPE)
        own = os.readlink("/proc/self/ns/net")
        for _ in range(6000):
            if os.readlink(f"/proc/{self.holder.pid}/ns/net") != own:
                break
            time.sleep(0.01)

    def words(self, *words):
        return ("nsenter", "-t", str(self.holder.pid), "-n") + words

    def run(self, *words, **kw):
        return run(*self.words(*words), **kw)

    def start(self, *words, **kw):
        return start(*self.words(*words), **kw)

    def take(self, interface):
        run("ip", "link", "set", interface, "netns", str(self.holder.pid))


def plain(interface, space=None):
    """Whole frames only: no checksum left open, no large segments."""
    code = (
        "import fcntl,socket,struct,ctypes\n"
        "s=socket.socket()\n"
        "for cmd in (0x17,0x19,0x1f,0x24,0x2c):\n"
        "    v=ctypes.create_string_buffer(struct.pack('II',cmd,0))\n"
        "    r=struct.pack('16sP16x',b'%s',ctypes.addressof(v))\n"
        "    try: fcntl.ioctl(s,0x8946,r)\n"
        "    except OSError as e: print('ethtool',hex(cmd),e)\n" % interface)
    words = (PYTHON, "-c", code)
    run(*(space.words(*words) if space else words))


def lab(*relay):
    """Builds both hosts; with `relay` arguments the bad link between them."""
    far = Space()
    run("ip", "link", "set", "lo", "up")
    if tap_device:
        run("ip", "link", "add", "vp", "type", "veth", "peer", "name", "vb")
        run("ip", "tuntap", "add", "dev", "va", "mode", "tap", "user", "0")
        run("ip", "link", "add", "name", "br0", "type", "bridge")
        for i in ("vp", "va"):
            run("ip", "link", "set", i, "master", "br0")
        for i in ("vp", "br0"):
            run("ip", "link", "set", i, "up")
    elif not relay:
        run("ip", "link", "add", "va", "type", "veth", "peer", "name", "vb")
    else:
        middle = Space()
        run("ip", "link", "add", "va", "type", "veth", "peer", "name", "ra")
        run("ip", "link", "add", "vb", "type", "veth", "peer", "name", "rb")
        for i in ("ra", "rb"):
            middle.take(i)
            middle.run("ip", "link", "set", i, "up")
    far.take("vb")
    for words in (("link", "set", "lo", "up"), ("addr", "add", f"{PEER}/24", "dev", "vb"),
                  ("-6", "addr", "add", f"{PEER6}/64", "dev", "vb", "nodad"), ("link", "set", "vb", "up")):
        far.run("ip", *words)
    run("ip", "link", "set", "va", "up")
    if relay:
        plain("va")
        plain("vb", far)
        up(middle.start(PYTHON, f"{HERE}/relay.py", "ra", "rb", *map(str, relay), stdout=subprocess.PIPE))
    return far


def native():
    """The image's addresses become the host's, for comparison: with CUBIC, as the image has."""
    try:
        with open("/proc/sys/net/ipv4/tcp_congestion_control", "w") as f:
            f.write("cubic")
    except OSError as e:
        print("the host's congestion control stays as it is:", e)
    dev = "br0" if tap_device else "va"
    run("ip", "addr", "add", f"{OWN}/24", "dev", dev)
    run("ip", "-6", "addr", "add", f"{OWN6}/64", "dev", dev, "nodad")


def image(*words, **kw):
    if os.environ.get("LAB_NATIVE"):
        native()
        return start(*words, **kw)
    return start(FTVM, "run", "--net", NET, "--", *words, **kw)


def reachable(far, port, host=OWN):
    """Waits until somebody listens."""
    code = ("import socket,sys,time\n"
            "for _ in range(1200):\n"
            "    try: socket.create_connection((sys.argv[1],int(sys.argv[2])),timeout=1).close(); break\n"
            "    except OSError: time.sleep(0.05)\n"
            "else: sys.exit('nobody listens')\n")
    far.run(PYTHON, "-c", code, host, str(port))


def stop(p):
    p.send_signal(signal.SIGTERM)
    return p.wait(60)


def guest_words(version, sections):
    own, peer = (OWN, PEER) if version == "4" else (OWN6, PEER6)
    return [PYTHON, f"{HERE}/guest.py", own, peer, *sections]


def peers(far, version):
    up(far.start(PYTHON, f"{HERE}/peer.py", version, stdout=subprocess.PIPE))


def conform(version="4", *relay):
    sections = os.environ.get("SECTIONS", "").split()
    far = lab(*relay)
    peers(far, version)
    words = guest_words(version, sections)
    ours = run(*LESS, FTVM, "run", "--net", NET, "--", *words, stdout=subprocess.PIPE, timeout=400).stdout.decode()
    # The same address on the host's own stack: another MAC, so that the peer must ask anew.
    far.run("ip", "neigh", "flush", "all")
    native()
    theirs = run(*words, stdout=subprocess.PIPE, timeout=400).stdout.decode()
    differ = [(a, b) for a, b in zip(theirs.splitlines() + [""] * 99, ours.splitlines() + [""] * 99) if a != b]
    for a, b in differ[:20]:
        print(f"native: {a}\n  ftvm: {b}")
    if differ or not theirs.strip().endswith("True"):
        raise SystemExit("not the same as natively")
    print(f"{len(theirs.splitlines())} lines equal")
    return far


def conform_bad(version, *relay):
    """Over a bad link: all but what is about time, and what nobody sends again when it is lost: datagrams, and the
    reset of a connection that has nothing under way."""
    os.environ["SECTIONS"] = "names refused connecting ends closes bulk accepts many"
    conform(version, *relay)


def tap():
    """A TAP device that is the user's: a packet socket and a new device are refused to this one. A takeover goes to another one."""
    global tap_device, LESS
    tap_device, LESS = True, ("setpriv", "--bounding-set=-net_raw,-net_admin", "--inh-caps=-all")
    far = conform("4")
    run("ip", "addr", "flush", "dev", "br0")
    far.run("ip", "neigh", "flush", "all")
    run("ip", "tuntap", "add", "dev", "vc", "mode", "tap", "user", "0")
    run("ip", "link", "set", "vc", "master", "br0", "up")
    with tempfile.TemporaryDirectory() as d:
        def host(name):
            env = {f"XDG_{x}": f"{d}/{name}/{x}" for x in ("RUNTIME_DIR", "DATA_HOME", "STATE_HOME")}
            for p in env.values():
                os.makedirs(p, 0o700)
            return dict(os.environ, **env)
        log, other = open(f"{d}/log", "w"), host("b")
        agent = start(*LESS, FTVM, "agent", "--listen", "127.0.0.1:7100", "--insecure", "--net", "vc", env=other, stderr=log)
        server = start(*LESS, FTVM, "run", "--name", "lab", "--net", NET, "--protect", "127.0.0.1:7100", "--insecure", "--detect-after", "2s",
                       "--arbiter", f"file:{d}/register", "--", PYTHON, "-c", ECHO, env=host("a"), start_new_session=True)
        client = far.start(PYTHON, "-c", TALK, OWN, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        up(client)
        os.killpg(server.pid, signal.SIGKILL)
        client.communicate(b"go on\n", timeout=120)
        # It outlives the agent.
        subprocess.run((FTVM, "kill", "-s", "KILL", "lab"), env=other)
        agent.terminate()
        agent.wait(60)
        log.close()
        said = "".join(open(f, errors="replace").read() for f in [f"{d}/log", *glob.glob(f"{d}/b/*/ftvm/*/log")])
    if client.returncode != 0 or "live after" not in said:
        raise SystemExit(f"the connection did not go on: {client.returncode}\n{said}")
    print("a connection went on behind another TAP device")


ECHO = """
import socket
s = socket.create_server(("0.0.0.0", 9000))
while True:
    c, _ = s.accept()
    while d := c.recv(100):
        c.sendall(d)
    c.close()
"""
TALK = """
import socket, sys, time
while True:
    try:
        s = socket.create_connection((sys.argv[1], 9000), timeout=60)
        break
    except OSError:
        time.sleep(0.05)
def talk(n):
    for i in range(n):
        s.sendall(b"%d" % i)
        assert s.recv(100) == b"%d" % i
talk(100)
print("up", flush=True)
sys.stdin.readline()
talk(100)
"""


def only(where, version="4", *relay):
    """The guest alone, for a look: `native` or `ftvm`."""
    far = lab(*relay)
    peers(far, version)
    words = guest_words(version, os.environ.get("SECTIONS", "").split())
    if where == "ftvm":
        run(FTVM, "run", "--net", NET, "--", *words)
    else:
        native()
        run(*words)


def replay():
    far = lab()
    peers(far, "4")
    with tempfile.TemporaryDirectory() as d:
        words = guest_words("4", ["names", "ends", "resets", "closes", "bulk", "datagrams"])
        live = run(FTVM, "record", "-o", f"{d}/log", "--net", NET, "--", *words, stdout=subprocess.PIPE).stdout
        again = run(FTVM, "replay", f"{d}/log", stdout=subprocess.PIPE).stdout
        if live != again or not live:
            raise SystemExit("the replay printed something else")
    print("replayed, every frame equal")


NGINX = """user root root; worker_processes 1; daemon off; master_process off; error_log stderr crit; pid {d}/pid;
events {{ worker_connections 4000; }}
http {{ access_log off; sendfile on; tcp_nopush on; keepalive_requests 10000000; client_body_temp_path {d}/b;
 proxy_temp_path {d}/p; fastcgi_temp_path {d}/f; uwsgi_temp_path {d}/u; scgi_temp_path {d}/s;
 server {{ listen {own}:80 backlog=1000; root {d}; }} }}
"""


def nginx(d):
    with open(f"{d}/conf", "w") as f:
        f.write(NGINX.format(d=d, own=OWN))
    return image("nginx", "-c", f"{d}/conf")


def loss(size="60000000", *relay):
    """A large download and an upload with a hash check over a bad link."""
    relay = relay or ("7", "10", "5", "20", "200")
    far = lab(*relay)
    with tempfile.TemporaryDirectory() as d:
        os.chmod(d, 0o755)
        data = hashlib.sha256(b"seed").digest() * (int(size) // 32)
        with open(f"{d}/big", "wb") as f:
            f.write(data)
        server = nginx(d)
        reachable(far, 80)
        began = time.monotonic()
        got = far.run("curl", "-sS", "--max-time", "300", f"http://{OWN}/big", stdout=subprocess.PIPE).stdout
        took = time.monotonic() - began
        if hashlib.sha256(got).digest() != hashlib.sha256(data).digest():
            raise SystemExit(f"{len(got)} of {len(data)} bytes, or others")
        stop(server)
        peers(far, "4")
        out = run(FTVM, "run", "--net", NET, "--", *guest_words("4", ["bulk", "window"]), stdout=subprocess.PIPE).stdout
        if b"False" in out:
            raise SystemExit(out.decode())
    print(f"{len(data)} bytes down in {took:.1f} s")


def idle(count="2000"):
    """Many idle connections; then each one still answers."""
    far = lab()
    server = image("memcached", "-u", "root", "-l", OWN, "-c", "12000")
    reachable(far, 11211)
    code = (
        "import socket,sys,time,resource\n"
        "n=int(sys.argv[2]); resource.setrlimit(resource.RLIMIT_NOFILE,(n+100,n+100))\n"
        "s=[socket.create_connection((sys.argv[1],11211)) for _ in range(n)]\n"
        "time.sleep(2)\n"
        "for i,c in enumerate(s): c.sendall(b'set k%d 0 0 1\\r\\nx\\r\\n'%i)\n"
        "assert all(c.recv(100)==b'STORED\\r\\n' for c in s)\n"
        "t=time.monotonic()\n"
        "for i in range(2000): s[i%7].sendall(b'get k1\\r\\n'); assert b'END' in s[i%7].recv(100)\n"
        "print('%d idle connections, %.0f us a request beside them'%(n,(time.monotonic()-t)/2000*1e6))\n")
    far.run(PYTHON, "-c", code, OWN, count)
    if stop(server) != 0:
        raise SystemExit("the server's end")


def load():
    """The usual load generators: no error, no lost request."""
    far = lab()
    def checked(*words):
        out = far.run(*words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT).stdout.decode()
        bad = [w for w in ("Socket errors", "Non-2xx", "Error", "error:") if w in out]
        if bad:
            raise SystemExit(out)
        return out
    server = image("redis-server", "--save", "", "--protected-mode", "no", "--bind", OWN, stdout=subprocess.DEVNULL)
    reachable(far, 6379)
    for words in (("-c", "1", "-n", "3000"), ("-c", "64", "-n", "30000"), ("-c", "50", "-P", "16", "-n", "100000"),
                  ("-c", "10", "-d", "100000", "-n", "2000")):
        checked("redis-benchmark", "-h", OWN, "-t", "set,get", "-q", *words)
    stop(server)
    with tempfile.TemporaryDirectory() as d:
        os.chmod(d, 0o755)
        with open(f"{d}/index.html", "w") as f:
            f.write("x" * 612)
        server = nginx(d)
        reachable(far, 80)
        checked("wrk", "-t1", "-c64", "-d2", "--timeout", "60s", f"http://{OWN}/index.html")
        checked("wrk", "-t1", "-c64", "-d2", "--timeout", "60s", "-H", "Connection: close", f"http://{OWN}/index.html")
        stop(server)
    print("redis and nginx under load, no error")


def flood(count="20000"):
    """SYNs that nobody completes: those who do are still served, and no host kernel answers for the image."""
    far = lab()
    server = image("memcached", "-u", "root", "-l", OWN)
    reachable(far, 11211)
    mac = open("/sys/class/net/va/address").read() if os.path.exists("/sys/class/net/va") else ""
    code = (
        "import socket,struct,sys,random\n"
        "own,n=sys.argv[1],int(sys.argv[2])\n"
        "def csum(b):\n"
        "    s=sum(struct.unpack('!%dH'%(len(b)//2),b)); s=(s>>16)+(s&65535); return ~(s+(s>>16))&65535\n"
        "raw=socket.socket(socket.AF_INET,socket.SOCK_RAW,socket.IPPROTO_RAW)\n"
        "dst=socket.inet_aton(own); r=random.Random(1)\n"
        "for i in range(n):\n"
        "    src=socket.inet_aton('10.0.0.%d'%r.randrange(150,250)); sport=r.randrange(1024,65535)\n"
        "    t=struct.pack('!HHIIBBHHH',sport,11211,r.getrandbits(32),0,0x50,2,64240,0,0)\n"
        "    c=csum(src+dst+struct.pack('!BBH',0,6,len(t))+t); t=t[:16]+struct.pack('!H',c)+t[18:]\n"
        "    raw.sendto(struct.pack('!BBHHHBBH4s4s',0x45,0,40,0,0,64,6,0,src,dst)+t,(own,0))\n"
        "    if i%2000==0:\n"
        "        s=socket.create_connection((own,11211),timeout=60); s.sendall(b'version\\r\\n'); assert b'VERSION' in s.recv(99)\n"
        "print(n,'SYNs, every honest client served')\n")
    far.run(PYTHON, "-c", code, OWN, count)
    if stop(server) != 0:
        raise SystemExit("the server's end")


WRITER = """
import socket, sys, threading
s = socket.create_server(("0.0.0.0", 9000))
met = threading.Event()
def serve():
    while True:
        c, _ = s.accept()
        met.set()
        while d := c.recv(100):
            c.sendall(d)
threading.Thread(target=serve, daemon=True).start()
# The first packet leaves once there is a backup; what is printed before that has more room.
met.wait()
for i in range(300000):
    sys.stdout.write("line %d\\n" % i)
"""


def stalled():
    """A protected image whose stdout nobody reads for a while goes on serving, is not accused, and loses nothing."""
    far = lab()
    with tempfile.TemporaryDirectory() as d:
        os.chmod(d, 0o755)
        env = dict(os.environ, XDG_RUNTIME_DIR=f"{d}/run", XDG_DATA_HOME=f"{d}/data", XDG_STATE_HOME=f"{d}/state")
        os.mkdir(f"{d}/run", 0o700)
        with open(f"{d}/agent", "w") as log:
            agent = start(FTVM, "agent", "--listen", "127.0.0.1:7100", "--insecure", "--net", "va", env=env, stderr=log)
        server = start(FTVM, "run", "--name", "lab", "--net", NET, "--protect", "127.0.0.1:7100", "--insecure", "--detect-after", "10s",
                       "--arbiter", f"file:{d}/register", "--", PYTHON, "-c", WRITER, env=env, stdout=subprocess.PIPE)
        reachable(far, 9000)
        code = (
            "import socket,sys\n"
            "s=socket.create_connection((sys.argv[1],9000),timeout=60)\n"
            "for i in range(300): s.sendall(b'%d'%i); assert s.recv(100)==b'%d'%i\n")
        far.run(PYTHON, "-c", code, OWN)
        status = run(FTVM, "status", "lab", "--json", env=env, stdout=subprocess.PIPE).stdout.decode()
        out, _ = server.communicate(timeout=120)
        agent.terminate()
        agent.wait(60)
        log = open(f"{d}/agent").read()
    if '"protected":true' not in status or "taking over" in log:
        raise SystemExit(f"{status}\n{log}")
    if out != b"".join(b"line %d\n" % i for i in range(300000)) or server.returncode != 0:
        raise SystemExit(f"{len(out)} bytes, exit code {server.returncode}")
    print("300 answers while nobody read stdout; then all of it")


def main():
    scenarios = {f.__name__: f for f in (conform, conform_bad, tap, only, replay, loss, idle, load, flood, stalled)}
    try:
        scenarios[sys.argv[1].replace("-", "_")](*sys.argv[2:])
    finally:
        for p in reversed(started):
            if p.poll() is None:
                p.kill()
                p.wait()


main()
