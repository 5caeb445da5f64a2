# Shared functions of the benchmarks. Each benchmark sources this file. The PG* variables must name a PostgreSQL server.
# shellcheck shell=bash
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
export LC_ALL=C.UTF-8

build=$PWD/.build/${LETHE_BENCH_BUILD:-release}
lethe=$build/lethe
server=$build/compliance-server
# shellcheck disable=SC2034 # the sections read benchmarks
benchmarks=$build/benchmarks
# With SIZE=small, a section shows that it works. Its ratios mean nothing.
is_small=$([ "${SIZE:-}" != small ] || echo yes)
pairs=${is_small:+2}
pairs=${pairs:-9}
scratch=$(mktemp -d "${TMPDIR:-/tmp}/lethe-bench.XXXXXX")
chmod 755 "$scratch"
begun=()
cleanup() {
    local process
    for process in "${begun[@]}"; do kill "$process" 2>/dev/null || true; done
    wait
    rm -rf "$scratch"
}
trap cleanup EXIT

export X_BEARER_TOKEN=bench COMPLIANCE_SERVER_TOKEN=bench LETHE_WORK_DIR=$scratch/work

median() { sort -n | awk '{ value[NR] = $1 } END { print value[int((NR + 1) / 2)] }'; }

seconds_of() { # COMMAND…
    local began=${EPOCHREALTIME/./}
    "$@" >/dev/null 2>"$scratch/stderr" || { cat "$scratch/stderr" >&2; return 1; }
    awk -v t=$((${EPOCHREALTIME/./} - began)) 'BEGIN { printf "%.3f\n", t / 1e6 }'
}

size() { # FULL SMALL: the number that applies
    if [ -n "$is_small" ]; then echo "$2"; else echo "$1"; fi
}

# After a limit that was not kept: whether that does not matter, because the size is small.
is_unjudged() { [ -n "$is_small" ]; }

# Runs `peer` and `ours`, which print seconds, in turn: $pairs times, each first in every other pair. Prints the medians and the
# ratio with its quartiles, and appends them to the results as JSON. Fails if the median ratio is above the bar.
compare() { # SECTION BAR WORK PEER OURS: the last three are descriptions
    local pair
    : >"$scratch/peer.seconds"
    : >"$scratch/ours.seconds"
    for ((pair = 1; pair <= pairs; pair++)); do
        # In a function that is called before ||, an error does not end the script.
        if ((pair % 2)); then peer >>"$scratch/peer.seconds" || return 1; fi
        ours >>"$scratch/ours.seconds" || return 1
        if ! ((pair % 2)); then peer >>"$scratch/peer.seconds" || return 1; fi
    done
    scripts/bench.d/report "$@" "$scratch/peer.seconds" "$scratch/ours.seconds"
}

serve() { # DATABASE ARGUMENT…: starts the service on a free port; sets $service and $url
    "$server" serve --database "dbname=$1" --listen 127.0.0.1:0 --rate-limit 0 --spool "$scratch/spool-$1" "${@:2}" \
        2>"$scratch/server.log" &
    service=$!
    begun+=("$service")
    # shellcheck disable=SC2034 # the sections read url
    until url=$(grep -m 1 -o 'http://127.0.0.1:[0-9]*' "$scratch/server.log"); do
        kill -0 "$service" 2>/dev/null || { cat "$scratch/server.log" >&2; exit 1; }
        sleep 0.1
    done
}

platform() { # DATABASE
    createdb "$1"
    "$server" migrate up --database "dbname=$1" >/dev/null
}

fill() { # DATABASE IDS: a warehouse with posts of 600 bytes; on the platform, 3 % are deleted and 1 % have lost their location
    platform "$1"
    "$lethe" migrate up --database "dbname=$1" >/dev/null
    "$lethe" migrate up --database "dbname=$1" --demo --migrations-dir migrations/warehouse >/dev/null
    psql -q -v ON_ERROR_STOP=1 -d "$1" <<SQL
INSERT INTO platform.accounts (account_id, username, created_at)
SELECT a, 'user' || a, now() FROM generate_series(1, 1000) AS a;
INSERT INTO platform.posts (post_id, author_id, created_at, deleted_at, geo_removed_at)
SELECT 1000000000000000000 + p * 1000, 1 + p % 1000, now(),
       CASE WHEN p % 33 = 0 THEN now() END, CASE WHEN p % 100 = 7 THEN now() END
FROM generate_series(1, $2::bigint) AS p;
INSERT INTO warehouse.posts (post_id, author_id, text, latitude, longitude, created_at)
SELECT post_id, author_id, repeat('x', 480), 1, 2, created_at FROM platform.posts;
VACUUM ANALYZE;
SQL
}

definition() { # NAME
    sed -e "s/^name: .*/name: $1/" -e 's/chunk: {ids: 300000,/chunk: {ids: 6000000,/' pipelines/demo.yaml >"$scratch/$1.yaml"
}
