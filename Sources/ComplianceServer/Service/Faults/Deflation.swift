internal import CZlib
internal import FaultPlans

/// Compresses bodies with a content coding.
enum Deflation {
  struct Failed: Error {}

  static func compressed(_ bytes: [UInt8], as coding: ResponseChange.Coding) throws -> [UInt8] {
    // This number also selects zlib's output format: 16 more for gzip, a negative value for raw deflate.
    let windowBits: Int32 =
      switch coding {
      case .gzip: 15 + 16
      case .deflate: 15
      case .rawDeflate: -15
      }
    var stream = z_stream()
    guard lethe_deflate_init(&stream, windowBits) == Z_OK else { throw Failed() }
    defer { deflateEnd(&stream) }
    var bytes = bytes
    var compressed = [UInt8](repeating: 0, count: Int(deflateBound(&stream, uLong(bytes.count))))
    let capacity = compressed.count
    let status = bytes.withUnsafeMutableBufferPointer { source in
      compressed.withUnsafeMutableBufferPointer { target in
        stream.next_in = source.baseAddress
        stream.avail_in = uInt(source.count)
        stream.next_out = target.baseAddress
        stream.avail_out = uInt(target.count)
        return deflate(&stream, Z_FINISH)
      }
    }
    guard status == Z_STREAM_END else { throw Failed() }
    return Array(compressed.prefix(capacity - Int(stream.avail_out)))
  }
}
