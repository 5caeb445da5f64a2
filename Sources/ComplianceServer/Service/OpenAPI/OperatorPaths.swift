extension ServiceDescription {
  /// The pages for operators.
  var operatorPaths: [String] {
    OperatorPages.Page.allCases.map { page in
      let security =
        page.isForOperators && options.operatorsNeedToken
        ? #"[{"operator": []}, {"operatorPassword": []}]"# : "[]"
      let refusals: [Problem.Kind] =
        page.isForOperators ? (options.operatorsNeedToken ? [.unauthorized] : [.notFound]) : []
      let success =
        #""200": {"description": "The page.", \#(headers(isAuthenticated: false)), "content": \#(content(of: page))}"#
      let unhealthy =
        #""503": {"description": "The service is degraded.", \#(headers(isAuthenticated: false)), "content": \#(content(of: page))}"#
      let successes = page == .health ? [success, unhealthy] : [success]
      func operation(_ method: String, _ id: String, _ summary: String) -> String {
        #"""
        "\#(method)": {
          "operationId": "\#(id)", "tags": ["operation"], "security": \#(security),
          "summary": "\#(summary)",
          "responses": \#(responses(successes, refusals))
        }
        """#
      }
      let get = operation("get", page.operationID, page.summary)
      let head = operation(
        "head", "\(page.operationID)Head", "Like GET, without the body.")
      return #""\#(page.path)": {\#(get), \#(head)}"#
    }
  }

  private func content(of page: OperatorPages.Page) -> String {
    switch page {
    case .status: #"{"text/html": {}}"#
    case .live: #"{"application/json": {}}"#
    case .health, .ready: #"{"application/json": {\#(Self.member("schema", "schemas/Health"))}}"#
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
    case .live: "checkLiveness"
    case .ready: "checkReadiness"
    case .metrics: "readMetrics"
    case .faults: "listFaults"
    }
  }

  fileprivate var summary: String {
    switch self {
    case .status: "Shows jobs and requests, for a browser."
    case .health:
      "Returns the state of the database and the spool. The status is 200 if both are ok."
    case .live: "Returns 200 while the process runs."
    case .ready: "Returns 200 if the server can serve requests now."
    case .metrics: "Returns metrics in Prometheus' text format."
    case .faults: "Returns the faults of the fault plan, and which of them were served."
    }
  }
}
