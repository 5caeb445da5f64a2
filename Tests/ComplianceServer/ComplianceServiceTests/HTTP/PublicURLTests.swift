import ComplianceService
import Testing

@Suite struct PublicURLTests {
  @Test(arguments: [
    ("https://storage.example", "https://storage.example"),
    ("HTTPS://Storage.Example///", "https://storage.example"),
    ("https://storage.example:443/", "https://storage.example"),
    ("http://storage.example:443", "http://storage.example:443"),
    ("http://STORAGE:80", "http://storage"),
    ("http://127.0.0.1:08080", "http://127.0.0.1:8080"),
    ("https://[2001:DB8::1]:443/Blobs/v1/", "https://[2001:db8::1]/Blobs/v1"),
    ("https://storage.example:8443/~a/b_c.d-e", "https://storage.example:8443/~a/b_c.d-e"),
  ])
  func aPublicURLIsNormalizedAsClientsSendIt(_ written: String, _ text: String) throws {
    #expect(try PublicURL(written).text == text)
  }

  @Test(arguments: [
    "", "example.org", "://x", "ftp://x", "https:/x", "https://", "https:///a", "https://:443",
    "https://x:", "https://x:0", "https://x:65536", "https://x:a", "https://user@x",
    "https://user:secret@x", "https://x?a", "https://x/?a=b", "https://x/#a", "https://x/a b",
    "https://x y", "https://x\ny", "https://bücher.example", "https://x/%41", "https://x/a//b",
    "https://x/../a", "https://x/./a", "https://-x", "https://[::1", "https://x/ü",
  ])
  func aMalformedPublicURLIsRefused(_ text: String) {
    let error = #expect(throws: PublicURL.Malformed.self) { _ = try PublicURL(text) }
    #expect(error.map { !$0.description.contains("secret") } == true)
  }
}
