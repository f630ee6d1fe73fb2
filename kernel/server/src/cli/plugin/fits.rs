//! `kith plugin fit|fits|use-fit`: fitting a model, what came of each fit, and which is used.

use std::time::Duration;

use kith_model::id::Name;
use serde_json::{Value, json};

use super::remote::path;
use crate::cli::client::{Client, pause};
use crate::cli::output::{self, Step, field};
use crate::cli::{Failure, items};

/// How often a running fit is looked at.
const FIT_POLL: Duration = Duration::from_millis(200);

/// Whether a fit takes the place of one that was chosen by hand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TakesOver {
    Yes,
    No,
}

impl TakesOver {
    pub(super) fn from_flag(flag: bool) -> TakesOver {
        if flag { TakesOver::Yes } else { TakesOver::No }
    }
}

/// Fit now and wait for the end.
pub(crate) fn fit(client: &Client, installation: &Name, takes_over: TakesOver, step: &Step) -> Result<Value, Failure> {
    let query = if takes_over == TakesOver::Yes { "?use=true" } else { "" };
    let mut fit = client.post(&format!("{}/fit{query}", path(installation)), &json!({}))?;
    let version = field(&fit, "version");
    while field(&fit, "status") == "running" {
        if let Some(progress) = fit.get("progress").filter(|progress| progress.is_object()) {
            let [done, total] = ["rows_done", "rows_total"].map(|name| output::count(output::number(progress, name)));
            step.say(format!("{done} of {total} rows"));
        }
        pause(FIT_POLL);
        let fits = client.get(&format!("{}/fits", path(installation)))?;
        fit = items(&fits)
            .iter()
            .find(|listed| field(listed, "version") == version)
            .cloned()
            .ok_or_else(|| Failure::Failed(format!("fit {version} of {installation} is no longer listed")))?;
    }
    match field(&fit, "status").as_str() {
        "failed" => Err(Failure::Failed(format!("fitting {installation}: {}", field(&fit, "error")))),
        "held" => Err(Failure::Failed(format!(
            "fit {version} of {installation} is kept and not used: {}; `kith plugin use-fit {installation} {version}` uses it all \
             the same",
            field(&fit, "error")
        ))),
        _ => Ok(fit),
    }
}

/// A fit that was just made, and what to do where it is not used.
pub(super) fn one_fit(installation: &Name, fit: &Value) -> String {
    let table = fit_table(std::slice::from_ref(fit));
    if fit["in_use"] == true {
        return table;
    }
    let version = field(fit, "version");
    format!("{table}\n\nanother fit was chosen; `kith plugin use-fit {installation} {version}` uses this one")
}

/// The fits of an installation, and below them when the next one is due.
pub(super) fn fits_of(installation: &Value, fits: &[Value]) -> String {
    let mut text = fit_table(fits);
    if let Some(drift) = drift(fits) {
        text.push_str(&format!("\n\n{drift}"));
    }
    if let Some(schedule) = schedule(&installation["fitting"]) {
        text.push_str(&format!("\n\nfitted {schedule}"));
    }
    text
}

/// The inputs as the fit in use read them, beside how the newest that went well did; `None` where these are one, and for a key that
/// may not see them.
fn drift(fits: &[Value]) -> Option<String> {
    let inputs = |fit: &'_ Value| fit["inputs"].as_array().filter(|inputs| !inputs.is_empty()).cloned();
    let in_use = fits.iter().find(|fit| fit["in_use"] == true)?;
    let newest = fits.iter().find(|fit| inputs(fit).is_some())?;
    if newest["version"] == in_use["version"] {
        return None;
    }
    let (then, now) = (inputs(in_use)?, inputs(newest)?);
    let figures = |input: Option<&Value>| {
        let figure = |name: &str| input.and_then(|input| input[name].as_f64());
        let mean = figure("mean").map(|mean| format!("{mean:.4}")).unwrap_or_default();
        [mean, figure("absent_share").map(|share| format!("{:.1} %", share * 100.0)).unwrap_or_default()]
    };
    let rows = now.iter().map(|input| {
        let [mean_now, absent_now] = figures(Some(input));
        let [mean_then, absent_then] = figures(then.iter().find(|then| then["name"] == input["name"]));
        let moved = input["shift"].as_f64().map(|shift| format!("{shift:.2} sd")).unwrap_or_default();
        vec![field(input, "name"), mean_then, mean_now, moved, absent_then, absent_now]
    });
    let [then, now] = [in_use, newest].map(|fit| format!("fit {}", field(fit, "version")));
    let header = [
        "input",
        &format!("mean, {then}"),
        &format!("mean, {now}"),
        "moved by",
        &format!("absent, {then}"),
        &format!("absent, {now}"),
    ];
    Some(output::table(&header, rows.collect()))
}

