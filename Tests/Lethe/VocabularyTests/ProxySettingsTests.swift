import Testing
import Vocabulary

@Suite struct ProxySettingsTests {
  private static func proxy(
    to url: (scheme: String, host: String, port: Int), chosen: String? = nil,
    _ environment: [String: String]
  ) throws -> String? {
    try ProxySettings(chosen: chosen, environment: environment).proxy(
      scheme: url.scheme, host: url.host, port: url.port
    ).map { "\($0) \($0.origin)" }
  }

  @Test(
    arguments: [
      ([:], nil),
      (["HTTPS_PROXY": "http://p:3128"], "http://p:3128 HTTPS_PROXY"),
      (
        ["https_proxy": "http://small:1", "HTTPS_PROXY": "http://p:3128"],
        "http://small:1 https_proxy"
      ),
      (["https_proxy": "", "HTTPS_PROXY": "p:3128"], "http://p:3128 HTTPS_PROXY"),
      (["HTTP_PROXY": "http://p:3128"], nil),
      (["ALL_PROXY": "socks5://p"], "socks5://p:1080 ALL_PROXY"),
      (["all_proxy": "socks5h://[::1]:9"], "socks5://[::1]:9 all_proxy"),
      (["HTTPS_PROXY": "http://u:s%40cret@p.example"], "http://p.example:80 HTTPS_PROXY"),
      (["HTTPS_PROXY": "http://p", "NO_PROXY": "*"], nil),
      (["HTTPS_PROXY": "http://p", "no_proxy": "other.com, x.com"], nil),
      (["HTTPS_PROXY": "http://p", "NO_PROXY": "api.x.com:443"], nil),
      (["HTTPS_PROXY": "http://p", "NO_PROXY": "api.x.com:8443"], "http://p:80 HTTPS_PROXY"),
      (["HTTPS_PROXY": "http://p", "NO_PROXY": ".X.com"], nil),
      (["HTTPS_PROXY": "http://p", "NO_PROXY": "*.x.com"], nil),
      (
        ["HTTPS_PROXY": "http://p", "NO_PROXY": "i.x.com,pi.x.com,x.co"], "http://p:80 HTTPS_PROXY"
      ),
    ] as [([String: String], String?)])
  func proxyVariablesWorkAsInOtherPrograms(environment: [String: String], expected: String?) throws
  {
    #expect(try Self.proxy(to: ("https", "api.x.com", 443), environment) == expected)
  }

  @Test(arguments: [
    ("10.1.2.3", "10.0.0.0/8", true), ("11.1.2.3", "10.0.0.0/8", false),
    ("10.1.2.3", "10.1.2.3", true), ("10.1.2.30", "10.1.2.3", false),
    ("10.1.130.3", "10.1.128.0/17", true), ("10.1.127.3", "10.1.128.0/17", false),
    ("fd00::7", "fd00::/8", true), ("fe00::7", "fd00::/8", false), ("::1", "::1", true),
    ("::1", "[::1]", true), ("::1", "[::1]:443", true), ("::1", "[::1]:444", false),
    ("127.0.0.1", "127.0.0.0/99", false), ("127.0.0.1", "0.0.0.0/0", true),
  ])
  func addressesAndNetworksCanBeExcluded(host: String, exception: String, isExcluded: Bool) throws {
    let found = try Self.proxy(
      to: ("https", host, 443), ["HTTPS_PROXY": "http://p", "NO_PROXY": exception])
    #expect((found == nil) == isExcluded)
  }

  @Test func aConfiguredProxyHasPriorityOverTheVariables() throws {
    let environment = ["HTTPS_PROXY": "http://p", "HTTP_PROXY": "http://q", "NO_PROXY": "inside"]
    func found(_ chosen: String?, _ scheme: String, _ host: String) throws -> String? {
      try Self.proxy(to: (scheme, host, 1), chosen: chosen, environment)
    }
    #expect(try found("none", "https", "x") == nil)
    #expect(try found("http://mine:1", "https", "x") == "http://mine:1 api.proxy")
    #expect(try found("http://mine:1", "http", "x") == "http://mine:1 api.proxy")
    #expect(try found("http://mine:1", "https", "inside") == nil)
    #expect(try found(nil, "http", "x") == "http://q:80 HTTP_PROXY")
  }

  /// With a remote proxy, the token would leave this machine unencrypted. The proxy would also connect to its own
  /// machine, because the address is a loopback address. A proxy on this machine is allowed.
  @Test(arguments: ["127.0.0.1", "127.9.9.9", "localhost", "LOCALHOST", "::1"])
  func noRemoteProxyIsUsedForThisMachineOverHTTP(host: String) throws {
    for proxy in ["http://proxy.example:3128", "http://10.0.0.1", "socks5://proxy.example"] {
      let environment = ["HTTP_PROXY": proxy]
      #expect(try Self.proxy(to: ("http", host, 8080), environment) == nil)
      #expect(try Self.proxy(to: ("http", host, 8080), chosen: proxy, [:]) == nil)
    }
    let own = ["ALL_PROXY": "http://127.0.0.1:8888"]
    #expect(try Self.proxy(to: ("http", host, 8080), own) != nil)
    #expect(try Self.proxy(to: ("https", host, 8080), ["ALL_PROXY": "p"]) != nil)
  }

  @Test func anUnusedVariableIsNotChecked() throws {
    let odd = ["HTTP_PROXY": "https://p", "HTTPS_PROXY": "http://p"]
    let settings = try ProxySettings(chosen: nil, environment: odd, isEncrypted: true)
    #expect(settings.proxy(scheme: "https", host: "x", port: 443) != nil)
    _ = try ProxySettings(chosen: nil, environment: ["ALL_PROXY": "socks4://p", "NO_PROXY": "*"])
    let empty = try ProxySettings(chosen: "", environment: ["HTTPS_PROXY": "http://p"])
    #expect(empty.proxy(scheme: "https", host: "x", port: 443)?.host == "p")
  }

  @Test(arguments: [
    "https://u:hunter2@p:1", "ftp://p", "socks5://u:hunter2@p", "http://",
    "http://u:hunter2@p/path",
    "http://p:0", "http://p:70000", "http://p:x", "http://u:hunter2@p?x",
  ])
  func anInvalidProxyIsRefusedAndItsContentIsNotShown(url: String) throws {
    let refusal = #expect(throws: ProxyRefusal.self) {
      try ProxySettings(chosen: nil, environment: ["HTTPS_PROXY": url])
    }
    #expect(refusal?.message.contains("HTTPS_PROXY") == true)
    #expect("\(String(describing: refusal))".contains("hunter2") == false)
  }

  @Test func aProxysDescriptionContainsNoCredentials() throws {
    let proxy = try Proxy("http://u:s%40cret@p.example", origin: "api.proxy")
    #expect((proxy.user, proxy.exposedPassword) == ("u", "s@cret"))
    for text in ["\(proxy)", String(reflecting: proxy), String(describing: proxy)] {
      #expect(!text.contains("cret"))
    }
    var dumped = ""
    dump(proxy, to: &dumped)
    #expect(!dumped.contains("cret"))
  }
}
