//! Times as clients write them, and that no form is read as another moment.

use proptest::prelude::*;

use super::civil::{DAY_MS, days_in_month};
use super::*;

/// 2026-11-03T10:00:00Z, a Tuesday.
const TEN: i64 = 1_793_700_000_000;

#[test]
fn times_are_read_as_sources_write_them() {
    let base = 1_793_527_200_000;
    for (text, expected) in [
        ("2026-11-01T10:00:00Z", base),
        ("2026-11-01T10:00:00.000Z", base),
        ("2026-11-01t10:00:00.5z", base + 500),
        ("2026-11-01 10:00:00,25", base + 250),
        ("2026-11-01T10:00:00.123456+00:00", base + 123),
        ("2026-11-01T10:00:00.123456789Z", base + 123),
        ("2026-11-01T12:30:00+02:30", base),
        ("2026-11-01T02:00:00-0800", base),
        ("2026-11-01T11:00:00+01", base),
        ("2026-11-01", base - 10 * 3_600_000),
        ("1969-12-31T23:59:59.999Z", -1),
        ("2024-02-29T00:00:00Z", 1_709_164_800_000),
        ("2016-12-31T23:59:60Z", 1_483_228_800_000),
    ] {
        assert_eq!(parse_rfc3339(text), Some(expected), "{text}");
        assert_eq!(parse(text), Some(expected), "{text}");
    }
}

#[test]
fn what_is_no_time_is_refused() {
    for text in [
        "",
        "now",
        "2026-13-01",
        "2026-02-29",
        "1900-02-29",
        "2026-11-31T00:00:00Z",
        "2026-11-01T10:60:00Z",
        "2026-11-01T10:00:00+25:00",
        "2026-11-01x10:00:00Z",
        "٢٠٢٦-11-01",
        "2026-11-0é",
        "+026-11-01",
    ] {
        assert_eq!(parse_rfc3339(text), None, "{text}");
        assert_eq!(read(text), None, "{text}");
    }
    for text in ["2026", "2026-11-01T24:00:00Z", "2026-11-01T10:00Z", "2026-11-01T10:00:00 UTC"] {
        assert_eq!(parse_rfc3339(text), None, "{text}: of this `read` is the reader");
        assert!(read(text).is_some(), "{text}");
    }
    for text in [
        "03/11/2026",
        "11/3/2026 10:00:00 AM",
        "2026-11-03T24:00:01Z",
        "2026-11-03T25:00Z",
        "2026-W54-1",
        "2025-W53-1",
        "2026-366",
        "2026-W45-8",
        "2026-11-03T10:00:00[Europe/Berlin]",
        "Tue, 31 Feb 2026 10:00:00 GMT",
        "Tue, 03 Nov 10:00:00 GMT",
        "1e99",
        "12345678901234567890123",
        "--1",
        "1.2.3",
        "2026-11-03T10:00:00 nonsense-zone",
        "null",
        "[object Object]",
        "Invalid Date",
        "2026-11-03T",
        "99999-01-01",
        "0000-00-00 00:00:00",
    ] {
        assert_eq!(read(text), None, "{text}");
    }
}

#[test]
fn every_form_of_ten_o_clock_is_ten_o_clock() {
    for text in [
        "2026-11-03T10:00:00Z",
        "2026-11-03T10:00Z",
        "2026-11-03T10Z",
        "2026-11-03T10:00:00",
        "20261103T100000Z",
        "20261103T1000Z",
        "20261103T10Z",
        "20261103T110000+0100",
        "2026-307T10:00:00Z",
        "2026307T100000Z",
        "2026-W45-2T10:00:00Z",
        "2026W452T100000Z",
        "2026-11-03 10:00:00 UTC",
        "2026-11-03 11:00:00 +0100",
        "2026-11-03T11:00:00 +01:00",
        "2026-11-03T11:00:00 01:00",
        "2026-11-03T11:00:00+01",
        "2026-11-03T15:30:00+0530",
        "2026-11-03T15:30:00+05:30",
        "2026-11-03T05:00:00\u{2212}05:00",
        "2026-11-03T10:00:00.000:Z",
        "2026-11-03T10:00:00:000Z",
        "2026-11-03T10:00:00.0000000Z",
        "2026-11-03T10:00:00,000Z",
        "2026-11-03T11:00:00+01:00[Europe/Berlin]",
        "2026-11-03T10:00:00Z[UTC]",
        "2026-11-03T10:00:00+00:00[UTC]",
        "2026-11-03T10:00[UTC]",
        "2026-11-03T11:00:00+01:00[Europe/Berlin][u-ca=gregory]",
        "2026-11-03 11:00:00.000000001 +0100 CET m=+0.5",
        "2026/11/03 10:00:00",
        "2026-11-3 10:00",
        "2026-11-03 10:00:00 AM",
        "+002026-11-03T10:00:00.000Z",
        "\"2026-11-03T10:00:00Z\"",
        " 2026-11-03T10:00:00Z\n",
        "20261103100000",
        "20261103100000000",
        "Tue, 03 Nov 2026 10:00:00 GMT",
        "Tue, 03 Nov 2026 10:00:00 +0000",
        "3 Nov 2026 11:00 +0100",
        "03 Nov 26 05:00:00 EST",
        "Tuesday, 03-Nov-26 10:00:00 GMT",
        "Tue Nov  3 10:00:00 2026",
        "Tue Nov 03 11:00:00 CET 2026",
        "Tue Nov 03 2026 11:00:00 GMT+0100 (Central European Standard Time)",
        "November 3, 2026 10:00:00 AM",
        "Nov 3rd 2026 10:00",
        "1793700000",
        "1793700000.000",
        "1793700000000",
        "1793700000000.4",
        "1793700000000000",
        "1793700000000000000",
        "1.7937E9",
        "1.7937e+12",
        "/Date(1793700000000)/",
        "/Date(1793700000000+0100)/",
        "\\/Date(1793700000000)\\/",
        "@1793700000",
    ] {
        assert_eq!(parse(text), Some(TEN), "{text}");
    }
}

