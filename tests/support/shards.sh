# `shards NAME FROM TO FIGURES TESTS...` calls `shard N` for each N of FROM to TO, and prints what of it matches FIGURES when all
# are done. TESTS are the directories of the tests that run, and what else a shard depends on as `NAME=VALUE`.
#
# A shard that is done leaves its output in the target directory, and is not run again as long as the sources, these tests and
# what the values say are as they are: to resume, start the same command again.

shards() {
  local name=$1 from=$2 to=$3 figures=$4 marks n word
  shift 4
  local paths=(src Cargo.toml Cargo.lock tests/support tests/it/world) values=()
  for word; do
    case $word in
      *=*) values+=("$word") ;;
      *) paths+=("$word") ;;
    esac
  done
  n=$({ git ls-files -s "${paths[@]}"; git diff HEAD -- "${paths[@]}"; echo "${values[@]}"; } | git hash-object --stdin)
  marks=$CARGO_TARGET_DIR/shards/${n:0:12}/$name
  mkdir -p "$marks"
  for ((n = from; n < to; n++)); do
    [ -e "$marks/$n" ] && continue
    shard "$n" 2>&1 | tee "$marks/running-$n"
    mv "$marks/running-$n" "$marks/$n"
    echo "done: shard $n of $name"
  done
  for ((n = from; n < to; n++)); do
    grep -hE "$figures" "$marks/$n"
  done
}
