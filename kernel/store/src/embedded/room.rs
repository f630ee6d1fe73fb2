//! How much the disk still takes, asked once for each group and used up by its units in their order.

use super::Shared;
use crate::{CommitError, DiskRoom, ReadError};

/// What even a lease leaves of the reserve.
const LEAST_BYTES: u64 = 1 << 20;

/// What room is taken for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    Unit,
    /// Some hundred bytes at a start, without which nobody could read: they may come out of the reserve.
    Lease,
}

/// The room on the disk of a store that has one.
pub(crate) fn of_disk(shared: &Shared) -> Result<Option<DiskRoom>, ReadError> {
    let Some(disk) = &shared.disk else { return Ok(None) };
    let free_bytes = disk.directory.free_bytes()?;
    Ok(Some(DiskRoom { free_bytes, reserve_bytes: disk.reserve_bytes }))
}

/// What a group may write.
pub(crate) enum Room<'a> {
    /// A store in memory, or units that are on disk already.
    Unbounded,
    /// The disk did not say; no unit is let in.
    Unknown(CommitError),
    Disk {
        path: &'a std::path::Path,
        free_bytes: u64,
        reserve_bytes: u64,
    },
}

impl Room<'_> {
    /// The room of a group that begins now.
    pub(crate) fn of(shared: &Shared) -> Room<'_> {
        let Some(disk) = &shared.disk else { return Room::Unbounded };
        match disk.directory.free_bytes() {
            Ok(free_bytes) => Room::Disk { path: disk.directory.path(), free_bytes, reserve_bytes: disk.reserve_bytes },
            Err(error) => Room::Unknown(error.into()),
        }
    }

    /// Take `bytes`, unless that touches the reserve. A unit that is refused takes nothing, so that a smaller one behind it
    /// may still be let in.
    pub(crate) fn take(&mut self, bytes: usize, purpose: Purpose) -> Result<(), CommitError> {
        match self {
            Room::Unbounded => Ok(()),
            Room::Unknown(error) => Err(error.clone()),
            Room::Disk { path, free_bytes, reserve_bytes } => {
                let kept_bytes = match purpose {
                    Purpose::Unit => *reserve_bytes,
                    Purpose::Lease => LEAST_BYTES.min(*reserve_bytes),
                };
                let left = free_bytes.saturating_sub(bytes as u64);
                if left < kept_bytes {
                    let path = path.display().to_string();
                    return Err(CommitError::DiskFull { path, free_bytes: *free_bytes, reserve_bytes: *reserve_bytes });
                }
                *free_bytes = left;
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn units_are_let_in_one_by_one_down_to_the_reserve() {
        let mut room = Room::Disk { path: Path::new("store"), free_bytes: 1_000, reserve_bytes: 300 };
        room.take(400, Purpose::Unit).unwrap();
        assert!(matches!(
            room.take(301, Purpose::Unit),
            Err(CommitError::DiskFull { free_bytes: 600, reserve_bytes: 300, .. })
        ));
        room.take(300, Purpose::Unit).unwrap();
        room.take(0, Purpose::Unit).unwrap();
        assert!(matches!(room.take(1, Purpose::Unit), Err(CommitError::DiskFull { free_bytes: 300, .. })));
        Room::Unbounded.take(usize::MAX, Purpose::Unit).unwrap();
        assert!(matches!(Room::Unknown(CommitError::Closed).take(0, Purpose::Unit), Err(CommitError::Closed)));
    }

    #[test]
    fn a_lease_comes_out_of_the_reserve_down_to_its_last_mebibyte() {
        let disk = |free_bytes, reserve_bytes| Room::Disk { path: Path::new("store"), free_bytes, reserve_bytes };
        let mut full = disk(LEAST_BYTES + 500, u64::MAX);
        assert!(matches!(full.take(1, Purpose::Unit), Err(CommitError::DiskFull { .. })));
        full.take(300, Purpose::Lease).unwrap();
        assert!(matches!(full.take(300, Purpose::Lease), Err(CommitError::DiskFull { .. })));
        disk(100, 0).take(100, Purpose::Lease).expect("a smaller reserve is all that there is to keep");
    }
}
