import Foundation

/// The file that a definition's `bearer_token_file` names.
///
/// Messages contain the file's path, but never its content. They do not contain a path that looks like a token, because
/// the path might be the token itself, by mistake.
struct TokenFile {
  /// The largest size of the file. It is far larger than any token.
  private static let bytesMax = 16_384

  struct Refusal: Error {
    let message: String
    let remedy: String
  }

  /// The file's name in messages.
  private let name: String
  private let path: String

  /// - Parameters:
  ///   - written: the path before variables are filled in. If it has variables, messages contain this text, because the
  ///     values of variables can be secret.
  ///   - path: the path with variables filled in. A relative path starts at the definition's folder.
  init(written: String, path: String, definition: String) {
    self.path = Resolver.path(path, from: definition)
    let shown = written.contains("$") ? written : self.path
    name = Self.mayContainASecret(path) ? "that api.bearer_token_file names" : shown
  }

  private static func mayContainASecret(_ path: String) -> Bool {
    path.contains(where: \.isNewline)
      || path.split(separator: "/").contains { part in
        part.utf8.count >= 30 && part.contains(where: \.isNumber)
          && part.contains(where: \.isUppercase) && part.contains(where: \.isLowercase)
          && !part.contains("-")
      }
  }

  /// Returns the text of the file, without leading and trailing white space.
  func token() throws(Refusal) -> String {
    guard !path.split(separator: "/").contains("~") else {
      throw refusal("~ is not expanded", "write the folder's path, or ${HOME}")
    }
    var isDirectory: ObjCBool = false
    guard FileManager.default.fileExists(atPath: path, isDirectory: &isDirectory) else {
      throw refusal(
        "there is no such file", "check the path: a relative path starts at the definition's folder"
      )
    }
    guard !isDirectory.boolValue else {
      throw refusal("it is a directory", "name the file in it that contains the token")
    }
    guard let file = FileHandle(forReadingAtPath: path) else {
      throw refusal("it is not readable for this process's user", "give this user read permission")
    }
    defer { try? file.close() }
    guard let bytes = Self.contents(of: file) else {
      throw refusal("it cannot be read", "check its file system")
    }
    return try token(in: bytes)
  }

  /// Reads the file in a loop, because a pipe returns its data in pieces.
  private static func contents(of file: FileHandle) -> Data? {
    var bytes = Data()
    while bytes.count <= bytesMax {
      do {
        guard let more = try file.read(upToCount: bytesMax + 1), !more.isEmpty else { return bytes }
        bytes += more
      } catch {
        return nil
      }
    }
    return bytes
  }

  private func token(in bytes: Data) throws(Refusal) -> String {
    let alone = "put the App's Bearer token there, and nothing else"
    guard bytes.count <= Self.bytesMax else {
      throw refusal("it is larger than any token", alone)
    }
    guard let text = String(data: bytes, encoding: .utf8),
      text.unicodeScalars.allSatisfy({ $0.value >= 0x20 || "\t\r\n".unicodeScalars.contains($0) })
    else { throw refusal("it is not a text file", alone) }
    let token = text.trimmingCharacters(in: .whitespacesAndNewlines)
    guard !token.isEmpty else { throw refusal("it is empty", alone) }
    guard !token.contains("-----BEGIN ") else {
      throw refusal("it contains a key or a certificate, which is not a Bearer token", alone)
    }
    guard !token.contains(where: \.isNewline) else { throw refusal("it has several lines", alone) }
    guard !token.contains(where: \.isWhitespace) else {
      throw refusal("it contains spaces", "\(alone); leave out the word Bearer")
    }
    guard token.utf8.allSatisfy({ (0x21...0x7E).contains($0) }) else {
      throw refusal("it contains characters that no token has", alone)
    }
    return token
  }

  private func refusal(_ what: String, _ remedy: String) -> Refusal {
    Refusal(message: "cannot read the token's file \(name): \(what)", remedy: remedy)
  }
}
