/// Rows in COPY's binary format (PostgreSQL documentation, "COPY", "Binary Format").
///
///     var rows = BinaryRows()
///     rows.beginRow(columns: 2)
///     rows.append(42)
///     rows.append(text: line)
///     try await copy.write(rows.take())
///     …
///     try await copy.write(rows.takeLast())
public struct BinaryRows: Sendable {
  /// The block size: write the rows when this many bytes are collected.
  public static let blockBytes = 32 * 1024

  private var bytes: [UInt8]

  public init() {
    bytes = Array("PGCOPY\n".utf8) + [0xFF, 0x0D, 0x0A, 0x00]
    bytes += [UInt8](repeating: 0, count: 8)  // no flags, no header extension
    bytes.reserveCapacity(Self.blockBytes + 4096)
  }

  public var isFull: Bool { bytes.count >= Self.blockBytes }

  public mutating func beginRow(columns: Int) {
    appendBigEndian(Int16(columns))
  }

  /// Appends a `bigint`, or a `timestamptz` as microseconds since 2000-01-01 UTC.
  public mutating func append(_ value: Int64) {
    appendBigEndian(Int32(8))
    appendBigEndian(value)
  }

  public mutating func append(_ value: Int64?) {
    if let value { append(value) } else { appendNull() }
  }

  /// Appends an `integer`.
  public mutating func append(int32 value: Int32) {
    appendBigEndian(Int32(4))
    appendBigEndian(value)
  }

  public mutating func append(bool value: Bool) {
    appendBigEndian(Int32(1))
    bytes.append(value ? 1 : 0)
  }

  /// Appends a `text`, a `bytea`, or an enum by its label.
  public mutating func append(bytes value: some Collection<UInt8>) {
    appendBigEndian(Int32(value.count))
    bytes.append(contentsOf: value)
  }

  public mutating func append(text value: String) {
    append(bytes: value.utf8)
  }

  public mutating func appendNull() {
    appendBigEndian(Int32(-1))
  }

  /// Returns the bytes since the last call.
  public mutating func take() -> [UInt8] {
    defer { bytes.removeAll(keepingCapacity: true) }
    return bytes
  }

  /// Returns the bytes since the last call, and the trailer that ends the COPY.
  public mutating func takeLast() -> [UInt8] {
    appendBigEndian(Int16(-1))
    return take()
  }

  private mutating func appendBigEndian(_ value: some FixedWidthInteger) {
    withUnsafeBytes(of: value.bigEndian) { bytes.append(contentsOf: $0) }
  }
}
