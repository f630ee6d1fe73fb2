"""One of the Python clients sends events through the proxy; what it does not report as failed is printed, one number a line.

python many.py segment-python|rudder-python HOST COUNT
"""

import os
import sys
import time

client, host, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
failed = set()


def note(_error, batch):
    """The clients report batches that they gave up."""
    failed.update(message["properties"]["number"] for message in batch)


if client == "segment-python":
    import segment.analytics as analytics

    analytics.write_key = os.environ["WRITE_KEY"]
    analytics.host = host
else:
    import rudderstack.analytics as analytics

    analytics.write_key = os.environ["WRITE_KEY"]
    analytics.dataPlaneUrl = host
analytics.on_error = note
analytics.max_queue_size = 100_000
for number in range(count):
    analytics.track(client, "Tried", {"number": number, "at": int(time.time() * 1000)})
analytics.flush()
analytics.shutdown()
print("\n".join(str(number) for number in range(count) if number not in failed))
