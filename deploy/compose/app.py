"""A demo app: counts the events that reach it and says what it was told about each."""

import http.server

seen = 0


class App(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.answer(f"{seen} events\n")

    def do_POST(self):
        global seen
        seen += 1
        self.rfile.read(int(self.headers["Content-Length"]))
        facts = ["Source", "Event-Type", "Provider-Id", "Event-Id", "Verified"]
        print(seen, *(self.headers.get(f"Gatepost-{fact}") for fact in facts), flush=True)
        self.answer("ok\n")

    def answer(self, text):
        self.send_response(200)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_):
        pass


http.server.ThreadingHTTPServer(("", 3000), App).serve_forever()
