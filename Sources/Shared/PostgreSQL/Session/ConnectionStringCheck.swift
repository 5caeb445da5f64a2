internal import CLibPQ
internal import SQLText

extension ConnectionString {
  /// Refuses malformed strings before libpq connects, with messages of its own. libpq's messages quote the malformed
  /// part, and if a password is not encoded correctly, this part can contain a piece of the password.
  func requireWellFormed() throws {
    // libpq would use the text as a database name, and the server's error would quote it.
    let isURI = value.hasPrefix("postgres://") || value.hasPrefix("postgresql://")
    guard isURI || value.contains("=") || !value.contains(where: { ":/@".contains($0) }) else {
      throw Self.malformed("it is not a postgresql:// URL, a key=value list or a database name")
    }
    guard !value.utf8.contains(0) else { throw Self.malformed("it contains a zero byte") }
    let isURL = ["postgresql://", "postgres://"].contains { value.hasPrefix($0) }
    guard isURL || value.contains("=") else { return }  // a database name
    guard let options = PQconninfoParse(value, nil) else {
      throw Self.malformed("libpq cannot read it")
    }
    defer { PQconninfoFree(options) }
    var option = options
    while let keyword = option.pointee.keyword {
      let text = option.pointee.val.map { String(cString: $0) } ?? ""
      switch String(cString: keyword) {
      case "port" where !text.utf8.allSatisfy({ $0 &- 0x30 < 10 || $0 == UInt8(ascii: ",") }):
        throw Self.malformed("its port is not a number")
      case "host" where text.contains("@") && !text.hasPrefix("@"):
        throw Self.malformed("its host contains an @")
      default: break
      }
      option += 1
    }
  }

  private static func malformed(_ why: String) -> PostgreSQLError {
    PostgreSQLError(
      code: .malformedConnectionString, message: "the connection string is malformed: \(why)",
      hint:
        "in the password of a postgresql:// URL, write @ : / ? # % as %40 %3A %2F %3F %23 %25; "
        + "after password=, put a value with spaces in single quotes")
  }
}