#[test]
fn the_told_slips_of_clients_are_read() {
    for (text, expected) in [
        ("2026-03-27T09:53Z", "2026-03-27T09:53:00Z"),
        ("2021-10-16T16:00:27.029:Z", "2021-10-16T16:00:27.029Z"),
        ("2026-11-03T24:00", "2026-11-04T00:00:00Z"),
        ("2026-12-31T24:00:00Z", "2027-01-01T00:00:00Z"),
        ("2016-12-31T23:59:60.5Z", "2017-01-01T00:00:00.5Z"),
        ("2026-11-03T12:00 pm", "2026-11-03T12:00:00Z"),
        ("2026-11-03 12:05 am", "2026-11-03T00:05:00Z"),
        ("2026-11-03T10.5Z", "2026-11-03T10:30:00Z"),
        ("2026-11-03 14.30", "2026-11-03T14:30:00Z"),
        ("2026-11-03 9.05.07Z", "2026-11-03T09:05:07Z"),
        ("2026-11-03T14,25Z", "2026-11-03T14:15:00Z"),
        ("2026-11-03T10:30,5Z", "2026-11-03T10:30:30Z"),
        ("2020-W53-5", "2021-01-01T00:00:00Z"),
        ("2026-W01-1", "2025-12-29T00:00:00Z"),
        ("2024-366", "2024-12-31T00:00:00Z"),
        ("2026-11", "2026-11-01T00:00:00Z"),
        ("2026-11-03+01:00", "2026-11-02T23:00:00Z"),
        ("0001-01-01T00:00:00Z", "0001-01-01T00:00:00Z"),
        ("0", "1970-01-01T00:00:00Z"),
        ("-1.5", "1969-12-31T23:59:58.5Z"),
        ("1700000000000", "2023-11-14T22:13:20Z"),
    ] {
        assert_eq!(parse(text), parse_rfc3339(expected), "{text}");
        assert!(parse(text).is_some(), "{text}");
    }
}

#[test]
fn a_zone_that_is_not_named_is_the_plugins() {
    let reading = read("2026-11-03 10:00").unwrap();
    assert_eq!((reading.offset_ms, reading.form), (None, Form::Iso8601));
    assert_eq!(reading.at_offset(3_600_000), TEN - 3_600_000);
    assert_eq!(read("2026-11-03T10:00:00Z").unwrap().at_offset(3_600_000), TEN);
    assert_eq!(read("1793700000").unwrap().form, Form::Epoch);
    for text in ["2026-11-03T10:00:00Z", "2026-11-03T10:00:00.123456+01:00"] {
        assert_eq!(read(text).unwrap().form, Form::Rfc3339, "{text}");
    }
    assert_eq!(read("2026-11-03T10:00:00+0100").unwrap().form, Form::Iso8601);
}

#[test]
fn days_run_without_gaps_through_four_centuries() {
    let mut expected = days_from_civil(1800, 1, 1).unwrap();
    for year in 1800..2200 {
        let mut ordinal = 1;
        for month in 1..=12 {
            for day in 1..=days_in_month(year, month) {
                assert_eq!(days_from_civil(year, month, day), Some(expected), "{year}-{month}-{day}");
                assert_eq!(civil::days_from_ordinal(year, ordinal), Some(expected));
                expected += 1;
                ordinal += 1;
            }
        }
        assert_eq!(civil::days_from_ordinal(year, ordinal), None);
    }
    assert_eq!(days_from_civil(1970, 1, 1), Some(0));
}

