public import Definitions

extension Catalog {
  /// The definition with the schema of each table. A run keeps this copy, so that it resumes with the same tables
  /// even if `search_path` changes.
  public func resolved(_ definition: Definition) -> Definition {
    func resolved(_ name: TableName) -> TableName { table(name)?.resolvedName ?? name }
    func resolved(_ targets: [Target]) -> [Target] {
      targets.map {
        Target(
          table: resolved($0.table), match: $0.match, id: $0.id, type: $0.type,
          idTimeColumn: $0.idTimeColumn, actions: $0.actions, targets: resolved($0.targets))
      }
    }
    return Definition(
      name: definition.name, limits: definition.limits,
      datasets: definition.datasets.map {
        Dataset(
          name: $0.name, type: $0.type, table: resolved($0.table), id: $0.id,
          condition: $0.condition, chunkIDsMax: $0.chunkIDsMax, chunkBytesMax: $0.chunkBytesMax,
          actions: $0.actions, targets: resolved($0.targets), tombstones: $0.tombstones,
          idTimeColumn: $0.idTimeColumn, batch: $0.batch)
      })
  }
}
