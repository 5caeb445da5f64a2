/// A Swift value that can be bound to a parameter of a statement.
public protocol Bindable {
  var parameter: Parameter { get }
}

/// A Swift type whose arrays can be bound to one parameter.
public protocol BindableElement {
  static func parameter(of values: [Self]) -> Parameter
}

extension Parameter: Bindable {
  public var parameter: Parameter { self }
}

extension Int: Bindable {
  public var parameter: Parameter { .integer(Int64(self)) }
}

extension Int32: Bindable {
  public var parameter: Parameter { .integer(Int64(self)) }
}

extension Int64: Bindable {
  public var parameter: Parameter { .integer(self) }
}

extension Double: Bindable {
  public var parameter: Parameter { .double(self) }
}

extension Bool: Bindable {
  public var parameter: Parameter { .bool(self) }
}

extension String: Bindable {
  public var parameter: Parameter { .text(self) }
}

extension Array: Bindable where Element: BindableElement {
  public var parameter: Parameter { Element.parameter(of: self) }
}

/// An array of bytes is one `bytea` value, not an SQL array.
extension UInt8: BindableElement {
  public static func parameter(of values: [UInt8]) -> Parameter { .bytes(values) }
}

extension Int64: BindableElement {
  public static func parameter(of values: [Int64]) -> Parameter { .integers(values) }
}

extension String: BindableElement {
  public static func parameter(of values: [String]) -> Parameter { .texts(values) }
}
