internal import CSpawn
internal import Foundation
internal import Synchronization
public import SystemPackage

/// A child process that inherits only the given descriptors. Foundation's `Process` inherits more: it then treats a
/// process that has ended as running until every other process with a copy of a descriptor has ended.
public final class ChildProcess: Sendable {
  public let processIdentifier: Int32
  private let state = Mutex(State())

  private struct State {
    var code: Int32?
    var waiters: [CheckedContinuation<Int32, Never>] = []
  }

  /// Starts a program.
  /// - Parameters:
  ///   - command: the program's path and its arguments.
  ///   - environment: the whole environment. By default, it is the environment of the tests.
  ///   - directory: the working directory. By default, it is the working directory of the tests.
  ///   - stdin: nil for an empty input. The same applies to stdout and stderr: nil discards the output.
  /// - Throws: `Errno` if the program cannot be started.
  public init(
    _ command: [String], environment: [String: String]? = nil, directory: String? = nil,
    stdin: FileDescriptor? = nil, stdout: FileDescriptor? = nil, stderr: FileDescriptor? = nil
  ) throws {
    var actions = posix_spawn_file_actions_t()
    posix_spawn_file_actions_init(&actions)
    defer { posix_spawn_file_actions_destroy(&actions) }
    for (number, file) in [stdin, stdout, stderr].enumerated() {
      if let file {
        posix_spawn_file_actions_adddup2(&actions, file.rawValue, Int32(number))
      } else {
        posix_spawn_file_actions_addopen(
          &actions, Int32(number), "/dev/null", number == 0 ? O_RDONLY : O_WRONLY, 0)
      }
    }
    posix_spawn_file_actions_addclosefrom_np(&actions, 3)
    if let directory { posix_spawn_file_actions_addchdir_np(&actions, directory) }

    // The threads of the tests block signals, and the tests ignore SIGPIPE. The program must do neither.
    var attributes = posix_spawnattr_t()
    posix_spawnattr_init(&attributes)
    defer { posix_spawnattr_destroy(&attributes) }
    var signals = sigset_t()
    sigemptyset(&signals)
    posix_spawnattr_setsigmask(&attributes, &signals)
    sigaddset(&signals, SIGPIPE)
    posix_spawnattr_setsigdefault(&attributes, &signals)
    posix_spawnattr_setflags(
      &attributes, Int16(POSIX_SPAWN_SETSIGMASK) | Int16(POSIX_SPAWN_SETSIGDEF))

    let variables = (environment ?? ProcessInfo.processInfo.environment).map { "\($0)=\($1)" }
    let (arguments, values) = (CStrings(command), CStrings(variables))
    var identifier: pid_t = 0
    let error = posix_spawn(
      &identifier, command[0], &actions, &attributes, arguments.pointers, values.pointers)
    guard error == 0 else { throw Errno(rawValue: error) }
    processIdentifier = identifier

    // A thread of its own may block.
    Thread.detachNewThread { [self] in reap() }
  }

  private func reap() {
    // Until the process is reaped, its identifier belongs to no other process.
    var information = siginfo_t()
    while waitid(P_PID, id_t(processIdentifier), &information, WEXITED | WNOWAIT) == -1,
      errno == EINTR
    {}
    let (code, waiters) = state.withLock { state in
      var status: Int32 = 0
      while waitpid(processIdentifier, &status, 0) == -1, errno == EINTR {}
      let signal = status & 0x7F
      let code = signal == 0 ? (status >> 8) & 0xFF : signal
      state.code = code
      defer { state.waiters = [] }
      return (code, state.waiters)
    }
    for waiter in waiters { waiter.resume(returning: code) }
  }

  /// Waits for the program's end, also if the task is cancelled.
  /// - Returns: the exit code, or the number of the signal that ended the program.
  public func ended() async -> Int32 {
    await withCheckedContinuation { waiter in
      let code = state.withLock { state in
        if state.code == nil { state.waiters.append(waiter) }
        return state.code
      }
      if let code { waiter.resume(returning: code) }
    }
  }

  /// The exit code, or the number of the signal that ended the program. Nil while the program runs.
  public var exitCode: Int32? { state.withLock { $0.code } }

  /// Sends a signal, unless the program has ended.
  public func send(signal: Int32) {
    state.withLock { state in
      if state.code == nil { kill(processIdentifier, signal) }
    }
  }
}

/// Texts as a C array of C strings that ends with a null pointer.
private final class CStrings {
  let pointers: [UnsafeMutablePointer<CChar>?]

  init(_ texts: [String]) {
    pointers = texts.map { strdup($0) } + [nil]
  }

  deinit {
    for pointer in pointers { free(pointer) }
  }
}

/// Runs code that blocks, such as a read from a pipe, on a thread of its own. The tests' other code, and the service
/// that runs in the tests' process, share as many threads as the machine has cores.
public func blocking<R: Sendable>(_ body: @escaping @Sendable () -> R) async -> R {
  await withCheckedContinuation { done in
    Thread.detachNewThread { done.resume(returning: body()) }
  }
}

/// A file without a name for a program's output. A program would block on a full pipe.
struct ScratchFile: Sendable {
  let descriptor: FileDescriptor

  /// - Throws: `Errno` if the file cannot be created.
  init() throws {
    let path = FilePath(
      FileManager.default.temporaryDirectory.appending(path: UUID().uuidString).path)
    descriptor = try FileDescriptor.open(
      path, .readWrite, options: [.create, .exclusiveCreate, .closeOnExec],
      permissions: .ownerReadWrite)
    unlink(path.string)
  }

  /// Closes the file.
  /// - Returns: its text. Empty if it cannot be read.
  func finish() -> String {
    let file = FileHandle(fileDescriptor: descriptor.rawValue, closeOnDealloc: true)
    try? file.seek(toOffset: 0)
    return String(decoding: (try? file.readToEnd()) ?? Data(), as: UTF8.self)
  }
}
