#!/usr/bin/env bash
# dvc==3.67.1, Python 3.11 in a new virtual environment, usage reports left on, as they are by default.
# Guess: a command writes its report to a temporary file; a process in the background sends it and removes the file, as
# DVC's own comment says. So nothing is left.
# Seen: nothing is sent, and each command leaves its file for good. DVC starts the background process by the path of its
# __main__.py. Python then looks for modules in DVC's folder first, whose types.py hides the standard library's, and the
# process ends at once, unseen. (Only where something at Python's start has imported `types` before does it work; then
# the file that is left is a report about the background process itself.) The check for updates dies in the same way. A
# grid of a thousand runs leaves a thousand files. `core.analytics false` or DVC_NO_ANALYTICS=1 avoids them.
# Output seen:
#   after five commands: 0 reports received, 5 files left
#   as DVC starts it: ImportError
#   by python -m dvc: 1 report received
#   with DVC_NO_ANALYTICS: 0 files left
set -euo pipefail
WORK=$(mktemp -d)
trap 'kill "$SERVER" 2>/dev/null || true; rm -rf "$WORK"' EXIT
cd "$WORK"
python3 -m venv venv
venv/bin/pip install --quiet dvc==3.67.1
export PATH=$WORK/venv/bin:$PATH
cat > server.py <<'P'
from http.server import BaseHTTPRequestHandler, HTTPServer

class Receiver(BaseHTTPRequestHandler):
    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.end_headers()
        print("report", flush=True)

    def log_message(self, *_):
        pass

server = HTTPServer(("127.0.0.1", 0), Receiver)
print(server.server_port, flush=True)
server.serve_forever()
P
python server.py > received & SERVER=$!
until [ -s received ]; do sleep 0.1; done
export DVC_ANALYTICS_ENDPOINT=http://127.0.0.1:$(head -1 received) DVC_GLOBAL_CONFIG_DIR=$WORK/config
received() { grep -c report ../received || true; }
mkdir project left none && cd project
git init -q
export TMPDIR=$WORK/left
dvc init -q
for _ in 1 2 3 4; do dvc status -q; done
sleep 20
echo "after five commands: $(received) reports received, $(ls ../left | wc -l) files left" | tee ../seen
main=$(python -c 'import dvc, os; print(os.path.dirname(dvc.__file__))')/__main__.py
set -- ../left/*
error=$(DVC_DAEMON=1 python "$main" daemon analytics "$1" 2>&1 | tail -1 || true)
echo "as DVC starts it: ${error%%:*}" | tee -a ../seen
DVC_DAEMON=1 python -m dvc daemon analytics "$1" > ../printed
echo "by python -m dvc: $(received) report received" | tee -a ../seen
export TMPDIR=$WORK/none DVC_NO_ANALYTICS=1
for _ in 1 2 3 4; do dvc status -q; done
echo "with DVC_NO_ANALYTICS: $(ls ../none | wc -l) files left" | tee -a ../seen
diff ../seen - <<'S'
after five commands: 0 reports received, 5 files left
as DVC starts it: ImportError
by python -m dvc: 1 report received
with DVC_NO_ANALYTICS: 0 files left
S
