/// Whether a host is one that only this machine reaches: by its name or address, without a port.
///
/// An address has to be written out: `127.0.0.1.example.org` is somebody's name.
func isLoopback(host: some StringProtocol) -> Bool {
  let host = host.lowercased()
  if ["localhost", "::1", "[::1]"].contains(host) { return true }
  let parts = host.split(separator: ".", omittingEmptySubsequences: false)
  return parts.count == 4 && parts[0] == "127"
    && parts.allSatisfy { (1...3).contains($0.utf8.count) && UInt8($0) != nil }
}

/// The same of what a request says that it is for, such as `127.0.0.1:8080`. Nothing is no such name.
func isLoopback(authority: some StringProtocol) -> Bool {
  guard let match = String(authority).wholeMatch(of: /(\[[^\]]*\]|[^:]*)(?::[0-9]*)?/) else {
    return false
  }
  return isLoopback(host: match.1)
}
