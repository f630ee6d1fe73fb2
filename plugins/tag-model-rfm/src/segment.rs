//! The named segment of a customer, from recency and the mean of frequency and monetary.
//!
//! The grid over 5 × 5 scores that RFM literature and tools share (Putler's chart of eleven segments and the R package `rfm` name the same groups).
//! Published rules overlap; here each cell has one segment. "Lost" is the lowest cell, which the published text describes as "lowest recency, frequency and monetary
//! scores".

/// The segment of three scores, each 1 … 5.
pub(crate) fn segment(recency: i64, frequency: i64, monetary: i64) -> &'static str {
    // The mean, halves rounded up.
    let value = (frequency + monetary + 1) / 2;
    match (recency, value) {
        (5, 4..) => "champions",
        (3 | 4, 4..) => "loyal",
        (4.., 2 | 3) => "potential_loyalist",
        (5, _) => "new",
        (4, _) => "promising",
        (3, 3) => "needs_attention",
        (3, _) => "about_to_sleep",
        (_, 5) => "cant_lose",
        (_, 3 | 4) => "at_risk",
        (1, 1) => "lost",
        _ => "hibernating",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All slugs, best customers first: the values of `rfm_segment` in `plugin.toml`.
    const SEGMENTS: [&str; 11] = [
        "champions",
        "loyal",
        "potential_loyalist",
        "new",
        "promising",
        "needs_attention",
        "about_to_sleep",
        "at_risk",
        "cant_lose",
        "hibernating",
        "lost",
    ];

    #[test]
    fn the_grid() {
        // Rows are the mean of frequency and monetary from 5 down to 1, columns recency from 1 to 5.
        let grid = [
            ["cant_lose", "cant_lose", "loyal", "loyal", "champions"],
            ["at_risk", "at_risk", "loyal", "loyal", "champions"],
            ["at_risk", "at_risk", "needs_attention", "potential_loyalist", "potential_loyalist"],
            ["hibernating", "hibernating", "about_to_sleep", "potential_loyalist", "potential_loyalist"],
            ["lost", "hibernating", "about_to_sleep", "promising", "new"],
        ];
        for (row, segments) in grid.iter().enumerate() {
            for (column, expected) in segments.iter().enumerate() {
                let (recency, value) = (column as i64 + 1, 5 - row as i64);
                assert_eq!(segment(recency, value, value), *expected, "recency {recency}, value {value}");
            }
        }
    }

    #[test]
    fn frequency_and_monetary_weigh_the_same() {
        assert_eq!(segment(5, 5, 2), "champions");
        assert_eq!(segment(5, 2, 5), "champions");
        assert_eq!(segment(5, 5, 1), "potential_loyalist");
    }

    #[test]
    fn every_segment_is_reached_and_declared() {
        let mut reached = std::collections::BTreeSet::new();
        for recency in 1..=5 {
            for frequency in 1..=5 {
                for monetary in 1..=5 {
                    reached.insert(segment(recency, frequency, monetary));
                }
            }
        }
        assert_eq!(reached, SEGMENTS.into_iter().collect());
        let manifest = include_str!("../plugin.toml");
        for name in SEGMENTS {
            assert!(manifest.contains(&format!("\"{name}\"")), "{name} is not in plugin.toml");
        }
    }
}
