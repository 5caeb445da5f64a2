import ComplianceService
import Foundation
import TestSupport
import Testing

@Suite(.endedIfItHangs) struct RestartTests {
  @Test func urlsStayValidAfterARestart() async throws {
    try await LocalService.withSite { site in
      let job = try await site.serving { try await $0.create() }
      try await site.serving { service in
        // After the restart, the server listens on another port. The path and the query of the URL are still valid.
        let url = job.upload_url.pathAndQuery
        let uploaded = try await service.put("1\n", to: url).job()
        #expect(uploaded.status == "in_progress")
      }
    }
  }

  @Test func aJobIsFoundByListingIfTheResponseToItsCreationIsLost() async throws {
    try await LocalService.withSite { site in
      try await site.interrupting { service in
        service.gate.hold { point in
          if case .createCommitted = point { true } else { false }
        }
        try await withThrowingTaskGroup(of: Void.self) { group in
          group.addTask { _ = try? await service.post(#"{"type":"tweets","name":"chunk 1"}"#) }
          try await service.gate.reached { point in
            if case .createCommitted = point { true } else { false }
          }
          group.cancelAll()
        }
      }
      try await site.serving { service in
        let list = try await service.get("/2/compliance/jobs?type=tweets")
          .decoded(WireJob.List.self)
        #expect(list.data?.map(\.name) == ["chunk 1"])
        #expect(list.data?.map(\.status) == ["created"])
        #expect(try await service.post(#"{"type":"tweets"}"#).status == 409)
      }
    }
  }

  @Test func anUncommittedUploadMustBeSentAgain() async throws {
    try await LocalService.withSite { site in
      let job = try await site.serving { try await $0.create() }
      try await site.interrupting { service in
        service.gate.hold { $0 == .uploadReceived(jobID: job.id) }
        let url = try await service.job(job.id).upload_url
        try await withThrowingTaskGroup(of: Void.self) { group in
          group.addTask { _ = try? await service.put("a\n", to: url) }
          try await service.gate.reached { $0 == .uploadReceived(jobID: job.id) }
          group.cancelAll()
        }
      }
      try await site.serving { service in
        let again = try await service.job(job.id)
        #expect(again.status == "created")
        let done = try await service.finish(again, uploading: "b\n")
        #expect(try await service.get(done.download_url).text.contains(#""id":"b""#))
      }
    }
  }

  @Test func aJobInProgressIsProcessedAgain() async throws {
    try await LocalService.withSite { site in
      let job = try await site.serving { try await $0.create() }
      try await site.interrupting { service in
        service.gate.hold { $0 == .processing(jobID: job.id) }
        let url = try await service.job(job.id).upload_url
        _ = try await service.put("a\n", to: url).job()
        try await service.gate.reached { $0 == .processing(jobID: job.id) }
      }
      try await site.serving { service in
        try await service.gate.reached { $0 == .processed(jobID: job.id) }
        let done = try await service.job(job.id)
        #expect(done.status == "complete")
        #expect(try await service.get(done.download_url).text.contains(#""id":"a""#))
      }
      // After another restart, the result still exists and the submission does not.
      try await site.serving { service in
        let done = try await service.job(job.id)
        #expect(try await service.get(done.download_url).text.contains(#""id":"a""#))
      }
      #expect(try site.spooledFiles.count == 1)
    }
  }

  @Test func aMissingSubmissionFailsItsJob() async throws {
    try await LocalService.withSite { site in
      let job = try await site.serving { try await $0.create() }
      try await site.interrupting { service in
        service.gate.hold { $0 == .processing(jobID: job.id) }
        _ = try await service.put("a\n", to: service.job(job.id).upload_url).job()
      }
      for file in try site.spooledFiles {
        try FileManager.default.removeItem(atPath: "\(site.spool)/\(file)")
      }
      try await site.serving { service in
        try await service.gate.reached { $0 == .processed(jobID: job.id) }
        let failed = try await service.job(job.id)
        #expect(failed.status == "failed")
        #expect(failed.error?.contains("file is missing") == true)
      }
    }
  }

  @Test func unusedFilesOfAJobAreRemovedAndForeignFilesAreNot() async throws {
    try await LocalService.withSite { site in
      let job = try await site.serving { service in
        try await service.finish(service.create(), uploading: "a\n")
      }
      let leftovers = ["\(job.id)-x.ids", "\(job.id)-x.ndjson", "\(job.id)-x.ndjson.part"]
      let foreign = ["1-x.ids", "notes.txt"]
      for name in leftovers + foreign {
        #expect(FileManager.default.createFile(atPath: "\(site.spool)/\(name)", contents: nil))
      }
      // After another job, wait until a sweep has removed the unused files. The foreign files and the results of two
      // jobs are left.
      try await site.serving { service in
        _ = try await service.finish(service.create(), uploading: "a\n")
        while try site.spooledFiles.count != foreign.count + 2 {
          _ = try await service.job(job.id)
        }
        #expect(try await service.get(job.download_url.pathAndQuery).status == 200)
      }
      let files = try site.spooledFiles
      #expect(foreign.allSatisfy(files.contains))
      #expect(!leftovers.contains(where: files.contains))
    }
  }
}

extension String {
  /// The part of a URL after the scheme, host and port.
  var pathAndQuery: String { "/" + (split(separator: "/", maxSplits: 2).last ?? "") }
}
