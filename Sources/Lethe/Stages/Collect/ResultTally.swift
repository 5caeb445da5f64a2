import Results

/// What the lines of a result are about, counted while they are read: whether it is a result of the
/// chunk at all, and whether it says anything by silence.
struct ResultTally {
  /// The number of the last line.
  var lines = 0
  private var written = 0
  /// Lines that are an object with an `id`.
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
      // A line about an ID that was not asked about takes nothing from those that were.
      if id == nil { unattributed += 1 } else { withID += 1 }
    case .error:
      withID += 1
      // The API complains of a line of the upload. One that the chunk does not have came from one that
      // was garbled on its way, and nobody knows which.
      if isInChunk != true { unattributed += 1 }
    }
  }

  /// Why this is no result of the chunk; nil if it is one. Blank lines alone are one: all is clean.
  var reasonForNoResult: String? {
    if written == 0 { return nil }
    if withID == 0 { return "no line of it is an object with an id" }
    if withReadableID > 0, ofChunk == 0 { return "none of its IDs are in the chunk" }
    return nil
  }

  /// Whether absence means clean, but for the IDs that have a quarantined line.
  var speaksBySilence: Bool { unattributed == 0 }
}

/// What came is no result of the chunk. Nothing of it is kept.
struct NoResult: Error {
  let why: String
}
