#!/bin/sh
# Builds the fuzz targets and runs each for a bounded time.
# usage: scripts/fuzz.sh [seconds per target, 20 by default]
# A crash ends it with an exit code other than 0; the input that did it is left
# in fuzz/artifacts. What the runs learn stays in fuzz/corpus.
set -eu

seconds=${1:-20}
cd "$(dirname "$0")/../fuzz"

# libFuzzer reads these counters. The stable compiler puts them in; sanitizers
# would need a nightly one.
export RUSTFLAGS="-Cpasses=sancov-module \
  -Cllvm-args=-sanitizer-coverage-level=4 \
  -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
  -Cllvm-args=-sanitizer-coverage-pc-table \
  -Ccodegen-units=1 --cfg fuzzing"

# A named target keeps the flags away from build scripts and macros.
host=$(rustc --version --verbose | sed -n 's/^host: //p')
cargo build --quiet --release --bins --target "$host" --target-dir target

for source in fuzz_targets/*.rs; do
  name=$(basename "$source" .rs)
  mkdir -p "corpus/$name" "seeds/$name" "artifacts/$name"
  printf 'fuzz %s: %s s\n' "$name" "$seconds"
  log="artifacts/$name/log"
  if ! "target/$host/release/$name" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 \
    -artifact_prefix="artifacts/$name/" -print_final_stats=1 \
    "corpus/$name" "seeds/$name" >"$log" 2>&1; then
    tail -n 40 "$log" >&2
    printf 'fuzz %s: failed; the input is in fuzz/artifacts/%s\n' "$name" "$name" >&2
    exit 1
  fi
  sed -n 's/^stat::number_of_executed_units: */  inputs tried: /p' "$log"
done
