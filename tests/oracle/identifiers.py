"""A corpus of telephone numbers, addresses and ids, generated, and compared with what the identity rules of a workspace make of them.

Usage: identifiers.py IDENTIFIERS [COUNT] [SEED], where IDENTIFIERS is the example `identifiers` of kith-model. It ends with 1 where both differ.
Numbers are made of the plans of Google's libphonenumber (`phonenumbers`) and written in its formats and as people vary them; their oracle
is its E.164. The oracle of addresses and ids is Python's Unicode: composed, and of addresses in lower case.

Where Kith differs on purpose (docs/identity.md): it knows calling codes and the prefix that is dialled inside of a country, not the plan of each
country. `KNOWN` lists what that changes; it is counted apart.
"""

import json
import random
import subprocess
import sys
import unicodedata

import phonenumbers
from phonenumbers import PhoneNumberFormat as Format
from phonenumbers import PhoneNumberType as Type

REGIONS = (
    "AE AL AR AT AU BA BD BE BG BR BY CA CH CL CN CO CY CZ DE DK DZ EE EG ES FI FR GB GR HK HR HU ID IE IL IN IQ IR IS IT JO JP KE KR KW KZ LB "
    "LI LK LT LU LV MA MD ME MK MT MX MY NG NL NO NZ PE PH PK PL PT QA RO RS RU SA SE SG SI SK TH TR TW UA US ZA"
).split()
FULL_WIDTH = str.maketrans("0123456789+", "".join(chr(0xFF10 + digit) for digit in range(10)) + "\uff0b")
ARABIC = str.maketrans("0123456789", "".join(chr(0x660 + digit) for digit in range(10)))
KNOWN = {
    ("AR", "national"): "inside of the country a mobile number has 15 behind its area code, and from abroad 9 before it",
}


def numbers_of(chance, region, count):
    """Valid numbers of a region: an example of its plan with its last digits changed."""
    found = []
    examples = [phonenumbers.example_number_for_type(region, kind) for kind in (Type.MOBILE, Type.FIXED_LINE)]
    examples = [example for example in examples if example]
    for _ in range(count * 20):
        if len(found) == count:
            break
        example = chance.choice(examples)
        digits = phonenumbers.national_significant_number(example)
        keep = len(digits) - chance.randrange(1, 7)
        digits = digits[:keep] + "".join(chance.choice("0123456789") for _ in digits[keep:])
        number = phonenumbers.parse(f"+{example.country_code}{digits}", region)
        if phonenumbers.is_valid_number(number) and phonenumbers.region_code_for_number(number) == region:
            found.append(number)
    return found


def spellings(chance, number, region):
    """Ways to write a number, each with the region that a reader needs, or None."""
    whole = phonenumbers.format_number(number, Format.E164)
    international = phonenumbers.format_number(number, Format.INTERNATIONAL)
    national = phonenumbers.format_number(number, Format.NATIONAL)
    yield "E.164", whole, None
    yield "international", international, None
    yield "RFC 3966", phonenumbers.format_number(number, Format.RFC3966), None
    yield "00", "00" + whole[1:], None
    yield "full width", whole.translate(FULL_WIDTH), None
    yield "Arabic digits", "+" + whole[1:].translate(ARABIC), None
    yield "dots", international.replace(" ", chance.choice([".", "-", "/", "\u00a0", "\u2011", "  "])), None
    yield "blanks", f" \u200e{international}\u202c\n", None
    code = str(number.country_code)
    yield "in brackets", "(+" + code + ") " + whole[1 + len(code):], None
    yield "national", national, region
    yield "from abroad", phonenumbers.format_out_of_country_calling_number(number, "DE"), "DE"


def phones(chance, count):
    per_region = max(1, count // (11 * len(REGIONS)))
    for region in REGIONS:
        for number in numbers_of(chance, region, per_region):
            expected = phonenumbers.format_number(number, Format.E164)
            for way, text, reader in spellings(chance, number, region):
                yield ("phone", reader or chance.choice(["-", region]), text, expected, (region, way))


def letters(chance, alphabet, most):
    return "".join(chance.choice(alphabet) for _ in range(chance.randrange(1, most)))


LOCAL = "abcXYZ0123456789._+-'äÖßéøñжЖ字が"
DOMAIN = "abcdXYZ012äÖéжЖ字"


def around(chance, value):
    value = unicodedata.normalize(chance.choice(["NFC", "NFD"]), value)
    return chance.choice(["", " ", "\t", "\ufeff", "\u200b"]) + value + chance.choice(["", " ", "\r\n", "\u00a0"])


def addresses(chance, count):
    for _ in range(count):
        local, names = letters(chance, LOCAL, 20), [letters(chance, DOMAIN, 12) for _ in range(chance.randrange(1, 4))]
        value = f"{local}@{'.'.join(names)}.{chance.choice(['com', 'DE', 'example', 'co.uk', 'ΕΛ', 'рф'])}"
        expected = unicodedata.normalize("NFC", unicodedata.normalize("NFC", value).lower())
        yield ("email", "-", around(chance, value), expected, ("address", "spelling"))
        broken = chance.choice([
            value.replace("@", ""), value.replace("@", "@@"), value.replace("@", " @x"), f"@{value}", value.split("@")[0] + "@",
            value.split("@")[0] + "@localhost", f"<{value}>", f"{value},{value}", value.replace(".", "..").replace("@", "@."), f"mailto:{value}",
        ])
        yield ("email", "-", broken, None, ("address", "broken"))


def ids(chance, count):
    for _ in range(count):
        value = "id-" + letters(chance, "abcXYZ0123456789-_:/äÖé字がЖ", 30)
        yield ("user_id", "-", around(chance, value), unicodedata.normalize("NFC", value), ("id", "spelling"))


def main():
    reader, count = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 20_000
    seed = int(sys.argv[3]) if len(sys.argv) > 3 else random.randrange(2**32)
    chance = random.Random(seed)
    corpus = list(phones(chance, count)) + list(addresses(chance, count // 8)) + list(ids(chance, count // 8))
    asked = "".join(f"{kind} {region} {text.encode().hex()}\n" for kind, region, text, _, _ in corpus)
    answered = subprocess.run([reader], input=asked, capture_output=True, text=True, check=True).stdout.splitlines()
    assert len(answered) == len(corpus), f"{len(answered)} answers for {len(corpus)} questions"
    wrong, known, counts = 0, 0, {}
    for (kind, region, text, expected, what), line in zip(corpus, answered):
        found = json.loads(line).get("value")
        counts[kind] = counts.get(kind, 0) + 1
        if found == expected:
            continue
        if what in KNOWN:
            known += 1
            continue
        wrong += 1
        if wrong <= 40:
            print(f"{what}: {kind} {region} {text!r}: {line}, and Python says {expected!r}")
    listed = ", ".join(f"{number} of {kind}" for kind, number in counts.items())
    print(f"seed {seed}: {len(corpus)} identifiers ({listed}), {wrong} otherwise than Python, {known} so on purpose")
    sys.exit(1 if wrong else 0)


main()
