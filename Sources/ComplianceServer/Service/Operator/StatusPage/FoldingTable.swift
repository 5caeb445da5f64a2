/// A table whose rows become cards where it has no room.
///
/// A cell carries its column's title for the card. The roles are written out: browsers drop those of a
/// table whose parts are laid out in another way.
struct FoldingTable {
  struct Column {
    let title: String
    let style: Style

    /// How its cells are written: the name of a class.
    enum Style: String {
      /// In one line.
      case plain
      /// In one line, to be compared digit by digit.
      case number = "n"
      /// In one line, of fixed pitch.
      case identifier = "id"
      /// In as many lines as it takes.
      case free
      /// What others wrote: takes what room is left.
      case name
    }

    init(_ title: String, _ style: Style = .plain) {
      (self.title, self.style) = (title, style)
    }
  }

  struct Row {
    /// Of the element: unique on the page, and the same whenever the row is shown, so that an update finds it.
    let id: String
    /// One for each column.
    let cells: [HTML]
  }

  /// The ID of the element that names it.
  let label: String
  let columns: [Column]
  let rows: [Row]

  var html: HTML {
    let head = columns.map { column -> HTML in
      "<th scope=\"col\" role=\"columnheader\" class=\"\(column.style.rawValue)\">\(column.title)</th>"
    }
    return """
      <table role="table" aria-labelledby="\(label)">
      <thead role="rowgroup"><tr role="row">\(head)</tr></thead>
      <tbody role="rowgroup">
      \(rows.map(html))</tbody></table>
      """
  }

  private func html(_ row: Row) -> HTML {
    let cells = zip(columns, row.cells).map { column, cell -> HTML in
      "<td role=\"cell\" class=\"\(column.style.rawValue)\" data-title=\"\(column.title)\">\(cell)</td>"
    }
    return """
      <tr role="row" id="\(row.id)">\(cells)</tr>

      """
  }
}
