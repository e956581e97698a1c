#!/usr/bin/env bash
# The page of a report in a real browser: no console message, no request, and a body that fits a
# phone. Leaves screenshots (light, dark, phone) beside the measured numbers.
#   ci/page.sh                    a made-up run with everything that a page can hold
#   ci/page.sh DIR                the run in DIR
# It needs Chromium and installs Debian's if it is missing and this is root.
set -euo pipefail
cd "$(dirname "$0")"/..

fail() {
  echo "ci/page.sh: $*" >&2
  exit 1
}

browser=""
for name in chromium chromium-browser google-chrome; do
  if command -v "$name" >/dev/null; then
    browser=$name
    break
  fi
done
if [ -z "$browser" ]; then
  bash ci/apt.sh chromium fonts-liberation || fail "no Chromium here"
  browser=chromium
fi

out=${CARGO_TARGET_DIR:-target}/page
rm -rf "$out"
mkdir -p "$out"
out=$(realpath "$out")

run=${1:-}
if [ -z "$run" ]; then
  run=$out/made-up
  # As scripts/test has built it.
  MADE_UP=$run cargo test -q --workspace --features harness/fault,harness/mutant --locked \
    --test it -- --ignored --exact report::a_made_up_run_is_left_to_look_at
  cargo run -q -p harness --locked -- report "$run"
fi
page=$(realpath "$run/index.html")
[ -s "$page" ] || fail "$page is missing or empty"

# Chromium's own complaints about a container without a bus or a GPU are in the same stream as the
# page's, which are the lines with CONSOLE.
browse() {
  timeout 120 "$browser" --headless=new --no-sandbox --disable-gpu --hide-scrollbars \
    --user-data-dir="$out/profile" --enable-logging=stderr --v=0 "$@" 2>>"$out/log"
}

# A window cannot be as narrow as a phone, a frame can. It reports its inner width to the outside.
cat >"$out/phone.html" <<HTML
<!DOCTYPE html><meta charset="utf-8"><body style="margin:0">
<iframe id="phone" src="file://$page" style="border:0;width:390px;height:844px"></iframe>
<p id="width"></p>
<script>
  const phone = document.getElementById("phone");
  phone.onload = () => {
    const inside = phone.contentDocument.documentElement;
    const requests = phone.contentWindow.performance.getEntriesByType("resource").length;
    document.getElementById("width").textContent =
      "body " + inside.scrollWidth + " of 390, requests " + requests;
  };
</script>
HTML

# The page may not ask for anything, so a network that does not exist must not be missed.
offline=(--host-resolver-rules="MAP * ~NOTFOUND" --allow-file-access-from-files)
browse "${offline[@]}" --window-size=1280,800 --screenshot="$out/light.png" "file://$page"
browse "${offline[@]}" --window-size=1280,800 --force-dark-mode --screenshot="$out/dark.png" \
  "file://$page"
browse "${offline[@]}" --window-size=500,844 --screenshot="$out/phone.png" "file://$out/phone.html"
browse "${offline[@]}" --dump-dom "file://$out/phone.html" >"$out/phone.dom"

console=$(grep CONSOLE "$out/log" || true)
[ -z "$console" ] || fail "the console says:
$console"
measured=$(sed -n 's/.*<p id="width">\(.*\)<\/p>.*/\1/p' "$out/phone.dom")
[ "$measured" = "body 390 of 390, requests 0" ] || fail "at 390 px: ${measured:-nothing measured}"
for shot in light dark phone; do
  [ -s "$out/$shot.png" ] || fail "no screenshot $shot.png; see $out/log"
done
echo "$run: at 390 px $measured; nothing on the console; screenshots in $out"
