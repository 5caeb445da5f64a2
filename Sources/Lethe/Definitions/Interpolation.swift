/// Replaces `${VAR}` and `${VAR:-default}` with values from the environment, and `$$` with a dollar sign.
///
/// The replacement happens after the YAML is read, so a variable's value can contain any characters.
struct Interpolation {
  let environment: [String: String]

  struct Fault {
    let message: String
    let remedy: String
  }

  /// Replaces the variables in a text.
  /// - Returns: the new text, and all faults.
  func fill(_ text: String) -> (text: String, faults: [Fault]) {
    var result = ""
    var faults: [Fault] = []
    var rest = text[...]
    while let dollar = rest.firstIndex(of: "$") {
      result += rest[..<dollar]
      rest = rest[rest.index(after: dollar)...]
      if rest.first == "$" {
        result += "$"
        rest.removeFirst()
      } else if rest.first == "{" {
        guard let end = rest.firstIndex(of: "}") else {
          faults.append(
            Fault(message: "a ${ without its }", remedy: "add the }, or write $$ for a dollar sign")
          )
          break
        }
        do throws(Refusal) {
          result += try value(of: rest[rest.index(after: rest.startIndex)..<end])
        } catch {
          faults.append(error.fault)
        }
        rest = rest[rest.index(after: end)...]
      } else {
        result += "$"
      }
    }
    return (result + rest, faults)
  }

  private struct Refusal: Error {
    let fault: Fault

    init(message: String, remedy: String) {
      fault = Fault(message: message, remedy: remedy)
    }
  }

  /// The value of an expression.
  /// - Parameter expression: `VAR` or `VAR:-default`. With a default, an empty variable counts as unset, as in
  ///   the shell.
  private func value(of expression: Substring) throws(Refusal) -> String {
    let name: Substring
    var fallback: Substring?
    if let separator = expression.firstRange(of: ":-") {
      name = expression[..<separator.lowerBound]
      fallback = expression[separator.upperBound...]
    } else {
      name = expression
    }
    guard let first = name.first, first.isLetter || first == "_",
      name.allSatisfy({ $0.isASCII && ($0.isLetter || $0.isNumber || $0 == "_") })
    else {
      throw Refusal(
        message: "${\(expression)} does not name an environment variable",
        remedy: "write ${NAME} or ${NAME:-default}")
    }
    let value = environment[String(name)]
    if let fallback { return value.flatMap { $0.isEmpty ? nil : $0 } ?? String(fallback) }
    guard let value else {
      throw Refusal(
        message: "the environment variable \(name) is not set",
        remedy: "set it, or give a default: ${\(name):-…}")
    }
    return value
  }
}
