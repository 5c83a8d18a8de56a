#!/usr/bin/env bash
# Runs fuzz targets side by side from a folder of bin/, seeds/ and data/: run.sh OUT SECONDS JOBS
# [TARGET...]. JOBS processes in all, spread evenly over the targets; those of one target share a
# corpus. OUT gets logs/, artifacts/, corpus/ and table.txt. Status 1 if there is a finding.
set -euo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
out="$1" seconds="$2" jobs="$3"
shift 3
targets=("$@")
[ ${#targets[@]} -gt 0 ] || targets=($(cd "$here/bin" && ls fuzz_* | sed 's/^fuzz_//'))
mkdir -p "$out/logs" "$out/artifacts" "$out/corpus"
out="$(cd "$out" && pwd)"
TMPDIR="$(mktemp -d /dev/shm/headlens-fuzz-run-XXXXXX)"
export TMPDIR
trap 'rm -rf "$TMPDIR"' EXIT
export HEADLENS_FUZZ_DATA="${HEADLENS_FUZZ_DATA:-$here/data}" OMP_NUM_THREADS=1
export LD_LIBRARY_PATH="$here/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
# Freed memory is kept back a little while; more of it would count as the reader's.
export ASAN_OPTIONS="quarantine_size_mb=8:malloc_context_size=12:detect_leaks=1:allocator_may_return_null=0:abort_on_error=0"
export UBSAN_OPTIONS=print_stacktrace=1

max_len() {
  case "$1" in
    sentencepiece) echo 9000 ;;
    torch_file) echo 5000 ;;
    tokenizer_json) echo 2500 ;;
    config | npz | pickle | safetensors | tiktoken) echo 1200 ;;
    regex | text | written) echo 512 ;;
    *) echo 2000 ;;
  esac
}

# Limits that a reader must keep: 10 s and 512 MB for an input, 256 MB for one allocation.
fuzz() {
  local target=$1 seconds=$2 log=$3
  ( cd "$out/artifacts"
    # The processor time of the fuzzer and whatever it starts goes to the log's last line.
    TIMEFORMAT='cpu_seconds: %U %S'
    time "$here/bin/fuzz_$target" "$out/corpus/$target" "$here/seeds/$target" \
      -max_total_time="$seconds" -max_len="$(max_len "$target")" -timeout=10 -rss_limit_mb=512 \
      -malloc_limit_mb=256 -dict="$here/seeds/$target.dict" -artifact_prefix="$target-" \
      -print_final_stats=1 -reload=1 -use_value_profile="$(( RANDOM % 2 ))" ) >"$log" 2>&1 || true
}

# A finding ends a process; it is started again until its time is over, but not for ever.
keep_fuzzing() {
  local target=$1 job=$2 begun=$SECONDS round
  for round in $(seq 1 20); do
    local left=$(( seconds - (SECONDS - begun) ))
    [ "$left" -gt 5 ] || [ "$round" = 1 ] || break
    fuzz "$target" "$left" "$out/logs/$target-$job-$round.log"
  done
}

for ((i = 0; i < jobs || i < ${#targets[@]}; i++)); do
  target=${targets[$((i % ${#targets[@]}))]}
  mkdir -p "$out/corpus/$target"
  # With fewer jobs than targets, they take turns.
  while [ "$(jobs -rp | wc -l)" -ge "$jobs" ]; do wait -n || true; done
  keep_fuzzing "$target" "$i" &
done
wait

# What adds no coverage goes, so that a corpus stays small.
for target in "${targets[@]}"; do
  mkdir -p "$out/merged/$target"
  "$here/bin/fuzz_$target" -merge=1 -rss_limit_mb=2048 -max_len="$(max_len "$target")" \
    -artifact_prefix="$out/logs/$target-" "$out/merged/$target" "$here/seeds/$target" "$out/corpus/$target" >"$out/logs/$target-merge.log" 2>&1 &&
    rm -rf "${out:?}/corpus/$target" && mv "$out/merged/$target" "$out/corpus/$target" &
  while [ "$(jobs -rp | wc -l)" -ge "$jobs" ]; do wait -n || true; done
done
wait
rm -rf "$out/merged"

findings=0
{
  printf '| %-15s | %12s | %11s | %8s | %8s |\n' target inputs 'CPU minutes' coverage findings
  echo '| --- | ---: | ---: | ---: | ---: |'
  for target in "${targets[@]}"; do
    inputs=$(cat "$out/logs/$target"-[0-9]*.log | awk '/stat::number_of_executed_units/ { n += $2 } END { print n + 0 }')
    cpu=$(cat "$out/logs/$target"-[0-9]*.log | awk '/^cpu_seconds:/ { n += $2 + $3 } END { printf "%.1f", n / 60 }')
    coverage=$(cat "$out/logs/$target"-[0-9]*.log | (grep -o 'cov: [0-9]*' || true) | awk '{ if ($2 > n) n = $2 } END { print n + 0 }')
    found=$(find "$out/artifacts" -name "$target-crash-*" -o -name "$target-oom-*" -o -name "$target-timeout-*" \
      -o -name "$target-leak-*" | wc -l)
    broken=$( (grep -L 'stat::number_of_executed_units\|SUMMARY: ' "$out/logs/$target"-[0-9]*.log || true) | wc -l)
    printf '| %-15s | %12s | %11s | %8s | %8s |\n' "$target" "$inputs" "$cpu" "$coverage" \
      "$found$([ "$broken" = 0 ] || echo " and $broken broken logs")"
    [ "$found" = 0 ] && [ "$broken" = 0 ] || echo "$target" >>"$out/findings"
  done
} | tee "$out/table.txt"
[ ! -e "$out/findings" ] || { echo "findings: see $out/artifacts and $out/logs" >&2; exit 1; }
