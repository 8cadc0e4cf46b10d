"""A reverse proxy in front of a registry that counts requests and bytes and, where asked, behaves badly.

It forwards one request at a time per connection, from as many connections as come. Faults are functions of the request;
they are changed while it runs.
"""

import http.client
import http.server
import json
import socket
import threading
import time
import urllib.parse


class Record:
    """One request that came, and what went back."""

    def __init__(self, method, path, byte_range):
        self.method, self.path, self.byte_range = method, path, byte_range
        self.status = 0
        self.sent = 0  # body bytes given to the client's socket

    def __repr__(self):
        return f"{self.method} {self.path} {self.byte_range or ''} -> {self.status}, {self.sent} bytes"


class Fault:
    """What to do to requests whose path holds `where` (and, with ranged=True/False, only those with/without a range).

    corrupt     flips a byte in the middle of the body
    truncate    ends the connection after half of the body
    shorten     answers with half of the body as if that were all
    hang        accepts the request and answers nothing until the fault is removed
    refuse      closes the connection without an answer
    status      answers this status code with an empty body
    delay       seconds before the answer
    rate        bytes of the body per second
    stop_after  with hang: body bytes to send before it hangs
    """

    def __init__(self, where, ranged=None, **what):
        self.where, self.ranged = where, ranged
        self.corrupt = what.pop("corrupt", False)
        self.truncate = what.pop("truncate", False)
        self.shorten = what.pop("shorten", False)
        self.hang = what.pop("hang", False)
        self.refuse = what.pop("refuse", False)
        self.status = what.pop("status", 0)
        self.delay = what.pop("delay", 0)
        self.rate = what.pop("rate", 0)
        self.stop_after = what.pop("stop_after", 0)
        if what:
            raise TypeError(f"unknown faults {sorted(what)}")
        self.removed = threading.Event()

    def fits(self, path, byte_range):
        return self.where in path and (self.ranged is None or self.ranged == bool(byte_range))


class _Hang(Exception):
    pass


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 120

    def log_message(self, *unused):
        pass

    def do_GET(self):
        proxy = self.server.proxy
        record = Record(self.command, self.path, self.headers.get("Range"))
        proxy.add(record)
        fault = proxy.fault_for(self.path, record.byte_range) or Fault("")
        try:
            self._answer(record, fault)
        except (_Hang, BrokenPipeError, ConnectionError, TimeoutError):
            self.close_connection = True

    do_HEAD = do_GET

    def _answer(self, record, fault):
        if fault.delay:
            fault.removed.wait(fault.delay)
        if fault.hang and not fault.stop_after:
            fault.removed.wait()
            raise _Hang
        if fault.refuse:
            # A reset, not an orderly end.
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            raise _Hang
        if fault.status:
            record.status = fault.status
            self.send_response(fault.status)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self._forward(record, fault)

    def _forward(self, record, fault):
        upstream = http.client.HTTPConnection(self.server.proxy.upstream, timeout=60)
        try:
            headers = {k: v for k, v in self.headers.items() if k.lower() not in ("connection", "keep-alive")}
            upstream.request(self.command, self.path, headers=headers)
            answer = upstream.getresponse()
            record.status = answer.status
            if self.server.proxy.page_size and "/tags/list" in self.path and answer.status == 200:
                self._send_page(record, json.loads(answer.read()), self.server.proxy.page_size)
                return
            self.send_response(answer.status)
            length = int(answer.headers.get("Content-Length") or 0)
            if fault.shorten:
                length //= 2
                answer.headers.replace_header("Content-Length", str(length))
            for name, value in answer.getheaders():
                if name.lower() not in ("connection", "transfer-encoding", "date", "server"):
                    self.send_header(name, value)
            if answer.headers.get("Content-Length") is None and self.command != "HEAD":
                self.send_header("Connection", "close")
            self.end_headers()
            if self.command != "HEAD":
                self._send_body(record, fault, answer, length)
        finally:
            upstream.close()

    def _send_page(self, record, listing, size):
        """As the specification has it: what comes after `last`, and a Link where there is more."""
        url = urllib.parse.urlsplit(self.path)
        last = urllib.parse.parse_qs(url.query).get("last", [""])[0]
        tags = sorted(tag for tag in listing["tags"] if tag > last)
        body = json.dumps(dict(listing, tags=tags[:size])).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        if len(tags) > size:
            query = urllib.parse.urlencode({"n": size, "last": tags[size - 1]})
            self.send_header("Link", f'<{url.path}?{query}>; rel="next"')
        self.end_headers()
        record.sent += len(body)
        self.wfile.write(body)

    def _send_body(self, record, fault, answer, length):
        while piece := answer.read(min(65536, fault.rate // 20 or 65536)):
            start = record.sent
            if fault.shorten:
                piece = piece[:length - start]
            if fault.corrupt and start <= length // 2 < start + len(piece):
                piece = bytearray(piece)
                piece[length // 2 - start] ^= 0x55
            if fault.truncate and start + len(piece) > length // 2:
                self.wfile.write(piece[:length // 2 - start])
                raise _Hang
            if fault.hang and start + len(piece) > fault.stop_after:
                fault.removed.wait()
                raise _Hang
            record.sent += len(piece)  # before the client can see them, so that it finds them counted
            self.wfile.write(piece)
            if fault.rate:
                time.sleep(len(piece) / fault.rate)


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request, client_address):
        pass  # clients that are killed by tests


class Proxy:
    """Listens on a free port of loopback from the start. A different `upstream` may be set at any time."""

    def __init__(self, upstream):
        self.upstream = upstream
        self.page_size = 0  # of tag lists; docker-registry 2 gives them whole
        self._lock = threading.Lock()
        self._records = []
        self._faults = []
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.proxy = self
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    @property
    def host(self):
        return f"127.0.0.1:{self.port}"

    def stop(self):
        self.heal()
        self._server.shutdown()
        self._server.server_close()

    # --- what came ----------------------------------------------------------------------------------
    def add(self, record):
        with self._lock:
            self._records.append(record)

    def forget(self):
        """Counts from zero."""
        with self._lock:
            self._records.clear()

    def records(self, where=""):
        with self._lock:
            return [record for record in self._records if where in record.path]

    def gets(self, where):
        return [record for record in self.records(where) if record.method == "GET"]

    def bytes_sent(self, where):
        return sum(record.sent for record in self.gets(where))

    # --- faults -------------------------------------------------------------------------------------
    def fail(self, where, **what):
        """Adds a fault; the latest that fits a request counts."""
        fault = Fault(where, **what)
        with self._lock:
            self._faults.insert(0, fault)
        return fault

    def heal(self):
        """Removes all faults; what hangs goes on to end."""
        with self._lock:
            faults, self._faults = self._faults, []
        for fault in faults:
            fault.removed.set()

    def fault_for(self, path, byte_range):
        with self._lock:
            return next((fault for fault in self._faults if fault.fits(path, byte_range)), None)
