import ComplianceService
import Foundation
import TestSupport
import Testing

/// The database's server crashes under the service, as by a process that was killed or a machine without memory.
@Suite(.endedIfItHangs) struct DatabaseCrashTests {
  @Test func aCrashIs503AndThenItGoesOn() async throws {
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
          // Connections of the pool are idle.
          _ = try await service.get(path).job()
          try await server.crash()
          var answer = try await service.get(path)
          while answer.status != 200 {
            let problem = try answer.problem()
            #expect(problem.status == 503, "round \(round): \(answer.text)")
            if problem.status != 503 { break }
            answer = try await service.get(path)
          }
        }
        await server.recovered()
        while try await service.get("/readyz").status != 200 {}
        #expect(try await service.finish(job, uploading: "1\n").status == "complete")
      }
    }
  }
}
