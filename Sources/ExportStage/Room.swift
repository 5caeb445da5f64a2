// ExportStage
