"""Holds kith/csv against Python: a corpus of numbers, dates, encodings and dialects is written by babel, the codecs of Python, its csv
module, pandas and openpyxl, imported into a running server, and what is stored is compared with what was written.

A value may be set aside as ambiguous where it is; it may never be another. `.ci/oracle-files` starts the server and runs this.
"""

import codecs
import csv
import datetime
import decimal
import io
import json
import os
import random
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request

import babel
import babel.dates
import babel.numbers
import dateutil.parser
import openpyxl
import pandas

URL, KEY = os.environ["KITH_URL"], os.environ["KITH_ADMIN_KEY"]
random.seed(int(os.environ.get("ORACLE_SEED", "1")))
FAILED = []
COUNTS = {}


def call(method, path, body=None, content_type="application/json"):
    request = urllib.request.Request(URL + path, data=body, method=method)
    request.add_header("Authorization", f"Bearer {KEY}")
    if body is not None:
        request.add_header("Content-Type", content_type)
    try:
        with urllib.request.urlopen(request) as answer:
            text = answer.read()
            return json.loads(text) if text else None
    except urllib.error.HTTPError as error:
        raise SystemExit(f"{method} {path}: {error.code} {error.read().decode()}") from error


SOURCES = 0


def load(config, content):
    """Import a file through a source of its own; the events by the property `row`, and the codes of what was set aside by line."""
    global SOURCES
    SOURCES += 1
    name, person = f"s{SOURCES}", f"p{SOURCES}"
    config = {"kind": "track", "event": {"name": "E"}, "identifiers": {"user_id": f"{person}-{{group}}"}, **config}
    call("POST", "/api/v1/installations", json.dumps({"plugin": "kith/csv", "name": name, "config": config}).encode())
    answer = call("POST", f"/api/v1/sources/{name}/records", content, "text/csv")
    call("DELETE", f"/api/v1/installations/{name}")
    rejected = {row["line"]: row["code"] for row in answer["rejected"]}
    return events_of(person), rejected, answer


def get(path):
    """What a path gives, numbers with a fraction digit by digit; None where there is nothing."""
    request = urllib.request.Request(URL + path)
    request.add_header("Authorization", f"Bearer {KEY}")
    try:
        with urllib.request.urlopen(request) as answer:
            return json.loads(answer.read(), parse_float=decimal.Decimal)
    except urllib.error.HTTPError as error:
        if error.code == 404:
            return None
        raise


def events_of(person):
    """The events of the three people that a file is about, by the property `row`."""
    events = {}
    for group in range(3):
        profile = get(f"/api/v1/profiles?identifier=user_id:{person}-{group}")
        cursor = ""
        while profile:
            page = get(f"/api/v1/profiles/{profile['id']}/events?limit=200{cursor}")
            events.update((event["properties"]["row"], event) for event in page["items"])
            if not page.get("next"):
                break
            cursor = f"&cursor={page['next']}"
    return events


def check(kind, text, expected, found):
    COUNTS[kind] = COUNTS.get(kind, 0) + 1
    if found != expected:
        FAILED.append(f"{kind}: {text!r} is {expected!r} and was read as {found!r}")


def table(rows, delimiter=",", encoding="utf-8", **dialect):
    text = io.StringIO()
    csv.writer(text, delimiter=delimiter, **dialect).writerows(rows)
    return text.getvalue().encode(encoding)


