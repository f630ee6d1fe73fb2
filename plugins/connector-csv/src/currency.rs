//! Currency signs and codes that stand before or after an amount. Leaves what to do with two of them in one column to `number`.

/// Active codes of ISO 4217, and the two of Bitcoin and the offshore renminbi that exports use.
const CODES: &str = "AED AFN ALL AMD ANG AOA ARS AUD AWG AZN BAM BBD BDT BGN BHD BIF BMD BND BOB BRL BSD BTC BTN BWP BYN BZD CAD \
    CDF CHF CLF CLP CNH CNY COP CRC CUP CVE CZK DJF DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP GMD GNF GTQ GYD HKD HNL \
    HRK HTG HUF IDR ILS INR IQD IRR ISK JMD JOD JPY KES KGS KHR KMF KPW KRW KWD KYD KZT LAK LBP LKR LRD LSL LYD MAD MDL MGA MKD \
    MMK MNT MOP MRU MUR MVR MWK MXN MYR MZN NAD NGN NIO NOK NPR NZD OMR PAB PEN PGK PHP PKR PLN PYG QAR RON RSD RUB RWF SAR SBD \
    SCR SDG SEK SGD SHP SLE SLL SOS SRD SSP STN SVC SYP SZL THB TJS TMT TND TOP TRY TTD TWD TZS UAH UGX USD UYU UZS VED VES VND \
    VUV WST XAF XCD XCG XOF XPF YER ZAR ZMW ZWG ZWL";

/// What is written in place of a code, in lower case. Signs of several currencies (`$`, `¥`, `kr`) stay what they are.
const NAMES: &[(&str, &str)] = &[
    ("€", "EUR"),
    ("euro", "EUR"),
    ("euros", "EUR"),
    ("£", "GBP"),
    ("₹", "INR"),
    ("rs", "Rs"),
    ("rs.", "Rs"),
    ("₨", "Rs"),
    ("zł", "PLN"),
    ("zl", "PLN"),
    ("kr", "kr"),
    ("kr.", "kr"),
    ("kč", "CZK"),
    ("kc", "CZK"),
    ("ft", "HUF"),
    ("лв", "BGN"),
    ("лв.", "BGN"),
    ("₽", "RUB"),
    ("руб", "RUB"),
    ("руб.", "RUB"),
    ("р.", "RUB"),
    ("₴", "UAH"),
    ("грн", "UAH"),
    ("грн.", "UAH"),
    ("r$", "BRL"),
    ("us$", "USD"),
    ("$us", "USD"),
    ("a$", "AUD"),
    ("au$", "AUD"),
    ("c$", "CAD"),
    ("ca$", "CAD"),
    ("nz$", "NZD"),
    ("hk$", "HKD"),
    ("s$", "SGD"),
    ("nt$", "TWD"),
    ("mx$", "MXN"),
    ("cn¥", "CNY"),
    ("jp¥", "JPY"),
    ("元", "CNY"),
    ("円", "JPY"),
    ("원", "KRW"),
    ("₩", "KRW"),
    ("fr", "Fr"),
    ("fr.", "Fr"),
    ("sfr", "CHF"),
    ("sfr.", "CHF"),
    ("rm", "MYR"),
    ("rp", "IDR"),
    ("rp.", "IDR"),
    ("lei", "RON"),
    ("din", "din"),
    ("din.", "din"),
    ("tl", "TRY"),
    ("₺", "TRY"),
    ("₪", "ILS"),
    ("₫", "VND"),
    ("đ", "VND"),
    ("฿", "THB"),
    ("₱", "PHP"),
    ("₦", "NGN"),
];

/// The currency that `text` names, spaces around it and case apart: a code, a usual short form, or a sign of Unicode's currencies.
pub(crate) fn currency(text: &str) -> Option<String> {
    let lower = text.trim().to_lowercase();
    if let Some((_, name)) = NAMES.iter().find(|(written, _)| *written == lower) {
        return Some((*name).to_owned());
    }
    let upper = lower.to_uppercase();
    if upper.len() == 3 && CODES.split_ascii_whitespace().any(|code| code == upper) {
        return Some(upper);
    }
    let mut letters = lower.chars();
    match (letters.next(), letters.as_str()) {
        (Some(sign), "") if is_sign(sign) => Some(sign.to_string()),
        // `US$ `, `AUD$`, `$ USD`: a sign beside its code.
        (Some(sign), rest) if is_sign(sign) && !rest.trim().is_empty() => code(rest),
        _ => match lower.chars().last() {
            Some(sign) if is_sign(sign) => code(&lower[..lower.len() - sign.len_utf8()]),
            _ => None,
        },
    }
}

/// Currencies of ISO 4217 that have no smaller unit. Signs that several have are not among them.
const WITHOUT_CENTS: &str = "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX VND VUV XAF XOF XPF ₩ ￦ ₫ ₲";

/// Whether amounts of the currency, as [`currency`] names it, have no fraction.
pub(crate) fn has_no_cents(currency: &str) -> bool {
    WITHOUT_CENTS.split(' ').any(|without| without == currency)
}

/// Whether the currency is of China or Japan, where no comma stands before a fraction.
pub(crate) fn has_no_comma(currency: &str) -> bool {
    matches!(currency, "¥" | "￥" | "CNY" | "CNH")
}

fn code(text: &str) -> Option<String> {
    let upper = text.trim().to_uppercase();
    CODES.split_ascii_whitespace().find(|code| *code == upper).map(str::to_owned)
}

/// Unicode's currency signs but `¢`, of which a hundred make one.
fn is_sign(letter: char) -> bool {
    matches!(
        letter,
        '$' | '£' | '¤' | '¥' | '֏' | '؋' | '৳' | '฿' | '៛' | '﷼' | '＄' | '￡' | '￥' | '￦' | '\u{20a0}'..='\u{20cf}'
    )
}