/// When an installation is fitted; `None` for one that never is.
pub(super) fn schedule(fitting: &Value) -> Option<String> {
    fitting.as_object()?;
    let [every, next] = ["every", "next_at"].map(|name| field(fitting, name));
    let mut text = match (every.as_str(), next.as_str()) {
        ("", _) => "when somebody asks for it".to_owned(),
        (every, "") => format!("every {every}, and not while it is switched off or stopped"),
        (every, next) => format!("every {every}, the next time from {next} on"),
    };
    if fitting["chosen"] == true {
        text.push_str("; the fit in use was chosen, and stays in use");
    }
    Some(text)
}

/// What is to be looked at of an installation's newest fit, with what to do.
pub(super) fn alarm(installation: &Value) -> Option<String> {
    let alarm = installation["fitting"]["alarm"].as_object()?;
    let (name, failed) = (field(installation, "name"), output::number(&installation["fitting"], "failed_in_a_row"));
    let [fit, why] = ["fit", "why"].map(|part| alarm.get(part).map(output::plain).unwrap_or_default());
    if alarm.get("status").is_some_and(|status| status == "held") {
        return Some(format!(
            "fit {fit} of {name} is held: {why}; `kith plugin use-fit {name} {fit}` uses it all the same"
        ));
    }
    let so_many = if failed > 1 { format!(", the last of {failed} that failed in a row") } else { String::new() };
    Some(format!("fit {fit} of {name} failed{so_many}: {why}; `kith plugin fits {name}` shows all"))
}

/// Which bounds hold every fit of an installation, because none has had such a figure.
pub(super) fn unreported(installation: &Value) -> Option<String> {
    let names = installation["fitting"]["unreported"].as_array().filter(|names| !names.is_empty())?;
    let (name, figures) = (field(installation, "name"), names.iter().map(output::plain).collect::<Vec<_>>().join(", "));
    Some(format!(
        "no fit of {name} has had a figure {figures}, so that its bound holds every fit; `kith plugin fits {name}` shows the figures"
    ))
}

pub(super) fn fit_table(fits: &[Value]) -> String {
    let rows = fits
        .iter()
        .map(|fit| {
            let is = |name: &str| fit.get(name) == Some(&Value::Bool(true));
            let in_use = match (is("in_use"), is("chosen")) {
                (true, true) => "in use, chosen",
                (true, false) => "in use",
                (false, _) => "",
            };
            let mut row = vec![field(fit, "version"), field(fit, "status"), in_use.to_owned()];
            row.extend(["plugin_version", "started_at"].map(|name| field(fit, name)));
            let took = fit.get("took_ms").and_then(Value::as_u64).map(Duration::from_millis);
            row.push(took.map(output::seconds).unwrap_or_default());
            row.push(fit.get("rows").and_then(Value::as_u64).map(output::count).unwrap_or_default());
            row.push(fit.get("state_bytes").and_then(Value::as_u64).map(output::size).unwrap_or_default());
            // A fit has figures, or a reason why it is not used, or both.
            let error = fit.get("error").and_then(Value::as_str).map(str::to_owned);
            let told: Vec<String> = metrics(fit).into_iter().chain(held_out(&fit["held_out"])).chain(error).collect();
            row.push(told.join("\n"));
            row
        })
        .collect();
    let header = ["fit", "status", "", "plugin", "started", "took", "rows", "state", "figures, or why it is not used"];
    output::table(&header, rows)
}

