import Definitions
import Testing

/// A correct definition. A test can replace parts of it.
enum Samples {
  static let environment = [
    "DATABASE_URL": "postgresql://lethe:hunter2-database@db/warehouse",
    "X_BEARER_TOKEN": "hunter2-token", "EMPTY": "", "TABLE": "warehouse.posts",
  ]

  /// The definition. Line 1 is `name:`. Tests depend on the line numbers.
  static let good = """
    name: nightly
    warehouse: ${DATABASE_URL}
    api:
      base_url: https://api.x.com
      bearer_token: ${X_BEARER_TOKEN}
    limits:
      max_redacted_percent: 20
      max_redacted_rows: 1000
    datasets:
      users:
        type: users
        table: warehouse.users
        id: user_id
        chunk: {ids: 1000, bytes: 20000}
        actions:
          deleted: delete
          suspended: delete
          deactivated: ignore
          protected: {protect: {set: {visibility: protected}, restore: {visibility: public}}}
        targets:
          - table: warehouse.posts
            match: author_id
            id: post_id
            type: tweets
            actions:
              deleted: delete
            targets:
              - table: warehouse.post_media
                match: post_id
                actions: {deleted: delete}
    """

  static func parse(_ yaml: String) throws -> Pipeline {
    try Pipeline.parse(yaml: yaml, file: "p.yaml", environment: environment)
  }
}