#[test]
fn weeks_run_without_gaps_through_four_centuries() {
    let mut expected = civil::days_from_week(1800, 1, 1).unwrap();
    for year in 1800..2200 {
        for week in (1..=53).take_while(|week| civil::days_from_week(year, *week, 1).is_some()) {
            for day in 1..=7 {
                assert_eq!(civil::days_from_week(year, week, day), Some(expected), "{year}-W{week}-{day}");
                expected += 1;
            }
        }
    }
}

/// A moment in the years 1900 to 2199, whose digits alone are a date.
fn moments() -> impl Strategy<Value = i64> {
    -2_208_988_800_000_i64..7_258_118_400_000
}

/// Year, month, day of a day since 1970, found by search, which shares nothing with the code under test but the calendar's table.
fn date_of(day: i64) -> (i64, i64, i64) {
    let mut year = 1970 + day.div_euclid(366) - 1;
    while days_from_civil(year + 1, 1, 1).unwrap() <= day {
        year += 1;
    }
    let month = (1..=12).rev().find(|month| days_from_civil(year, *month, 1).unwrap() <= day).unwrap();
    (year, month, day - days_from_civil(year, month, 1).unwrap() + 1)
}

proptest! {
    /// Whatever way a moment is written, it is read as that moment.
    #[test]
    fn every_form_of_a_moment_is_that_moment(time in moments(), offset_quarters in -56_i64..57) {
        let offset_ms = offset_quarters * 900_000;
        let local = time + offset_ms;
        let (year, month, day) = date_of(local.div_euclid(DAY_MS));
        let of_day = local.rem_euclid(DAY_MS);
        let (hour, minute, second, ms) = (of_day / 3_600_000, of_day / 60_000 % 60, of_day / 1000 % 60, of_day % 1000);
        let (sign, ahead) = if offset_quarters < 0 { ('-', -offset_quarters) } else { ('+', offset_quarters) };
        let (h, m) = (ahead / 4, ahead % 4 * 15);
        let names = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
        let name = names[usize::try_from(month - 1).unwrap()];
        let ordinal = local.div_euclid(DAY_MS) - days_from_civil(year, 1, 1).unwrap() + 1;
        for text in [
            format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{ms:03}{sign}{h:02}:{m:02}"),
            format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02},{ms:03}999 {sign}{h:02}{m:02}"),
            format!("{year:04}{month:02}{day:02}T{hour:02}{minute:02}{second:02}.{ms:03}{sign}{h:02}{m:02}"),
            format!("{year:04}-{ordinal:03}t{hour:02}:{minute:02}:{second:02}.{ms:03}:{sign}{h:02}:{m:02}"),
        ] {
            prop_assert_eq!(parse(&text), Some(time), "{}", text);
        }
        let whole = time - ms;
        for text in [
            format!("{day:02} {name} {year:04} {hour:02}:{minute:02}:{second:02} {sign}{h:02}{m:02}"),
            format!("{name} {day} {year:04} {hour:02}:{minute:02}:{second:02} GMT{sign}{h:02}{m:02} (Some Zone)"),
        ] {
            prop_assert_eq!(parse(&text), Some(whole), "{}", text);
        }
    }

    /// What is written is read as the same second.
    #[test]
    fn what_is_written_is_read_again(time in moments()) {
        let written = rfc3339(time).unwrap();
        prop_assert_eq!(parse_rfc3339(&written), Some(time.div_euclid(1_000) * 1_000), "{}", written);
    }

    /// The unit of a count is found by its size for every moment from 1974 on.
    #[test]
    fn the_unit_of_a_count_is_found_by_its_size(time in 126_230_400_000_i64..4_102_444_800_000) {
        let (seconds, ms) = (time.div_euclid(1000), time.rem_euclid(1000));
        for text in [
            format!("{seconds}.{ms:03}"),
            time.to_string(),
            format!("{time}.25"),
            format!("{time}999"),
            format!("{time}999999"),
            format!("/Date({time})/"),
        ] {
            prop_assert_eq!(parse(&text), Some(time), "{}", text);
        }
    }

    #[test]
    fn no_text_makes_it_fail(text in "\\PC{0,40}", close in "[-+0-9TZWw:., /()@eE\\[\\]]{0,40}") {
        let _ = (read(&text), read(&close));
    }
}
