//! Fits, and models whose version reads states of another form than the fit that is there: what they wrote stays and counts,
//! nobody is written to, and the next fit lets them go on.

use std::process::Command;
use std::time::{Duration, Instant};

use kith::plugin_build::BuiltPlugin;
use kith_tests::{ADMIN_KEY, Client, TestKernel, component, kith, newest_component, repacked, wait_for, wait_until};
use serde_json::{Value, json};

use super::models::{PEOPLE, Welcomed, lives_in};
use super::stage::{deliveries, send, size, tag, track};

/// Less than a fit's limits, and more than anything that does not wait for one.
const SOON: Duration = Duration::from_secs(20);

/// So many million steps that a fit runs into its limit of a minute.
const VERY_LONG: u64 = 200_000;

/// Upload a version of the hostile tag model that declares the form of its state.
#[track_caller]
fn upload_declared(kernel: &TestKernel, built: &BuiltPlugin, state_version: u32) -> String {
    let declared = format!("kind = \"tag-model\"\nstate_version = {state_version}\n");
    let bytes = repacked(built, |manifest| manifest.replacen("kind = \"tag-model\"\n", &declared, 1));
    kernel.admin().send("POST", "/api/v1/plugins", &[], bytes).is(201);
    built.manifest.version.to_string()
}

#[track_caller]
fn model(admin: &Client) -> Value {
    admin.get("/api/v1/installations/model").is(200)
}

#[track_caller]
fn upgrade(admin: &Client, version: &str) -> Value {
    let body = json!({ "version": version, "allow_downgrade": true });
    admin.patch("/api/v1/installations/model", &body).is(200)
}

/// Insist that the model waits for a fit, and says so.
#[track_caller]
fn waits(shown: &Value, has: u32, needs: u32) {
    let activity = &shown["activity"];
    assert_eq!((&activity["state"], &activity["waits_for"]), (&json!("held"), &json!("fit")), "{shown}");
    assert!(activity["why"].as_str().unwrap().starts_with("waits to be fitted: "), "{activity}");
    assert!(activity["since"].as_str().unwrap().starts_with("2026-11-21T10:"), "{activity}");
    assert_eq!(shown["state_version"], json!({ "has": has, "needs": needs }));
}

#[track_caller]
fn runs(shown: &Value, fit: u64, state_version: u32) {
    assert_eq!(shown["activity"], json!({ "state": "running" }), "{shown}");
    assert_eq!(shown["fit"], fit);
    assert_eq!(shown["state_version"], json!({ "has": state_version, "needs": state_version }));
}

/// What `kith plugin` prints; where it fails, why.
fn plugin(kernel: &TestKernel, arguments: &[&str]) -> Result<String, String> {
    let mut command = Command::new(kith());
    command.args(["--url", kernel.url(), "--key", ADMIN_KEY, "plugin"]).args(arguments);
    let output = command.output().unwrap();
    match output.status.success() {
        true => Ok(String::from_utf8(output.stdout).unwrap()),
        false => Err(String::from_utf8(output.stderr).unwrap()),
    }
}

/// What `kith plugin installations` prints.
#[track_caller]
fn installations(kernel: &TestKernel) -> String {
    plugin(kernel, &["installations"]).unwrap()
}

