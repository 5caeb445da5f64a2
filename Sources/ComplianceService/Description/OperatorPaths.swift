extension ServiceDescription {
  /// What is served to whoever runs the server.
  var operatorPaths: [String] {
    OperatorPages.Page.allCases.map { page in
      let security =
        page.isForOperators && subject.operatorsNeedToken
        ? #"[{"operator": []}, {"operatorPassword": []}]"# : "[]"
      let refusals: [Problem.Kind] =
        page.isForOperators ? (subject.operatorsNeedToken ? [.unauthorized] : [.notFound]) : []
      let success =
        #""200": {"description": "The page.", \#(headers(alwaysOfApp: false)), "content": \#(content(of: page))}"#
      return #"""
        "\#(page.path)": {
          "get": {
            "operationId": "\#(page.operationID)", "tags": ["operation"], "security": \#(security),
            "summary": "\#(page.summary)",
            "responses": \#(responses([success], refusals))
          }
        }
        """#
    }
  }

  private func content(of page: OperatorPages.Page) -> String {
    switch page {
    case .status: #"{"text/html": {}}"#
    case .health: #"{"application/json": {\#(Self.member("schema", "schemas/Health"))}}"#
    case .metrics: #"{"text/plain": {}}"#
    case .faults: #"{"application/json": {\#(Self.member("schema", "schemas/FaultReport"))}}"#
    }
  }
}

extension OperatorPages.Page {
  fileprivate var operationID: String {
    switch self {
    case .status: "showStatus"
    case .health: "checkHealth"
    case .metrics: "readMetrics"
    case .faults: "listFaults"
    }
  }

  fileprivate var summary: String {
    switch self {
    case .status: "Shows jobs and requests, for a browser."
    case .health: "Says whether the service can answer."
    case .metrics: "Counts, in Prometheus' text format."
    case .faults: "Which faults the plan has, and which of them were served."
    }
  }
}
