extension ServiceDescription {
  /// The uploads and downloads of the gcs profile, on the storage host.
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
        "head": \#(download("inspectObject", "Returns the length and the hashes of a result."))
      }
      """#,
    ]
  }

  /// The parameters of a signed URL. The URL is the credential, so a request with a changed URL is refused.
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
      "description": "The ID of an upload session. A request with this ID needs no signature."
    }
    """#

  private var upload: String {
    #"""
    {
      "operationId": "uploadObject", "tags": ["bytes"], "security": [],
      "summary": "Uploads a job's IDs in one piece, or the next part of them.",
      "description": "In one piece: with the signed Content-Type, text/plain. In parts: to an upload session, with Content-Range. The length of each part except the last is a multiple of 256 KiB. An empty request with bytes */TOTAL asks how many bytes are stored. At most \#(options.storageUploadBytesMax) bytes.",
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
        "200": {"description": "The whole upload is stored.", \#(Self.objectHeaders)},
        "308": {
          "description": "The upload is incomplete. Continue with the byte after Range. Without Range, start with the first byte.",
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
      "summary": "Starts a resumable upload.",
      "parameters": [
        {"name": "x-goog-resumable", "in": "header", "schema": {"const": "start"}}
      ],
      "responses": {
        "201": {
          "description": "The upload is started. Send the parts to the URL in Location.",
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
      "summary": "Cancels a resumable upload.",
      "parameters": [\#(Self.session)],
      "responses": {
        "499": {"description": "The upload is cancelled. Google Cloud Storage uses this status."},
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
          "200": {"description": "The result, one JSON object on each line.", \#(Self.objectHeaders), \#(bytes)},
          "206": {"description": "A range of the result.", \#(Self.objectHeaders), \#(bytes)},
          "304": {"description": "The client already has the current version."},
          "416": {"description": "The result has no such range."},
          \#(Self.refusals([400, 403, 404]))
        }
      }
      """#
  }

  private static let objectHeaders = #"""
    "headers": {
      "etag": {"required": true, "schema": {"type": "string"}},
      "x-goog-hash": {"required": true, "description": "Two header fields: crc32c and md5. A composite object has no md5.", "schema": {"type": "string"}},
      "x-goog-stored-content-length": {"required": true, "schema": {"type": "string"}}
    }
    """#

  /// Returns the responses for the given statuses, and for the statuses that every request can get.
  private static func refusals(_ statuses: [Int]) -> String {
    (statuses + [405, 431, 500, 503]).map { member("\($0)", "responses/storage-refusal") }
      .joined(separator: ", ")
  }
}
