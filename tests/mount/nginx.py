"""nginx on loopback, as a mirror in front of a registry or as the place that a registry sends its readers to."""

import json
import os
import socket

from mount.harness import start_child, wait_until

CONFIG = """
daemon off;
master_process off;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{ worker_connections 256; }}
http {{
  log_format seen escape=json '{{"method":"$request_method","uri":"$request_uri","status":$status,'
    '"authorization":"$http_authorization","range":"$http_range","key":"$http_x_key"}}';
  access_log {folder}/access.log seen;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  server {{
    listen 127.0.0.1:{port};
    {server}
  }}
}}
"""


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


class Nginx:
    """`server`: what its server block says. Its log tells what it was asked and whether credentials came along."""

    def __init__(self, folder, server, port=None):
        os.makedirs(folder, exist_ok=True)
        self.folder = folder
        self.process = None
        self.port = port or free_port()
        with open(folder + "/nginx.conf", "w", encoding="utf-8") as file:
            file.write(CONFIG.format(folder=folder, port=self.port, server=server))

    @property
    def host(self):
        return f"127.0.0.1:{self.port}"

    def start(self):
        with open(self.folder + "/stderr", "wb") as log:
            self.process = start_child("nginx", "-p", self.folder, "-c", self.folder + "/nginx.conf", stderr=log)
        wait_until(self._listens, "nginx to listen")
        return self

    def _listens(self):
        if self.process.poll() is not None:
            with open(self.folder + "/stderr", encoding="utf-8") as log:
                raise AssertionError(f"nginx ended with {self.process.returncode}: {log.read()}")
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def stop(self):
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def requests(self, where=""):
        """What it has answered so far, of URIs that contain `where`."""
        if not os.path.exists(self.folder + "/access.log"):
            return []
        with open(self.folder + "/access.log", encoding="utf-8") as log:
            seen = [json.loads(line) for line in log]
        return [request for request in seen if where in request["uri"]]
