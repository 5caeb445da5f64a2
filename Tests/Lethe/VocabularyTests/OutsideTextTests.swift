import TestSupport
import Testing
import Vocabulary

/// Tests that texts from the API, a proxy or a storage host contain no secret when Lethe logs or stores them.
@Suite struct OutsideTextTests {
  private static let signature = "Zm9vYmFyMTIzNDU2Nzg5MGFiY2RlZg"
  private static let jwt =
    "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U"

  /// A text in which a service quotes secrets, the secrets, and the part that must remain readable.
  struct Form: Sendable, CustomTestStringConvertible {
    let text: String
    let secrets: [String]
    let left: String
    var testDescription: String { text }

    init(_ text: String, _ secrets: String..., left: String = "") {
      (self.text, self.secrets, self.left) = (text, secrets, left)
    }
  }

  static let forms = [
    Form(
      "cannot PUT https://api.x.com/2/jobs/1/upload?token=hunter2&x=1 now", "hunter2",
      left: "https://api.x.com/2/jobs/1/upload?…"),
    Form("see https://host.example/a#access_token=hunter2", "hunter2", left: "host.example/a"),
    Form("https://host.example/a?hunter2 is gone", "hunter2", left: "is gone"),
    Form("https://ann:hunter2@host.example/a", "hunter2", "ann", left: "host.example/a"),
    Form("postgres://ann:p/w?x@db.example/x refused", "p/w", "ann:", left: "refused"),
    Form("dial ann:hunter2@db.example:5432", "hunter2", left: "db.example:5432"),
    Form("location: /download?sig=\(signature)&se=2026", signature, left: "/download?…"),
    Form("HTTPS%3A%2F%2Fhost%2Fa%3Ftoken%3Dhunter2 moved", "hunter2", left: "moved"),
    Form(
      "https://storage.googleapis.com/b/1?X-Goog-Algorithm=GOOG4-RSA-SHA256&X-Goog-Credential=svc%40p&X-Goog-Signature=\(signature)",
      signature, "svc%40p", left: "https://storage.googleapis.com/b/1"),
    Form(
      "X-Amz-Signature=\(signature) X-Amz-Security-Token=FwoGZXIvYXdzE X-Amz-Credential=AKIAIOSFODNN7EXAMPLE/20261126",
      signature, "FwoGZXIvYXdzE", "AKIAIOSFODNN7EXAMPLE", left: "X-Amz-Signature="),
    Form("the key AKIAIOSFODNN7EXAMPLE is unknown", "AKIAIOSFODNN7EXAMPLE", left: "is unknown"),
    Form("Authorization: Bearer hunter2 was refused", "hunter2", left: "was refused"),
    Form("bearer swordfish refused", "swordfish", left: "refused"),
    Form("BEARER: \"hunter2\" refused", "hunter2", left: "refused"),
    Form("Bea\u{200B}rer hunter2", "hunter2"),
    Form(
      "Basic YW5uOmh1bnRlcjI= is no Bearer token", "YW5uOmh1bnRlcjI", left: "is no Bearer token"),
    Form("authorization: hunter2hunter2", "hunter2"),
    Form("x-api-key: 0123456789abcdef", "0123456789abcdef"),
    Form("Set-Cookie: sid=0123456789; Path=/", "0123456789"),
    Form(#"{"access_token":"hunter2","expires_in":3600}"#, "hunter2", left: "3600"),
    Form(#"{\"client_secret\": \"hunter2\"}"#, "hunter2"),
    Form("password='hunter 2' is wrong", "hunter", left: "is wrong"),
    Form("host=db user=ann password=hunter2 dbname=x", "hunter2", left: "dbname=x"),
    Form("api_key=hunter2", "hunter2"), Form("AWSAccessKeyId=hunter2&Signature=abc%3D", "hunter2"),
    Form("GoogleAccessId=svc@p.example&Expires=1", "svc@p.example"),
    Form("the token \(jwt) has expired", jwt, "dozjgNryP4J3jVmNHl0w5N", left: "has expired"),
    Form(
      "AAAAAAAAAAAAAAAAAAAAAMLheAAAAAAA0%2BuSeid%2BULvsea4JtiGRiSDSJSI%3D is revoked",
      "uSeid", left: "is revoked"),
    Form("ghp_0123456789abcdefghij and AIzaSyA0123456789abcdef", "0123456789"),
    Form("-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBg\n-----END PRIVATE KEY-----", "MIIEvQ"),
    Form("state \(String(repeating: "aB3", count: 40)) unknown", "aB3aB3", left: "unknown"),
    Form("<a href=\"https://host.example/x?token=hunter2\">here</a>", "hunter2", left: "here"),
    Form("a-token-of-this-App is wrong", "a-token-of-this-App", left: "is wrong"),
  ]

  @Test(arguments: forms)
  func noSecretRemainsInOutsideText(form: Form) {
    let text = form.text.withoutSecrets(["a-token-of-this-App", "a/token+of=this"])
    for secret in form.secrets { #expect(!text.contains(secret), "\(text)") }
    #expect(text.contains(form.left), "\(text)")
    #expect(!text.isEmpty)
    // A second pass changes nothing.
    #expect(text.withoutSecrets() == text)
  }

  /// All threads share the regexes.
  @Test func secretsAreRemovedInManyTasksAtTheSameTime() async {
    await withTaskGroup(of: Void.self) { group in
      for _ in 1...8 {
        group.addTask {
          for _ in 1...50 {
            let text = "PUT https://u:p@host/x?sig=abc Bearer \(Self.signature) \(Self.jwt)"
              .withoutSecrets()
            #expect(text == "PUT https://…@host/x?… Bearer … …")
          }
        }
      }
    }
  }

  @Test func aGivenSecretIsRemovedPlainAndPercentEncoded() {
    for quoted in ["a/token+of=this", "a%2Ftoken%2Bof%3Dthis"] {
      #expect(!"got \(quoted) here".withoutSecrets(["a/token+of=this"]).contains("token"))
    }
  }

  @Test(arguments: [
    "no space left on device", "the job has expired", "Too Many Requests: try again in 15 minutes",
    "the Bearer token is not enrolled for Batch Compliance", "Basic authentication required",
    "Unauthorized: invalid token", "title: detail (status 503)", "unknown reason withheld",
    "https://api.x.com/2/compliance/jobs/1372966999991541762", "Zeichen, Знаки, 文字 and 🙂",
    "chunk 3: 1,234 of 5,678 bytes came",
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "what? nobody knows", "a = b, c: d", "", "one",
  ])
  func aTextWithoutASecretIsUnchanged(text: String) {
    #expect(text.withoutSecrets(["a-token-of-this-App"]) == text)
  }

  @Test func controlCharactersAreReplaced() {
    let text = "a\u{1B}[31mred\u{7}\r\nb\u{0}c\u{85}d\u{2028}e\u{202E}f\tg"
    #expect(text.withoutSecrets() == "a?[31mred? b?c d ef g")
  }

  @Test(arguments: [1, 2, 3, 4, 5] as [UInt64])
  func outsideTextIsShortenedAndNoSecretIsSplit(seed: UInt64) {
    var random = SeededGenerator(seed: seed)
    for _ in 0..<40 {
      let filler = String(repeating: "word ", count: Int.random(in: 0...900, using: &random))
      let padding = String(repeating: "x", count: Int.random(in: 0...9, using: &random))
      let text = "\(filler)\(padding) token=hunter2secret \(filler)".withoutSecrets()
      #expect(text.count <= String.outsideLengthMax, "seed \(seed)")
      #expect(!text.contains("hunter2"), "seed \(seed)")
    }
    let endless = String(repeating: "hunter2", count: 500_000).withoutSecrets(["hunter2"])
    #expect(!endless.contains("hunter") && endless.count <= String.outsideLengthMax)
  }
}
