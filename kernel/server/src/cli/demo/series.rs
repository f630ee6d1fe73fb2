//! The demo's two series: where they are, when they end, and how far their times are moved so that they end today.
//!
//! The shift is computed from the rows themselves and handed to the `csv` connector's configuration; the files go to the
//! server as they are.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use flate2::bufread::MultiGzDecoder;
use indicatif::ProgressBar;
use jiff::civil::{Date, DateTime, Time};
use jiff::tz::TimeZone;
use kith_model::time::Timestamp;
use serde_json::{Value, json};

use crate::cli::Failure;

/// How a series is written down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Layout {
    /// `ecom.csv.gz`: CSV with a header; the fourth column is the time, `2024-03-13 10:21:14`.
    Clickstream,
    /// `CDNOW_sample.txt`: customer, number in the sample, date, number of CDs, dollars, set apart by spaces.
    Orders,
}

/// A series and how far its times are moved.
#[derive(Debug, Clone)]
pub(crate) struct Series {
    path: PathBuf,
    layout: Layout,
    pub(crate) rows: u64,
    /// Size of the file in bytes.
    pub(crate) bytes: u64,
    /// The last time in the file.
    last: Timestamp,
    shift_ms: i64,
}

impl Series {
    /// Read the file once to find its last time.
    pub(crate) fn open(path: PathBuf, layout: Layout, now: Timestamp) -> Result<Series, Failure> {
        let failed = |source| Failure::File { what: "read", path: path.clone(), source };
        let bytes = std::fs::metadata(&path).map_err(failed)?.len();
        let (mut rows, mut last) = (0, None);
        for line in lines(&path).map_err(failed)?.lines() {
            if let Some(time) = layout.time(&line.map_err(failed)?) {
                rows += 1;
                last = last.max(Some(time));
            }
        }
        let last = last.ok_or_else(|| failed(io::Error::other("no row of it has a time")))?;
        let shift_ms = layout.shift_ms(last, now);
        Ok(Series { path, layout, rows, bytes, last, shift_ms })
    }

    /// The file as it is; `bar` counts its bytes.
    pub(crate) fn reader(&self, bar: &ProgressBar) -> Result<impl Read + use<>, Failure> {
        let failed = |source| Failure::File { what: "open", path: self.path.clone(), source };
        Ok(bar.wrap_read(File::open(&self.path).map_err(failed)?))
    }

    /// What was done to the times, for people.
    pub(crate) fn moved(&self) -> String {
        let day = |time: Timestamp| time.to_string().chars().take(10).collect::<String>();
        let days = self.shift_ms.div_euclid(kith_model::time::DAY_MS);
        format!(
            "times moved by {days} days: it ended on {}, now on {}",
            day(self.last),
            day(self.last.plus_ms(self.shift_ms))
        )
    }

    /// The configuration of the `csv` connector that reads it.
    pub(crate) fn mapping(&self) -> Value {
        match self.layout {
            Layout::Clickstream => json!({
                "identifiers": { "user_id": "user_id" },
                "event": { "column": "event", "rename": {
                    "home": "Home Viewed",
                    "promo_page": "Promotion Viewed",
                    "catalog": "Product List Viewed",
                    "filter_results": "Product List Filtered",
                    "search": "Products Searched",
                    "compare": "Products Compared",
                    "product_view": "Product Viewed",
                    "wishlist_add": "Product Added to Wishlist",
                    "add_to_cart": "Product Added",
                    "cart": "Cart Viewed",
                    "shipping_details": "Checkout Started",
                    "payment_details": "Payment Info Entered",
                    "review_page": "Order Reviewed",
                    "purchase": "Order Completed",
                    "payment_error": "Payment Failed",
                    "checkout_bug": "Checkout Failed",
                    "error_page": "Error Shown",
                    "account_page": "Account Viewed",
                    "support_chat": "Support Contacted",
                } },
                "properties": ["session_id", "platform", "acquisition_channel", "user_cohort", "user_lifecycle"],
                "time": { "column": "timestamp", "formats": ["%Y-%m-%d %H:%M:%S"] },
                "shift_ms": self.shift_ms,
            }),
            Layout::Orders => json!({
                "header": false,
                "delimiter": "whitespace",
                "columns": ["customer", "number", "date", "quantity", "total"],
                "identifiers": { "user_id": "cdnow-{customer}" },
                "event": { "name": "Order Completed" },
                "properties": {
                    "quantity": { "column": "quantity", "type": "integer" },
                    "total": { "column": "total", "type": "number" },
                },
                "time": { "column": "date", "formats": ["%Y%m%d"] },
                "shift_ms": self.shift_ms,
            }),
        }
    }
}

impl Layout {
    /// The time in a row; `None` for a header or an empty line.
    fn time(self, line: &str) -> Option<Timestamp> {
        let time: DateTime = match self {
            Layout::Clickstream => line.split(',').nth(3)?.replacen(' ', "T", 1).parse().ok()?,
            Layout::Orders => {
                let date = Date::strptime("%Y%m%d", line.split_whitespace().nth(2)?).ok()?;
                date.to_datetime(Time::midnight())
            }
        };
        Some(Timestamp(time.to_zoned(TimeZone::UTC).ok()?.timestamp().as_millisecond()))
    }

    /// From the last time of the series to now. Dates without a time of day move by whole days, so that they stay dates.
    fn shift_ms(self, last: Timestamp, now: Timestamp) -> i64 {
        let unit = match self {
            Layout::Clickstream => 1_000,
            Layout::Orders => kith_model::time::DAY_MS,
        };
        (now.0.div_euclid(unit) - last.0.div_euclid(unit)) * unit
    }
}

/// The lines of a file, unpacked where its name ends in `.gz`.
fn lines(path: &Path) -> io::Result<Box<dyn BufRead>> {
    let file = BufReader::with_capacity(1 << 16, File::open(path)?);
    let is_packed = path.extension().is_some_and(|ending| ending == "gz");
    Ok(if is_packed { Box::new(BufReader::new(MultiGzDecoder::new(file))) } else { Box::new(file) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(name: &str, content: &[u8], layout: Layout) -> Result<Series, Failure> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        std::fs::write(&path, content).unwrap();
        Series::open(path, layout, "2026-11-21T10:00:00Z".parse().unwrap())
    }

    #[test]
    fn a_clickstream_ends_now() {
        use std::io::Write;
        let content = "user_id,session_id,event,timestamp,platform\n\
                       u1,s1,cart,2024-06-29 22:02:40,mobile\nu1,s1,home,2024-06-28 22:02:40,mobile\n";
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        packed.write_all(content.as_bytes()).unwrap();
        let series = open("a.csv.gz", &packed.finish().unwrap(), Layout::Clickstream).unwrap();
        assert_eq!(series.rows, 2);
        assert_eq!(series.last.plus_ms(series.shift_ms).to_string(), "2026-11-21T10:00:00.000Z");
        assert_eq!(series.moved(), "times moved by 874 days: it ended on 2024-06-29, now on 2026-11-21");
    }

    #[test]
    fn orders_move_by_whole_days() {
        let content = " 00021 0002 19980630  3   63.34\r\n 00004 0001 19980629  2   29.33\r\n";
        let series = open("a.txt", content.as_bytes(), Layout::Orders).unwrap();
        assert_eq!(series.rows, 2);
        assert_eq!(series.last.plus_ms(series.shift_ms).to_string(), "2026-11-21T00:00:00.000Z");
    }

    #[test]
    fn a_file_without_times_is_refused() {
        assert!(open("a.txt", b"nothing here\n", Layout::Orders).is_err());
    }
}
