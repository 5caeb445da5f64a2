import AsyncHTTPClient
import Foundation
import HTTPTypes
import Hummingbird
import Logging
import NIOCore
import NIOHTTP1
import Synchronization

/// A proxy between the client and a service. Every third call fails. Of these calls, the proxy forwards every second
/// one to the service, and then returns an error.
final class FlakyProxy: Sendable {
  private let target: Mutex<String>
  private let calls = Atomic(0)
  private let failures = Atomic(0)

  init() {
    target = Mutex("")
  }

  var failedCalls: Int { failures.load(ordering: .relaxed) }

  func forward(to url: String) {
    target.withLock { $0 = url }
  }

  /// Serves until `body` returns. `body` gets the base URL.
  func serving<R: Sendable>(
    _ body: @escaping @Sendable (String) async throws -> R
  ) async throws -> R {
    let router = Router()
    for method in [HTTPRequest.Method.get, .post, .put, .delete] {
      router.on("**", method: method) { request, _ in try await self.handle(request) }
    }
    return try await servingLoopback(router, body)
  }

  private func handle(_ request: Request) async throws -> Response {
    let call = calls.add(1, ordering: .relaxed).newValue
    let fails = call.isMultiple(of: 3)
    if fails {
      failures.add(1, ordering: .relaxed)
      if call.isMultiple(of: 2) {
        return Response(
          status: .internalServerError, body: .init(byteBuffer: .init(string: "<html>")))
      }
    }
    var forwarded = HTTPClientRequest(url: target.withLock { $0 } + request.uri.string)
    forwarded.method = NIOHTTP1.HTTPMethod(rawValue: request.method.rawValue)
    for name in [HTTPField.Name.authorization, .contentType] {
      if let value = request.headers[name] {
        forwarded.headers.add(name: name.canonicalName, value: value)
      }
    }
    forwarded.body = .bytes(try await request.body.collect(upTo: 1 << 24))
    let response = try await HTTPClient.shared.execute(forwarded, timeout: .seconds(60))
    let body = try await response.body.collect(upTo: 1 << 24)
    if fails { return Response(status: .internalServerError) }
    return Response(
      status: .init(code: Int(response.status.code)), body: .init(byteBuffer: body))
  }
}
