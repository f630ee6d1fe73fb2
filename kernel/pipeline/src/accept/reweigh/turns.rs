//! Between two groups of events: a slice of a change of rules, else one of taking events back, else those whose partition was put
//! off.

use std::sync::Arc;

use kith_model::id::SourceIdentityId;
use kith_store::{ReadError, Store};

use crate::accept::unit::Workspace;

impl Workspace {
    /// What no event waits for: a slice of a change of rules, else one of taking events back, else those whose turn has come.
    /// Whether there was a slice.
    ///
    /// # Errors
    /// The workspace's state is not known.
    pub(in crate::accept) fn catch_up(&mut self, store: &Arc<dyn Store>) -> Result<bool, ReadError> {
        let has_tied = self.tie_history(store)?;
        if !self.applied.is_done() {
            return Ok(has_tied);
        }
        let has_taken_back = !has_tied && self.take_events_back(store)?;
        self.settle_put_off(store)?;
        Ok(has_tied || has_taken_back)
    }

    /// Whether somebody's partition was put off.
    pub(in crate::accept) fn has_put_off(&self) -> bool {
        !self.people.put_off.waiting().is_empty()
    }

    /// Give those their turn whose partition was put off, as far as there is room. Where it cannot be committed, they wait on.
    ///
    /// # Errors
    /// The workspace's state is not known.
    fn settle_put_off(&mut self, store: &Arc<dyn Store>) -> Result<(), ReadError> {
        let mut settled = Vec::new();
        while self.people.put_off.has_room()
            && let Some(identity) = self.people.put_off.next()
        {
            match self.settle_one(identity) {
                Ok(()) => settled.push(identity),
                Err(error) => {
                    tracing::error!(workspace = self.id().0, %identity, %error, "a person stays as they are, because a row cannot be read");
                    self.people.forget_event();
                    // Of a row that is damaged another try reads no more.
                    if matches!(error, ReadError::Io { .. } | ReadError::Truncated { .. }) {
                        self.people.put_off.put_back([identity]);
                        break;
                    }
                    settled.push(identity);
                }
            }
        }
        if settled.is_empty() {
            return Ok(());
        }
        let unit = self.unit_of_people();
        match store.commit(unit) {
            Ok(_) => self.committed(),
            Err(error) => {
                tracing::error!(workspace = self.id().0, %error, "people wait to be put together");
                self.people.put_off.put_back(settled);
                self.forget_people();
                self.committed_in_part()?;
            }
        }
        Ok(())
    }

    fn settle_one(&mut self, identity: SourceIdentityId) -> Result<(), ReadError> {
        let profile = self.people.current(identity)?.profile;
        self.people.settle(profile.0, &self.rules)?;
        self.people.keep_event();
        Ok(())
    }
}
