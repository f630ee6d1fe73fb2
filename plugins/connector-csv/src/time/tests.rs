//! Times as they are written in files, told and generated.

use proptest::prelude::*;

use super::*;

fn read_with(formats: &[&str], text: &str, zone: &str, order: Order) -> Result<Timestamp, TimeError> {
    let formats: Vec<TimeFormat> = formats.iter().map(|format| TimeFormat::parse(format).unwrap()).collect();
    read(text, &formats, &Zone::parse(zone).unwrap(), order).map(|time| time.at)
}

fn read_as(format: &str, text: &str) -> Option<Timestamp> {
    read_with(&[format], text, "UTC", Order::Auto(Orders::ALL)).ok()
}

const BASE: i64 = 1_793_527_200_000; // 2026-11-01T10:00:00Z
const DAY: i64 = 1_767_571_200_000; // 2026-01-05T00:00:00Z

#[test]
fn patterns_read_what_they_describe() {
    for (format, text) in [
        ("rfc3339", "2026-11-01T10:00:00Z"),
        ("rfc3339", "2026-11-01 10:00:00"),
        ("unix", "1793527200"),
        ("unix", "1793527200.0"),
        ("unix", "1793527200000"),
        ("unix", "1793527200000000"),
        ("unix", "1793527200000000000"),
        ("unix_ms", "1793527200000"),
        ("%Y-%m-%d %H:%M:%S", "2026-11-01 10:00:00"),
        ("%F %T", "2026-11-01 10:00:00"),
        ("%Y%m%d%H%M", "202611011000"),
        ("%d.%m.%Y %H:%M", "1.11.2026 10:00"),
        ("%d/%b/%Y:%H:%M:%S %z", "01/Nov/2026:11:00:00 +0100"),
        ("%m/%d/%y %I:%M %p", "11/01/26 10:00 AM"),
        ("%Y-%m-%dT%H:%M:%S.%f%z", "2026-11-01T10:00:00.000999Z"),
        ("%A, %B %d, %Y %H:%M", "Sunday, November 1, 2026 10:00"),
        ("%a %e %b. %Y %R", "dim. 1 nov. 2026 10:00"),
        ("%d %B %Y %H:%M", "1 listopada 2026 10:00"),
        ("%Y-%m-%d %H:%M %Z", "2026-11-01 11:00 CET"),
        ("%Y-%m-%d %H:%M %Z", "2026-11-01 11:00 Europe/Berlin"),
    ] {
        assert_eq!(read_as(format, text), Some(BASE), "{format} {text}");
    }
    assert_eq!(read_as("%Y%m%d", "19970101"), Some(852_076_800_000));
    assert_eq!(read_as("unix", "-1.5"), Some(-1500));
    assert_eq!(read_as("%Y-%m-%d %I:%M%p", "1970-01-01 12:30am"), Some(30 * 60_000));
    assert_eq!(read_as("%Y-%m-%d %H:%M:%S.%f", "1970-01-01 00:00:00.5"), Some(500));
}

#[test]
fn patterns_refuse_the_rest() {
    for (format, text) in [
        ("%Y-%m-%d", "2026-02-30"),
        ("%Y-%m-%d", "26-11-01"),
        ("%Y-%m-%d", "2026-11"),
        ("%Y-%m-%d", ""),
        ("%Y%m%d", "1997010"),
        ("%m/%d/%y %I %p", "11/01/26 13 PM"),
        ("%d %b %Y", "01 Nöf 2026"),
        ("unix", "1e9x"),
        ("unix", "nan"),
        ("unix_ms", "1793527200000000"),
        ("unix_ms", "9223372036854775807"),
        ("rfc2822", "2026-11-01"),
        ("excel", "60"),
        ("excel", "2958466"),
        ("excel", "0"),
    ] {
        assert_eq!(read_as(format, text), None, "{format} {text}");
    }
    for format in ["%Q", "%", "%H:%M", "yyyy-MM-dd"] {
        assert!(TimeFormat::parse(format).is_err(), "{format}");
    }
}

