import NIOHTTP1

/// The `Content-Type` of a body. Some types show that a body is not a result.
///
/// X describes results as `application/octet-stream` and has sent them as text. So only types that no result can have
/// are checked: HTML, XML, and multipart bodies.
struct MediaType {
  /// The header's values in lowercase, without parameters.
  private let names: [String]
  private static let lengthMax = 100

  init(_ headers: HTTPHeaders) {
    names = headers[canonicalForm: "content-type"].map { value in
      String(value.prefix { $0 != ";" }.filter { !$0.isWhitespace }).lowercased()
    }
  }

  /// Whether no result can have this type.
  var excludesResult: Bool {
    names.contains { name in
      name == "text/html" || name == "text/xml" || name == "application/xml"
        || name.hasSuffix("+xml") || name.hasPrefix("multipart/")
    }
  }

  /// A description of a response for messages, without its content.
  func summary(status: Int, bytes: Int) -> String {
    "HTTP \(status), \(label), \(bytes) bytes"
  }

  private var label: String {
    guard let name = names.first(where: { !$0.isEmpty }) else { return "no content type" }
    let isWord = name.utf8.allSatisfy {
      (0x61...0x7A).contains($0) || (0x30...0x39).contains($0) || "/+-._".utf8.contains($0)
    }
    return isWord && name.utf8.count <= Self.lengthMax ? name : "an unreadable content type"
  }
}
