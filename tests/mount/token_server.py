"""A token server as the distribution specification has it (auth/jwt), in front of a real docker-registry. Its tokens are
signed by a key that it makes, live as long as a test says, and are counted."""

import base64
import http.server
import json
import os
import re
import socketserver
import subprocess
import threading
import time
import urllib.parse

from mount.harness import run

LEEWAY = 60  # seconds for which docker-registry takes a token beyond its end
SERVICE, ISSUER = "registry", "token server of the tests"


def encoded(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *unused):
        pass

    def do_GET(self):
        answer = self.server.owner.answer(self.path, self.headers.get("Authorization", ""))
        body = json.dumps(answer or {"errors": [{"code": "UNAUTHORIZED"}]}).encode()
        self.send_response(200 if answer else 401)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


class _Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
    daemon_threads = True
    request_queue_size = 128


class TokenServer:
    """Gives tokens to `user` with `password` and to nobody else."""

    def __init__(self, folder, user, password):
        os.makedirs(folder, exist_ok=True)
        self.key, self.certificate = folder + "/key.pem", folder + "/cert.pem"
        run("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=tokens", "-keyout",
            self.key, "-out", self.certificate)
        self.basic = "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()
        self.life = 3600  # seconds for which the registry takes the next token
        self.given = []  # tokens, in order
        self.lock = threading.Lock()
        self.server = _Server(("127.0.0.1", 0), _Handler)
        self.server.owner = self
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)
        self.thread.start()

    @property
    def host(self):
        return f"127.0.0.1:{self.server.server_port}"

    def stop(self):
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()

    def config(self, realm):
        """What docker-registry's configuration says of it."""
        return {"token": {"realm": realm, "service": SERVICE, "issuer": ISSUER, "rootcertbundle": self.certificate}}

    def answer(self, path, authorization):
        if authorization != self.basic:
            return None
        query = urllib.parse.parse_qs(urllib.parse.urlsplit(path).query)
        access = [{"type": kind, "name": name, "actions": actions.split(",")}
                  for kind, name, actions in re.findall(r"(\w+):([^:\s]+):([\w,]+)", " ".join(query.get("scope", [])))]
        with self.lock:
            token = self._sign(access)
            self.given.append(token)
        # Who believes the 300 seconds is surprised when the registry does not.
        return {"token": token, "expires_in": 300}

    def _sign(self, access):
        der = subprocess.run(["openssl", "x509", "-in", self.certificate, "-outform", "DER"], capture_output=True, check=True)
        header = {"typ": "JWT", "alg": "RS256", "x5c": [base64.b64encode(der.stdout).decode()]}
        now = int(time.time())
        claims = {"iss": ISSUER, "sub": "test", "aud": SERVICE, "iat": now, "nbf": now - LEEWAY, "exp": now - LEEWAY + self.life,
                  "jti": str(len(self.given)), "access": access}
        text = ".".join(encoded(json.dumps(part).encode()) for part in (header, claims))
        signed = subprocess.run(["openssl", "dgst", "-sha256", "-sign", self.key], input=text.encode(), capture_output=True,
                                check=True)
        return text + "." + encoded(signed.stdout)