#[test]
fn times_are_read_without_a_pattern() {
    let hour = 3_600_000;
    for (text, expected) in [
        ("2026-01-05", DAY),
        ("2026-01-05T10:00Z", DAY + 10 * hour),
        ("2026-01-05 10:00", DAY + 10 * hour),
        ("2026/01/05 10:00:00.250", DAY + 10 * hour + 250),
        ("2026.1.5", DAY),
        ("20260105", DAY),
        ("20260105100000", DAY + 10 * hour),
        ("2026年1月5日", DAY),
        ("2026年1月5日(月) 10時30分", DAY + 10 * hour + 1_800_000),
        ("2026年1月5日月曜日", DAY),
        ("2026年1月5日星期一", DAY),
        ("2026년 1월 5일 월요일 오후 3:00", DAY + 15 * hour),
        ("5 paź 2026", DAY + 273 * 24 * hour),
        ("5 Oca 2026 Paz", DAY),
        ("torsdag den 5. marts 2026", DAY + 59 * 24 * hour),
        ("5. des. 2026", DAY + 334 * 24 * hour),
        ("čtvrtek 5. listopadu 2026", DAY + 304 * 24 * hour),
        ("２０２６年０１月０５日", DAY),
        ("2026년 1월 5일 오후 3:00", DAY + 15 * hour),
        ("5.1.2026", DAY),
        ("05.01.2026 00:15", DAY + 900_000),
        ("05.01.26", DAY),
        ("5 January 2026", DAY),
        ("Monday, January 5, 2026", DAY),
        ("January 5th, 2026 at 3:00 PM", DAY + 15 * hour),
        ("Jan 5, 2026 3 p.m.", DAY + 15 * hour),
        ("05-JAN-2026", DAY),
        ("05-Jan-26", DAY),
        ("2026-Jan-05", DAY),
        ("5. Januar 2026", DAY),
        ("Mo., 5. Jan. 2026, 10:00 Uhr", DAY + 10 * hour),
        ("lundi 5 janvier 2026", DAY),
        ("1er févr. 2026", DAY + 27 * 86_400_000),
        ("5 de enero de 2026", DAY),
        ("lunes, 5 de enero de 2026", DAY),
        ("5 gennaio 2026", DAY),
        ("5 de janeiro de 2026", DAY),
        ("5 mrt. 2026", DAY + 59 * 86_400_000),
        ("5 stycznia 2026", DAY),
        ("5 października 2026 r.", DAY + 273 * 86_400_000),
        ("5 января 2026 г.", DAY),
        ("5 Ocak 2026", DAY),
        ("Mon, 05 Jan 2026 10:00:00 +0100", DAY + 9 * hour),
        ("Mon, 5 Jan 2026 10:00:00 GMT", DAY + 10 * hour),
        ("Mon, 5 Jan 2026 10:00:00 EST (New York)", DAY + 15 * hour),
        ("Mon Jan  5 10:00:00 2026", DAY + 10 * hour),
        ("Mon Jan 05 2026 10:00:00 GMT+0100 (CET)", DAY + 9 * hour),
        ("05/Jan/2026:10:00:00 +0000", DAY + 10 * hour),
        ("2026-01-05 10:00:00 CET", DAY + 9 * hour),
        ("2026-07-05 10:00:00 Europe/Berlin", DAY + 181 * 86_400_000 + 8 * hour),
        ("2026-07-05T10:00:00[America/New_York]", DAY + 181 * 86_400_000 + 14 * hour),
        ("2026-01-04T24:00:00", DAY),
        ("5 Jan 2026 00:00:00.123456789012345678", DAY + 123),
        ("2026-W02-1", DAY),
        ("2026-005", DAY),
        ("20260105T100000Z", DAY + 10 * hour),
        ("45292.5", 1_704_067_200_000 + 12 * hour),
        ("1793527200", BASE),
        ("1793527200000", BASE),
        ("1793527200.5", BASE + 500),
    ] {
        assert_eq!(read_as("auto", text), Some(expected), "{text}");
    }
}

#[test]
fn what_is_no_time_is_not_read_without_a_pattern() {
    for text in [
        "",
        "now",
        "tomorrow",
        "10:00",
        "January 2026",
        "2026",
        "123",
        "5/2026",
        "2026-13-05",
        "31.02.2026",
        "Foo 5 2026",
        "5 Jan",
        "1/2/3/2026",
        "12:00:00 5",
        "2026-01-05 25:00",
        "January 5 2026 Mars/Base",
        "1234567",
    ] {
        assert_eq!(read_as("auto", text), None, "{text}");
    }
}

#[test]
fn days_of_spreadsheets_are_counted_as_they_do() {
    for (format, text, expected) in [
        ("excel", "1", "1900-01-01"),
        ("excel", "59", "1900-02-28"),
        ("excel", "61", "1900-03-01"),
        ("excel", "45292", "2024-01-01"),
        ("excel", "45292,0", "2024-01-01"),
        ("excel", "2958465", "9999-12-31"),
        ("excel1904", "0", "1904-01-01"),
        ("excel1904", "43830", "2024-01-01"),
    ] {
        assert_eq!(read_as(format, text), parse_rfc3339(expected), "{format} {text}");
    }
    assert_eq!(read_as("excel", "45292.041666666664"), Some(1_704_067_200_000 + 3_600_000));
}

