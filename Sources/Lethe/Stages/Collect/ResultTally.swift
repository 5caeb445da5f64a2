import Results

/// Counts the lines of a result while they are read. The counts decide whether it is a result of the chunk,
/// and whether its silence counts.
struct ResultTally {
  /// The number of the last line.
  var lines = 0
  private var written = 0
  /// Lines that are an object with an `id`, readable or not.
  private var withID = 0
  private var withReadableID = 0
  private var ofChunk = 0
  /// Lines that may be about any ID of the chunk.
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
      // The API reports a bad line of the upload. If the chunk does not have that line, another line was
      // changed on the way, and it is unknown which one.
      if isInChunk != true { unattributed += 1 }
    }
  }

  /// Why this is not a result of the chunk. Nil if it is. If all lines are blank, it is a result: all IDs are
  /// clean.
  var reasonForNoResult: String? {
    if written == 0 { return nil }
    if withID == 0 { return "no line of it is an object with an id" }
    if withReadableID > 0, ofChunk == 0 { return "none of its IDs are in the chunk" }
    return nil
  }

  /// Whether an ID without a line is clean. This does not apply to IDs with a quarantined line.
  var speaksBySilence: Bool { unattributed == 0 }
}

/// The error that the download is not a result of the chunk. Nothing of it is kept.
struct NoResult: Error {
  let why: String
}
