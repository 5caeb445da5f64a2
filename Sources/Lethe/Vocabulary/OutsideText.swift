/// Text from outside: an API's error, a host's page, a server's message. It may quote parts of the request,
/// and may contain secrets of its own.
extension String {
  /// The default maximum length of the result, in characters.
  public static let outsideLengthMax = 500
  /// The longest part that is examined, in characters. A host may send megabytes.
  private static let lookedAtMax = 2_000
  /// The maximum length of a word, in characters: enough for a URL.
  private static let wordMax = 300

  /// The text in a form that may be logged and stored: on one line, with a bounded length, and without
  /// control characters. Queries, fragments and user names of URLs are removed. Tokens, passwords, keys and
  /// signatures in their usual forms are also removed.
  ///
  /// - Parameter secrets: texts to remove wherever they occur. If this string is one short word (`isPlainWord`), it is
  ///   returned unchanged, unless it is one of the secrets.
  public func withoutSecrets(
    _ secrets: [String] = [], lengthMax: Int = String.outsideLengthMax
  ) -> String {
    if isPlainWord, !secrets.contains(self) { return self }
    var text = Self.plain(self)
    for secret in secrets where !secret.isEmpty {
      for form in [secret, Self.percentEncoded(secret)] {
        text = text.replacing(form, with: "…")
      }
    }
    text = Self.withoutURLSecrets(text)
    text = Self.withoutNamedSecrets(text)
    text = Self.withoutBareSecrets(text)
    return text.count > lengthMax ? text.prefix(lengthMax - 1) + "…" : text
  }

  /// Whether the text is one short word of lower-case letters and underscores. Such a word is kept, unless it is one of
  /// `secrets`.
  private var isPlainWord: Bool {
    utf8.count <= 32 && utf8.allSatisfy { (0x61...0x7A).contains($0) || $0 == 0x5F }
  }

  /// One line without control characters and invisible characters. Invisible characters could hide a secret from the
  /// patterns below.
  private static func plain(_ text: String) -> String {
    var start = text.prefix(lookedAtMax)
    // The text is cut at a space. Otherwise it could end with a part of a secret, which is not recognized.
    if start.endIndex < text.endIndex {
      while let last = start.last, !last.isWhitespace { start.removeLast() }
    }
    var scalars = String.UnicodeScalarView()
    for scalar in start.unicodeScalars {
      switch scalar.properties.generalCategory {
      case .control where !scalar.properties.isWhitespace: scalars.append("?")
      case .control, .lineSeparator, .paragraphSeparator: scalars.append(" ")
      case .format: continue
      default: scalars.append(scalar)
      }
    }
    let words = String(scalars).split(whereSeparator: \.isWhitespace).map { word in
      word.count > wordMax ? "\(word.prefix(wordMax))…" : String(word)
    }
    return words.isEmpty && start.endIndex < text.endIndex ? "…" : words.joined(separator: " ")
  }

  private static func percentEncoded(_ text: String) -> String {
    let digits = Array("0123456789ABCDEF")
    return text.utf8.map { byte in
      let scalar = UnicodeScalar(byte)
      let isPlain = scalar.isASCII && (Character(scalar).isLetter || Character(scalar).isNumber)
      return isPlain || "-._~".utf8.contains(byte)
        ? String(Character(scalar)) : "%\(digits[Int(byte >> 4)])\(digits[Int(byte & 15)])"
    }.joined()
  }

  /// Removes user names, passwords, queries and fragments from URLs. The query of a signed URL is a
  /// credential.
  private static func withoutURLSecrets(_ text: String) -> String {
    text
      .replacing(SecretPatterns.shared.userInfo) { _ in "://…@" }
      .replacing(SecretPatterns.shared.password) { _ in ":…@" }
      .replacing(SecretPatterns.shared.urlQuery) { "\($0.output.1)?…" }
      .replacing(SecretPatterns.shared.query) { "\($0.output.1)?…" }
      .replacing(SecretPatterns.shared.encodedQuery) { _ in "?…" }
  }