/// A version that answers nothing for everybody, because it does not know the bytes of its fit, emptied every audience that read
/// it, and filled them again with the next fit. One that declares another form is not asked: the old values serve until it
/// is fitted, over a restart too. The way back uses the fit of before.
#[test]
fn an_upgrade_to_another_form_of_state_serves_the_old_values_until_it_is_fitted() {
    let mut shop = Welcomed::with(|kernel| {
        upload_declared(kernel, component("hostile/tag-model"), 1);
        let config = json!({ "how": "null-on-fit" });
        let body = json!({ "plugin": "hostile/tag-model", "name": "model", "config": config });
        kernel.admin().post("/api/v1/installations", &body).is(201);
    });
    let admin = shop.kernel.admin();
    shop.kernel.fit("model");
    shop.nothing_changed("fitted");
    runs(&model(&admin), 1, 1);
    let next = upload_declared(&shop.kernel, newest_component("hostile/tag-model"), 2);

    waits(&upgrade(&admin, &next), 1, 2);
    shop.nothing_changed("upgraded");
    for turn in 0..3 {
        send(&shop.source, &[lives_in("eve", &format!("Rome {turn}"), turn)]);
        shop.nothing_changed("upgraded, and a person came");
    }
    assert_eq!(tag(&shop.kernel, "user_id:u7", "hostile_version"), "0.1.0");
    let printed = installations(&shop.kernel);
    assert!(printed.contains("waits to be fitted") && printed.contains("`kith plugin fit model`"), "{printed}");
    shop.kernel.restart();
    let admin = shop.kernel.admin();
    shop.nothing_changed("upgraded and started again");
    waits(&model(&admin), 1, 2);
    admin.patch("/api/v1/installations/model", &json!({ "mode": "disabled" })).is(200);
    shop.nothing_changed("switched off while it waits");
    waits(&admin.patch("/api/v1/installations/model", &json!({ "mode": "live" })).is(200), 1, 2);
    shop.nothing_changed("switched on again");

    let fit = shop.kernel.fit("model");
    assert_eq!((&fit["state_version"], &fit["plugin_version"]), (&json!(2), &json!(next)));
    shop.nothing_changed("fitted again");
    runs(&model(&admin), 2, 2);
    assert_eq!(tag(&shop.kernel, "user_id:u7", "hostile_version"), next);
    assert_eq!(tag(&shop.kernel, "user_id:eve", "hostile"), "Rome 2", "who came meanwhile is seen too");

    runs(&upgrade(&admin, "0.1.0"), 1, 1);
    shop.nothing_changed("back");
    assert_eq!(tag(&shop.kernel, "user_id:u7", "hostile_version"), "0.1.0", "with the fit that it reads");
    runs(&upgrade(&admin, &next), 2, 2);
    shop.nothing_changed("and forth");
    assert_eq!(tag(&shop.kernel, "user_id:u7", "hostile_version"), next);
}

/// A way back to a version that was never fitted is an upgrade like any other.
#[test]
fn a_way_back_without_a_fit_that_can_be_read_waits_for_one() {
    let shop = Welcomed::with(|kernel| {
        let next = upload_declared(kernel, newest_component("hostile/tag-model"), 2);
        let body = json!({
            "plugin": "hostile/tag-model", "name": "model", "version": next, "config": { "how": "null-on-fit" },
        });
        kernel.admin().post("/api/v1/installations", &body).is(201);
    });
    let admin = shop.kernel.admin();
    shop.kernel.fit("model");
    shop.nothing_changed("fitted");
    let back = upload_declared(&shop.kernel, component("hostile/tag-model"), 1);
    waits(&upgrade(&admin, &back), 2, 1);
    shop.nothing_changed("back");
    send(&shop.source, &[lives_in("eve", "Oslo", 0)]);
    shop.nothing_changed("back, and a person came, of whom nothing is known yet");
    shop.kernel.fit("model");
    shop.kernel.settle();
    runs(&model(&admin), 2, 1);
    assert_eq!(tag(&shop.kernel, "user_id:u7", "hostile_version"), back);
    wait_until("who came meanwhile is a member", || size(&admin, "oslo") == Some(PEOPLE + 1));
    assert_eq!(deliveries(&admin).len() as u64, PEOPLE, "by the fit, which writes to nobody");
}

