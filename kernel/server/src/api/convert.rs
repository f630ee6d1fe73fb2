//! How the errors of the layers below become answers: each variant is named, so that a new one cannot be forgotten.

use kith_host::{BindError, CompileError, ConfigError, ConfigProblem, LoadError, ManifestMistake, PackageError};
use kith_pipeline::{QueryError, SetupError, TurnError};

use super::audiences::bad_expression;
use crate::error::{ApiError, Mistake, chain};
use crate::wiring::{CompileRefusal, WiringError};

fn bad_component(error: &(dyn std::error::Error + 'static)) -> ApiError {
    ApiError::BadInput { code: "bad-component", message: chain(error), mistakes: Vec::new() }
}

/// A component that is refused for what it says, with everything that is wrong as an error of its own: of the manifest at its line.
fn refused_package(package: &PackageError) -> ApiError {
    let mistakes = package.findings().iter().flat_map(|finding| match finding {
        PackageError::Manifest(error) => {
            let at = |mistake: &ManifestMistake| format!("plugin.toml:{}:{}", mistake.line, mistake.column);
            let told = error.mistakes.iter();
            told.map(|mistake| Mistake { path: at(mistake), message: mistake.message.clone() }).collect()
        }
        other => vec![Mistake { path: "component".to_owned(), message: other.to_string() }],
    });
    ApiError::BadInput { code: "bad-component", message: package.to_string(), mistakes: mistakes.collect() }
}

impl From<LoadError> for ApiError {
    fn from(error: LoadError) -> ApiError {
        match error {
            LoadError::Package(package) => refused_package(&package),
            LoadError::Kernel { .. }
            | LoadError::Incompatible { .. }
            | LoadError::Compile(CompileError::Refused(_) | CompileError::Cpu | CompileError::Died(_)) => {
                bad_component(&error)
            }
            LoadError::Compile(CompileError::Wall) => {
                let message = "the plugin did not compile in time; the machine is busy".to_owned();
                ApiError::Unavailable { code: "compile-timeout", message, retry_after_s: 30 }
            }
            LoadError::Compile(CompileError::Child { .. }) => ApiError::internal("compiling a plugin", error),
        }
    }
}

impl From<WiringError> for ApiError {
    fn from(error: WiringError) -> ApiError {
        match error {
            WiringError::Load(error) => error.into(),
            WiringError::Bind { source: BindError::Load(error), .. } => error.into(),
            WiringError::Input { problem, .. } => ApiError::at("config", problem),
            WiringError::Compile(CompileRefusal::Exhausted(exhausted)) => exhausted.into(),
            // Of whom nobody waits for any more no answer is read.
            WiringError::Compile(CompileRefusal::GivenUp) => ApiError::Overloaded { retry_after_s: 10 },
            WiringError::NotLoaded { .. } => {
                let message = "something else was changed at the same moment; nothing of this was".to_owned();
                ApiError::Unavailable { code: "changed-meanwhile", message, retry_after_s: 1 }
            }
            WiringError::Bind {
                source: BindError::WrongKind { .. } | BindError::OtherContract { .. } | BindError::Random(_),
                ..
            }
            | WiringError::Artifact(_)
            | WiringError::Secret(_)
            | WiringError::Zone(_) => ApiError::internal("making installations run", error),
        }
    }
}

/// What a plugin could not work with in a configuration, each with its key.
pub(crate) fn refused_config(problems: Vec<ConfigProblem>) -> ApiError {
    mistaken(config_mistakes(problems))
}

/// Problems that a plugin told, each with its place in a request.
pub(crate) fn config_mistakes(problems: Vec<ConfigProblem>) -> Vec<Mistake> {
    let place = |key: &str| if key.is_empty() { "config".to_owned() } else { format!("config.{key}") };
    problems.into_iter().map(|problem| Mistake { path: place(&problem.key), message: problem.message }).collect()
}

/// A configuration's mistakes, each with its place. A mistake quotes what was written, so the message has the first alone.
pub(crate) fn bad_config(error: ConfigError) -> ApiError {
    let mistakes = match error {
        ConfigError::Mistakes(mistakes) => mistakes,
        ConfigError::Exhausted(exhausted) => return exhausted.into(),
    };
    let mistakes: Vec<Mistake> = mistakes
        .into_iter()
        .map(|mistake| Mistake { path: format!("config{}", mistake.path), message: mistake.message })
        .collect();
    mistaken(mistakes)
}

fn mistaken(mistakes: Vec<Mistake>) -> ApiError {
    let first = mistakes.first().map_or_else(String::new, |mistake| format!("{}: {}", mistake.path, mistake.message));
    let message = match mistakes.len() {
        0 | 1 => first,
        many => format!("{first} (and {} more, in `errors`)", many - 1),
    };
    ApiError::BadInput { code: "bad-config", message, mistakes }
}

impl From<SetupError> for ApiError {
    fn from(error: SetupError) -> ApiError {
        match &error {
            // Expressions come from the manifest; what an admin can change is the configuration put into them.
            SetupError::Input { .. } | SetupError::Label { .. } => {
                let (path, message) = ("config".to_owned(), error.to_string());
                let mistakes = vec![Mistake { path, message: message.clone() }];
                ApiError::BadInput { code: "bad-input-expression", message, mistakes }
            }
            SetupError::Condition { source, .. } => bad_expression("condition", source),
            SetupError::SameOutput { .. } => ApiError::Conflict { code: "same-output", message: error.to_string() },
            SetupError::Circle { .. } => ApiError::Conflict { code: "circle", message: error.to_string() },
        }
    }
}

impl From<QueryError> for ApiError {
    fn from(error: QueryError) -> ApiError {
        match error {
            // It was stopped while the question was on its way.
            QueryError::UnknownWorkspace => {
                let message = "the workspace does not run now".to_owned();
                ApiError::Unavailable { code: "workspace-stopped", message, retry_after_s: 1 }
            }
            QueryError::UnknownAudience => ApiError::missing("no such audience"),
            QueryError::UnknownInstallation => ApiError::missing("no such installation"),
            QueryError::Expression(error) => bad_expression("condition", &error),
            QueryError::Cursor(_) => ApiError::at("?cursor", "this list gave out no such cursor"),
            QueryError::Turn(TurnError::TooLong { .. }) => ApiError::at("condition", error.to_string()),
            QueryError::Turn(TurnError::Busy(exhausted)) => exhausted.into(),
            // Of whom nobody waits for any more no answer is read.
            QueryError::Turn(TurnError::GivenUp) => ApiError::Overloaded { retry_after_s: 10 },
            QueryError::Read(error) => ApiError::internal("reading the store", error),
            QueryError::Commit(error) => error.into(),
            QueryError::NotKept(error) => kith_store::CommitError::clone(&error).into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use kith_host::ManifestError;

    use super::*;

    #[test]
    fn everything_that_is_wrong_with_a_component_is_an_error_of_its_own() {
        let mistake = |line, message: &str| ManifestMistake { line, column: 8, message: message.to_owned() };
        let mistakes = vec![mistake(3, "no title"), mistake(9, "no reason")];
        let manifest = PackageError::Manifest(ManifestError { mistakes });
        let places = |package: PackageError| match ApiError::from(LoadError::Package(package)) {
            ApiError::BadInput { code: "bad-component", message, mistakes } => {
                assert!(message.contains("no reason"), "{message}");
                mistakes.into_iter().map(|mistake| mistake.path).collect::<Vec<_>>()
            }
            other => panic!("{other:?}"),
        };
        assert_eq!(places(manifest.clone()), ["plugin.toml:3:8", "plugin.toml:9:8"]);
        let all = PackageError::Several(vec![PackageError::NoPoll, manifest]);
        assert_eq!(places(all), ["component", "plugin.toml:3:8", "plugin.toml:9:8"]);
    }
}
