import ComplianceService
import Foundation
import TestSupport
import Testing

/// Compares each cell of the table in docs/reference/result-words.md with a live service.
@Suite(.endedIfItHangs) struct ResultWordsTests {
  struct Column: Sendable, CustomTestStringConvertible {
    let profile: WireProfile
    let vocabulary: ResultVocabulary

    static let all = WireProfile.allCases.flatMap { profile in
      ResultVocabulary.allCases.map { Column(profile: profile, vocabulary: $0) }
    }

    /// The column's title in the table.
    var testDescription: String { "\(profile.rawValue), \(vocabulary.rawValue)" }
  }

  /// Accounts 1 to 5 are active, deleted, suspended, deactivated and protected. Each has one post. The post's ID is ten
  /// times the account's ID. The active account has four more posts, each with one event of its own.
  private static let platformState = """
    INSERT INTO platform.accounts (account_id, username, created_at, state, state_changed_at)
    SELECT n, 'u' || n, '2015-01-01', state::platform.account_state, '2020-01-01'
    FROM unnest(ARRAY['active', 'deleted', 'suspended', 'deactivated', 'protected'])
      WITH ORDINALITY AS states (state, n);
    INSERT INTO platform.posts (post_id, author_id, created_at)
    SELECT 10 * account_id, account_id, '2016-01-01' FROM platform.accounts;
    INSERT INTO platform.posts
      (post_id, author_id, created_at, deleted_at, bounced_at, edited_at, geo_removed_at) VALUES
      (11, 1, '2016-01-01', '2021-01-01', NULL, NULL, NULL),
      (12, 1, '2016-01-01', NULL, '2021-01-01', NULL, NULL),
      (13, 1, '2016-01-01', NULL, NULL, '2021-01-01', NULL),
      (14, 1, '2016-01-01', NULL, NULL, NULL, '2021-01-01')
    """

  private static let ids = [
    "the post is deleted": "11", "the post bounced": "12", "the post was edited": "13",
    "its location was removed": "14", "its author is deleted": "20",
    "its author is suspended": "30",
    "its author is deactivated": "40", "its author is protected": "50",
    "the account is deleted": "2",
    "the account is suspended": "3", "the account is deactivated": "4",
    "the account is protected": "5",
  ]

  @Test(arguments: Column.all) func theTableMatchesTheService(_ column: Column) async throws {
    let rows = try String(
      contentsOfFile: repositoryRootPath + "/docs/reference/result-words.md", encoding: .utf8
    )
    .split(separator: "\n").filter { $0.hasPrefix("| ") }
    .map { $0.split(separator: "|").map { $0.trimmingCharacters(in: .whitespaces) } }
    let index = try #require(rows.first?.firstIndex(of: column.testDescription))
    try #require(rows.count == 1 + Self.ids.count)
    try await LocalService.run({
      $0.profile = column.profile
      $0.vocabulary = column.vocabulary
    }) { service in
      try await service.execute(Self.platformState)
      for type in ["tweets", "users"] {
        var reported: [String: String] = [:]
        let submission = (1...99).map { "\($0)\n" }.joined()
        for line in try await service.resultLines(type, submission) where !line.isEmpty {
          let members = try JSONDecoder().decode([String: String].self, from: Data(line.utf8))
          let id = try #require(members["id"])
          #expect(reported[id] == nil, "\(line)")
          reported[id] = "\(members["action"] ?? "")/\(members["reason"] ?? "")"
        }
        for row in rows.dropFirst() where row[0] == type {
          let id = try #require(Self.ids[row[1]], "\(row[1])")
          #expect(reported.removeValue(forKey: id) ?? "—" == row[index], "\(type): \(row[1])")
        }
        #expect(reported.isEmpty, "\(type): \(reported)")
      }
    }
  }
}
