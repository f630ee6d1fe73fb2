#!/bin/sh
# serve → install → import → count. Needs Rust and nothing else; KITH names a built `kith` if you have one.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
if [ -z "${KITH:-}" ]; then
    cargo build --release --manifest-path "$root/Cargo.toml" --bin kith
    KITH="${CARGO_TARGET_DIR:-$root/target}/release/kith"
fi

work=$(mktemp -d)
server=
finish() {
    [ -z "$server" ] || kill "$server" 2>/dev/null || true
    [ -z "$server" ] || wait "$server" 2>/dev/null || true
    rm -rf "$work"
}
trap finish EXIT
trap 'exit 1' INT TERM

echo "== build the csv connector"
"$KITH" plugin build "$root/plugins/connector-csv" --out "$work/csv.wasm"

echo "== serve"
# A key of one's own needs 32 characters; without KITH_ADMIN_KEY the server makes one and prints it.
KITH_ADMIN_KEY=$(head -c 24 /dev/urandom | base64 | tr '+/' 'ab')
export KITH_ADMIN_KEY
: >"$work/out"
"$KITH" serve --data "$work/data" --listen 127.0.0.1:0 --clock 2026-11-21T12:00:00Z --log warn >"$work/out" &
server=$!
tries=0
until KITH_URL=$(sed -n 's/.*listens on \(http:.*\)/\1/p' "$work/out") && [ -n "$KITH_URL" ]; do
    tries=$((tries + 1))
    [ "$tries" -lt 300 ] && kill -0 "$server" || { echo "the server did not start" >&2; exit 1; }
    sleep 0.1
done
export KITH_URL
export KITH_KEY="$KITH_ADMIN_KEY"
unset KITH_ADMIN_KEY

echo "== install"
"$KITH" plugin upload "$work/csv.wasm"
"$KITH" plugin install kith/csv --name orders --config "@$here/orders.json" --yes

echo "== import"
# One of its rows has no time that can be read: status 2 says that not every row was taken, and which go to a file to be corrected.
status=0
"$KITH" import "$here/orders.csv" --source orders --rejected "$work/rejected.csv" || status=$?
[ "$status" -eq 2 ]
cat "$work/rejected.csv"

echo "== look"
"$KITH" profile get email:ada@example.com
"$KITH" profile events user_id:ada

echo "== count"
answer=$("$KITH" audience count "events('Order Completed', '90d').size() >= 2" --json)
echo "$answer"
case $answer in
*'"count": 2,'*) echo "two people ordered twice, as expected" ;;
*) echo "expected a count of 2" >&2; exit 1 ;;
esac