/// Where no version declares a form, the guest is asked once; one that reports that it cannot read its fit is not asked again.
#[test]
fn a_guest_that_reports_an_unreadable_fit_is_held_until_it_is_fitted() {
    let mut shop = Welcomed::with(|kernel| {
        kernel.install("hostile/tag-model", json!({ "name": "model", "config": { "how": "well" } }));
    });
    shop.kernel.fit("model");
    let next = shop.kernel.upload_newest("hostile/tag-model");
    upgrade(&shop.kernel.admin(), &next);
    let held =
        wait_for("it is held", || Some(model(&shop.kernel.admin())).filter(|it| it["activity"]["state"] == "held"));
    let why = held["activity"]["why"].as_str().unwrap();
    assert!(why.starts_with("waits to be fitted: ") && why.contains("the fit is of version 0.1.0"), "{why}");
    assert_eq!((&held["mode"], &held["activity"]["waits_for"]), (&json!("live"), &json!("fit")), "{held}");
    shop.nothing_changed("upgraded");
    shop.kernel.restart();
    shop.nothing_changed("started again");
    assert_eq!(model(&shop.kernel.admin())["activity"]["waits_for"], "fit");
    shop.kernel.fit("model");
    shop.nothing_changed("fitted again");
    assert_eq!(model(&shop.kernel.admin())["activity"], json!({ "state": "running" }));
    assert_eq!(tag(&shop.kernel, "user_id:u7", "hostile_version"), next);
}

/// Begin a fit and wait until it has read its rows.
#[track_caller]
fn begin_fit(caller: &Client, installation: &str) {
    caller.post(&format!("/api/v1/installations/{installation}/fit"), &json!({})).is(202);
    wait_until("the fit has read its rows", || newest_fit(caller, installation)["progress"]["rows_done"] != 0);
}

#[track_caller]
fn newest_fit(caller: &Client, installation: &str) -> Value {
    caller.get(&format!("/api/v1/installations/{installation}/fits")).is(200)["items"][0].clone()
}

/// A graceful stop waited for a fit as long as its limits allowed, or cut it off without a word.
#[test]
fn a_stop_ends_a_long_fit_and_the_next_start_shows_that_it_was_not_done() {
    let mut shop = Welcomed::with(|kernel| {
        let config = json!({ "how": "well", "burn_fit_millions": VERY_LONG });
        kernel.install("hostile/tag-model", json!({ "name": "model", "config": config }));
    });
    begin_fit(&shop.kernel.admin(), "model");
    let again = shop.kernel.admin().post("/api/v1/installations/model/fit", &json!({}));
    again.is_problem(409, "fit-under-way");
    let began = Instant::now();
    shop.kernel.restart();
    assert!(began.elapsed() < SOON, "the stop took {:?}", began.elapsed());
    let admin = shop.kernel.admin();
    let fit = newest_fit(&admin, "model");
    assert_eq!(fit["status"], "failed", "{fit}");
    assert_eq!(fit["error"], "the server stopped before it was done; fit again");
    assert_eq!((&fit["in_use"], &model(&admin)["fit"]), (&json!(false), &Value::Null));
    shop.nothing_changed("started again");
    admin.patch("/api/v1/installations/model", &json!({ "config": { "burn_fit_millions": null } })).is(200);
    assert_eq!(shop.kernel.fit("model")["version"], 2);
    shop.nothing_changed("fitted");
}

/// Fits of one workspace that take as long as they may delay neither another's fit nor anybody's values.
#[test]
fn long_fits_of_one_workspace_delay_neither_anothers_fit_nor_values() {
    let kernel = TestKernel::start();
    let other_key = kernel.second_workspace();
    let (admin, other) = (kernel.admin(), kernel.caller(&other_key));
    let source = kernel.segment();
    let slow = json!({ "how": "well", "burn_fit_millions": VERY_LONG });
    kernel.install("hostile/tag-model", json!({ "name": "model", "config": slow }));
    kernel.install("kith/rfm", json!({ "name": "rfm" }));
    kernel.install_as(&other, "hostile/tag-model", json!({ "name": "model", "config": { "how": "well" } }));
    send(&source, &[lives_in("ada", "Oslo", 0)]);
    begin_fit(&admin, "model");
    admin.post("/api/v1/installations/rfm/fit", &json!({})).is(202);
    let began = Instant::now();
    other.post("/api/v1/installations/model/fit", &json!({})).is(202);
    wait_until("the other's fit is done", || newest_fit(&other, "model")["status"] == "succeeded");
    send(&source, &[lives_in("bob", "Rome", 0)]);
    wait_until("the model's values come while it is fitted", || tag(&kernel, "user_id:bob", "hostile") == "Rome");
    assert!(began.elapsed() < SOON, "it took {:?}", began.elapsed());
    assert_eq!(newest_fit(&admin, "model")["status"], "running");
    assert_eq!(newest_fit(&admin, "rfm")["status"], "running", "the workspace's next fit waits for its first");
}

