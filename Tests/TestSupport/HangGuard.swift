public import Testing

extension Trait where Self == TimeLimitTrait {
  /// Ends a test that hangs. It says nothing of speed: a machine with other work in hand may need many times
  /// what an idle one does, and no test may fail for that.
  public static var endedIfItHangs: Self { .timeLimit(.minutes(20)) }
}
