/// The version and homepage for both programs, their package and their manual pages.
public enum Product {
  public static let version = "0.2.0"
  /// Part of the User-Agent, so that operators of an API can find out who calls it.
  public static let homepage = "https://lethe.example"
}