def numbers():
    """Amounts as CLDR writes them in many places, each place a file."""
    for place in ["de_DE", "de_CH", "de_AT", "fr_FR", "fr_CH", "en_US", "en_GB", "en_IN", "hi_IN", "es_ES", "es_MX", "it_IT", "pt_BR", "pt_PT",
                  "nl_NL", "pl_PL", "sv_SE", "da_DK", "nb_NO", "fi_FI", "cs_CZ", "tr_TR", "ru_RU", "ja_JP", "zh_CN", "ko_KR", "hu_HU", "ro_RO"]:
        locale = babel.Locale.parse(place)
        rows, expected = [["group", "row", "plain", "money"]], {}
        currency = babel.numbers.get_territory_currencies(locale.territory)[-1]
        for row in range(150):
            value = decimal.Decimal(random.randint(-10**random.randint(1, 9), 10**random.randint(1, 9))) / 10**random.randint(0, 3)
            places = -value.normalize().as_tuple().exponent if value else 0
            pattern = "#,##,##0." if "IN" in place else "#,##0."
            plain = babel.numbers.format_decimal(value, format=pattern + "#" * max(places, 1), locale=locale)
            money = babel.numbers.format_currency(value, currency, locale=locale, currency_digits=False)
            shown = decimal.Decimal(babel.numbers.parse_decimal(
                babel.numbers.format_decimal(value, format="0.00", locale="en"), locale="en"))
            if place == "en_US" or row % 5 == 0:
                money = babel.numbers.format_currency(value, currency, locale=locale)
                shown = value.quantize(decimal.Decimal(1).scaleb(-babel.numbers.get_currency_precision(currency)), rounding=decimal.ROUND_HALF_EVEN)
            elif babel.numbers.get_currency_precision(currency) == 0:
                # Nobody writes a part of a yen.
                shown = value.quantize(decimal.Decimal(1), rounding=decimal.ROUND_HALF_EVEN)
                money = babel.numbers.format_decimal(shown, format=pattern.rstrip("."), locale=locale) + " " + currency
            else:
                money = plain + " " + currency
                shown = value
            rows.append([row % 3, row, plain, money])
            expected[row] = (value, shown, plain, money)
        typed = lambda column: {"column": column, "type": "number"}
        config = {"properties": {"row": {"column": "row", "type": "integer"}, "plain": typed("plain"), "money": typed("money")}}
        events, rejected, _ = load(config, table(rows, delimiter=";"))
        for row, (value, shown, plain, money) in expected.items():
            if row in events:
                properties = events[row]["properties"]
                check("number", f"{place} {plain}", value, decimal.Decimal(properties["plain"]))
                check("money", f"{place} {money}", shown, decimal.Decimal(properties["money"]))
            else:
                code = rejected.get(row + 2)
                check("set aside", f"{place} {plain} {money}", "ambiguous-number", code)


def dates():
    """Dates as CLDR writes them, in words and in numbers."""
    for place in ["en_US", "en_GB", "de_DE", "fr_FR", "es_ES", "it_IT", "pt_BR", "nl_NL", "pl_PL", "sv_SE", "da_DK", "nb_NO", "fi_FI", "cs_CZ",
                  "tr_TR", "ru_RU", "ro_RO", "ja_JP", "zh_CN", "ko_KR"]:
        for style in ["full", "long", "medium"]:
            rows, expected = [["group", "row", "when"]], {}
            for row in range(60):
                # Within the bounds of the kernel, which moves what lies outside.
                day = datetime.date(1990, 1, 2) + datetime.timedelta(days=random.randint(0, 13000))
                text = babel.dates.format_date(day, format=style, locale=place)
                rows.append([row % 3, row, text])
                expected[row] = (day, text)
            config = {"properties": {"row": {"column": "row", "type": "integer"}}, "time": {"column": "when"}}
            events, rejected, _ = load(config, table(rows))
            for row, (day, text) in expected.items():
                found = events[row]["time"][:10] if row in events else rejected.get(row + 2)
                check(f"date, {style}", f"{place} {text}", day.isoformat(), found)
    rows, expected = [["group", "row", "when"]], {}
    for row in range(300):
        moment = datetime.datetime(1990, 1, 1) + datetime.timedelta(seconds=random.randint(0, 10**9))
        pattern = random.choice(["%Y-%m-%d %H:%M:%S", "%Y/%m/%d %H:%M", "%d %b %Y %H:%M:%S", "%B %d, %Y %I:%M %p", "%a, %d %b %Y %H:%M:%S GMT",
                                 "%a %b %d %H:%M:%S %Y", "%Y%m%d%H%M%S", "%d.%m.%Y %H:%M", "%d-%b-%y %H:%M:%S", "%d/%b/%Y:%H:%M:%S +0000"])
        text = moment.strftime(pattern)
        rows.append([row % 3, row, text])
        expected[row] = (dateutil.parser.parse(text.replace(":", " ", 1) if "/" in text and "+" in text else text, dayfirst="." in text), text)
    config = {"properties": {"row": {"column": "row", "type": "integer"}}, "time": {"column": "when"}}
    events, rejected, _ = load(config, table(rows))
    for row, (moment, text) in expected.items():
        found = events[row]["time"][:19] if row in events else rejected.get(row + 2)
        check("time", text, moment.strftime("%Y-%m-%dT%H:%M:%S"), found)


