import queue, threading, time
from concurrent.futures import ThreadPoolExecutor

counter, lock = 0, threading.Lock()


def add():
    global counter
    for _ in range(20000):
        with lock:
            counter += 1


ts = [threading.Thread(target=add) for _ in range(4)]
[t.start() for t in ts]
[t.join() for t in ts]
print(counter)
with ThreadPoolExecutor(8) as pool:
    print(sum(pool.map(lambda n: n * n, range(2000))))
q, out = queue.Queue(10), []


def worker():
    while (item := q.get()) is not None:
        out.append(item * 2)


t = threading.Thread(target=worker)
t.start()
for i in range(500):
    q.put(i)
q.put(None)
t.join()
print(sum(out))
done = threading.Event()
timer = threading.Timer(0.02, done.set)
timer.start()
print(done.wait(10))
barrier = threading.Barrier(5)
hits = []
ts = [threading.Thread(target=lambda: hits.append(barrier.wait())) for _ in range(5)]
[t.start() for t in ts]
[t.join() for t in ts]
print(sorted(hits))
flag = False


def setter():
    global flag
    time.sleep(0.01)
    flag = True


threading.Thread(target=setter).start()
while not flag:
    time.sleep(0)
print("flag seen")
