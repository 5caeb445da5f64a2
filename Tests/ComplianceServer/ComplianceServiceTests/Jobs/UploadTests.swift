import AsyncHTTPClient
import ComplianceService
import Foundation
import NIOCore
import NIOHTTP1
import TestSupport
import Testing

@Suite(.endedIfItHangs) struct UploadTests {
  @Test(arguments: [
    nil, "text/plain", "text/plain; charset=utf-8", "application/octet-stream", "Text/Plain",
  ])
  func textAndBinaryContentTypesAreAccepted(contentType: String?) async throws {
    try await LocalService.run { service in
      let job = try await service.create()
      let response = try await service.put("1\n", to: job.upload_url, contentType: contentType)
      let uploaded = try response.job()
      #expect(uploaded.status == "in_progress")
      #expect(uploaded.id == job.id)
    }
  }

  @Test func anotherContentTypeIsRefused() async throws {
    try await LocalService.run { service in
      let job = try await service.create()
      let problem = try await service.put(
        "1\n", to: job.upload_url, contentType: "application/x-www-form-urlencoded"
      ).problem()
      #expect(problem.status == 415)
      #expect(try await service.job(job.id).status == "created")
    }
  }

  @Test(arguments: WireProfile.allCases)
  func aPartIsNotAcceptedAsTheWholeUpload(profile: WireProfile) async throws {
    try await LocalService.run({ $0.profile = profile }) { service in
      let job = try await service.create()
      var request = HTTPClientRequest(url: job.upload_url)
      request.method = .PUT
      request.headers = ["content-type": "text/plain", "content-range": "bytes 0-1/4"]
      if profile == .native {
        request.headers.add(name: "authorization", value: "Bearer \(LocalService.token)")
      }
      request.body = .bytes(ByteBuffer(string: "1\n"))
      let refused = try await service.send(request)
      if profile == .native {
        #expect(try refused.problem().parameter == "Content-Range")
      } else {
        #expect(refused.storageError == "400 InvalidArgument")
      }
      #expect(try await service.job(job.id).status == "created")
    }
  }

  /// A request without Content-Length and Transfer-Encoding has no body. A request with `Content-Length: 0` has an
  /// empty body.
  @Test(arguments: UploadMethod.allCases) func anUploadNeedsABody(_ way: UploadMethod) async throws
  {
    try await LocalService.run({ $0.profile = way.profile }) { service in
      let job = try await service.post(way.create()).job()
      let target = try await service.target(of: job, way)
      let headers = service.uploadHeaders(way).map { "\($0.name): \($0.value)\r\n" }.joined()
      func put(_ more: String) async throws -> String {
        let connection = try RawConnection(to: target)
        try connection.send(
          """
          PUT \(connection.target) HTTP/1.1\r\nHost: \(connection.authority)\r\n\(headers)\(more)\
          Connection: close\r\n\r\n
          """)
        return await connection.readToEnd()
      }
      let refused = try await put("")
      #expect(refused.hasPrefix("HTTP/1.1 \(way == .native ? 400 : 411) "), "\(refused)")
      #expect(refused.contains("has no body"))
      #expect(try await service.job(job.id).status == "created")
      let empty = try await put("Content-Length: 0\r\n")
      #expect(empty.hasPrefix("HTTP/1.1 200 "), "\(empty)")
      #expect(try await service.processed(job.id).status == "complete")
    }
  }

  @Test func aSecondUploadIsRefused() async throws {
    try await LocalService.run { service in
      let job = try await service.create()
      service.gate.hold { $0 == .processing(jobID: job.id) }
      _ = try await service.put("1\n", to: job.upload_url).job()
      #expect(try await service.put("2\n", to: job.upload_url).problem().status == 409)
      service.gate.release()
      try await service.gate.reached { $0 == .processed(jobID: job.id) }
      #expect(try await service.put("2\n", to: job.upload_url).problem().status == 409)
    }
  }