def zones():
    """Times of places with daylight saving, by Python's own database."""
    import zoneinfo
    for place in ["Europe/Berlin", "America/New_York", "Australia/Sydney", "Asia/Kolkata", "America/Sao_Paulo", "Africa/Casablanca", "Asia/Tehran"]:
        zone = zoneinfo.ZoneInfo(place)
        rows, expected = [["group", "row", "when"]], {}
        for row in range(200):
            utc = datetime.datetime(1990, 1, 1, tzinfo=datetime.timezone.utc) + datetime.timedelta(seconds=random.randint(0, 10**9))
            local = utc.astimezone(zone)
            if local.fold:
                continue  # of two the first is meant
            rows.append([row % 3, row, local.strftime("%Y-%m-%d %H:%M:%S")])
            expected[row] = (utc, rows[-1][2], len(rows))
        config = {"properties": {"row": {"column": "row", "type": "integer"}}, "time": {"column": "when", "zone": place}}
        events, rejected, _ = load(config, table(rows))
        for row, (utc, text, line) in expected.items():
            found = events[row]["time"][:19] if row in events else rejected.get(line)
            check("zone", f"{place} {text}", utc.strftime("%Y-%m-%dT%H:%M:%S"), found)


def encodings():
    """Every encoding that both know, set in the configuration."""
    for name in ["utf-8", "utf-16le", "utf-16be", "gb18030", "gbk", "big5", "shift_jis", "euc-jp", "iso-2022-jp", "euc-kr", "windows-1250",
                 "windows-1251", "windows-1252", "windows-1253", "windows-1254", "windows-1255", "windows-1256", "windows-1257", "windows-1258",
                 "windows-874", "koi8-r", "koi8-u", "iso-8859-2", "iso-8859-3", "iso-8859-4", "iso-8859-5", "iso-8859-7", "iso-8859-10",
                 "iso-8859-13", "iso-8859-15", "iso-8859-16", "ibm866", "macintosh"]:
        python = {"windows-874": "cp874", "ibm866": "cp866", "big5": "big5hkscs", "macintosh": "mac-roman", "shift_jis": "cp932", "euc-kr": "cp949", "gbk": "gbk"}.get(name, name)
        letters = []
        for code in list(range(0xA0, 0x600)) + list(range(0xE01, 0xE5B)) + list(range(0x3041, 0x3094)) + list(range(0x4E00, 0x5000)) + list(range(0xAC00, 0xAD00)):
            try:
                if codecs.decode(codecs.encode(chr(code), python), python) == chr(code):
                    letters.append(chr(code))
            except UnicodeError:
                pass
        letters = [letter for letter in letters if not letter.isspace() and letter.isalpha()]
        rows, expected = [["group", "row", "text"]], {}
        for row in range(50):
            text = "".join(random.choices(letters, k=random.randint(1, 30)))
            rows.append([row % 3, row, text])
            expected[row] = text
        config = {"encoding": name, "properties": {"row": {"column": "row", "type": "integer"}, "text": "text"}}
        events, rejected, _ = load(config, table(rows, encoding=python))
        for row, text in expected.items():
            found = events[row]["properties"]["text"] if row in events else rejected.get(row + 2)
            check(f"encoding", f"{name} {text}", text, found)


def dialects():
    """Awkward texts through Python's csv writer and pandas, in every dialect that is found by itself."""
    pieces = ["a", "b c", ",", ";", "\t", "|", '"', "'", "\n", "\r\n", "ü", "日本", "", " ", "\\", "1,5", "NULL", "=1+1"]
    for delimiter in [",", ";", "\t", "|"]:
        for end in ["\n", "\r\n"]:
            for bom in [b"", b"\xef\xbb\xbf"]:
                rows, expected = [["group", "row", "text"]], {}
                for row in range(100):
                    text = "".join(random.choices(pieces, k=random.randint(0, 6))).replace("\\", "/")
                    rows.append([row % 3, row, text])
                    expected[row] = text
                config = {"properties": {"row": {"column": "row", "type": "integer"}, "text": "text"}}
                events, _, _ = load(config, bom + table(rows, delimiter=delimiter, lineterminator=end))
                for row, text in expected.items():
                    found = events[row]["properties"].get("text", "") if row in events else "(missing)"
                    check("dialect", f"{delimiter!r} {end!r} {text!r}", text, found)
    frame = pandas.DataFrame({"group": [row % 3 for row in range(50)], "row": range(50),
                              "x": [None if row % 7 == 0 else row / 4 for row in range(50)], "ok": [row % 2 == 0 for row in range(50)],
                              "when": pandas.date_range("2026-01-01", periods=50, freq="7h", tz="Europe/Berlin")})
    config = {"properties": {"row": {"column": "row", "type": "integer"}, "x": {"column": "x", "type": "number"}, "ok": {"column": "ok", "type": "boolean"}},
              "time": {"column": "when"}}
    for written in [frame.to_csv(index=False), frame.to_csv(index=False, na_rep="NaN", sep=";", decimal=","), frame.to_json(orient="records", date_format="iso"),
                    frame.to_json(orient="records", lines=True, date_format="iso"), frame.to_json(orient="records", indent=2, date_unit="ms")]:
        events, rejected, _ = load(config, written.encode())
        for row in range(50):
            properties = events.get(row, {"properties": {}})["properties"]
            x = frame["x"][row]
            check("pandas", f"{written[:40]!r} {row}", None if pandas.isna(x) else decimal.Decimal(str(x)), properties.get("x") if properties.get("x") is None else decimal.Decimal(properties["x"]))
            check("pandas", f"{written[:40]!r} {row}", bool(frame["ok"][row]), properties.get("ok"))
            moment = frame["when"][row].tz_convert("UTC").strftime("%Y-%m-%dT%H:%M:%S")
            check("pandas", f"{written[:40]!r} {row} {rejected}", moment, events.get(row, {"time": ""})["time"][:19])