#[test]
fn the_order_is_shown_or_set_and_never_guessed() {
    let auto = |text| read(text, &[TimeFormat::Auto], &Zone::UTC, Order::Auto(Orders::ALL));
    let shows = |text| auto(text).unwrap().orders.only();
    assert_eq!(shows("13/01/2026"), Some(DateOrder::Day));
    assert_eq!(shows("01/13/2026"), Some(DateOrder::Month));
    assert_eq!(shows("05/05/2026"), None);
    assert!(auto("2026-13-01").is_err(), "a year in front is followed by the month");
    let either = TimeError::Ambiguous([Some(DAY), Some(1_777_593_600_000), None]);
    assert_eq!(auto("05/01/2026"), Err(either));
    assert_eq!(auto("5-1-26"), Err(either));
    let with = |order| read("05/01/2026", &[TimeFormat::Auto], &Zone::UTC, order).map(|time| time.at);
    assert_eq!(with(Order::Set(DateOrder::Day)), Ok(DAY));
    assert_eq!(with(Order::Auto(Orders([false, true, false]))), Ok(1_777_593_600_000));
    let against = read("01/13/2026", &[TimeFormat::Auto], &Zone::UTC, Order::Set(DateOrder::Day));
    assert_eq!(against, Err(TimeError::OtherOrder(Orders([false, true, false]))), "what is set holds for every value");
}

#[test]
fn the_zone_is_that_of_times_without_one() {
    for (format, text, expected) in [
        ("rfc3339", "1970-01-01T02:00:00", 0),
        ("rfc3339", "1970-01-01T02:00:00Z", 7_200_000),
        ("rfc3339", "1970-01-02", 79_200_000),
        ("%Y-%m-%d %H:%M", "1970-01-01 02:00", 0),
        ("unix", "0", 0),
        ("auto", "1 January 1970 02:00", 0),
    ] {
        assert_eq!(read_with(&[format], text, "+02:00", Order::Auto(Orders::ALL)), Ok(expected), "{format} {text}");
    }
    let berlin = |text: &str| read_with(&["auto"], text, "Europe/Berlin", Order::Auto(Orders::ALL)).unwrap();
    let utc = |text: &str| parse_rfc3339(text).unwrap();
    for (local, expected) in [
        ("2026-01-05 10:00:00", "2026-01-05T09:00:00Z"),
        ("2026-07-05 10:00:00", "2026-07-05T08:00:00Z"),
        ("2026-07-05", "2026-07-04T22:00:00Z"),
        ("5. Juli 2026 10:00", "2026-07-05T08:00:00Z"),
        // The clock is put forward at 02:00, and back at 03:00.
        ("2026-03-29 02:30:00", "2026-03-29T01:30:00Z"),
        ("2026-10-25 02:30:00", "2026-10-25T00:30:00Z"),
        ("2026-07-05T10:00:00Z", "2026-07-05T10:00:00Z"),
    ] {
        assert_eq!(berlin(local), utc(expected), "{local}");
    }
    for zone in ["Europe/Nowhere", "", "CEST!", "+99:00"] {
        assert!(Zone::parse(zone).is_err(), "{zone}");
    }
}

