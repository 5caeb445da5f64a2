public import Testing

extension Trait where Self == TimeLimitTrait {
  /// Ends a test that hangs. The limit is high, because a busy machine must not make a test fail.
  public static var endedIfItHangs: Self { .timeLimit(.minutes(20)) }
}
