//! Numbers as they are written in files, told and generated.

use proptest::prelude::*;

use super::*;

fn json(text: &str) -> Result<String, NumberError> {
    read(text, Style::default()).map(|number| number.json)
}

#[test]
fn what_has_one_reading_is_read() {
    for (text, expected) in [
        ("1.234,50", "1234.50"),
        ("1,234.50", "1234.50"),
        ("1'234.50", "1234.50"),
        ("1’234.567", "1234.567"),
        ("1 234,50", "1234.50"),
        ("1\u{a0}234,50", "1234.50"),
        ("1\u{202f}234\u{202f}567,5", "1234567.5"),
        ("1,23,456.78", "123456.78"),
        ("1,23,456", "123456"),
        ("12,34,567", "1234567"),
        ("1.234.567", "1234567"),
        ("1,234,567", "1234567"),
        ("1 234", "1234"),
        ("12,5", "12.5"),
        ("12,50", "12.50"),
        ("1234,567", "1234.567"),
        ("1234.567", "1234.567"),
        ("0,123", "0.123"),
        ("0.123", "0.123"),
        ("1,2345", "1.2345"),
        ("1.234e3", "1.234e3"),
        ("1e3", "1e3"),
        ("1E+3", "1e+3"),
        ("5.", "5"),
        (",5", "0.5"),
        ("-.5", "-0.5"),
        ("€ 19,99", "19.99"),
        ("19,99 €", "19.99"),
        ("19.99 EUR", "19.99"),
        ("EUR19.99", "19.99"),
        ("$1,234.50", "1234.50"),
        ("US$ 5", "5"),
        ("R$ 1.234,50", "1234.50"),
        ("kr. 5,50", "5.50"),
        ("1 234,50 zł", "1234.50"),
        ("CHF 1'234.50", "1234.50"),
        ("Rs.500", "500"),
        ("￥１，２３４．５０", "1234.50"),
        ("¥1,234", "1234"),
        ("12,345元", "12345"),
        ("1,234 CNY", "1234"),
        ("1.234,50\u{a0}₽", "1234.50"),
        ("(5.00)", "-5.00"),
        ("($5.00)", "-5.00"),
        ("€ (5,00)", "-5.00"),
        ("5.00-", "-5.00"),
        ("5,-", "5"),
        ("19.– €", "19"),
        ("CHF 1'234.-", "1234"),
        ("1.234,-- €", "1234"),
        ("-5,-", "-5"),
        ("500/-", "500"),
        ("Rs. 1,00,000/-", "100000"),
        ("-$5", "-5"),
        ("$-5", "-5"),
        ("−5", "-5"),
        ("+5", "5"),
        ("１２", "12"),
        ("١٢٣", "123"),
        ("۱۲۳٫۵", "123.5"),
        ("١٬٢٣٤٫٥", "1234.5"),
        ("१२३", "123"),
        ("12.0", "12.0"),
        ("0012", "12"),
    ] {
        assert_eq!(json(text).as_deref(), Ok(expected), "{text}");
    }
}

#[test]
fn what_has_two_readings_is_never_chosen() {
    for (text, with_point, with_comma) in [
        ("1.234", "1.234", "1234"),
        ("1,234", "1234", "1.234"),
        ("-12.345", "-12.345", "-12345"),
        ("(123,456)", "-123456", "-123.456"),
        ("€ 1.000", "1.000", "1000"),
        ("１，２３４", "1234", "1.234"),
    ] {
        let expected = NumberError::Ambiguous { with_point: with_point.into(), with_comma: with_comma.into() };
        assert_eq!(json(text), Err(expected), "{text}");
    }
}

#[test]
fn what_is_no_number_is_refused() {
    for text in [
        "",
        "-",
        "abc",
        "1.2.3",
        "1,2,3",
        "1.23.456,7,8",
        "1.234,567.8",
        "12..5",
        "1'23",
        "12,3456.7",
        "(5",
        "5)",
        "(-5)",
        "--5",
        "-5-",
        "5 %%",
        "5 kg",
        "0x10",
        "1/2",
        "1:30",
        "5 EUR EURO KG",
        "1e",
        "1_000",
        "#REF!",
        "12 34",
        "1 2345",
        "1,23.5",
        "01,234,567",
        "0,123,456",
        "2026-01-05",
        "1.234'5",
        "٫",
        "1e5 e5",
    ] {
        assert_eq!(json(text), Err(NumberError::NotANumber), "{text}");
    }
}

