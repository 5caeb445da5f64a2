internal import CLibPQ
internal import SQLText

extension ConnectionString {
  /// Refuses what libpq would misread, for libpq quotes the part that it stumbles over; and where a
  /// password is not encoded as it should be, that part is a piece of the password.
  func requireWellFormed() throws {
    // libpq would take it for the name of a database, which the server's refusal quotes.
    let isURI = value.hasPrefix("postgres://") || value.hasPrefix("postgresql://")
    guard isURI || value.contains("=") || !value.contains(where: { ":/@".contains($0) }) else {
      throw Self.malformed("it is no postgresql:// URL, no key=value list and no database's name")
    }
    guard !value.utf8.contains(0) else { throw Self.malformed("there is a zero byte in it") }
    let isURL = ["postgresql://", "postgres://"].contains { value.hasPrefix($0) }
    guard isURL || value.contains("=") else { return }  // the name of a database
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
        throw Self.malformed("there is an @ in its host")
      default: break
      }
      option += 1
    }
  }

  private static func malformed(_ why: String) -> PostgreSQLError {
    PostgreSQLError(
      code: .malformedConnectionString, message: "the connection string is malformed: \(why)",
      hint:
        "in a postgresql:// URL write @ : / ? # % within a password as %40 %3A %2F %3F %23 %25; "
        + "after password= put one with blanks in single quotes")
  }
}
