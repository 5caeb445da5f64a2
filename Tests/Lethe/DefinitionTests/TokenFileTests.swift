import DefinitionFiles
import Definitions
import Foundation
import SystemPackage
import TestFiles
import Testing
import Vocabulary

@Suite struct TokenFileTests {
  /// Loads a definition from the folder `etc` of `directory`. `written` is the token file's path in the definition.
  private static func load(
    _ written: String, in directory: FilePath, environment: [String: String] = [:]
  ) throws -> Pipeline {
    let etc = directory.appending("etc").string
    try FileManager.default.createDirectory(
      atPath: etc + "/secrets", withIntermediateDirectories: true)
    let yaml = Samples.good.editing(
      "bearer_token: ${X_BEARER_TOKEN}", to: "bearer_token_file: \(written)")
    try Data(yaml.utf8).write(to: URL(fileURLWithPath: etc + "/p.yaml"))
    return try Pipeline.load(
      file: etc + "/p.yaml", environment: Samples.environment.merging(environment) { $1 })
  }

  private static func write(_ bytes: Data, _ name: String, in directory: FilePath) throws {
    let file = URL(fileURLWithPath: directory.appending("etc/" + name).string)
    try FileManager.default.createDirectory(
      at: file.deletingLastPathComponent(), withIntermediateDirectories: true)
    try bytes.write(to: file)
  }

  @Test(arguments: ["token", "./token", "secrets/token", "../etc/token", "\"${FOLDER:-.}/token\""])
  func aTokenPathIsRelativeToTheDefinitionsFolder(written: String) throws {
    try withTemporaryDirectory { directory in
      let name = written.contains("secrets") ? "secrets/token" : "token"
      try Self.write(Data("\u{20}hunter2-relative\r\n".utf8), name, in: directory)
      let pipeline = try Self.load(written, in: directory)
      #expect(pipeline.api.token == BearerToken("hunter2-relative"))
    }
  }

  @Test func anAbsoluteTokenPathIsUnchanged() throws {
    try withTemporaryDirectory { directory in
      try Self.write(Data("hunter2-absolute".utf8), "token", in: directory)
      let pipeline = try Self.load(directory.appending("etc/token").string, in: directory)
      #expect(pipeline.api.token == BearerToken("hunter2-absolute"))
    }
  }

  private static let secret = "hunter2"
  private static let key = """
    -----BEGIN OPENSSH PRIVATE KEY-----
    hunter2hunter2hunter2hunter2hunter2hunter2
    -----END OPENSSH PRIVATE KEY-----
    """

  struct Content: Sendable, CustomTestStringConvertible {
    let bytes: [UInt8]
    /// A part of the expected message.
    let what: String

    var testDescription: String { "\(bytes.count) bytes: \(what)" }

    init(_ text: String, after start: [UInt8] = [], _ what: String) {
      bytes = start + Array(text.utf8)
      self.what = what
    }
  }

  private static let noTokens: [Content] = [
    Content("", "it is empty"), Content(" \n\t\r\n", "it is empty"),
    Content("hunter2\nhunter2-too\n", "it has several lines"),
    Content("hunter2\rhunter2", "it has several lines"),
    Content("\n\nBearer\nhunter2", "it has several lines"),
    Content(key, "it contains a key or a certificate"),
    Content("-----BEGIN RSA PRIVATE KEY----- hunter2", "it contains a key or a certificate"),
    Content("Bearer hunter2", "it contains spaces"),
    Content("hunter2\u{A0}hunter2", "it contains spaces"),
    Content("hunter2-schlüssel", "it contains characters that no token has"),
    Content("hunter2", after: [0xFF, 0xFE, 0x68, 0], "it is not a text"),
    Content("hunter2\u{0}hunter2", "it is not a text"),
    Content("hunter2", after: [0x7F, 0x45, 0x4C, 0x46, 2, 1, 1, 0], "it is not a text"),
    Content(String(repeating: "hunter2", count: 3000), "it is larger than any token"),
  ]

  @Test(arguments: noTokens)
  func anInvalidTokenIsReportedAndNeverShown(content: Content) throws {
    try withTemporaryDirectory { directory in
      try Self.write(Data(content.bytes), "secrets/token", in: directory)
      let error = try #require(throws: DefinitionError.self) {
        try Self.load("secrets/token", in: directory)
      }
      #expect(error.message.contains("/etc/secrets/token: \(content.what)"), "\(error)")
      #expect(error.line == 5)
      #expect(error.others.isEmpty)
      #expect(!"\(error)".contains(Self.secret), "\(error)")
    }
  }

  @Test(arguments: [
    ("secrets", "it is a directory"), ("nowhere/token", "there is no such file"),
    ("~/token", "~ is not expanded"), ("~", "~ is not expanded"),
  ])
  func aTokenPathWithoutAFileIsReported(written: String, what: String) throws {
    try withTemporaryDirectory { directory in
      let error = try #require(throws: DefinitionError.self) {
        try Self.load("\"\(written)\"", in: directory)
      }
      #expect(error.message.hasSuffix("\(written): \(what)"), "\(error)")
    }
  }

  /// The operator has written the secret instead of the path.
  @Test(
    arguments: [
      ("AAAAAAAAAAAAAAAAAAAAAhunter2hunter2hunter2", [:]),
      ("${TOKEN}", ["TOKEN": "AAAAhunter2"]), ("secrets/${TOKEN}", ["TOKEN": "hunter2"]),
      ("\"-----BEGIN PRIVATE KEY-----\\nhunter2\"", [:]),
    ] as [(String, [String: String])])
  func aTokenInsteadOfItsPathIsNotShown(written: String, environment: [String: String]) throws {
    try withTemporaryDirectory { directory in
      let error = try #require(throws: DefinitionError.self) {
        try Self.load(written, in: directory, environment: environment)
      }
      #expect(error.message.contains("there is no such file"), "\(error)")
      #expect(!"\(error)".contains(Self.secret), "\(error)")
    }
  }
}
