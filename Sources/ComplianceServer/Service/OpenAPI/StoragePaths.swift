extension ServiceDescription {
  /// The bytes of the gcs profile, which another host serves.
  func storagePaths(_ url: String) -> [String] {
    let host = #""servers": [{"url": \#(Self.quoted(url))}]"#
    let bucket = StorageURLs.bucket
    return [
      #"""
      "/\#(bucket)/submission/{id}": {
        \#(host), "parameters": [\#(Self.signed)],
        "put": \#(upload), "post": \#(begin), "delete": \#(cancel)
      }
      """#,
      #"""
      "/\#(bucket)/results/{id}": {
        \#(host), "parameters": [\#(Self.signed)],
        "get": \#(download("downloadObject", "Downloads a result, or a range of it.")),
        "head": \#(download("inspectObject", "Says how long a result is, and its hashes."))
      }
      """#,
    ]
  }

  /// The URL is the credential: who changes anything of it is refused.
  private static let signed = #"""
    {"$ref": "#/components/parameters/id"},
    {"name": "X-Goog-Algorithm", "in": "query", "schema": {"type": "string"}},
    {"name": "X-Goog-Credential", "in": "query", "schema": {"type": "string"}},
    {"name": "X-Goog-Date", "in": "query", "schema": {"type": "string"}},
    {"name": "X-Goog-Expires", "in": "query", "schema": {"type": "string"}},
    {"name": "X-Goog-SignedHeaders", "in": "query", "schema": {"type": "string"}},
    {"name": "X-Goog-Signature", "in": "query", "schema": {"type": "string"}}
    """#

  private static let session = #"""
    {
      "name": "upload_id", "in": "query", "schema": {"type": "string"},
      "description": "A session that was begun. It opens its upload without a signature."
    }
    """#

  private var upload: String {
    #"""
    {
      "operationId": "uploadObject", "tags": ["bytes"], "security": [],
      "summary": "Uploads a job's IDs, whole or the next part of them.",
      "description": "Whole: with the Content-Type that was signed, text/plain. In parts: to a session, with Content-Range; each but the last a multiple of 256 KiB; an empty one with bytes */TOTAL asks how much is stored. At most \#(subject.storageUploadBytesMax) bytes.",
      "parameters": [
        \#(Self.session),
        {
          "name": "Content-Range", "in": "header",
          "schema": {
            "type": "string",
            "pattern": "^bytes ([*]|[0-9]{1,15}-([*]|[0-9]{1,15}))/([*]|[0-9]{1,15})$"
          }
        }
      ],
      "requestBody": {"content": {"text/plain": {"schema": {"type": "string"}}}},
      "responses": {
        "200": {"description": "All of it is stored.", \#(Self.objectHeaders)},
        "308": {
          "description": "More is to come, from the byte that follows Range; without Range, from the first.",
          "headers": {"range": {"schema": {"type": "string"}}}
        },
        \#(Self.refusals([400, 403, 404, 408, 410, 411]))
      }
    }
    """#
  }

  private var begin: String {
    #"""
    {
      "operationId": "beginUpload", "tags": ["bytes"], "security": [],
      "summary": "Begins an upload in parts.",
      "parameters": [
        {"name": "x-goog-resumable", "in": "header", "schema": {"const": "start"}}
      ],
      "responses": {
        "201": {
          "description": "Begun: the parts go to the URL in Location.",
          "headers": {"location": {"required": true, "schema": {"type": "string"}}}
        },
        \#(Self.refusals([400, 403, 404]))
      }
    }
    """#
  }

  private var cancel: String {
    #"""
    {
      "operationId": "cancelUpload", "tags": ["bytes"], "security": [],
      "summary": "Gives an upload in parts up.",
      "parameters": [\#(Self.session)],
      "responses": {
        "499": {"description": "Given up: what Google Cloud Storage says of it."},
        \#(Self.refusals([400, 403, 404, 410]))
      }
    }
    """#
  }

  private func download(_ id: String, _ summary: String) -> String {
    let bytes = #""content": {"application/octet-stream": {}}"#
    return #"""
      {
        "operationId": "\#(id)", "tags": ["bytes"], "security": [], "summary": "\#(summary)",
        "parameters": [
          {"$ref": "#/components/parameters/range"}, {"$ref": "#/components/parameters/if-none-match"},
          {"$ref": "#/components/parameters/if-range"}
        ],
        "responses": {
          "200": {"description": "The result, one JSON object a line.", \#(Self.objectHeaders), \#(bytes)},
          "206": {"description": "A range of it.", \#(Self.objectHeaders), \#(bytes)},
          "304": {"description": "The client has it already."},
          "416": {"description": "It has no such range."},
          \#(Self.refusals([400, 403, 404]))
        }
      }
      """#
  }

  private static let objectHeaders = #"""
    "headers": {
      "etag": {"required": true, "schema": {"type": "string"}},
      "x-goog-hash": {"required": true, "description": "crc32c, and md5 unless it is a composite, each in a field of its own.", "schema": {"type": "string"}},
      "x-goog-stored-content-length": {"required": true, "schema": {"type": "string"}}
    }
    """#

  /// Besides those that can meet any request.
  private static func refusals(_ statuses: [Int]) -> String {
    (statuses + [405, 431, 500, 503]).map { member("\($0)", "responses/storage-refusal") }
      .joined(separator: ", ")
  }
}
