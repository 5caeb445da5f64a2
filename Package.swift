// swift-tools-version: 6.2
import PackageDescription

let settings: [SwiftSetting] = [
  .swiftLanguageMode(.v6),
  .enableUpcomingFeature("ExistentialAny"),
  .enableUpcomingFeature("InternalImportsByDefault"),
  .enableUpcomingFeature("MemberImportVisibility"),
  .treatAllWarnings(as: .error),
]

let argumentParser = Target.Dependency.product(
  name: "ArgumentParser", package: "swift-argument-parser")
let logging = Target.Dependency.product(name: "Logging", package: "swift-log")
let systemPackage = Target.Dependency.product(name: "SystemPackage", package: "swift-system")
let unixSignals = Target.Dependency.product(
  name: "UnixSignals", package: "swift-service-lifecycle")

/// One room of the program: a library target with the settings that all of them share.
func room(_ name: String, _ dependencies: [Target.Dependency] = []) -> Target {
  .target(name: name, dependencies: dependencies, swiftSettings: settings)
}

func tests(_ name: String, _ dependencies: [Target.Dependency]) -> Target {
  .testTarget(
    name: name, dependencies: dependencies + ["TestSupport"], swiftSettings: settings)
}

let package = Package(
  name: "lethe",
  products: [
    .executable(name: "lethe", targets: ["lethe"]),
    .executable(name: "compliance-server", targets: ["compliance-server"]),
  ],
  dependencies: [
    .package(url: "https://github.com/apple/swift-argument-parser", exact: "1.8.2"),
    .package(url: "https://github.com/apple/swift-log", exact: "1.16.2"),
    .package(url: "https://github.com/apple/swift-system", exact: "1.8.1"),
    .package(url: "https://github.com/apple/swift-nio", exact: "2.101.2"),
    .package(url: "https://github.com/apple/swift-nio-ssl", exact: "2.37.6"),
    .package(url: "https://github.com/apple/swift-http-types", exact: "1.8.0"),
    .package(
      url: "https://github.com/hummingbird-project/hummingbird", exact: "2.28.1", traits: []),
    .package(url: "https://github.com/jpsim/Yams", exact: "6.2.2"),
    .package(url: "https://github.com/swift-server/async-http-client", exact: "1.37.0"),
    .package(url: "https://github.com/swift-server/swift-service-lifecycle", exact: "2.13.0"),
  ],
  targets: [
    // What the system brings.
    .systemLibrary(
      name: "CLibPQ", pkgConfig: "libpq", providers: [.apt(["libpq-dev"])]),
    .systemLibrary(
      name: "CLibCrypto", pkgConfig: "libcrypto", providers: [.apt(["libssl-dev"])]),

    .systemLibrary(name: "CZlib", pkgConfig: "zlib", providers: [.apt(["zlib1g-dev"])]),
    .systemLibrary(name: "CMalloc"),

    // What everything stands on. These rooms know nothing of pipelines.
    room("PostgreSQL", ["CLibPQ"]),
    room("Checksums", ["CLibCrypto"]),
    room("Migrations", ["PostgreSQL", systemPackage]),
    room("EmbeddedMigrations"),

    // The pipeline's words, its definition, its memory, its files, its peer.
    room("Vocabulary"),
    room("DefinitionFiles", [.product(name: "Yams", package: "Yams")]),
    room(
      "Definitions",
      ["DefinitionFiles", "PostgreSQL", "Vocabulary", .product(name: "Yams", package: "Yams")]),
    room("Ledger", ["PostgreSQL", "Vocabulary", "Definitions", "ChunkFiles", systemPackage]),
    room("Warehouse", ["PostgreSQL", "Vocabulary", "Definitions"]),
    room("ChunkFiles", ["Checksums", "Vocabulary", systemPackage]),
    room("Results", ["Vocabulary"]),
    room(
      "ComplianceAPI",
      [
        "Vocabulary", "Checksums", "CLibCrypto", "CZlib", logging, systemPackage,
        .product(name: "AsyncHTTPClient", package: "async-http-client"),
        .product(name: "NIOCore", package: "swift-nio"),
        .product(name: "NIOPosix", package: "swift-nio"),
        .product(name: "NIOSSL", package: "swift-nio-ssl"),
        .product(name: "NIOHTTP1", package: "swift-nio"),
        .product(name: "_NIOFileSystem", package: "swift-nio"),
      ]),

    // The stages, left to right. None imports another.
    room(
      "ExportStage",
      [
        "PostgreSQL", "DefinitionFiles", "Definitions", "Ledger", "Warehouse", "ChunkFiles",
        logging,
        systemPackage,
      ]),
    room(
      "SubmitStage",
      ["Vocabulary", "Ledger", "ChunkFiles", "ComplianceAPI", logging, systemPackage]),
    room("AwaitStage", ["Vocabulary", "Ledger", "ComplianceAPI", logging]),
    room(
      "CollectStage",
      [
        "PostgreSQL", "Vocabulary", "Ledger", "ChunkFiles", "Results", "ComplianceAPI", logging,
        systemPackage,
      ]),
    room(
      "ApplyStage", ["PostgreSQL", "Vocabulary", "Definitions", "Ledger", "Warehouse", logging]),

    // The program.
    room(
      "Runtime",
      [
        "PostgreSQL", "Vocabulary", "DefinitionFiles", "Definitions", "Ledger", "Warehouse",
        "ChunkFiles", "ComplianceAPI", "ExportStage", "SubmitStage", "AwaitStage", "CollectStage",
        "ApplyStage", logging, systemPackage,
      ]),
    room(
      "LetheCommands",
      [
        "CMalloc", "PostgreSQL", "Vocabulary", "DefinitionFiles", "Definitions", "Migrations",
        "EmbeddedMigrations", "Ledger", "Warehouse", "ChunkFiles", "ComplianceAPI", "ApplyStage",
        "Runtime",
        argumentParser, logging, systemPackage, unixSignals,
      ]),
    .executableTarget(name: "lethe", dependencies: ["LetheCommands"], swiftSettings: settings),

    // The service. It shares no type with the API client: a wrong one would cancel out.
    room("FaultPlans", ["DefinitionFiles", .product(name: "Yams", package: "Yams")]),
    room(
      "ComplianceService",
      [
        "PostgreSQL", "Checksums", "CZlib", "Migrations", "FaultPlans", logging, systemPackage,
        .product(name: "Hummingbird", package: "hummingbird"),
        .product(name: "HummingbirdCore", package: "hummingbird"),
        .product(name: "HTTPTypes", package: "swift-http-types"),
        .product(name: "NIOCore", package: "swift-nio"),
        .product(name: "NIOHTTP1", package: "swift-nio"),
        .product(name: "_NIOFileSystem", package: "swift-nio"),
        .product(name: "ServiceLifecycle", package: "swift-service-lifecycle"),
        unixSignals,
      ]),
    room("PlatformSeed", ["PostgreSQL"]),
    .executableTarget(
      name: "compliance-server",
      dependencies: [
        "ComplianceService", "PlatformSeed", "FaultPlans", "DefinitionFiles", "PostgreSQL",
        "Migrations", "EmbeddedMigrations", argumentParser, logging, systemPackage,
      ],
      swiftSettings: settings),

    // The tests, on a real server (`make test` starts it).
    .target(
      name: "TestSupport",
      dependencies: ["PostgreSQL", "Migrations", systemPackage],
      path: "Tests/TestSupport", swiftSettings: settings),
    tests("PostgreSQLTests", ["PostgreSQL"]),
    tests(
      "MigrationTests", ["Migrations", "EmbeddedMigrations", "PostgreSQL", systemPackage]),
    tests("VocabularyTests", ["Vocabulary"]),
    tests("ResultsTests", ["Results", "Vocabulary", systemPackage]),
    tests(
      "ComplianceAPITests",
      ["ComplianceAPI", "CZlib", logging, .product(name: "NIOHTTP1", package: "swift-nio")]),
    tests("ChunkFileTests", ["ChunkFiles", "Checksums", systemPackage]),
    tests(
      "DefinitionTests",
      ["DefinitionFiles", "Definitions", "Vocabulary", "Warehouse", "PostgreSQL", systemPackage]),
    tests("ChecksumsTests", ["Checksums"]),
    tests("PlatformSeedTests", ["PlatformSeed", "PostgreSQL"]),
    tests(
      "PipelineTests",
      [
        "PostgreSQL", "Vocabulary", "Definitions", "Ledger", "Warehouse", "ChunkFiles",
        "ComplianceAPI", "ExportStage", "SubmitStage", "AwaitStage", "CollectStage", "ApplyStage",
        "Runtime", "ComplianceService", "FaultPlans", "CZlib", "lethe", logging, systemPackage,
        .product(name: "Hummingbird", package: "hummingbird"),
        .product(name: "HTTPTypes", package: "swift-http-types"),
        .product(name: "AsyncHTTPClient", package: "async-http-client"),
        .product(name: "NIOCore", package: "swift-nio"),
        .product(name: "NIOPosix", package: "swift-nio"),
        .product(name: "NIOHTTP1", package: "swift-nio"),
      ]),
    tests(
      "ComplianceServiceTests",
      [
        "ComplianceService", "FaultPlans", "DefinitionFiles", "Checksums", "PostgreSQL",
        "compliance-server", logging, systemPackage,
        .product(name: "AsyncHTTPClient", package: "async-http-client"),
        .product(name: "NIOCore", package: "swift-nio"),
        .product(name: "NIOHTTP1", package: "swift-nio"),
      ]),
  ]
)