/// `name = value` for each metric of a fit.
fn metrics(fit: &Value) -> Vec<String> {
    let line = |name: &str, value: &Value| match value.as_f64() {
        Some(number) => format!("{name} = {number:.4}"),
        None => format!("{name} = {value}"),
    };
    let metrics = fit.get("metrics").and_then(Value::as_object).into_iter().flatten();
    metrics.map(|(name, value)| line(name, value)).collect()
}

/// How a fit and the one that was in use compare on those who are held out: each measure, with that of the other beside it.
fn held_out(compared: &Value) -> Option<String> {
    let measures = compared["challenger"]["measures"].as_object()?;
    let champion = &compared["champion"];
    let figure = |(name, value): (&String, &Value)| {
        let number = |value: &Value| value.as_f64().map(|number| format!("{number:.4}"));
        let own = format!("{name} = {}", number(value)?);
        Some(match number(&champion["measures"][name]) {
            Some(other) => format!("{own} (fit {}: {other})", field(champion, "fit")),
            None => own,
        })
    };
    let rows = output::count(output::number(compared, "rows"));
    let figures: Vec<String> = measures.iter().filter_map(figure).collect();
    let figures = if figures.is_empty() { "nothing can be told".to_owned() } else { figures.join(", ") };
    let mut told = format!("held out, {rows} rows: {figures}");
    if let Some(problem) = compared["challenger"]["problem"].as_str() {
        told.push_str(&format!("; it was not compared: {problem}"));
    }
    if let Some(problem) = champion["problem"].as_str() {
        told.push_str(&format!("; fit {} was not compared: {problem}", field(champion, "fit")));
    }
    Some(told)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_installation_says_when_it_is_fitted_and_what_is_to_be_looked_at() {
        let of = |fitting: Value| json!({ "name": "clv", "fitting": fitting });
        let next = "2026-11-28T10:00:00.000Z";
        for (fitting, said) in [
            (json!({ "every": null, "next_at": null }), "when somebody asks for it"),
            (json!({ "every": "7d", "next_at": null }), "every 7d, and not while it is switched off or stopped"),
            (
                json!({ "every": "7d", "next_at": next, "chosen": true }),
                "every 7d, the next time from 2026-11-28T10:00:00.000Z on; the fit in use was chosen, and stays in use",
            ),
        ] {
            assert_eq!(schedule(&fitting).unwrap(), said);
            assert!(fits_of(&of(fitting), &[]).ends_with(said));
        }
        assert_eq!(schedule(&Value::Null), None, "a connector is not fitted");
        let alarmed = |status: &str, failed: u64| {
            let alarm = json!({ "fit": 4, "status": status, "why": "why" });
            alarm_of(&of(json!({ "alarm": alarm, "failed_in_a_row": failed })))
        };
        assert_eq!(alarmed("held", 0), "fit 4 of clv is held: why; `kith plugin use-fit clv 4` uses it all the same");
        assert_eq!(alarmed("failed", 1), "fit 4 of clv failed: why; `kith plugin fits clv` shows all");
        let third = "fit 4 of clv failed, the last of 3 that failed in a row: why; `kith plugin fits clv` shows all";
        assert_eq!(alarmed("failed", 3), third);
        assert_eq!(alarm(&of(json!({ "alarm": null }))), None);
        let told = unreported(&of(json!({ "unreported": ["acu"] }))).unwrap();
        assert!(told.starts_with("no fit of clv has had a figure acu, so that its bound holds every fit"), "{told}");
        assert_eq!(unreported(&of(json!({ "alarm": null }))), None);
    }

    #[test]
    fn the_inputs_of_the_fit_in_use_stand_beside_those_of_the_newest() {
        let fit = |version: u32, in_use: bool, inputs: Value| json!({ "version": version, "in_use": in_use, "inputs": inputs });
        let then = json!([{ "name": "orders", "mean": 2.0, "absent_share": 0.25 }]);
        let now = json!([
            { "name": "orders", "mean": 3.5, "absent_share": 0.0, "shift": 0.75 },
            { "name": "spent", "mean": null, "absent_share": 1.0, "shift": null },
        ]);
        let fits = [fit(3, false, json!([])), fit(2, false, now.clone()), fit(1, true, then.clone())];
        insta::assert_snapshot!(drift(&fits).unwrap(), @r"
         input    mean, fit 1   mean, fit 2   moved by   absent, fit 1   absent, fit 2
        ───────────────────────────────────────────────────────────────────────────────
         orders        2.0000        3.5000   0.75 sd    25.0 %          0.0 %
         spent                                                           100.0 %
        ");
        assert_eq!(drift(&[fit(2, true, now.clone()), fit(1, false, then)]), None, "the newest is in use");
        assert_eq!(drift(&[fit(2, false, now), fit(1, true, Value::Null)]), None, "there is nothing to compare");
        assert_eq!(drift(&[]), None);
    }

    #[test]
    fn a_fit_stands_beside_the_one_that_was_in_use() {
        let judged = |auc: f64| json!({ "measures": { "auc": auc, "brier": 0.2 }, "unanswered": 0, "problem": null });
        let mut compared = json!({ "rows": 1200, "challenger": judged(0.75), "champion": judged(0.71) });
        compared["champion"]["fit"] = json!(3);
        let told = "held out, 1,200 rows: auc = 0.7500 (fit 3: 0.7100), brier = 0.2000 (fit 3: 0.2000)";
        assert_eq!(held_out(&compared).unwrap(), told);
        compared["champion"] =
            json!({ "fit": 3, "measures": {}, "unanswered": 0, "problem": "the version cannot read it" });
        let told =
            "held out, 1,200 rows: auc = 0.7500, brier = 0.2000; fit 3 was not compared: the version cannot read it";
        assert_eq!(held_out(&compared).unwrap(), told);
        compared["champion"] = json!(null);
        compared["challenger"] = json!({ "measures": {}, "unanswered": 9, "problem": null });
        assert_eq!(held_out(&compared).unwrap(), "held out, 1,200 rows: nothing can be told");
        assert_eq!(held_out(&Value::Null), None, "a version without labels");
    }

    fn alarm_of(installation: &Value) -> String {
        alarm(installation).unwrap()
    }

    #[test]
    fn fits_say_which_is_in_use_and_why_one_is_not() {
        let time = "2026-11-21T10:00:00.000Z";
        let fits = [
            json!({ "version": 3, "status": "held", "in_use": false, "plugin_version": "0.2.0", "started_at": time, "took_ms": 1500,
                "rows": 1000, "state_bytes": 12, "metrics": { "mae": 0.9 }, "error": "`mae` is 0.9, more than 0.8" }),
            json!({ "version": 2, "status": "failed", "in_use": false, "plugin_version": "0.2.0", "started_at": time, "took_ms": 420,
                "rows": 1000, "state_bytes": 0, "metrics": {}, "error": "bad-input: fewer than 50 buyers" }),
            json!({ "version": 1, "status": "succeeded", "in_use": true, "chosen": true, "plugin_version": "0.1.0", "started_at": time,
                "took_ms": 60000, "rows": null, "state_bytes": 9000, "metrics": { "mae": 0.51234 }, "error": null }),
        ];
        insta::assert_snapshot!(fit_table(&fits), @r"
         fit   status                       plugin   started                       took    rows   state     figures, or why it is not used
        ────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────
           3   held                          0.2.0   2026-11-21T10:00:00.000Z    1.50 s   1,000   12 B      mae = 0.9000
                                                                                                            `mae` is 0.9, more than 0.8
           2   failed                        0.2.0   2026-11-21T10:00:00.000Z    0.42 s   1,000   0 B       bad-input: fewer than 50 buyers
           1   succeeded   in use, chosen    0.1.0   2026-11-21T10:00:00.000Z   60.00 s           9,000 B   mae = 0.5123
        ");
    }
}
