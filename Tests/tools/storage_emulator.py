"""Runs the emulator of Google Cloud Storage on a free port until stdin ends. Prints the port."""

import sys

from gcp_storage_emulator.server import create_server

server = create_server("127.0.0.1", 0, in_memory=True, default_bucket="bucket")
with server:
    print(server._api._httpd.server_port, flush=True)
    sys.stdin.read()
