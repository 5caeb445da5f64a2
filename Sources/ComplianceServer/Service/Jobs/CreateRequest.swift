internal import Foundation
internal import Hummingbird
internal import NIOCore

/// The body of a request that creates a job.
struct CreateRequest {
  let type: JobType
  let name: String?
  /// Whether the client asks for a resumable upload.
  let isResumable: Bool

  static let bytesMax = 64 * 1024
  static let nameCharactersMax = 64

  /// Reads the body of a request.
  /// - Throws: a 400 problem for a wrong body; 413 for a body over `bytesMax`.
  init(_ call: Call, profile: WireProfile) async throws {
    let bytes: ByteBuffer
    call.exchange.requestBody()
    do {
      bytes = try await call.request.body.collect(upTo: Self.bytesMax)
    } catch is NIOTooManyBytesError {
      throw Problem.tooLarge(
        Self.bytesMax, "A request for a job has a type, and can have a name and resumable.")
    }
    call.exchange.note { $0.bytesReceived += bytes.readableBytes }
    let object = try? JSONSerialization.jsonObject(with: Data(bytes.readableBytesView))
    guard let members = object as? [String: any Sendable] else {
      throw Problem.invalid(nil, nil, "The body is not a JSON object.")
    }
    try self.init(members, profile)
  }

  private init(_ members: [String: any Sendable], _ profile: WireProfile) throws {
    // The members are sorted, so that the same request always gets the same message.
    for member in members.keys.sorted() {
      switch member {
      case "type", "name", "resumable": continue
      default:
        throw Problem.invalid(
          member, nil,
          "$.\(member): is not defined in the schema, which has type, name and resumable")
      }
    }
    guard let type = members["type"] else {
      throw Problem.invalid("type", nil, "$.type: is missing but it is required")
    }
    guard let word = type as? String, let type = JobType(rawValue: word) else {
      let choices = JobType.allCases.map(\.rawValue).joined(separator: ", ")
      throw Problem.invalid(
        "type", Self.text(type), "$.type: does not have a value in the enumeration [\(choices)]")
    }
    self.type = type
    name = try members["name"].map(Self.name)
    isResumable = try members["resumable"].map(Self.isResumable) ?? false
    // `false` is accepted, because some clients always send it.
    guard !isResumable || profile == .gcs else {
      throw Problem.invalid(
        "resumable", "true", "$.resumable: resumable uploads are not supported, leave resumable out"
      )
    }
  }

  private static func isResumable(_ value: any Sendable) throws -> Bool {
    // Foundation also converts the numbers 0 and 1 to Bool. The JSON text shows that they are numbers.
    guard ["true", "false"].contains(text(value)), let flag = value as? Bool else {
      throw Problem.invalid("resumable", text(value), "$.resumable: is not a boolean")
    }
    return flag
  }

  private static func name(_ value: any Sendable) throws -> String {
    guard let name = value as? String else {
      throw Problem.invalid("name", text(value), "$.name: is not a string")
    }
    // PostgreSQL's text type cannot hold NUL.
    guard !name.unicodeScalars.contains("\0") else {
      throw Problem.invalid("name", nil, "$.name: has a NUL character")
    }
    guard name.unicodeScalars.count <= nameCharactersMax else {
      throw Problem.invalid(
        "name", name, "$.name: may only be \(nameCharactersMax) characters long")
    }
    return name
  }

  /// Returns a member's value for an error message: a string unchanged, any other value as JSON.
  private static func text(_ value: any Sendable) -> String {
    if let text = value as? String { return text }
    let json = try? JSONSerialization.data(
      withJSONObject: value, options: [.fragmentsAllowed, .sortedKeys])
    return json.map { String(decoding: $0, as: UTF8.self) } ?? ""
  }
}
