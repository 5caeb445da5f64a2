internal import DefinitionFiles
import Foundation
import Vocabulary

/// Resolves the settings of the API and of the network.
extension Resolver {
  func api(_ written: WrittenAPI) -> APISettings? {
    let base = baseURL(written)
    let token = token(written)
    let hosts = written.allowedHosts.map(filled) ?? []
    let poll = positive(written.pollSeconds, "api.poll_seconds", default: 30)
    let pollMax = positive(written.pollSecondsMax, "api.poll_seconds_max", default: 60)
    let attempts = atLeastOne(written.jobAttempts, "api.job_attempts", default: 3)
    let hours = positive(written.jobHoursMax, "api.job_hours_max", default: 24)
    let slotHours = positive(written.slotHoursMax, "api.slot_hours_max", default: 24)
    let (profile, network) = (
      profile(written), network(written, isEncrypted: base?.url.hasPrefix("https") ?? true)
    )
    guard let base, let token else { return nil }
    return APISettings(
      baseURL: base.url, token: token, allowedHosts: hosts + [base.host], pollSeconds: poll,
      pollSecondsMax: max(poll, pollMax), jobAttemptsMax: attempts, jobHoursMax: hours,
      slotHoursMax: slotHours, profile: profile, network: network)
  }

  private func profile(_ written: WrittenAPI) -> UploadProfile {
    guard let word = written.profile else { return .auto }
    if let profile = UploadProfile(rawValue: word.value) { return profile }
    let words = UploadProfile.allCases.map(\.rawValue)
    let meant = YAMLMap.nearest(to: word.value, among: words)
    mistakes.note(
      word.line, "unknown api.profile \(word.value)",
      (meant.map { "did you mean \($0)? " } ?? "") + "write auto, native or gcs")
    return .auto
  }

  // MARK: The network

  private func network(_ written: WrittenAPI, isEncrypted: Bool) -> NetworkSettings {
    let defaults = NetworkSettings()
    return NetworkSettings(
      proxies: proxies(written, isEncrypted: isEncrypted), certificates: certificates(written),
      connectSeconds: positive(
        written.connectSeconds, "api.connect_seconds", default: defaults.connectSeconds),
      stallSeconds: positive(
        written.stallSeconds, "api.stall_seconds", default: defaults.stallSeconds),
      answerSeconds: positive(
        written.answerSeconds, "api.answer_seconds", default: defaults.answerSeconds),
      transferSeconds: positive(
        written.transferSeconds, "api.transfer_seconds", default: defaults.transferSeconds))
  }

  /// The proxies. A command that reads no token sends no request, so it does not report a wrong proxy in the
  /// environment or the file.
  private func proxies(_ written: WrittenAPI, isEncrypted: Bool) -> ProxySettings {
    guard readsToken else { return ProxySettings() }
    let chosen = written.proxy.flatMap(filled)
    guard chosen != nil || written.proxy == nil else { return ProxySettings() }
    do throws(ProxyRefusal) {
      return try ProxySettings(
        chosen: chosen, environment: interpolation.environment,
        isEncrypted: isEncrypted)
    } catch {
      mistakes.note(written.proxy?.line ?? written.line, error.message, error.remedy)
      return ProxySettings()
    }
  }

  private func certificates(_ written: WrittenAPI) -> [NetworkSettings.CertificateSource] {
    guard readsToken else { return [] }
    let named = NetworkSettings.CertificateSource.named(by: interpolation.environment)
    guard let written = written.caFile, let path = filled(written) else { return named }
    let absolute = Self.path(path, from: file)
    guard let text = try? String(contentsOfFile: absolute, encoding: .isoLatin1),
      text.contains("-----BEGIN CERTIFICATE-----")
    else {
      mistakes.note(
        written.line, "api.ca_file: \(absolute) is not a readable PEM file of certificates",
        "name the file of your company's CA; a relative path starts at the definition's folder")
      return named
    }
    return named + [.init(path: absolute, origin: "api.ca_file")]
  }

  /// A relative path is relative to the definition's folder. The folder is put before the path as text, because
  /// Foundation's URL would expand ~ at the beginning of the path.
  static func path(_ path: String, from definition: String) -> String {
    let folder = URL(fileURLWithPath: definition).deletingLastPathComponent().path
    return URL(fileURLWithPath: path.hasPrefix("/") ? path : "\(folder)/\(path)")
      .standardizedFileURL.path
  }

  private func baseURL(_ written: WrittenAPI) -> (url: String, host: String)? {
    let line = written.baseURL?.line ?? written.line
    guard let text = written.baseURL.map(filled) ?? "https://api.x.com" else { return nil }
    let url = text.hasSuffix("/") ? String(text.dropLast()) : text
    guard let parts = URLComponents(string: url), let host = parts.host, !host.isEmpty,
      ["http", "https"].contains(parts.scheme), parts.path.isEmpty, parts.query == nil,
      parts.fragment == nil, parts.user == nil, parts.password == nil
    else {
      return fault(
        line, "api.base_url is not a URL with only a host and a port",
        "write it like https://api.x.com, without a path")
    }
    guard parts.scheme == "https" || LoopbackHost.contains(host) else {
      return fault(
        line, "api.base_url would send the token unencrypted to \(host)",
        "use https; http is allowed only for this machine's own addresses")
    }
    return (url, parts.port.map { "\(host):\($0)" } ?? host)
  }

  private func token(_ written: WrittenAPI) -> BearerToken? {
    switch (written.bearerToken, written.bearerTokenFile) {
    case (.some, nil) where !readsToken, (nil, .some) where !readsToken:
      return BearerToken("")
    case (.some(let token), nil):
      guard let text = filled(token) else { return nil }
      guard !text.isEmpty, text.utf8.allSatisfy({ (0x21...0x7E).contains($0) }) else {
        return fault(
          token.line,
          "the token from api.bearer_token is empty, or contains spaces or characters outside ASCII",
          "put the App's Bearer token there, and nothing else")
      }
      return BearerToken(text)
    case (nil, .some(let path)):
      return self.token(from: path)
    case (nil, nil):
      guard !written.hasToken else { return nil }
      return fault(
        written.line, "api has no token",
        "add bearer_token: ${X_BEARER_TOKEN} or bearer_token_file: PATH")
    case (.some, .some(let path)):
      return fault(path.line, "api has two tokens", "keep bearer_token or bearer_token_file")
    }
  }

  private func token(from path: Located<String>) -> BearerToken? {
    guard let filledPath = filled(path) else { return nil }
    do throws(TokenFile.Refusal) {
      return BearerToken(
        try TokenFile(written: path.value, path: filledPath, definition: file).token())
    } catch {
      return fault(path.line, error.message, error.remedy)
    }
  }
}
