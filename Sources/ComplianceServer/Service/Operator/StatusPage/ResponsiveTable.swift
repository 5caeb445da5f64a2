/// An HTML table. On a narrow screen, each row becomes a card.
///
/// Each cell has the title of its column, for the card. The ARIA roles are explicit, because browsers drop the implicit
/// roles of a table when CSS changes its layout.
struct ResponsiveTable {
  struct Column {
    let title: String
    let style: Style

    /// The style of the cells: the name of a CSS class.
    enum Style: String {
      /// Text on one line.
      case plain
      /// A number on one line, with digits of equal width.
      case number = "n"
      /// Text on one line, in a monospaced font.
      case identifier = "id"
      /// Text that can wrap.
      case free
      /// Text from clients. In the table, text that does not fit into the column is cut.
      case name
    }

    init(_ title: String, _ style: Style = .plain) {
      (self.title, self.style) = (title, style)
    }
  }

  struct Row {
    /// The element's ID. It is unique on the page and stays the same, because an update of the page finds the row by
    /// it.
    let id: String
    /// The cells, one for each column.
    let cells: [HTML]
  }

  /// The ID of the element that labels the table.
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
