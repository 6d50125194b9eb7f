import collections, datetime, decimal, hashlib, json, os, random, re, struct, tempfile, time, zlib

data = {"numbers": list(range(50)), "nested": {"a": [None, True, 1.5, "text é"]}}
text = json.dumps(data, sort_keys=True)
assert json.loads(text) == data
print(hashlib.sha256(text.encode()).hexdigest())
r = random.Random(42)
print([r.randrange(1000) for _ in range(5)], round(r.gauss(0, 1), 12))
print(collections.Counter("mississippi").most_common(2))
print(decimal.Decimal(1) / decimal.Decimal(7), datetime.date(2020, 2, 29).isoformat())
blob = zlib.compress(bytes(range(256)) * 100)
print(len(zlib.decompress(blob)), re.findall(r"\b\w{5}\b", "these words have fives"))
print(struct.pack("<IhQ", 1, -2, 3).hex())
with tempfile.TemporaryDirectory(dir=".") as d:
    path = os.path.join(d, "f")
    with open(path, "w") as f:
        f.writelines(f"{i}\n" for i in range(10000))
    print(os.path.getsize(path), sum(int(l) for l in open(path)))
    os.symlink("f", os.path.join(d, "l"))
    print(sorted(os.listdir(d)), os.readlink(os.path.join(d, "l")))
print(os.path.exists(d))
start = time.monotonic()
time.sleep(0.01)
assert time.monotonic() - start >= 0.01
for _ in range(1000):
    time.sleep(0)
x = 0
for i in range(2_000_000):
    x = (x * 31 + i) & 0xFFFFFFFF
print(x)
try:
    open("/no/such/file")
except OSError as e:
    print(type(e).__name__, e.errno)
