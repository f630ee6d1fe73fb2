//! Years of Japanese eras: `令和6年1月5日`, `平成元年`, `R6.1.5`. Each becomes the year that it is, for the reader of dates.

use std::borrow::Cow;

/// The eras since clocks and calendars are those of today, with the year before their first.
const ERAS: [(&str, char, i64); 5] =
    [("令和", 'R', 2018), ("平成", 'H', 1988), ("昭和", 'S', 1925), ("大正", 'T', 1911), ("明治", 'M', 1867)];

/// The signs of Unicode that are an era's name in one letter.
const SIGNS: [(char, &str); 5] = [('㋿', "令和"), ('㍻', "平成"), ('㍼', "昭和"), ('㍽', "大正"), ('㍾', "明治")];

/// The text with the year in the place of an era's.
pub(super) fn years(text: &str) -> Cow<'_, str> {
    if let Some(rest) =
        text.strip_prefix(|letter: char| ERAS.iter().any(|(_, short, _)| *short == letter.to_ascii_uppercase()))
    {
        return short(text, rest).map_or(Cow::Borrowed(text), Cow::Owned);
    }
    if text.is_ascii() {
        return text.into();
    }
    let mut spelt = Cow::Borrowed(text);
    for (sign, name) in SIGNS.iter().filter(|(sign, _)| text.contains(*sign)) {
        spelt = spelt.replace(*sign, name).into();
    }
    for (name, _, before) in ERAS {
        let Some(at) = spelt.find(name) else { continue };
        let rest = spelt[at + name.len()..].trim_start();
        let (year, behind) = match rest.strip_prefix('元') {
            Some(behind) => (1, behind),
            None => {
                let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
                let Some(year) = rest.get(..digits).filter(|_| digits <= 2).and_then(|year| year.parse().ok()) else {
                    continue;
                };
                (year, &rest[digits..])
            }
        };
        return format!("{}{}{behind}", &spelt[..at], before + year).into();
    }
    text.into()
}

/// `R6.1.5`, `H31/4/30`, `S60-12-01`: the letter of an era, a year of one or two digits, and two more numbers behind the same sign.
fn short(text: &str, rest: &str) -> Option<String> {
    let sign = rest.chars().find(|letter| !letter.is_ascii_digit()).filter(|sign| matches!(sign, '.' | '/' | '-'))?;
    let (date, clock) = rest.split_once(' ').map_or((rest, ""), |(date, clock)| (date, clock));
    let numbers: Vec<i64> = date
        .split(sign)
        .map(|part| {
            part.parse()
                .ok()
                .filter(|_| (1..=2).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_digit()))
        })
        .collect::<Option<_>>()?;
    let [year, month, day] = numbers[..] else { return None };
    let letter = text.chars().next()?.to_ascii_uppercase();
    let (_, _, before) = ERAS.into_iter().find(|(_, short, _)| *short == letter)?;
    Some(format!("{:04}-{month:02}-{day:02} {clock}", before + year).trim_end().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every year of every era, in each way of writing it.
    #[test]
    fn years_of_eras_are_years() {
        for (name, letter, before) in ERAS {
            for year in 1..=64_i64 {
                let gregorian = before + year;
                assert_eq!(years(&format!("{name}{year}年1月5日")), format!("{gregorian}年1月5日"));
                assert_eq!(years(&format!("{name} {year}年1月5日 10:00")), format!("{gregorian}年1月5日 10:00"));
                for sign in ['.', '/', '-'] {
                    let expected = format!("{gregorian:04}-01-05");
                    assert_eq!(years(&format!("{letter}{year}{sign}1{sign}5")), expected);
                    assert_eq!(years(&format!("{}{year:02}{sign}01{sign}05", letter.to_ascii_lowercase())), expected);
                }
            }
            assert_eq!(years(&format!("{name}元年5月1日")), format!("{}年5月1日", before + 1));
        }
        assert_eq!(years("㋿6年1月5日"), "2024年1月5日");
        assert_eq!(years("R6.1.5 10:30"), "2024-01-05 10:30");
        for text in
            ["March 5, 2024", "R6", "S60.1", "R6.1/5", "Mon, 5 Jan 2026", "令和", "R100.1.5", "2024年1月5日", "T10:00"]
        {
            assert_eq!(years(text), text);
        }
    }
}
