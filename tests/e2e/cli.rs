//! The command line: plugins from nothing, files in, people and audiences out, keys made and revoked.

use std::path::Path;
use std::process::{Command, Output};
use std::sync::Arc;

use kith_tests::{Neighbour, Process, TestKernel, component, data, kith, repacked, root};
use serde_json::{Value, json};

/// Run `kith` against a server.
fn run(kernel: &TestKernel, arguments: &[&str]) -> Output {
    let mut command = Command::new(kith());
    command.args(["--url", kernel.url(), "--key", kith_tests::ADMIN_KEY]).args(arguments);
    command.output().unwrap()
}

/// The same, which must succeed and print JSON.
#[track_caller]
fn answer(kernel: &TestKernel, arguments: &[&str]) -> Value {
    let arguments: Vec<&str> = arguments.iter().copied().chain(["--json"]).collect();
    let output = run(kernel, &arguments);
    assert!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
    serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{arguments:?}: {error}: {}", text(&output.stdout)))
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// `cargo test` in a scaffolded crate, with this repository's versions of what it depends on, so that the test means the
/// same tomorrow and asks nobody for newer ones.
fn cargo_test(crate_folder: &Path, target: &Path) -> Output {
    std::fs::copy(root().join("Cargo.lock"), crate_folder.join("Cargo.lock")).unwrap();
    let mut command = Command::new(env!("CARGO"));
    command.args(["test", "--quiet"]).current_dir(crate_folder).env("CARGO_TARGET_DIR", target).output().unwrap()
}

/// The case of a scaffold in the real host, and the same with another expectation.
fn the_case_passes_and_another_does_not(dir: &Path, target: &Path) {
    let run = |arguments: &[&str]| {
        let mut command = Command::new(kith());
        command.args(["plugin", "test"]).arg(dir).args(arguments).env("CARGO_TARGET_DIR", target).output().unwrap()
    };
    let passed = run(&["--json"]);
    assert!(passed.status.success(), "{}{}", text(&passed.stdout), text(&passed.stderr));
    let passed: Value = serde_json::from_slice(&passed.stdout).unwrap();
    let case = &passed["cases"][0];
    assert_eq!((&passed["cases"][1]["name"], &passed["cases"][2]), (&json!("conformance"), &Value::Null), "{passed}");
    assert_eq!((&passed["failed"], &case["name"], &case["passed"]), (&json!(0), &json!("first"), &json!(true)));
    assert!(case["figures"]["calls"].as_u64().unwrap() >= 1, "{case}");
    assert!(case["figures"]["memory_peak_bytes"].as_u64().unwrap() > 0, "{case}");
    let first = dir.join("cases/first.json");
    let mut wrong: Value = serde_json::from_str(&std::fs::read_to_string(&first).unwrap()).unwrap();
    wrong["output"].as_array_mut().unwrap().push(json!({ "nobody": "makes this" }));
    let (second, third) = (dir.join("cases/second.json"), dir.join("cases/third.json"));
    std::fs::write(&second, wrong.to_string()).unwrap();
    std::fs::write(&third, "{}").unwrap();
    let failed = run(&[]);
    assert_eq!(failed.status.code(), Some(1), "{}", text(&failed.stderr));
    let said = text(&failed.stdout);
    assert!(said.contains("ok      first") && said.contains("FAILED  second"), "{said}");
    assert!(said.contains(" did not come:\n- {\n-   \"nobody\": \"makes this\"\n- }"), "{said}");
    assert!(said.contains("FAILED  third\ncannot be run: missing field `input`"), "{said}");
    assert!(text(&failed.stderr).contains("2 of 4 cases failed"), "{}", text(&failed.stderr));
    std::fs::remove_file(second).unwrap();
    std::fs::remove_file(third).unwrap();
}

/// What a component makes of an input, without a server.
fn runs_by_itself(kind: &str, component: &Path) {
    let folder = tempfile::tempdir().unwrap();
    let input = folder.path().join("input");
    let run = |content: &str, arguments: &[&str]| {
        std::fs::write(&input, content).unwrap();
        let mut command = Command::new(kith());
        command.args(["plugin", "run"]).arg(component).arg("--input").arg(&input).args(arguments);
        command.output().unwrap()
    };
    let lines = |output: &Output| -> Vec<Value> {
        assert!(output.status.success(), "{kind}: {}", text(&output.stderr));
        assert!(text(&output.stderr).contains("of processor time"), "{kind}: {}", text(&output.stderr));
        text(&output.stdout).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    match kind {
        "connector" => {
            let orders = r#"[{"id":"o1","customer":"ada","total":2.5},{"id":"o2","customer":"","total":1}]"#;
            let made = lines(&run(orders, &["--config", r#"{"event":"Bought"}"#]));
            assert_eq!((&made[0]["event"]["name"], made.len()), (&json!("Bought"), 2), "{made:?}");
            assert_eq!(made[1]["rejected"]["code"], "missing-identifier", "what the kernel would say: {made:?}");
            let refused = run("no list", &[]);
            assert_eq!(refused.status.code(), Some(1));
            assert!(text(&refused.stderr).contains("400 invalid-json: send a JSON list"), "{}", text(&refused.stderr));
            let config = run(orders, &["--config", r#"{"evnt":"Bought"}"#]);
            assert_eq!(config.status.code(), Some(1));
            assert!(text(&config.stderr).contains("evnt"), "{}", text(&config.stderr));
        }
        "tag-model" => {
            let made = lines(&run("{\"spent\":250}\n{}\n", &["--fuel"]));
            assert_eq!(made, [json!({ "my_tag_model": "high" }), json!({ "my_tag_model": null })]);
            assert!(text(&run("{\"spent\":1}", &["--fuel"]).stderr).contains(", fuel "));
            let unknown = run("{\"spend\":250}", &[]);
            assert_eq!(unknown.status.code(), Some(2));
            assert!(text(&unknown.stderr).contains("no input `spend`; it has spent"), "{}", text(&unknown.stderr));
        }
        "scorer" => {
            let rows = "{\"orders\":3}\n";
            assert_eq!(lines(&run(rows, &[])), [json!({ "my_scorer": null })], "nothing was learnt");
            let learnt = folder.path().join("learnt");
            std::fs::write(&learnt, "{\"orders\":1}\n{\"orders\":2}\n").unwrap();
            let made = lines(&run(rows, &["--fit", learnt.to_str().unwrap()]));
            assert_eq!(made, [json!({ "my_scorer": 2.0 })]);
        }
        "channel" => {
            let message = r#"{"recipient":{"email":"ada@example.com"},"payload":{"text":"hi"}}"#;
            let made = lines(&run(message, &["--config", r#"{"url":"https://example.com/in"}"#]));
            assert_eq!(made[0]["request"]["url"], "https://example.com/in", "{made:?}");
            assert_eq!(made[0]["request"]["body"]["message"], json!({ "text": "hi" }), "{made:?}");
        }
        other => panic!("there is no kind {other}"),
    }
}

/// A fault is told in the server's words, and ends the command with 1.
#[test]
fn a_plugin_that_fails_by_itself_says_what_a_server_would() {
    let folder = tempfile::tempdir().unwrap();
    let (file, input) = (folder.path().join("hostile.wasm"), folder.path().join("input"));
    std::fs::write(&file, &component("hostile/connector").component).unwrap();
    for (body, code, words) in [("trap", "trap", "the guest gives up"), ("memory", "limit.memory", "bytes of memory")] {
        std::fs::write(&input, body).unwrap();
        let mut command = Command::new(kith());
        let failed = command.args(["plugin", "run"]).arg(&file).arg("--input").arg(&input).output().unwrap();
        assert_eq!(failed.status.code(), Some(1), "{body}");
        let fault: Value = serde_json::from_str(text(&failed.stdout).trim()).unwrap();
        assert_eq!((&fault["fault"]["code"], &fault["fault"]["owner"]), (&json!(code), &json!("plugin")), "{fault}");
        let said = text(&failed.stderr);
        assert!(said.contains(&format!("error: {code}: ")) && said.contains(words), "{said}");
        assert!(!said.contains("trap: trap"), "{said}");
    }
    let run = |body: &str, arguments: &[&str]| {
        std::fs::write(&input, body).unwrap();
        let mut command = Command::new(kith());
        command.args(["plugin", "run"]).arg(&file).arg("--input").arg(&input).args(arguments).output().unwrap()
    };
    let failed = run("trap", &["--json"]);
    let problem: Value = serde_json::from_slice(&failed.stderr).unwrap();
    assert_eq!((&problem["code"], failed.status.code()), (&json!("trap"), Some(1)), "{problem}");

    // What is not shown of the log is counted, and what no plugin sees of a request is told.
    let logged = run("log 3000", &["--json", "--header", "Authorization: Bearer x", "--header", "a: b"]);
    assert!(logged.status.success(), "{}", text(&logged.stderr));
    let logged: Value = serde_json::from_slice(&logged.stdout).unwrap();
    let [gone, cut] = ["log_lines_gone", "log_lines_cut"].map(|name| logged[name].as_u64().unwrap());
    let shown = logged["log"].as_array().unwrap().len() as u64;
    assert!(gone + cut > 0 && gone + shown + cut == 3_000, "{gone} {shown} {cut}");
    assert_eq!(logged["remarks"], json!(["the header `authorization` is not handed on: no plugin sees it"]));

    // One row is a fault, and the others have their values.
    std::fs::write(&file, &component("hostile/tag-model").component).unwrap();
    let rows = "{\"city\":\"Rome\"}\n{\"city\":\"Oslo\",\"poison\":\"x\"}\n{\"city\":\"Bonn\"}\n";
    let failed = run(rows, &["--config", r#"{"how":"refuse-poison"}"#]);
    assert_eq!(failed.status.code(), Some(1));
    let made: Vec<Value> = text(&failed.stdout).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((&made[0]["hostile"], &made[2]["hostile"], made.len()), (&json!("Rome"), &json!("Bonn"), 3), "{made:?}");
    assert_eq!(made[1]["fault"]["code"], "plugin.bad-input", "{made:?}");
    let said = text(&failed.stderr);
    assert!(said.contains("error: 1 of 3 rows failed, the first on plugin.bad-input: "), "{said}");
}

#[test]
fn a_plugin_of_every_kind_is_made_tested_built_and_installed() {
    let kernel = TestKernel::start();
    let folder = tempfile::tempdir().unwrap();
    // One target folder for all four and for the next run: their dependencies are the same.
    let target = root().join("target/scaffolded");
    for kind in ["connector", "tag-model", "scorer", "channel"] {
        let name = format!("my-{kind}");
        let dir = folder.path().join(&name);
        let dir_text = dir.to_str().unwrap();
        answer(&kernel, &["plugin", "new", &format!("umbrella/{name}"), "--kind", kind, "--dir", dir_text]);
        let tested = cargo_test(&dir, &target);
        assert!(tested.status.success(), "{kind}: {}{}", text(&tested.stdout), text(&tested.stderr));
        assert_eq!(answer(&kernel, &["plugin", "check", dir_text])["kind"], kind);
        let mut build = Command::new(kith());
        build.args(["plugin", "build", dir_text, "--json"]).env("CARGO_TARGET_DIR", &target);
        let built = build.output().unwrap();
        assert!(built.status.success(), "{kind}: {}", text(&built.stderr));
        let built: Value = serde_json::from_slice(&built.stdout).unwrap();
        let component = built["path"].as_str().unwrap();
        the_case_passes_and_another_does_not(&dir, &target);
        runs_by_itself(kind, Path::new(component));
        assert_eq!(answer(&kernel, &["plugin", "upload", component])["digest"], built["digest"]);
        let id = format!("umbrella/{name}");
        let mut install = vec!["plugin", "install", id.as_str()];
        if kind == "channel" {
            install.extend(["--config", r#"{"url":"https://example.com/messages"}"#, "--grant-http", "example.com"]);
        }
        assert_eq!(answer(&kernel, &install)["mode"], "live", "{kind}");
    }
    let installed = answer(&kernel, &["plugin", "installations"]);
    assert_eq!(installed["items"].as_array().unwrap().len(), 4);

    // The scaffolded connector and tag model do their work at once.
    let orders = folder.path().join("orders.json");
    std::fs::write(&orders, r#"[{"id":"o1","customer":"ada","total":250.0},{"id":"o2"}]"#).unwrap();
    let output = run(&kernel, &["import", orders.to_str().unwrap(), "--source", "my-connector", "--json"]);
    assert_eq!(output.status.code(), Some(2), "a part was rejected");
    let imported: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&imported["accepted"], &imported["rejected_count"]), (&json!(1), &json!(1)));
    kernel.settle();
    let ada = answer(&kernel, &["profile", "get", "user_id:ada"]);
    assert_eq!(ada["tags"]["my_tag_model"]["value"], "high", "{ada}");

    let unasked = ["plugin", "delete", "umbrella/my-scorer", "0.1.0"];
    let delete = [&unasked[..], &["--yes"]].concat();
    // Neither a version nor who sends to a connector is taken away unasked.
    for (arguments, said) in [(&unasked[..], "add --yes"), (&["plugin", "remove", "my-connector"], "its write keys")] {
        let output = run(&kernel, arguments);
        let told = text(&output.stderr);
        assert!(output.status.code() == Some(2) && told.contains(said), "{told}");
    }
    assert!(text(&run(&kernel, &delete).stderr).contains("installed as `my-scorer`"));
    answer(&kernel, &["plugin", "remove", "my-scorer", "--yes"]);
    assert_eq!(answer(&kernel, &delete)["deleted"], "umbrella/my-scorer@0.1.0");
    assert_eq!(answer(&kernel, &["plugin", "list"])["items"].as_array().unwrap().len(), 3);
}

#[test]
fn a_broken_crate_is_refused_with_the_place() {
    let kernel = TestKernel::start();
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("broken");
    let dir_text = dir.to_str().unwrap();
    answer(&kernel, &["plugin", "new", "broken", "--kind", "tag-model", "--dir", dir_text]);
    let manifest = dir.join("plugin.toml");
    let whole = std::fs::read_to_string(&manifest).unwrap();
    std::fs::write(&manifest, whole.replace("description =", "descripton =")).unwrap();
    let output = run(&kernel, &["plugin", "build", dir_text]);
    assert_eq!(output.status.code(), Some(1));
    let said = text(&output.stderr);
    assert!(said.contains("plugin.toml:") && said.contains("descripton"), "{said}");
    std::fs::copy(root().join("Cargo.lock"), dir.join("Cargo.lock")).unwrap();
    // It was built, and its two files named two versions.
    std::fs::write(&manifest, whole.replace("version = \"0.1.0\"", "version = \"0.2.0\"")).unwrap();
    let said = text(&run(&kernel, &["plugin", "build", dir_text]).stderr);
    assert!(said.contains("the version is 0.2.0 here and 0.1.0 in Cargo.toml"), "{said}");
    std::fs::write(&manifest, whole).unwrap();
    let (file, library) = (dir.join("src/lib.rs"), std::fs::read_to_string(dir.join("src/lib.rs")).unwrap());
    assert!(library.contains("row.spent") && library.contains("::High"), "{library}");
    for (broken, expected) in [
        ("fn broken( {", "src/lib.rs:1"),
        // What the manifest does not declare does not compile.
        (library.replace("row.spent", "row.spend").as_str(), "no field `spend` on type `Row"),
        (library.replace("::High", "::Hihg").as_str(), "`Hihg`"),
    ] {
        std::fs::write(&file, broken).unwrap();
        let mut build = Command::new(kith());
        build.args(["plugin", "build", dir_text]).env("CARGO_TARGET_DIR", root().join("target/scaffolded"));
        let output = build.output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        assert!(text(&output.stderr).contains(expected), "{}", text(&output.stderr));
    }
}

/// What an upload would refuse is found here, before anybody uploads it, and in the same words.
#[test]
fn a_component_is_checked_as_the_upload_checks_it() {
    let kernel = TestKernel::start();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("it.wasm");
    let path = file.to_str().unwrap();
    let rfm = component("kith/rfm");
    std::fs::write(&file, &rfm.component).unwrap();
    assert_eq!(answer(&kernel, &["plugin", "check", path])["kind"], "tag-model");
    for (from, to, said) in [
        ("type = \"float64\"", "type = \"boolean\"", "is declared boolean"),
        ("kernel = \"", "kernel = \">=9, ", "the plugin needs a kernel"),
        ("expression = \"", "expression = \"(", "the expression of"),
        ("default = \"Order Completed\"", "enum = []", "[config].properties.order_event.enum lists nothing"),
    ] {
        let bytes = repacked(rfm, |manifest| {
            assert!(manifest.contains(from), "{from}");
            manifest.replacen(from, to, 1)
        });
        std::fs::write(&file, &bytes).unwrap();
        let checked = run(&kernel, &["plugin", "check", path]);
        assert_eq!(checked.status.code(), Some(1), "{to}");
        let refused = kernel.admin().send("POST", "/api/v1/plugins", &[], bytes).is_problem(400, "bad-component");
        let message = refused["message"].as_str().unwrap();
        assert!(message.contains(said), "{message}");
        assert!(text(&checked.stderr).contains(message), "{message}: {}", text(&checked.stderr));
    }
}

/// A component of another tool and its manifest: packed it is what the build makes, byte for byte, and serves like that. What it is
/// and what a call takes is told without a server.
#[test]
fn a_component_of_any_tool_is_packed_uploaded_and_installed() {
    let kernel = TestKernel::start();
    let folder = tempfile::tempdir().unwrap();
    let built = component("hostile/tag-model");
    let files = ["component.wasm", "plugin.toml", "plugin.wasm"];
    let files = files.map(|name| folder.path().join(name).to_str().unwrap().to_owned());
    let [bare, manifest, plugin] = files.each_ref().map(String::as_str);
    std::fs::write(bare, kith_tests::bare(built)).unwrap();
    std::fs::write(manifest, &built.inspection.manifest_toml).unwrap();
    let pack = |from: &str, more: &[&str]| {
        run(&kernel, &[&["plugin", "pack", from, "--manifest", manifest, "--out", plugin, "--json"][..], more].concat())
    };

    // Refused as it is, with what to do; and what it is can be seen all the same.
    let refused = text(&run(&kernel, &["plugin", "upload", bare]).stderr);
    assert!(refused.contains("the component has no `kith:manifest` section") && refused.contains("kith plugin pack"));
    let seen = answer(&kernel, &["plugin", "inspect", bare]);
    assert_eq!((&seen["admitted"], &seen["id"], &seen["broken"]), (&json!(false), &Value::Null, &Value::Null));
    assert_eq!((&seen["parts"][1]["part"], &seen["parts"][1]["form"]), (&json!("the module 0"), &json!("module")));
    assert!(seen["parts"][1]["functions"].as_u64().unwrap() > 10, "{seen}");

    let packed = pack(bare, &[]);
    assert!(packed.status.success(), "{}", text(&packed.stderr));
    let packed: Value = serde_json::from_slice(&packed.stdout).unwrap();
    assert_eq!(packed["digest"], built.inspection.digest.as_str());
    let again = text(&pack(plugin, &[]).stderr);
    assert!(again.contains("carries a manifest already, of hostile/tag-model 0.1.0; give --replace"), "{again}");
    assert!(pack(plugin, &["--replace"]).status.success());
    let small = text(&pack(bare, &["--plugin-bytes", "65536"]).stderr);
    assert!(small.contains("; at most 65536 are admitted"), "{small}");
    let seen = answer(&kernel, &["plugin", "inspect", plugin]);
    assert_eq!((&seen["admitted"], &seen["digest"]), (&json!(true), &packed["digest"]));
    assert_eq!(seen["inputs"][0]["reason"], "to run again when it changes");

    let well = r#"{"how":"well"}"#;
    let bench = ["plugin", "bench", plugin, "--config", well, "--rows", "1,4096", "--repeat", "1"];
    let bench = answer(&kernel, &bench);
    let many = &bench["runs"][1];
    assert_eq!((&many["count"], &bench["limits"]["memory_bytes"]), (&json!(4_096), &json!(64 << 20)), "{bench}");
    for figure in ["per_second", "cpu_us_each", "memory_peak_bytes", "output_bytes"] {
        assert!(many[figure].as_f64().unwrap() > 0.0, "{figure}: {bench}");
    }

    // The contract that it was made of, for whoever has no checkout.
    let wit = folder.path().join("wit");
    let written = answer(&kernel, &["plugin", "wit", wit.to_str().unwrap()]);
    assert_eq!((&written["abi"], written["files"].as_array().unwrap().len()), (&json!("0.2"), 4), "{written}");
    let worlds = |folder: &Path| std::fs::read_to_string(folder.join("worlds.wit")).unwrap();
    assert_eq!(worlds(&wit), worlds(&root().join("wit/0.2.0")));

    // Its manifest is checked and its cases are run with it, in a folder that is no crate.
    assert_eq!(answer(&kernel, &["plugin", "check", folder.path().to_str().unwrap()])["kind"], "tag-model");
    let case = json!({ "config": { "how": "well" }, "input": { "rows": [{ "city": "Berlin" }] },
        "output": [{ "hostile": "Berlin", "hostile_version": "0.1.0" }] });
    std::fs::create_dir(folder.path().join("cases")).unwrap();
    std::fs::write(folder.path().join("cases/first.json"), case.to_string()).unwrap();
    let tested = answer(&kernel, &["plugin", "test", folder.path().to_str().unwrap(), "--component", plugin]);
    assert_eq!((&tested["failed"], &tested["cases"][0]["passed"]), (&json!(0), &json!(true)), "{tested}");
    assert_eq!((&tested["cases"][1]["name"], &tested["cases"][1]["passed"]), (&json!("conformance"), &json!(true)));
    // It passes the case that its author thought of, and traps on a text that somebody else sends.
    let brittle = case.to_string().replace("\"well\"", "\"trap-on-poison\"");
    std::fs::write(folder.path().join("cases/first.json"), brittle).unwrap();
    let mut command = Command::new(kith());
    command.args(["plugin", "test", "--json", "--component", plugin]).arg(folder.path());
    let tested: Value = serde_json::from_slice(&command.output().unwrap().stdout).unwrap();
    assert_eq!((&tested["failed"], &tested["cases"][0]["passed"]), (&json!(1), &json!(true)), "{tested}");
    let difference = tested["cases"][1]["difference"].as_str().unwrap();
    assert!(difference.contains("trap: the guest gives up on a poisoned row"), "{difference}");

    assert_eq!(answer(&kernel, &["plugin", "upload", plugin])["digest"], packed["digest"]);
    let install = ["plugin", "install", "hostile/tag-model", "--name", "packed", "--config", well];
    assert_eq!(answer(&kernel, &install)["mode"], "live");
}

/// The cases of a connector are called for together as well, which is a failure of its own where something else comes of them.
#[test]
fn a_connector_is_tried_with_several_requests_in_one_call() {
    let folder = tempfile::tempdir().unwrap();
    let plugin = folder.path().join("plugin.wasm");
    std::fs::write(&plugin, &component("hostile/connector").component).unwrap();
    std::fs::create_dir(folder.path().join("cases")).unwrap();
    let test = |body: &str| -> Vec<Value> {
        let case = json!({ "input": { "body": body }, "output": [] });
        std::fs::write(folder.path().join(format!("cases/{body}.json")), case.to_string()).unwrap();
        let mut command = Command::new(kith());
        command.args(["plugin", "test", "--json"]).arg(folder.path()).arg("--component").arg(&plugin);
        let tested: Value = serde_json::from_slice(&command.output().unwrap().stdout).unwrap();
        tested["cases"].as_array().unwrap().clone()
    };
    let names =
        |cases: &[Value]| cases.iter().map(|case| case["name"].as_str().unwrap().to_owned()).collect::<Vec<_>>();
    // What a request that traps takes along is seen where it is alone.
    test("trap");
    assert_eq!(names(&test("ada")), ["ada", "trap"]);
    let cases = test("forget");
    assert_eq!(names(&cases), ["ada", "forget", "trap", "several requests in one call"]);
    let difference = cases[3]["difference"].as_str().unwrap();
    assert!(difference.starts_with("in calls of 2 requests something else comes of them"), "{difference}");
    assert!(difference.contains("answers came back for 2"), "{difference}");
}

/// The rows of a model's cases are cut into calls of every size, of fresh instances and of one.
#[test]
fn a_model_that_keeps_something_of_earlier_calls_is_found_by_its_cases() {
    let folder = tempfile::tempdir().unwrap();
    let plugin = folder.path().join("plugin.wasm");
    std::fs::write(&plugin, &component("hostile/tag-model").component).unwrap();
    // In the one call of the case itself nothing is seen of what the instance counts.
    let said = json!({ "hostile": "1", "hostile_version": "0.1.0" });
    let case = json!({ "config": { "how": "count" }, "input": { "rows": [{ "city": "Oslo" }, {}] },
        "output": [said, said] });
    std::fs::create_dir(folder.path().join("cases")).unwrap();
    std::fs::write(folder.path().join("cases/first.json"), case.to_string()).unwrap();
    let mut command = Command::new(kith());
    command.args(["plugin", "test", "--json"]).arg(folder.path()).arg("--component").arg(&plugin);
    let tested: Value = serde_json::from_slice(&command.output().unwrap().stdout).unwrap();
    let cases = tested["cases"].as_array().unwrap();
    let passed: Vec<_> = cases.iter().map(|case| (case["name"].as_str().unwrap(), &case["passed"])).collect();
    let found = [("first", &json!(true)), ("rows cut into calls", &json!(false)), ("conformance", &json!(false))];
    assert_eq!(passed, found, "{tested}");
    let difference = cases[1]["difference"].as_str().unwrap();
    assert!(difference.starts_with("in calls of 1, one after the other in one instance, something"), "{difference}");
    assert!(difference.contains("row 2:") && difference.contains("+   \"hostile\": \"2\""), "{difference}");
}

#[test]
fn files_people_audiences_and_keys() {
    let kernel = TestKernel::start();
    let mapping = json!({
        "identifiers": { "user_id": "user_id" }, "event": { "column": "event", "rename": { "purchase": "Order Completed" } },
        "properties": ["platform"], "time": { "column": "timestamp", "formats": ["%Y-%m-%d %H:%M:%S"] },
    });
    kernel.install("kith/csv", json!({ "name": "clicks", "config": mapping }));
    let file = data("ecom.csv.gz");
    let imported = answer(&kernel, &["import", file.to_str().unwrap(), "--source", "clicks"]);
    assert_eq!((&imported["accepted"], &imported["rejected_count"]), (&json!(31_106), &json!(0)));
    kernel.settle();

    let shown = run(&kernel, &["profile", "get", "user_id:user_0000"]);
    assert!(text(&shown.stdout).contains("user_0000"), "{}", text(&shown.stdout));
    assert!(text(&shown.stderr).is_empty(), "{}", text(&shown.stderr));
    let events = answer(&kernel, &["profile", "events", "user_id:user_0000", "--limit", "3"]);
    assert_eq!(events["items"].as_array().unwrap().len(), 3);

    let condition = "events('Order Completed').size() >= 1";
    let counted = answer(&kernel, &["audience", "count", condition])["count"].as_u64().unwrap();
    assert!(counted > 0 && counted < 600, "{counted}");
    answer(&kernel, &["audience", "create", "buyers", "--condition", condition]);
    kernel.settle();
    assert_eq!(answer(&kernel, &["audience", "show", "buyers"])["size"], counted);
    let members = answer(&kernel, &["audience", "members", "buyers", "--limit", "600"]);
    assert_eq!(members["items"].as_array().unwrap().len() as u64, counted);
    assert!(text(&run(&kernel, &["audience", "list"]).stdout).contains("buyers"));
    answer(&kernel, &["audience", "explain", "buyers", "user_id:user_0000"]);
    answer(&kernel, &["audience", "change", "buyers", "--title", "Buyers"]);
    assert_eq!(answer(&kernel, &["audience", "show", "buyers"])["title"], "Buyers");
    assert_eq!(run(&kernel, &["audience", "change", "buyers"]).status.code(), Some(2), "nothing to change");
    answer(&kernel, &["audience", "remove", "buyers"]);
    assert_eq!(run(&kernel, &["audience", "show", "buyers"]).status.code(), Some(1));

    let made = answer(&kernel, &["key", "create", "reader", "--scope", "audiences:read"]);
    let (key, id) = (made["key"].as_str().unwrap(), made["id"].as_str().unwrap());
    kernel.caller(key).get("/api/v1/audiences").is(200);
    kernel.caller(key).get("/api/v1/installations").is_problem(403, "denied");
    answer(&kernel, &["key", "revoke", id]);
    kernel.caller(key).get("/api/v1/audiences").is_problem(401, "unauthenticated");
    assert!(text(&run(&kernel, &["key", "list"]).stdout).contains("revoked"));
    assert_eq!(answer(&kernel, &["status"])["totals"]["profiles"], 600);
    assert!(answer(&kernel, &["delivery", "list"])["items"].as_array().unwrap().is_empty());

    let made = &answer(&kernel, &["audit", "list", "--action", "key.create"])["items"][0];
    assert_eq!((&made["target"], &made["actor_title"]), (&json!(id), &json!("first admin key")));
    assert_eq!(answer(&kernel, &["audit", "verify"])["whole"], true);
    assert_eq!(answer(&kernel, &["audit", "verify", "--host"])["whole"], true);
    answer(&kernel, &["workspace", "create", "other", "--time-zone", "UTC"]);
    let told = answer(&kernel, &["audit", "list", "--host", "--action", "workspace.create"]);
    assert!(!told["items"].as_array().unwrap().is_empty(), "{told}");
    let folder = tempfile::tempdir().unwrap();
    let export = folder.path().join("audit.ndjson");
    let export = export.to_str().unwrap();
    assert!(run(&kernel, &["audit", "export", "--out", export]).status.success());
    assert_eq!(answer(&kernel, &["audit", "verify", export])["whole"], true);
    let changed = std::fs::read_to_string(export).unwrap().replacen("\"reader\"", "\"writer\"", 1);
    std::fs::write(export, changed).unwrap();
    let broken = run(&kernel, &["audit", "verify", export]);
    assert!(text(&broken.stderr).contains(&format!("key.create of {id}")), "{}", text(&broken.stderr));
    assert_eq!(broken.status.code(), Some(1));
}

#[test]
fn failures_say_what_to_do_and_end_with_their_code() {
    let kernel = TestKernel::start();
    let nobody = run(&kernel, &["profile", "get", "user_id:nobody"]);
    assert_eq!(nobody.status.code(), Some(1));
    assert!(text(&nobody.stderr).contains("404"), "{}", text(&nobody.stderr));
    let condition = run(&kernel, &["audience", "count", "events("]);
    assert_eq!(condition.status.code(), Some(1));
    assert!(text(&condition.stderr).contains("condition"), "{}", text(&condition.stderr));
    assert_eq!(run(&kernel, &["audience", "create", "x"]).status.code(), Some(2));
    let refused = Command::new(kith()).args(["--url", kernel.url(), "--key", "wrong", "status"]).output().unwrap();
    assert_eq!(refused.status.code(), Some(1));
    assert!(text(&refused.stderr).contains("KITH_KEY"), "{}", text(&refused.stderr));
}

#[test]
fn serve_keeps_its_first_key_and_ends_well() {
    let (folder, neighbour) = (tempfile::tempdir().unwrap(), Arc::new(Neighbour::through("hostile/connector")));
    for _ in 0..2 {
        let server = Process::serve_beside(&neighbour, folder.path(), &[]);
        assert_eq!(server.admin().get("/api/v1/workspace").is(200)["name"], "default");
        let ended = server.terminate();
        assert!(ended.success(), "SIGTERM ends it well: {ended}");
    }
    // Whoever reads that it listens may stop it at once, before anybody has worked.
    let ended = Process::serve(folder.path(), &[]).terminate();
    assert!(ended.success(), "SIGTERM ends it well from its first line on: {ended}");
    // A second server on the same folder is refused; the first goes on.
    let server = Process::serve_beside(&neighbour, folder.path(), &[]);
    let second = Command::new(kith())
        .args(["serve", "--listen", "127.0.0.1:0", "--log", "error", "--data"])
        .arg(folder.path())
        .output()
        .unwrap();
    assert_eq!(second.status.code(), Some(1), "{}", text(&second.stdout));
    server.admin().get("/healthz").is(200);
}

/// The cases of a channel have the answers to what it sends: those in the folder of `kith/mail` pass, and one whose
/// answer is of something else says so.
#[test]
fn a_channel_is_tried_with_the_answers_of_a_relay() {
    let folder = tempfile::tempdir().unwrap();
    let plugin = folder.path().join("plugin.wasm");
    std::fs::write(&plugin, &component("kith/mail").component).unwrap();
    let test = |folder: &Path| -> Value {
        let mut command = Command::new(kith());
        command.args(["plugin", "test", "--json"]).arg(folder).arg("--component").arg(&plugin);
        serde_json::from_slice(&command.output().unwrap().stdout).unwrap()
    };
    let own = root().join("plugins/channel-mail");
    let tested = test(&own);
    assert_eq!((&tested["failed"], &tested["cases"][0]["passed"]), (&json!(0), &json!(true)), "{tested}");
    let name = "cases/answers-of-a-relay.json";
    let mut case: Value = serde_json::from_str(&std::fs::read_to_string(own.join(name)).unwrap()).unwrap();
    case["input"]["messages"][1]["answers"] = json!([{ "response": { "status": 200 } }]);
    std::fs::create_dir(folder.path().join("cases")).unwrap();
    std::fs::write(folder.path().join(name), case.to_string()).unwrap();
    let problem = test(folder.path())["cases"][0]["problem"].take();
    assert_eq!(problem, "message 2, answer 1: a mail is answered with `mailed` or `failed`");
}
