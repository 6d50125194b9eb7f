import asyncio, socket, threading, urllib.request
from http.server import BaseHTTPRequestHandler, HTTPServer


async def handle(reader, writer):
    while line := await reader.readline():
        writer.write(line.upper())
        await writer.drain()
    writer.close()


async def client(port, n):
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    total = 0
    for i in range(20):
        writer.write(f"client {n} line {i}\n".encode())
        await writer.drain()
        total += len(await reader.readline())
    writer.close()
    await writer.wait_closed()
    return total


async def main():
    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    print(sum(await asyncio.gather(*(client(port, n) for n in range(30)))))
    proc = await asyncio.create_subprocess_exec("cat", stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE)
    out, _ = await proc.communicate(b"through cat")
    print(out, proc.returncode)
    try:
        await asyncio.wait_for(asyncio.sleep(10), 0.02)
    except asyncio.TimeoutError:
        print("timed out")
    loop = asyncio.get_running_loop()
    print(await loop.run_in_executor(None, lambda: sum(range(1000))))
    server.close()


asyncio.run(main())


class H(BaseHTTPRequestHandler):
    def do_GET(self):
        body = f"you asked for {self.path}".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *a):
        pass


httpd = HTTPServer(("127.0.0.1", 0), H)
t = threading.Thread(target=httpd.serve_forever)
t.start()
for i in range(5):
    with urllib.request.urlopen(f"http://127.0.0.1:{httpd.server_port}/p{i}") as r:
        print(r.status, r.read().decode())
httpd.shutdown()
t.join()
a, b = socket.socketpair()
threading.Thread(target=a.sendall, args=(b"x" * 200000,)).start()
n = 0
while n < 200000:
    n += len(b.recv(65536))
print(n)
try:
    socket.create_connection(("127.0.0.1", 1), timeout=2)
except OSError as e:
    print(type(e).__name__)
