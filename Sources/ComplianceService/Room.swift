// ComplianceService
