import ComplianceService
import FaultPlans
import Foundation
import NIOHTTP1
import TestSupport
import Testing

/// `GET /2/openapi.json` is a valid description of this server. SchemathesisTests compares the responses with it.
@Suite(.endedIfItHangs) struct DescriptionTests {
  private typealias Object = [String: Any]

  private static func document(_ service: LocalService) async throws -> Object {
    let response = try await service.get("/2/openapi.json", token: nil)
    #expect(response.status == 200)
    #expect(response.headers.first(name: "content-type") == "application/json; charset=utf-8")
    #expect((response.object["openapi"] as? String)?.hasPrefix("3.1.") == true)
    return response.object
  }

  private static func operations(_ document: Object) throws -> [(HTTPMethod, String, Object)] {
    let paths = try #require(document["paths"] as? [String: Object])
    return paths.flatMap { path, item in
      item.compactMap { method, operation in
        guard ["get", "head", "put", "post", "delete"].contains(method),
          let operation = operation as? Object
        else { return nil }
        return (HTTPMethod(rawValue: method.uppercased()), path, operation)
      }
    }
  }

  @Test(arguments: WireProfile.allCases)
  func everyReferenceResolvesAndEveryOperationHasAnID(profile: WireProfile) async throws {
    try await LocalService.run({ $0.profile = profile }) { service in
      let document = try await Self.document(service)
      func check(_ value: Any) {
        switch value {
        case let object as Object:
          if let reference = object["$ref"] as? String {
            let target = reference.split(separator: "/").dropFirst()
              .reduce(Optional<Any>(document)) { ($0 as? Object)?[String($1)] }
            #expect(target != nil, "\(reference)")
          }
          for member in object.values { check(member) }
        case let array as [Any]: for element in array { check(element) }
        default: break
        }
      }
      check(document)
      let names = try Self.operations(document).compactMap { $0.2["operationId"] as? String }
      #expect(names.count == (try Self.operations(document)).count)
      #expect(Set(names).count == names.count)
    }
  }

  @Test(arguments: WireProfile.allCases)
  func theServerServesExactlyTheDescribedOperations(profile: WireProfile) async throws {
    try await LocalService.run({ $0.profile = profile }) { service in
      let document = try await Self.document(service)
      let servers = document["servers"] as? [[String: String]]
      #expect(servers?.map { $0["url"] } == [service.baseURL])
      let paths = try #require(document["paths"] as? [String: Object])
      let operations = try Self.operations(document)
      for (path, item) in paths {
        let host = (item["servers"] as? [[String: String]])?.first?["url"] ?? service.baseURL
        let url = host + path.replacing("{id}", with: "1")
        for method: HTTPMethod in [.GET, .HEAD, .PUT, .POST, .DELETE, .PATCH, .OPTIONS] {
          let status = try await service.send(method, url).status
          let isDescribed = operations.contains { $0.0 == method && $0.1 == path }
          #expect((status != 405) == isDescribed, "\(method) \(path): \(status)")
        }
      }
      let described = operations.map { "\($0.0.rawValue) \($0.1)" }
      #expect(described.contains("DELETE /2/compliance/jobs/{id}") == (profile == .native))
      #expect(described.contains("POST /compliance/submission/{id}") == (profile == .gcs))
    }
  }

  @Test func theDescriptionMatchesTheConfiguration() async throws {
    try await LocalService.run {
      $0.rateLimit = nil
      $0.adminToken = "admin"
      $0.publicURL = "https://compliance.example"
      $0.uploadBytesMax = 12_345
    } _: { service in
      let text = try await service.get("/2/openapi.json", token: nil).text
      #expect(text.contains(#""servers": [{"url": "https://compliance.example"}]"#))
      #expect(text.contains("At most 12345 bytes."))
      #expect(!text.contains(##"{"$ref": "#/components/headers/x-rate-limit-limit"}"##))
      let operations = try Self.operations(try await Self.document(service))
      for (_, path, operation) in operations {
        let security = try #require(operation["security"] as? [[String: [String]]], "\(path)")
        let schemes = security.flatMap(\.keys).sorted()
        switch path {
        case "/healthz", "/readyz", "/livez", "/2/openapi.json": #expect(schemes == [], "\(path)")
        case "/", "/metrics", "/admin/faults":
          #expect(schemes == ["operator", "operatorPassword"], "\(path)")
        default: #expect(schemes == ["app"], "\(path)")
        }
      }
    }
  }
}
