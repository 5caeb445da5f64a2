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

/// A library with the settings that all of them share.
func module(
  _ name: String, in folder: String, _ dependencies: [Target.Dependency] = [],
  defining: [SwiftSetting] = []
) -> Target {
  .target(
    name: name, dependencies: dependencies, path: "Sources/\(folder)",
    swiftSettings: settings + defining)
}

func program(_ name: String, in folder: String, _ dependencies: [Target.Dependency]) -> Target {
  .executableTarget(
    name: name, dependencies: dependencies, path: "Sources/\(folder)", swiftSettings: settings)
}

/// A library of the system's.
func system(_ name: String, pkgConfig: String? = nil, debian package: String? = nil) -> Target {
  .systemLibrary(
    name: name, path: "Sources/Shared/\(name)", pkgConfig: pkgConfig,
    providers: package.map { [.apt([$0])] })
}

func tests(_ name: String, in wing: String, _ dependencies: [Target.Dependency]) -> Target {
  pureTests(name, in: wing, dependencies + ["TestSupport"])
}

/// Tests that need no server, and no libpq.
func pureTests(
  _ name: String, in wing: String, _ dependencies: [Target.Dependency]
) -> Target {
  .testTarget(
    name: name, dependencies: dependencies, path: "Tests/\(wing)/\(name)",
    swiftSettings: settings)
}

