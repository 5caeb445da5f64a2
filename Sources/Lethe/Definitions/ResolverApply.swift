internal import DefinitionFiles

/// Resolves the pace of apply.
extension Resolver {
  func pace(for datasets: [Dataset]) -> ApplyPace {
    guard let apply = written.apply else { return ApplyPace() }
    if let replicas = apply.replicas, !apply.hasReplicaLag {
      mistakes.note(
        replicas.line, "apply.replicas has no effect without apply.replica_lag_max",
        "add replica_lag_max: with a time such as 10s or a size such as 64MB")
    }
    return ApplyPace(
      pauseMilliseconds: apply.pauseMilliseconds.flatMap(pause),
      rowsPerSecond: apply.rowsPerSecond.flatMap { rowsPerSecond($0, datasets) },
      replicaLagMax: apply.replicaLagMax.flatMap(replicaLag),
      replicas: apply.replicas?.value ?? [], walRateMax: apply.walRateMax.flatMap(walRate))
  }

  private func pause(_ value: Located<Int>) -> Int? {
    let milliseconds = 1...ApplyPace.waitSecondsMax * 1000
    guard milliseconds.contains(value.value) else {
      return fault(
        value.line, "apply.pause_ms is not between 1 and \(milliseconds.upperBound)",
        "write a whole number of milliseconds, or leave it out for no pause")
    }
    return value.value
  }

  /// Refuses a rate at which the wait after a transaction of `batch` plus `batch_rows` rows would exceed
  /// `ApplyPace.waitSecondsMax`. Apply would continue after that time, and exceed the rate. A transaction can change more
  /// rows if an event reaches one row in each of several tables; only the catalog shows that. Datasets whose chunks are
  /// applied in one transaction are not checked.
  private func rowsPerSecond(_ value: Located<Int>, _ datasets: [Dataset]) -> Int? {
    guard value.value >= 1 else {
      return fault(
        value.line, "apply.rows_per_second is not at least 1",
        "write a positive number, or leave it out for no bound")
    }
    for dataset in datasets {
      guard let batch = dataset.batch else { continue }
      let (rows, isOverflow) = batch.events.addingReportingOverflow(batch.rows)
      let least = ((isOverflow ? .max : rows) - 1) / ApplyPace.waitSecondsMax + 1
      guard value.value < least else { continue }
      return fault(
        value.line,
        """
        apply.rows_per_second: a transaction of \(dataset.name) may change \(batch.events) + \(batch.rows) rows \
        (batch, batch_rows), and at \(value.value) rows a second the wait after it would exceed 10 minutes
        """, "write at least \(least), or make batch and batch_rows smaller")
    }
    return value.value
  }

  private func replicaLag(_ text: Located<String>) -> ApplyPace.ReplicaLag? {
    ApplyPace.ReplicaLag(text.value)
      ?? fault(
        text.line, "apply.replica_lag_max is neither a time nor a size: \(text.value)",
        """
        write a time such as 10s (ms, s, min, h, d), or a size of WAL such as 64MB (kB, MB, GB, TB), as in PostgreSQL's \
        settings
        """)
  }

  private func walRate(_ text: Located<String>) -> ByteSize? {
    ByteSize(text.value)
      ?? fault(
        text.line, "apply.wal_rate_max is not a size: \(text.value)",
        "write the bytes for one second, such as 20MB (kB, MB, GB, TB), as in PostgreSQL's settings"
      )
  }
}
