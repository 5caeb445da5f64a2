import Results

/// Counts the lines of a download while they are read. The counts decide whether the download is a result of the
/// chunk, and whether its silence counts.
struct ResultTally {
  /// The number of the last line.
  var lines = 0
  /// Lines that are not blank.
  private var written = 0
  /// Lines with a readable `id`, and error lines with any `id`.
  private var withID = 0
  private var withReadableID = 0
  /// Lines with an ID of the chunk.
  private var ofChunk = 0
  /// Lines that can be about any ID of the chunk: lines without a readable ID, and error lines with an ID that is not
  /// in the chunk.
  private var unattributed = 0

  /// - Parameter isInChunk: nil if the line has no readable ID.
  mutating func count(_ line: ScannedLine, isInChunk: Bool?) {
    if case .blank = line { return }
    written += 1
    if isInChunk != nil { withReadableID += 1 }
    if isInChunk == true { ofChunk += 1 }
    switch line {
    case .blank: break
    case .event: withID += 1
    case .refused(_, let id):
      // A line about an ID outside the chunk does not concern the chunk's IDs.
      if id == nil { unattributed += 1 } else { withID += 1 }
    case .error:
      withID += 1
      // The API reports an invalid line of the upload. If the chunk does not have that line, a line of the chunk
      // was changed during the upload, and it is unknown which one.
      if isInChunk != true { unattributed += 1 }
    }
  }

  /// Why the download is not a result of the chunk. Nil if it is a result. A download with only blank lines is a
  /// result in which all IDs are clean.
  var reasonForNoResult: String? {
    if written == 0 { return nil }
    if withID == 0 { return "no line of it is an object with an id" }
    if withReadableID > 0, ofChunk == 0 { return "none of its IDs is in the chunk" }
    return nil
  }

  /// Whether the IDs that the result does not name are clean.
  var silenceCounts: Bool { unattributed == 0 }
}

/// The error that the download is not a result of the chunk. Nothing of it is kept.
struct NoResult: Error {
  let why: String
}
