internal import HTTPTypes

extension ServiceDescription {
  var components: String {
    #"""
    {
      "securitySchemes": {
        "app": {"type": "http", "scheme": "bearer", "description": "An App's token."},
        "operator": {"type": "http", "scheme": "bearer", "description": "The admin token."},
        "operatorPassword": {"type": "http", "scheme": "basic", "description": "The admin token as a password."}
      },
      "parameters": {\#(parameters)},
      "headers": {\#(Self.headers)},
      "responses": {\#((Problem.Kind.allCases.map(refusal) + [Self.storageRefusal]).joined(separator: ", "))},
      "schemas": {\#(schemas)}
    }
    """#
  }

  // MARK: Requests

  private var parameters: String {
    #"""
    "id": {
      "name": "id", "in": "path", "required": true,
      "schema": {"type": "string", "pattern": "^[0-9]{1,19}$"}
    },
    "token": {
      "name": "token", "in": "query", "required": true, "description": "The token in the job's URL.",
      "schema": {"type": "string"}
    },
    "fields": {
      "name": "\#(JobField.parameter)", "in": "query", "style": "form", "explode": false,
      "description": "The members of the job to return. Default: all.",
      "schema": {
        "type": "array", "minItems": 1, "uniqueItems": true,
        "items": {"enum": \#(Self.jsonArray(JobField.allCases.map(\.rawValue)))}
      }
    },
    "range": {
      "name": "Range", "in": "header", "schema": {"type": "string"}, "example": "bytes=0-99",
      "description": "One range of bytes. Any other value is ignored."
    },
    "if-none-match": {"name": "If-None-Match", "in": "header", "schema": {"type": "string"}},
    "if-range": {"name": "If-Range", "in": "header", "schema": {"type": "string"}}
    """#
  }

  // MARK: Responses

  private static let headers = #"""
    "api-version": {"required": true, "schema": {"type": "string"}},
    "x-rate-limit-limit": {
      "required": true, "schema": {"type": "integer", "minimum": 0},
      "description": "How many requests the App may send to this endpoint in a window of 15 minutes."
    },
    "x-rate-limit-remaining": {
      "required": true, "schema": {"type": "integer", "minimum": 0},
      "description": "How many requests are left in the window."
    },
    "x-rate-limit-reset": {
      "required": true, "schema": {"type": "integer", "minimum": 0},
      "description": "When the window ends, in seconds since 1970."
    },
    "etag": {"required": true, "schema": {"type": "string"}},
    "accept-ranges": {"required": true, "schema": {"const": "bytes"}},
    "content-range": {"required": true, "schema": {"type": "string", "pattern": "^bytes "}}
    """#

  private func refusal(_ kind: Problem.Kind) -> String {
    let required = kind == .resourceNotFound ? #", "required": ["resource_id"]"# : ""
    let others: [String] =
      switch kind {
      case .unauthorized:
        [#""www-authenticate": {"required": true, "schema": {"type": "string"}}"#]
      case .serviceUnavailable:
        [#""retry-after": {"required": true, "schema": {"type": "integer"}}"#]
      default: []
      }
    return #"""
      "\#(kind.rawValue)": {
        "description": "\#(kind.title).", \#(headers(isAuthenticated: kind.isAuthenticated, others)),
        "content": {
          "application/problem+json": {
            "schema": {
              "allOf": [{"$ref": "#/components/schemas/Problem"}],
              "properties": {
                "type": {"const": "\#(kind.type)"}, "title": {"const": "\#(kind.title)"},
                "status": {"const": \#(kind.status.code)}
              }\#(required)
            }
          }
        }
      }
      """#
  }

  private static let storageRefusal = #"""
    "storage-refusal": {
      "description": "An error, in the format of Google Cloud Storage.",
      "content": {
        "application/xml": {
          "schema": {
            "type": "object", "xml": {"name": "Error"},
            "properties": {"Code": {"type": "string"}, "Message": {"type": "string"}}
          }
        }
      }
    }
    """#

  private var schemas: String {
    #"""
    "JobToCreate": {
      "type": "object", "required": ["type"], "additionalProperties": false,
      "properties": {
        "type": {"enum": \#(Self.jsonArray(JobType.allCases.map(\.rawValue)))},
        "name": {
          "type": "string", "maxLength": \#(CreateRequest.nameCharactersMax), "pattern": "^[^\\u0000]*$",
          "description": "Several jobs may have the same name."
        }, "resumable": \#(options.profile == .gcs ? #"{"type": "boolean"}"# : #"{"type": "boolean", "const": false}"#)
      }
    },
    "Job": {
      "type": "object", "additionalProperties": false,
      "properties": {
        "id": {"type": "string", "pattern": "^[0-9]{1,19}$"},
        "type": {"enum": \#(Self.jsonArray(JobType.allCases.map(\.rawValue)))},
        "status": {"enum": \#(Self.jsonArray(JobStatus.allCases.map(\.rawValue)))},
        "name": {"type": "string"},
        "resumable": {"type": "boolean"},
        "created_at": {"$ref": "#/components/schemas/Instant"},
        "upload_url": {"type": "string", "pattern": "^https?://"},
        "upload_expires_at": {"$ref": "#/components/schemas/Instant"},
        "download_url": {"type": "string", "pattern": "^https?://"},
        "download_expires_at": {"$ref": "#/components/schemas/Instant"},
        "error": {"type": "string", "description": "Why the job failed. Every failed job has it."}
      }
    },
    "Instant": {
      "type": "string", "pattern": "^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\\.[0-9]{3}Z$"
    },
    "JobResponse": {
      "type": "object", "required": ["data"], "additionalProperties": false,
      "properties": {"data": {"$ref": "#/components/schemas/Job"}}
    },
    "JobList": {
      "type": "object", "required": ["meta"], "additionalProperties": false,
      "properties": {
        "data": {"type": "array", "minItems": 1, "items": {"$ref": "#/components/schemas/Job"}},
        "meta": {
          "type": "object", "required": ["result_count"], "additionalProperties": false,
          "properties": {"result_count": {"type": "integer", "minimum": 0}}
        }
      }
    },
    "Problem": {
      "type": "object", "required": ["type", "title", "detail", "status"], "additionalProperties": false,
      "description": "The reason why the request was refused (RFC 7807).",
      "properties": {
        "type": {"type": "string"}, "title": {"type": "string"}, "detail": {"type": "string"},
        "status": {"type": "integer"},
        "parameter": {"type": "string", "description": "The wrong parameter of the request."},
        "value": {"type": "string", "description": "The value of that parameter."},
        "resource_type": {"const": "compliance_job"}, "resource_id": {"type": "string"},
        "errors": {
          "type": "array",
          "items": {
            "type": "object", "required": ["message", "parameters"], "additionalProperties": false,
            "properties": {
              "message": {"type": "string"},
              "parameters": {
                "type": "object", "additionalProperties": {"type": "array", "items": {"type": "string"}}
              }
            }
          }
        }
      }
    },
    "Health": {
      "type": "object", "required": ["status", "database", "spool"], "additionalProperties": false,
      "properties": {
        "status": {"enum": ["ok", "degraded"]}, "database": {"enum": ["ok", "away", "slow"]},
        "spool": {"enum": ["ok", "away", "full", "slow"]}
      }
    },
    "FaultReport": {
      "type": "object", "required": ["faults", "served"], "additionalProperties": false,
      "properties": {
        "plan": {"type": "string"}, "seed": {"type": "integer"},
        "faults": {"type": "array", "items": {"type": "object", "required": ["name", "calls", "served"]}},
        "served": {
          "type": "array", "items": {"type": "object", "required": ["number", "time", "fault", "at", "call"]}
        }
      }
    }
    """#
  }
}

extension Problem.Kind {
  /// Whether only an authenticated App can get this response.
  fileprivate var isAuthenticated: Bool {
    switch self {
    case .notAuthorizedForResource, .resourceNotFound, .conflict, .payloadTooLarge,
      .unsupportedMediaType, .tooManyRequests:
      true
    case .invalidRequest, .unauthorized, .notFound, .methodNotAllowed, .requestTimeout,
      .headerFieldsTooLarge, .internalError, .serviceUnavailable:
      false
    }
  }
}
