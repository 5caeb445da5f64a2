/// Whether a host (a name or an address, without a port) is reachable only from this machine.
///
/// The whole text must be the address, because `127.0.0.1.example.org` is a public name.
func isLoopback(host: some StringProtocol) -> Bool {
  let host = host.lowercased()
  if ["localhost", "::1", "[::1]"].contains(host) { return true }
  let parts = host.split(separator: ".", omittingEmptySubsequences: false)
  return parts.count == 4 && parts[0] == "127"
    && parts.allSatisfy { (1...3).contains($0.utf8.count) && UInt8($0) != nil }
}

/// Whether the host in the authority of a request, such as `127.0.0.1:8080`, is a loopback host. An empty string is
/// not a loopback host.
func isLoopback(authority: some StringProtocol) -> Bool {
  guard let match = String(authority).wholeMatch(of: /(\[[^\]]*\]|[^:]*)(?::[0-9]*)?/) else {
    return false
  }
  return isLoopback(host: match.1)
}