def workbooks():
    """Books that openpyxl writes, with typed cells, through the command that reads them on the client."""
    global SOURCES
    for book in range(4):
        SOURCES += 1
        name, person = f"s{SOURCES}", f"p{SOURCES}"
        written = openpyxl.Workbook()
        sheet = written.active
        sheet.append(["group", "row", "amount", "whole", "when", "day", "ok", "text"])
        expected = {}
        for row in range(150):
            amount = decimal.Decimal(random.randint(-10**random.randint(1, 9), 10**random.randint(1, 9))) / 100
            moment = datetime.datetime(1995, 1, 1) + datetime.timedelta(seconds=random.randint(0, 10**9))
            day, whole, text = moment.date(), random.randint(-10**9, 10**9), random.choice(["ü", "日本", "a,b", "1,5", "007", " x ", "=", "TRUE"])
            sheet.append([row % 3, row, float(amount), whole, moment, day, row % 2 == 0, text])
            sheet.cell(row + 2, 3).number_format = random.choice(["General", "#,##0.00", '0.00 "€"', "0%", "[Red]-0.0"])
            sheet.cell(row + 2, 5).number_format = random.choice(["yyyy-mm-dd hh:mm:ss", "dd/mm/yy hh:mm", "m/d/yyyy h:mm AM/PM"])
            sheet.cell(row + 2, 6).number_format = random.choice(["dd.mm.yyyy", "d-mmm-yy", "mm-dd-yy"])
            sheet.cell(row + 2, 8).data_type = "s"
            expected[row] = (amount, whole, moment, day, row % 2 == 0, text)
        if book % 2:
            written.create_sheet("other").append(["nothing"])
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "book.xlsx")
            written.save(path)
            config = {"kind": "track", "event": {"name": "E"}, "identifiers": {"user_id": f"{person}-{{group}}"}, "time": {"column": "when"},
                      "properties": {"row": {"column": "row", "type": "integer"}, "amount": {"column": "amount", "type": "number"},
                                     "whole": {"column": "whole", "type": "integer"}, "ok": {"column": "ok", "type": "boolean"}, "day": "day", "text": "text"}}
            call("POST", "/api/v1/installations", json.dumps({"plugin": "kith/csv", "name": name, "config": config}).encode())
            subprocess.run([os.environ["KITH"], "import", path, "--source", name], check=False, capture_output=True)
        events = events_of(person)
        for row, (amount, whole, moment, day, ok, text) in expected.items():
            event = events.get(row, {"properties": {}, "time": ""})
            properties = event["properties"]
            check("workbook", f"{row} amount", amount, decimal.Decimal(properties.get("amount", "NaN")))
            check("workbook", f"{row} whole", whole, properties.get("whole"))
            check("workbook", f"{row} time", moment.strftime("%Y-%m-%dT%H:%M:%S"), event["time"][:19])
            check("workbook", f"{row} day", day.isoformat(), str(properties.get("day"))[:10])
            check("workbook", f"{row} truth", ok, properties.get("ok"))
            check("workbook", f"{row} text", text, properties.get("text"))


numbers()
dates()
zones()
encodings()
dialects()
workbooks()
for kind, count in COUNTS.items():
    print(f"{kind}: {count} compared")
shown = {}
for failure in FAILED:
    kind = failure.split(":")[0]
    shown[kind] = shown.get(kind, 0) + 1
    if shown[kind] <= 12:
        print(failure)
print(f"{len(FAILED)} differ")
sys.exit(1 if FAILED else 0)