let package = Package(
  name: "lethe",
  products: [
    .executable(name: "lethe", targets: ["lethe"]),
    .executable(name: "compliance-server", targets: ["compliance-server"]),
    // Parts of the program alone, for scripts/bench.
    .executable(name: "benchmarks", targets: ["benchmarks"]),
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
    system("CLibPQ", pkgConfig: "libpq", debian: "libpq-dev"),
    system("CLibCrypto", pkgConfig: "libcrypto", debian: "libssl-dev"),
    system("CZlib", pkgConfig: "zlib", debian: "zlib1g-dev"),
    system("CMalloc"),

    // What everything stands on. These modules know nothing of pipelines.
    module("Failures", in: "Shared/Failures"),
    module("SQLText", in: "Shared/SQLText"),
    module("PostgreSQL", in: "Shared/PostgreSQL", ["CLibPQ", "Failures", "SQLText"]),
    module("Checksums", in: "Shared/Checksums", ["CLibCrypto"]),
    module("Migrations", in: "Shared/Migrations", ["Failures", "PostgreSQL", systemPackage]),
    module("EmbeddedMigrations", in: "Shared/EmbeddedMigrations"),
    module("ProductVersion", in: "Shared/Product"),

    // Where a test can kill the program. In a release build, it does nothing.
    module(
      "CrashPoints", in: "Lethe/CrashPoints",
      defining: [.define("CRASH_POINTS", .when(configuration: .debug))]),

    // The pipeline's words, its definition, its memory, its files, its peer.
    module("Vocabulary", in: "Lethe/Vocabulary"),
    module(
      "DefinitionFiles", in: "Shared/DefinitionFiles",
      ["Failures", .product(name: "Yams", package: "Yams")]),
    module(
      "Definitions", in: "Lethe/Definitions",
      ["DefinitionFiles", "SQLText", "Vocabulary", .product(name: "Yams", package: "Yams")]),
    module(
      "Ledger", in: "Lethe/Ledger",
      [
        "CrashPoints", "Failures", "PostgreSQL", "Vocabulary", "Definitions", "ChunkFiles",
        logging, systemPackage,
      ]),
    // What proves it. No stage reads it.
    module("Evidence", in: "Lethe/Evidence", ["Checksums", "Ledger", "PostgreSQL", "Vocabulary"]),
    module(
      "Warehouse", in: "Lethe/Warehouse", ["Failures", "PostgreSQL", "Vocabulary", "Definitions"]),
    module(
      "ChunkFiles", in: "Lethe/ChunkFiles",
      ["Checksums", "CrashPoints", "Failures", "WorkFiles", systemPackage]),
    module("WorkFiles", in: "Lethe/WorkFiles", ["Failures", systemPackage]),
    module("Results", in: "Lethe/Results", ["Vocabulary", systemPackage]),
    module(
      "ComplianceAPI", in: "Lethe/Client",
      [
        "Vocabulary", "Checksums", "CLibCrypto", "CrashPoints", "CZlib", "Failures",
        "ProductVersion", "WorkFiles", logging,
        systemPackage,
        .product(name: "AsyncHTTPClient", package: "async-http-client"),
        .product(name: "NIOCore", package: "swift-nio"),
        .product(name: "NIOPosix", package: "swift-nio"),
        .product(name: "NIOSSL", package: "swift-nio-ssl"),
        .product(name: "NIOHTTP1", package: "swift-nio"),
        .product(name: "_NIOFileSystem", package: "swift-nio"),
      ]),

    // The stages, left to right. None imports another.
    module(
      "ExportStage", in: "Lethe/Stages/Export",
      [
        "PostgreSQL", "DefinitionFiles", "Definitions", "Ledger", "Warehouse", "ChunkFiles",
        logging,
        systemPackage,
      ]),
    module(
      "SubmitStage", in: "Lethe/Stages/Submit",
      [
        "CrashPoints", "Failures", "PostgreSQL", "Vocabulary", "Ledger", "ChunkFiles",
        "ComplianceAPI", "WorkFiles", logging, systemPackage,
      ]),
    module(
      "AwaitStage", in: "Lethe/Stages/Await",
      ["CrashPoints", "Vocabulary", "Ledger", "ComplianceAPI", logging]),
    module(
      "CollectStage", in: "Lethe/Stages/Collect",
      [
        "CrashPoints", "Failures", "PostgreSQL", "Vocabulary", "Ledger", "ChunkFiles", "Results",
        "ComplianceAPI", "WorkFiles", logging, systemPackage,
      ]),
    module(
      "ApplyStage", in: "Lethe/Stages/Apply",
      [
        "CrashPoints", "Failures", "PostgreSQL", "Vocabulary", "Definitions", "Ledger",
        "Warehouse", logging,
      ]),

    // The program.
    module(
      "Runtime", in: "Lethe/Runtime",
      [
        "Checksums", "CrashPoints", "Failures", "PostgreSQL", "Vocabulary", "DefinitionFiles",
        "Definitions", "Ledger", "Warehouse", "ComplianceAPI", "ExportStage", "SubmitStage",
        "AwaitStage", "CollectStage", "ApplyStage", "WorkFiles", logging, systemPackage,
      ]),
    module(
      "LetheCommands", in: "Lethe/Commands",
      [
        "CMalloc", "Failures", "PostgreSQL", "Vocabulary", "DefinitionFiles", "Definitions",
        "Migrations",
        "EmbeddedMigrations", "Evidence", "Ledger", "Warehouse", "ComplianceAPI",
        "ApplyStage", "Runtime", "ProductVersion",
        argumentParser, logging, systemPackage,
      ]),
    program("lethe", in: "Lethe/Main", ["LetheCommands"]),

    // The service. It shares no type with the API client: a wrong one would cancel out.
    module(
      "FaultPlans", in: "ComplianceServer/FaultPlans",
      ["DefinitionFiles", .product(name: "Yams", package: "Yams")]),
    module(
      "ComplianceService", in: "ComplianceServer/Service",
      [
        "PostgreSQL", "Checksums", "CZlib", "Failures", "Migrations", "FaultPlans", logging,
        systemPackage,
        .product(name: "Hummingbird", package: "hummingbird"),
        .product(name: "HummingbirdCore", package: "hummingbird"),
        .product(name: "HTTPTypes", package: "swift-http-types"),
        .product(name: "NIOCore", package: "swift-nio"),
        .product(name: "NIOHTTP1", package: "swift-nio"),
        .product(name: "_NIOFileSystem", package: "swift-nio"),
        .product(name: "ServiceLifecycle", package: "swift-service-lifecycle"),
        unixSignals,
      ]),
    module("PlatformSeed", in: "ComplianceServer/Seed", ["Failures", "PostgreSQL"]),
    program(
      "compliance-server", in: "ComplianceServer/CLI",
      [
        "ComplianceService", "PlatformSeed", "FaultPlans", "DefinitionFiles", "Failures",
        "PostgreSQL", "Migrations", "EmbeddedMigrations", "ProductVersion", argumentParser, logging,
        systemPackage,
      ]),

    .executableTarget(
      name: "benchmarks",
      dependencies: ["ComplianceAPI", "Results", "Vocabulary", logging, systemPackage],
      path: "Tests/Benchmarks", swiftSettings: settings),

    // The tests, on a real server (`make test` starts it).
    .systemLibrary(name: "CSpawn", path: "Tests/CSpawn"),
    .target(
      name: "TestSupport",
      dependencies: ["CSpawn", "PostgreSQL", "Migrations", "TestFiles", systemPackage],
      path: "Tests/TestSupport", swiftSettings: settings),
    .target(
      name: "TestFiles", dependencies: [systemPackage],
      path: "Tests/TestFiles", swiftSettings: settings),
    pureTests("SQLTextTests", in: "Shared", ["SQLText"]),
    tests("FailureTests", in: "Shared", ["Failures"]),
    tests("PostgreSQLTests", in: "Shared", ["PostgreSQL"]),
    tests(
      "MigrationTests", in: "Shared",
      ["Migrations", "EmbeddedMigrations", "PostgreSQL", systemPackage]),
    tests("VocabularyTests", in: "Lethe", ["Vocabulary"]),
    tests("ResultsTests", in: "Lethe", ["Results", "Vocabulary", systemPackage]),
    tests(
      "ComplianceAPITests", in: "Lethe",
      [
        "ComplianceAPI", "CZlib", "TestFiles", "Vocabulary", logging,
        .product(name: "NIOCore", package: "swift-nio"),
        .product(name: "NIOHTTP1", package: "swift-nio"),
      ]),
    tests("ChunkFileTests", in: "Lethe", ["ChunkFiles", "Checksums", "WorkFiles", systemPackage]),
    pureTests(
      "DefinitionTests", in: "Lethe",
      [
        "DefinitionFiles", "Definitions", "TestFiles", "Vocabulary",
        systemPackage,
      ]),
    tests(
      "DocumentationTests", in: "Lethe",
      [
        "PostgreSQL", "Vocabulary", "DefinitionFiles", "Definitions", "Ledger", "FaultPlans",
        "LetheCommands", "lethe", "compliance-server", systemPackage,
      ]),
    tests("WarehouseTests", in: "Lethe", ["Definitions", "PostgreSQL", "Vocabulary", "Warehouse"]),
    pureTests("ChecksumsTests", in: "Shared", ["Checksums"]),
    tests(
      "PlatformSeedTests", in: "ComplianceServer",
      ["PlatformSeed", "PostgreSQL"]),
    tests(
      "PipelineTests", in: "Lethe",
      [
        "CrashPoints", "Failures", "PostgreSQL", "Vocabulary", "Definitions", "Evidence", "Ledger",
        "Warehouse", "ChunkFiles", "WorkFiles",
        "ComplianceAPI", "ExportStage", "CollectStage", "ApplyStage",
        "Runtime", "ComplianceService", "FaultPlans", "CZlib", "lethe", logging, systemPackage,
        .product(name: "Hummingbird", package: "hummingbird"),
        .product(name: "HTTPTypes", package: "swift-http-types"),
        .product(name: "AsyncHTTPClient", package: "async-http-client"),
        .product(name: "NIOCore", package: "swift-nio"),
        .product(name: "NIOPosix", package: "swift-nio"),
        .product(name: "NIOHTTP1", package: "swift-nio"),
      ]),
    tests(
      "ComplianceServiceTests", in: "ComplianceServer",
      [
        "ComplianceService", "FaultPlans", "DefinitionFiles", "Checksums", "PostgreSQL",
        "compliance-server", logging, systemPackage,
        .product(name: "AsyncHTTPClient", package: "async-http-client"),
        .product(name: "NIOCore", package: "swift-nio"),
        .product(name: "NIOHTTP1", package: "swift-nio"),
      ]),
  ]
)
