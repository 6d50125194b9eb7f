"""Registers and counters in a SQLite file, over HTTP with kept-alive connections."""
import http.server
import sqlite3
import threading

db = sqlite3.connect("/tmp/lab.db", check_same_thread=False, isolation_level=None)
db.execute("create table if not exists r (key text primary key, value text)")
lock = threading.Lock()


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        _, verb, key, *value = self.path.split("/")
        with lock:
            row = db.execute("select value from r where key = ?", (key,)).fetchone()
            body = row[0] if row else "-"
            if verb != "get":
                new = value[0] if verb == "set" else str(int(body) + int(value[0]))
                db.execute("insert or replace into r values (?, ?)", (key, new))
                body = "OK" if verb == "set" else new
        self.wfile.write(f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode())

    def log_message(self, *args):
        pass


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128


Server(("0.0.0.0", 8080), Handler).serve_forever()
