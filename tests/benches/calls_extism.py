"""Calls a plugin of Extism with rows as JSON, and prints how long a call takes: the yardstick of `cargo bench --bench kernel`.

`calls_extism.py PLUGIN.wasm ROWS.json CALLS` prints the median in microseconds, of calls of one instance and of calls of an
instance each; the bytes of the answer are read and not parsed. Ends with 3 where the package `extism` is not installed.
"""

import statistics
import sys
import time

try:
    import extism
    from extism.extism import CompiledPlugin
except ImportError:
    sys.exit(3)

wasm = open(sys.argv[1], "rb").read()
rows = open(sys.argv[2], "rb").read()
calls = int(sys.argv[3])


def timed(call):
    times = []
    for _ in range(calls):
        begun = time.perf_counter()
        answer = call()
        times.append((time.perf_counter() - begun) * 1e6)
        assert answer[:1] == b"["
    return statistics.median(times)


compiled = CompiledPlugin({"wasm": [{"data": wasm}]})
instance = extism.Plugin(compiled)
reused = timed(lambda: instance.call("evaluate", rows, parse=bytes))
fresh = timed(lambda: extism.Plugin(compiled).call("evaluate", rows, parse=bytes))
print(f"{reused:.1f} {fresh:.1f}")
