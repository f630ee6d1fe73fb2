//! Other bytes of a dev version under what comes: they take over whole or not at all, and nobody is written to for it.

use kith::plugin_build::BuiltPlugin;
use kith_tests::{component, newest_component, repacked};
use serde_json::json;

use super::models::Welcomed;
use super::stage::tag;

/// A version of the hostile tag model as 0.3.0-dev, with something of its manifest replaced.
#[track_caller]
fn dev(built: &BuiltPlugin, from: &str, to: &str) -> Vec<u8> {
    let version = format!("version = \"{}\"", built.manifest.version);
    repacked(built, |manifest| {
        assert!(manifest.contains(&version) && manifest.contains(from), "{manifest}");
        manifest.replacen(&version, "version = \"0.3.0-dev\"", 1).replacen(from, to, 1)
    })
}

#[test]
fn other_bytes_of_a_dev_version_take_over_and_nobody_is_written_to_again() {
    let (present, next) = (component("hostile/tag-model"), newest_component("hostile/tag-model"));
    let mut shop = Welcomed::with(|kernel| {
        let admin = kernel.admin();
        admin.send("POST", "/api/v1/plugins", &[], dev(present, "[plugin]", "[plugin]")).is(201);
        let config = json!({ "how": "well" });
        let body = json!({ "plugin": "hostile/tag-model", "version": "0.3.0-dev", "name": "model", "config": config });
        admin.post("/api/v1/installations", &body).is(201);
    });
    let admin = shop.kernel.admin();
    let running = admin.get("/api/v1/installations/model").is(200);
    // They take no such configuration, and the present ones go on.
    let stricter = dev(next, "\"well\", ", "");
    admin.send("POST", "/api/v1/plugins", &[], stricter).is_problem(400, "bad-config");
    shop.nothing_changed("refused");
    assert_eq!(admin.get("/api/v1/installations/model").is(200)["digest"], running["digest"]);
    assert_eq!(tag(&shop.kernel, "user_id:u7", "hostile_version"), "0.1.0");

    let replaced = admin.send("POST", "/api/v1/plugins", &[], dev(next, "[plugin]", "[plugin]")).is(200);
    assert_eq!(replaced["upgraded"], json!(["model"]));
    shop.nothing_changed("other bytes");
    assert_eq!(tag(&shop.kernel, "user_id:u7", "hostile_version"), "0.2.0");
    shop.kernel.restart();
    shop.nothing_changed("started again");
    let shown = shop.kernel.admin().get("/api/v1/installations/model").is(200);
    assert_eq!((&shown["digest"], &shown["activity"]["state"]), (&replaced["digest"], &json!("running")));
}
