//! Memory set aside for a request's body as it comes: what is announced and not sent holds nothing, and what a compressed
//! body becomes is counted as it is decompressed. It is counted twice, for the server as a whole and for the key.

use std::sync::Arc;

use kith_model::budget::{Exhausted, Permit};

use crate::app::App;
use crate::auth::KeyId;
use crate::memory::ProcessMemory;
use crate::shares::Share;

/// The least that a request is taken to need.
const LEAST_REQUEST_BYTES: u64 = 16 << 10;

/// What one request holds.
#[derive(Debug)]
pub(super) struct Reservation {
    of_process: Arc<ProcessMemory>,
    of_all: Permit,
    /// `None` for a sender who is not known yet.
    of_key: Option<Share<KeyId>>,
}

impl Reservation {
    /// For a sender who has shown this key.
    pub(super) fn of_key(app: &App, key: &KeyId) -> Result<Reservation, Exhausted> {
        app.memory.check()?;
        let of_key = app.credential_memory.take(key.clone(), LEAST_REQUEST_BYTES)?;
        let of_all = app.ingest_memory.take(LEAST_REQUEST_BYTES)?;
        Ok(Reservation { of_process: Arc::clone(&app.memory), of_all, of_key: Some(of_key) })
    }

    /// For a sender whose head does not say who it is, from a pool of their own.
    pub(super) fn of_stranger(app: &App) -> Result<Reservation, Exhausted> {
        app.memory.check()?;
        let of_all = app.stranger_memory.take(LEAST_REQUEST_BYTES)?;
        Ok(Reservation { of_process: Arc::clone(&app.memory), of_all, of_key: None })
    }

    /// Hold at least so many bytes.
    pub(super) fn grow_to(&mut self, bytes: usize) -> Result<(), Exhausted> {
        let more = (bytes as u64).saturating_sub(self.of_all.amount());
        if more > 0 {
            self.of_process.check()?;
            if let Some(of_key) = &mut self.of_key {
                of_key.grow(more)?;
            }
            self.of_all.grow(more)?;
        }
        Ok(())
    }
}
