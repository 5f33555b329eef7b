#!/bin/sh
# setup.sh DIR: lays the harness out in DIR (outside the repository), installs Debian packages, makes a certificate,
# builds the load generator. Then: cd DIR/harness && ./measure.py ...
set -eu
here=$(cd "$(dirname "$0")" && pwd)
repo=$(cd "$here/../.." && pwd)
dir=${1:?usage: setup.sh DIR}
mkdir -p "$dir/harness" "$dir/run/tls" "$dir/run/redis" "$dir/run/ev"
dir=$(cd "$dir" && pwd)

needed=""
for package in nginx libnginx-mod-http-lua libnginx-mod-http-echo lua-nginx-redis lua-cjson redis-server openssl python3; do
  dpkg -s "$package" >/dev/null 2>&1 || needed="$needed $package"
done
if [ -n "$needed" ]; then
  sudo=$([ "$(id -u)" = 0 ] || echo sudo)
  $sudo apt-get -o DPkg::Lock::Timeout=600 update -qq
  # shellcheck disable=SC2086 # a list of words
  $sudo apt-get -o DPkg::Lock::Timeout=600 install -yqq --no-install-recommends $needed >/dev/null
  for service in nginx redis-server; do
    case " $needed " in *" $service "*) $sudo service "$service" stop >/dev/null 2>&1 || true ;; esac
  done
fi

(cd "$here" && tar -cf - --exclude=target .) | tar -xf - -C "$dir/harness"
sed -i "s#@PERF@#$dir#g" "$dir/harness/conf/upstream.conf"
sed -i "s#@REPO@#$repo#g" "$dir/harness/measure.py"

cd "$dir/run/tls"
[ -f key.pem ] || openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 3650 -keyout key.pem -out cert.pem \
  -subj /CN=localhost -addext 'subjectAltName=DNS:localhost,IP:127.0.0.1' 2>/dev/null

cargo build --release --locked --quiet --manifest-path "$dir/harness/hookload/Cargo.toml"
echo "ready: cd $dir/harness && ./measure.py nginx-plain nginx-lua nginx-lua-durable gatepost -w ka4k -r 5"
