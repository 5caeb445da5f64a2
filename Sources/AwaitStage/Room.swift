// AwaitStage
