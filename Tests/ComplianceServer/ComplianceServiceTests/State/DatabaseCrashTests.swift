import ComplianceService
import Foundation
import TestSupport
import Testing

/// The database server crashes while the service runs, for example because memory runs out.
@Suite(.endedIfItHangs) struct DatabaseCrashTests {
  @Test func aDatabaseCrashGives503UntilTheDatabaseRecovers() async throws {
    let spool = FileManager.default.temporaryDirectory
      .appending(path: "crash-\(UUID().uuidString)").path
    defer { try? FileManager.default.removeItem(atPath: spool) }
    try await withOwnServer { server in
      let database = try await server.database(.platform)
      let site = LocalService.Site(database: database, spool: spool) { $0.rateLimit = nil }
      try await site.serving { service in
        let job = try await service.create()
        let path = "\(LocalService.jobsPath)/\(job.id)"
        for round in 1...3 {
          // After this request, the pool has idle connections.
          _ = try await service.get(path).job()
          try await server.crash()
          var response = try await service.get(path)
          while response.status != 200 {
            let problem = try response.problem()
            #expect(problem.status == 503, "round \(round): \(response.text)")
            if problem.status != 503 { break }
            response = try await service.get(path)
          }
        }
        try await server.recovered()
        while try await service.get("/readyz").status != 200 { try await pollingPause() }
        #expect(try await service.finish(job, uploading: "1\n").status == "complete")
      }
    }
  }
}
