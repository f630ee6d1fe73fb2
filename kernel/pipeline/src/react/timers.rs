//! From the timers to touches: whom time has come for, and what of them it wakes.

use std::collections::BTreeSet;

use kith_model::audience::Cause;
use kith_model::id::{ProfileId, SourceIdentityId};
use kith_model::time::Timestamp;
use kith_store::Key;

use super::effects::Effect;
use super::reactor::{PassError, Reactor};

impl Reactor {
    /// Wake the profiles for which time has come, within the budget.
    pub(super) fn timers(&mut self) -> Result<(), PassError> {
        let now = self.now();
        if self.next_timer.is_none_or(|due| due > now) {
            return Ok(());
        }
        let timers = Key::timers(self.workspace.id);
        let mut range = timers.range();
        range.to = Key::timer(self.workspace.id, now.plus_ms(1), SourceIdentityId([0; 16]));
        let page = self.shared.store.scan(&range, self.budget.people)?;
        let mut is_cut = page.next.is_some();
        for (key, _) in page.rows {
            let Some((due, identity)) = key.as_timer() else { continue };
            if self.leaves_out() {
                self.pass.effects.push(Effect::Wake { profile: identity, from: Some(due), at: None });
                self.leave_out(identity);
                continue;
            }
            self.wake(ProfileId(identity), due)?;
            if self.identities.pass_bytes() > self.budget.bytes {
                is_cut = true;
                break;
            }
        }
        self.pass.has_more |= is_cut;
        if !is_cut {
            let earliest = self.earliest_timer()?;
            self.next_timer = earliest.into_iter().chain(self.pass.earliest_timer).min();
        }
        Ok(())
    }

    /// When the earliest timer after now is due.
    fn earliest_timer(&self) -> Result<Option<Timestamp>, PassError> {
        let timers = Key::timers(self.workspace.id);
        let mut range = timers.range();
        range.from = Key::timer(self.workspace.id, self.now().plus_ms(1), SourceIdentityId([0; 16]));
        let page = self.shared.store.scan(&range, 1)?;
        Ok(page.rows.first().and_then(|(key, _)| key.as_timer()).map(|(due, _)| due))
    }

    fn wake(&mut self, profile: ProfileId, due: Timestamp) -> Result<(), PassError> {
        let now = self.now();
        self.pass.effects.push(Effect::Wake { profile: profile.0, from: Some(due), at: None });
        let members = self.identities.load_profile(profile);
        if self.readable(profile, members)?.is_none_or(|members| members.is_empty()) {
            return Ok(());
        }
        let Some(derived) = self.identities.derived_mut(profile.0) else { return Ok(()) };
        if derived.timer_row == Some(due) {
            derived.timer_row = None;
        }
        let woken: BTreeSet<_> = derived.timers().filter(|(_, due)| *due <= now).map(|(waker, _)| waker).collect();
        for waker in &woken {
            derived.set_timer(*waker, None);
        }
        let position = self.pass.cursor.position;
        let cause = if position < self.promised { Cause::Rebuild } else { Cause::Time };
        self.touch(profile, cause, position)?.wakers.extend(woken);
        Ok(())
    }
}
