//! Taking agreements back with the events that gave them. What these events refused stays refused.

use super::{Consent, Consents};
use crate::id::InstallationId;

impl Consents {
    /// Each agreement that an event gave which is gone is what `rest` has in its place, which is everything else that was said,
    /// with what such events refused; how many there were. Refusals stay, since nobody is written to by mistake for one too many.
    pub fn take_back(&mut self, is_gone: impl Fn(InstallationId, &str) -> bool, rest: &Consents) -> u64 {
        let has_gone = |held: &Consent| held.refused.is_none() && is_gone(held.source, &held.message_id);
        let mut taken_back = 0;
        if self.all.as_ref().is_some_and(has_gone) {
            self.all.clone_from(&rest.all);
            taken_back += 1;
        }
        let gone = self.purposes.iter().filter(|(_, held)| has_gone(held)).map(|(key, _)| key.clone());
        for key in gone.collect::<Vec<String>>() {
            taken_back += 1;
            match rest.purposes.get(&key) {
                Some(before) => self.purposes.insert(key, before.clone()),
                None => self.purposes.remove(&key),
            };
        }
        taken_back
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::consent::{Dating, Giver, Statement};
    use crate::time::Timestamp;

    fn statement(json: &'static str, at: i64, giver: Giver) -> Statement<'static> {
        let message_id = if at < 10 { "before" } else { "gone" };
        let (time, dating) = (Timestamp(at), Dating::Stated);
        Statement { json, time, received_at: time, source: InstallationId(1), message_id, giver, dating }
    }

    fn is_refused(consents: &Consents, key: &str) -> Option<bool> {
        consents.answers().find(|(held, _)| *held == key).map(|(_, consent)| consent.refused.is_some())
    }

    #[test]
    fn agreements_fall_back_to_what_was_said_before_and_refusals_stay() {
        let before = statement(r#"{"news":false,"ads":true,"post":true}"#, 5, Giver::MayAgree);
        let gone = r#"{"news":true,"ads":false,"calls":true}"#;
        let (mut held, mut rest) = (Consents::default(), Consents::default());
        held.record(&before);
        held.record(&statement(gone, 20, Giver::MayAgree));
        rest.record(&before);
        rest.record(&statement(gone, 20, Giver::RefusesOnly));
        assert_eq!(held.take_back(|_, message_id| message_id == "gone", &rest), 2);
        let now = ["news", "ads", "calls", "post"].map(|key| is_refused(&held, key));
        assert_eq!(now, [Some(true), Some(true), None, Some(false)]);
        assert_eq!(held.take_back(|_, message_id| message_id == "gone", &rest), 0, "once");
    }
}
