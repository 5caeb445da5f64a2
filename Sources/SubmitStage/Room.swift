// SubmitStage