#[test]
fn settings_decide() {
    let with = |text: &str, decimal, thousands| {
        read(text, Style { decimal, thousands, ..Style::default() }).map(|number| number.json)
    };
    assert_eq!(with("1.234", Some(Decimal::Point), Thousands::Any).as_deref(), Ok("1.234"));
    assert_eq!(with("1.234", Some(Decimal::Comma), Thousands::Any).as_deref(), Ok("1234"));
    assert_eq!(with("1,234", Some(Decimal::Point), Thousands::Any).as_deref(), Ok("1234"));
    assert_eq!(with("1.234", None, Thousands::None).as_deref(), Ok("1.234"));
    assert_eq!(with("1,234", None, Thousands::None).as_deref(), Ok("1.234"));
    assert_eq!(with("1,234", None, Thousands::Space).as_deref(), Ok("1.234"));
    for (text, decimal, thousands) in [
        ("12,5", Some(Decimal::Point), Thousands::Any),
        ("19.99", Some(Decimal::Comma), Thousands::Any),
        ("1 234", Some(Decimal::Point), Thousands::Comma),
        ("1,234.5", Some(Decimal::Point), Thousands::None),
    ] {
        assert_eq!(with(text, decimal, thousands), Err(NumberError::NotANumber), "{text}");
    }
    let percent = |text, percent| read(text, Style { percent, ..Style::default() }).map(|number| number.json);
    assert_eq!(percent("19 %", Percent::Refuse), Err(NumberError::Percent));
    for (text, fraction, number) in [
        ("19 %", "0.19", "19"),
        ("-7,5%", "-0.075", "-7.5"),
        ("%150", "1.50", "150"),
        ("5e1%", "5e-1", "5e1"),
        ("0.5٪", "0.005", "0.5"),
    ] {
        assert_eq!(percent(text, Percent::Fraction).as_deref(), Ok(fraction), "{text}");
        assert_eq!(percent(text, Percent::Number).as_deref(), Ok(number), "{text}");
    }
}

#[test]
fn currencies_are_named() {
    let named = |text| read(text, Style::default()).unwrap().currency;
    for (text, expected) in [
        ("€5", "EUR"),
        ("5 EUR", "EUR"),
        ("$5", "$"),
        ("US$5", "USD"),
        ("5 zł", "PLN"),
        ("A$ 5", "AUD"),
        ("5 USD$", "USD"),
    ] {
        assert_eq!(named(text).as_deref(), Some(expected), "{text}");
    }
    assert_eq!(named("5"), None);
}

/// The digits grouped from the right by `sizes`, of which the last repeats.
fn grouped(digits: &str, separator: &str, sizes: &[usize]) -> String {
    let (mut rest, mut groups, mut at) = (digits, Vec::new(), 0);
    while rest.len() > sizes[at.min(sizes.len() - 1)] {
        let (head, group) = rest.split_at(rest.len() - sizes[at.min(sizes.len() - 1)]);
        groups.insert(0, group);
        rest = head;
        at += 1;
    }
    groups.insert(0, rest);
    groups.join(separator)
}

