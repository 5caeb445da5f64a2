/// What both programs, their package and their manual say of themselves.
public enum Product {
  public static let version = "0.2.0"
  /// Where those who run an API find out who calls them.
  public static let homepage = "https://lethe.example"
}
