import multiprocessing, os, signal, subprocess, sys


def square(n):
    return n * n


def child(q, n):
    q.put((n, os.getpid() != os.getppid()))


if __name__ == "__main__":
    print(subprocess.run(["echo", "hello"], capture_output=True, text=True).stdout.strip())
    print(subprocess.run("exit 7", shell=True).returncode)
    print(subprocess.run([sys.executable, "-c", "import os; os.kill(os.getpid(), 9)"]).returncode)
    p = subprocess.Popen(["sort", "-n"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    out, _ = p.communicate("\n".join(str(i * 7919 % 1000) for i in range(1000)))
    print(out.split()[:3], len(out.split()))
    try:
        subprocess.run(["sleep", "10"], timeout=0.05)
    except subprocess.TimeoutExpired:
        print("timed out")
    try:
        subprocess.run(["no-such-program"])
    except FileNotFoundError as e:
        print("errno", e.errno)
    print(subprocess.check_output("seq 1 100 | grep 7 | wc -l", shell=True, text=True).strip())
    with multiprocessing.Pool(4) as pool:
        print(sum(pool.map(square, range(1000), chunksize=10)))
    q = multiprocessing.Queue()
    ps = [multiprocessing.Process(target=child, args=(q, n)) for n in range(4)]
    [p.start() for p in ps]
    print(sorted(q.get() for _ in ps))
    [p.join() for p in ps]
    print([p.exitcode for p in ps])
    v = multiprocessing.Value("i", 0)

    def bump(v):
        for _ in range(200):
            with v.get_lock():
                v.value += 1

    ps = [multiprocessing.Process(target=bump, args=(v,)) for _ in range(3)]
    [p.start() for p in ps]
    [p.join() for p in ps]
    print(v.value)
    got = []
    signal.signal(signal.SIGUSR1, lambda s, f: got.append(s))
    os.kill(os.getpid(), signal.SIGUSR1)
    print(got)
    r, w = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.write(w, b"from the child")
        os._exit(5)
    print(os.read(r, 100), os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
