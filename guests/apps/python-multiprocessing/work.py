"""Every part of multiprocessing in one of its three ways to start processes. What is printed does not depend on timing."""

import concurrent.futures
import multiprocessing
import os
import signal
import sys
import time
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import connection, managers, shared_memory


def square(n):
    return n * n


def slow_square(n):
    time.sleep(0.001)
    return n * n


def fail(n):
    raise ValueError(f"on purpose {n}")


def die(n):
    os.kill(os.getpid(), signal.SIGKILL)


def consume(todo, done):
    while (item := todo.get()) is not None:
        done.put((item, square(item)))
        todo.task_done()
    todo.task_done()


def write_shared(name, at, n):
    block = shared_memory.SharedMemory(name=name)
    block.buf[at : at + n] = bytes([at % 251]) * n
    block.close()


def use_manager(d, lst, lock, ns, n):
    for i in range(10):
        with lock:
            d["sum"] = d.get("sum", 0) + n
            lst.append(n)
            ns.count += 1


def meet(barrier, event, counter, cond):
    barrier.wait()
    event.wait()
    with cond:
        counter.value += 1
        cond.notify_all()


def take(semaphore, most, inside):
    for _ in range(20):
        with semaphore:
            with inside.get_lock():
                inside.value += 1
                most.value = max(most.value, inside.value)
            with inside.get_lock():
                inside.value -= 1


def serve(pipe):
    while True:
        what = pipe.recv()
        if what is None:
            break
        pipe.send(what[::-1])
    pipe.close()


def listen(family, ready):
    with connection.Listener(family=family, authkey=b"key") as listener:
        ready.send(listener.address)
        with listener.accept() as c:
            c.send(sum(c.recv()))


def initialise(value):
    global given
    given = value


def use_given(n):
    return given + n


def main(how):
    ctx = multiprocessing.get_context(how)
    with ctx.Pool(4) as pool:
        print("map", sum(pool.map(slow_square, range(200))))
        print("starmap", pool.starmap(pow, [(2, 5), (3, 2)]))
        print("unordered", sorted(pool.imap_unordered(slow_square, range(50), 3))[-1])
        waiting = [pool.apply_async(square, (n,)) for n in range(20)]
        print("async", [w.get(60) for w in waiting][-3:])
        try:
            pool.map(fail, [3])
        except ValueError as e:
            print("raised", e)
        try:
            pool.apply_async(time.sleep, (100,)).get(0.05)
        except multiprocessing.TimeoutError:
            print("timed out")
    with ctx.Pool(2, initialise, (1000,), maxtasksperchild=3) as pool:
        print("short lived", sum(pool.map(use_given, range(30), 1)))

    todo, done = ctx.JoinableQueue(), ctx.Queue()
    workers = [ctx.Process(target=consume, args=(todo, done)) for _ in range(3)]
    [w.start() for w in workers]
    for n in range(100):
        todo.put(n)
    for _ in workers:
        todo.put(None)
    todo.join()
    print("queue", sum(square for _, square in (done.get() for _ in range(100))))
    [w.join() for w in workers]
    print("codes", [w.exitcode for w in workers])

    block = shared_memory.SharedMemory(create=True, size=1 << 20)
    workers = [ctx.Process(target=write_shared, args=(block.name, n << 18, 1 << 18)) for n in range(4)]
    [w.start() for w in workers]
    [w.join() for w in workers]
    print("shared", sum(block.buf), [w.exitcode for w in workers])
    block.close()
    block.unlink()
    try:
        shared_memory.SharedMemory(name=block.name)
    except FileNotFoundError:
        print("unlinked")
    with managers.SharedMemoryManager() as smm:
        numbers = smm.ShareableList(range(10))
        numbers[3] = 33
        name = numbers.shm.name
        print("list", sum(numbers))
    try:
        shared_memory.SharedMemory(name=name)
    except FileNotFoundError:
        print("list unlinked")

    with ctx.Manager() as manager:
        d, lst, lock, ns = manager.dict(), manager.list(), manager.Lock(), manager.Namespace()
        ns.count = 0
        workers = [ctx.Process(target=use_manager, args=(d, lst, lock, ns, n)) for n in range(1, 5)]
        [w.start() for w in workers]
        [w.join() for w in workers]
        print("manager", dict(d), sorted(lst)[::10], ns.count)

    barrier, event, cond = ctx.Barrier(4), ctx.Event(), ctx.Condition()
    counter = ctx.Value("i", 0, lock=False)
    workers = [ctx.Process(target=meet, args=(barrier, event, counter, cond)) for _ in range(3)]
    [w.start() for w in workers]
    barrier.wait()
    print("all met", counter.value)
    event.set()
    with cond:
        print("condition", cond.wait_for(lambda: counter.value == 3, 60))
    [w.join() for w in workers]

    semaphore, most, inside = ctx.BoundedSemaphore(2), ctx.Value("i", 0), ctx.Value("i", 0)
    workers = [ctx.Process(target=take, args=(semaphore, most, inside)) for _ in range(4)]
    [w.start() for w in workers]
    [w.join() for w in workers]
    print("semaphore", 1 <= most.value <= 2, inside.value)

    ours, theirs = ctx.Pipe()
    worker = ctx.Process(target=serve, args=(theirs,))
    worker.start()
    theirs.close()
    for text in ("abc", "x" * 200_000):
        ours.send(text)
        print("pipe", len(ours.recv()))
    ours.send(None)
    worker.join()
    try:
        ours.recv()
    except EOFError:
        print("end of file")
    for family in ("AF_UNIX", "AF_INET"):
        ours, theirs = ctx.Pipe()
        worker = ctx.Process(target=listen, args=(family, theirs))
        worker.start()
        with connection.Client(ours.recv(), authkey=b"key") as c:
            c.send(list(range(100)))
            print(family, c.recv())
        worker.join()

    worker = ctx.Process(target=time.sleep, args=(100,))
    worker.start()
    print("alive", worker.is_alive())
    worker.terminate()
    connection.wait([worker.sentinel], 60)
    worker.join()
    print("terminated", worker.exitcode)
    worker = ctx.Process(target=die, args=(0,))
    worker.start()
    worker.join()
    print("died", worker.exitcode)

    with concurrent.futures.ProcessPoolExecutor(3, mp_context=ctx) as executor:
        print("executor", sum(executor.map(square, range(100), chunksize=7)))
        futures = [executor.submit(square, n) for n in range(10)]
        print("completed", sorted(f.result() for f in concurrent.futures.as_completed(futures))[-1])
    try:
        with concurrent.futures.ProcessPoolExecutor(2, mp_context=ctx) as executor:
            executor.submit(die, 1).result()
    except BrokenProcessPool:
        print("broken pool")


if __name__ == "__main__":
    main(sys.argv[1])
