//! Who gets a place, and which of the live version's inputs a shadow is given.

use kith_model::table::ColumnType;

use super::*;

fn run() -> Arc<Run> {
    Arc::new(Run {
        workspace: WorkspaceId(1),
        installation: InstallationId(1),
        of: ShadowKey::default(),
        is_busy: AtomicBool::new(false),
        waiting: Mutex::default(),
        kept: Mutex::default(),
    })
}

#[test]
fn a_place_is_given_within_the_budgets_and_comes_back() {
    let input = Permits::new(&table::SHADOW_INPUT, 100);
    let wanted = Wanted { items: 3, bytes: 60, memory_bytes: 1 };
    let (one, other) = (run(), run());
    let place = one.place(&input, wanted).unwrap();
    assert!(one.place(&input, wanted).is_none(), "one at a time");
    assert!(other.place(&input, wanted).is_none(), "no room for what it is asked");
    let large = Wanted { memory_bytes: table::SHADOW_MEMORY.default + 1, ..wanted };
    assert!(other.place(&input, large).is_none(), "no room for its call");
    drop(place);
    assert!(other.place(&input, wanted).is_some(), "and nothing of the refused is held");
    one.rest(Duration::from_secs(60));
    assert!(one.place(&input, wanted).is_none(), "it rests");
    let skipped = |run: &Run| run.waiting.lock().skipped;
    assert_eq!(skipped(&one), SkippedCounts { busy: 3, no_room: 0, given_up: 3 });
    assert_eq!(skipped(&other), SkippedCounts { busy: 0, no_room: 6, given_up: 0 });
    assert_eq!(input.held(), 0);
}

#[test]
fn a_shadow_is_given_inputs_of_the_live_version_and_no_others() {
    let input = |name: &str, expression: &str, column_type| InputSpec {
        name: name.to_owned(),
        expression: expression.to_owned(),
        column_type,
        reason: String::new(),
    };
    let live = [input("a", "traits.a", ColumnType::Text), input("b", "traits.b", ColumnType::Int64)];
    let places = |shadow: &[InputSpec]| shadow_inputs(&live, shadow);
    assert_eq!(places(&[]), Some(vec![]));
    assert_eq!(places(&[input("renamed", "traits.b", ColumnType::Int64)]), Some(vec![1]));
    assert_eq!(places(&[live[1].clone(), live[0].clone()]), Some(vec![1, 0]));
    assert_eq!(places(&[input("b", "traits.b", ColumnType::Text)]), None, "of another type");
    assert_eq!(places(&[live[0].clone(), input("b", "traits.c", ColumnType::Int64)]), None, "of another trait");
}
