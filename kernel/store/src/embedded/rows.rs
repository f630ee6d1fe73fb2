//! The rows by which the store itself remembers jobs and leases. FORMAT.md has their bytes.

use kith_model::time::Timestamp;

use crate::{ReadError, Value};

const VERSION: u8 = 1;

fn time(bytes: &[u8]) -> Option<Timestamp> {
    Some(Timestamp(i64::from_be_bytes(bytes.try_into().ok()?)))
}

fn damaged(what: &str) -> ReadError {
    ReadError::Corrupt { what: what.to_owned(), problem: "its row cannot be read".to_owned(), row: None }
}

/// The row of when a job is due next.
pub(crate) fn job_time(due_at: Timestamp) -> Value {
    let mut bytes = [VERSION; 9];
    bytes[1..].copy_from_slice(&due_at.0.to_be_bytes());
    Value::from(bytes.as_slice())
}

/// When a job is due next, from its row.
pub(crate) fn read_job_time(row: &[u8]) -> Result<Timestamp, ReadError> {
    row.strip_prefix(&[VERSION]).and_then(time).ok_or_else(|| damaged("a job's time"))
}

/// The row of what a job holds, with the time that it was put in for.
pub(crate) fn job_body(due_at: Timestamp, body: &[u8]) -> Value {
    Value::from([&[VERSION], &due_at.0.to_be_bytes()[..], body].concat())
}

/// The time that a job was put in for, and what it holds.
pub(crate) fn read_job_body(row: &[u8]) -> Result<(Timestamp, Value), ReadError> {
    let parts = row.strip_prefix(&[VERSION]).and_then(|rest| rest.split_at_checked(8));
    let parts = parts.and_then(|(due_at, body)| Some((time(due_at)?, Value::from(body))));
    parts.ok_or_else(|| damaged("a job"))
}

/// Who holds a lease, and until when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Lease {
    pub(crate) epoch: u64,
    pub(crate) until: Timestamp,
    pub(crate) owner: String,
}

impl Lease {
    /// The lease's row.
    pub(crate) fn to_row(&self) -> Value {
        let numbers = [self.epoch.to_be_bytes(), self.until.0.to_be_bytes()].concat();
        Value::from([&[VERSION], numbers.as_slice(), self.owner.as_bytes()].concat())
    }

    /// The lease of a row.
    pub(crate) fn from_row(row: &[u8]) -> Result<Lease, ReadError> {
        let read = || {
            let (epoch, rest) = row.strip_prefix(&[VERSION])?.split_first_chunk::<8>()?;
            let (until, owner) = rest.split_at_checked(8)?;
            let owner = String::from_utf8(owner.to_vec()).ok()?;
            Some(Lease { epoch: u64::from_be_bytes(*epoch), until: time(until)?, owner })
        };
        read().ok_or_else(|| damaged("a lease"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_read_back_and_foreign_bytes_do_not() {
        let lease = Lease { epoch: 3, until: Timestamp(-7), owner: "node-1".to_owned() };
        assert_eq!(Lease::from_row(&lease.to_row()).unwrap(), lease);
        assert_eq!(read_job_time(&job_time(Timestamp(-1))).unwrap(), Timestamp(-1));
        let (due_at, body) = read_job_body(&job_body(Timestamp(9), b"body")).unwrap();
        assert_eq!((due_at, &*body), (Timestamp(9), b"body".as_slice()));
        for row in [b"".as_slice(), &[1], &[9; 30], &[1; 8]] {
            assert!(read_job_time(row).is_err());
            assert!(read_job_body(&row[..row.len().min(8)]).is_err());
            assert!(Lease::from_row(&row[..row.len().min(16)]).is_err());
        }
    }
}
