// CollectStage