proptest! {
    #[test]
    fn days_and_dates_are_inverse(day in -700_000_i64..2_900_000) {
        let local = crate::zone::Local::from_utc(day * 86_400_000 + 5).unwrap();
        prop_assert_eq!(local.as_utc(), Some(day * 86_400_000 + 5));
    }

    /// A date of three numbers is read as the one it was written as, or called ambiguous, and never as another.
    #[test]
    fn a_date_is_never_another(day in 1_i64..=28, month in 1_i64..=12, year in 1970_i64..2069, sign in prop::sample::select(vec!['/', '-', ' ']), is_day_first: bool, is_padded: bool) {
        let expected = kith_plugin_sdk::time::days_from_civil(year, month, day).unwrap() * 86_400_000;
        let (first, second) = if is_day_first { (day, month) } else { (month, day) };
        let text = if is_padded { format!("{first:02}{sign}{second:02}{sign}{year}") } else { format!("{first}{sign}{second}{sign}{year}") };
        let own = if is_day_first { DateOrder::Day } else { DateOrder::Month };
        match read(&text, &[TimeFormat::Auto], &Zone::UTC, Order::Auto(Orders::ALL)) {
            Ok(time) => {
                prop_assert_eq!(time.at, expected, "{}", text);
                prop_assert!(time.orders.has(own), "{}", text);
            }
            Err(TimeError::Ambiguous { .. }) => prop_assert!(day <= 12 && day != month, "{} has one reading", text),
            Err(error) => prop_assert!(false, "{}: {:?}", text, error),
        }
        let set = read(&text, &[TimeFormat::Auto], &Zone::UTC, Order::Set(own)).map(|time| time.at);
        prop_assert_eq!(set, Ok(expected), "{}", text);
    }

    #[test]
    fn no_text_breaks_the_reader_of_times(text in "\\PC{0,40}") {
        let time = read(&text, &[TimeFormat::Auto, TimeFormat::Excel], &Zone::UTC, Order::Auto(Orders::ALL));
        prop_assert!(time.is_err() || crate::zone::Local::from_utc(time.unwrap().at).is_some());
    }

    #[test]
    fn no_date_breaks_the_reader_of_times(text in "[0-9:/. ,TZ+-年月日apmJanfeb]{0,24}") {
        let time = read(&text, &[TimeFormat::Auto, TimeFormat::Unix], &Zone::UTC, Order::Auto(Orders::ALL));
        prop_assert!(time.is_err() || time.unwrap().at.abs() < 300_000_000_000_000);
    }
}

/// What docs/sending.md promises of times in JSON, as the text of a cell: counts with exponents, wrappings of clients and databases.
#[test]
fn a_cell_takes_every_form_that_senders_write_in_json() {
    for (text, expected) in [
        ("2026-11-01T10:00:00.1234567Z", BASE + 123),
        ("2026-11-01T10:00:00,5Z", BASE + 500),
        ("2026-11-01T11:00+01", BASE),
        ("2026-11-01T11:00:00+01:00[Europe/Berlin]", BASE),
        ("2026-11-01T10:00:00Z[UTC]", BASE),
        ("Sun, 01 Nov 2026 10:00:00 GMT", BASE),
        ("Sun Nov  1 10:00:00 2026", BASE),
        ("Sun Nov 01 10:00:00 UTC 2026", BASE),
        ("2026-11-01T10:00:00.000:Z", BASE),
        ("2026-11-01 10:00:00 AM", BASE),
        ("\"2026-11-01T10:00:00Z\"", BASE),
        ("'2026-11-01 10:00'", BASE),
        ("@1793527200", BASE),
        ("20261101100000250", BASE + 250),
    ] {
        assert_eq!(read_as("auto", text), Some(expected), "{text}");
    }
    for seconds in (100_000_000_i64..4_000_000_000).step_by(97_531_357) {
        let ms = seconds * 1000;
        let mantissa = format!("{}.{}", &ms.to_string()[..1], &ms.to_string()[1..]);
        let exponent = ms.to_string().len() - 1;
        for text in [
            format!("{ms}"),
            format!("{seconds}"),
            format!("{seconds}.0"),
            format!("{ms}000"),
            format!("/Date({ms})/"),
            format!("/Date({ms}+0100)/"),
            format!("\\/Date({ms})\\/"),
            format!("{{\"$date\": {ms}}}"),
            format!("{{\"$date\":{{\"$numberLong\":\"{ms}\"}}}}"),
            format!("{{\"_seconds\": {seconds}, \"_nanoseconds\": 0}}"),
            format!("{mantissa}E{exponent}"),
            format!("{mantissa}e+{exponent}"),
            format!("{}E+{exponent}", mantissa.replace('.', ",")),
        ] {
            // Below 10^11 a number is one of seconds.
            let is_seconds = ms < 100_000_000_000 && !text.starts_with(&seconds.to_string());
            let expected = if is_seconds { None } else { Some(ms) };
            assert!(expected.is_none() || read_as("auto", &text) == expected, "{text}: {:?}", read_as("auto", &text));
        }
    }
    for text in ["1e3", "1.5E2", "{\"$date\": {}}", "{\"a\": 1}", "{", "/Date()/", "\"5\"", "\"2026\"", "@", "1e99"] {
        assert_eq!(read_as("auto", text), None, "{text}");
    }
}

