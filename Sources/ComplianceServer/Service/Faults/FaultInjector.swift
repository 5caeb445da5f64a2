internal import FaultPlans
internal import Foundation
internal import HTTPTypes
internal import Hummingbird
internal import NIOCore
internal import Synchronization
internal import SystemPackage

/// Injects the faults of a fault plan, and records them.
final class FaultInjector: Sendable {
  /// A fault that happened.
  struct Served: Sendable {
    /// The number of this occurrence, counted from 1 over all faults.
    let number: Int
    let at: Date
    let fault: String
    let point: Fault.Point
    /// The number of the call, counted over all calls at the fault's points.
    let call: Int
    let jobID: Int64?
  }

  struct Count: Sendable {
    let fault: Fault
    let calls: Int
    let served: Int
  }

  struct Record: Sendable {
    let counts: [Count]
    /// The latest occurrences of faults, oldest first.
    let served: [Served]
  }

  /// A fault that the plan schedules for a call.
  fileprivate struct DueFault {
    let index: Int
    let fault: Fault
    let point: Fault.Point
    let call: Int
  }

  private struct State {
    var calls: [Int]
    var counts: [Int]
    var served: [Served] = []
  }

  /// The largest number of occurrences in the record.
  private static let servedMax = 10_000

  let plan: FaultPlan
  private let state: Mutex<State>
  /// Expires a job.
  private let expire: @Sendable (_ jobID: Int64) async throws -> Void

  init(_ plan: FaultPlan, expire: @escaping @Sendable (_ jobID: Int64) async throws -> Void) {
    self.plan = plan
    self.expire = expire
    let zeros = Array(repeating: 0, count: plan.faults.count)
    state = Mutex(State(calls: zeros, counts: zeros))
  }

  var record: Record {
    state.withLock { state in
      Record(
        counts: plan.faults.indices.map {
          Count(fault: plan.faults[$0], calls: state.calls[$0], served: state.counts[$0])
        },
        served: state.served)
    }
  }

  /// Counts a call, and returns the faults for it.
  private func due(at point: Fault.Point) -> [DueFault] {
    state.withLock { state in
      plan.faults.indices.compactMap { index in
        let fault = plan.faults[index]
        guard fault.points.contains(point) else { return nil }
        state.calls[index] += 1
        let call = state.calls[index]
        guard plan.isDue(index, call: call) else { return nil }
        return DueFault(index: index, fault: fault, point: point, call: call)
      }
    }
  }

  /// Records that a fault happens now.
  /// - Returns: false if the fault has already happened `timesMax` times. Then it must not happen now.
  private func serve(_ due: DueFault, _ jobID: Int64?, _ exchange: Exchange? = nil) -> Bool {
    let isServed = state.withLock { state in
      guard state.counts[due.index] < due.fault.timesMax ?? .max else { return false }
      state.counts[due.index] += 1
      if state.served.count == Self.servedMax { state.served.removeFirst(Self.servedMax / 10) }
      state.served.append(
        Served(
          number: state.counts.reduce(0, +), at: .now, fault: due.fault.name, point: due.point,
          call: due.call, jobID: jobID))
      return true
    }
    if isServed { exchange?.note { $0.faults.append(due.fault.name) } }
    return isServed
  }

  // MARK: Requests

  /// Handles a request, with the faults that are due for it.
  /// - Throws: errors of `handle`; `ConnectionCut`; errors of a fault, such as `CancellationError` during a delay.
  func respond(
    _ point: Fault.Point, _ exchange: Exchange, _ handle: () async throws -> Response
  ) async throws -> Response {
    let due = due(at: point)
    for due in due {
      switch due.fault.kind {
      case .latency(let time) where serve(due, exchange.facts.jobID, exchange):
        try await Task.sleep(for: time)
      case .respond(let change, let reset) where serve(due, exchange.facts.jobID, exchange):
        if change.status == 429 { exchange.exhaustRateLimit(for: reset ?? .seconds(60)) }
        return try await changed(Response(status: .ok), change, point, exchange)
      case .cut(.before) where serve(due, exchange.facts.jobID, exchange):
        throw exchange.cut()
      case .profile(let name) where serve(due, nil, exchange):
        exchange.note { $0.profile = WireProfile(rawValue: name) }
      case .store(let fraction) where serve(due, exchange.facts.jobID, exchange):
        exchange.note { $0.storedFraction = fraction }
      default: break
      }
    }
    let loss = due.first { $0.fault.kind == .loseResponse }
    var response: Response
    do {
      response = try await handle()
    } catch {
      if let loss, serve(loss, exchange.facts.jobID, exchange) { throw exchange.cut() }
      // The middleware writes the response for an error. Here only the head of the response can be changed.
      for due in due where !(error is ConnectionCut) {
        guard case .rewrite(let change) = due.fault.kind else { continue }
        if serve(due, exchange.facts.jobID, exchange) {
          await exchange.changeHead(change.head(at: .now))
        }
      }
      throw error
    }
    for due in due {
      response = try await applied(to: response, due, exchange)
    }
    return response
  }

