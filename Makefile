# The menu. Everything else is in scripts/.
.DEFAULT_GOAL := help
.PHONY: help setup servers demo test test-long bench bench-peers bench-api lint

help: ## Show this
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1|\2/p' $(MAKEFILE_LIST) | awk -F'|' '{ printf "%-18s %s\n", $$1, $$2 }'

setup: ## Install what is needed, build the extension, install it into the PostgreSQL of this machine
	@bash scripts/setup.sh

servers: ## Fetch PostgreSQL 17 and 18 with TimescaleDB for the tests (Debian's packages, unpacked, not installed)
	@bash scripts/servers.sh

demo: setup ## A chain of shops that sells, with its dashboard: everything on a private PostgreSQL
	cargo run --release --locked -- demo

test: setup ## Every test, against real PostgreSQL servers
	@bash scripts/test.sh

test-long: setup ## The same with the soak, property and crash tests that take minutes
	@PULSO_TEST_LONG=1 bash scripts/test.sh

bench: setup ## Measure side by side with the alternatives
	cargo run --release --locked --package pulso-bench

bench-peers: ## Measure beside pg_ivm, an upsert trigger and REFRESH, on PostgreSQL 18
	PULSO_PG_BINDIR="$$(bash scripts/servers.sh | tail -n1)" cargo run --release --locked --package pulso-bench -- peers --record

bench-api: setup ## Measure the HTTP service beside Node + Redis, and from commit to event
	@bash scripts/bench-api.sh

lint: setup ## Format, clippy and shellcheck, before a commit
	@bash scripts/lint.sh
