"""A local receiver of messages: what Apprise's `json://` posts to it is kept."""

import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from queue import Queue


@contextmanager
def receiver(status=200):
    """Yield the URL to send to, and the queue of what arrived."""
    messages = Queue()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            messages.put(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *arguments):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"json://127.0.0.1:{server.server_port}/", messages
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
