import CZlib
import NIOHTTP1

/// The content coding of a body. A body can be compressed although Lethe did not request it, because a proxy has
/// compressed it or the storage host has stored it compressed.
enum ContentCoding: Equatable {
  case identity
  case gzip
  /// The zlib format or raw deflate. Servers use this name for both.
  case deflate
  case unknown

  init(_ headers: HTTPHeaders) {
    let codings = headers[canonicalForm: "content-encoding"].map { $0.lowercased() }
      .filter { !$0.isEmpty && $0 != "identity" }
    switch codings.count {
    case 0: self = .identity
    case 1 where ["gzip", "x-gzip"].contains(codings[0]): self = .gzip
    case 1 where codings[0] == "deflate": self = .deflate
    default: self = .unknown
    }
  }

  /// The name for messages. It has only lowercase letters and hyphens, so that a message contains nothing else from
  /// a header.
  static func name(_ headers: HTTPHeaders) -> String {
    let names = headers[canonicalForm: "content-encoding"].map { name in
      let word = name.lowercased()
      return word.utf8.count <= 20
        && word.utf8.allSatisfy { (0x61...0x7A).contains($0) || $0 == 0x2D }
        ? word : "with an unreadable name"
    }
    return names.joined(separator: ", ")
  }
}

/// Decompresses gzip, zlib and raw deflate data as the bytes arrive.
final class Inflation {
  struct Damaged: Error {}

  private var stream = z_stream()
  /// Whether the bytes so far are a complete body.
  private(set) var isComplete = false
  private static let blockBytes = 1 << 18

  /// Whether bytes without a gzip or zlib header can be raw deflate.
  private var mayBeRaw: Bool

  init(mayBeRaw: Bool) throws {
    self.mayBeRaw = mayBeRaw
    guard lethe_inflate_init(&stream) == Z_OK else { throw Damaged() }
  }

  deinit { inflateEnd(&stream) }

  /// - Parameter write: called with each decompressed block.
  /// - Throws: `Damaged` if the bytes are not of the format.
  func update(
    _ bytes: UnsafeRawBufferPointer, _ write: (UnsafeRawBufferPointer) throws -> Void
  ) throws {
    guard let base = bytes.baseAddress, !bytes.isEmpty else { return }
    stream.next_in = UnsafeMutablePointer(
      mutating: base.assumingMemoryBound(to: Bytef.self))
    stream.avail_in = uInt(bytes.count)
    let block = UnsafeMutableRawBufferPointer.allocate(byteCount: Self.blockBytes, alignment: 16)
    defer { block.deallocate() }
    repeat {
      // A gzip body can have several members.
      if isComplete, stream.avail_in > 0 {
        // Zeros after the last member are padding.
        let rest = UnsafeBufferPointer(start: stream.next_in, count: Int(stream.avail_in))
        if rest.allSatisfy({ $0 == 0 }) { return }
        guard inflateReset(&stream) == Z_OK else { throw Damaged() }
        isComplete = false
      }
      stream.next_out = block.baseAddress?.assumingMemoryBound(to: Bytef.self)
      stream.avail_out = uInt(block.count)
      var status = inflate(&stream, Z_NO_FLUSH)
      if status == Z_DATA_ERROR, mayBeRaw, stream.total_out == 0 {
        inflateEnd(&stream)
        guard lethe_inflate_init_raw(&stream) == Z_OK else { throw Damaged() }
        stream.next_in = UnsafeMutablePointer(mutating: base.assumingMemoryBound(to: Bytef.self))
        stream.avail_in = uInt(bytes.count)
        status = inflate(&stream, Z_NO_FLUSH)
      }
      mayBeRaw = false
      guard [Z_OK, Z_STREAM_END, Z_BUF_ERROR].contains(status) else { throw Damaged() }
      if status == Z_STREAM_END { isComplete = true }
      let written = block.count - Int(stream.avail_out)
      if written > 0 { try write(UnsafeRawBufferPointer(rebasing: block[..<written])) }
      if status == Z_BUF_ERROR, written == 0 { break }
    } while stream.avail_in > 0 || stream.avail_out == 0
  }
}
