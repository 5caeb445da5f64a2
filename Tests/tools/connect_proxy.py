"""An HTTP proxy that connects clients of the given hosts to one address of this machine.

usage: connect_proxy.py ADDRESS PORT HOST...

Listens on a free port and prints the port. Serves CONNECT requests until stdin ends.
"""

import asyncio
import sys

address, port, *hosts = sys.argv[1:]


async def copy(reader, writer):
    while block := await reader.read(1 << 16):
        writer.write(block)
        await writer.drain()
    writer.write_eof()


async def serve(reader, writer):
    try:
        method, target, _ = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")[0].split(" ")
        if method != "CONNECT" or target not in [f"{host}:443" for host in hosts]:
            writer.write(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
            return
        target_reader, target_writer = await asyncio.open_connection(address, int(port))
        writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        await asyncio.gather(copy(reader, target_writer), copy(target_reader, writer))
        target_writer.close()
    finally:
        writer.close()


async def main():
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.to_thread(sys.stdin.read)
    server.close()


asyncio.run(main())
