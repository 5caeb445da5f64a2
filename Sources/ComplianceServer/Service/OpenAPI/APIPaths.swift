extension ServiceDescription {
  /// The API's endpoints: JSON, and the uploads and downloads of the native profile.
  var apiPaths: [String] {
    [
      #""/2/compliance/jobs": {"get": \#(list), "post": \#(create)}"#,
      #"""
      "/2/compliance/jobs/{id}": {
        "parameters": [{"$ref": "#/components/parameters/id"}],
        "get": \#(show)\#(options.profile == .native ? ", \"delete\": \(cancel)" : "")
      }
      """#,
      #"""
      "/2/compliance/jobs/{id}/upload": {
        "parameters": [{"$ref": "#/components/parameters/id"}, {"$ref": "#/components/parameters/token"}],
        "put": \#(upload)
      }
      """#,
      #"""
      "/2/compliance/jobs/{id}/download": {
        "parameters": [
          {"$ref": "#/components/parameters/id"}, {"$ref": "#/components/parameters/token"},
          {"$ref": "#/components/parameters/fields"}, {"$ref": "#/components/parameters/range"},
          {"$ref": "#/components/parameters/if-none-match"}, {"$ref": "#/components/parameters/if-range"}
        ],
        "get": \#(download("downloadResult", "Downloads the result of a complete job, or a range of it.")),
        "head": \#(download("inspectResult", "Returns the length of the result, without the body."))
      }
      """#,
      #"""
      "\#(Self.path)": {
        "get": \#(description("describe", "Returns this description.")),
        "head": \#(description("describeHead", "Like GET, without the body."))
      }
      """#,
    ]
  }

  private static let appProblems: [Problem.Kind] = [.unauthorized, .tooManyRequests]

  private var create: String {
    #"""
    {
      "operationId": "createJob", "tags": ["jobs"], "security": [{"app": []}],
      "summary": "Creates a job. The job waits for its upload.",
      "parameters": [{"$ref": "#/components/parameters/fields"}],
      "requestBody": {
        "required": true,
        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/JobToCreate"}}}
      },
      "responses": \#(responses([job(links: Self.links)], Self.appProblems + [.conflict, .payloadTooLarge]))
    }
    """#
  }

  private var list: String {
    #"""
    {
      "operationId": "listJobs", "tags": ["jobs"], "security": [{"app": []}],
      "summary": "Lists the App's jobs of a type, newest first.",
      "parameters": [
        {
          "name": "type", "in": "query", "required": true,
          "schema": {"enum": \#(Self.jsonArray(JobType.allCases.map(\.rawValue)))}
        },
        {
          "name": "status", "in": "query",
          "schema": {"enum": \#(Self.jsonArray(JobStatus.filters.map(\.rawValue)))}
        },
        {"$ref": "#/components/parameters/fields"}
      ],
      "responses": \#(responses([success("JobList", "The jobs.")], Self.appProblems))
    }
    """#
  }

  private var show: String {
    #"""
    {
      "operationId": "showJob", "tags": ["jobs"], "security": [{"app": []}],
      "summary": "Shows one of the App's jobs.",
      "parameters": [{"$ref": "#/components/parameters/fields"}],
      "responses": \#(responses([job()], Self.appProblems + [.resourceNotFound]))
    }
    """#
  }

  private var cancel: String {
    #"""
    {
      "operationId": "cancelJob", "tags": ["jobs"], "security": [{"app": []}],
      "summary": "Cancels a job with the status created or in_progress. The job becomes failed, and its slot becomes free.",
      "parameters": [{"$ref": "#/components/parameters/fields"}],
      "responses": \#(responses([job()], Self.appProblems + [.resourceNotFound, .conflict]))
    }
    """#
  }

  private var upload: String {
    #"""
    {
      "operationId": "uploadSubmission", "tags": ["bytes"], "security": [{"app": []}],
      "summary": "Uploads a job's IDs, in one piece.",
      "description": "One ID on each line: 1 to 19 digits and a line feed. At most \#(options.uploadBytesMax) bytes. A line that is not an ID gets a result line with an error instead of an action.",
      "parameters": [{"$ref": "#/components/parameters/fields"}],
      "requestBody": {
        "required": true,
        "content": {
          "text/plain": {"schema": {"type": "string"}},
          "application/octet-stream": {"schema": {"type": "string", "format": "binary"}}
        }
      },
      "responses": \#(responses(
        [job()],
        Self.appProblems + [
          .notAuthorizedForResource, .resourceNotFound, .conflict, .payloadTooLarge,
          .unsupportedMediaType,
        ]))
    }
    """#
  }

  private func download(_ id: String, _ summary: String) -> String {
    let always = ["etag", "accept-ranges"].map(Self.header)
    let part = Self.header("content-range")
    let bytes = #""content": {"application/octet-stream": {}}"#
    let successes = [
      #""200": {"description": "The result, one JSON object on each line.", \#(headers(isAuthenticated: true, always)), \#(bytes)}"#,
      #""206": {"description": "A range of the result.", \#(headers(isAuthenticated: true, always + [part])), \#(bytes)}"#,
      #""304": {"description": "The client already has the current version.", \#(headers(isAuthenticated: true, always))}"#,
      #""416": {"description": "The result has no such range.", \#(headers(isAuthenticated: true, always + [part]))}"#,
    ]
    return #"""
      {
        "operationId": "\#(id)", "tags": ["bytes"], "security": [{"app": []}],
        "summary": "\#(summary)",
        "responses": \#(responses(
          successes, Self.appProblems + [.notAuthorizedForResource, .resourceNotFound]))
      }
      """#
  }

  private func description(_ id: String, _ summary: String) -> String {
    let success =
      #""200": {"description": "This description.", \#(headers(isAuthenticated: false)), "content": {"application/json": {"schema": {"type": "object", "required": ["openapi", "info", "paths"]}}}}"#
    return #"""
      {
        "operationId": "\#(id)", "tags": ["operation"], "security": [], "summary": "\#(summary)",
        "responses": \#(responses([success], []))
      }
      """#
  }

  // MARK: Responses

  private func job(links: String = "") -> String { success("JobResponse", "The job.", links) }

  private func success(_ schema: String, _ description: String, _ links: String = "") -> String {
    #"""
    "200": {
      "description": "\#(description)", \#(headers(isAuthenticated: true)),
      "content": {"application/json": {"schema": {"$ref": "#/components/schemas/\#(schema)"}}}\#(links)
    }
    """#
  }

  /// The link from the response of `createJob` to the operation that shows the new job.
  private static let links = #"""
    , "links": {
        "show": {"operationId": "showJob", "parameters": {"id": "$response.body#/data/id"}}
      }
    """#
}