proptest! {
    /// Whatever way a number is written in, it is read as that number or called ambiguous, and never as another.
    #[test]
    fn a_number_is_never_another(
        whole in 0_u64..10_000_000_000, fraction in "[0-9]{0,4}", is_negative: bool,
        decimal in prop::sample::select(vec![".", ","]), separator in prop::sample::select(vec!["", ",", ".", "'", " ", "\u{a0}", "\u{202f}", "’"]),
        indian: bool, mark in 0_usize..4, money in prop::sample::select(vec!["", "€", "$", "zł", "CHF", "R$"]), is_before: bool,
    ) {
        prop_assume!(separator != decimal);
        let digits = whole.to_string();
        let sizes: &[usize] = if indian && separator == "," { &[3, 2] } else { &[3] };
        let point = if fraction.is_empty() { String::new() } else { format!("{decimal}{fraction}") };
        let unsigned = format!("{}{point}", grouped(&digits, separator, sizes));
        let sum = match (money, is_before) {
            ("", _) => unsigned.clone(),
            (money, true) => format!("{money} {unsigned}"),
            (money, false) => format!("{unsigned} {money}"),
        };
        let text = match (is_negative, mark) {
            (false, _) => sum,
            (true, 0) => format!("-{sum}"),
            (true, 1) => format!("{sum}-"),
            (true, 2) => format!("({sum})"),
            (true, _) => format!("−{sum}"),
        };
        let minus = if is_negative { "-" } else { "" };
        let dot = if fraction.is_empty() { String::new() } else { format!(".{fraction}") };
        let expected = format!("{minus}{digits}{dot}");
        match read(&text, Style::default()) {
            Ok(number) => prop_assert_eq!(&number.json, &expected, "{}", text),
            Err(NumberError::Ambiguous { with_point, with_comma }) => {
                let own = if point.is_empty() { if separator == "," { &with_point } else { &with_comma } }
                    else if decimal == "." { &with_point } else { &with_comma };
                prop_assert_eq!(own, &expected, "{}", text);
                // Three digits behind one sign, and nothing else.
                let signs = unsigned.chars().filter(|letter| !letter.is_ascii_digit()).count();
                prop_assert!(signs == 1, "{} has one reading", text);
            }
            Err(error) => prop_assert!(false, "{}: {:?}", text, error),
        }
        // The settings that fit always decide.
        let style = Style { decimal: Some(if decimal == "." { Decimal::Point } else { Decimal::Comma }), ..Style::default() };
        prop_assert_eq!(read(&text, style).map(|number| number.json), Ok(expected));
    }

    #[test]
    fn no_text_breaks_the_reader(text in "\\PC{0,40}") {
        if let Ok(number) = read(&text, Style { percent: Percent::Fraction, ..Style::default() }) {
            prop_assert!(serde_json::from_str::<serde_json::Value>(&number.json).is_ok() || number.json.contains('e'), "{}", number.json);
        }
    }

    #[test]
    fn whole_numbers_are_found_in_every_spelling(value: i64, zeros in 0_usize..4) {
        prop_assert_eq!(whole(&value.to_string()), Some(value));
        prop_assert_eq!(whole(&format!("{value}.{}", "0".repeat(zeros + 1))), Some(value));
        prop_assert_eq!(whole(&format!("{value}.5")), None);
        if let Some(large) = value.checked_mul(10_i64.pow(u32::try_from(zeros).unwrap())) {
            prop_assert_eq!(whole(&format!("{value}e{zeros}")), Some(large));
        }
    }
}

#[test]
fn money_without_cents_has_no_fraction_of_three_digits() {
    for (text, expected) in [
        ("1,234円", "1234"),
        ("1.234 JPY", "1234"),
        ("KRW 12,500", "12500"),
        ("₩1,000", "1000"),
        ("250.000 ₫", "250000"),
        ("-1,234円", "-1234"),
        ("1,234.50円", "1234.50"),
    ] {
        assert_eq!(json(text).as_deref(), Ok(expected), "{text}");
    }
}

/// Every currency's code and every sign, before and after, with and without a space.
#[test]
fn any_currency_may_stand_on_either_side() {
    let signs = "$ £ ¤ ¥ ֏ ؋ ৳ ฿ ៛ ﷼ € ₹ ₽ ₿ ₺ 円 元 원 zł kr Kč USD eur Jpy CHF KWD XCG AU$ R$";
    for sign in signs.split(' ') {
        for (amount, expected) in [("12.50", "12.50"), ("1.234,50", "1234.50"), ("7", "7"), ("1'234", "1234")] {
            for text in [
                format!("{sign}{amount}"),
                format!("{sign} {amount}"),
                format!("{amount}{sign}"),
                format!("{amount}\u{a0}{sign}"),
            ] {
                assert_eq!(json(&text).as_deref(), Ok(expected), "{text}");
            }
        }
        // Three digits behind one comma are read where the currency has no cents, or its countries no decimal comma.
        let without = ["円", "원", "Jpy", "¥", "元"].contains(&sign);
        assert_eq!(json(&format!("1,234 {sign}")).is_ok(), without, "{sign}");
    }
}
