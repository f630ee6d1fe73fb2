"""A corpus of JSON and of times, generated, read by the SDK and by Python, and compared.

Usage: records.py READER [COUNT] [SEED], where READER is the example `reader` of kith-plugin-sdk. It ends with 1 where both differ.
Python's `json` is the oracle of JSON, with numbers as texts so that digits count; `dateutil` and `email.utils` are those of times.
"""

import email.utils
import json
import random
import re
import subprocess
import sys
from datetime import datetime, timedelta, timezone

from dateutil import parser as dateutil_parser

EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


def without_halves(value):
    """The value with U+FFFD in place of half surrogate pairs, as the reader writes them."""
    if isinstance(value, str):
        return re.sub("[\ud800-\udfff]", "\ufffd", value)
    if isinstance(value, list):
        return [without_halves(item) for item in value]
    if isinstance(value, dict):
        return {without_halves(key): without_halves(item) for key, item in value.items()}
    return value


def read_by_python(text):
    """A document with its numbers as they are written; of a key that comes twice the last holds."""
    number = lambda digits: "number " + digits
    return json.loads(text, parse_int=number, parse_float=number, parse_constant=lambda _: None)


def word(chance):
    letters = "ab\"\\/\n\t\u0000\u001fü€😀\ud83d\ude00{}[],:"
    return "".join(chance.choice(letters) for _ in range(chance.randrange(6)))


def value(chance, depth=0):
    kind = chance.randrange(8 if depth < 5 else 6)
    if kind == 0:
        return chance.choice([None, True, False])
    if kind == 1:
        return chance.randrange(-(10 ** chance.randrange(1, 40)), 10 ** chance.randrange(1, 40))
    if kind == 2:
        return chance.choice([chance.uniform(-1e6, 1e6), float("nan"), float("inf"), float("-inf"), 5e-324, 1.7e308])
    if kind <= 5:
        return word(chance)
    if kind == 6:
        return [value(chance, depth + 1) for _ in range(chance.randrange(5))]
    return {word(chance): value(chance, depth + 1) for _ in range(chance.randrange(5))}


def documents(chance, count):
    for _ in range(count):
        options = {
            "ensure_ascii": chance.random() < 0.5,
            "indent": chance.choice([None, 1, "\t"]),
            "sort_keys": chance.random() < 0.3,
            "separators": chance.choice([None, (",", ":"), (" , ", " : ")]),
        }
        text = json.dumps(value(chance), **options)
        if not options["ensure_ascii"]:
            # Half pairs cannot be written as UTF-8; as escapes they can.
            text = re.sub("[\ud800-\udfff]", lambda half: "\\u%04x" % ord(half.group()), text)
        text = chance.choice(["", "\ufeff", " \r\n"]) + text + chance.choice(["", "\n", "\0"])
        encoding = chance.choice(["utf-8"] * 6 + (["utf-16-le", "utf-16-be"] if text.startswith("\ufeff") else []))
        yield text.strip("\ufeff\0"), text.encode(encoding)


def times(chance, count):
    """Texts with the milliseconds since 1970 that Python's readers find in them."""
    for _ in range(count):
        offset = timezone(timedelta(minutes=15 * chance.randrange(-48, 57)))
        moment = EPOCH + timedelta(milliseconds=chance.randrange(-2_000_000_000_000, 7_000_000_000_000))
        local = moment.astimezone(offset)
        zone = local.strftime("%z")
        year, week, day = local.isocalendar()
        date = chance.choice([
            local.strftime("%Y-%m-%d"), local.strftime("%Y%m%d"), local.strftime("%Y-%j"), local.strftime("%Y%j"),
            f"{year:04}-W{week:02}-{day}", f"{year:04}W{week:02}{day}",
        ])
        clock = chance.choice(["%H:%M:%S.%f", "%H%M%S.%f", "%H:%M:%S,%f", "%H:%M:%S", "%H%M%S", "%H:%M", "%H%M", "%H"])
        clock = local.strftime(clock)
        text = date + "T" + clock + chance.choice([zone, zone[:3] + ":" + zone[3:]])
        yield text, dateutil_parser.isoparse(text)
        utc = moment.strftime("%Y-%m-%dT%H:%M") + chance.choice(["Z", ":00Z", ":59.9999999Z"])
        yield utc, dateutil_parser.isoparse(utc.replace("9999999", "999999"))
        text = email.utils.format_datetime(local)
        yield text, email.utils.parsedate_to_datetime(text)
        text = email.utils.format_datetime(moment, usegmt=True)
        yield text, email.utils.parsedate_to_datetime(text)
        text = moment.strftime(chance.choice(["%a %b %d %H:%M:%S %Y", "%B %d, %Y %I:%M:%S %p", "%d %b %Y %H:%M", "%A, %d-%b-%Y %H:%M:%S GMT"]))
        yield text, dateutil_parser.parse(text)
        text = local.strftime(chance.choice(["%Y-%m-%d %H:%M:%S ", "%Y/%m/%d %H:%M:%S ", "%Y-%m-%d %I:%M:%S %p "])) + zone
        yield text, dateutil_parser.parse(text)
        ms = chance.randrange(200_000_000_000, 4_000_000_000_000)
        exact = EPOCH + timedelta(milliseconds=ms)
        for text in [f"{ms}", f"{ms}.5", f"{ms // 1000}.{ms % 1000:03}", f"{ms}000", f"{ms}000000", f"/Date({ms})/"]:
            yield text, exact


def ms_of(moment):
    moment = moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)
    return (moment - EPOCH) // timedelta(milliseconds=1)


def main():
    reader, count = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 20_000
    seed = int(sys.argv[3]) if len(sys.argv) > 3 else random.randrange(2**32)
    chance = random.Random(seed)
    corpus = [("json", bytes_, text) for text, bytes_ in documents(chance, count)]
    corpus += [("time", text.encode(), moment) for text, moment in times(chance, count // 12)]
    asked = "".join(f"{kind} {bytes_.hex()}\n" for kind, bytes_, _ in corpus)
    answered = subprocess.run([reader], input=asked, capture_output=True, text=True, check=True).stdout.splitlines()
    assert len(answered) == len(corpus), f"{len(answered)} answers for {len(corpus)} questions"
    wrong, counts = 0, {}
    for (kind, bytes_, oracle), line in zip(corpus, answered):
        counts[kind] = counts.get(kind, 0) + 1
        answer = json.loads(line)
        if kind == "time":
            found, expected = answer["ms"], ms_of(oracle)
        else:
            found = read_by_python(answer["text"]) if "text" in answer else answer["error"]
            expected = without_halves(read_by_python(oracle))
        if found != expected:
            wrong += 1
            if wrong <= 20:
                print(f"{kind} {bytes_!r}: {found!r}, and Python reads {expected!r}")
    listed = ", ".join(f"{number} of {kind}" for kind, number in counts.items())
    print(f"seed {seed}: {len(corpus)} read ({listed}), {wrong} otherwise than Python")
    sys.exit(1 if wrong else 0)


main()