  @Test func onlyOneOfTwoSimultaneousUploadsIsAccepted() async throws {
    try await LocalService.withSite { site in
      try await site.serving { service in
        let job = try await service.create()
        service.gate.hold { $0 == .uploadReceived(jobID: job.id) }
        let statuses = try await withThrowingTaskGroup(of: Int.self) { group in
          for text in ["a\n", "b\n"] {
            group.addTask { try await service.put(text, to: job.upload_url).status }
          }
          try await service.gate.reached(times: 2) { $0 == .uploadReceived(jobID: job.id) }
          service.gate.release()
          return try await group.reduce(into: []) { $0.append($1) }
        }
        #expect(statuses.sorted() == [200, 409])
        try await service.gate.reached { $0 == .processed(jobID: job.id) }
        let done = try await service.job(job.id)
        let result = try await service.get(done.download_url).text
        #expect(
          ["a", "b"].map { #"{"id":"\#($0)","error":"invalid_id"}"# + "\n" }.contains(result))
        // Only the result is left. Both submissions were deleted.
        #expect(try site.spooledFiles.count == 1)
      }
    }
  }

  @Test func anUploadWithATooLargeContentLengthIsRefused() async throws {
    try await LocalService.withSite { site in
      var site = site
      site.configure = { $0.uploadBytesMax = 10 }
      try await site.serving { service in
        let job = try await service.create()
        #expect(try await service.put("12345678901", to: job.upload_url).problem().status == 413)
        #expect(try await service.job(job.id).status == "created")
        #expect(try site.spooledFiles.isEmpty)
        #expect(
          try await service.put("1234567890", to: job.upload_url).job().status == "in_progress")
      }
    }
  }

  @Test func aChunkedUploadThatIsTooLargeIsRefused() async throws {
    try await LocalService.withSite { site in
      var site = site
      site.configure = { $0.uploadBytesMax = 10 }
      try await site.serving { service in
        let job = try await service.create()
        func chunked(_ count: Int) -> HTTPClientRequest.Body {
          let parts = (0..<count).map { _ in ByteBuffer(string: "12345") }
          return .stream(AsyncStream(parts), length: .unknown)
        }
        let refused = try await service.send(.PUT, job.upload_url, body: chunked(3))
        #expect(try refused.problem().status == 413)
        #expect(try site.spooledFiles.isEmpty)
        let accepted = try await service.send(.PUT, job.upload_url, body: chunked(2))
        #expect(try accepted.job().status == "in_progress")
      }
    }
  }

  @Test(arguments: [HTTPClientRequest.Body.Length.known(Int64(1000)), .unknown])
  func anIncompleteUploadChangesNothing(_ length: HTTPClientRequest.Body.Length) async throws {
    struct Break: Error {}
    try await LocalService.withSite { site in
      try await site.serving { service in
        let job = try await service.create()
        let (parts, source) = AsyncThrowingStream<ByteBuffer, any Error>.makeStream()
        source.yield(ByteBuffer(string: "1\n2\n3"))
        source.finish(throwing: Break())
        await #expect(throws: (any Error).self) {
          try await service.send(
            .PUT, job.upload_url, body: .stream(parts, length: length))
        }
        #expect(try await service.job(job.id).status == "created")
        #expect(!service.gate.history.contains(.uploadReceived(jobID: job.id)))
        let done = try await service.finish(job, uploading: "x\n")
        let result = try await service.get(done.download_url).text
        #expect(result == #"{"id":"x","error":"invalid_id"}"# + "\n")
      }
    }
  }

  @Test func anUploadThatEndsAfterACancellationIsRefused() async throws {
    try await LocalService.run { service in
      let job = try await service.create()
      service.gate.hold { $0 == .uploadReceived(jobID: job.id) }
      async let response = service.put("1\n", to: job.upload_url)
      try await service.gate.reached { $0 == .uploadReceived(jobID: job.id) }
      #expect(
        try await service.send(.DELETE, "/2/compliance/jobs/\(job.id)").job().status == "failed")
      service.gate.release()
      #expect(try await response.problem().status == 409)
      #expect(try await service.job(job.id).status == "failed")
    }
  }
}

extension AsyncStream where Element: Sendable {
  /// A stream of these elements.
  init(_ elements: [Element]) {
    self.init { continuation in
      for element in elements { continuation.yield(element) }
      continuation.finish()
    }
  }
}