  private func applied(to response: Response, _ due: DueFault, _ exchange: Exchange) async throws
    -> Response
  {
    let jobID = exchange.facts.jobID
    let bytes = response.body.contentLength ?? 0
    switch due.fault.kind {
    case .expire:
      if let jobID, serve(due, jobID, exchange) { try await expire(jobID) }
    case .loseResponse:
      if serve(due, jobID, exchange) { throw exchange.cut() }
    case .rewrite(let change):
      guard serve(due, jobID, exchange) else { break }
      return try await changed(response, change, due.point, exchange)
    case .cut(.during) where bytes > 0:
      guard serve(due, jobID, exchange) else { break }
      return response.replacingBody(length: bytes) { body, writer in
        try await body.write(PartWriter(writer: writer, left: bytes / 2))
        exchange.cut()
      }
    case .cut(.after):
      guard serve(due, jobID, exchange) else { break }
      return response.replacingBody(length: response.body.contentLength) { body, writer in
        exchange.closeAfterResponse()
        try await body.write(writer)
      }
    case .truncate(let fraction) where response.status.kind == .successful && bytes > 0:
      guard serve(due, jobID, exchange) else { break }
      let left = Int(Double(bytes) * fraction)
      return response.replacingBody(length: left) { body, writer in
        try await body.write(PartWriter(writer: writer, left: left))
        try await writer.finish(nil)
      }
    case .corrupt(let count) where response.status.kind == .successful && bytes > 0:
      guard serve(due, jobID, exchange) else { break }
      var random = plan.generator(due.index, due.call)
      let offsets = Set((0..<count).map { _ in Int.random(in: 0..<bytes, using: &random) })
      return response.replacingBody(length: bytes) { body, writer in
        try await body.write(CorruptingWriter(writer: writer, offsets: offsets.sorted()))
        try await writer.finish(nil)
      }
    default: break
    }
    return response
  }

  private func changed(
    _ response: Response, _ change: ResponseChange, _ point: Fault.Point, _ exchange: Exchange
  ) async throws -> Response {
    let now = Date.now
    let changed = try await change.applied(to: response, of: point, at: now)
    await exchange.changeHead(change.head(at: now))
    return changed
  }

  // MARK: Jobs

  /// The faults that happen while one job is processed.
  struct JobFaults: Sendable {
    var delay = Duration.zero
    /// The job's error, if a fault makes the job fail.
    var error: String?
    fileprivate var lines: [DueFault] = []
    fileprivate let jobID: Int64

    var addsLines: Bool { !lines.isEmpty }
  }

  func faults(of jobID: Int64) -> JobFaults {
    var faults = JobFaults(jobID: jobID)
    for due in due(at: .processing) {
      switch due.fault.kind {
      case .slow(let time): if serve(due, jobID) { faults.delay += time }
      case .fail(let error): if serve(due, jobID) { faults.error = error }
      default: faults.lines.append(due)
      }
    }
    return faults
  }

  /// Copies a result and inserts the lines of the due faults.
  /// - Returns: the new length in bytes.
  func insertLines(_ faults: JobFaults, _ path: FilePath, to target: FilePath) throws -> Int64 {
    var inserter = try ResultLineInserter(path)
    for due in faults.lines where !inserter.isEmpty && serve(due, faults.jobID) {
      inserter.add(due.fault.kind)
    }
    return try inserter.write(to: target)
  }
}

/// A fault closed the connection, so no response can be sent.
struct ConnectionCut: Error {}

extension Response {
  /// The same response, but `write` sends the body.
  fileprivate func replacingBody(
    length: Int?,
    _ write:
      @escaping @Sendable (_ body: ResponseBody, _ writer: any ResponseBodyWriter) async throws ->
      Void
  ) -> Response {
    var headers = headers
    headers[.contentLength] = nil
    return Response(
      status: status, headers: headers,
      body: ResponseBody(contentLength: length) { [body] writer in try await write(body, writer) })
  }
}

/// Sends only the first bytes of a body, and does not finish it.
private struct PartWriter: ResponseBodyWriter {
  let writer: any ResponseBodyWriter
  var left: Int

  mutating func write(_ buffer: ByteBuffer) async throws {
    var buffer = buffer
    guard let part = buffer.readSlice(length: min(left, buffer.readableBytes)) else { return }
    left -= part.readableBytes
    var writer = writer
    if part.readableBytes > 0 { try await writer.write(part) }
  }

  consuming func finish(_ trailingHeaders: HTTPFields?) async throws {}
}

/// Sends a body with changed bytes at the given offsets, and does not finish it.
private struct CorruptingWriter: ResponseBodyWriter {
  let writer: any ResponseBodyWriter
  /// Offsets in ascending order.
  let offsets: [Int]
  var offset = 0

  init(writer: any ResponseBodyWriter, offsets: [Int]) {
    self.writer = writer
    self.offsets = offsets
  }

  mutating func write(_ buffer: ByteBuffer) async throws {
    var buffer = buffer
    for position in offsets where (offset..<offset + buffer.readableBytes).contains(position) {
      let index = buffer.readerIndex + position - offset
      let byte = buffer.getInteger(at: index, as: UInt8.self) ?? 0
      buffer.setInteger(byte ^ 0x15, at: index)
    }
    offset += buffer.readableBytes
    var writer = writer
    try await writer.write(buffer)
  }

  consuming func finish(_ trailingHeaders: HTTPFields?) async throws {}
}

extension FaultInjector? {
  /// Handles a request, with the faults that are due for it.
  func respond(
    _ endpoint: Endpoint, _ exchange: Exchange, _ handle: () async throws -> Response
  ) async throws -> Response {
    guard let self, let point = Fault.Point(rawValue: endpoint.rawValue) else {
      return try await handle()
    }
    return try await self.respond(point, exchange, handle)
  }
}
