import Foundation
import NIOSSL
import Vocabulary

/// The certificates that are trusted in addition to the system's.
enum TrustedCertificates {
  /// - Throws: `APIError` of kind `.untrusted`, which names the setting and the file or folder.
  static func read(
    _ sources: [NetworkSettings.CertificateSource]
  ) throws(APIError) -> [NIOSSLCertificate] {
    var certificates: [NIOSSLCertificate] = []
    for source in sources {
      var isFolder: ObjCBool = false
      guard FileManager.default.fileExists(atPath: source.path, isDirectory: &isFolder) else {
        // Like OpenSSL, ignore a missing folder, because a distribution's list can name folders that do not exist.
        if source.origin == "SSL_CERT_DIR" { continue }
        throw refusal(source, "there is no such file or folder")
      }
      certificates += try isFolder.boolValue ? folder(source) : file(source)
    }
    return certificates
  }

  private static func file(
    _ source: NetworkSettings.CertificateSource
  ) throws(APIError) -> [NIOSSLCertificate] {
    let found: [NIOSSLCertificate]
    do {
      found = try NIOSSLCertificate.fromPEMFile(source.path)
    } catch {
      throw refusal(
        source, "it is not readable for this user, or one of its certificates is not valid")
    }
    guard !found.isEmpty else { throw refusal(source, "it contains no certificate in PEM format") }
    return found
  }

  /// Reads all certificates in a folder. Other files are ignored, as in OpenSSL.
  private static func folder(
    _ source: NetworkSettings.CertificateSource
  ) throws(APIError) -> [NIOSSLCertificate] {
    guard let names = try? FileManager.default.contentsOfDirectory(atPath: source.path) else {
      throw refusal(source, "it is not readable for this user")
    }
    return names.sorted().flatMap { name in
      (try? NIOSSLCertificate.fromPEMFile("\(source.path)/\(name)")) ?? []
    }
  }

  private static func refusal(
    _ source: NetworkSettings.CertificateSource, _ why: String
  ) -> APIError {
    APIError(
      kind: .untrusted, operation: "read the certificates of \(source.origin)",
      message: "\(source.path): \(why)",
      remedy: "correct \(source.origin), or remove it")
  }
}