/// A year of two digits may stand first: whatever the three numbers, a date is read only where they are one date in one order.
#[test]
fn a_year_of_two_digits_may_stand_first() {
    let days = |year: i64, month: i64, day: i64| {
        kith_plugin_sdk::time::days_from_civil(free::century(year), month, day).map(|days| days * 86_400_000)
    };
    for first in (0..100).step_by(3) {
        for second in 1..=13 {
            for third in (0..100).step_by(3) {
                let moments = [days(third, second, first), days(third, first, second), days(first, second, third)];
                let distinct: std::collections::BTreeSet<i64> = moments.into_iter().flatten().collect();
                for sign in ['-', '/', ' '] {
                    let text = format!("{first:02}{sign}{second:02}{sign}{third:02}");
                    let found = read(&text, &[TimeFormat::Auto], &Zone::UTC, Order::Auto(Orders::ALL));
                    match distinct.len() {
                        0 => assert_eq!(found, Err(TimeError::NoSuchDay), "{text}"),
                        1 => assert_eq!(found.map(|time| time.at).ok(), distinct.first().copied(), "{text}"),
                        _ => assert_eq!(found, Err(TimeError::Ambiguous(moments)), "{text}"),
                    }
                    for order in DateOrder::ALL {
                        let set = read(&text, &[TimeFormat::Auto], &Zone::UTC, Order::Set(order)).map(|time| time.at);
                        assert_eq!(set.ok(), moments[order as usize], "{text} {order:?}");
                    }
                }
                // Points are set where the day stands first; where it cannot, the year does.
                let text = format!("{first:02}.{second:02}.{third:02}");
                let found = read(&text, &[TimeFormat::Auto], &Zone::UTC, Order::Auto(Orders::ALL));
                assert_eq!(found.map(|time| time.at).ok(), moments[0].or(moments[2]), "{text}");
            }
        }
    }
}

#[test]
fn a_time_that_is_none_says_what_was_read_and_what_to_do() {
    let why = |text: &str, format: &str, set: Option<DateOrder>| {
        let formats = [TimeFormat::parse(format).unwrap()];
        let order = set.map_or(Order::Auto(Orders::ALL), Order::Set);
        reason(text, &formats, read(text, &formats, &Zone::UTC, order).unwrap_err(), set)
    };
    for (text, words) in [
        ("31.02.2026", "a day that does not exist"),
        ("2026-13-05", "a day that does not exist"),
        ("99/99/2026", "a day that does not exist"),
        ("99999999999999999999", "beyond the year 9999"),
        ("2026", "it may be a year"),
        ("1234567", "counts since 1970 have nine digits"),
        ("42", "counts since 1970 have nine digits"),
        ("soon", "no digits"),
        ("2026-01-05 25:00", "the time of day or the zone behind it does not"),
        ("2026-01-05T10:00:00 XYZT", "the time of day or the zone behind it does not"),
        ("10:30", "a time of day without a date"),
        ("10:30:15 pm", "a time of day without a date"),
        ("January 2026", "a month and no day"),
        ("1/2/3/4", "describe it in `formats`"),
    ] {
        let reason = why(text, "auto", None);
        assert!(reason.contains(words) && reason.contains(&format!("`{text}`")), "{text}: {reason}");
    }
    let other = why("01/13/2026", "auto", Some(DateOrder::Day));
    assert!(other.contains("month first alone") && other.contains("`day-first`"), "{other}");
    let format = why("05.01.2026", "%Y-%m-%d", None);
    assert!(format.contains("`auto` would read it as 2026-01-05"), "{format}");
}

/// Points between the parts of a time of day, as Oracle and Finns write it, behind a date and nowhere else.
#[test]
fn a_time_of_day_may_have_points() {
    let hour = 3_600_000;
    for (text, expected) in [
        ("05-JAN-26 10.00.00.000000 AM", DAY + 10 * hour),
        ("05-JAN-26 03.30.00.500000 PM +01:00", DAY + 14 * hour + 1_800_500),
        ("05-JAN-2026 10.30", DAY + 10 * hour + 1_800_000),
        ("5.1.2026 klo 10.30", DAY + 10 * hour + 1_800_000),
        ("5.1.2026 10.30.15", DAY + 10 * hour + 1_815_000),
        ("2026-01-05 10.30.15", DAY + 10 * hour + 1_815_000),
        ("2026. 1. 5.", DAY),
        ("2026. 1. 5. 10:00", DAY + 10 * hour),
        ("5. 1. 2026", DAY),
    ] {
        assert_eq!(read_as("auto", text), Some(expected), "{text}");
    }
    for minute in 0..1440 {
        let (hours, minutes) = (minute / 60, minute % 60);
        for date in ["5.1.2026", "05-JAN-26", "2026-01-05", "Jan 5, 2026", "5 January 2026"] {
            let text = format!("{date} {hours:02}.{minutes:02}.07");
            assert_eq!(read_as("auto", &text), Some(DAY + minute * 60_000 + 7_000), "{text}");
        }
    }
}
