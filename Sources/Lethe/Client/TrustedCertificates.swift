import Foundation
import NIOSSL
import Vocabulary

/// The certificates that are trusted beside the system's.
enum TrustedCertificates {
  /// - Throws: `APIError` `.untrusted` that names what names the file or folder.
  static func read(
    _ sources: [NetworkSettings.CertificateSource]
  ) throws(APIError) -> [NIOSSLCertificate] {
    var certificates: [NIOSSLCertificate] = []
    for source in sources {
      var isFolder: ObjCBool = false
      guard FileManager.default.fileExists(atPath: source.path, isDirectory: &isFolder) else {
        // As OpenSSL: the list may be a distribution's, and not every folder of it there.
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
      throw refusal(source, "it may not be read, or one of its certificates cannot be")
    }
    guard !found.isEmpty else { throw refusal(source, "it holds no certificate in PEM") }
    return found
  }

  /// Whatever else is in such a folder is left out, as OpenSSL does.
  private static func folder(
    _ source: NetworkSettings.CertificateSource
  ) throws(APIError) -> [NIOSSLCertificate] {
    guard let names = try? FileManager.default.contentsOfDirectory(atPath: source.path) else {
      throw refusal(source, "it may not be read")
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
      remedy: "mend what \(source.origin) says, or leave it out")
  }
}
