import Definitions

/// An environment for the definitions of these tests, and a parser that uses it.
enum Samples {
  static let environment = [
    "DATABASE_URL": "postgresql://lethe@db/warehouse", "X_BEARER_TOKEN": "token",
    "TABLE": "warehouse.posts",
  ]

  static func parse(_ yaml: String) throws -> Pipeline {
    try Pipeline.parse(yaml: yaml, file: "p.yaml", environment: environment)
  }
}
