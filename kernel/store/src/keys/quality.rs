//! Keys of what is counted of each source, and of which version of its connector read what.

use kith_model::id::{InstallationId, Position, WorkspaceId};

use super::{Key, READER, SOURCE_COUNTS};

/// What is older than the days that have a row of their own.
const OLDER: &[u8] = &[0];
const DAY: &[u8] = &[1];

impl Key {
    /// All that is counted of a source: what is older first, then its days.
    pub fn source_counts(workspace: WorkspaceId, source: InstallationId) -> Key {
        Key::new(SOURCE_COUNTS, workspace, 0, &[&source.0.to_be_bytes()])
    }

    /// What is older than the days of a source.
    pub fn older_source_counts(workspace: WorkspaceId, source: InstallationId) -> Key {
        Key::source_counts(workspace, source).followed_by(OLDER)
    }

    /// What is counted of a source on a day, 0 being 1970-01-01.
    pub fn source_day(workspace: WorkspaceId, source: InstallationId, day: i32) -> Key {
        let sortable = (day.cast_unsigned() ^ (1 << 31)).to_be_bytes();
        Key::source_counts(workspace, source).followed_by(DAY).followed_by(&sortable)
    }

    /// The day that a key below `prefix`, a [`Key::source_counts`], names; `None` for what is older.
    pub fn as_source_day(&self, prefix: &Key) -> Option<i32> {
        let day: [u8; 4] = self.strip(prefix)?.strip_prefix(DAY)?.try_into().ok()?;
        Some((u32::from_be_bytes(day) ^ (1 << 31)).cast_signed())
    }

    /// Which versions of its connector have read a source's events, in the order of the log.
    pub fn readers(workspace: WorkspaceId, source: InstallationId) -> Key {
        Key::new(READER, workspace, 0, &[&source.0.to_be_bytes()])
    }

    /// The version that has that number among those of its source, all of whose events lie behind a position of the log.
    pub fn reader(workspace: WorkspaceId, source: InstallationId, after: Position, number: u32) -> Key {
        Key::readers(workspace, source).followed_by(&after.0.to_be_bytes()).followed_by(&number.to_be_bytes())
    }

    /// The position and the number that a key below `prefix`, a [`Key::readers`], names. One of before versions had numbers ends
    /// with the position, and has 0.
    pub fn as_reader(&self, prefix: &Key) -> Option<(Position, u32)> {
        let (after, number) = self.strip(prefix)?.split_first_chunk::<8>()?;
        let number = if number.is_empty() { 0 } else { u32::from_be_bytes(number.try_into().ok()?) };
        Some((Position(u64::from_be_bytes(*after)), number))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_lie_in_their_order_behind_what_is_older() {
        let (workspace, source) = (WorkspaceId(1), InstallationId(7));
        let prefix = Key::source_counts(workspace, source);
        let mut keys = vec![Key::older_source_counts(workspace, source)];
        let days = [i32::MIN, -1, 0, 20_000, i32::MAX];
        keys.extend(days.map(|day| Key::source_day(workspace, source, day)));
        assert!(keys.is_sorted());
        let read: Vec<Option<i32>> = keys.iter().map(|key| key.as_source_day(&prefix)).collect();
        assert_eq!(read, [None].into_iter().chain(days.map(Some)).collect::<Vec<_>>());
    }

    #[test]
    fn readers_lie_in_the_order_of_the_log_and_each_source_has_its_own() {
        let workspace = WorkspaceId(1);
        let of = |source| {
            [0, 255, 256, u64::MAX].map(|after| Key::reader(workspace, InstallationId(source), Position(after), 9))
        };
        let prefix = Key::readers(workspace, InstallationId(7));
        let range = prefix.range();
        assert!(of(7).is_sorted() && of(7).iter().all(|key| range.from <= *key && *key < range.to));
        assert!(of(8).iter().all(|key| range.to <= *key));
        assert_eq!(of(7)[2].as_reader(&prefix), Some((Position(256), 9)));
        let older = prefix.followed_by(&256_u64.to_be_bytes());
        assert!(of(7)[1] < older && older < of(7)[2], "a row of before lies where its position is");
        assert_eq!(older.as_reader(&prefix), Some((Position(256), 0)));
    }
}
