import AsyncHTTPClient
import Checksums
import ComplianceService
import Foundation
import NIOCore
import NIOHTTP1
import PostgreSQL
import TestSupport
import Testing

/// The storage host of the gcs profile: signed URLs, uploads in one request, results.
@Suite(.endedIfItHangs) struct StorageTests {
  private static func run(
    _ configure: @escaping @Sendable (inout ComplianceServer.Configuration) -> Void = { _ in },
    _ body: (LocalService) async throws -> Void
  ) async throws {
    try await LocalService.run(
      {
        $0.profile = .gcs
        configure(&$0)
      }, body)
  }

  @Test func uploadsAndDownloadsUseTheStorageHostWithoutABearerToken() async throws {
    try await Self.run { service in
      let job = try await service.create()
      for url in [job.upload_url, job.download_url] {
        #expect(url.hasPrefix("http://127.0.0.2:"), "\(url)")
        #expect(url.contains("X-Goog-Algorithm=GOOG4-HMAC-SHA256&"))
        #expect(url.contains("&X-Goog-Signature="))
      }
      let text = "1\n2\n"
      let upload = try await service.put(text, to: job.upload_url, token: nil)
      #expect(upload.status == 200)
      #expect(upload.headers[canonicalForm: "x-goog-hash"] == Self.hashes(of: text))
      #expect(upload.headers.first(name: "x-goog-stored-content-length") == "4")
      try await service.gate.reached { $0 == .processed(jobID: job.id) }
      let result = try await service.send(.GET, job.download_url, token: nil)
      #expect(result.status == 200)
      // A result is a composite object, and Google Cloud Storage has no MD5 hash of a composite object.
      #expect(
        result.headers[canonicalForm: "x-goog-hash"]
          == Array(Self.hashes(of: result.text).prefix(1)))
      #expect(result.headers.first(name: "x-goog-stored-content-length") == "\(result.body.count)")
      #expect(result.headers.first(name: "etag") != nil)
    }
  }

  private static func hashes(of text: String) -> [Substring] {
    Array(text.utf8).withUnsafeBytes { bytes in
      var crc = CRC32C()
      var md5 = MD5()
      crc.update(bytes)
      md5.update(bytes)
      return [
        "crc32c=" + Data(crc.bytes).base64EncodedString(),
        "md5=" + Data(md5.finalize()).base64EncodedString(),
      ]
    }
  }

  @Test func aBearerTokenIsRefused() async throws {
    try await Self.run { service in
      let job = try await service.create()
      let upload = try await service.put("1\n", to: job.upload_url)
      #expect(upload.storageError == "400 InvalidArgument")
      #expect(try await service.job(job.id).status == "created")
      let download = try await service.get(job.download_url)
      #expect(download.storageError == "400 InvalidArgument")
    }
  }

  @Test(arguments: ["application/octet-stream", "text/plain; charset=utf-8", "TEXT/PLAIN", nil])
  func theContentTypeMustMatchTheSignature(_ type: String?) async throws {
    try await Self.run { service in
      let job = try await service.create()
      let upload = try await service.put("1\n", to: job.upload_url, contentType: type, token: nil)
      #expect(upload.storageError == "403 SignatureDoesNotMatch")
      #expect(try await service.put("1\n", to: job.upload_url, token: nil).status == 200)
    }
  }

  @Test func aSignedURLIsRefusedAfterAnyChange() async throws {
    try await Self.run { service in
      let job = try await service.create()
      let users = try await service.create("users")
      func error(_ method: HTTPMethod, _ url: String) async throws -> String {
        try await service.send(
          method, url, token: nil, contentType: "text/plain",
          body: method == .GET ? nil : .bytes(ByteBuffer(string: "1\n"))
        ).storageError
      }
      let upload = job.upload_url
      #expect(
        try await error(.PUT, upload.replacing(job.id, with: users.id))
          == "403 SignatureDoesNotMatch")
      #expect(
        try await error(.GET, upload.replacing("/submission/", with: "/results/"))
          == "403 SignatureDoesNotMatch")
      #expect(
        try await error(.PUT, job.download_url.replacing("/results/", with: "/submission/"))
          == "403 SignatureDoesNotMatch")
      #expect(try await error(.POST, upload) == "403 SignatureDoesNotMatch")
      #expect(try await error(.PUT, upload + "&more=1") == "403 SignatureDoesNotMatch")
      #expect(
        try await error(.PUT, upload.replacing("Expires=900", with: "Expires=9000"))
          == "403 SignatureDoesNotMatch")
      let last = try #require(upload.last)
      #expect(
        try await error(.PUT, upload.dropLast() + (last == "0" ? "1" : "0"))
          == "403 SignatureDoesNotMatch")
      #expect(
        try await error(.PUT, upload.replacing(/&X-Goog-Date=[^&]*/, with: ""))
          == "400 AuthorizationQueryParametersError")
      #expect(try await error(.PUT, String(upload.prefix { $0 != "?" })) == "403 AccessDenied")
      #expect(
        try await error(.GET, upload.replacing(/\/submission.*/, with: "/../../etc/passwd"))
          == "404 NoSuchKey")
      #expect(try await error(.GET, job.download_url) == "404 NoSuchKey")
      #expect(try await service.job(job.id).status == "created")
    }
  }

  @Test func anUploadURLExpires() async throws {
    try await Self.run({ $0.uploadLifetime = .zero }) { service in
      let job = try await service.create()
      let upload = try await service.put("1\n", to: job.upload_url, token: nil)
      #expect(upload.storageError == "400 ExpiredToken")
    }
  }

  /// Python's standard library computes the signature again, according to Google's description.
  @Test func theSignatureFollowsGooglesV4Description() async throws {
    try await Self.run { service in
      let job = try await service.create()
      let key = try await service.database.withConnection {
        try await $0.query("SELECT encode(key, 'hex') FROM compliance.signing_key")
          .onlyRow(as: String.self)
      }
      let script = """
        import hashlib, hmac, sys, urllib.parse
        method, url, secret, *headers = sys.argv[1:]
        parts = urllib.parse.urlsplit(url)
        query = [p for p in parts.query.split("&") if not p.startswith("X-Goog-Signature=")]
        values = dict(urllib.parse.parse_qsl(parts.query))
        headers = sorted(headers + ["host:" + parts.netloc])
        canonical = "\\n".join([method, parts.path, "&".join(sorted(query)), *headers, "",
                               values["X-Goog-SignedHeaders"], "UNSIGNED-PAYLOAD"])
        scope = values["X-Goog-Credential"].split("/", 1)[1]
        text = "\\n".join(["GOOG4-HMAC-SHA256", values["X-Goog-Date"], scope,
                          hashlib.sha256(canonical.encode()).hexdigest()])
        key = ("GOOG4" + secret).encode()
        for part in scope.split("/"):
            key = hmac.new(key, part.encode(), hashlib.sha256).digest()
        print(hmac.new(key, text.encode(), hashlib.sha256).hexdigest(), end="")
        """
      for (method, url, headers) in [
        ("PUT", job.upload_url, ["content-type:text/plain"]), ("GET", job.download_url, []),
      ] {
        let expected = try await Tool.python(["-c", script, method, url, key] + headers)
        #expect(url.hasSuffix("&X-Goog-Signature=\(expected)"))
      }
    }
  }

  /// The service signs the normalized URL, because clients send it in this form. The test sends the requests that a
  /// proxy would forward.
  @Test func aPublicURLIsNormalized() async throws {
    // A random address, so that no other process listens there.
    let octets = (0..<3).map { _ in "\(Int.random(in: 3...250))" }
    let host = "127." + octets.joined(separator: ".")
    try await Self.run({
      $0.storageHost = host
      $0.storagePort = 8081
      $0.storagePublicURL = "HTTPS://Storage.EXAMPLE:443/blobs/"
    }) { service in
      let job = try await service.post(#"{"type":"tweets","resumable":true}"#).job()
      let publicURL = "https://storage.example/blobs"
      func send(_ method: HTTPMethod, _ url: String, _ headers: HTTPHeaders, _ text: String)
        async throws -> ServiceResponse
      {
        try #require(url.hasPrefix(publicURL + "/compliance/"), "\(url)")
        var request = HTTPClientRequest(url: "http://\(host):8081\(url.dropFirst(publicURL.count))")
        request.method = method
        request.headers = headers
        request.headers.add(name: "host", value: "storage.example")
        request.body = .bytes(ByteBuffer(string: text))
        return try await service.send(request)
      }
      let response = try await send(
        .POST, job.upload_url, ["content-type": "text/plain", "x-goog-resumable": "start"], "")
      let session = try #require(response.headers.first(name: "location"), "\(response.text)")
      #expect(try await send(.PUT, session, [:], "1\n").status == 200)
      try await service.gate.reached { $0 == .processed(jobID: job.id) }
      var download = HTTPClientRequest(
        url: "http://\(host):8081\(job.download_url.dropFirst(publicURL.count))")
      download.headers = ["host": "storage.example"]
      #expect(try await service.send(download).status == 200)
    }
  }

  @Test func aWrongChecksumIsRefused() async throws {
    try await Self.run { service in
      let job = try await service.create()
      for (name, value) in [
        ("x-goog-hash", "crc32c=AAAAAA=="), ("content-md5", "1B2M2Y8AsgTpgAmY7PhCfg=="),
      ] {
        var request = HTTPClientRequest(url: job.upload_url)
        request.method = .PUT
        request.headers = ["content-type": "text/plain", name: value]
        request.body = .bytes(ByteBuffer(string: "1\n"))
        #expect(try await service.send(request).storageError == "400 BadDigest")
      }
      #expect(try await service.job(job.id).status == "created")
    }
  }

  @Test func aRepeatedUploadIsAcceptedOnlyWithTheSameBytes() async throws {
    try await Self.run { service in
      let job = try await service.create()
      #expect(try await service.put("1\n", to: job.upload_url, token: nil).status == 200)
      #expect(try await service.put("1\n", to: job.upload_url, token: nil).status == 200)
      let other = try await service.put("2\n", to: job.upload_url, token: nil)
      #expect(other.storageError == "403 AccessDenied")
    }
  }

  @Test func anObjectThatIsTooLargeIsRefused() async throws {
    try await Self.run({ $0.storageUploadBytesMax = 10 }) { service in
      let job = try await service.create()
      let upload = try await service.put("1234567890\n", to: job.upload_url, token: nil)
      #expect(upload.storageError == "400 EntityTooLarge")
      #expect(try await service.put("123456789\n", to: job.upload_url, token: nil).status == 200)
    }
  }

  @Test func theAPIHostRefusesUploadsAndCancellations() async throws {
    try await Self.run { service in
      let job = try await service.create()
      let path = "\(LocalService.jobsPath)/\(job.id)"
      #expect(
        try await service.send(.DELETE, path).problem().kind == "method-not-allowed")
      #expect(try await service.put("1\n", to: path + "/upload?token=x").status == 404)
    }
  }

  @Test func jobsKeepTheProfileThatTheyWereCreatedWith() async throws {
    try await LocalService.withSite { site in
      var site = site
      site.configure = { $0.profile = .gcs }
      let job = try await site.serving { try await $0.create() }
      site.configure = { _ in }
      try await site.serving { service in
        let url = try await service.job(job.id).upload_url
        #expect(url.hasPrefix("http://127.0.0.2:"))
        #expect(try await service.put("1\n", to: url, token: nil).status == 200)
        #expect(try await service.create("users").upload_url.hasPrefix(service.baseURL))
      }
    }
  }
}

extension ServiceResponse {
  /// The status and the code of an error of the storage host, such as `404 NoSuchKey`.
  var storageError: String {
    let code = text.firstMatch(of: /<Code>(\w+)<\/Code><Message>[^<]+<\/Message>/).map { $0.1 }
    return "\(status) \(code ?? "without an error: \(text)")"
  }
}
