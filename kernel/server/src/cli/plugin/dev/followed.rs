//! An installation that is followed while the sources of its plugin are watched: what it logs, from before the first bytes are put to
//! work, and that it is stopped or fails.

use kith_model::id::Name;
use serde_json::Value;

use crate::cli::Failure;
use crate::cli::client::{ApiError, Client};
use crate::cli::output::{self, AnswerFormat, field};
use crate::cli::plugin::fails_on;
use crate::cli::plugin::remote::path;
use crate::cli::plugin::seen::Tail;

/// How an installation does, of which each turn is told once.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Standing {
    #[default]
    Well,
    FailsOnSome,
    Stopped,
}

/// An installation that is followed.
pub(super) struct Followed<'a> {
    client: &'a Client,
    name: Name,
    /// `None` where its log cannot be read.
    tail: Option<Tail<'a>>,
    standing: Standing,
}

impl<'a> Followed<'a> {
    /// Follow an installation from now on; one that is not there yet from its first line on.
    pub(super) fn begin(client: &'a Client, name: &Name, format: AnswerFormat) -> Followed<'a> {
        let tail = match Tail::begin(client, name, 1) {
            Ok(tail) => Some(tail.passed()),
            Err(Failure::Api(ApiError::Refused(problem))) if problem.http_status == 404 => {
                Some(Tail::from_start(client, name))
            }
            Err(failure) => {
                output::tell(&format!("the log is not followed: {failure}"), format);
                None
            }
        };
        Followed { client, name: name.clone(), tail, standing: Standing::Well }
    }

    /// Whether it is the installation of that name.
    pub(super) fn is_of(&self, name: &Name) -> bool {
        self.name == *name
    }

    /// Other bytes were put to work: how the ones before did says nothing of them.
    pub(super) fn put_to_work(&mut self) {
        self.standing = Standing::Well;
    }

    /// Show what it has logged since the last look, and say that it does not go well where that is new.
    ///
    /// # Errors
    /// Where nobody reads what is shown.
    pub(super) fn look(&mut self, format: AnswerFormat) -> Result<(), Failure> {
        if let Some(tail) = &mut self.tail {
            match tail.look(format).and_then(|()| tail.show(format)) {
                Ok(()) => {}
                // Its first round was refused, or somebody has removed it.
                Err(Failure::Api(ApiError::Refused(problem))) if problem.http_status == 404 => {}
                Err(failure @ (Failure::Unread | Failure::Answer(_))) => return Err(failure),
                Err(failure) => {
                    output::tell(&format!("the log is not followed: {failure}"), format);
                    self.tail = None;
                }
            }
        }
        // Where the server does not answer, the next look says how it does.
        if let Ok(installation) = self.client.get(&path(&self.name)) {
            let (standing, told) = standing(&installation);
            if standing != self.standing {
                told.into_iter().for_each(|told| output::tell(&told, format));
            }
            self.standing = standing;
        }
        Ok(())
    }
}

/// How an installation does, and what is to be told of that.
fn standing(installation: &Value) -> (Standing, Option<String>) {
    if installation["mode"] == "quarantined" {
        let [name, why] = ["name", "mode_reason"].map(|member| field(installation, member));
        return (Standing::Stopped, Some(format!("{name} was stopped by the kernel: {why}")));
    }
    let told = fails_on(installation);
    (if told.is_some() { Standing::FailsOnSome } else { Standing::Well }, told)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn that_it_is_stopped_or_fails_is_told() {
        let well = json!({ "name": "fresh", "mode": "live", "mode_reason": null });
        assert_eq!(standing(&well), (Standing::Well, None));
        let stopped = json!({ "name": "fresh", "mode": "quarantined", "mode_reason": "3 faults" });
        let told = Some("fresh was stopped by the kernel: 3 faults".to_owned());
        assert_eq!(standing(&stopped), (Standing::Stopped, told));
        let mut failing = well;
        failing["uncomputed"] = json!({ "people": 2, "since": "x", "last_fault": { "message": "trap: boom" } });
        let (standing, told) = standing(&failing);
        assert_eq!(standing, Standing::FailsOnSome);
        assert!(told.unwrap().contains("no answer for 2 people"));
    }
}
