"""Runs an export's verifier on many logs in one process: reads lines of [DIR, COPIES or null], writes lines of
[exit status or null, [records at which something is wrong]]."""

import contextlib
import importlib.util
import io
import json
import re
import sys

spec = importlib.util.spec_from_file_location("verify", sys.argv[1])
verify = importlib.util.module_from_spec(spec)
spec.loader.exec_module(verify)

for line in sys.stdin:
    directory, copies = json.loads(line)
    sys.argv = ["verify.py", directory] + (["--against", copies] if copies else [])
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        try:
            verify.main()
            code = None
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 1
    found = [int(n) for n in re.findall(r"(?m)^  record (\d+):", out.getvalue())]
    print(json.dumps([code, found]))
