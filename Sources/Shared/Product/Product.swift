/// The version and homepage for both programs, their package and their manual pages.
public enum Product {
  public static let version = "0.2.0"
  /// Sent in the User-Agent request header, so that the operator of an API can find out which program calls it.
  public static let homepage = "https://lethe.example"
}
