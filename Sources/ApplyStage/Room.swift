// ApplyStage