  /// Removes secrets that follow a name: `Bearer …`, `token=…`, `"access_token": "…"`, `x-api-key: …`. The
  /// start of the name is not checked, because names such as `X-Amz-Signature` end with one of these words.
  private static func withoutNamedSecrets(_ text: String) -> String {
    text
      .replacing(SecretPatterns.shared.scheme) { "\($0.output.1)\($0.output.2)…" }
      .replacing(SecretPatterns.shared.quotedValue) { "\($0.output.1)…" }
      .replacing(SecretPatterns.shared.value) { "\($0.output.1)…" }
      .replacing(SecretPatterns.shared.header) { "\($0.output.1)…" }
  }

  /// Removes secrets that can be recognized by their form.
  private static func withoutBareSecrets(_ text: String) -> String {
    text
      .replacing(SecretPatterns.shared.privateKey) { _ in "…" }
      .replacing(SecretPatterns.shared.webToken) { _ in "…" }
      .replacing(SecretPatterns.shared.cloudKey) { _ in "…" }
      .replacing(SecretPatterns.shared.prefixedToken) { _ in "…" }
      .replacing(SecretPatterns.shared.longWord) { _ in "…" }
  }
}

/// The regexes for secrets. They are compiled once, because that takes far longer than a search with them.
// Safe to share: the properties never change, and a regex without closures is a tree that does not change, with a
// program that the standard library compiles at the first search and stores atomically
// (`Regex.Program.loweredProgram`).
private struct SecretPatterns: @unchecked Sendable {
  static let shared = SecretPatterns()

  let userInfo = Self.simple(#/:\/\/[^\s"'<>]*@/#)
  let password = Self.simple(#/:[^\s"'<>@:\/]+@/#)
  let urlQuery = Self.simple(#/(:\/\/[^\s"'<>?#]*)[?#][^\s"'<>]+/#)
  let query = Self.simple(#/([^\s"'<>])[?#][^\s"'<>]*=[^\s"'<>]*/#)
  let encodedQuery = Self.simple(#/%3F[^\s"'<>]*%3D[^\s"'<>]*/#)
  let scheme = Self.simple(
    #/\b(Bearer|Basic|OAuth|Negotiate|Digest|JWT)(["']?[\s:=]+["']?)(?!(?:tokens?|auth[a-z]*|headers?|scheme|realm|is|was|are|not|nor|or|and|of|for|in|that|with|without|required|error|challenge|credentials?|method)\b)[^\s"'<>,;…]+/#
  )
  let quotedValue = Self.simple(
    #/((?:token|secret|password|passwd|passphrase|pwd|key|keyid|accessid|signature|sig|credentials?|authorization|cookie|session)[\w.\-]*\\?["']?\s*(?:=>|[:=])\s*\\?["'])[^"'<>\\…]+/#
  )
  let value = Self.simple(
    #/((?:token|secret|password|passwd|passphrase|pwd|key|keyid|accessid|signature|sig|credentials?|authorization|session)[\w.\-]*=)[^\s&;,"'<>…]+/#
  )
  let header = Self.simple(
    #/((?:cookie|authorization|-token|-key|-signature|-secret|-credential):\s*(?:[a-z]+\s+)?)(?=[^\s]*\d)[^\s"'<>,…]{6,}/#
  )
  let privateKey = Self.simple(#/-----BEGIN [A-Z ]+-----.*/#)
  let webToken = Self.simple(
    #/\beyJ[A-Za-z0-9_\-]{4,}(?:\.[A-Za-z0-9_\-]*)+/#)
  let cloudKey = Self.simple(#/\b(?:AKIA|ASIA|GOOG)[A-Z0-9]{12,}/#)
  let prefixedToken = Self.simple(
    #/\b(?:AIza|ya29\.|gh[a-z]_|github_pat_|xox[a-z]-|AAAAAAAAAA)[A-Za-z0-9_.%\-]{10,}/#)
  let longWord = Self.simple(#/[A-Za-z0-9+_=~%\-]{65,}/#)

  /// The regex with case ignored and without Unicode's rules for words. These rules are slow, and secrets are
  /// ASCII.
  private static func simple<Output>(_ regex: Regex<Output>) -> Regex<Output> {
    regex.ignoresCase().wordBoundaryKind(.simple).matchingSemantics(.unicodeScalar)
  }
}