/// A fit that is due begins by the server's clock. One that breaks a bound is held and said; one that was chosen stays in use until
/// another is; and nobody is written to for any of it.
#[test]
fn fits_come_by_a_schedule_are_held_by_bounds_and_chosen_by_hand() {
    let shop = Welcomed::with(|kernel| {
        let fitting = json!({ "every": "1h" });
        let body = json!({ "name": "model", "config": { "how": "well" }, "fitting": fitting });
        kernel.install("hostile/tag-model", body);
    });
    let admin = shop.kernel.admin();
    assert_eq!(model(&admin)["fit"], Value::Null, "none is due yet");
    shop.kernel.clock.advance_ms(3_600_000);
    let due = wait_for("the fit that is due is done", || {
        Some(newest_fit(&admin, "model")).filter(|fit| fit["status"] == "succeeded")
    });
    assert_eq!((&due["cause"], &due["in_use"], &due["rows"]), (&json!("scheduled"), &json!(true), &json!(PEOPLE)));
    shop.nothing_changed("fitted by the schedule");
    let listed = plugin(&shop.kernel, &["fits", "model"]).unwrap();
    assert!(listed.contains("fitted every 1h, the next time from 2026-11-21T1"), "{listed}");

    let changed = ["change", "model", "--fit-every", "never", "--fit-guard", r#"{"rows": {"min": 1000}}"#];
    plugin(&shop.kernel, &changed).unwrap();
    let refused = plugin(&shop.kernel, &["change", "model", "--fit-use", "better"]).unwrap_err();
    assert!(refused.contains("no `[training]` in its manifest"), "{refused}");
    let held = plugin(&shop.kernel, &["fit", "model"]).unwrap_err();
    assert!(held.contains("`rows` is 100, less than 1000; `kith plugin use-fit model 2`"), "{held}");
    let shown = model(&admin);
    let alarm = json!({ "fit": 2, "status": "held", "why": "`rows` is 100, less than 1000" });
    assert_eq!((&shown["fit"], &shown["fitting"]["alarm"]), (&json!(1), &alarm), "{shown}");
    assert_eq!((&shown["fitting"]["every"], &shown["fitting"]["next_at"]), (&Value::Null, &Value::Null), "{shown}");
    assert!(installations(&shop.kernel).contains("fit 2 of model is held"));
    shop.nothing_changed("held");

    let used = plugin(&shop.kernel, &["use-fit", "model", "2"]).unwrap();
    assert!(used.contains("in use"), "{used}");
    shop.nothing_changed("the one that was held is used");
    let shown = model(&admin);
    assert_eq!((&shown["fit"], &shown["fitting"]["alarm"]), (&json!(2), &Value::Null), "{shown}");
    let chosen = admin.post("/api/v1/installations/model/fits/1/use", &json!({})).is(200);
    assert_eq!((&chosen["in_use"], &chosen["chosen"]), (&json!(true), &json!(true)));
    admin.patch("/api/v1/installations/model", &json!({ "fitting": { "guard": { "rows": null } } })).is(200);
    let kept = shop.kernel.fit("model");
    assert_eq!((&kept["version"], &kept["in_use"], &model(&admin)["fit"]), (&json!(3), &json!(false), &json!(1)));
    plugin(&shop.kernel, &["fit", "model", "--use"]).unwrap();
    let shown = model(&admin);
    assert_eq!((&shown["fit"], &shown["fitting"]["chosen"]), (&json!(4), &json!(false)), "{shown}");
    shop.nothing_changed("chosen, fitted and used");
    for (action, times) in [("hold-fit", 1), ("use-fit", 2)] {
        let lines = admin.get(&format!("/api/v1/audit?action=installation.{action}")).is(200);
        assert_eq!(lines["items"].as_array().map(Vec::len), Some(times), "{lines}");
    }
}

/// A model was handed people as they are, once, and one that trained on them trained on what it was to foretell. How good a fit is
/// it told itself alone.
#[test]
fn a_model_learns_from_the_labelled_past_in_several_passes() {
    const USERS: u32 = 60;
    const TRAINING: &str = r#"[outputs.again]
type = "boolean"
description = "whether somebody orders again"

[training]
label = "events('Order Completed').size() > 0"
horizon = "60d"
every = "30d"
cut_offs = 2
predicts = "again"
timeless = ["city", "poison"]

[capabilities]
"#;
    let (kernel, built) = (TestKernel::start(), component("hostile/tag-model"));
    let admin = kernel.admin();
    let upload = |training: &str| {
        let bytes = repacked(built, |manifest| manifest.replacen("[capabilities]\n", training, 1));
        admin.send("POST", "/api/v1/plugins", &[], bytes)
    };
    let refused = upload(&TRAINING.replace(", \"poison\"", "")).is_some_problem().to_string();
    assert!(refused.contains("`poison` reads `traits.poison`, of which only the present value is known"), "{refused}");
    upload(TRAINING).is(201);
    let body = json!({ "plugin": "hostile/tag-model", "name": "model", "config": { "how": "learn" } });
    admin.post("/api/v1/installations", &body).is(201);
    let source = kernel.segment();
    let order = |user: u32, time: &str| {
        let mut order = track(&format!("u{user}"), "Order Completed", &format!("{user} {time}"));
        order["timestamp"] = json!(time);
        order
    };
    // A hundred days before the fit all, and ten days before it every second one.
    let all = (0..USERS).map(|user| order(user, "2026-08-13T10:00:00Z"));
    let again = (0..USERS).step_by(2).map(|user| order(user, "2026-11-11T10:00:00Z"));
    send(&source, &all.chain(again).collect::<Vec<_>>());
    kernel.settle();

    let metrics = kernel.fit("model")["metrics"].clone();
    let figure = |name: &str| metrics[name].as_f64().unwrap();
    // Ninety and sixty days before the fit they were known. A fifth of them, about, is held out.
    let (rows, labels) = (figure("rows"), figure("labels"));
    assert!(rows % 2.0 == 0.0 && (2.0..=120.0).contains(&rows), "{metrics}");
    assert!((1.0..=30.0).contains(&labels) && labels <= rows / 2.0, "{metrics}");
    assert_eq!(figure("is_same"), 1.0, "the second pass has the rows of the first");

    // Of those who are held out it foretells that nobody orders again, and so does the next fit, which is as good.
    let held_out = newest_fit(&admin, "model")["held_out"].clone();
    assert_eq!((&held_out["champion"], &held_out["challenger"]["problem"]), (&Value::Null, &Value::Null), "{held_out}");
    assert_eq!(held_out["rows"].as_f64().unwrap() + rows, f64::from(2 * USERS), "nobody is on both sides");
    plugin(&kernel, &["change", "model", "--fit-use", "better", "--fit-measure", "brier"]).unwrap();
    let printed = plugin(&kernel, &["fit", "model"]).unwrap();
    assert!(printed.contains("brier = ") && printed.contains("(fit 1: "), "{printed}");
    let next = newest_fit(&admin, "model");
    assert_eq!((&next["version"], &next["in_use"]), (&json!(2), &json!(true)), "{next}");
    let compared = &next["held_out"];
    assert_eq!((&compared["better"], &compared["champion"]["fit"]), (&json!("neither"), &json!(1)), "{compared}");
    assert_eq!(compared["challenger"]["measures"], held_out["challenger"]["measures"], "on the same people");
}
