//! Who ends a message: one alone, whatever happens at the same time.

use kith_model::audience::ConsentBasis;
use kith_model::delivery::{DeliveryState, Outcome};
use kith_model::id::{AudienceId, ProfileId, SourceIdentityId};
use kith_model::time::ManualClock;
use kith_store::{Key, Operation, Store, Unit};

use kith_model::change::Movement;

use super::*;
use crate::setup::Observer;
use crate::tests::harness::{audience, setup_of};
use crate::{Installed, Kernel};

/// An outbox that no sender of the kernel works.
const QUEUE: QueueId = QueueId { workspace: WorkspaceId(1), queue: 9 };

struct Silent;

impl Observer for Silent {
    fn held(&self, _: WorkspaceId, _: &Installed, _: &str) {}

    fn waits_for_fit(&self, _: WorkspaceId, _: &Installed, _: &str) {}
}

/// A message that was claimed at 0 and is due since then.
fn claimed(store: &dyn Store, number: u8) -> Arc<Outgoing> {
    let id = [number; 16];
    let profile = ProfileId(SourceIdentityId([1; 16]));
    let row = DeliveryRow {
        channel: InstallationId(QUEUE.queue),
        audience: AudienceId(1),
        movement: Movement::Entered,
        profile,
        purpose: "marketing".into(),
        basis: ConsentBasis::NotRefused,
        payload: "{}".into(),
        created_at: Timestamp(0),
        state: DeliveryState::Pending { attempts: 9, due_at: Timestamp(0), last_reason: None },
        cause: None,
    };
    let operations = vec![
        Operation::Put(Key::delivery(QUEUE.workspace, &id), kith_store::row::encode(&row)),
        Operation::Enqueue { queue: QUEUE, id, due_at: Timestamp(0), body: vec![] },
    ];
    store.commit(Unit { operations, ..Unit::default() }).unwrap();
    let message = Message {
        id: crate::views::delivery_id(&id),
        attempt: 10,
        recipient: vec![],
        profile,
        payload: "{}".into(),
        inputs: vec![],
        created_at: Timestamp(0),
    };
    let person = Identifier::new("user_id", "ada");
    let grounds = Grounds::default();
    Arc::new(Outgoing { id, row, message, person, grounds, deadline: Instant::now() + GRACE })
}

fn delivered(outgoing: &Arc<Outgoing>) -> EndedAttempt {
    let end = End::Outcome(Outcome::Delivered { provider_id: None });
    EndedAttempt { outgoing: Arc::clone(outgoing), end, at: Timestamp(1_000) }
}

#[test]
fn what_a_channel_holds_is_weighed_not_counted_alone() {
    let store = kith_store::memory();
    let limits = SendingLimits { messages_at_once: 10_000, requests_per_host: 10_000 };
    let mut load = Load::default();
    let of_nothing = load.room(limits);
    assert!((256..1_024).contains(&of_nothing), "{of_nothing}");
    let [light, heavy] = [1, 2].map(|number| claimed(&store, number));
    load.take(Arc::clone(&light));
    load.take(Arc::clone(&heavy));
    assert!(load.room(limits) > of_nothing - 3);
    load.weigh(&heavy.id, 64 << 20);
    assert_eq!((load.room(limits), load.is_full()), (0, true));
    // Its next request is small.
    load.weigh(&heavy.id, 1 << 20);
    assert!(!load.is_full() && load.room(limits) > 0);
    load.weigh(&heavy.id, 64 << 20);
    load.remove(&heavy.id);
    load.remove(&light.id);
    assert_eq!((load.room(limits), load.is_full()), (of_nothing, false));
}

/// A cut-off took messages over whose outcome was just being committed, put them back into the outbox, and they were sent again.
#[test]
fn a_message_whose_outcome_is_being_committed_is_not_cut_off_and_one_that_was_cut_off_has_no_outcome() {
    let store: Arc<dyn Store> = Arc::new(kith_store::memory());
    let setup = setup_of(vec![audience(1, "true", None)]);
    let clock = Arc::new(ManualClock::new(Timestamp(1_000)));
    let kernel = Kernel::start(Arc::clone(&store), clock, Arc::new(Silent), vec![setup]).unwrap();
    let sender = Sender::new(Arc::clone(&kernel.shared), QUEUE);
    let [answered, hanging, returned] = [1, 2, 3].map(|number| claimed(store.as_ref(), number));
    assert_eq!(store.claim(QUEUE, Timestamp(0), 10, claims::LEASE_MS).unwrap().len(), 3);
    sender.take(&[Arc::clone(&answered), Arc::clone(&hanging), Arc::clone(&returned)]);
    let returned = [returned].map(|one| Return { id: one.id, due_at: Timestamp(0) }).to_vec();
    assert_eq!(sender.give_up(returned.clone()).len(), 1);
    let outcome = sender.begin_ends(vec![delivered(&answered)]);
    assert_eq!(outcome.len(), 1);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let finishing = async {
            receipts::write_down(&sender, outcome).await;
            sender.gave_up(&returned);
        };
        tokio::join!(cut_off(&sender), finishing);
        receipts::commit(&sender, vec![delivered(&hanging), delivered(&answered)]).await;
    });
    assert!(sender.is_idle() && sender.give_up(returned).is_empty());
    let state = |id: u8| {
        let row = store.get(&[Key::delivery(QUEUE.workspace, &[id; 16])]).unwrap().pop().flatten().unwrap();
        kith_store::row::decode::<DeliveryRow>(&row).unwrap().state
    };
    assert!(matches!(state(1), DeliveryState::Delivered { attempts: 10, .. }), "{:?}", state(1));
    assert_eq!(state(2), DeliveryState::Pending { attempts: 9, due_at: Timestamp(0), last_reason: None });
    let due: Vec<u8> =
        store.claim(QUEUE, Timestamp(0), 10, claims::LEASE_MS).unwrap().iter().map(|job| job.id[0]).collect();
    assert_eq!(due, [2], "at its own time, and its tenth attempt is still to come");
    kernel.stop();
}
