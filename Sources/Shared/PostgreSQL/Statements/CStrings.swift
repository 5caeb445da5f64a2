internal import CLibPQ

/// Runs `body` with the strings as a NULL-terminated array of C strings, valid for the call.
func withCStrings<R>(
  _ strings: [String], _ body: (UnsafePointer<UnsafePointer<CChar>?>) -> R
) -> R {
  let copies = strings.map { Array($0.utf8CString) }
  func descend(_ index: Int, _ pointers: [UnsafePointer<CChar>?]) -> R {
    guard index < copies.count else {
      return (pointers + [nil]).withUnsafeBufferPointer { body($0.baseAddress!) }
    }
    return copies[index].withUnsafeBufferPointer {
      descend(index + 1, pointers + [$0.baseAddress])
    }
  }
  return descend(0, [])
}
