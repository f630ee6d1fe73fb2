//! Lists of deliveries: their order, their pages, what a filter leaves out, and what is not sent again.

use std::collections::BTreeSet;

use kith_model::change::Movement;
use kith_model::id::{AudienceId, ProfileId};

use super::hook::{Hook, Host, Wire};
use super::*;
use crate::{DeliveryFilter, Replay};

fn ids(bench: &Bench, filter: &DeliveryFilter, limit: usize) -> Vec<String> {
    let (mut ids, mut cursor) = (Vec::new(), None);
    loop {
        let page =
            bench.kernel.deliveries(WORKSPACE, filter, PageRequest { limit, cursor: cursor.as_deref() }).unwrap();
        assert!(page.items.len() <= limit);
        ids.extend(page.items.into_iter().map(|delivery| delivery.id));
        match page.next {
            Some(next) => cursor = Some(next),
            None => return ids,
        }
    }
}

/// They were listed by the hash that names them: nobody found the message of a minute ago.
#[test]
fn deliveries_are_listed_from_the_newest_a_page_at_a_time() {
    let wire = Wire::new(&[("h1", Host::Answers(200)), ("h2", Host::Answers(410))]);
    let bench = Bench::over(Arc::new(kith_store::memory()), vec![], |setup| {
        let mut both = everybody().remove(0);
        both.condition = "events('Product Added').size() == 1".to_owned();
        both.on_exit.clone_from(&both.on_enter);
        setup.audiences = vec![both];
        channel_of(setup).role = Role::PureChannel(Arc::new(Hook::new(&wire)));
    });
    let added = |user: &str, turn: u32| event(&format!("{user}-{turn}"), &[("user_id", user)], "Product Added", START);
    let mut expected = Vec::new();
    for number in 0..5 {
        bench.clock.advance_ms(1_000);
        let user = format!("h1-{number}");
        bench.send(vec![added(&user, 0)]);
        bench.settle();
        let profile = bench.profile("user_id", &user).unwrap().id;
        let newest = deliveries(&bench).remove(0);
        assert_eq!((newest.profile, newest.movement), (profile, Movement::Entered));
        expected.insert(0, newest.id);
    }
    let all = DeliveryFilter::default();
    for limit in [1, 2, 3, 100] {
        assert_eq!(ids(&bench, &all, limit), expected, "{limit}");
    }
    bench.clock.advance_ms(1_000);
    bench.send(vec![added("h1-2", 1)]);
    bench.settle();
    let newest = deliveries(&bench).remove(0);
    assert_eq!(newest.movement, Movement::Left);
    let of_person = DeliveryFilter { profiles: Some([newest.profile].into()), ..all.clone() };
    for limit in [1, 100] {
        assert_eq!(ids(&bench, &of_person, limit), [newest.id.clone(), expected[2].clone()], "{limit}");
    }
    let of = |audience: u32, channel: u32, state| DeliveryFilter {
        audiences: Some([AudienceId(audience)].into()),
        channels: Some([InstallationId(channel)].into()),
        state: Some(state),
        profiles: None,
    };
    assert_eq!(ids(&bench, &of(1, 3, "delivered"), 4).len(), 6);
    for nothing in [of(2, 3, "delivered"), of(1, 2, "delivered"), of(1, 3, "dead")] {
        assert!(ids(&bench, &nothing, 4).is_empty(), "{nothing:?}");
    }
    let nobody = DeliveryFilter { profiles: Some(BTreeSet::<ProfileId>::new()), ..all };
    assert!(ids(&bench, &nobody, 4).is_empty());
}

/// It was said to be on its way, and then skipped.
#[test]
fn a_message_of_an_audience_that_was_removed_is_not_sent_again() {
    let wire = Wire::new(&[("h1", Host::Answers(410))]);
    let bench = bench(Hook::new(&wire));
    bench.send(people("h1", 1));
    let is_dead = || matches!(deliveries(&bench)[..], [DeliveryView { state: DeliveryState::Dead { .. }, .. }]);
    bench.wait_until("it is given up", is_dead);
    let id = deliveries(&bench)[0].id.clone();
    bench.configure(|setup| setup.audiences.clear());
    assert_eq!(bench.kernel.replay(WORKSPACE, &id).unwrap(), Replay::AudienceRemoved);
    assert!(is_dead(), "it stays a dead letter");
    assert_eq!(bench.kernel.dead_letters(WORKSPACE, PageRequest::first(10)).unwrap().items.len(), 1);
}
