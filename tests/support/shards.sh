# `shards NAME FROM TO FIGURES` calls `shard N` for each N of FROM to TO, and prints what of it matches FIGURES when all are done.
#
# A shard that is done leaves its output in the target directory and is not run again as long as the sources are as they are:
# to resume, start the same command again.

shards() {
  local name=$1 from=$2 to=$3 figures=$4 marks n
  marks=$CARGO_TARGET_DIR/shards/$(git rev-parse --short=12 HEAD:src)/$name
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
