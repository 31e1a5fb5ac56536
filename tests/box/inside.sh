#!/bin/sh
# What tests/box/run does inside the emulated machine: each check prints a figure, and ends the run when it falls short.
set -eu
fail() { echo "FAILED: $*"; sed 's/^/  log: /' /tmp/log; exit 1; }
available() { awk '/^MemAvailable/ {print int($2 / 1024)}' /proc/meminfo; }
uptime_ms() { awk '{print int($1 * 1000)}' /proc/uptime; }
# wait_for SECONDS WHAT COMMAND...
wait_for() {
	end=$(($(uptime_ms) + $1 * 1000)) what=$2
	shift 2
	until "$@" >/dev/null 2>&1; do
		[ "$(uptime_ms)" -lt "$end" ] || fail "$what"
		sleep 0.1
	done
}
page() { wget -q -O - "http://127.0.0.1:$1"; }
says() { page "$1" | grep -q "$2"; }

export PYTHONPATH=/mnt/share/penny MALLOC_ARENA_MAX=1 MALLOC_TRIM_THRESHOLD_=131072
grep -m 1 'model name' /proc/cpuinfo
echo "before: $(available) MB available of $(awk '/^MemTotal/ {print int($2 / 1024)}' /proc/meminfo)"

# A feed of 200 KB, published by a small server that ends after its one answer: it must not count as penny's memory.
python3 -S -E /mnt/share/publish.py 8000 204800 >/tmp/publish 2>&1 &
wait_for 20 'the publisher did not start' test -s /tmp/publish
mkdir -p /tmp/lab/etc
printf '[service rss]\nprivate = allow\n[service ntp]\nlocal = 10\nlisten = *\n' >/tmp/lab/etc/lab.ini
echo '<opml><body><outline xmlUrl="http://127.0.0.1:8000/feed" text=""/></body></opml>' |
	python3 -m penny rss import - --home /tmp/lab >/tmp/log 2>&1 || fail 'penny rss import'

start=$(uptime_ms)
python3 -m penny up --home /tmp/lab >/tmp/log 2>&1 &
up=$!
wait_for 60 'penny up was never ready' grep -q 'ready: digest .* up, ntp .* up, rss .* up' /tmp/log
ready=$(($(uptime_ms) - start))
echo "ready: after $ready ms"
[ "$ready" -le 12000 ] || fail 'ready after more than 12 s'

wait_for 120 'the feed is not in the digest' says 8104/ 'Item 1 of the large feed'
echo "digest: the feed of 200 KB was in it $(($(uptime_ms) - start)) ms after the start"
t=$(uptime_ms); page 8104/ >/tmp/page; echo "page: $(wc -c </tmp/page) bytes in $(($(uptime_ms) - t)) ms"
says 8106/health '"status":"up"' || fail '/health'
says 8105/ 'The large feed' || fail 'the list of feeds'

sleep 5
left=$(available)
echo "memory: $left MB available with digest, ntp and rss at rest"
for pid in $(ps -o pid,args | awk '/penny up/ && !/awk/ {print $1}'); do
	awk -v pid="$pid" '/^(Rss|Pss|Pss_Anon):/ {line = line " " $1 " " $2 " kB"} END {print "  process " pid ":" line}' \
		"/proc/$pid/smaps_rollup"
done
[ "$left" -ge 18 ] || fail "less than 18 MB available"

quick=$(ps -o pid,args | awk '/penny up/ && !/awk/ {print $1}' | sed -n 2p)  # the parent forks it first
python3 -S -E /mnt/share/ask.py "$quick" 2000 >/tmp/asked || fail "time: $(cat /tmp/asked)"
echo "time: $(cat /tmp/asked)"
python3 -m penny ntp figures --home /tmp/lab | grep requests
# A client outside the box asks through a forwarded port; tests/box/run looks whether it is content.
asked_outside() { python3 -m penny ntp figures --home /tmp/lab | grep -q '^ntp_clients 2'; }
wait_for 60 'nobody outside asked for the time' asked_outside
sleep 15

t=$(uptime_ms)
kill -TERM $up
wait $up || fail "penny up ended with $?"
echo "stopped: after $(($(uptime_ms) - t)) ms"
echo 'tests/box: passed'
