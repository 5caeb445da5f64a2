public import SystemPackage

/// A TCP proxy like HAProxy. It distributes connections to its targets round-robin, and does not interpret the data.
public enum TCPBalancer {
  /// The program in Python. Its arguments are the address to listen on, and the targets. Each is an address such as
  /// `127.0.0.1:5432` or the path of a Unix socket.
  public static let script = """
    import asyncio, itertools, sys
    listen, *targets = sys.argv[1:]
    turns = itertools.cycle(targets)
    def connect(target):
        if target.startswith("/"): return asyncio.open_unix_connection(target)
        return asyncio.open_connection(*target.rsplit(":", 1))
    async def copy(reader, writer):
        try:
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        except ConnectionError:
            pass
        finally:
            writer.close()
    async def serve(reader, writer):
        target_reader, target_writer = await connect(next(turns))
        await asyncio.gather(copy(reader, target_writer), copy(target_reader, writer))
    async def main():
        if listen.startswith("/"): server = await asyncio.start_unix_server(serve, listen)
        else: server = await asyncio.start_server(serve, *listen.rsplit(":", 1))
        print("ready", flush=True)
        async with server: await server.serve_forever()
    asyncio.run(main())
    """

  /// Runs the proxy, and runs `body` when it accepts connections.
  ///
  /// - Parameters:
  ///   - targets: addresses such as `127.0.0.1:5432`, or paths of Unix sockets.
  ///   - directory: the directory for its files.
  public static func serving<R: Sendable>(
    _ targets: [String], at address: LoopbackAddress, in directory: FilePath,
    isolation: isolated (any Actor)? = #isolation, _ body: () async throws -> R
  ) async throws -> R {
    try await ExternalServer.running(
      ["/usr/bin/python3", "-c", script, address.description] + targets, at: address,
      scratch: directory, body)
  }
}
